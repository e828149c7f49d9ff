// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"

	"vmforksim/internal/guest"
)

// forkPrefix is where a child finds what it was given.
const forkPrefix = "fork."

func (v *virtualMachine) CreateForkChildTask(ctx *simulator.Context, req *createForkChildRequest) soap.HasFault {
	return &createForkChildBody{Res: v.sim.startTask(ctx, v.VirtualMachine, "createForkChildTask", "CreateForkChild_Task", []string{req.Name},
		func() (types.AnyType, types.BaseMethodFault) {
			child, fault := v.createChild(ctx, req)
			if fault != nil || v.sim.rules.is("create_result", "unset") {
				return nil, fault
			}
			return child, nil
		})}
}

// birth is what a child is made of.
type birth struct {
	spec   types.VirtualMachineConfigSpec
	extra  map[string]string
	secret map[string]string
	vapp   *types.VmConfigInfo
	origin *origin
	folder *simulator.Folder
	pool   types.ManagedObjectReference
	host   types.ManagedObjectReference
}

func (v *virtualMachine) createChild(ctx *simulator.Context, req *createForkChildRequest) (child types.ManagedObjectReference, fault types.BaseMethodFault) {
	var b *birth
	ctx.WithLock(v.VirtualMachine, func() { b, fault = v.conceive(ctx, req) })
	if fault != nil {
		return child, fault
	}
	c := v.sim.newCreation(ctx, b.folder)
	if fault := c.reserve(req.Name); fault != nil {
		c.abandon()
		b.origin.frozen.release()
		return child, fault
	}
	b.spec.Files = &types.VirtualMachineFileInfo{VmPathName: b.spec.Files.VmPathName + fileName(c.name)}
	child, fault = c.create(b.spec, b.pool, &b.host, func(object *simulator.VirtualMachine) { v.sim.born(ctx, object, b) })
	if fault != nil {
		c.abandon()
		b.origin.frozen.release()
	}
	return child, fault
}

// conceive checks the preconditions and takes from the parent what the child
// inherits. The caller holds the parent's lock.
func (v *virtualMachine) conceive(ctx *simulator.Context, req *createForkChildRequest) (*birth, types.BaseMethodFault) {
	vm, rules := v.instance(), v.sim.rules
	vm.mu.Lock()
	enabled, group := vm.enabled, vm.group
	var point *frozen
	if vm.cycle != nil {
		point = vm.cycle.frozen
	}
	vm.mu.Unlock()
	switch {
	case !enabled:
		return nil, withText(&types.InvalidState{}, "The virtual machine is not enabled as a fork parent.")
	case point == nil || point.point() == nil:
		return nil, withText(&types.InvalidState{}, "The fork parent is not quiesced.")
	case req.Spec.Persistent && (v.Snapshot == nil || v.Snapshot.CurrentSnapshot == nil):
		return nil, withText(&types.InvalidState{}, "A persistent child needs a parent with a snapshot.")
	}

	b := &birth{pool: *v.ResourcePool, host: *v.Runtime.Host}
	datastore := v.Datastore[0]
	folder := *v.Parent
	if location := req.Spec.Location; location != nil {
		if location.Pool != nil {
			b.pool = *location.Pool
		}
		if location.Datastore != nil {
			datastore = *location.Datastore
		}
		if location.Folder != nil && rules.is("location_folder", "honoured") {
			folder = *location.Folder
		}
		if len(location.DeviceChange) > 0 {
			return nil, withText(&types.NotSupported{}, "The devices of a fork child cannot be changed while it is created.")
		}
	}
	var ok bool
	if b.folder, ok = ctx.Map.Get(folder).(*simulator.Folder); !ok {
		return nil, &types.ManagedObjectNotFound{Obj: folder}
	}
	if !slices.Contains(b.folder.ChildType, "VirtualMachine") {
		return nil, &types.InvalidArgument{InvalidProperty: "spec.location.folder"}
	}
	host := ctx.Map.Get(b.host).(*simulator.HostSystem)
	if v.sim.computeResource(ctx, b.pool) != *host.Parent {
		return nil, &types.InvalidArgument{InvalidProperty: "spec.location.pool"}
	}
	if !slices.Contains(host.Datastore, datastore) {
		return nil, &types.InvalidArgument{InvalidProperty: "spec.location.datastore"}
	}
	if host.Runtime.InMaintenanceMode {
		return nil, withText(&types.InvalidState{}, "The host of the fork parent is in maintenance mode.")
	}

	if rules.is("child_vapp_config", "copied") {
		b.vapp = vm.options()
	}
	b.extra, b.secret = v.inherit(point, req.Spec.ConfigParams)
	point.hold()
	b.origin = &origin{parent: v.Self, group: group, persistent: req.Spec.Persistent, frozen: point}
	b.spec = types.VirtualMachineConfigSpec{
		GuestId:           v.Config.GuestId,
		Version:           v.Config.Version,
		NumCPUs:           v.Config.Hardware.NumCPU,
		NumCoresPerSocket: v.Config.Hardware.NumCoresPerSocket,
		MemoryMB:          int64(v.Config.Hardware.MemoryMB),
		Files:             &types.VirtualMachineFileInfo{VmPathName: fmt.Sprintf("[%s] ", ctx.Map.Get(datastore).(*simulator.Datastore).Name)},
		DeviceChange:      copiedDevices(v.Config.Hardware.Device),
	}
	return b, nil
}

// inherit returns the child's extraConfig, and the part of its guestinfo that
// only the guest sees. The addresses come later, with the adapters.
func (v *virtualMachine) inherit(point *frozen, params []types.BaseOptionValue) (extra, secret map[string]string) {
	rules := v.sim.rules
	extra, secret = map[string]string{}, map[string]string{}
	for key, value := range point.extraConfig() {
		name, isGuestinfo := strings.CutPrefix(key, guestinfoPrefix)
		switch {
		case isGuestinfo && (strings.HasPrefix(name, forkPrefix) || rules.is("guestinfo_inherited", "no")):
		case !isGuestinfo && rules.is("extra_config_inherited", "no"):
		default:
			extra[key] = value
		}
	}
	for _, param := range params {
		option := param.GetOptionValue()
		v.sim.give(extra, secret, option.Key, fmt.Sprint(option.Value))
	}
	return extra, secret
}

// give puts a value under guestinfo.fork.
func (s *Simulator) give(extra, secret map[string]string, key, value string) {
	if s.rules.is("config_params_visible", "guest-only") {
		secret[forkPrefix+key] = value
	} else {
		extra[guestinfoPrefix+forkPrefix+key] = value
	}
}

// born completes a child before anybody can see it. The caller holds its lock.
func (s *Simulator) born(ctx *simulator.Context, object *simulator.VirtualMachine, b *birth) {
	for number, card := range cardsOf(object.Config.Hardware.Device) {
		s.give(b.extra, b.secret, fmt.Sprintf("ethernet%d.address", number), card.MacAddress)
	}
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	vm.origin = b.origin
	vm.secret = b.secret
	vm.mu.Unlock()
	s.setVApp(ctx, object, b.vapp)
	setExtraConfig(ctx, object, b.extra)
	s.showRuntime(ctx, object)
	s.showFork(ctx, object)
	s.showGuest(ctx, object, guest.State{})
}

// childrenOf returns the fork children of a VM that are there.
func (s *Simulator) childrenOf(parent types.ManagedObjectReference) []*instance {
	var children []*instance
	for _, vm := range s.instances.all() {
		vm.mu.Lock()
		if vm.origin != nil && vm.origin.parent == parent {
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
		if !linked || rules.is("persistent_children_listed", "always") {
			list.ManagedObjectReference = append(list.ManagedObjectReference, child.ref)
		}
	}
	switch {
	case len(list.ManagedObjectReference) > 0:
		return list, nil
	case !enabled && rules.is("children_of_non_parent", "InvalidState"):
		return nil, withText(&types.InvalidState{}, "The virtual machine is not enabled as a fork parent.")
	case rules.is("children_result_empty", "unset"):
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
	born := vm.origin
	vm.mu.Unlock()
	if born == nil && v.sim.rules.is("parent_of_non_child", "InvalidState") {
		return nil, withText(&types.InvalidState{}, "The virtual machine is not a fork child.")
	}
	if born == nil || ctx.Map.Get(born.parent) == nil {
		return nil, nil
	}
	return born.parent, nil
}

// needsOfChild lists the privileges CreateForkChild asks for.
func (s *Simulator) needsOfChild(parent types.ManagedObjectReference, request *createForkChildRequest) []need {
	var needs []need
	if s.rules.is("create_privilege", "ToggleForkParent") {
		needs = append(needs, need{toggleForkParent, parent})
	}
	ctx := s.background()
	object, ok := ctx.Map.Get(parent).(*simulator.VirtualMachine)
	if !ok {
		return needs
	}
	ctx.WithLock(object, func() {
		folder, pool := *object.Parent, *object.ResourcePool
		var datastore types.ManagedObjectReference
		if len(object.Datastore) > 0 {
			datastore = object.Datastore[0]
		}
		if location := request.Spec.Location; location != nil {
			if location.Folder != nil {
				folder = *location.Folder
			}
			if location.Pool != nil {
				pool = *location.Pool
			}
			if location.Datastore != nil {
				datastore = *location.Datastore
			}
		}
		needs = append(needs, need{createExisting, folder}, need{assignToPool, pool}, need{allocateSpace, datastore})
	})
	return needs
}

// copiedDevices are the parent's devices as the spec of a new VM; those that
// every VM has from the start are left out.
func copiedDevices(devices []types.BaseVirtualDevice) []types.BaseVirtualDeviceConfigSpec {
	var changes []types.BaseVirtualDeviceConfigSpec
	standard := object.VirtualDeviceList(esx.VirtualDevice)
	list := object.VirtualDeviceList(copyOf(devices))
	for _, device := range list {
		if standard.Find(list.Name(device)) != nil {
			continue
		}
		change := &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: device}
		if disk, ok := device.(*types.VirtualDisk); ok {
			change.FileOperation = types.VirtualDeviceConfigSpecFileOperationCreate
			if backing, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
				backing.FileName, backing.Uuid, backing.Parent = "", "", nil
			}
		}
		changes = append(changes, change)
	}
	return changes
}

// copyOf copies devices by way of their wire form.
func copyOf(devices []types.BaseVirtualDevice) []types.BaseVirtualDevice {
	var wire bytes.Buffer
	if err := xml.NewEncoder(&wire).Encode(types.ArrayOfVirtualDevice{VirtualDevice: devices}); err != nil {
		panic(err) // a VM's devices came over the wire, or from this program
	}
	decoder := xml.NewDecoder(&wire)
	decoder.TypeFunc = types.TypeFunc()
	var copied types.ArrayOfVirtualDevice
	if err := decoder.Decode(&copied); err != nil {
		panic(err)
	}
	return copied.VirtualDevice
}

var _ mo.Reference = (*virtualMachine)(nil)
