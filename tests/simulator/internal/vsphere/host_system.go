// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// HostSystem: disconnecting and reconnecting a host, as vCenter and its VMs show it.

package vsphere

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// hostSystem overrides methods of a host: VMs on a disconnected host are
// disconnected too.
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

// moveTo moves a VM to another host. The caller holds the VM's lock.
func moveTo(ctx *simulator.Context, vm *simulator.VirtualMachine, host *simulator.HostSystem) {
	old := ctx.Map.Get(*vm.Runtime.Host).(*simulator.HostSystem)
	ctx.Map.RemoveReference(ctx, old, &old.Vm, vm.Self)
	ctx.Map.AppendReference(ctx, host, &host.Vm, vm.Self)
	ctx.Update(vm, []types.PropertyChange{
		{Name: "runtime.host", Val: host.Self}, {Name: "summary.runtime.host", Val: host.Self},
	})
}

// hostNamed finds a host by its name or moid.
func (s *Simulator) hostNamed(name string) *simulator.HostSystem {
	for _, entity := range s.registry().All("HostSystem") {
		if host := entity.(*simulator.HostSystem); host.Name == name || host.Self.Value == name {
			return host
		}
	}
	return nil
}

// hostUser is the user that every ESXi host has.
const hostUser = "root"
