// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
)

// frozen is a parent at its fork point: what every child begins with. It is
// held by the parent while it stays frozen, and by every child that may still
// begin there. A clone of a VM that runs has one of its own.
type forkPoint struct {
	run     *vmRun // of the parent
	program int64  // the program that froze it
	instant bool   // for InstantClone, not for CreateForkChild

	mu       sync.Mutex
	holders  int
	snapshot *guest.Snapshot
	extra    map[string]string // extraConfig at the freeze
	delivery delivery
	hostname string
	address  string
	nets     []types.GuestNicInfo
}

// keep stores what the fork point is. The caller holds the parent's lock.
func (f *forkPoint) record(snapshot *guest.Snapshot, parent *mo.VirtualMachine) {
	f.run.vm.mu.Lock()
	delivery := f.run.delivery
	f.run.vm.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshot, f.delivery = snapshot, delivery
	f.extra = extraConfig(parent)
	f.hostname, f.address, f.nets = parent.Guest.HostName, parent.Guest.IpAddress, parent.Guest.Net
}

func (f *forkPoint) guestSnapshot() *guest.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.snapshot
}

func (f *forkPoint) guestInfo() (hostname, address string, nets []types.GuestNicInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hostname, f.address, f.nets
}

// extraConfig returns the parent's extraConfig as it stood at the freeze.
func (f *forkPoint) extraConfig() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.extra)
}

// delivered is the OVF environment in the parent's memory at the freeze.
func (f *forkPoint) delivered() delivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.delivery
}

// atStart returns the parent's guestinfo as it stood when the program that
// froze it was started.
func (f *forkPoint) guestinfoAtStart() map[string]string {
	f.run.vm.mu.Lock()
	defer f.run.vm.mu.Unlock()
	return maps.Clone(f.run.guestinfoAtStart[f.program])
}

func (f *forkPoint) retain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holders++
}

func (f *forkPoint) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holders--
	if f.holders == 0 && f.snapshot != nil {
		f.run.vm.sim.platform.Release(f.snapshot)
		f.snapshot = nil
	}
}

// origin is how a child came to be.
type origin struct {
	instant    bool // an instant clone, which is of no fork group and its own master
	parent     types.ManagedObjectReference
	group      string
	persistent bool
	forkPoint  *forkPoint
	started    bool // it was powered on
	broken     bool // its parent is gone
}

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
		if rules.is("parent_fork_group_id", "always") || rules.is("parent_fork_group_id", "from-6.5") && vm.sim.version.atLeast(6, 5) {
			info.ParentForkGroupId = vm.forkGroup
		}
	} else if vm.forkGroup != "" && rules.is("disabled_parent_enabled", "false") {
		shown = true
		info.ParentEnabled = types.NewBool(false)
	}
	switch {
	case vm.origin != nil && vm.origin.instant:
		shown = shown || rules.is("instant_clone_fork_config", "child-type-none")
	case vm.origin != nil:
		shown = true
		info.ChildForkGroupId = vm.origin.group
		switch {
		case !vm.origin.persistent:
			info.ChildType = string(types.VirtualMachineForkConfigInfoChildTypeNonpersistent)
		case !vm.origin.started:
			info.ChildType = string(types.VirtualMachineForkConfigInfoChildTypePersistent)
		case rules.is("persistent_child_group", "removed"):
			info.ChildForkGroupId = ""
		}
	case vm.inheritedGroup != "":
		shown = true
		info.ChildForkGroupId = vm.inheritedGroup
	}
	if rules.is("child_fork_group_id", "absent") {
		info.ChildForkGroupId = ""
	}
	if !shown && rules.is("plain_vm_fork_config", "unset") {
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
			fault = withText(&types.NotSupported{}, "A template cannot be a fork parent.")
		case enabled && rules.is("enable_twice", "InvalidState"):
			fault = withText(&types.InvalidState{}, "The virtual machine is enabled as a fork parent already.")
		case child && rules.is("child_as_parent", "NotSupported"):
			fault = withText(&types.NotSupported{}, "A fork child cannot be a fork parent.")
		case on && !toolsRun && rules.is("enable_needs_tools", "yes"):
			fault = &types.ToolsUnavailable{}
		case hasIndependentDisk(v.Config.Hardware.Device) && rules.is("enable_independent_disk", "NotSupported"):
			fault = withText(&types.NotSupported{}, "A virtual machine with an independent disk cannot be a fork parent.")
		default:
			fault = v.placeParent(ctx, host, on)
		}
		if fault != nil {
			return
		}
		vm.mu.Lock()
		vm.enabled = true
		if vm.forkGroup == "" || !enabled && rules.is("fork_group_on_enable", "new") {
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

// placeParent deals with the host that EnableForkParent names. The caller
// holds the VM's lock.
func (v *virtualMachine) placeParent(ctx *simulator.Context, host *types.ManagedObjectReference, on bool) types.BaseMethodFault {
	if host == nil || *host == *v.Runtime.Host || v.sim.rules.is("enable_on_other_host", "ignored") {
		return nil
	}
	target, ok := ctx.Map.Get(*host).(*simulator.HostSystem)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: *host}
	}
	if on || v.sim.rules.is("enable_on_other_host", "InvalidArgument") || *target.Parent != v.sim.computeResourceOf(ctx, *v.ResourcePool) {
		return &types.InvalidArgument{InvalidProperty: "host"}
	}
	moveTo(ctx, v.VirtualMachine, target)
	return nil
}

// moveTo moves a VM to another host. The caller holds the VM's lock.
func moveTo(ctx *simulator.Context, vm *simulator.VirtualMachine, host *simulator.HostSystem) {
	old := ctx.Map.Get(*vm.Runtime.Host).(*simulator.HostSystem)
	ctx.Map.RemoveReference(ctx, old, &old.Vm, vm.Self)
	ctx.Map.AppendReference(ctx, host, &host.Vm, vm.Self)
	ctx.Update(vm, []types.PropertyChange{
		{Name: "runtime.host", Val: host.Self}, {Name: "summary.runtime.host", Val: host.Self},
	})
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
		case !enabled && rules.is("disable_twice", "InvalidState"):
			fault = withText(&types.InvalidState{}, "The virtual machine is not enabled as a fork parent.")
		case quiesced && rules.is("disable_while_quiesced", "InvalidState"):
			fault = withText(&types.InvalidState{}, "The fork parent is quiesced.")
		case children > 0 && rules.is("disable_with_children", "InvalidState"):
			fault = withText(&types.InvalidState{}, fmt.Sprintf("The fork parent has %d children.", children))
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
	if children > 0 && rules.is("disable_with_children", "breaks") {
		v.sim.breakChildren(v.Self)
	}
	return nil
}

// breakChildren takes the memory of a parent's children away.
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

// turnOff powers a VM off without anybody having asked for it.
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

// destroy deletes a VM without anybody having asked for it, and returns when it
// is gone.
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

// computeResource is what a resource pool belongs to.
func (s *Simulator) computeResourceOf(ctx *simulator.Context, pool types.ManagedObjectReference) types.ManagedObjectReference {
	for ref := pool; ; {
		entity, ok := ctx.Map.Get(ref).(mo.Entity)
		if !ok || entity.Entity().Parent == nil {
			return types.ManagedObjectReference{}
		}
		ref = *entity.Entity().Parent
		if ref.Type == "ComputeResource" || ref.Type == "ClusterComputeResource" {
			return ref
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

func splitCIDR(address string) (string, int32) {
	prefix, err := netip.ParsePrefix(address)
	if err != nil {
		return address, 0
	}
	return prefix.Addr().String(), int32(prefix.Bits())
}
