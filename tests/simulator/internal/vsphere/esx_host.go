// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

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
)

// esxHost is one of vCenter's hosts as it answers clients that come to it past
// vCenter. Its inventory is its own, with moids of its own: a twin of each VM
// that vCenter has on this host. A twin follows its VM, whoever changes it; what
// a client does to a twin's power is done to the VM, and vCenter hears of it.
type esxHost struct {
	sim      *Simulator
	host     types.ManagedObjectReference // in vCenter
	model    *simulator.Model
	listener net.Listener
	server   *http.Server

	// Taken after a VM's lock, before a twin's. A call on a twin does not hold
	// the twin's lock.
	mu    sync.Mutex
	twins map[types.ManagedObjectReference]*simulator.VirtualMachine // by the VM in vCenter
	moids int
}

// startESX starts the ESXi endpoint, if one is asked for, before there is any
// VM. Its certificate is that of the hosts.
func (s *Simulator) startESX() error {
	if s.options.ESXListen == "" {
		return nil
	}
	host := s.hostNamed(s.options.ESXHost)
	if host == nil {
		return fmt.Errorf("-esx-host: there is no host %q", s.options.ESXHost)
	}
	e := &esxHost{sim: s, host: host.Self, model: simulator.ESX(), twins: map[types.ManagedObjectReference]*simulator.VirtualMachine{}}
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
	registry.AddHandler(esxWatch{e})
	registry.Any("HostSystem").(*simulator.HostSystem).Name = host.Name
	e.server = s.serve(e.listener, s.hosts, e)
	return nil
}

func (e *esxHost) registry() *simulator.Registry { return e.model.Service.Context.Map }

// close ends the endpoint, also one that did not start.
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

// validLogin knows vCenter's users and, with the password of the first of them,
// the one that every host has.
func (e *esxHost) validLogin(req *types.Login) bool {
	users := e.sim.users
	return users.valid(req.UserName, req.Password) || req.UserName == hostUser && users.valid(e.sim.options.Username, req.Password)
}

func (e *esxHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := strings.TrimSuffix(r.URL.Path, "/"); {
	case path == "/sdk/vimServiceVersions.xml":
		e.sim.serveVersions(w)
	case r.Method == http.MethodPost && path == "/sdk":
		r.URL.Path = path
		request, body := e.sim.readSOAP(w, r)
		switch {
		case request == nil:
		case isHiddenMethod(request.Method) || !e.sim.knows(request.Method):
			e.sim.writeUnknownMethod(w, request)
		default:
			e.sim.callService(e.model.Service, r, body).send(w)
		}
	default:
		e.model.Service.ServeMux.ServeHTTP(w, r)
	}
}

// dispatch is asked before every call.
func (e *esxHost) dispatch(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	e.sim.underWay.begin(ctx, method.This)
	if ctx.Session == nil {
		return e.sim.dispatchStranger(ctx, method)
	}
	switch method.Body.(type) {
	case *types.Logout:
		e.sim.endCollectors(ctx.Session)
	case *types.CreateVM_Task, *types.RegisterVM_Task, *types.ImportVApp:
		return nil, withText(&types.NotSupported{}, "VMs come to the simulated host through vCenter.")
	}
	switch method.This.Type {
	case "GuestAuthManager", "GuestFileManager", "GuestProcessManager":
		return nil, withText(&types.NotSupported{}, "The simulated host has guest operations through vCenter only.")
	}
	switch object := ctx.Session.Get(method.This).(type) {
	case *simulator.VirtualMachine:
		method.This.Value += wrapped
		return &hostVM{VirtualMachine: &object.VirtualMachine, esx: e}, nil
	case *simulator.PropertyCollector:
		method.This.Value += wrapped
		return &propertyCollector{PropertyCollector: object, sim: e.sim}, nil
	case *simulator.PropertyFilter:
		method.This.Value += wrapped
		return &propertyFilter{PropertyFilter: object, sim: e.sim}, nil
	}
	return nil, nil
}

// esxWatch is told of every object of the host that is made, changed or removed.
type esxWatch struct{ esx *esxHost }

func (esxWatch) Reference() types.ManagedObjectReference { return watch{}.Reference() }

func (w esxWatch) PutObject(_ *simulator.Context, object mo.Reference) {
	w.esx.sim.collectors.changed(object.Reference(), true)
}

func (w esxWatch) UpdateObject(ctx *simulator.Context, object mo.Reference, changes []types.PropertyChange) {
	w.esx.sim.collectors.changed(object.Reference(), false)
	if task, ok := object.(*mo.Task); ok {
		w.esx.sim.taskChanged(ctx, task, changes)
	}
}

func (w esxWatch) RemoveObject(_ *simulator.Context, ref types.ManagedObjectReference) {
	w.esx.sim.collectors.changed(ref, true)
}

// follow makes, changes or removes the twin of a VM of vCenter's. The caller
// holds the VM's lock.
func (e *esxHost) follow(vm *mo.VirtualMachine) {
	if e == nil {
		return
	}
	if vm.Runtime.Host == nil || *vm.Runtime.Host != e.host || !e.sim.names.visible(vm.Self) {
		e.forget(vm.Self)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	ctx := e.background()
	twin, ok := e.twins[vm.Self]
	if !ok {
		twin = e.newTwin(ctx, vm)
		e.twins[vm.Self] = twin
	}
	ctx.WithLock(twin, func() {
		if p := e.differences(twin, vm); len(p) > 0 {
			ctx.Update(twin, p)
		}
	})
}

func (e *esxHost) background() *simulator.Context {
	ctx := *e.model.Service.Context
	return &ctx
}

// newTwin enters a VM in the host's inventory. ESXi numbers its VMs, and knows
// nothing of vApp options.
func (e *esxHost) newTwin(ctx *simulator.Context, vm *mo.VirtualMachine) *simulator.VirtualMachine {
	registry := ctx.Map
	datacenter := registry.Any("Datacenter").(*simulator.Datacenter)
	folder := registry.Get(datacenter.VmFolder).(*simulator.Folder)
	host := registry.Any("HostSystem").(*simulator.HostSystem)
	pool := registry.Any("ResourcePool").(*simulator.ResourcePool)

	e.moids++
	twin := &simulator.VirtualMachine{}
	twin.Self = types.ManagedObjectReference{Type: "VirtualMachine", Value: strconv.Itoa(e.moids)}
	twin.Name = vm.Name
	twin.Config = &types.VirtualMachineConfigInfo{
		Name: vm.Config.Name, Uuid: vm.Config.Uuid, InstanceUuid: vm.Config.InstanceUuid,
		GuestId: vm.Config.GuestId, GuestFullName: vm.Config.GuestFullName, Version: vm.Config.Version, Files: vm.Config.Files,
		Hardware: vm.Config.Hardware,
	}
	twin.Config.Hardware.Device = copyOf(vm.Config.Hardware.Device)
	twin.Runtime, twin.Summary = vm.Runtime, vm.Summary
	twin.Summary.Vm = &twin.Self
	twin.Guest, twin.Summary.Guest = &types.GuestInfo{}, &types.VirtualMachineGuestSummary{}
	twin.EnvironmentBrowser = *registry.Get(*host.Parent).(*mo.ComputeResource).EnvironmentBrowser
	twin.ResourcePool = &pool.Self
	twin.Datastore, twin.Network = host.Datastore, host.Network
	for _, runtime := range []*types.VirtualMachineRuntimeInfo{&twin.Runtime, &twin.Summary.Runtime} {
		runtime.Host = &host.Self
	}
	registry.PutEntity(folder, twin)
	registry.AppendReference(ctx, folder, &folder.ChildEntity, twin.Self)
	registry.AppendReference(ctx, host, &host.Vm, twin.Self)
	registry.AppendReference(ctx, pool, &pool.Vm, twin.Self)
	return twin
}

// differences are the properties in which a twin does not follow its VM yet.
func (e *esxHost) differences(twin *simulator.VirtualMachine, vm *mo.VirtualMachine) []types.PropertyChange {
	var p properties
	for _, name := range []string{"name", "config.name", "summary.config.name"} {
		p.set(name, twin.Name, vm.Name)
	}
	for prefix, of := range map[string][2]*types.VirtualMachineRuntimeInfo{
		"runtime.": {&twin.Runtime, &vm.Runtime}, "summary.runtime.": {&twin.Summary.Runtime, &vm.Summary.Runtime},
	} {
		p.set(prefix+"powerState", of[0].PowerState, of[1].PowerState)
		p.set(prefix+"bootTime", timeOf(of[0].BootTime), timeOf(of[1].BootTime))
	}
	p.set("config.uuid", twin.Config.Uuid, vm.Config.Uuid)
	p.set("config.instanceUuid", twin.Config.InstanceUuid, vm.Config.InstanceUuid)
	p.set("guestHeartbeatStatus", twin.GuestHeartbeatStatus, vm.GuestHeartbeatStatus)
	p.set("guest", *twin.Guest, *vm.Guest)
	p.set("summary.guest", *twin.Summary.Guest, *vm.Summary.Guest)
	return p
}

// forget removes the twin of a VM that is gone, or gone to another host.
func (e *esxHost) forget(vm types.ManagedObjectReference) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	twin, ok := e.twins[vm]
	if !ok {
		return
	}
	delete(e.twins, vm)
	ctx := e.background()
	folder := ctx.Map.Get(*twin.Parent).(*simulator.Folder)
	host := ctx.Map.Any("HostSystem").(*simulator.HostSystem)
	pool := ctx.Map.Any("ResourcePool").(*simulator.ResourcePool)
	ctx.Map.RemoveReference(ctx, folder, &folder.ChildEntity, twin.Self)
	ctx.Map.RemoveReference(ctx, host, &host.Vm, twin.Self)
	ctx.Map.RemoveReference(ctx, pool, &pool.Vm, twin.Self)
	ctx.Map.Remove(ctx, twin.Self)
}

// of returns the VM in vCenter that a twin stands for.
func (e *esxHost) of(twin types.ManagedObjectReference) (types.ManagedObjectReference, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for vm, known := range e.twins {
		if known.Self == twin {
			return vm, true
		}
	}
	return types.ManagedObjectReference{}, false
}

// hostVM stands in for a twin in every call: a client of the host may change
// its power, and nothing else.
type hostVM struct {
	*mo.VirtualMachine
	unlocked
	esx *esxHost
}

// inVCenter finds the VM, and a context in which the host's user acts on it.
func (v *hostVM) inVCenter(ctx *simulator.Context) (*simulator.Context, *virtualMachine, types.BaseMethodFault) {
	sim := v.esx.sim
	ref, ok := v.esx.of(v.Self)
	vc := sim.background()
	session := *vc.Session
	session.UserName = ctx.Session.UserName
	vc.Session = &session
	begin(vc, operation{origin: fromESXi, user: session.UserName})
	if ok {
		if object, ok := sim.instances.of(ref).object(vc); ok {
			return vc, &virtualMachine{VirtualMachine: object, sim: sim}, nil
		}
	}
	return nil, nil, &types.ManagedObjectNotFound{Obj: v.Self}
}

// task starts a task of the host that does what method does to the VM.
func (v *hostVM) task(ctx *simulator.Context, id string, method func(*simulator.Context, *virtualMachine) soap.HasFault) types.ManagedObjectReference {
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

func (v *hostVM) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: v.task(ctx, "powerOn", func(ctx *simulator.Context, vm *virtualMachine) soap.HasFault {
		return vm.sim.powerOnFrom(ctx, vm.VirtualMachine, fromESXi, true)
	})}}
}

func (v *hostVM) PowerOffVMTask(ctx *simulator.Context, req *types.PowerOffVM_Task) soap.HasFault {
	return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: v.task(ctx, "powerOff", func(ctx *simulator.Context, vm *virtualMachine) soap.HasFault {
		return vm.PowerOffVMTask(ctx, req)
	})}}
}

func (v *hostVM) SuspendVMTask(ctx *simulator.Context, req *types.SuspendVM_Task) soap.HasFault {
	return &methods.SuspendVM_TaskBody{Res: &types.SuspendVM_TaskResponse{Returnval: v.task(ctx, "suspend", func(ctx *simulator.Context, vm *virtualMachine) soap.HasFault {
		return vm.SuspendVMTask(ctx, req)
	})}}
}

func (v *hostVM) ResetVMTask(ctx *simulator.Context, req *types.ResetVM_Task) soap.HasFault {
	return &methods.ResetVM_TaskBody{Res: &types.ResetVM_TaskResponse{Returnval: v.task(ctx, "reset", func(ctx *simulator.Context, vm *virtualMachine) soap.HasFault {
		return vm.ResetVMTask(ctx, req)
	})}}
}

func (v *hostVM) InstantCloneTask(*types.InstantClone_Task) soap.HasFault {
	fault := withText(&types.NotSupported{}, "Instant Clone needs vCenter Server.")
	return &methods.InstantClone_TaskBody{Fault_: soapFaultOf(fault)}
}

func (v *hostVM) ShutdownGuest(ctx *simulator.Context, req *types.ShutdownGuest) (body soap.HasFault) {
	vc, vm, gone := v.inVCenter(ctx)
	if gone != nil {
		return &methods.ShutdownGuestBody{Fault_: soapFaultOf(gone)}
	}
	vc.WithLock(vm.VirtualMachine, func() { body = vm.ShutdownGuest(vc, req) })
	return body
}

func (v *hostVM) RebootGuest(ctx *simulator.Context, req *types.RebootGuest) (body soap.HasFault) {
	vc, vm, gone := v.inVCenter(ctx)
	if gone != nil {
		return &methods.RebootGuestBody{Fault_: soapFaultOf(gone)}
	}
	vc.WithLock(vm.VirtualMachine, func() { body = vm.RebootGuest(vc, req) })
	return body
}
