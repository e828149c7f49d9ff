// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// VirtualMachine: the consequences of a change of the power state.

package vsphere

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
)

// powerChanged handles every change of a VM's power state. The caller holds the
// VM's lock, so work on the guest is only queued.
func (s *Simulator) powerChanged(ctx *simulator.Context, changed *mo.VirtualMachine) {
	vm := s.instances.of(changed.Self)
	object, ok := vm.object(ctx)
	if !ok {
		return
	}
	resumed := vm.isSuspended()
	switch state := changed.Runtime.PowerState; {
	case state == types.VirtualMachinePowerStatePoweredOn && !resumed:
		s.connectCards(ctx, object, true)
		vm.setBootTime(s.now(), extraConfig(&object.VirtualMachine))
		if s.rules.Is("change_version_power_on", "changed") {
			renewChangeVersion(ctx, object)
		}
		s.poweredOn(ctx, vm, object, operationOf(ctx).origin)
	case state == types.VirtualMachinePowerStatePoweredOff:
		s.connectCards(ctx, object, false)
		s.forgetGuestinfo(ctx, vm, object)
		vm.setBootTime(time.Time{}, nil)
		s.poweredOff(ctx, vm, object)
	}
	s.showBootTime(ctx, object)
}

// isSuspended reports whether a power-on resumes the VM.
func (vm *instance) isSuspended() bool {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.run != nil
}

// restart restarts the guest, as a reset and its own reboot do: the VM stays
// powered on and keeps what it got at its power-on.
func (s *Simulator) restart(ctx *simulator.Context, object *simulator.VirtualMachine) {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	from, kept := vm.run.from, vm.keepDelivery()
	vm.mu.Unlock()
	s.poweredOff(ctx, vm, object)
	vm.mu.Lock()
	vm.nextDelivery = kept
	vm.mu.Unlock()
	s.poweredOn(ctx, vm, object, from)
}

func (vm *instance) setBootTime(when time.Time, with map[string]string) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.booted, vm.extraConfigAtPowerOn = when, with
}

// showBootTime publishes when the VM was powered on: suspending, resuming and a
// restart of the guest do not change it. govmomi's simulator has it only in the
// summary, and sets it there at every change.
func (s *Simulator) showBootTime(ctx *simulator.Context, object *simulator.VirtualMachine) {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	booted := vm.booted
	vm.mu.Unlock()
	shown := timeOf(&booted)
	ctx.Update(object, []types.PropertyChange{
		{Name: "runtime.bootTime", Val: shown},
		{Name: "summary.runtime.bootTime", Val: shown},
	})
}

// poweredOn starts the guest.
func (s *Simulator) poweredOn(ctx *simulator.Context, vm *instance, object *simulator.VirtualMachine, from powerOrigin) {
	vm.mu.Lock()
	c := &vmRun{vm: vm, from: from, over: make(chan struct{}), guestinfoAtStart: map[int64]map[string]string{}}
	vm.run = c
	origin := vm.origin
	forks := vm.startsAtForkPoint()
	interfaces := vm.tools.Interfaces
	if vm.nextDelivery != nil {
		c.delivery = *vm.nextDelivery
		vm.nextDelivery = nil
	}
	if forks {
		origin.started = true
		c.forkedFrom = origin.forkPoint.guestSnapshot()
		c.delivery = origin.forkPoint.delivered().inheritedBy(s.rules)
	}
	vm.mu.Unlock()

	s.showDelivery(ctx, object)
	spec := guest.Spec{ID: vm.ref.Value, Hostname: hostLabel(object.Name), NICs: nicsOf(object, interfaces), FreshMAC: s.rules.Is("driver_mac_after_fork", "own")}
	if forks {
		s.showFork(ctx, object)
		s.showInherited(ctx, object, origin.forkPoint)
	}
	if s.platform == nil || origin != nil && origin.broken {
		return
	}
	vm.enqueue(func() {
		if c.isOver() {
			return
		}
		var machine *guest.Machine
		var err error
		if c.forkedFrom != nil {
			machine, err = s.platform.Fork(spec, c.forkedFrom, c)
		} else {
			machine, err = s.platform.Boot(spec, c)
		}
		if err != nil {
			s.logError("%s (%s): the guest does not start: %v", spec.ID, spec.Hostname, err)
			return
		}
		s.guestStarted(c, machine)
	})
}

// guestStarted publishes that a guest is up.
func (s *Simulator) guestStarted(c *vmRun, machine *guest.Machine) {
	c.vm.mu.Lock()
	c.machine = machine
	c.vm.disk = true
	uninstalled := c.vm.tools.Uninstalled
	c.vm.mu.Unlock()
	machine.Forkable(c.vm.forkable())
	if uninstalled {
		machine.SetTools(false)
	}
	c.vm.update(func(ctx *simulator.Context, object *simulator.VirtualMachine) {
		if !c.isOver() {
			s.showRuntime(ctx, object)
		}
	})
	// A child that starts from a fork point has its parent's memory, and its
	// Tools report only when its script requests it. Other Tools report on
	// their own.
	if c.forkedFrom == nil || c.forkedFrom.Command == "" {
		s.toolsReported(c, machine.State(), false)
	}
}

func (s *Simulator) poweredOff(ctx *simulator.Context, vm *instance, object *simulator.VirtualMachine) {
	vm.mu.Lock()
	c := vm.run
	if c == nil {
		vm.mu.Unlock()
		return
	}
	close(c.over)
	vm.run = nil
	point := c.forkPoint
	if s.rules.Is("enabled_after_power_off", "cleared") {
		vm.enabled = false
	}
	loses := vm.origin != nil && !vm.origin.persistent
	vm.mu.Unlock()

	s.showRuntime(ctx, object)
	s.showFork(ctx, object)
	s.showGuest(ctx, object, guest.State{})
	s.showDelivery(ctx, object)
	c.delivery.end()
	if point != nil && s.rules.Is("power_off_with_children", "breaks") {
		s.spawn(func() { s.breakChildren(vm.ref) })
	}
	vm.enqueue(func() {
		vm.mu.Lock()
		machine := c.machine
		vm.mu.Unlock()
		if machine != nil {
			if err := machine.Stop(); err != nil {
				s.logError("%s: the guest does not stop: %v", vm.ref.Value, err)
			}
		}
		if point != nil {
			point.release()
		}
	})
	if loses && s.rules.Is("nonpersistent_power_off", "destroyed") {
		s.spawn(func() { s.destroy(vm.ref) })
	}
}

// forcePowerOff powers a VM off without a client's request.
func (s *Simulator) forcePowerOff(ref types.ManagedObjectReference) {
	ctx := s.background()
	object, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return
	}
	ctx.WithLock(object, func() {
		if object.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
			object.PowerOffVMTask(ctx, &types.PowerOffVM_Task{This: ref})
		}
	})
}

// destroy deletes a VM without a client's request, and returns when it is
// removed.
func (s *Simulator) destroy(ref types.ManagedObjectReference) {
	ctx := s.background()
	object, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return
	}
	var body soap.HasFault
	ctx.WithLock(object, func() {
		body = s.tasks.start(ref, &taskPlan{ctx: ctx, usesFiles: true, nested: true}, func() soap.HasFault {
			return object.DestroyTask(ctx, &types.Destroy_Task{This: ref})
		})
	})
	waitBody(ctx, body)
}
