// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The dispatcher: it checks privileges and puts the simulator's objects in
// front of govmomi's.

package vsphere

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// overrideSuffix marks the reference of an object that we override: govmomi's
// dispatcher looks the reference up again after our handler, and would
// otherwise find the original object.
const overrideSuffix = "#vmforksim"

// dispatch is called before every call. It refuses calls without privileges,
// and replaces objects of govmomi's simulator with ours, which have the methods
// that we add or change.
func (s *Simulator) dispatch(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	s.activeCalls.begin(ctx, method.This)
	if ctx.Session == nil {
		return s.dispatchUnauthenticated(ctx, method)
	}
	startOperation(ctx, operation{origin: fromVCenter, user: ctx.Session.UserName})
	if user := ctx.Session.UserName; user != "" {
		if method.Name == "Logout" {
			s.sessions.end(ctx.Session)
		} else {
			s.sessions.remember(ctx.Session)
		}
		if fault := s.checkVisible(ctx, user, method.This); fault != nil {
			return nil, fault
		}
		if fault := s.authorize(ctx, user, method); fault != nil {
			return nil, fault
		}
	}
	switch object := ctx.Session.Get(method.This).(type) {
	case *simulator.VirtualMachine:
		method.This.Value += overrideSuffix
		return &virtualMachine{VirtualMachine: object, sim: s}, nil
	case *simulator.ServiceInstance:
		method.This.Value += overrideSuffix
		return &serviceInstance{ServiceInstance: object, sim: s}, nil
	case *simulator.Datacenter:
		method.This.Value += overrideSuffix
		return &datacenter{Datacenter: object, sim: s}, nil
	case *simulator.ResourcePool:
		method.This.Value += overrideSuffix
		return &resourcePool{ResourcePool: object, sim: s}, nil
	case *simulator.VirtualApp:
		method.This.Value += overrideSuffix
		return &virtualApp{VirtualApp: object, sim: s}, nil
	case *simulator.OvfManager:
		method.This.Value += overrideSuffix
		return &ovfManager{OvfManager: object, sim: s}, nil
	case *simulator.Folder:
		method.This.Value += overrideSuffix
		return &vmFolder{Folder: object, sim: s}, nil
	case *simulator.DistributedVirtualSwitch:
		method.This.Value += overrideSuffix
		return &distributedSwitch{DistributedVirtualSwitch: object, sim: s}, nil
	case *simulator.HostSystem:
		method.This.Value += overrideSuffix
		return &hostSystem{HostSystem: object, sim: s}, nil
	case *simulator.VmCompatibilityChecker:
		method.This.Value += overrideSuffix
		return &compatibilityChecker{VmCompatibilityChecker: object, sim: s}, nil
	case *simulator.VmProvisioningChecker:
		method.This.Value += overrideSuffix
		return &provisioningChecker{VmProvisioningChecker: object, sim: s}, nil
	case *simulator.IpPoolManager:
		method.This.Value += overrideSuffix
		return &ipPoolManager{IpPoolManager: object}, nil
	case *simulator.EventManager:
		method.This.Value += overrideSuffix
		return &eventManager{EventManager: object, sim: s}, nil
	case *simulator.TaskManager:
		method.This.Value += overrideSuffix
		return &taskManager{TaskManager: object, sim: s}, nil
	case *simulator.SearchIndex:
		method.This.Value += overrideSuffix
		return &searchIndex{SearchIndex: object, sim: s}, nil
	case *simulator.PropertyCollector:
		method.This.Value += overrideSuffix
		return &propertyCollector{PropertyCollector: object, sim: s}, nil
	case *simulator.PropertyFilter:
		method.This.Value += overrideSuffix
		return &propertyFilter{PropertyFilter: object, sim: s}, nil
	case *simulator.VirtualMachineSnapshot:
		method.This.Value += overrideSuffix
		return &vmSnapshot{VirtualMachineSnapshot: object, sim: s}, nil
	case *simulator.ListView:
		method.This.Value += overrideSuffix
		return &listView{ListView: object, sim: s}, nil
	case *simulator.Task:
		if s.tasks.isUnknown(object.Self) {
			return nil, &types.ManagedObjectNotFound{Obj: object.Self}
		}
	case *simulator.AuthorizationManager:
		method.This.Value += overrideSuffix
		return &authorizationManager{AuthorizationManager: object, sim: s}, nil
	}
	return nil, nil
}

// dispatchUnauthenticated serves a client that is not logged in: it may only
// read how to log in.
func (s *Simulator) dispatchUnauthenticated(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	denied := &types.NotAuthenticated{NoPermission: types.NoPermission{Object: &method.This, PrivilegeId: "System.View"}}
	open := func(ref types.ManagedObjectReference) bool {
		return ref.Type == "ServiceInstance" || ref.Type == "SessionManager"
	}
	sets := func(specs []types.PropertyFilterSpec) types.BaseMethodFault {
		for _, spec := range specs {
			for _, object := range spec.ObjectSet {
				if !open(object.Obj) {
					return denied
				}
			}
		}
		return nil
	}
	switch request := method.Body.(type) {
	case *types.RetrieveProperties:
		return nil, sets(request.SpecSet)
	case *types.RetrievePropertiesEx:
		return nil, sets(request.SpecSet)
	case *fetchRequest:
		if !open(request.This) {
			return nil, denied
		}
		collector := ctx.Map.Get(method.This).(*simulator.PropertyCollector)
		return &propertyCollector{PropertyCollector: collector, sim: s}, nil
	}
	return nil, nil
}

// registryObserver is notified of every object that is created, changed or
// removed.
type registryObserver struct{ sim *Simulator }

func (registryObserver) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "VMForkSimulator", Value: "watch"}
}

func (w registryObserver) PutObject(_ *simulator.Context, object mo.Reference) {
	if task, ok := object.(*simulator.Task); ok {
		w.sim.prepareTask(task)
	}
	w.sim.collectors.changed(object.Reference(), true)
}

func (w registryObserver) UpdateObject(ctx *simulator.Context, object mo.Reference, changes []types.PropertyChange) {
	w.sim.collectors.changed(object.Reference(), false)
	switch object := object.(type) {
	case *mo.Task:
		w.sim.taskChanged(ctx, object, changes)
	case *mo.EventHistoryCollector:
		w.sim.eventPosted(ctx, object.LatestPage[0])
	case *mo.VirtualMachine:
		for _, change := range changes {
			switch change.Name {
			case "name":
				w.sim.names.rename(object.Self, object.Name)
			case "runtime.powerState":
				w.sim.powerChanged(ctx, object)
			}
		}
		w.sim.esx.sync(object)
	}
}

func (w registryObserver) RemoveObject(_ *simulator.Context, ref types.ManagedObjectReference) {
	w.sim.collectors.changed(ref, true)
	if ref.Type == "VirtualMachine" {
		w.sim.names.remove(ref)
		w.sim.instances.remove(ref)
		w.sim.ports.releaseAll(ref)
		w.sim.esx.removeReplica(ref)
	}
}
