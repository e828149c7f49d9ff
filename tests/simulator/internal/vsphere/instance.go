// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The simulator's data about a VM besides its properties.

package vsphere

import (
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
)

// instance contains the simulator's data about a VM besides its properties. Its
// mutex guards all fields; it is never held while a lock of govmomi's registry
// is taken, or during a wait for a guest.
type instance struct {
	sim *Simulator
	ref types.ManagedObjectReference

	mu                   sync.Mutex
	run                  *vmRun                        // from power-on to power-off, or to a reset; nil while off
	booted               time.Time                     // when it was powered on; zero while off
	extraConfigAtPowerOn map[string]string             // extraConfig at that power-on
	nextDelivery         *delivery                     // for the power-on in progress
	vapp                 *types.VmConfigInfo           // vApp options, passwords included; nil while they are off
	parent               *types.ManagedObjectReference // the vApp the VM is in
	injected             string                        // guestinfo.ovfEnv as a client wrote it
	lastDelivery         delivery                      // at the last power-on by vCenter
	poweredOnByHost      bool                          // powered on without vCenter since its vApp options were written
	enabled              bool                          // as a fork parent
	forkGroup            string                        // the fork group the VM heads
	origin               *origin                       // how a child came to be; nil for others
	inheritedGroup       string                        // the fork group a clone of a child shows
	guestOnly            map[string]string             // guestinfo that only the guest sees
	deltas               int                           // delta disks that instant clones made
	deltaLimit           int                           // of delta disks; 0 is that of vSphere
	connectedCards       map[int32]bool                // which adapters the next power-on connects, in spite of startConnected
	tools                toolsSettings
	disk                 bool          // the guest has a disk
	queueTail            chan struct{} // closed when what was queued last is done
}

// toolsSettings are the settings of a guest's Tools made by the control
// endpoint.
type toolsSettings struct {
	Stopped      bool     // not running
	Unready      bool     // no guest operations
	Uninstalled  bool     // the programs are missing in the guest
	RefuseFreeze string   // the answer to vmfork-begin and instantclone.freeze
	RefuseInfo   bool     // info-get and info-set are denied
	StaysUp      bool     // a guest that is asked to shut down does not
	Family       string   // the guest family they report; Linux if empty
	Interfaces   []string // names of the adapters' interfaces from the next power-on on; eth0, … when empty
}

// instances are all VMs by moid.
type instances struct {
	sim    *Simulator
	mu     sync.Mutex
	byMoid map[string]*instance
}

// of returns the instance of a VM, and creates it if there is none.
func (i *instances) of(ref types.ManagedObjectReference) *instance {
	i.mu.Lock()
	defer i.mu.Unlock()
	vm, ok := i.byMoid[ref.Value]
	if !ok {
		vm = &instance{sim: i.sim, ref: ref}
		i.byMoid[ref.Value] = vm
	}
	return vm
}

// get returns an existing instance, or nil.
func (i *instances) get(moid string) *instance {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.byMoid[moid]
}

func (i *instances) all() []*instance {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []*instance
	for _, vm := range i.byMoid {
		all = append(all, vm)
	}
	return all
}

// remove removes the data of a destroyed VM, with its guest's disk.
func (i *instances) remove(ref types.ManagedObjectReference) {
	i.mu.Lock()
	vm, ok := i.byMoid[ref.Value]
	delete(i.byMoid, ref.Value)
	i.mu.Unlock()
	if !ok {
		return
	}
	vm.mu.Lock()
	origin, disk := vm.origin, vm.disk
	vm.mu.Unlock()
	vm.enqueue(func() {
		if disk && vm.sim.platform != nil {
			if err := vm.sim.platform.RemoveDisk(ref.Value); err != nil {
				vm.sim.logError("%s: %v", ref.Value, err)
			}
		}
		if origin != nil {
			origin.forkPoint.release()
		}
	})
}

// enqueue runs f after everything queued before for this VM's guest: a guest is
// started, stopped and removed in the order of the requests.
func (vm *instance) enqueue(f func()) {
	done := make(chan struct{})
	vm.mu.Lock()
	previous := vm.queueTail
	vm.queueTail = done
	vm.mu.Unlock()
	started := vm.sim.spawn(func() {
		defer close(done)
		if previous != nil {
			<-previous
		}
		f()
	})
	if !started {
		close(done)
	}
}

// waitQueue waits until everything queued so far is done.
func (vm *instance) waitQueue() {
	vm.mu.Lock()
	last := vm.queueTail
	vm.mu.Unlock()
	if last != nil {
		<-last
	}
}

// machine returns the running guest of a VM and whether it is frozen.
func (vm *instance) machine() (*guest.Machine, bool) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.run == nil {
		return nil, false
	}
	return vm.run.machine, vm.run.forkPoint != nil
}

// forkable reports whether a program may freeze the guest, so that the machine
// must keep what is needed to run a program again.
func (vm *instance) forkable() bool {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.enabled || vm.sim.hasInstantClone()
}

// interfaces returns the names that the guest gives its adapters' interfaces.
func (vm *instance) interfaces() []string {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.tools.Interfaces
}

// object returns the VM of govmomi's simulator.
func (vm *instance) object(ctx *simulator.Context) (*simulator.VirtualMachine, bool) {
	object, ok := ctx.Map.Get(vm.ref).(*simulator.VirtualMachine)
	return object, ok
}

// update changes a VM under its lock, for work outside of clients' calls.
func (vm *instance) update(change func(ctx *simulator.Context, object *simulator.VirtualMachine)) {
	ctx := vm.sim.background()
	object, ok := vm.object(ctx)
	if !ok {
		return
	}
	ctx.WithLock(object, func() { change(ctx, object) })
}
