// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Devices that prevent a VM from being cloned with InstantClone.

package vsphere

import (
	"fmt"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

// refusedDevices returns the faults for devices that prevent an instant clone
// of a VM (rule instant_clone_refuses). The caller holds the VM's lock.
func (v *virtualMachine) refusedDevices(ctx *simulator.Context) (faults []types.BaseMethodFault) {
	for _, base := range v.Config.Hardware.Device {
		device := base.GetVirtualDevice()
		label := fmt.Sprint(device.Key)
		if device.DeviceInfo != nil {
			label = device.DeviceInfo.GetDescription().Label
		}
		unsupported := func() {
			fault := &types.DeviceNotSupported{Device: label}
			faults = append(faults, vimfault.WithText(fault, fmt.Sprintf("Device '%s' is not supported.", label)))
		}
		switch base := base.(type) {
		case *types.VirtualTPM:
			fault, err := vimfault.New(v.sim.rules.Get("instant_clone_vtpm_fault"), v.Self.Value, "Instant Clone is not supported when VM with vTPM device")
			if err != nil {
				panic(err) // every choice is a fault
			}
			faults = append(faults, fault)
		case *types.VirtualPCIPassthrough:
			unsupported()
		case *types.VirtualSerialPort:
			if _, file := base.Backing.(*types.VirtualSerialPortFileBackingInfo); !file {
				unsupported()
			}
		case *types.VirtualCdrom:
			image, ok := base.Backing.(*types.VirtualCdromIsoBackingInfo)
			connected := device.Connectable != nil && device.Connectable.Connected
			if ok && connected && !v.reaches(ctx, image.FileName) {
				fault := &types.CannotAccessVmDevice{Device: label, Backing: image.FileName, Connected: true}
				faults = append(faults, vimfault.WithText(fault, fmt.Sprintf(
					"Currently connected device '%s' uses backing '%s', which is not accessible.", label, image.FileName)))
			}
		}
	}
	return faults
}

// reaches reports whether the VM's host can access the datastore of a file.
func (v *virtualMachine) reaches(ctx *simulator.Context, file string) bool {
	name, _, found := strings.Cut(strings.TrimPrefix(file, "["), "] ")
	host, ok := ctx.Map.Get(*v.Runtime.Host).(*simulator.HostSystem)
	if !found || !ok {
		return false
	}
	for _, ref := range host.Datastore {
		if store, ok := ctx.Map.Get(ref).(*simulator.Datastore); ok && store.Name == name {
			return store.Summary.Accessible
		}
	}
	return false
}
