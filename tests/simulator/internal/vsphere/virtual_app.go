// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// VirtualApp: options and power-on of a vApp, and its member VMs.

package vsphere

import (
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/ovfenv"
	"vmforksim/internal/vimfault"
)

// vApps contains the options of the vApps themselves.
type vApps struct {
	mu      sync.Mutex
	options map[types.ManagedObjectReference]types.VmConfigInfo
}

// of returns a vApp's options; none for no vApp.
func (v *vApps) of(vApp *types.ManagedObjectReference) types.VmConfigInfo {
	v.mu.Lock()
	defer v.mu.Unlock()
	if vApp == nil {
		return types.VmConfigInfo{}
	}
	return v.options[*vApp]
}

func (v *vApps) put(vApp types.ManagedObjectReference, options types.VmConfigInfo) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.options[vApp] = options
}

// configureVApp changes the options of a vApp. The caller holds its lock, or is
// the only one to use it.
func (s *Simulator) configureVApp(ctx *simulator.Context, vApp *simulator.VirtualApp, spec *types.VAppConfigSpec) types.BaseMethodFault {
	old := s.vApps.of(&vApp.Self)
	options, fault := ovfenv.ApplySpec(s.rules, &old, spec, nil)
	if fault != nil {
		return fault
	}
	s.vApps.put(vApp.Self, *options)
	shown := *vApp.VAppConfig
	shown.VmConfigInfo = *options
	shown.Property = ovfenv.WithoutPasswords(options.Property)
	if spec.Annotation != "" {
		shown.Annotation = spec.Annotation
	}
	ctx.Update(vApp, []types.PropertyChange{{Name: "vAppConfig", Val: &shown}})
	return nil
}

// showParent publishes the vApp of a VM. The caller holds the VM's lock.
func (s *Simulator) showParent(ctx *simulator.Context, object *simulator.VirtualMachine) {
	var parent *types.ManagedObjectReference
	if pool := object.ResourcePool; pool != nil && pool.Type == "VirtualApp" {
		parent = pool
	}
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	vm.parent = parent
	vm.mu.Unlock()
	var change types.PropertyChange
	if parent != nil {
		change.Val = *parent
	} else if object.ParentVApp == nil {
		return
	}
	change.Name = "parentVApp"
	ctx.Update(object, []types.PropertyChange{change})
}

func (s *Simulator) createVApp(ctx *simulator.Context, req *types.CreateVApp, stock func(*simulator.Context, *types.CreateVApp) soap.HasFault) soap.HasFault {
	spec := req.ConfigSpec
	req.ConfigSpec = types.VAppConfigSpec{Annotation: spec.Annotation}
	body := stock(ctx, req).(*methods.CreateVAppBody)
	if body.Res == nil {
		return body
	}
	vApp := ctx.Map.Get(body.Res.Returnval).(*simulator.VirtualApp)
	if fault := s.configureVApp(ctx, vApp, &spec); fault != nil {
		return &methods.CreateVAppBody{Fault_: simulator.Fault(vimfault.Text(fault), fault)}
	}
	return body
}

// virtualApp overrides methods of a vApp.
type virtualApp struct {
	*simulator.VirtualApp
	sim *Simulator
}

func (a *virtualApp) CreateVApp(ctx *simulator.Context, req *types.CreateVApp) soap.HasFault {
	return a.sim.createVApp(ctx, req, a.VirtualApp.CreateVApp)
}

func (a *virtualApp) UpdateVAppConfig(ctx *simulator.Context, req *types.UpdateVAppConfig) soap.HasFault {
	if fault := a.sim.configureVApp(ctx, a.VirtualApp, &req.Spec); fault != nil {
		return &methods.UpdateVAppConfigBody{Fault_: simulator.Fault(vimfault.Text(fault), fault)}
	}
	return &methods.UpdateVAppConfigBody{Res: &types.UpdateVAppConfigResponse{}}
}

// PowerOnVAppTask powers on the VMs of the vApp.
func (a *virtualApp) PowerOnVAppTask(ctx *simulator.Context, _ *types.PowerOnVApp_Task) soap.HasFault {
	members := slices.Clone(a.Vm)
	task := simulator.CreateTask(a.VirtualApp, "powerOn", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		for _, ref := range members {
			part := &simulator.Context{Context: ctx.Context, Session: ctx.Session, Map: ctx.Map}
			if fault := a.sim.powerOnAndWait(part, ref, fromVCenter); fault != nil {
				return nil, fault
			}
		}
		return nil, nil
	})
	return &methods.PowerOnVApp_TaskBody{Res: &types.PowerOnVApp_TaskResponse{Returnval: task.Run(ctx)}}
}

// A VM in a vApp has parentVApp and no folder (rule vapp_members). govmomi's
// simulator requires its property parent, so it is omitted from clients' reads.

// anyMember reports whether there is a VM in a vApp.
func (i *instances) anyMember() bool {
	for _, vm := range i.all() {
		if vm.isMember() {
			return true
		}
	}
	return false
}

// inVApp reports whether an object is a VM in a vApp.
func (i *instances) inVApp(ref types.ManagedObjectReference) bool {
	if ref.Type != "VirtualMachine" {
		return false
	}
	i.mu.Lock()
	vm := i.byMoid[ref.Value]
	i.mu.Unlock()
	return vm != nil && vm.isMember()
}

func (vm *instance) isMember() bool {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.parent != nil
}
