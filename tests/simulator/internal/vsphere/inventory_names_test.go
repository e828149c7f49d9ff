// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/rules"
)

func TestNamesIndex(t *testing.T) {
	folder := types.ManagedObjectReference{Type: "Folder", Value: "group-1"}
	other := types.ManagedObjectReference{Type: "Folder", Value: "group-2"}
	vm := types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-1"}
	n := newNameIndex(rules.New())
	if n.reserve(folder, "a") != nil || n.reserve(folder, "a") == nil || n.reserve(other, "a") != nil {
		t.Error("a name is kept once in its folder, and only there")
	}
	n.put(vm, folder, "a")
	n.release(folder, "a")
	if n.reserve(folder, "a") == nil {
		t.Error("a name that is taken was kept")
	}
	n.rename(vm, "b")
	if _, ok := n.find(folder, "a"); ok || n.of("vm-1") != "b" || n.reserve(folder, "a") != nil {
		t.Error("a renamed VM goes by its old name")
	}
	n.put(vm, other, "b")
	if _, ok := n.find(folder, "b"); ok {
		t.Error("a moved VM is found where it was")
	}
	n.remove(vm)
	if n.visible(vm) {
		t.Error("a removed VM is there")
	}
}

func TestFileName(t *testing.T) {
	for name, want := range map[string]string{
		"web-01": "web-01", "a/b": "a_b", "[x] y": "_x_ y", "..": "___", "x.vmx": "_x_vmx", "größe": "größe",
	} {
		if got := fileName(name); got != want {
			t.Errorf("%q became %q", name, got)
		}
	}
	if got := fileName(strings.Repeat("ü", 80)); len(got) > 160 || strings.ContainsRune(got, '\uFFFD') {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}
