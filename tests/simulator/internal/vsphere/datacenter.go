// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Datacenter: powering on several VMs with one call.

package vsphere

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

// datacenter overrides methods of a datacenter.
type datacenter struct {
	*simulator.Datacenter
	sim *Simulator
}

// PowerOnMultiVMTask powers on each VM in a task of its own.
func (d *datacenter) PowerOnMultiVMTask(ctx *simulator.Context, req *types.PowerOnMultiVM_Task) soap.HasFault {
	task := simulator.CreateTask(d.Datacenter, "powerOnVm", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		result := types.ClusterPowerOnVmResult{Attempted: []types.ClusterAttemptedVmInfo{}}
		for _, ref := range req.Vm {
			object, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
			if !ok {
				continue
			}
			part := &simulator.Context{Context: ctx.Context, Session: ctx.Session, Map: ctx.Map} // a task has one of its own
			if d.sim.rules.Is("multi_power_on_chain", "own") {
				startOperation(part, operation{origin: fromVCenter, user: operationOf(ctx).user})
			}
			part.WithLock(object, func() {
				switch body := d.sim.powerOnFrom(part, object, fromVCenter, false).(*methods.PowerOnVM_TaskBody); {
				case body.Fault_ != nil:
					fault := body.Fault_.VimFault().(types.BaseMethodFault)
					result.NotAttempted = append(result.NotAttempted, types.ClusterNotAttemptedVmInfo{
						Vm: ref, Fault: types.LocalizedMethodFault{Fault: fault, LocalizedMessage: vimfault.Text(fault)},
					})
				default:
					result.Attempted = append(result.Attempted, types.ClusterAttemptedVmInfo{Vm: ref, Task: &body.Res.Returnval})
				}
			})
		}
		return result, nil
	})
	return d.sim.tasks.start(d.Self, &taskPlan{ctx: ctx, method: "PowerOnMultiVM_Task"}, func() soap.HasFault {
		return &methods.PowerOnMultiVM_TaskBody{Res: &types.PowerOnMultiVM_TaskResponse{Returnval: task.Run(ctx)}}
	})
}
