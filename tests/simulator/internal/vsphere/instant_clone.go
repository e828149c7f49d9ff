// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// InstantClone_Task.

package vsphere

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
	"vmforksim/internal/vimfault"
)

// The clone of a frozen source continues after the command that froze it. A
// running source is copied in its current state, without its processes.

func (v *virtualMachine) InstantCloneTask(ctx *simulator.Context, req *types.InstantClone_Task) soap.HasFault {
	task := v.sim.startTask(ctx, v.VirtualMachine, "instantCloneTask", "InstantClone_Task", []string{req.Spec.Name},
		func() (types.AnyType, types.BaseMethodFault) {
			clone, fault := v.instantClone(ctx, &req.Spec)
			if fault != nil || v.sim.rules.Is("instant_clone_result", "unset") {
				return nil, fault
			}
			return clone, nil
		})
	return &methods.InstantClone_TaskBody{Res: &types.InstantClone_TaskResponse{Returnval: task.Returnval}}
}

func (v *virtualMachine) instantClone(ctx *simulator.Context, spec *types.VirtualMachineInstantCloneSpec) (clone types.ManagedObjectReference, fault types.BaseMethodFault) {
	point, fault := v.instantClonePoint()
	if fault != nil {
		return clone, fault
	}
	defer point.release()
	var b *childSpec
	ctx.WithLock(v.VirtualMachine, func() { b, fault = v.newInstantCloneSpec(ctx, spec, point) })
	if fault != nil {
		return clone, fault
	}
	clone, fault = v.createFromSpec(ctx, b, spec.Name)
	if fault == nil {
		if fault = v.sim.powerOnAndWait(v.sim.cloneEventContext(ctx), clone, fromVCenter); fault != nil {
			v.sim.destroy(clone)
		} else {
			v.sim.postInstantCloned(ctx, clone, v.Name)
		}
	}
	if fault != nil && !point.instant {
		ctx.WithLock(v.VirtualMachine, func() { v.sim.addDeltaDisks(ctx, v.VirtualMachine, -1) })
	}
	return clone, fault
}

// instantCloned is the event of a clone's creation.
const instantCloned = "com.vmware.vc.VmInstantClonedEvent"

// postInstantCloned posts that a clone was made.
func (s *Simulator) postInstantCloned(ctx *simulator.Context, clone types.ManagedObjectReference, source string) {
	object, ok := ctx.Map.Get(clone).(*simulator.VirtualMachine)
	if !ok || s.rules.Is("instant_clone_event", "absent") || !s.version.atLeast(7, 0, 1) {
		return
	}
	ctx.WithLock(object, func() {
		event := s.eventOn(ctx, object)
		event.FullFormattedMessage = fmt.Sprintf("Virtual machine %s was instant cloned from %s", object.Name, source)
		s.post(ctx, &types.EventEx{
			Event: event, EventTypeId: instantCloned, Severity: string(types.EventEventSeverityInfo), Message: event.FullFormattedMessage,
			Arguments: []types.KeyAnyValue{{Key: "sourceVm", Value: source}},
			ObjectId:  clone.Value, ObjectType: clone.Type, ObjectName: object.Name,
		})
	})
}

// cloneEventContext returns the context in which a clone is powered on.
func (s *Simulator) cloneEventContext(ctx *simulator.Context) *simulator.Context {
	if s.rules.Is("instant_clone_events", "power-on") {
		return ctx
	}
	quiet := &simulator.Context{Context: ctx.Context, Session: ctx.Session, Map: ctx.Map}
	startOperation(quiet, operation{origin: fromVCenter, user: operationOf(ctx).user, silent: true})
	return quiet
}

// instantClonePoint finds and keeps the state that a clone starts from: the
// source's fork point, or its current state.
func (v *virtualMachine) instantClonePoint() (*forkPoint, types.BaseMethodFault) {
	vm := v.instance()
	vm.waitQueue() // the guest may be starting
	for {
		vm.mu.Lock()
		c := vm.run
		var machine *guest.Machine
		var point *forkPoint
		if c != nil {
			machine, point = c.machine, c.forkPoint
		}
		vm.mu.Unlock()
		if point != nil && point.guestSnapshot() != nil {
			point.retain()
			return point, nil
		}
		point = &forkPoint{run: c, holders: 1}
		if machine == nil { // it is off, or has no guest
			return point, nil
		}
		snapshot, err := machine.Snapshot()
		switch {
		case err == nil:
			point.snapshot = snapshot
			return point, nil
		case errors.Is(err, guest.ErrFrozen): // just now
		case errors.Is(err, guest.ErrOff):
			return point, nil
		default:
			return nil, vimfault.WithText(&types.SystemError{Reason: err.Error()}, "A general system error occurred: "+err.Error())
		}
	}
}

// newInstantCloneSpec collects what a clone inherits from its source. The
// caller holds the source's lock.
func (v *virtualMachine) newInstantCloneSpec(ctx *simulator.Context, spec *types.VirtualMachineInstantCloneSpec, point *forkPoint) (*childSpec, types.BaseMethodFault) {
	b, problems := v.validateInstantClone(ctx, spec)
	if len(problems) > 0 {
		return nil, problems[0].fault
	}
	vm, rules := v.instance(), v.sim.rules
	vm.mu.Lock()
	restarted := vm.run != point.run
	vm.mu.Unlock()
	if restarted {
		return nil, vimfault.WithText(&types.InvalidState{}, "The virtual machine was restarted while it was cloned.")
	}
	if !point.instant {
		point.record(point.guestSnapshot(), &v.VirtualMachine.VirtualMachine)
		v.sim.addDeltaDisks(ctx, v.VirtualMachine, 1)
	}
	b.extra, b.secret = v.inheritedExtraConfig(point), map[string]string{}
	for _, given := range spec.Config {
		option := given.GetOptionValue()
		if strings.HasPrefix(option.Key, guestinfoPrefix) || rules.Is("instant_clone_config_keys", "kept") {
			b.extra[option.Key] = fmt.Sprint(option.Value)
		}
	}
	b.spec.Uuid = strings.ToLower(spec.BiosUuid)
	point.retain()
	b.origin = &origin{instant: true, parent: v.Self, persistent: true, forkPoint: point}
	return b, nil
}

// validateInstantClone returns the clone that a spec requests, and all problems
// that prevent it. The caller holds the source's lock.
func (v *virtualMachine) validateInstantClone(ctx *simulator.Context, spec *types.VirtualMachineInstantCloneSpec) (*childSpec, []problem) {
	vm := v.instance()
	vm.mu.Lock()
	deltas := vm.deltas
	quiesced := vm.run != nil && vm.run.forkPoint != nil && !vm.run.forkPoint.instant
	limit := vm.chainLimit()
	vm.mu.Unlock()
	var problems []problem
	found := func(test types.CheckTestType, fault types.BaseMethodFault) {
		problems = append(problems, problem{test, fault})
	}
	if fault := v.checkPoweredOn(); fault != nil {
		found(types.CheckTestTypeSourceTests, fault)
	}
	if quiesced {
		found(types.CheckTestTypeSourceTests, vimfault.WithText(&types.InvalidState{}, "The virtual machine is a quiesced fork parent."))
	}
	if v.Config.Template {
		found(types.CheckTestTypeSourceTests, vimfault.WithText(&types.NotSupported{}, "A template cannot be cloned instantly."))
	}
	for _, fault := range v.refusedDevices(ctx) {
		found(types.CheckTestTypeSourceTests, fault)
	}
	if deltas >= limit {
		found(types.CheckTestTypeSourceTests, chainTooLong(v.sim.rules, limit))
	}
	if _, err := uuid.Parse(spec.BiosUuid); spec.BiosUuid != "" && err != nil {
		found(types.CheckTestTypeSourceTests, &types.InvalidArgument{InvalidProperty: "spec.biosUuid"})
	}
	devices, fault := v.sim.clonedCards(ctx, v.VirtualMachine, v.sim.changesOfClone(spec.Location))
	if fault == nil {
		var reservation *portReservation
		reservation, fault = v.sim.ports.reserve(types.ManagedObjectReference{}, cardsOf(devices))
		reservation.release() // the creation keeps some
	}
	if fault == nil {
		fault = reservedMAC(cardsOf(devices))
	}
	if fault != nil {
		found(types.CheckTestTypeNetworkTests, fault)
	}
	b, misplaced := v.newChildSpec(ctx, spec.Location, v.sim.folderOfClone(ctx, v.VirtualMachine, spec.Location), devices)
	b.deltas, b.connectedCards = deltas+1, connections(devices)
	return b, append(problems, misplaced...)
}

// folderOfClone returns the folder of an instant clone of a VM. The caller
// holds the VM's lock.
func (s *Simulator) folderOfClone(ctx *simulator.Context, source *simulator.VirtualMachine, location types.VirtualMachineRelocateSpec) types.ManagedObjectReference {
	if location.Folder != nil && s.rules.Is("instant_clone_folder", "honoured") {
		return *location.Folder
	}
	if s.rules.Is("instant_clone_default_folder", "source") {
		return *source.Parent
	}
	for at := source.Parent; at != nil; {
		switch entity := ctx.Map.Get(*at).(type) {
		case *simulator.Datacenter:
			return entity.VmFolder
		case *simulator.Folder:
			at = entity.Parent
		default:
			at = nil
		}
	}
	return *source.Parent
}

// changesOfClone returns the device changes of an instant clone that have an
// effect.
func (s *Simulator) changesOfClone(location types.VirtualMachineRelocateSpec) []types.BaseVirtualDeviceConfigSpec {
	if s.rules.Is("instant_clone_device_changes", "ignored") {
		return nil
	}
	return location.DeviceChange
}

// instantClonePrivileges lists the privileges that InstantClone requires.
func (s *Simulator) instantClonePrivileges(source types.ManagedObjectReference, spec *types.VirtualMachineInstantCloneSpec) []requiredPrivilege {
	required := []requiredPrivilege{{provisioningClone, source}}
	ctx := s.background()
	object, ok := ctx.Map.Get(source).(*simulator.VirtualMachine)
	if !ok {
		return required
	}
	ctx.WithLock(object, func() {
		folder := s.folderOfClone(ctx, object, spec.Location)
		on := source
		if s.rules.Is("instant_clone_power_on_privilege", "folder") {
			on = folder
		}
		required = append(append(required, requiredPrivilege{powerOn, on}), s.placementPrivileges(ctx, object, spec.Location, folder)...)
	})
	for _, device := range s.devicePrivileges(source, s.changesOfClone(spec.Location)) {
		if device.privilege == assignNetwork {
			required = append(required, device)
		}
	}
	return required
}
