// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Creation of a VM in a staging folder, hidden from clients until it is
// complete.

package vsphere

import (
	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/ovfenv"
)

// creation creates a VM hidden from clients, in a detached folder of its own,
// and publishes it when it is complete. So neither clients nor the simulator's
// lookups by name see an incomplete VM.
type creation struct {
	sim     *Simulator
	ctx     *simulator.Context
	folder  *simulator.Folder // the final folder of the VM
	staging *simulator.Folder
	name    string // as the inventory holds it

	vapp        *types.VmConfigInfo // its vApp options
	injected    string              // guestinfo.ovfEnv for its guest
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

// freeName checks a name for a VM in a folder and returns it as stored in the
// inventory.
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

// abandon undoes reserve and newCreation.
func (c *creation) abandon() {
	if c.name != "" {
		c.sim.names.release(c.folder.Self, c.name)
	}
	c.reservation.release()
	c.sim.registry().Remove(c.ctx, c.staging.Self)
}

// create creates the VM from a spec; complete is called under the VM's lock
// before clients can see it.
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

// prepare sets what must be unique in a spec: file names without special
// characters, UUIDs, MAC addresses and ports.
func (c *creation) prepare(spec *types.VirtualMachineConfigSpec) (fault types.BaseMethodFault) {
	c.injected, _ = takeOVFEnv(spec)
	c.vapp, fault = ovfenv.ApplySpec(c.sim.rules, nil, spec.VAppConfig, nil)
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

// finish completes a new VM and moves it to its folder.
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

// fillEnumerations sets the enumerations that pyVmomi cannot parse when they
// are empty, and the name of the guest.
func (s *Simulator) fillEnumerations(vm *simulator.VirtualMachine) {
	for _, runtime := range []*types.VirtualMachineRuntimeInfo{&vm.Runtime, &vm.Summary.Runtime} {
		runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateNotConfigured
		runtime.RecordReplayState = types.VirtualMachineRecordReplayStateInactive
	}
	if vm.Config.GuestId == string(guestID) {
		vm.Config.GuestFullName, vm.Summary.Config.GuestFullName = guestFullName, guestFullName
	}
}

// plan returns the plan of a task whose method creates a VM in the staging
// folder.
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
