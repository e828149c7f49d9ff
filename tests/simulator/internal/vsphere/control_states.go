// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The control endpoint: states of VMs and datastores that no API client can
// set, and the VM that runs vCenter itself.

package vsphere

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	ownFQDN    = "VirtualCenter.FQDN"
	ownAddress = "VirtualCenter.AutoManagedIPV4"
)

// controlVM sets the state of a VM.
func (s *Simulator) controlVM(r *http.Request) (any, error) {
	vm, err := s.vmOf(r)
	if err != nil {
		return nil, err
	}
	var request struct {
		Connection *types.VirtualMachineConnectionState `json:"connection_state"`
		FTRole     *int32                               `json:"fault_tolerance_role"` // 1 is the primary VM, 2 the secondary, 0 none
		VCenter    bool                                 `json:"is_vcenter"`
		ChainLimit *int                                 `json:"chain_limit"` // of delta disks; 0 is that of vSphere
		Protected  *bool                                `json:"ha_protected"`
		Encrypted  bool                                 `json:"encrypted"`
		Pending    bool                                 `json:"customization_pending"`
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	if state := request.Connection; state != nil && !slices.Contains((*state).Values(), *state) {
		return nil, fmt.Errorf("connection_state is one of %v, not %q", (*state).Values(), *state)
	}
	if role := request.FTRole; role != nil && (*role < 0 || *role > 2) {
		return nil, errors.New("fault_tolerance_role is 0, 1 or 2")
	}
	if limit := request.ChainLimit; limit != nil && *limit < 0 {
		return nil, errors.New("chain_limit is a number of delta disks")
	}
	vm.update(func(ctx *simulator.Context, object *simulator.VirtualMachine) {
		if request.ChainLimit != nil {
			vm.mu.Lock()
			vm.deltaLimit = *request.ChainLimit
			vm.mu.Unlock()
		}
		if request.Connection != nil {
			showConnection(ctx, object, *request.Connection)
		}
		if request.FTRole != nil {
			showFaultTolerance(ctx, object, *request.FTRole)
		}
		if request.Protected != nil {
			state := &types.VirtualMachineRuntimeInfoDasProtectionState{DasProtected: *request.Protected}
			ctx.Update(object, []types.PropertyChange{{Name: "runtime.dasVmProtection", Val: state}})
		}
		if request.Encrypted {
			key := &types.CryptoKeyId{KeyId: "vmforksim-key", ProviderId: &types.KeyProviderId{Id: "vmforksim-provider"}}
			ctx.Update(object, []types.PropertyChange{{Name: "config.keyId", Val: key}})
		}
		if request.Pending {
			info := &types.GuestInfoCustomizationInfo{CustomizationStatus: string(types.GuestInfoCustomizationStatusTOOLSDEPLOYPKG_PENDING)}
			ctx.Update(object, []types.PropertyChange{{Name: "guest.customizationInfo", Val: info}})
		}
		if request.VCenter {
			s.becomeVCenter(ctx, object)
		}
	})
	return map[string]string{"moid": vm.ref.Value}, nil
}

// showFaultTolerance makes a VM one of a fault-tolerant pair, whose other VM
// stays hidden.
func showFaultTolerance(ctx *simulator.Context, vm *simulator.VirtualMachine, role int32) {
	pair := types.FaultToleranceConfigInfo{Role: role, InstanceUuids: []string{vm.Config.InstanceUuid}, ConfigPaths: []string{vm.Config.Files.VmPathName}}
	state := types.VirtualMachineFaultToleranceStateRunning
	var info any
	switch role {
	case 1:
		info = &types.FaultTolerancePrimaryConfigInfo{FaultToleranceConfigInfo: pair, Secondaries: []types.ManagedObjectReference{vm.Self}}
	case 2:
		info = &types.FaultToleranceSecondaryConfigInfo{FaultToleranceConfigInfo: pair, PrimaryVM: vm.Self}
	default:
		state = types.VirtualMachineFaultToleranceStateNotConfigured
	}
	ctx.Update(vm, []types.PropertyChange{
		{Name: "config.ftInfo", Val: info},
		{Name: "runtime.faultToleranceState", Val: state}, {Name: "summary.runtime.faultToleranceState", Val: state},
	})
}

// becomeVCenter makes a VM the one that runs vCenter: vCenter's settings then
// contain the VM's addresses. A VM without a guest gets some.
func (s *Simulator) becomeVCenter(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	var p properties
	p.set("guest.hostName", vm.Guest.HostName, orElse(vm.Guest.HostName, "vcenter.vmforksim.test"))
	p.set("guest.ipAddress", vm.Guest.IpAddress, orElse(vm.Guest.IpAddress, "10.255.255.254"))
	if len(p) > 0 {
		ctx.Update(vm, p)
	}
	s.showVCenterAddress(ctx, vm.Guest.HostName, vm.Guest.IpAddress)
}

func orElse(value, other string) string {
	if value == "" {
		return other
	}
	return value
}

// showVCenterAddress publishes the address of vCenter, in its settings and in
// every host's information about the server that manages it.
func (s *Simulator) showVCenterAddress(ctx *simulator.Context, fqdn, address string) {
	manager := ctx.Map.OptionManager()
	ctx.WithLock(manager, func() {
		kept := slices.DeleteFunc(slices.Clone(manager.Setting), func(option types.BaseOptionValue) bool {
			return slices.Contains([]string{ownFQDN, ownAddress}, option.GetOptionValue().Key)
		})
		manager.Setting = append(kept, &types.OptionValue{Key: ownFQDN, Value: fqdn}, &types.OptionValue{Key: ownAddress, Value: address})
	})
	for _, entity := range ctx.Map.All("HostSystem") {
		ctx.Map.AtomicUpdate(ctx, entity, []types.PropertyChange{{Name: "summary.managementServerIp", Val: address}})
	}
}

// controlDatastore removes a datastore, given by name or moid, or returns it,
// and sets its free space.
func (s *Simulator) controlDatastore(r *http.Request) (any, error) {
	var request struct {
		Accessible *bool  `json:"accessible"`
		FreeSpace  *int64 `json:"free_space"` // bytes
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	var changes []types.PropertyChange
	if request.Accessible != nil {
		changes = append(changes, types.PropertyChange{Name: "summary.accessible", Val: *request.Accessible})
	}
	if request.FreeSpace != nil {
		changes = append(changes, types.PropertyChange{Name: "summary.freeSpace", Val: *request.FreeSpace})
	}
	if len(changes) == 0 {
		return nil, errors.New("one of accessible and free_space is needed")
	}
	for _, entity := range s.registry().All("Datastore") {
		if name := r.PathValue("name"); entity.Entity().Name == name || entity.Reference().Value == name {
			ctx := s.background()
			s.files.Lock()
			defer s.files.Unlock()
			ctx.Map.AtomicUpdate(ctx, entity, changes)
			return map[string]any{"moid": entity.Reference().Value}, nil
		}
	}
	return nil, fmt.Errorf("there is no datastore %q: %w", r.PathValue("name"), errAbsent)
}
