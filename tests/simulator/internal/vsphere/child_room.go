// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Room for a child: the memory that it reserves, and the space for its swap
// file.

package vsphere

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

// lackOfRoom returns the reasons why a child of a VM does not fit into a
// resource pool and on a datastore. The caller holds the VM's lock.
func (v *virtualMachine) lackOfRoom(ctx *simulator.Context, pool, datastore types.ManagedObjectReference) (problems []problem) {
	var reserved int64
	if allocation := v.Config.MemoryAllocation; allocation != nil && allocation.Reservation != nil {
		reserved = *allocation.Reservation << 20
	}
	unreserved := reserved
	if p, ok := ctx.Map.Get(pool).(*simulator.ResourcePool); ok {
		ctx.WithLock(p, func() { unreserved = p.Runtime.Memory.UnreservedForVm })
	}
	if reserved > unreserved {
		fault := &types.InsufficientMemoryResourcesFault{Unreserved: unreserved, Requested: reserved}
		problems = append(problems, problem{types.CheckTestTypeResourcePoolTests, vimfault.WithText(fault, "The available Memory resources in the parent resource pool are insufficient for the operation.")})
	}
	store, ok := ctx.Map.Get(datastore).(*simulator.Datastore)
	if !ok {
		return problems
	}
	var free int64
	ctx.WithLock(store, func() { free = store.Summary.FreeSpace })
	swap := int64(v.Config.Hardware.MemoryMB)<<20 - reserved
	if swap > free && v.sim.rules.Is("swap_file_space", "NoDiskSpace") {
		fault := &types.NoDiskSpace{FileFault: types.FileFault{File: "[" + store.Name + "]"}, Datastore: store.Name}
		problems = append(problems, problem{types.CheckTestTypeDatastoreTests, vimfault.WithText(fault, "Insufficient disk space on datastore '"+store.Name+"'.")})
	}
	return problems
}
