// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// methodNamed returns the method that a task of govmomi's simulator stands for.
// Its own name for it, such as PowerOn or CreateVm, is none of the API's
// methods, and pyVmomi cannot read a TaskInfo whose name it does not know.
func methodNamed(entity types.ManagedObjectReference, name string) string {
	suffix := map[string]string{"VirtualMachine": "VM", "VirtualApp": "VApp"}[entity.Type]
	known := strings.ReplaceAll(name, "Vm", "VM")
	for _, candidate := range []string{name, name + "_Task", known + "_Task", name + suffix + "_Task"} {
		if isMethod(candidate) {
			return candidate
		}
	}
	return name
}

// isMethod reports whether the API has a method of this name.
func isMethod(name string) bool {
	request, ok := types.TypeFunc()(name)
	if !ok {
		return false
	}
	_, ok = request.FieldByName("This")
	return ok
}
