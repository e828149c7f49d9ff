// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

// fit adds a device to a VM.
func (b *bed) fit(vm types.ManagedObjectReference, device types.BaseVirtualDevice) {
	object := b.sim.registry().Get(vm)
	ctx := b.sim.background()
	ctx.WithLock(object, func() {
		devices := &b.sim.vmObject(vm).Config.Hardware.Device
		*devices = append((*devices)[:len(*devices):len(*devices)], device)
	})
}

func TestDevicesThatInstantCloneRefuses(t *testing.T) {
	labelled := func(label string, backing types.BaseVirtualDeviceBackingInfo) types.VirtualDevice {
		return types.VirtualDevice{
			Key: 9000, Backing: backing, DeviceInfo: &types.Description{Label: label},
			Connectable: &types.VirtualDeviceConnectInfo{Connected: true},
		}
	}
	image := func(name string) types.BaseVirtualDeviceBackingInfo {
		return &types.VirtualCdromIsoBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: name}}
	}
	for what, test := range map[string]struct {
		device      types.BaseVirtualDevice
		fault, text string
	}{
		"a vTPM": {&types.VirtualTPM{VirtualDevice: labelled("Virtual TPM", nil)}, "NotSupported", "Instant Clone is not supported when VM with vTPM device"},
		"a serial port on the network": {&types.VirtualSerialPort{VirtualDevice: labelled("Serial port 1", &types.VirtualSerialPortURIBackingInfo{})},
			"DeviceNotSupported", "Device 'Serial port 1' is not supported."},
		"a serial port to a file": {&types.VirtualSerialPort{VirtualDevice: labelled("Serial port 1", &types.VirtualSerialPortFileBackingInfo{})}, "", ""},
		"passthrough": {&types.VirtualPCIPassthrough{VirtualDevice: labelled("PCI device 0", nil)},
			"DeviceNotSupported", "Device 'PCI device 0' is not supported."},
		"an image out of reach": {&types.VirtualCdrom{VirtualDevice: labelled("CD/DVD drive 2", image("[gone] a.iso"))}, "CannotAccessVmDevice",
			"Currently connected device 'CD/DVD drive 2' uses backing '[gone] a.iso', which is not accessible."},
		"an image": {&types.VirtualCdrom{VirtualDevice: labelled("CD/DVD drive 2", image("[LocalDS_0] a.iso"))}, "", ""},
	} {
		t.Run(what, func(t *testing.T) {
			b := start(t, modern)
			source := b.vm("DC0_H0_VM0")
			b.fit(source, test.device)
			spec := types.VirtualMachineInstantCloneSpec{Name: "clone"}
			checked := b.check(source, spec)
			if kinds := kindsOf(checked.Error); !strings.Contains(kinds, test.fault) || test.fault == "" && len(checked.Error) > 0 {
				t.Errorf("checked: %s", kinds)
			}
			if got := b.expect("clone", b.clone(source, spec), test.fault); test.fault != "" && got.message != test.text {
				t.Errorf("%q, want %q", got.message, test.text)
			}
		})
	}
}
