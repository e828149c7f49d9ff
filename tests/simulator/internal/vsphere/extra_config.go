// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// config.extraConfig and guestinfo of a VM.

package vsphere

import (
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// guestinfoPrefix marks the part of extraConfig that the guest reads and
// writes.
const guestinfoPrefix = "guestinfo."

// extraConfig returns a VM's extraConfig as text. The caller holds the lock.
func extraConfig(vm *mo.VirtualMachine) map[string]string {
	values := map[string]string{}
	for _, option := range vm.Config.ExtraConfig {
		value := option.GetOptionValue()
		if text, ok := value.Value.(string); ok {
			values[value.Key] = text
		}
	}
	return values
}

// setExtraConfig changes entries; an empty value removes one. Published
// values are never changed in place: a client may be reading them. The caller
// holds the lock.
func setExtraConfig(ctx *simulator.Context, vm *simulator.VirtualMachine, values map[string]string) {
	var entries []types.BaseOptionValue
	var changes []types.PropertyChange
	old := extraConfig(&vm.VirtualMachine)
	for _, option := range vm.Config.ExtraConfig {
		key := option.GetOptionValue().Key
		value, changed := values[key]
		switch {
		case !changed:
			entries = append(entries, option)
		case value != "":
			entries = append(entries, &types.OptionValue{Key: key, Value: value})
		}
	}
	for key, value := range values {
		if _, known := old[key]; !known && value != "" {
			entries = append(entries, &types.OptionValue{Key: key, Value: value})
		}
	}
	changes = append(changes, types.PropertyChange{Name: "config.extraConfig", Val: entries})
	ctx.Update(vm, changes)
}

// renewChangeVersion publishes a new config.changeVersion, as govmomi's
// simulator does after a reconfigure. The caller holds the lock.
func renewChangeVersion(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	version := strconv.FormatInt(time.Now().UnixNano(), 10)
	ctx.Update(vm, []types.PropertyChange{{Name: "config.changeVersion", Val: version}})
}

// forgetGuestinfo removes, at a power-off, all guestinfo values that were set
// since the power-on. The caller holds the lock.
func (s *Simulator) forgetGuestinfo(ctx *simulator.Context, vm *instance, object *simulator.VirtualMachine) {
	if s.rules.Is("guestinfo_after_power_cycle", "kept") {
		return
	}
	vm.mu.Lock()
	atPowerOn := vm.extraConfigAtPowerOn
	vm.mu.Unlock()
	volatile := map[string]string{}
	for key, value := range extraConfig(&object.VirtualMachine) {
		if strings.HasPrefix(key, guestinfoPrefix) && value != atPowerOn[key] {
			volatile[key] = ""
		}
	}
	if len(volatile) > 0 {
		setExtraConfig(ctx, object, volatile)
	}
}

// dropGuestOnly removes the values visible only to the guest if a client has
// set others: guestinfo is a single store.
func (vm *instance) dropGuestOnly(options []types.BaseOptionValue) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	for _, option := range options {
		delete(vm.guestOnly, strings.TrimPrefix(option.GetOptionValue().Key, guestinfoPrefix))
	}
}

// guestinfo returns the values that the guest can read, by key without
// "guestinfo.". The caller holds the VM's lock.
func (vm *instance) guestinfo(object *mo.VirtualMachine) map[string]string {
	values := map[string]string{}
	for key, value := range extraConfig(object) {
		if name, ok := strings.CutPrefix(key, guestinfoPrefix); ok {
			values[name] = value
		}
	}
	vm.mu.Lock()
	defer vm.mu.Unlock()
	for name, value := range vm.guestOnly {
		values[name] = value
	}
	if vm.run != nil && vm.run.delivery.guest != "" {
		values[ovfEnvName] = vm.run.delivery.guest
	}
	return values
}
