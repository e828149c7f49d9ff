// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// VirtualMachine: reconfigure, clone, relocate, rename, destroy, and guest
// shutdown.

package vsphere

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/ovfenv"
	"vmforksim/internal/vimfault"
)

// virtualMachine handles every call to a VM: it adds the methods that govmomi's
// simulator lacks, and the checks before its methods.
type virtualMachine struct {
	*simulator.VirtualMachine
	sim *Simulator
}

func (v *virtualMachine) instance() *instance { return v.sim.instances.of(v.Self) }

// quiesced reports whether the VM is a frozen parent.
func (v *virtualMachine) quiesced() bool {
	_, frozen := v.instance().machine()
	return frozen
}

// task runs a method of govmomi's simulator that starts a task on this VM.
func (v *virtualMachine) task(ctx *simulator.Context, method string, before func() types.BaseMethodFault, stock func() soap.HasFault) soap.HasFault {
	past := operationOf(ctx).origin != fromVCenter // faults in vCenter do not affect it
	return v.sim.tasks.start(v.Self, &taskPlan{ctx: ctx, method: method, before: before, nested: past}, stock)
}

func (v *virtualMachine) PowerOffVMTask(ctx *simulator.Context, req *types.PowerOffVM_Task) soap.HasFault {
	return v.task(ctx, "PowerOffVM_Task", v.checkPowerOff, func() soap.HasFault { return v.VirtualMachine.PowerOffVMTask(ctx, req) })
}

// ResetVMTask restarts the guest. govmomi's simulator powers the VM off and on,
// which clients would see.
func (v *virtualMachine) ResetVMTask(ctx *simulator.Context, _ *types.ResetVM_Task) soap.HasFault {
	return v.task(ctx, "ResetVM_Task", v.checkPowerOff, func() soap.HasFault {
		task := simulator.CreateTask(v.VirtualMachine, "reset", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
			if fault := v.checkPoweredOn(); fault != nil {
				return nil, fault
			}
			v.sim.post(ctx, &types.VmResettingEvent{VmEvent: types.VmEvent{Event: v.sim.eventOn(ctx, v.VirtualMachine)}})
			v.sim.restart(ctx, v.VirtualMachine)
			return nil, nil
		})
		return &methods.ResetVM_TaskBody{Res: &types.ResetVM_TaskResponse{Returnval: task.Run(ctx)}}
	})
}

func (v *virtualMachine) checkPoweredOn() types.BaseMethodFault {
	if state := v.Runtime.PowerState; state != types.VirtualMachinePowerStatePoweredOn {
		return &types.InvalidPowerState{RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: state}
	}
	return nil
}

func (v *virtualMachine) checkPowerOff() types.BaseMethodFault {
	if !v.quiesced() || !v.sim.rules.Is("power_off_with_children", "InvalidState") {
		return nil
	}
	if children := len(v.sim.childrenOf(v.Self)); children > 0 {
		return vimfault.WithText(&types.InvalidState{}, fmt.Sprintf("The fork parent has %d children.", children))
	}
	return nil
}

func (v *virtualMachine) SuspendVMTask(ctx *simulator.Context, req *types.SuspendVM_Task) soap.HasFault {
	return v.task(ctx, "SuspendVM_Task", v.checkNotQuiesced, func() soap.HasFault { return v.VirtualMachine.SuspendVMTask(ctx, req) })
}

func (v *virtualMachine) RelocateVMTask(ctx *simulator.Context, req *types.RelocateVM_Task) soap.HasFault {
	var left []types.ManagedObjectReference
	plan := &taskPlan{ctx: ctx, method: "RelocateVM_Task",
		before: func() types.BaseMethodFault {
			left = []types.ManagedObjectReference{*v.ResourcePool, *v.Runtime.Host}
			return v.checkNotQuiesced()
		},
		after: func(result types.AnyType, fault types.BaseMethodFault) (types.AnyType, types.BaseMethodFault) {
			if fault == nil {
				v.updateReferences(ctx, left, req.Spec.Folder)
				v.sim.showParent(ctx, v.VirtualMachine)
			}
			if fault == nil && req.Spec.Host != nil {
				vm := v.instance()
				vm.mu.Lock()
				vm.applyLossRule("ovfenv_after_vmotion")
				vm.mu.Unlock()
			}
			return result, fault
		},
	}
	return v.sim.tasks.start(v.Self, plan, func() soap.HasFault { return v.VirtualMachine.RelocateVMTask(ctx, req) })
}

// updateReferences moves a relocated VM from the lists of its old pool and host
// to those of the new ones: govmomi's simulator leaves it in the old ones. The
// caller holds the VM's lock.
func (v *virtualMachine) updateReferences(ctx *simulator.Context, left []types.ManagedObjectReference, folder *types.ManagedObjectReference) {
	list := func(ref types.ManagedObjectReference, change func(*simulator.Context, mo.Reference, *[]types.ManagedObjectReference, types.ManagedObjectReference)) {
		switch holder := ctx.Map.Get(ref).(type) {
		case *simulator.ResourcePool:
			change(ctx, holder, &holder.Vm, v.Self)
		case *simulator.VirtualApp:
			change(ctx, holder, &holder.Vm, v.Self)
		case *simulator.HostSystem:
			change(ctx, holder, &holder.Vm, v.Self)
		}
	}
	for _, ref := range left {
		list(ref, ctx.Map.RemoveReference)
	}
	for _, ref := range []types.ManagedObjectReference{*v.ResourcePool, *v.Runtime.Host} {
		list(ref, ctx.Map.AddReference)
	}
	if folder != nil {
		v.sim.names.put(v.Self, *folder, v.sim.names.of(v.Self.Value))
	}
}

func (v *virtualMachine) checkNotQuiesced() types.BaseMethodFault {
	if v.quiesced() {
		return vimfault.WithText(&types.InvalidState{}, "The virtual machine is frozen.")
	}
	return nil
}

// checkGuestAnswers refuses a request that Tools in the guest do not answer.
func (v *virtualMachine) checkGuestAnswers() types.BaseMethodFault {
	if fault := v.checkPoweredOn(); fault != nil {
		return fault
	}
	if v.quiesced() || v.Guest.ToolsRunningStatus != string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		return &types.ToolsUnavailable{}
	}
	return nil
}

func (v *virtualMachine) ShutdownGuest(ctx *simulator.Context, req *types.ShutdownGuest) soap.HasFault {
	if fault := v.checkGuestAnswers(); fault != nil {
		return &methods.ShutdownGuestBody{Fault_: simulator.Fault("", fault)}
	}
	vm := v.instance()
	vm.mu.Lock()
	staysUp := vm.tools.StaysUp
	vm.mu.Unlock()
	if staysUp {
		return &methods.ShutdownGuestBody{Res: &types.ShutdownGuestResponse{}}
	}
	return v.VirtualMachine.ShutdownGuest(ctx, req)
}

// guestReboots handles a restart of the guest. The caller holds the VM's lock.
func (s *Simulator) guestReboots(ctx *simulator.Context, object *simulator.VirtualMachine) {
	s.post(ctx, &types.VmGuestRebootEvent{VmEvent: types.VmEvent{Event: s.eventOn(ctx, object)}})
	if strings.EqualFold(extraConfig(&object.VirtualMachine)["vmx.reboot.powerCycle"], "TRUE") {
		vm := s.instances.of(object.Self)
		vm.mu.Lock()
		vm.applyLossRule("ovfenv_after_power_cycle_reboot")
		vm.mu.Unlock()
		setExtraConfig(ctx, object, map[string]string{"vmx.reboot.powerCycle": ""}) // it holds for one reboot
	}
	s.restart(ctx, object)
}

func (v *virtualMachine) RebootGuest(ctx *simulator.Context, _ *types.RebootGuest) soap.HasFault {
	if fault := v.checkGuestAnswers(); fault != nil {
		return &methods.RebootGuestBody{Fault_: simulator.Fault("", fault)}
	}
	v.sim.guestReboots(ctx, v.VirtualMachine)
	return &methods.RebootGuestBody{Res: &types.RebootGuestResponse{}}
}

func (v *virtualMachine) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	var published types.BaseVmConfigInfo
	var options *types.VmConfigInfo
	document, injects := takeOVFEnv(&req.Spec)
	changes, nets := req.Spec.DeviceChange, v.Guest.Net
	var edited []types.BaseVirtualDevice
	var reservation *portReservation
	compared := v.Config.ChangeVersion
	before := func() types.BaseMethodFault {
		vm, rules := v.instance(), v.sim.rules
		vm.mu.Lock()
		neverStarted := vm.origin != nil && !vm.origin.instant && !vm.origin.started
		vm.mu.Unlock()
		switch {
		case v.quiesced() && rules.Is("frozen_reconfigure", "InvalidState"):
			return vimfault.WithText(&types.InvalidState{}, "A frozen virtual machine cannot be reconfigured.")
		case neverStarted && rules.Is("child_reconfigure", "InvalidState"):
			return vimfault.WithText(&types.InvalidState{}, "A fork child cannot be reconfigured before it was powered on.")
		}
		if rules.Is("change_version_race", "one") {
			compared = v.Config.ChangeVersion
		}
		if asked := req.Spec.ChangeVersion; asked != "" && asked != compared {
			return vimfault.WithText(&types.ConcurrentAccess{}, "The operation cannot be completed because the virtual machine's configuration was changed meanwhile.")
		}
		fault := v.checkRename(req.Spec.Name)
		if fault == nil {
			edited, reservation, fault = v.changeCards(ctx, changes)
		}
		if fault == nil {
			published = v.Config.VAppConfig
			options, fault = v.reconfigureVApp(&req.Spec)
		}
		changesVApp := req.Spec.VAppConfig != nil || req.Spec.VAppConfigRemoved != nil && *req.Spec.VAppConfigRemoved
		if fault == nil && changesVApp && v.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn && rules.Is("vapp_change_while_on", "InvalidPowerState") {
			v.Config.VAppConfig = published
			fault = vimfault.WithText(&types.InvalidPowerState{ExistingState: v.Runtime.PowerState, RequestedState: types.VirtualMachinePowerStatePoweredOff},
				"The attempted operation cannot be performed in the current state (Powered on).")
		}
		if fault != nil {
			reservation.release()
			return fault
		}
		req.Spec.DeviceChange = slices.DeleteFunc(slices.Clone(changes), editsCard)
		if fault := v.placeDisks(req.Spec.DeviceChange); fault != nil {
			reservation.release()
			return fault
		}
		// Published values are never changed in place: a client may be reading
		// them.
		v.Config.ExtraConfig = slices.Clone(v.Config.ExtraConfig)
		v.Config.Hardware.Device = cloneDevices(v.Config.Hardware.Device)
		v.Guest.Net = slices.Clone(nets)
		return nil
	}
	plan := &taskPlan{ctx: ctx, method: "ReconfigVM_Task", descriptionID: "VirtualMachine.reconfigure", before: before, usesFiles: len(req.Spec.DeviceChange) > 0,
		after: func(result types.AnyType, fault types.BaseMethodFault) (types.AnyType, types.BaseMethodFault) {
			v.Config.VAppConfig = published
			v.Guest.Net = nets // Tools report it
			if fault == nil && len(changes) > 0 {
				devices := cloneDevices(v.Config.Hardware.Device)
				replaceCards(devices, edited)
				reservation.assign(v.Self, cardsOf(devices))
				v.sim.showCards(ctx, v.VirtualMachine, devices)
				if event := operationOf(ctx).reconfigured; event != nil {
					event.ConfigSpec.DeviceChange = changes
				}
			}
			reservation.release()
			v.sim.showChain(ctx, v.VirtualMachine)
			if fault == nil {
				v.sim.setVApp(ctx, v.VirtualMachine, options)
			}
			if fault == nil && req.Spec.VAppConfig != nil {
				v.instance().vAppWritten()
			}
			if fault == nil && injects {
				v.instance().setInjected(document)
			}
			if fault == nil {
				v.instance().dropGuestOnly(req.Spec.ExtraConfig)
			}
			if fault == nil && req.Spec.Name != "" {
				name, _ := inventoryName(req.Spec.Name) // before has checked it
				setName(ctx, v.VirtualMachine, name)
			}
			return result, fault
		},
	}
	return v.sim.tasks.start(v.Self, plan, func() soap.HasFault { return v.VirtualMachine.ReconfigVMTask(ctx, req) })
}

// CustomizeVMTask accepts a specification for a powered-off VM: govmomi's
// simulator counts the adapters that Tools report, which are none then.
func (v *virtualMachine) CustomizeVMTask(ctx *simulator.Context, req *types.CustomizeVM_Task) soap.HasFault {
	var nets []types.GuestNicInfo
	plan := &taskPlan{ctx: ctx, method: "CustomizeVM_Task",
		before: func() types.BaseMethodFault {
			nets = v.Guest.Net
			v.Guest.Net = make([]types.GuestNicInfo, len(cardsOf(v.Config.Hardware.Device)))
			return nil
		},
		after: func(result types.AnyType, fault types.BaseMethodFault) (types.AnyType, types.BaseMethodFault) {
			v.Guest.Net = nets
			return result, fault
		},
	}
	return v.sim.tasks.start(v.Self, plan, func() soap.HasFault { return v.VirtualMachine.CustomizeVMTask(ctx, req) })
}

func (v *virtualMachine) RefreshStorageInfo(ctx *simulator.Context, req *types.RefreshStorageInfo) soap.HasFault {
	body := v.VirtualMachine.RefreshStorageInfo(ctx, req)
	v.sim.showChain(ctx, v.VirtualMachine)
	return body
}

// placeDisks assigns new disks a unit on their controller if the client leaves
// that to vCenter, and refuses disks without a backing or controller.
func (v *virtualMachine) placeDisks(changes []types.BaseVirtualDeviceConfigSpec) types.BaseMethodFault {
	devices := object.VirtualDeviceList(slices.Clone(v.Config.Hardware.Device))
	for i, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		if spec.Operation != types.VirtualDeviceConfigSpecOperationAdd {
			continue
		}
		if disk, ok := spec.Device.(*types.VirtualDisk); ok {
			controller, _ := devices.FindByKey(disk.ControllerKey).(types.BaseVirtualController)
			if controller == nil || disk.Backing == nil {
				fault := &types.InvalidDeviceSpec{DeviceIndex: int32(i)}
				fault.Property = fmt.Sprintf("virtualDeviceSpec[%d].device", i)
				return vimfault.WithText(fault, fmt.Sprintf("Invalid configuration for device '%d'.", i))
			}
			if disk.UnitNumber == nil {
				devices.AssignController(disk, controller)
			}
		}
		devices = append(devices, spec.Device)
	}
	return nil
}

// checkRename refuses a name that another VM of the folder has.
func (v *virtualMachine) checkRename(name string) types.BaseMethodFault {
	if name == "" {
		return nil
	}
	escaped, fault := inventoryName(name)
	if fault != nil {
		return fault
	}
	if other, ok := v.sim.names.find(*v.Parent, escaped); ok && other != v.Self {
		return &types.DuplicateName{Name: escaped, Object: other}
	}
	return nil
}

func (v *virtualMachine) RenameTask(ctx *simulator.Context, req *types.Rename_Task) soap.HasFault {
	before := func() types.BaseMethodFault {
		fault := v.checkRename(req.NewName)
		if fault == nil {
			req.NewName, fault = inventoryName(req.NewName)
		}
		return fault
	}
	return v.task(ctx, "Rename_Task", before, func() soap.HasFault { return v.VirtualMachine.RenameTask(ctx, req) })
}

func (v *virtualMachine) DestroyTask(ctx *simulator.Context, req *types.Destroy_Task) soap.HasFault {
	return v.onFiles(ctx, "Destroy_Task", func() soap.HasFault { return v.VirtualMachine.DestroyTask(ctx, req) })
}

func (v *virtualMachine) CreateSnapshotTask(ctx *simulator.Context, req *types.CreateSnapshot_Task) soap.HasFault {
	return v.onFiles(ctx, "CreateSnapshot_Task", func() soap.HasFault { return v.VirtualMachine.CreateSnapshotTask(ctx, req) })
}

func (v *virtualMachine) CreateSnapshotExTask(ctx *simulator.Context, req *types.CreateSnapshotEx_Task) soap.HasFault {
	return v.onFiles(ctx, "CreateSnapshotEx_Task", func() soap.HasFault { return v.VirtualMachine.CreateSnapshotExTask(ctx, req) })
}

func (v *virtualMachine) RemoveAllSnapshotsTask(ctx *simulator.Context, req *types.RemoveAllSnapshots_Task) soap.HasFault {
	return v.onFiles(ctx, "RemoveAllSnapshots_Task", func() soap.HasFault { return v.VirtualMachine.RemoveAllSnapshotsTask(ctx, req) })
}

// onFiles is task for a method that changes the VM's files.
func (v *virtualMachine) onFiles(ctx *simulator.Context, method string, stock func() soap.HasFault) soap.HasFault {
	return v.sim.tasks.start(v.Self, &taskPlan{ctx: ctx, method: method, usesFiles: true}, stock)
}

// CloneVMTask creates a clone with its source's vAppConfig, extraConfig and
// guest disk.
func (v *virtualMachine) CloneVMTask(ctx *simulator.Context, req *types.CloneVM_Task) soap.HasFault {
	folder, ok := ctx.Map.Get(req.Folder).(*simulator.Folder)
	if !ok {
		return &methods.CloneVM_TaskBody{Fault_: simulator.Fault("", &types.ManagedObjectNotFound{Obj: req.Folder})}
	}
	c := v.sim.newCreation(ctx, folder)
	name, powerOn := req.Name, req.Spec.PowerOn
	req.Name, req.Folder, req.Spec.PowerOn = fileName(name), c.staging.Self, false
	var cards []types.BaseVirtualDevice
	plan := &taskPlan{ctx: ctx, method: "CloneVM_Task", names: []string{name}, usesFiles: true,
		before: func() types.BaseMethodFault {
			if fault := c.reserve(name); fault != nil {
				c.abandon()
				return fault
			}
			var fault types.BaseMethodFault
			req.Spec.Config, fault = v.cloneConfig(c, req.Spec.Config)
			if fault == nil {
				cards, fault = v.cloneCards(c, &req.Spec)
			}
			if fault != nil {
				c.abandon()
			}
			return fault
		},
		after: func(result types.AnyType, fault types.BaseMethodFault) (types.AnyType, types.BaseMethodFault) {
			if fault != nil {
				c.abandon()
				return nil, fault
			}
			ref := result.(types.ManagedObjectReference)
			c.finish(ref, func(clone *simulator.VirtualMachine) {
				replaceCards(clone.Config.Hardware.Device, cards)
				v.completeClone(ctx, clone)
			})
			if powerOn && !req.Spec.Template {
				return ref, v.sim.powerOnAndWait(ctx, ref, fromVCenter)
			}
			return ref, nil
		},
	}
	return v.sim.tasks.start(v.Self, plan, func() soap.HasFault { return v.VirtualMachine.CloneVMTask(ctx, req) })
}

// cloneConfig returns the configuration of a clone: the source's vApp options
// and extraConfig, overridden by the client's request.
func (v *virtualMachine) cloneConfig(c *creation, asked *types.VirtualMachineConfigSpec) (*types.VirtualMachineConfigSpec, types.BaseMethodFault) {
	spec := types.VirtualMachineConfigSpec{}
	if asked != nil {
		spec = *asked
	}
	if spec.Uuid == "" {
		spec.Uuid = uuid.NewString()
	}
	if spec.InstanceUuid == "" {
		spec.InstanceUuid = uuid.NewString()
	}
	values := extraConfig(&v.VirtualMachine.VirtualMachine)
	for _, option := range spec.ExtraConfig {
		delete(values, option.GetOptionValue().Key)
	}
	for key, value := range values {
		spec.ExtraConfig = append(spec.ExtraConfig, &types.OptionValue{Key: key, Value: value})
	}
	source := v.instance()
	source.mu.Lock()
	options, document := source.vapp, source.injected
	source.mu.Unlock()
	var fault types.BaseMethodFault
	c.vapp, fault = ovfenv.ApplySpec(v.sim.rules, options, spec.VAppConfig, spec.VAppConfigRemoved)
	if given, injects := takeOVFEnv(&spec); injects {
		document = given
	}
	c.injected = document
	return &spec, fault
}

// cloneCards returns the adapters that a clone copies from its source, with the
// requested changes; ports are reserved for all.
func (v *virtualMachine) cloneCards(c *creation, spec *types.VirtualMachineCloneSpec) ([]types.BaseVirtualDevice, types.BaseMethodFault) {
	devices := withoutPorts(cloneDevices(v.Config.Hardware.Device))
	cards := cardsOf(devices)
	for path, changes := range map[string]*[]types.BaseVirtualDeviceConfigSpec{
		"spec.location.deviceChange": &spec.Location.DeviceChange, "spec.config.deviceChange": &spec.Config.DeviceChange,
	} {
		if fault := v.sim.editCards(c.ctx, v.VirtualMachine, devices, *changes, path); fault != nil {
			return nil, fault
		}
		*changes = slices.DeleteFunc(slices.Clone(*changes), editsCard)
		cards = append(cards, v.sim.newCards(devices, *changes)...)
	}
	var fault types.BaseMethodFault
	c.reservation, fault = v.sim.ports.reserve(types.ManagedObjectReference{}, cards)
	return devices, fault
}

// completeClone completes a clone before clients can see it.
func (v *virtualMachine) completeClone(ctx *simulator.Context, clone *simulator.VirtualMachine) {
	for _, card := range cardsOf(clone.Config.Hardware.Device) {
		v.sim.assignMAC(card)
	}
	source, target := v.instance(), v.sim.instances.of(clone.Self)
	source.mu.Lock()
	hasDisk, origin := source.disk, source.origin
	source.mu.Unlock()
	if origin != nil && v.sim.rules.Is("clone_inherits_fork_group", "yes") {
		target.mu.Lock()
		target.inheritedGroup = origin.group
		target.mu.Unlock()
	}
	v.sim.showRuntime(ctx, clone)
	v.sim.showFork(ctx, clone)
	if hasDisk {
		target.enqueue(func() {
			if err := v.sim.platform.CopyDisk(v.Self.Value, clone.Self.Value); err != nil {
				v.sim.logError("%s: %v", clone.Self.Value, err)
				return
			}
			target.mu.Lock()
			target.disk = true
			target.mu.Unlock()
		})
	}
}
