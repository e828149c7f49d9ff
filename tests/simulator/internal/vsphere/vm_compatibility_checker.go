// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// barriers are what keeps vCenter from powering a VM on on a host. The caller
// holds the VM's lock.
func (s *Simulator) powerOnFaults(ctx *simulator.Context, vm *simulator.VirtualMachine, host types.ManagedObjectReference) []types.BaseMethodFault {
	var found []types.BaseMethodFault
	if on, ok := ctx.Map.Get(host).(*simulator.HostSystem); ok && on.Runtime.ConnectionState != types.HostSystemConnectionStateConnected {
		found = append(found, withText(&types.HostNotConnected{}, "Unable to communicate with the remote host, since it is disconnected."))
	} else if state := vm.Runtime.ConnectionState; state != types.VirtualMachineConnectionStateConnected {
		found = append(found, withText(&types.InvalidState{}, "The operation is not allowed while the virtual machine is "+string(state)+"."))
	}
	for _, ref := range vm.Datastore {
		if datastore, ok := ctx.Map.Get(ref).(*simulator.Datastore); ok && !datastore.Summary.Accessible {
			found = append(found, withText(&types.InaccessibleDatastore{
				InvalidDatastore: types.InvalidDatastore{Datastore: &ref, Name: datastore.Name},
			}, "The datastore "+datastore.Name+" is not accessible."))
		}
	}
	return found
}

// undeliverable tries to make a VM's OVF environment; the fault says which
// property cannot be computed. The caller holds the VM's lock.
func (s *Simulator) ovfEnvFault(ctx *simulator.Context, object *simulator.VirtualMachine) types.BaseMethodFault {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	running, nothing := vm.run != nil, vm.vapp == nil || len(vm.vapp.OvfEnvironmentTransport) == 0
	vm.mu.Unlock()
	if nothing {
		return nil
	}
	env, fault := s.newEnvironment(ctx, object)
	if fault == nil && !running { // what a running VM holds it holds on to
		env.release()
	}
	return fault
}

// compatibilityChecker stands in for what answers whether a VM would run.
type compatibilityChecker struct {
	*simulator.VmCompatibilityChecker
	sim *Simulator
}

// CheckPowerOnTask tells what would happen if a VM were powered on, on a host or
// on each that the pool's cluster has.
func (c *compatibilityChecker) CheckPowerOnTask(ctx *simulator.Context, req *types.CheckPowerOn_Task) (body soap.HasFault) {
	vm, ok := ctx.Map.Get(req.Vm).(*simulator.VirtualMachine)
	if !ok {
		return &methods.CheckPowerOn_TaskBody{Fault_: soapFaultOf(&types.ManagedObjectNotFound{Obj: req.Vm})}
	}
	task := simulator.CreateTask(c.VmCompatibilityChecker, "checkPowerOn", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		hosts, fault := c.hosts(ctx, req)
		if fault != nil {
			return nil, fault
		}
		results := types.ArrayOfCheckResult{}
		for _, host := range hosts {
			result := types.CheckResult{Vm: &req.Vm, Host: &host}
			problems := c.sim.powerOnFaults(ctx, vm, host)
			if fault := c.sim.ovfEnvFault(ctx, vm); fault != nil && c.sim.rules.is("check_power_on_properties", "reported") {
				problems = append(problems, fault)
			}
			if on := types.VirtualMachinePowerStatePoweredOn; vm.Runtime.PowerState == on && c.sim.rules.is("check_power_on_running", "InvalidPowerState") {
				problems = append(problems, withText(&types.InvalidPowerState{RequestedState: on, ExistingState: on},
					"The attempted operation cannot be performed in the current state (Powered on)."))
			}
			if injected := c.sim.faults.take("result", "CheckPowerOn_Task", req.Vm.Value, vm.Name); injected != nil {
				problems = append(problems, injected.fault())
			}
			for _, fault := range problems {
				result.Error = append(result.Error, types.LocalizedMethodFault{Fault: fault, LocalizedMessage: textOf(fault)})
			}
			results.CheckResult = append(results.CheckResult, result)
		}
		return results, nil
	})
	ctx.WithLock(vm, func() { // it is the VM's task: only an entity can have one
		body = c.sim.tasks.start(c.Self, &taskPlan{ctx: ctx, method: "CheckPowerOn_Task", entity: vm.Self}, func() soap.HasFault {
			return &methods.CheckPowerOn_TaskBody{Res: &types.CheckPowerOn_TaskResponse{Returnval: task.Run(ctx)}}
		})
	})
	return body
}

// hosts are those that a check is asked for.
func (c *compatibilityChecker) hosts(ctx *simulator.Context, req *types.CheckPowerOn_Task) ([]types.ManagedObjectReference, types.BaseMethodFault) {
	var of []types.ManagedObjectReference
	if req.Pool != nil {
		switch owner := ctx.Map.Get(c.sim.computeResourceOf(ctx, *req.Pool)).(type) {
		case *mo.ComputeResource:
			of = owner.Host
		case *simulator.ClusterComputeResource:
			of = owner.Host
		default:
			return nil, &types.ManagedObjectNotFound{Obj: *req.Pool}
		}
	}
	switch {
	case req.Host == nil && req.Pool == nil:
		return nil, &types.InvalidArgument{InvalidProperty: "host"}
	case req.Host == nil:
		return of, nil
	case ctx.Map.Get(*req.Host) == nil:
		return nil, &types.ManagedObjectNotFound{Obj: *req.Host}
	case req.Pool != nil && !slices.Contains(of, *req.Host):
		return nil, &types.InvalidArgument{InvalidProperty: "pool"}
	}
	return []types.ManagedObjectReference{*req.Host}, nil
}

// hostSystem stands in for a host: what vCenter cannot reach it cannot reach
// the VMs of.
type hostSystem struct {
	*simulator.HostSystem
	sim *Simulator
}

func (h *hostSystem) DisconnectHostTask(ctx *simulator.Context, _ *types.DisconnectHost_Task) soap.HasFault {
	return &methods.DisconnectHost_TaskBody{Res: &types.DisconnectHost_TaskResponse{
		Returnval: h.connect(ctx, "disconnectHost", types.HostSystemConnectionStateDisconnected, types.VirtualMachineConnectionStateDisconnected),
	}}
}

func (h *hostSystem) ReconnectHostTask(ctx *simulator.Context, _ *types.ReconnectHost_Task) soap.HasFault {
	return &methods.ReconnectHost_TaskBody{Res: &types.ReconnectHost_TaskResponse{
		Returnval: h.connect(ctx, "reconnectHost", types.HostSystemConnectionStateConnected, types.VirtualMachineConnectionStateConnected),
	}}
}

func (h *hostSystem) connect(ctx *simulator.Context, id string, host types.HostSystemConnectionState, vms types.VirtualMachineConnectionState) types.ManagedObjectReference {
	return simulator.CreateTask(h.HostSystem, id, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		ctx.Update(h.HostSystem, []types.PropertyChange{
			{Name: "runtime.connectionState", Val: host}, {Name: "summary.runtime.connectionState", Val: host},
		})
		if host == types.HostSystemConnectionStateConnected {
			h.sim.reconnected(h.Self)
		} else {
			h.sim.events.disconnected(h.Self)
		}
		refs := slices.Clone(h.Vm)
		withoutLock(ctx, h.Self, func() { // a VM's lock is taken before its host's
			for _, ref := range refs {
				h.sim.instances.of(ref).update(func(ctx *simulator.Context, vm *simulator.VirtualMachine) { showConnection(ctx, vm, vms) })
			}
		})
		return nil, nil
	}).Run(ctx)
}

func showConnection(ctx *simulator.Context, vm *simulator.VirtualMachine, state types.VirtualMachineConnectionState) {
	ctx.Update(vm, []types.PropertyChange{
		{Name: "runtime.connectionState", Val: state}, {Name: "summary.runtime.connectionState", Val: state},
	})
}

// ipPoolManager stands in for the manager of IP pools, which clients make.
type ipPoolManager struct {
	*simulator.IpPoolManager
}

func (m *ipPoolManager) CreateIpPool(ctx *simulator.Context, req *types.CreateIpPool) (body soap.HasFault) {
	completePool(ctx, &req.Pool, func() { body = m.IpPoolManager.CreateIpPool(req) })
	if made := body.(*methods.CreateIpPoolBody).Res; made != nil {
		req.Pool.Id = made.Returnval // the manager keeps the request's pool
	}
	return body
}

func (m *ipPoolManager) UpdateIpPool(ctx *simulator.Context, req *types.UpdateIpPool) (body soap.HasFault) {
	completePool(ctx, &req.Pool, func() { body = m.IpPoolManager.UpdateIpPool(req) })
	return body
}

// completePool gives a pool the names of its networks. govmomi's simulator
// wants a range of addresses, which a pool need not have, and keeps what it is
// given.
func completePool(ctx *simulator.Context, pool *types.IpPool, enter func()) {
	for i := range pool.NetworkAssociation {
		association := &pool.NetworkAssociation[i]
		if association.Network != nil {
			if network, ok := ctx.Map.Get(*association.Network).(mo.Entity); ok {
				association.NetworkName = network.Entity().Name
			}
		}
	}
	for config, none := range map[*types.IpPoolIpPoolConfigInfo]string{pool.Ipv4Config: "0.0.0.0#0", pool.Ipv6Config: "::#0"} {
		if config != nil && config.Range == "" {
			config.Range = none
			defer func() { config.Range = "" }()
		}
	}
	enter()
}
