// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"fmt"
	"path"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// creation makes a VM out of the clients' sight, in a folder of its own that
// is no child of anything, and shows it when it is complete. So no client, and
// none of the simulator's look-ups by name, meets a half-made VM.
type creation struct {
	sim     *Simulator
	ctx     *simulator.Context
	folder  *simulator.Folder // where the VM belongs
	staging *simulator.Folder
	name    string // as the inventory holds it

	vapp        *types.VmConfigInfo // its vApp options
	injected    string              // what its guest finds as guestinfo.ovfEnv
	reservation *portReservation    // of ports for its adapters

	opaque map[int32]*types.VirtualEthernetCardOpaqueNetworkBackingInfo // of its adapters, by their keys
}

// newCreation prepares the staging folder.
func (s *Simulator) newCreation(ctx *simulator.Context, folder *simulator.Folder) *creation {
	staging := &simulator.Folder{}
	staging.Name = "staging"
	staging.ChildType = []string{"VirtualMachine"}
	staging.Parent = &folder.Self
	s.registry().Put(staging)
	return &creation{sim: s, ctx: ctx, folder: folder, staging: staging}
}

// reserve checks the name and keeps it until finish or abandon.
func (c *creation) reserve(name string) types.BaseMethodFault {
	escaped, fault := c.sim.freeName(c.ctx, c.folder, name)
	if fault != nil {
		return fault
	}
	if fault := c.sim.names.reserve(c.folder.Self, escaped); fault != nil {
		return fault
	}
	c.name = escaped
	return nil
}

// freeName checks a name for a VM in a folder and returns it as the inventory
// holds it.
func (s *Simulator) freeName(ctx *simulator.Context, folder *simulator.Folder, name string) (string, types.BaseMethodFault) {
	escaped, fault := inventoryName(name)
	if fault != nil {
		return "", fault
	}
	ref, taken := s.names.find(folder.Self, escaped)
	if !taken {
		ref, taken = s.childWithName(ctx, folder, escaped)
	}
	if taken {
		return "", &types.DuplicateName{Name: escaped, Object: ref}
	}
	return escaped, nil
}

// abandon takes back what reserve and newCreation did.
func (c *creation) abandon() {
	if c.name != "" {
		c.sim.names.release(c.folder.Self, c.name)
	}
	c.reservation.release()
	c.sim.registry().Remove(c.ctx, c.staging.Self)
}

// create makes the VM from a spec; complete is called under the VM's lock
// before anybody can see it.
func (c *creation) create(spec types.VirtualMachineConfigSpec, pool types.ManagedObjectReference, host *types.ManagedObjectReference, complete func(*simulator.VirtualMachine)) (types.ManagedObjectReference, types.BaseMethodFault) {
	var ref types.ManagedObjectReference
	fault := c.prepare(&spec)
	if fault != nil {
		return ref, fault
	}
	created := make(chan struct{})
	plan := &taskPlan{ctx: c.ctx, usesFiles: true, nested: true,
		after: func(result types.AnyType, problem types.BaseMethodFault) (types.AnyType, types.BaseMethodFault) {
			defer close(created)
			if fault = problem; fault == nil {
				ref = result.(types.ManagedObjectReference)
			}
			return result, problem
		},
	}
	c.sim.tasks.start(c.staging.Self, plan, func() soap.HasFault {
		return c.staging.CreateVMTask(c.ctx, &types.CreateVM_Task{This: c.staging.Self, Config: spec, Pool: pool, Host: host})
	})
	<-created
	if fault == nil {
		c.finish(ref, complete)
	}
	return ref, fault
}

// prepare gives a spec what must be its own: file names without special
// characters, and UUIDs, MAC addresses and ports nobody else has.
func (c *creation) prepare(spec *types.VirtualMachineConfigSpec) (fault types.BaseMethodFault) {
	c.injected, _ = takeOVFEnv(spec)
	c.vapp, fault = c.sim.rules.changedVApp(nil, spec.VAppConfig, nil)
	spec.VAppConfig = nil
	spec.Name = fileName(c.name)
	if spec.Uuid == "" {
		spec.Uuid = uuid.NewString()
	}
	if spec.InstanceUuid == "" {
		spec.InstanceUuid = uuid.NewString()
	}
	if fault != nil {
		return fault
	}
	cards := c.sim.newCards(nil, spec.DeviceChange)
	c.opaque = map[int32]*types.VirtualEthernetCardOpaqueNetworkBackingInfo{}
	for _, card := range cards {
		if backing, ok := card.Backing.(*types.VirtualEthernetCardOpaqueNetworkBackingInfo); ok {
			card.Backing = c.sim.segmentBacking(c.ctx, backing)
			if card.Backing == types.BaseVirtualDeviceBackingInfo(backing) {
				c.opaque[card.Key] = backing
			}
		}
	}
	c.reservation, fault = c.sim.ports.reserve(types.ManagedObjectReference{}, cards)
	return fault
}

// finish completes a new VM and moves it to where it belongs.
func (c *creation) finish(ref types.ManagedObjectReference, complete func(*simulator.VirtualMachine)) {
	vm := c.ctx.Map.Get(ref).(*simulator.VirtualMachine)
	c.ctx.WithLock(c.folder, func() {
		c.ctx.WithLock(vm, func() {
			setName(c.ctx, vm, c.name)
			c.sim.fillEnumerations(vm)
			c.sim.setVApp(c.ctx, vm, c.vapp)
			c.sim.instances.of(ref).setInjected(c.injected)
			c.sim.showParent(c.ctx, vm)
			if complete != nil {
				complete(vm)
			}
			for _, card := range cardsOf(vm.Config.Hardware.Device) { // nobody has seen the devices
				if backing := c.opaque[card.Key]; backing != nil { // govmomi puts them all on port groups
					card.Backing = backing
				}
			}
			if c.reservation != nil {
				c.reservation.assign(ref, cardsOf(vm.Config.Hardware.Device))
			}
			vm.Network = c.sim.describeCards(c.ctx, vm.Config.Hardware.Device)
			c.sim.names.put(ref, c.folder.Self, c.name)
			c.folder.ChildEntity = append(c.folder.ChildEntity, ref)
			c.ctx.Map.PutEntity(c.folder, vm)
			c.sim.esx.sync(&vm.VirtualMachine)
		})
	})
	c.abandon()
}

// setName publishes a VM's name. The caller holds the lock.
func setName(ctx *simulator.Context, vm *simulator.VirtualMachine, name string) {
	ctx.Update(vm, []types.PropertyChange{
		{Name: "name", Val: name},
		{Name: "config.name", Val: name},
		{Name: "summary.config.name", Val: name},
	})
}

// repair sets the enumerations that pyVmomi cannot read when they are empty,
// and the guest's name for people.
func (s *Simulator) fillEnumerations(vm *simulator.VirtualMachine) {
	for _, runtime := range []*types.VirtualMachineRuntimeInfo{&vm.Runtime, &vm.Summary.Runtime} {
		runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateNotConfigured
		runtime.RecordReplayState = types.VirtualMachineRecordReplayStateInactive
	}
	if vm.Config.GuestId == string(guestID) {
		vm.Config.GuestFullName, vm.Summary.Config.GuestFullName = guestFullName, guestFullName
	}
}

// assignMAC gives an adapter an address of vCenter's range, unless a person
// chose one.
func (s *Simulator) assignMAC(card *types.VirtualEthernetCard) {
	if card.AddressType == string(types.VirtualEthernetCardMacTypeManual) && card.MacAddress != "" {
		return
	}
	number := atomic.AddUint32(&s.lastMAC, 1)
	card.AddressType = string(types.VirtualEthernetCardMacTypeAssigned)
	card.MacAddress = fmt.Sprintf("00:50:56:%02x:%02x:%02x", 0x80|number>>16&0x3f, number>>8&0xff, number&0xff)
}

// vmFolder stands in for a folder: VMs are created out of sight.
type vmFolder struct {
	*simulator.Folder
	sim *Simulator
}

func (f *vmFolder) CreateVMTask(ctx *simulator.Context, req *types.CreateVM_Task) soap.HasFault {
	c := f.sim.newCreation(ctx, f.Folder)
	name := req.Config.Name
	plan := c.plan("CreateVM_Task", f.Self, func() types.BaseMethodFault {
		if fault := c.reserve(name); fault != nil {
			return fault
		}
		return c.prepare(&req.Config)
	})
	return f.sim.tasks.start(c.staging.Self, plan, func() soap.HasFault { return c.staging.CreateVMTask(ctx, req) })
}

func (f *vmFolder) RegisterVMTask(ctx *simulator.Context, req *types.RegisterVM_Task) soap.HasFault {
	c := f.sim.newCreation(ctx, f.Folder)
	name := req.Name
	if name == "" { // that of the file
		_, file, _ := strings.Cut(req.Path, "] ")
		name = strings.TrimSuffix(path.Base(file), ".vmx")
	}
	plan := c.plan("RegisterVM_Task", f.Self, func() types.BaseMethodFault {
		if fault := c.reserve(name); fault != nil {
			return fault
		}
		req.Name = fileName(c.name)
		return nil
	})
	return f.sim.tasks.start(c.staging.Self, plan, func() soap.HasFault { return c.staging.RegisterVMTask(ctx, req) })
}

// plan is that of a task whose method creates a VM in the staging folder.
func (c *creation) plan(method string, entity types.ManagedObjectReference, reserve func() types.BaseMethodFault) *taskPlan {
	return &taskPlan{
		ctx: c.ctx, method: method, entity: entity, ownLocks: true, usesFiles: true,
		before: func() types.BaseMethodFault {
			fault := reserve()
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
			c.finish(result.(types.ManagedObjectReference), nil)
			return result, nil
		},
	}
}

func (f *vmFolder) MoveIntoFolderTask(ctx *simulator.Context, req *types.MoveIntoFolder_Task) soap.HasFault {
	return f.sim.tasks.start(f.Self, &taskPlan{
		ctx: ctx, method: "MoveIntoFolder_Task",
		before: func() types.BaseMethodFault {
			for _, ref := range req.List {
				name := f.sim.names.of(ref.Value)
				if other, ok := f.sim.names.find(f.Self, name); ok && name != "" && other != ref {
					return &types.DuplicateName{Name: name, Object: other}
				}
			}
			return nil
		},
		after: func(result types.AnyType, fault types.BaseMethodFault) (types.AnyType, types.BaseMethodFault) {
			if fault != nil {
				return nil, fault
			}
			for _, ref := range req.List {
				if name := f.sim.names.of(ref.Value); name != "" {
					f.sim.names.put(ref, f.Self, name)
				}
			}
			return result, nil
		},
	}, func() soap.HasFault { return f.Folder.MoveIntoFolderTask(ctx, req) })
}
