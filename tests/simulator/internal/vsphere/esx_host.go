// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The ESXi endpoint: a host's own API over replicas of its VMs.

package vsphere

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

// esxHost is one of vCenter's hosts as it answers clients that connect to the
// host directly. It has its own inventory with its own managed object IDs: a
// replica of each VM that vCenter has on this host. A replica follows every
// change of its VM. A power operation on a replica is applied to the VM, and
// vCenter is notified.
type esxHost struct {
	sim      *Simulator
	host     types.ManagedObjectReference // in vCenter
	model    *simulator.Model
	listener net.Listener
	server   *http.Server

	// Locked after a VM's lock and before a replica's. A call on a replica does
	// not hold the replica's lock.
	mu       sync.Mutex
	replicas map[types.ManagedObjectReference]*simulator.VirtualMachine // by the VM in vCenter
	moids    int
}

// startESX starts the ESXi endpoint, if one is configured, before there is any
// VM. Its certificate is that of the hosts.
func (s *Simulator) startESX() error {
	if s.options.ESXListen == "" {
		return nil
	}
	host := s.hostNamed(s.options.ESXHost)
	if host == nil {
		return fmt.Errorf("-esx-host: there is no host %q", s.options.ESXHost)
	}
	e := &esxHost{sim: s, host: host.Self, model: simulator.ESX(), replicas: map[types.ManagedObjectReference]*simulator.VirtualMachine{}}
	s.esx = e
	e.model.Machine = 0
	if err := s.create(e.model, "VMware ESXi"); err != nil {
		return err
	}
	var err error
	if e.listener, err = net.Listen("tcp", s.options.ESXListen); err != nil {
		return err
	}
	service := e.model.Service
	service.ServeMux = http.NewServeMux()
	s.connect(service, e.listener.Addr().String(), s.hosts)
	registry := e.registry()
	registry.SessionManager().ValidLogin = e.validLogin
	registry.Handler = e.dispatch
	registry.AddHandler(esxObserver{e})
	registry.Any("HostSystem").(*simulator.HostSystem).Name = host.Name
	e.server = s.serve(e.listener, s.hosts, e)
	return nil
}

func (e *esxHost) registry() *simulator.Registry { return e.model.Service.Context.Map }

// close ends the endpoint, even if it was not started.
func (e *esxHost) close() {
	if e.server != nil {
		_ = e.server.Close()
	} else if e.listener != nil {
		_ = e.listener.Close()
	}
	if e.model.Service != nil {
		e.model.Remove()
	}
}

// validLogin accepts vCenter's users and, with the password of the first of
// them, the user that every host has.
func (e *esxHost) validLogin(req *types.Login) bool {
	users := e.sim.users
	return users.valid(req.UserName, req.Password) || req.UserName == hostUser && users.valid(e.sim.options.Username, req.Password)
}

func (e *esxHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := strings.TrimSuffix(r.URL.Path, "/"); {
	case path == "/sdk/vimServiceVersions.xml":
		e.sim.serveVersions(w, r)
	case r.Method == http.MethodPost && path == "/sdk":
		r.URL.Path = path
		request, body := e.sim.readSOAP(w, r)
		switch {
		case request == nil:
		case isHiddenMethod(request.Method) || !e.sim.hasMethod(request.Method):
			e.sim.writeUnknownMethod(w, request)
		default:
			e.sim.callService(e.model.Service, r, body).send(w)
		}
	default:
		e.model.Service.ServeMux.ServeHTTP(w, r)
	}
}

// dispatch is called before every call.
func (e *esxHost) dispatch(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	e.sim.activeCalls.begin(ctx, method.This)
	if ctx.Session == nil {
		return e.sim.dispatchUnauthenticated(ctx, method)
	}
	switch method.Body.(type) {
	case *types.Logout:
		e.sim.endCollectors(ctx.Session)
	case *types.CreateVM_Task, *types.RegisterVM_Task, *types.ImportVApp:
		return nil, vimfault.WithText(&types.NotSupported{}, "VMs come to the simulated host through vCenter.")
	}
	switch method.This.Type {
	case "GuestAuthManager", "GuestFileManager", "GuestProcessManager":
		return nil, vimfault.WithText(&types.NotSupported{}, "The simulated host has guest operations through vCenter only.")
	}
	switch object := ctx.Session.Get(method.This).(type) {
	case *simulator.VirtualMachine:
		method.This.Value += overrideSuffix
		return &esxVM{VirtualMachine: &object.VirtualMachine, esx: e}, nil
	case *simulator.PropertyCollector:
		method.This.Value += overrideSuffix
		return &propertyCollector{PropertyCollector: object, sim: e.sim}, nil
	case *simulator.PropertyFilter:
		method.This.Value += overrideSuffix
		return &propertyFilter{PropertyFilter: object, sim: e.sim}, nil
	}
	return nil, nil
}

// esxObserver is notified of every object of the host that is created, changed
// or removed.
type esxObserver struct{ esx *esxHost }

func (esxObserver) Reference() types.ManagedObjectReference { return registryObserver{}.Reference() }

func (w esxObserver) PutObject(_ *simulator.Context, object mo.Reference) {
	w.esx.sim.collectors.changed(object.Reference(), true)
}

func (w esxObserver) UpdateObject(ctx *simulator.Context, object mo.Reference, changes []types.PropertyChange) {
	w.esx.sim.collectors.changed(object.Reference(), false)
	if task, ok := object.(*mo.Task); ok {
		w.esx.sim.taskChanged(ctx, task, changes)
	}
}

func (w esxObserver) RemoveObject(_ *simulator.Context, ref types.ManagedObjectReference) {
	w.esx.sim.collectors.changed(ref, true)
}

// sync creates, changes or removes the replica of one of vCenter's VMs. The
// caller holds the VM's lock.
func (e *esxHost) sync(vm *mo.VirtualMachine) {
	if e == nil {
		return
	}
	if vm.Runtime.Host == nil || *vm.Runtime.Host != e.host || !e.sim.names.visible(vm.Self) {
		e.removeReplica(vm.Self)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	ctx := e.background()
	replica, ok := e.replicas[vm.Self]
	if !ok {
		replica = e.newReplica(ctx, vm)
		e.replicas[vm.Self] = replica
	}
	ctx.WithLock(replica, func() {
		if p := e.differences(replica, vm); len(p) > 0 {
			ctx.Update(replica, p)
		}
	})
}

func (e *esxHost) background() *simulator.Context {
	ctx := *e.model.Service.Context
	return &ctx
}

// newReplica adds a VM to the host's inventory. ESXi numbers its VMs, and does
// not keep vApp options.
func (e *esxHost) newReplica(ctx *simulator.Context, vm *mo.VirtualMachine) *simulator.VirtualMachine {
	registry := ctx.Map
	datacenter := registry.Any("Datacenter").(*simulator.Datacenter)
	folder := registry.Get(datacenter.VmFolder).(*simulator.Folder)
	host := registry.Any("HostSystem").(*simulator.HostSystem)
	pool := registry.Any("ResourcePool").(*simulator.ResourcePool)

	e.moids++
	replica := &simulator.VirtualMachine{}
	replica.Self = types.ManagedObjectReference{Type: "VirtualMachine", Value: strconv.Itoa(e.moids)}
	replica.Name = vm.Name
	replica.Config = &types.VirtualMachineConfigInfo{
		Name: vm.Config.Name, Uuid: vm.Config.Uuid, InstanceUuid: vm.Config.InstanceUuid,
		GuestId: vm.Config.GuestId, GuestFullName: vm.Config.GuestFullName, Version: vm.Config.Version, Files: vm.Config.Files,
		Hardware: vm.Config.Hardware,
	}
	replica.Config.Hardware.Device = cloneDevices(vm.Config.Hardware.Device)
	replica.Runtime, replica.Summary = vm.Runtime, vm.Summary
	replica.Summary.Vm = &replica.Self
	replica.Guest, replica.Summary.Guest = &types.GuestInfo{}, &types.VirtualMachineGuestSummary{}
	replica.EnvironmentBrowser = *registry.Get(*host.Parent).(*mo.ComputeResource).EnvironmentBrowser
	replica.ResourcePool = &pool.Self
	replica.Datastore, replica.Network = host.Datastore, host.Network
	for _, runtime := range []*types.VirtualMachineRuntimeInfo{&replica.Runtime, &replica.Summary.Runtime} {
		runtime.Host = &host.Self
	}
	registry.PutEntity(folder, replica)
	registry.AppendReference(ctx, folder, &folder.ChildEntity, replica.Self)
	registry.AppendReference(ctx, host, &host.Vm, replica.Self)
	registry.AppendReference(ctx, pool, &pool.Vm, replica.Self)
	return replica
}

// differences returns the properties in which a replica differs from its VM.
func (e *esxHost) differences(replica *simulator.VirtualMachine, vm *mo.VirtualMachine) []types.PropertyChange {
	var p properties
	for _, name := range []string{"name", "config.name", "summary.config.name"} {
		p.set(name, replica.Name, vm.Name)
	}
	for prefix, of := range map[string][2]*types.VirtualMachineRuntimeInfo{
		"runtime.": {&replica.Runtime, &vm.Runtime}, "summary.runtime.": {&replica.Summary.Runtime, &vm.Summary.Runtime},
	} {
		p.set(prefix+"powerState", of[0].PowerState, of[1].PowerState)
		p.set(prefix+"bootTime", timeOf(of[0].BootTime), timeOf(of[1].BootTime))
	}
	p.set("config.uuid", replica.Config.Uuid, vm.Config.Uuid)
	p.set("config.instanceUuid", replica.Config.InstanceUuid, vm.Config.InstanceUuid)
	p.set("guestHeartbeatStatus", replica.GuestHeartbeatStatus, vm.GuestHeartbeatStatus)
	p.set("guest", *replica.Guest, *vm.Guest)
	p.set("summary.guest", *replica.Summary.Guest, *vm.Summary.Guest)
	return p
}

// removeReplica removes the replica of a VM that was removed or moved to
// another host.
func (e *esxHost) removeReplica(vm types.ManagedObjectReference) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	replica, ok := e.replicas[vm]
	if !ok {
		return
	}
	delete(e.replicas, vm)
	ctx := e.background()
	folder := ctx.Map.Get(*replica.Parent).(*simulator.Folder)
	host := ctx.Map.Any("HostSystem").(*simulator.HostSystem)
	pool := ctx.Map.Any("ResourcePool").(*simulator.ResourcePool)
	ctx.Map.RemoveReference(ctx, folder, &folder.ChildEntity, replica.Self)
	ctx.Map.RemoveReference(ctx, host, &host.Vm, replica.Self)
	ctx.Map.RemoveReference(ctx, pool, &pool.Vm, replica.Self)
	ctx.Map.Remove(ctx, replica.Self)
}

// of returns the VM in vCenter for a replica.
func (e *esxHost) of(replica types.ManagedObjectReference) (types.ManagedObjectReference, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for vm, known := range e.replicas {
		if known.Self == replica {
			return vm, true
		}
	}
	return types.ManagedObjectReference{}, false
}

// esxVM handles every call to a replica: a client of the host may only change
// its power state.
type esxVM struct {
	*mo.VirtualMachine
	unlocked
	esx *esxHost
}

// inVCenter finds the VM, and a context in which the host's user acts on it.
func (v *esxVM) inVCenter(ctx *simulator.Context) (*simulator.Context, *virtualMachine, types.BaseMethodFault) {
	sim := v.esx.sim
	ref, ok := v.esx.of(v.Self)
	vc := sim.background()
	session := *vc.Session
	session.UserName = ctx.Session.UserName
	vc.Session = &session
	startOperation(vc, operation{origin: fromESXi, user: session.UserName})
	if ok {
		if object, ok := sim.instances.of(ref).object(vc); ok {
			return vc, &virtualMachine{VirtualMachine: object, sim: sim}, nil
		}
	}
	return nil, nil, &types.ManagedObjectNotFound{Obj: v.Self}
}

// task starts a task of the host that runs the method on the VM.
func (v *esxVM) task(ctx *simulator.Context, id string, method func(*simulator.Context, *virtualMachine) soap.HasFault) types.ManagedObjectReference {
	task := simulator.CreateTask(v, id, func(*simulator.Task) (result types.AnyType, fault types.BaseMethodFault) {
		withoutLock(ctx, v.Self, func() {
			vc, vm, gone := v.inVCenter(ctx)
			if fault = gone; gone != nil {
				return
			}
			var body soap.HasFault
			vc.WithLock(vm.VirtualMachine, func() { body = method(vc, vm) })
			result, fault = waitBody(vc, body)
		})
		return result, fault
	})
	task.Info.Name, task.Info.EntityName = methodNamed(v.Self, task.Info.Name), v.Name
	task.Info.Reason = &types.TaskReasonUser{UserName: ctx.Session.UserName}
	return task.Run(ctx)
}

func (v *esxVM) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: v.task(ctx, "powerOn", func(ctx *simulator.Context, vm *virtualMachine) soap.HasFault {
		return vm.sim.powerOnFrom(ctx, vm.VirtualMachine, fromESXi, true)
	})}}
}

func (v *esxVM) PowerOffVMTask(ctx *simulator.Context, req *types.PowerOffVM_Task) soap.HasFault {
	return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: v.task(ctx, "powerOff", func(ctx *simulator.Context, vm *virtualMachine) soap.HasFault {
		return vm.PowerOffVMTask(ctx, req)
	})}}
}

func (v *esxVM) SuspendVMTask(ctx *simulator.Context, req *types.SuspendVM_Task) soap.HasFault {
	return &methods.SuspendVM_TaskBody{Res: &types.SuspendVM_TaskResponse{Returnval: v.task(ctx, "suspend", func(ctx *simulator.Context, vm *virtualMachine) soap.HasFault {
		return vm.SuspendVMTask(ctx, req)
	})}}
}

func (v *esxVM) ResetVMTask(ctx *simulator.Context, req *types.ResetVM_Task) soap.HasFault {
	return &methods.ResetVM_TaskBody{Res: &types.ResetVM_TaskResponse{Returnval: v.task(ctx, "reset", func(ctx *simulator.Context, vm *virtualMachine) soap.HasFault {
		return vm.ResetVMTask(ctx, req)
	})}}
}

func (v *esxVM) InstantCloneTask(*types.InstantClone_Task) soap.HasFault {
	fault := vimfault.WithText(&types.NotSupported{}, "Instant Clone needs vCenter Server.")
	return &methods.InstantClone_TaskBody{Fault_: soapFaultOf(fault)}
}

func (v *esxVM) ShutdownGuest(ctx *simulator.Context, req *types.ShutdownGuest) (body soap.HasFault) {
	vc, vm, gone := v.inVCenter(ctx)
	if gone != nil {
		return &methods.ShutdownGuestBody{Fault_: soapFaultOf(gone)}
	}
	vc.WithLock(vm.VirtualMachine, func() { body = vm.ShutdownGuest(vc, req) })
	return body
}

func (v *esxVM) RebootGuest(ctx *simulator.Context, req *types.RebootGuest) (body soap.HasFault) {
	vc, vm, gone := v.inVCenter(ctx)
	if gone != nil {
		return &methods.RebootGuestBody{Fault_: soapFaultOf(gone)}
	}
	vc.WithLock(vm.VirtualMachine, func() { body = vm.RebootGuest(vc, req) })
	return body
}
