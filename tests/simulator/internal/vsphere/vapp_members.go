// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import "github.com/vmware/govmomi/vim25/types"

// A VM in a vApp has parentVApp and no folder (rule vapp_members). govmomi's
// simulator needs its property parent, so it is left out where clients read it.

// anyMember reports whether there is a VM in a vApp.
func (i *instances) anyMember() bool {
	for _, vm := range i.all() {
		if vm.isMember() {
			return true
		}
	}
	return false
}

// inVApp reports whether an object is a VM in a vApp.
func (i *instances) inVApp(ref types.ManagedObjectReference) bool {
	if ref.Type != "VirtualMachine" {
		return false
	}
	i.mu.Lock()
	vm := i.byMoid[ref.Value]
	i.mu.Unlock()
	return vm != nil && vm.isMember()
}

func (vm *instance) isMember() bool {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.parent != nil
}
