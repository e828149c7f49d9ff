// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// VirtualMachine: PowerOnVM_Task, and who powered a VM on.

package vsphere

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

// powerOrigin is who powers a VM on. Only vCenter has the vApp options, so only
// a VM powered on by vCenter has an OVF environment.
type powerOrigin string

const (
	fromVCenter   powerOrigin = "vcenter"
	fromESXi      powerOrigin = "esxi"      // a client of the host, without vCenter
	fromHA        powerOrigin = "ha"        // another host, after the first one failed
	fromAutostart powerOrigin = "autostart" // the host, when it came up
	fromGuest     powerOrigin = "guest"     // powers off only
)

var powerOrigins = []powerOrigin{fromVCenter, fromESXi, fromHA, fromAutostart}

// powerOnFrom powers a VM on in a task, or resumes it. Every power-on uses it.
// The caller holds the VM's lock.
func (s *Simulator) powerOnFrom(ctx *simulator.Context, object *simulator.VirtualMachine, from powerOrigin, inner bool) soap.HasFault {
	vm := s.instances.of(object.Self)
	if op := operationOf(ctx); op.origin != from {
		startOperation(ctx, operation{origin: from})
	}
	plan := &taskPlan{ctx: ctx, method: "PowerOnVM_Task", nested: inner,
		before: func() types.BaseMethodFault {
			if fault := vm.checkPowerOn(); fault != nil {
				return fault
			}
			if fault := reservedMAC(cardsOf(object.Config.Hardware.Device)); fault != nil {
				return fault
			}
			if found := s.powerOnFaults(ctx, object, *object.Runtime.Host); from == fromVCenter && len(found) > 0 {
				return found[0]
			}
			return s.prepareDelivery(ctx, object, from)
		},
		after: func(result types.AnyType, fault types.BaseMethodFault) (types.AnyType, types.BaseMethodFault) {
			vm.endDelivery() // of a power-on that failed
			return result, fault
		},
	}
	return s.tasks.start(object.Self, plan, func() soap.HasFault {
		return object.PowerOnVMTask(ctx, &types.PowerOnVM_Task{This: object.Self})
	})
}

// powerOnAndWait is powerOnFrom for operations of the simulator itself, or as
// part of another task.
func (s *Simulator) powerOnAndWait(ctx *simulator.Context, ref types.ManagedObjectReference, from powerOrigin) types.BaseMethodFault {
	object, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: ref}
	}
	var body soap.HasFault
	ctx.WithLock(object, func() { body = s.powerOnFrom(ctx, object, from, true) })
	_, fault := waitBody(ctx, body)
	return fault
}

// startsAtForkPoint reports whether a VM starts from its parent's fork point
// when it is powered on. The caller holds vm.mu.
func (vm *instance) startsAtForkPoint() bool {
	origin := vm.origin
	return origin != nil && !origin.broken && !(origin.persistent && origin.started)
}

// checkPowerOn refuses a child that has lost its fork point.
func (vm *instance) checkPowerOn() types.BaseMethodFault {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	switch origin := vm.origin; {
	case origin == nil:
	case origin.broken:
		return vimfault.WithText(&types.InvalidState{}, "The fork parent of the virtual machine is not there any more.")
	case !origin.persistent && origin.started && vm.run == nil && vm.sim.rules.Is("nonpersistent_power_on_again", "InvalidState"):
		return vimfault.WithText(&types.InvalidState{}, "A nonpersistent fork child cannot be powered on again.")
	}
	return nil
}

func (v *virtualMachine) PowerOnVMTask(ctx *simulator.Context, _ *types.PowerOnVM_Task) soap.HasFault {
	return v.sim.powerOnFrom(ctx, v.VirtualMachine, fromVCenter, false)
}
