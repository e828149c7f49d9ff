// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// CreateForkChild, RetrieveForkChildren and RetrieveForkParent; the spec of a
// child of either kind.

package vsphere

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
	"vmforksim/internal/vimfault"
)

// forkPrefix is the prefix of the values given to a child.
const forkPrefix = "fork."

func (v *virtualMachine) CreateForkChildTask(ctx *simulator.Context, req *createForkChildRequest) soap.HasFault {
	return &createForkChildBody{Res: v.sim.startTask(ctx, v.VirtualMachine, "createForkChildTask", "CreateForkChild_Task", []string{req.Name},
		func() (types.AnyType, types.BaseMethodFault) {
			child, fault := v.createChild(ctx, req)
			if fault != nil || v.sim.rules.Is("create_result", "unset") {
				return nil, fault
			}
			return child, nil
		})}
}

// childSpec describes a child of either kind.
type childSpec struct {
	spec           types.VirtualMachineConfigSpec
	extra          map[string]string
	secret         map[string]string
	vapp           *types.VmConfigInfo
	deltas         int            // disks between its base disk and its own
	connectedCards map[int32]bool // see instance
	origin         *origin
	folder         *simulator.Folder
	pool           types.ManagedObjectReference
	host           types.ManagedObjectReference
}

func (v *virtualMachine) createChild(ctx *simulator.Context, req *createForkChildRequest) (child types.ManagedObjectReference, fault types.BaseMethodFault) {
	var b *childSpec
	ctx.WithLock(v.VirtualMachine, func() { b, fault = v.validateForkChild(ctx, req) })
	if fault != nil {
		return child, fault
	}
	return v.createFromSpec(ctx, b, req.Name)
}

// createFromSpec creates the child.
func (v *virtualMachine) createFromSpec(ctx *simulator.Context, b *childSpec, name string) (child types.ManagedObjectReference, fault types.BaseMethodFault) {
	c := v.sim.newCreation(ctx, b.folder)
	if fault := c.reserve(name); fault != nil {
		c.abandon()
		b.origin.forkPoint.release()
		return child, fault
	}
	b.spec.Files = &types.VirtualMachineFileInfo{VmPathName: b.spec.Files.VmPathName + fileName(c.name)}
	child, fault = c.create(b.spec, b.pool, &b.host, func(object *simulator.VirtualMachine) { v.sim.completeChild(ctx, object, b) })
	if fault != nil {
		c.abandon()
		b.origin.forkPoint.release()
	}
	return child, fault
}

// validateForkChild checks the preconditions and collects what a fork child
// inherits from the parent. The caller holds the parent's lock.
func (v *virtualMachine) validateForkChild(ctx *simulator.Context, req *createForkChildRequest) (*childSpec, types.BaseMethodFault) {
	vm, rules := v.instance(), v.sim.rules
	vm.mu.Lock()
	enabled, group := vm.enabled, vm.forkGroup
	var point *forkPoint
	if vm.run != nil {
		point = vm.run.forkPoint
	}
	vm.mu.Unlock()
	switch {
	case !enabled:
		return nil, vimfault.WithText(&types.InvalidState{}, "The virtual machine is not enabled as a fork parent.")
	case point == nil || point.instant || point.guestSnapshot() == nil:
		return nil, vimfault.WithText(&types.InvalidState{}, "The fork parent is not quiesced.")
	case req.Spec.Persistent && (v.Snapshot == nil || v.Snapshot.CurrentSnapshot == nil):
		return nil, vimfault.WithText(&types.InvalidState{}, "A persistent child needs a parent with a snapshot.")
	}

	location := types.VirtualMachineRelocateSpec{}
	if req.Spec.Location != nil {
		location = *req.Spec.Location
	}
	if len(location.DeviceChange) > 0 {
		return nil, vimfault.WithText(&types.NotSupported{}, "The devices of a fork child cannot be changed while it is created.")
	}
	folder := *v.Parent
	if location.Folder != nil && rules.Is("location_folder", "honoured") {
		folder = *location.Folder
	}
	b, problems := v.newChildSpec(ctx, location, folder, withoutPorts(cloneDevices(v.Config.Hardware.Device)))
	if len(problems) > 0 {
		return nil, problems[0].fault
	}
	b.extra, b.secret = v.inheritedExtraConfig(point), map[string]string{}
	for key := range b.extra {
		if strings.HasPrefix(key, guestinfoPrefix+forkPrefix) {
			delete(b.extra, key)
		}
	}
	for _, param := range req.Spec.ConfigParams {
		option := param.GetOptionValue()
		v.sim.setForkParam(b.extra, b.secret, option.Key, fmt.Sprint(option.Value))
	}
	point.retain()
	b.origin = &origin{parent: v.Self, group: group, persistent: req.Spec.Persistent, forkPoint: point}
	return b, nil
}

// problem is the reason why a child cannot be created, and the group of tests
// that finds it.
type problem struct {
	test  types.CheckTestType
	fault types.BaseMethodFault
}

// newChildSpec returns the hardware of a child with these devices, on its
// parent's host unless location says otherwise. The caller holds the parent's
// lock.
func (v *virtualMachine) newChildSpec(ctx *simulator.Context, location types.VirtualMachineRelocateSpec, folder types.ManagedObjectReference, devices []types.BaseVirtualDevice) (*childSpec, []problem) {
	b := &childSpec{pool: v.sim.childPool(ctx, v.VirtualMachine, location), host: *v.Runtime.Host}
	datastore := v.Datastore[0]
	if location.Datastore != nil {
		datastore = *location.Datastore
	}
	var problems []problem
	found := func(test types.CheckTestType, fault types.BaseMethodFault) {
		problems = append(problems, problem{test, fault})
	}
	var ok bool
	if b.folder, ok = ctx.Map.Get(folder).(*simulator.Folder); !ok {
		found(types.CheckTestTypeSourceTests, &types.ManagedObjectNotFound{Obj: folder})
	} else if !slices.Contains(b.folder.ChildType, "VirtualMachine") {
		found(types.CheckTestTypeSourceTests, &types.InvalidArgument{InvalidProperty: "spec.location.folder"})
	}
	host := ctx.Map.Get(b.host).(*simulator.HostSystem)
	if ok && v.sim.datacenterOf(b.folder) != v.sim.datacenterOf(host) {
		found(types.CheckTestTypeSourceTests, &types.InvalidArgument{InvalidProperty: "spec.location.folder"})
	}
	if v.sim.computeResourceOf(ctx, b.pool) != *host.Parent {
		found(types.CheckTestTypeResourcePoolTests, &types.InvalidArgument{InvalidProperty: "spec.location.pool"})
	}
	if !slices.Contains(host.Datastore, datastore) {
		found(types.CheckTestTypeDatastoreTests, &types.InvalidArgument{InvalidProperty: "spec.location.datastore"})
	}
	if host.Runtime.InMaintenanceMode {
		found(types.CheckTestTypeHostTests, vimfault.WithText(&types.InvalidState{}, "The host of the virtual machine is in maintenance mode."))
	}
	problems = append(problems, v.lackOfRoom(ctx, b.pool, datastore)...)
	if len(problems) > 0 {
		return b, problems
	}
	if v.sim.rules.Is("child_vapp_config", "copied") {
		b.vapp = v.instance().options()
	}
	b.spec = types.VirtualMachineConfigSpec{
		GuestId:           v.Config.GuestId,
		Version:           v.Config.Version,
		NumCPUs:           v.Config.Hardware.NumCPU,
		NumCoresPerSocket: v.Config.Hardware.NumCoresPerSocket,
		MemoryMB:          int64(v.Config.Hardware.MemoryMB),
		Files:             &types.VirtualMachineFileInfo{VmPathName: fmt.Sprintf("[%s] ", ctx.Map.Get(datastore).(*simulator.Datastore).Name)},
		DeviceChange:      copiedDevices(devices, v.sim.rules.Is("child_disk_backing", "linked")),
	}
	return b, nil
}

// inheritedExtraConfig returns the part of the parent's extraConfig that a
// child inherits.
func (v *virtualMachine) inheritedExtraConfig(point *forkPoint) map[string]string {
	rules, extra := v.sim.rules, point.extraConfig()
	for key := range extra {
		rule := "extra_config_inherited"
		if strings.HasPrefix(key, guestinfoPrefix) {
			rule = "guestinfo_inherited"
		}
		if rules.Is(rule, "no") {
			delete(extra, key)
		}
	}
	return extra
}

// setForkParam puts a value under guestinfo.fork.
func (s *Simulator) setForkParam(extra, secret map[string]string, key, value string) {
	if s.rules.Is("config_params_visible", "guest-only") {
		secret[forkPrefix+key] = value
	} else {
		extra[guestinfoPrefix+forkPrefix+key] = value
	}
}

// completeChild completes a child before clients can see it. The caller holds
// its lock.
func (s *Simulator) completeChild(ctx *simulator.Context, object *simulator.VirtualMachine, b *childSpec) {
	if !b.origin.instant {
		for number, card := range cardsOf(object.Config.Hardware.Device) {
			s.setForkParam(b.extra, b.secret, fmt.Sprintf("ethernet%d.address", number), card.MacAddress)
		}
	}
	interfaces := s.instances.of(b.origin.parent).interfaces()
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	vm.tools.Interfaces = interfaces
	vm.origin = b.origin
	vm.guestOnly = b.secret
	vm.deltas, vm.connectedCards = b.deltas, b.connectedCards
	vm.mu.Unlock()
	s.setVApp(ctx, object, b.vapp)
	setExtraConfig(ctx, object, b.extra)
	s.showChain(ctx, object)
	s.showRuntime(ctx, object)
	s.showFork(ctx, object)
	s.showGuest(ctx, object, guest.State{})
}

// childrenOf returns the existing fork children of a VM.
func (s *Simulator) childrenOf(parent types.ManagedObjectReference) []*instance {
	var children []*instance
	for _, vm := range s.instances.all() {
		vm.mu.Lock()
		if vm.origin != nil && !vm.origin.instant && vm.origin.parent == parent {
			children = append(children, vm)
		}
		vm.mu.Unlock()
	}
	slices.SortFunc(children, func(a, b *instance) int { return compareMoids(a.ref.Value, b.ref.Value) })
	return children
}

// compareMoids orders vm-9 before vm-10.
func compareMoids(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

func (v *virtualMachine) RetrieveForkChildrenTask(ctx *simulator.Context, _ *retrieveForkChildrenRequest) soap.HasFault {
	return &retrieveForkChildrenBody{Res: v.sim.startTask(ctx, v.VirtualMachine, "retrieveForkChildrenTask", "RetrieveForkChildren_Task", nil, v.listChildren)}
}

func (v *virtualMachine) listChildren() (types.AnyType, types.BaseMethodFault) {
	vm, rules := v.instance(), v.sim.rules
	vm.mu.Lock()
	enabled := vm.enabled
	vm.mu.Unlock()
	list := &types.ArrayOfManagedObjectReference{}
	for _, child := range v.sim.childrenOf(v.Self) {
		child.mu.Lock()
		linked := child.origin.persistent && child.origin.started
		child.mu.Unlock()
		if !linked || rules.Is("persistent_children_listed", "always") {
			list.ManagedObjectReference = append(list.ManagedObjectReference, child.ref)
		}
	}
	switch {
	case len(list.ManagedObjectReference) > 0:
		return list, nil
	case !enabled && rules.Is("children_of_non_parent", "InvalidState"):
		return nil, vimfault.WithText(&types.InvalidState{}, "The virtual machine is not enabled as a fork parent.")
	case rules.Is("children_result_empty", "unset"):
		return nil, nil
	}
	return list, nil
}

func (v *virtualMachine) RetrieveForkParentTask(ctx *simulator.Context, _ *retrieveForkParentRequest) soap.HasFault {
	return &retrieveForkParentBody{Res: v.sim.startTask(ctx, v.VirtualMachine, "retrieveForkParentTask", "RetrieveForkParent_Task", nil,
		func() (types.AnyType, types.BaseMethodFault) { return v.findParent(ctx) })}
}

func (v *virtualMachine) findParent(ctx *simulator.Context) (types.AnyType, types.BaseMethodFault) {
	vm := v.instance()
	vm.mu.Lock()
	origin := vm.origin
	vm.mu.Unlock()
	if origin != nil && origin.instant {
		origin = nil
	}
	if origin == nil && v.sim.rules.Is("parent_of_non_child", "InvalidState") {
		return nil, vimfault.WithText(&types.InvalidState{}, "The virtual machine is not a fork child.")
	}
	if origin == nil || ctx.Map.Get(origin.parent) == nil {
		return nil, nil
	}
	return origin.parent, nil
}

// forkChildPrivileges lists the privileges that CreateForkChild requires.
func (s *Simulator) forkChildPrivileges(parent types.ManagedObjectReference, request *createForkChildRequest) []requiredPrivilege {
	var required []requiredPrivilege
	if s.rules.Is("create_privilege", "ToggleForkParent") {
		required = append(required, requiredPrivilege{toggleForkParent, parent})
	}
	ctx := s.background()
	object, ok := ctx.Map.Get(parent).(*simulator.VirtualMachine)
	if !ok {
		return required
	}
	ctx.WithLock(object, func() {
		folder, location := *object.Parent, types.VirtualMachineRelocateSpec{}
		if request.Spec.Location != nil {
			location = *request.Spec.Location
		}
		if location.Folder != nil {
			folder = *location.Folder
		}
		required = append(required, s.placementPrivileges(ctx, object, location, folder)...)
	})
	return required
}

// childPool returns the resource pool, or vApp, for a child of a VM. The caller
// holds the VM's lock.
func (s *Simulator) childPool(ctx *simulator.Context, parent *simulator.VirtualMachine, location types.VirtualMachineRelocateSpec) types.ManagedObjectReference {
	if location.Pool != nil {
		return *location.Pool
	}
	pool := *parent.ResourcePool
	for s.rules.Is("child_of_vapp_member", "pool") {
		vApp, ok := ctx.Map.Get(pool).(*simulator.VirtualApp)
		if !ok {
			break
		}
		pool = *vApp.Parent
	}
	return pool
}

// placementPrivileges lists the privileges for placing a child of a VM. The
// caller holds the VM's lock.
func (s *Simulator) placementPrivileges(ctx *simulator.Context, parent *simulator.VirtualMachine, location types.VirtualMachineRelocateSpec, folder types.ManagedObjectReference) []requiredPrivilege {
	pool := s.childPool(ctx, parent, location)
	var datastore types.ManagedObjectReference
	if len(parent.Datastore) > 0 {
		datastore = parent.Datastore[0]
	}
	if location.Datastore != nil {
		datastore = *location.Datastore
	}
	return []requiredPrivilege{{createExisting, folder}, {assignToPool, pool}, {allocateSpace, datastore}}
}

var _ mo.Reference = (*virtualMachine)(nil)
