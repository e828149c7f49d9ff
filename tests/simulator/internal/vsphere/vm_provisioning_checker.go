// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// VmProvisioningChecker: CheckInstantClone_Task.

package vsphere

import (
	"fmt"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

// provisioningChecker overrides methods of the checker that reports whether a
// VM could be cloned.
type provisioningChecker struct {
	*simulator.VmProvisioningChecker
	sim *Simulator
}

// CheckInstantCloneTask reports what would happen if a VM were cloned instantly.
func (c *provisioningChecker) CheckInstantCloneTask(ctx *simulator.Context, req *types.CheckInstantClone_Task) (body soap.HasFault) {
	object, ok := ctx.Map.Get(req.Vm).(*simulator.VirtualMachine)
	if !ok {
		return &methods.CheckInstantClone_TaskBody{Fault_: soapFaultOf(&types.ManagedObjectNotFound{Obj: req.Vm})}
	}
	vm := &virtualMachine{VirtualMachine: object, sim: c.sim}
	task := simulator.CreateTask(c.VmProvisioningChecker, "checkInstantClone", func(*simulator.Task) (result types.AnyType, _ types.BaseMethodFault) {
		ctx.WithLock(object, func() {
			result = types.ArrayOfCheckResult{CheckResult: []types.CheckResult{vm.checkInstantClone(ctx, req)}}
		})
		return result, nil
	})
	plan := &taskPlan{ctx: ctx, method: "CheckInstantClone_Task", descriptionID: "vm.check.ProvisioningChecker.checkInstantClone", entity: req.Vm}
	ctx.WithLock(object, func() { // as for CheckPowerOn
		body = c.sim.tasks.start(c.Self, plan, func() soap.HasFault {
			return &methods.CheckInstantClone_TaskBody{Res: &types.CheckInstantClone_TaskResponse{Returnval: task.Run(ctx)}}
		})
	})
	return body
}

// checkInstantClone runs the requested tests. The caller holds the source's
// lock.
func (v *virtualMachine) checkInstantClone(ctx *simulator.Context, req *types.CheckInstantClone_Task) types.CheckResult {
	result := types.CheckResult{Vm: &req.Vm, Host: v.Runtime.Host}
	finds := v.sim.rules.Get("check_instant_clone_finds")
	add := func(to *[]types.LocalizedMethodFault, found problem) {
		if len(req.TestType) == 0 || slices.Contains(req.TestType, string(found.test)) {
			*to = append(*to, types.LocalizedMethodFault{Fault: found.fault, LocalizedMessage: vimfault.Text(found.fault)})
		}
	}
	if finds != "nothing" {
		b, problems := v.validateInstantClone(ctx, &req.Spec)
		if b.folder != nil {
			if _, fault := v.sim.freeName(ctx, b.folder, req.Spec.Name); fault != nil {
				problems = append(problems, problem{types.CheckTestTypeSourceTests, fault})
			}
		}
		for _, found := range problems {
			add(&result.Error, found)
		}
	}
	if finds == "errors-and-warnings" {
		for _, text := range v.cloneWarnings() {
			add(&result.Warning, problem{types.CheckTestTypeSourceTests, vimfault.WithText(&types.GenericVmConfigFault{Reason: text}, text)})
		}
	}
	return result
}

// cloneWarnings returns warnings that do not prevent a clone.
func (v *virtualMachine) cloneWarnings() []string {
	vm := v.instance()
	vm.mu.Lock()
	defer vm.mu.Unlock()
	var texts []string
	if vm.run != nil && vm.run.forkPoint == nil {
		texts = append(texts, "The virtual machine is not frozen: every clone of it adds a delta disk to it.")
	}
	if vm.deltas > warnDeltaDisks {
		texts = append(texts, fmt.Sprintf("The virtual machine has more than %d redo logs in a single branch of its snapshot tree.", warnDeltaDisks))
	}
	return texts
}
