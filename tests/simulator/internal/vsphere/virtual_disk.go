// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// VirtualDisk: copies of devices, and delta disks in layoutEx.

package vsphere

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"

	"vmforksim/internal/rules"
	"vmforksim/internal/vimfault"
)

// Every clone of a running VM adds a delta disk to it, and has one of its own.
// They are not in snapshots, but in layoutEx.

// maxDeltaDisks is the number of delta disks that a virtual disk may have.
const maxDeltaDisks = 255

// warnDeltaDisks is the number of delta disks from which vCenter warns.
const warnDeltaDisks = 100

// chainLimit returns the number of delta disks that a VM may have. The caller
// holds vm.mu.
func (vm *instance) chainLimit() int {
	if vm.deltaLimit > 0 {
		return vm.deltaLimit
	}
	return maxDeltaDisks
}

// chainTooLong is the fault of a clone that would exceed it.
func chainTooLong(r *rules.Rules, limit int) types.BaseMethodFault {
	const unprepared = "Unable to prepare migration."
	text := "A general system error occurred: " + unprepared
	if r.Is("chain_limit_text", "shown") {
		text += fmt.Sprintf(" The virtual machine has the maximum of %d delta disks.", limit)
	}
	fault := &types.SystemError{Reason: "Launch failure"}
	fault.FaultCause = &types.LocalizedMethodFault{
		Fault: vimfault.WithText(&types.GenericVmConfigFault{Reason: unprepared}, unprepared), LocalizedMessage: unprepared,
	}
	return vimfault.WithText(fault, text)
}

// addDeltaDisks adds delta disks to a VM, or removes some. The caller holds the
// VM's lock.
func (s *Simulator) addDeltaDisks(ctx *simulator.Context, object *simulator.VirtualMachine, by int) {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	vm.deltas += by
	vm.mu.Unlock()
	s.showChain(ctx, object)
}

// deltaDisk is the file of a delta disk.
var deltaDisk = regexp.MustCompile(`-\d{6}\.vmdk$`)

// showChain publishes a VM's delta disks. govmomi's simulator, which does not
// support them, builds the layout again at a reconfigure and a refresh. The
// caller holds the lock.
func (s *Simulator) showChain(ctx *simulator.Context, object *simulator.VirtualMachine) {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	deltas := vm.deltas
	vm.mu.Unlock()
	shown := slices.ContainsFunc(object.LayoutEx.File, func(file types.VirtualMachineFileLayoutExFileInfo) bool { return deltaDisk.MatchString(file.Name) })
	if deltas == 0 && !shown {
		return
	}
	layout := *object.LayoutEx
	layout.Timestamp = time.Now()
	layout.File, layout.Disk = nil, slices.Clone(layout.Disk)
	names, last := map[int32]string{}, int32(0)
	for _, file := range object.LayoutEx.File {
		if !deltaDisk.MatchString(file.Name) {
			layout.File = append(layout.File, file)
			names[file.Key] = file.Name
			last = max(last, file.Key)
		}
	}
	for i := range layout.Disk {
		disk := &layout.Disk[i]
		base := slices.IndexFunc(disk.Chain, func(unit types.VirtualMachineFileLayoutExDiskUnit) bool { return names[unit.FileKey[0]] != "" })
		if base < 0 {
			continue
		}
		chain := []types.VirtualMachineFileLayoutExDiskUnit{disk.Chain[base]}
		path := strings.TrimSuffix(strings.TrimSuffix(names[disk.Chain[base].FileKey[0]], ".vmdk"), "-flat")
		for number := range deltas {
			last++
			layout.File = append(layout.File, types.VirtualMachineFileLayoutExFileInfo{
				Key: last, Name: fmt.Sprintf("%s-%06d.vmdk", path, number+1), Accessible: types.NewBool(true),
				Type: string(types.VirtualMachineFileLayoutExFileTypeDiskDescriptor),
			})
			chain = append(chain, types.VirtualMachineFileLayoutExDiskUnit{FileKey: []int32{last}})
		}
		disk.Chain = chain
	}
	ctx.Update(object, []types.PropertyChange{{Name: "layoutEx", Val: &layout}})
}

// copiedDevices returns the parent's devices as the spec of a new VM, without
// those that every VM has from the start. A linked disk is a delta on the
// parent's file.
func copiedDevices(devices []types.BaseVirtualDevice, linked bool) []types.BaseVirtualDeviceConfigSpec {
	var changes []types.BaseVirtualDeviceConfigSpec
	standard := object.VirtualDeviceList(esx.VirtualDevice)
	list := object.VirtualDeviceList(cloneDevices(devices))
	for _, device := range list {
		if standard.Find(list.Name(device)) != nil {
			continue
		}
		change := &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: device}
		if disk, ok := device.(*types.VirtualDisk); ok {
			change.FileOperation = types.VirtualDeviceConfigSpecFileOperationCreate
			if backing, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
				base := *backing
				backing.FileName, backing.Uuid, backing.Parent = "", "", nil
				if linked {
					backing.Parent = &base
				}
			}
		}
		changes = append(changes, change)
	}
	return changes
}

// cloneDevices copies devices by encoding and decoding them.
func cloneDevices(devices []types.BaseVirtualDevice) []types.BaseVirtualDevice {
	var encoded bytes.Buffer
	if err := xml.NewEncoder(&encoded).Encode(types.ArrayOfVirtualDevice{VirtualDevice: devices}); err != nil {
		panic(err) // a VM's devices came from a SOAP request, or from this program
	}
	decoder := xml.NewDecoder(&encoded)
	decoder.TypeFunc = types.TypeFunc()
	var copied types.ArrayOfVirtualDevice
	if err := decoder.Decode(&copied); err != nil {
		panic(err)
	}
	return copied.VirtualDevice
}
