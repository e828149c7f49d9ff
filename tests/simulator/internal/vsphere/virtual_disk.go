// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Every clone of a VM that runs leaves a delta disk with it, and has one of its
// own. No snapshot shows them, layoutEx does.

// mostDeltas is how many delta disks a virtual disk may have.
const maxDeltaDisks = 255

// manyDeltas is from how many on vCenter warns.
const warnDeltaDisks = 100

// chainLimit is how many delta disks a VM may have. The caller holds vm.mu.
func (vm *instance) chainLimit() int {
	if vm.deltaLimit > 0 {
		return vm.deltaLimit
	}
	return maxDeltaDisks
}

// chainTooLong is the fault of a clone that would have more delta disks.
func (r *rules) chainTooLong(limit int) types.BaseMethodFault {
	const unprepared = "Unable to prepare migration."
	text := "A general system error occurred: " + unprepared
	if r.is("chain_limit_text", "told") {
		text += fmt.Sprintf(" The virtual machine has the maximum of %d delta disks.", limit)
	}
	fault := &types.SystemError{Reason: "Launch failure"}
	fault.FaultCause = &types.LocalizedMethodFault{
		Fault: withText(&types.GenericVmConfigFault{Reason: unprepared}, unprepared), LocalizedMessage: unprepared,
	}
	return withText(fault, text)
}

// lengthen adds delta disks to a VM, or takes some back. The caller holds the
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

// showChain publishes a VM's delta disks. govmomi's simulator, which knows
// nothing of them, lays the disks out anew at a reconfigure and a refresh. The
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
