// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"testing"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func TestRevertEndsAFreeze(t *testing.T) {
	for _, method := range []string{"RevertToSnapshot_Task", "RevertToCurrentSnapshot_Task"} {
		t.Run(method, func(t *testing.T) {
			b := start(t, withGuests)
			parent := b.parent()
			made := b.expect("snapshot", b.raw.task("CreateSnapshot_Task", parent, "<name>s</name><memory>false</memory><quiesce>false</quiesce>"), "")
			target := parent
			if method == "RevertToSnapshot_Task" {
				target = made.result.(types.ManagedObjectReference)
			}
			b.expect("revert", b.raw.task(method, target, ""), "")
			b.until(parent, "the end of the freeze", func(vm mo.VirtualMachine) bool {
				return vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff &&
					(vm.Runtime.QuiescedForkParent == nil || !*vm.Runtime.QuiescedForkParent)
			}, "runtime")
		})
	}
}
