// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The fork point of a parent, from which its children start.

package vsphere

import (
	"maps"
	"sync"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
)

// forkPoint is the state of a parent at its fork point, which every child
// starts from. It is kept by the parent while it is frozen, and by every child
// that may still start from it. A clone of a running VM has one of its own.
type forkPoint struct {
	run     *vmRun // of the parent
	program int64  // the program that froze it
	instant bool   // for InstantClone, not for CreateForkChild

	mu       sync.Mutex
	holders  int
	snapshot *guest.Snapshot
	extra    map[string]string // extraConfig at the freeze
	delivery delivery
	hostname string
	address  string
	nets     []types.GuestNicInfo
}

// record stores the state at the fork point. The caller holds the parent's
// lock.
func (f *forkPoint) record(snapshot *guest.Snapshot, parent *mo.VirtualMachine) {
	f.run.vm.mu.Lock()
	delivery := f.run.delivery
	f.run.vm.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshot, f.delivery = snapshot, delivery
	f.extra = extraConfig(parent)
	f.hostname, f.address, f.nets = parent.Guest.HostName, parent.Guest.IpAddress, parent.Guest.Net
}

func (f *forkPoint) guestSnapshot() *guest.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.snapshot
}

func (f *forkPoint) guestInfo() (hostname, address string, nets []types.GuestNicInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hostname, f.address, f.nets
}

// extraConfig returns the parent's extraConfig as it was at the freeze.
func (f *forkPoint) extraConfig() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.extra)
}

// delivered returns the OVF environment in the parent's memory at the freeze.
func (f *forkPoint) delivered() delivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.delivery
}

// guestinfoAtStart returns the parent's guestinfo at the start of the program
// that froze it.
func (f *forkPoint) guestinfoAtStart() map[string]string {
	f.run.vm.mu.Lock()
	defer f.run.vm.mu.Unlock()
	return maps.Clone(f.run.guestinfoAtStart[f.program])
}

func (f *forkPoint) retain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holders++
}

func (f *forkPoint) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holders--
	if f.holders == 0 && f.snapshot != nil {
		f.run.vm.sim.platform.Release(f.snapshot)
		f.snapshot = nil
	}
}

// origin is how a child was created.
type origin struct {
	instant    bool // an instant clone, which has no fork group and is independent
	parent     types.ManagedObjectReference
	group      string
	persistent bool
	forkPoint  *forkPoint
	started    bool // whether it was powered on
	broken     bool // whether its parent was removed
}
