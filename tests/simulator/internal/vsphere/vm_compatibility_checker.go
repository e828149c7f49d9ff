// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// VmCompatibilityChecker: CheckPowerOn_Task.

package vsphere

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

// powerOnFaults returns the faults that prevent vCenter from powering on a VM
// on a host. The caller holds the VM's lock.
func (s *Simulator) powerOnFaults(ctx *simulator.Context, vm *simulator.VirtualMachine, host types.ManagedObjectReference) []types.BaseMethodFault {
	var found []types.BaseMethodFault
	if on, ok := ctx.Map.Get(host).(*simulator.HostSystem); ok && on.Runtime.ConnectionState != types.HostSystemConnectionStateConnected {
		found = append(found, vimfault.WithText(&types.HostNotConnected{}, "Unable to communicate with the remote host, since it is disconnected."))
	} else if state := vm.Runtime.ConnectionState; state != types.VirtualMachineConnectionStateConnected {
		found = append(found, vimfault.WithText(&types.InvalidState{}, "The operation is not allowed while the virtual machine is "+string(state)+"."))
	}
	for _, ref := range vm.Datastore {
		if datastore, ok := ctx.Map.Get(ref).(*simulator.Datastore); ok && !datastore.Summary.Accessible {
			found = append(found, vimfault.WithText(&types.InaccessibleDatastore{
				InvalidDatastore: types.InvalidDatastore{Datastore: &ref, Name: datastore.Name},
			}, "The datastore "+datastore.Name+" is not accessible."))
		}
	}
	return found
}

// ovfEnvFault tries to create a VM's OVF environment; the fault names the
// property that cannot be computed. The caller holds the VM's lock.
func (s *Simulator) ovfEnvFault(ctx *simulator.Context, object *simulator.VirtualMachine) types.BaseMethodFault {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	running, nothing := vm.run != nil, vm.vapp == nil || len(vm.vapp.OvfEnvironmentTransport) == 0
	vm.mu.Unlock()
	if nothing {
		return nil
	}
	env, fault := s.newEnvironment(ctx, object)
	if fault == nil && !running { // a running VM keeps its addresses
		env.Release()
	}
	return fault
}

// compatibilityChecker overrides methods of the checker that reports whether a
// VM could run.
type compatibilityChecker struct {
	*simulator.VmCompatibilityChecker
	sim *Simulator
}

// CheckPowerOnTask reports what would happen if a VM were powered on, on a host
// or on each host of the pool's cluster.
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
			if fault := c.sim.ovfEnvFault(ctx, vm); fault != nil && c.sim.rules.Is("check_power_on_properties", "reported") {
				problems = append(problems, fault)
			}
			if on := types.VirtualMachinePowerStatePoweredOn; vm.Runtime.PowerState == on && c.sim.rules.Is("check_power_on_running", "InvalidPowerState") {
				problems = append(problems, vimfault.WithText(&types.InvalidPowerState{RequestedState: on, ExistingState: on},
					"The attempted operation cannot be performed in the current state (Powered on)."))
			}
			if injected := c.sim.faults.take("result", "CheckPowerOn_Task", req.Vm.Value, vm.Name); injected != nil {
				problems = append(problems, injected.fault())
			}
			for _, fault := range problems {
				result.Error = append(result.Error, types.LocalizedMethodFault{Fault: fault, LocalizedMessage: vimfault.Text(fault)})
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

// hosts returns the hosts to check.
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
