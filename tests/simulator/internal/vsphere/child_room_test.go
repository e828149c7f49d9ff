// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func TestSpaceForTheSwapFile(t *testing.T) {
	b := start(t, modern)
	source := b.vm("DC0_H0_VM0")
	memory := int64(b.sim.vmObject(source).Config.Hardware.MemoryMB) << 20
	for _, test := range []struct {
		rule, clone, fault string
		free               int64
	}{
		{"NoDiskSpace", "full", "NoDiskSpace", memory - 1},
		{"NoDiskSpace", "enough", "", memory},
		{"ignored", "ignored", "", 0},
	} {
		b.rule("swap_file_space", test.rule)
		b.patch("datastores/LocalDS_0", map[string]any{"free_space": test.free})
		spec := types.VirtualMachineInstantCloneSpec{Name: test.clone}
		if kinds := kindsOf(b.check(source, spec).Error); kinds != test.fault && !(test.fault != "" && strings.Contains(kinds, test.fault)) {
			t.Errorf("%s: checked: %s", test.clone, kinds)
		}
		b.expect(test.clone, b.clone(source, spec), test.fault)
	}
}

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
