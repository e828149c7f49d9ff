// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import "testing"

func TestDefaultExtraConfigHasAboutSixtyKeys(t *testing.T) {
	seen := map[string]bool{}
	for _, option := range defaultExtraConfig("web-01") {
		value := option.GetOptionValue()
		if seen[value.Key] || value.Value == "" {
			t.Errorf("key %s is there twice, or empty", value.Key)
		}
		seen[value.Key] = true
	}
	if len(seen) < 55 || len(seen) > 65 {
		t.Errorf("%d keys", len(seen))
	}
}
