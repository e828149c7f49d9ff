// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func TestMemoryThatCannotBeReserved(t *testing.T) {
	b := start(t, modern)
	source := b.vm("DC0_H0_VM0")
	object := b.sim.vmObject(source)
	ctx := b.sim.background()
	reserve := func(mib int64) {
		ctx.WithLock(object, func() { object.Config.MemoryAllocation = &types.ResourceAllocationInfo{Reservation: &mib} })
	}
	reserve(1 << 30)
	b.expect("refused", b.clone(source, types.VirtualMachineInstantCloneSpec{Name: "refused"}), "InsufficientMemoryResourcesFault")
	reserve(1)
	b.expect("made", b.clone(source, types.VirtualMachineInstantCloneSpec{Name: "made"}), "")
}
