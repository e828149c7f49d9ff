// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// EnableForkParent, DisableForkParent, and config.forkConfigInfo.

package vsphere

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

// forkConfig is a VM's config.forkConfigInfo; nil when it is unset.
func (vm *instance) forkConfig() *types.VirtualMachineForkConfigInfo {
	rules := vm.sim.rules
	vm.mu.Lock()
	defer vm.mu.Unlock()
	info := &types.VirtualMachineForkConfigInfo{ChildType: string(types.VirtualMachineForkConfigInfoChildTypeNone)}
	shown := false
	if vm.enabled {
		shown = true
		info.ParentEnabled = types.NewBool(true)
		if rules.Is("parent_fork_group_id", "always") || rules.Is("parent_fork_group_id", "from-6.5") && vm.sim.version.atLeast(6, 5) {
			info.ParentForkGroupId = vm.forkGroup
		}
	} else if vm.forkGroup != "" && rules.Is("disabled_parent_enabled", "false") {
		shown = true
		info.ParentEnabled = types.NewBool(false)
	}
	switch {
	case vm.origin != nil && vm.origin.instant:
		shown = shown || rules.Is("instant_clone_fork_config", "child-type-none")
	case vm.origin != nil:
		shown = true
		info.ChildForkGroupId = vm.origin.group
		switch {
		case !vm.origin.persistent:
			info.ChildType = string(types.VirtualMachineForkConfigInfoChildTypeNonpersistent)
		case !vm.origin.started:
			info.ChildType = string(types.VirtualMachineForkConfigInfoChildTypePersistent)
		case rules.Is("persistent_child_group", "removed"):
			info.ChildForkGroupId = ""
		}
	case vm.inheritedGroup != "":
		shown = true
		info.ChildForkGroupId = vm.inheritedGroup
	}
	if rules.Is("child_fork_group_id", "absent") {
		info.ChildForkGroupId = ""
	}
	if !shown && rules.Is("plain_vm_fork_config", "unset") {
		return nil
	}
	return info
}

// showFork publishes config.forkConfigInfo. The caller holds the VM's lock.
func (s *Simulator) showFork(ctx *simulator.Context, object *simulator.VirtualMachine) {
	info := s.instances.of(object.Self).forkConfig()
	var p properties
	if info == nil {
		if object.Config.ForkConfigInfo == nil {
			return
		}
		p = append(p, types.PropertyChange{Name: "config.forkConfigInfo"})
	} else {
		p.set("config.forkConfigInfo", object.Config.ForkConfigInfo, info)
	}
	if len(p) > 0 {
		ctx.Update(object, p)
	}
}

func (v *virtualMachine) EnableForkParentTask(ctx *simulator.Context, req *enableForkParentRequest) soap.HasFault {
	return &enableForkParentBody{Res: v.sim.startTask(ctx, v.VirtualMachine, "enableForkParentTask", "EnableForkParent_Task", nil,
		func() (types.AnyType, types.BaseMethodFault) { return nil, v.enable(ctx, req.Host) })}
}

func (v *virtualMachine) enable(ctx *simulator.Context, host *types.ManagedObjectReference) (fault types.BaseMethodFault) {
	vm, rules := v.instance(), v.sim.rules
	ctx.WithLock(v.VirtualMachine, func() {
		vm.mu.Lock()
		enabled, child := vm.enabled, vm.origin != nil && !vm.origin.instant
		vm.mu.Unlock()
		on := v.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
		toolsRun := v.Guest.ToolsRunningStatus == string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
		switch {
		case v.Config.Template:
			fault = vimfault.WithText(&types.NotSupported{}, "A template cannot be a fork parent.")
		case enabled && rules.Is("enable_twice", "InvalidState"):
			fault = vimfault.WithText(&types.InvalidState{}, "The virtual machine is enabled as a fork parent already.")
		case child && rules.Is("child_as_parent", "NotSupported"):
			fault = vimfault.WithText(&types.NotSupported{}, "A fork child cannot be a fork parent.")
		case on && !toolsRun && rules.Is("enable_needs_tools", "yes"):
			fault = &types.ToolsUnavailable{}
		case hasIndependentDisk(v.Config.Hardware.Device) && rules.Is("enable_independent_disk", "NotSupported"):
			fault = vimfault.WithText(&types.NotSupported{}, "A virtual machine with an independent disk cannot be a fork parent.")
		default:
			fault = v.placeParent(ctx, host, on)
		}
		if fault != nil {
			return
		}
		vm.mu.Lock()
		vm.enabled = true
		if vm.forkGroup == "" || !enabled && rules.Is("fork_group_on_enable", "new") {
			vm.forkGroup = uuid.NewString()
		}
		vm.mu.Unlock()
		v.sim.showFork(ctx, v.VirtualMachine)
	})
	if machine, _ := vm.machine(); fault == nil && machine != nil {
		machine.Forkable(vm.forkable())
	}
	return fault
}

// placeParent handles the host that EnableForkParent names. The caller holds
// the VM's lock.
func (v *virtualMachine) placeParent(ctx *simulator.Context, host *types.ManagedObjectReference, on bool) types.BaseMethodFault {
	if host == nil || *host == *v.Runtime.Host || v.sim.rules.Is("enable_on_other_host", "ignored") {
		return nil
	}
	target, ok := ctx.Map.Get(*host).(*simulator.HostSystem)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: *host}
	}
	if on || v.sim.rules.Is("enable_on_other_host", "InvalidArgument") || *target.Parent != v.sim.computeResourceOf(ctx, *v.ResourcePool) {
		return &types.InvalidArgument{InvalidProperty: "host"}
	}
	moveTo(ctx, v.VirtualMachine, target)
	return nil
}

func (v *virtualMachine) DisableForkParentTask(ctx *simulator.Context, _ *disableForkParentRequest) soap.HasFault {
	return &disableForkParentBody{Res: v.sim.startTask(ctx, v.VirtualMachine, "disableForkParentTask", "DisableForkParent_Task", nil,
		func() (types.AnyType, types.BaseMethodFault) { return nil, v.disable(ctx) })}
}

func (v *virtualMachine) disable(ctx *simulator.Context) (fault types.BaseMethodFault) {
	vm, rules := v.instance(), v.sim.rules
	children := len(v.sim.childrenOf(v.Self))
	ctx.WithLock(v.VirtualMachine, func() {
		vm.mu.Lock()
		enabled, quiesced := vm.enabled, vm.run != nil && vm.run.forkPoint != nil && !vm.run.forkPoint.instant
		vm.mu.Unlock()
		switch {
		case !enabled && rules.Is("disable_twice", "InvalidState"):
			fault = vimfault.WithText(&types.InvalidState{}, "The virtual machine is not enabled as a fork parent.")
		case quiesced && rules.Is("disable_while_quiesced", "InvalidState"):
			fault = vimfault.WithText(&types.InvalidState{}, "The fork parent is quiesced.")
		case children > 0 && rules.Is("disable_with_children", "InvalidState"):
			fault = vimfault.WithText(&types.InvalidState{}, fmt.Sprintf("The fork parent has %d children.", children))
		default:
			vm.mu.Lock()
			vm.enabled = false
			vm.mu.Unlock()
			v.sim.showFork(ctx, v.VirtualMachine)
		}
	})
	if fault != nil {
		return fault
	}
	if machine, isFrozen := vm.machine(); machine != nil && !isFrozen {
		machine.Forkable(vm.forkable())
	}
	if children > 0 && rules.Is("disable_with_children", "breaks") {
		v.sim.breakChildren(v.Self)
	}
	return nil
}

// breakChildren removes the memory that a parent's children share.
func (s *Simulator) breakChildren(parent types.ManagedObjectReference) {
	for _, child := range s.childrenOf(parent) {
		child.mu.Lock()
		origin := child.origin
		lost := !(origin.persistent && origin.started)
		origin.broken = origin.broken || lost
		child.mu.Unlock()
		if lost {
			s.forcePowerOff(child.ref)
		}
	}
}

func hasIndependentDisk(devices []types.BaseVirtualDevice) bool {
	for _, device := range devices {
		disk, ok := device.(*types.VirtualDisk)
		if !ok {
			continue
		}
		if backing, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok && strings.HasPrefix(backing.DiskMode, "independent") {
			return true
		}
	}
	return false
}
