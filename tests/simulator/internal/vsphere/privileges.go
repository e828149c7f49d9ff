// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The privileges that each call requires.

package vsphere

import (
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// The privileges that are checked.
const (
	toggleForkParent  = "VirtualMachine.Config.ToggleForkParent"
	advancedConfig    = "VirtualMachine.Config.AdvancedConfig"
	settings          = "VirtualMachine.Config.Settings"
	rename            = "VirtualMachine.Config.Rename"
	addRemoveDevice   = "VirtualMachine.Config.AddRemoveDevice"
	editDevice        = "VirtualMachine.Config.EditDevice"
	connectDevice     = "VirtualMachine.Interact.DeviceConnection"
	assignNetwork     = "Network.Assign"
	powerOn           = "VirtualMachine.Interact.PowerOn"
	powerOff          = "VirtualMachine.Interact.PowerOff"
	suspend           = "VirtualMachine.Interact.Suspend"
	deleteVM          = "VirtualMachine.Inventory.Delete"
	provisioningClone = "VirtualMachine.Provisioning.Clone"
	createExisting    = "VirtualMachine.Inventory.CreateFromExisting"
	assignToPool      = "Resource.AssignVMToPool"
	allocateSpace     = "Datastore.AllocateSpace"
	vAppStructure     = "VApp.ApplicationConfig"
	vAppValues        = "VApp.InstanceConfig"
	vAppExtract       = "VApp.ExtractOvfEnvironment"
	guestExecute      = "VirtualMachine.GuestOperations.Execute"
	guestQuery        = "VirtualMachine.GuestOperations.Query"
	guestModify       = "VirtualMachine.GuestOperations.Modify"
	systemRead        = "System.Read"
	systemView        = "System.View"
)

// requiredPrivilege is a privilege that a call requires on an object.
type requiredPrivilege struct {
	privilege string
	on        types.ManagedObjectReference
}

// authorize refuses a call if the user lacks a privilege.
func (s *Simulator) authorize(ctx *simulator.Context, name string, method *simulator.Method) types.BaseMethodFault {
	for _, required := range s.requiredPrivileges(method) {
		if !s.holds(ctx, name, required.privilege, required.on) {
			on := required.on
			return &types.NoPermission{Object: &on, PrivilegeId: required.privilege}
		}
	}
	return nil
}

// requiredPrivileges lists the privileges that a call requires.
func (s *Simulator) requiredPrivileges(method *simulator.Method) []requiredPrivilege {
	on := func(ref types.ManagedObjectReference, privileges ...string) []requiredPrivilege {
		var required []requiredPrivilege
		for _, privilege := range privileges {
			required = append(required, requiredPrivilege{privilege, ref})
		}
		return required
	}
	this := method.This
	switch request := method.Body.(type) {
	case *enableForkParentRequest, *disableForkParentRequest:
		return on(this, toggleForkParent)
	case *retrieveForkChildrenRequest, *retrieveForkParentRequest:
		if s.rules.Is("retrieve_privilege", "ToggleForkParent") {
			return on(this, toggleForkParent)
		}
	case *createForkChildRequest:
		return s.forkChildPrivileges(this, request)
	case *types.PowerOnVM_Task:
		return on(this, powerOn)
	case *types.PowerOnMultiVM_Task:
		var required []requiredPrivilege
		for _, ref := range request.Vm {
			required = append(required, requiredPrivilege{powerOn, ref})
		}
		return required
	case *types.PowerOffVM_Task, *types.ShutdownGuest:
		return on(this, powerOff)
	case *types.SuspendVM_Task:
		return on(this, suspend)
	case *types.Destroy_Task:
		if this.Type == "VirtualMachine" {
			return on(this, deleteVM)
		}
	case *types.ReconfigVM_Task:
		var options *types.VmConfigInfo
		if vm := s.instances.get(this.Value); vm != nil {
			options = vm.options()
		}
		return slices.Concat(on(this, reconfigurePrivileges(&request.Spec)...), s.devicePrivileges(this, request.Spec.DeviceChange),
			on(this, vAppPrivileges(options, request.Spec.VAppConfig, request.Spec.VAppConfigRemoved)...))
	case *types.ExtractOvfEnvironment:
		return on(this, vAppExtract)
	case *types.HasPrivilegeOnEntities: // rule privileges_asked_of
		var required []requiredPrivilege
		for _, ref := range request.Entity {
			required = append(required, requiredPrivilege{systemRead, ref})
		}
		return required
	case *types.CloneVM_Task:
		return append(on(this, provisioningClone), requiredPrivilege{createExisting, request.Folder})
	case *types.InstantClone_Task:
		return s.instantClonePrivileges(this, &request.Spec)
	case *types.CheckInstantClone_Task:
		return on(request.Vm, systemView)
	}
	switch this.Type {
	case "GuestFileManager", "GuestProcessManager", "GuestAuthManager":
		return on(guestVM(method.Body), guestPrivilege(method.Name))
	}
	return nil
}

// devicePrivileges lists the privileges that changes of a VM's devices require.
func (s *Simulator) devicePrivileges(vm types.ManagedObjectReference, changes []types.BaseVirtualDeviceConfigSpec) []requiredPrivilege {
	ctx := s.background()
	target, ok := ctx.Map.Get(vm).(*simulator.VirtualMachine)
	if !ok || len(changes) == 0 {
		return nil
	}
	var devices object.VirtualDeviceList
	ctx.WithLock(target, func() { devices = cloneDevices(target.Config.Hardware.Device) })
	var required []requiredPrivilege
	for _, change := range changes {
		device := change.GetVirtualDeviceConfigSpec().Device
		network := types.ManagedObjectReference{}
		if card := cardIn(change); card != nil {
			network = networkRefOf(ctx, card)
		}
		if change.GetVirtualDeviceConfigSpec().Operation != types.VirtualDeviceConfigSpecOperationEdit {
			required = append(required, requiredPrivilege{addRemoveDevice, vm})
		} else {
			required = append(required, requiredPrivilege{editDevice, vm})
			present := devices.FindByKey(device.GetVirtualDevice().Key)
			if present == nil {
				continue
			}
			is, wanted := present.GetVirtualDevice().Connectable, device.GetVirtualDevice().Connectable
			if is != nil && wanted != nil && is.Connected != wanted.Connected {
				required = append(required, requiredPrivilege{connectDevice, vm})
			}
			if card, ok := present.(types.BaseVirtualEthernetCard); ok && network == networkRefOf(ctx, card.GetVirtualEthernetCard()) {
				continue
			}
		}
		if network.Value != "" {
			required = append(required, requiredPrivilege{assignNetwork, network})
		}
	}
	return required
}

func reconfigurePrivileges(spec *types.VirtualMachineConfigSpec) []string {
	var privileges []string
	if len(spec.ExtraConfig) > 0 {
		privileges = append(privileges, advancedConfig)
	}
	if spec.Name != "" {
		privileges = append(privileges, rename)
	}
	if spec.Annotation != "" || spec.Uuid != "" || spec.InstanceUuid != "" {
		privileges = append(privileges, settings)
	}
	return privileges
}

// guestPrivilege is the privilege that a guest operation requires.
func guestPrivilege(method string) string {
	switch {
	case strings.HasPrefix(method, "List"), strings.HasPrefix(method, "Read"),
		strings.HasPrefix(method, "InitiateFileTransferFrom"), strings.HasPrefix(method, "Validate"):
		return guestQuery
	case strings.HasPrefix(method, "StartProgram"), strings.HasPrefix(method, "TerminateProcess"):
		return guestExecute
	}
	return guestModify
}
