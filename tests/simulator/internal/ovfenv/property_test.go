// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package ovfenv

import (
	"testing"
)

func TestPropertyValues(t *testing.T) {
	for _, test := range []struct {
		kind     string
		accepted []string
		refused  []string
	}{
		{"", []string{"x"}, nil},
		{"string(2..3)", []string{"", "ab", "üüü"}, []string{"a", "abcd"}},
		{`string["a", "b\"c"]`, []string{"a", `b"c`}, []string{"c", "A"}},
		{"password(8..)", []string{"12345678"}, []string{"1234567"}},
		{"int", []string{"-2147483648", "+1"}, []string{"2147483648", "1.0", "x"}},
		{"int(0..18446744073709551615)", []string{"18446744073709551615"}, []string{"-1", "18446744073709551616"}},
		{"real(-1.5..1.5)", []string{"1.5"}, []string{"1.6", "1"}},
		{"boolean", []string{"True", "false"}, []string{"yes"}},
		{"ip", []string{"192.0.2.1", "::1"}, []string{"host", "192.0.2.1/24"}},
		{"ip:VM Network", []string{"192.0.2.1"}, []string{"host"}},
	} {
		if !isPropertyType(test.kind) {
			t.Errorf("%s is no type", test.kind)
		}
		for _, value := range test.accepted {
			if !isPropertyValue(test.kind, value) {
				t.Errorf("%s refuses %s", test.kind, value)
			}
		}
		for _, value := range test.refused {
			if isPropertyValue(test.kind, value) {
				t.Errorf("%s accepts %s", test.kind, value)
			}
		}
	}
	for _, kind := range []string{"text", "string(..", "uint8", "string[]", "ip:"} {
		if isPropertyType(kind) {
			t.Errorf("%s is a type", kind)
		}
	}
}
