// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// config.vAppConfig: the vApp options of a VM as clients see them.

package vsphere

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/ovfenv"
)

// options returns a VM's vApp options; nil if they are disabled.
func (vm *instance) options() *types.VmConfigInfo {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.vapp
}

// setVApp stores a VM's vApp options and publishes the part that clients may
// see. The caller holds the VM's lock.
func (s *Simulator) setVApp(ctx *simulator.Context, object *simulator.VirtualMachine, info *types.VmConfigInfo) {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	vm.vapp = info
	vm.mu.Unlock()
	s.showVApp(ctx, object)
}

// showVApp publishes config.vAppConfig. The caller holds the VM's lock.
func (s *Simulator) showVApp(ctx *simulator.Context, object *simulator.VirtualMachine) {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	info, computed := vm.vapp, vm.computed()
	vm.mu.Unlock()
	if info == nil {
		if object.Config.VAppConfig != nil {
			ctx.Update(object, []types.PropertyChange{{Name: "config.vAppConfig"}})
		}
		return
	}
	shown := *info
	shown.Property = ovfenv.WithoutPasswords(info.Property)
	for i, p := range shown.Property {
		if value, ok := computed[p.Key]; ok {
			shown.Property[i].Value = value
		}
	}
	var p properties
	if old, ok := object.Config.VAppConfig.(*types.VmConfigInfo); ok {
		p.set("config.vAppConfig", old, &shown)
	} else {
		p.set("config.vAppConfig", nil, &shown)
	}
	if len(p) > 0 {
		ctx.Update(object, p)
	}
}

// reconfigureVApp returns a VM's vApp options after a reconfigure. govmomi's
// simulator changes only a copy that nobody sees.
func (v *virtualMachine) reconfigureVApp(spec *types.VirtualMachineConfigSpec) (*types.VmConfigInfo, types.BaseMethodFault) {
	old := v.instance().options()
	options, fault := ovfenv.ApplySpec(v.sim.rules, old, spec.VAppConfig, spec.VAppConfigRemoved)
	if fault == nil && spec.VAppConfig != nil {
		scratch := &types.VmConfigInfo{}
		if old != nil {
			scratch.Product, scratch.Property = slices.Clone(old.Product), slices.Clone(old.Property)
		}
		v.Config.VAppConfig = scratch
		spec.VAppConfig = ovfenv.WithoutSecrets(spec.VAppConfig, options)
	}
	return options, fault
}

// vAppPrivileges returns the privileges for a change of vApp options.
func vAppPrivileges(old *types.VmConfigInfo, given types.BaseVmConfigSpec, removed *bool) []string {
	var privileges []string
	structure, values := ovfenv.ChangedParts(old, given, removed)
	if structure {
		privileges = append(privileges, vAppStructure)
	}
	if values {
		privileges = append(privileges, vAppValues)
	}
	return privileges
}
