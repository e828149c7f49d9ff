// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// VirtualMachineSnapshot: reverting to a snapshot.

package vsphere

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// vmSnapshot overrides methods of a snapshot: reverting to one without memory
// powers the VM off (rule revert_powers_off). govmomi's simulator leaves it running.
type vmSnapshot struct {
	*simulator.VirtualMachineSnapshot
	sim *Simulator
}

func (n *vmSnapshot) RevertToSnapshotTask(ctx *simulator.Context, req *types.RevertToSnapshot_Task) soap.HasFault {
	return n.sim.tasks.start(n.Vm, n.sim.revert(ctx, n.Vm, "RevertToSnapshot_Task"), func() soap.HasFault {
		return n.VirtualMachineSnapshot.RevertToSnapshotTask(ctx, req)
	})
}

func (v *virtualMachine) RevertToCurrentSnapshotTask(ctx *simulator.Context, req *types.RevertToCurrentSnapshot_Task) soap.HasFault {
	return v.sim.tasks.start(v.Self, v.sim.revert(ctx, v.Self, "RevertToCurrentSnapshot_Task"), func() soap.HasFault {
		return v.VirtualMachine.RevertToCurrentSnapshotTask(ctx, req)
	})
}

// revert is the plan of a task that reverts a VM to a snapshot.
func (s *Simulator) revert(ctx *simulator.Context, vm types.ManagedObjectReference, method string) *taskPlan {
	return &taskPlan{ctx: ctx, method: method,
		after: func(result types.AnyType, fault types.BaseMethodFault) (types.AnyType, types.BaseMethodFault) {
			if fault == nil {
				s.spawn(func() { s.forcePowerOff(vm) })
			}
			return result, fault
		},
	}
}
