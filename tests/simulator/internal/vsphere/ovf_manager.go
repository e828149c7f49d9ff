// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// OvfManager: import specs of OVF packages, with the vApp options that govmomi
// leaves out.

package vsphere

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/ovfenv"
)

// ovfManager overrides methods of the OVF manager, which reads packages.
type ovfManager struct {
	*simulator.OvfManager
	sim *Simulator
}

// CreateImportSpec adds what govmomi's simulator omits: transports, IP
// assignment, licenses, the types of properties.
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
			if mapping.Key == ovfenv.FullKey(*property.Info) {
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

// completeDescriptor adds to a descriptor the elements that are optional in OVF
// and that govmomi's simulator reads unconditionally: the hardware section, and
// its System.
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

// stockImportSpec is govmomi's CreateImportSpec. It prevents a panic there from
// leaving the manager locked, which would block every later import.
func (m *ovfManager) stockImportSpec(ctx *simulator.Context, req *types.CreateImportSpec) (body *methods.CreateImportSpecBody, err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			body, err = nil, fmt.Errorf("the descriptor cannot be read: %v", recovered)
		}
	}()
	return m.OvfManager.CreateImportSpec(ctx, req).(*methods.CreateImportSpecBody), nil
}
