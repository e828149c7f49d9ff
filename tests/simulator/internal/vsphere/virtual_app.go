// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Where vApp options come from besides a reconfigure: OVF packages that are
// imported, and the vApp a VM is in.

// vApps are the options of the vApps themselves.
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
// the only one to know it.
func (s *Simulator) configureVApp(ctx *simulator.Context, vApp *simulator.VirtualApp, spec *types.VAppConfigSpec) types.BaseMethodFault {
	old := s.vApps.of(&vApp.Self)
	options, fault := s.rules.changedVApp(&old, spec, nil)
	if fault != nil {
		return fault
	}
	s.vApps.put(vApp.Self, *options)
	shown := *vApp.VAppConfig
	shown.VmConfigInfo = *options
	shown.Property = withoutPasswords(options.Property)
	if spec.Annotation != "" {
		shown.Annotation = spec.Annotation
	}
	ctx.Update(vApp, []types.PropertyChange{{Name: "vAppConfig", Val: &shown}})
	return nil
}

// showParent publishes the vApp a VM is in. The caller holds the VM's lock.
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

// resourcePool stands in for a resource pool, and for that part of a vApp.
type resourcePool struct {
	*simulator.ResourcePool
	sim *Simulator
}

func (p *resourcePool) CreateVApp(ctx *simulator.Context, req *types.CreateVApp) soap.HasFault {
	return p.sim.createVApp(ctx, req, p.ResourcePool.CreateVApp)
}

func (p *resourcePool) ImportVApp(ctx *simulator.Context, req *types.ImportVApp) soap.HasFault {
	return p.sim.importVApp(ctx, req, p.ResourcePool.ImportVApp)
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
		return &methods.CreateVAppBody{Fault_: simulator.Fault(textOf(fault), fault)}
	}
	return body
}

// virtualApp stands in for a vApp.
type virtualApp struct {
	*simulator.VirtualApp
	sim *Simulator
}

func (a *virtualApp) CreateVApp(ctx *simulator.Context, req *types.CreateVApp) soap.HasFault {
	return a.sim.createVApp(ctx, req, a.VirtualApp.CreateVApp)
}

func (a *virtualApp) UpdateVAppConfig(ctx *simulator.Context, req *types.UpdateVAppConfig) soap.HasFault {
	if fault := a.sim.configureVApp(ctx, a.VirtualApp, &req.Spec); fault != nil {
		return &methods.UpdateVAppConfigBody{Fault_: simulator.Fault(textOf(fault), fault)}
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

// importVApp makes the VM of an OVF package out of the clients' sight, as every
// other one.
func (s *Simulator) importVApp(ctx *simulator.Context, req *types.ImportVApp, stock func(*simulator.Context, *types.ImportVApp) soap.HasFault) soap.HasFault {
	refuse := func(fault types.BaseMethodFault) soap.HasFault {
		return &methods.ImportVAppBody{Fault_: simulator.Fault(textOf(fault), fault)}
	}
	spec, ok := req.Spec.(*types.VirtualMachineImportSpec)
	if !ok {
		return refuse(&types.InvalidArgument{InvalidProperty: "spec"})
	}
	target := s.firstDatacenter().VmFolder
	if req.Folder != nil {
		target = *req.Folder
	}
	folder, ok := ctx.Map.Get(target).(*simulator.Folder)
	if !ok {
		return refuse(&types.ManagedObjectNotFound{Obj: target})
	}
	given := spec.ConfigSpec.VAppConfig
	c := s.newCreation(ctx, folder)
	fault := c.reserve(spec.ConfigSpec.Name)
	if fault == nil {
		fault = c.prepare(&spec.ConfigSpec)
	}
	if fault != nil {
		c.abandon()
		return refuse(fault)
	}
	if given != nil { // govmomi's simulator checks what may be configured
		spec.ConfigSpec.VAppConfig = &types.VAppConfigSpec{VmConfigSpec: *withoutSecrets(given, c.vapp)}
	}
	req.Folder = &c.staging.Self
	s.tasks.expectTask(c.staging.Self, &taskPlan{ctx: ctx, entity: c.staging.Self, usesFiles: true, nested: true,
		after: func(result types.AnyType, fault types.BaseMethodFault) (types.AnyType, types.BaseMethodFault) {
			if fault != nil {
				c.abandon()
				return nil, fault
			}
			c.finish(result.(types.ManagedObjectReference), nil)
			return result, nil
		},
	})
	return stock(ctx, req)
}

// ovfManager stands in for the OVF manager, which reads packages.
type ovfManager struct {
	*simulator.OvfManager
	sim *Simulator
}

// CreateImportSpec adds what govmomi's simulator leaves out: transports, IP
// assignment, licences, the types of properties.
func (m *ovfManager) CreateImportSpec(ctx *simulator.Context, req *types.CreateImportSpec) soap.HasFault {
	refuse := func(err error) soap.HasFault {
		return &methods.CreateImportSpecBody{Fault_: simulator.Fault(err.Error(), &types.InvalidArgument{InvalidProperty: "ovfDescriptor"})}
	}
	envelope, err := ovf.Unmarshal(strings.NewReader(req.OvfDescriptor))
	if err != nil {
		return refuse(err)
	}
	complete, err := completeDescriptor(envelope, req.OvfDescriptor)
	if err != nil {
		return refuse(err)
	}
	stock := *req
	stock.OvfDescriptor = complete
	body, err := m.stockImportSpec(ctx, &stock)
	if err != nil {
		return refuse(err)
	}
	if body.Res == nil {
		return body
	}
	params := req.Cisp.GetOvfCreateImportSpecParams()
	system := *envelope.VirtualSystem
	spec := &body.Res.Returnval.ImportSpec.(*types.VirtualMachineImportSpec).ConfigSpec
	spec.ExtraConfig = nil // a property is no setting of the VM
	for _, change := range spec.DeviceChange {
		if drive, ok := change.GetVirtualDeviceConfigSpec().Device.(*types.VirtualCdrom); ok {
			if _, isHostDevice := drive.Backing.(*types.VirtualCdromAtapiBackingInfo); isHostDevice {
				drive.Backing = clientDevice()
			}
		}
	}

	options := spec.VAppConfig.GetVmConfigSpec()
	for _, hardware := range system.VirtualHardware {
		if hardware.Transport != nil {
			options.OvfEnvironmentTransport = strings.Fields(*hardware.Transport)
		}
	}
	system.VirtualHardware = nil // read by now
	described, err := ovf.Envelope{VirtualSystem: &system, DeploymentOption: envelope.DeploymentOption}.
		ToConfigSpecWithOptions(ovf.ToConfigSpecOptions{DeploymentConfiguration: params.DeploymentOption})
	if err != nil {
		return refuse(err)
	}
	if described.VAppConfig == nil && len(options.OvfEnvironmentTransport) == 0 {
		spec.VAppConfig = nil
		return body
	}
	if described.VAppConfig != nil {
		options.Product, options.Property = described.VAppConfig.GetVmConfigSpec().Product, described.VAppConfig.GetVmConfigSpec().Property
	}
	for _, property := range options.Property {
		for _, mapping := range params.PropertyMapping {
			if mapping.Key == fullKey(*property.Info) {
				property.Info.Value = mapping.Value
			}
		}
	}
	options.IpAssignment = &types.VAppIPAssignmentInfo{IpAllocationPolicy: params.IpAllocationPolicy, IpProtocol: params.IpProtocol}
	for _, licence := range system.Eula {
		options.Eula = append(options.Eula, licence.License)
	}
	return body
}

// completeDescriptor adds to a descriptor the elements that OVF leaves to its
// writer and that govmomi's simulator reads without looking: the hardware
// section, and its System.
func completeDescriptor(envelope *ovf.Envelope, descriptor string) (string, error) {
	if envelope.VirtualSystem == nil {
		return "", errors.New("the descriptor has no VirtualSystem")
	}
	end, added := "VirtualSystem", `<VirtualHardwareSection xmlns="http://schemas.dmtf.org/ovf/envelope/1"><Info/><System/></VirtualHardwareSection>`
	switch hardware := envelope.VirtualSystem.VirtualHardware; {
	case len(hardware) == 0:
	case hardware[0].System == nil:
		end, added = "VirtualHardwareSection", `<System xmlns="http://schemas.dmtf.org/ovf/envelope/1"/>`
	default:
		return descriptor, nil
	}
	place := regexp.MustCompile(`</(\w+:)?` + end + `\s*>`).FindStringIndex(descriptor)
	if place == nil {
		return "", fmt.Errorf("the descriptor's %s is not closed", end)
	}
	return descriptor[:place[0]] + added + descriptor[place[0]:], nil
}

// stockImportSpec is govmomi's CreateImportSpec. It keeps a panic there from
// leaving the manager locked: every later import would wait for it.
func (m *ovfManager) stockImportSpec(ctx *simulator.Context, req *types.CreateImportSpec) (body *methods.CreateImportSpecBody, err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			body, err = nil, fmt.Errorf("the descriptor cannot be read: %v", recovered)
		}
	}()
	return m.OvfManager.CreateImportSpec(ctx, req).(*methods.CreateImportSpecBody), nil
}
