// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The commands that VMware Tools in a guest send to the VM (info-get, info-set,
// vmfork-begin, …).

package vsphere

import (
	"maps"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
)

// vmRun is one run of a VM, from power-on to power-off, as seen by its guest's
// tools: it is the guest's backdoor. The instance's mutex guards its fields.
type vmRun struct {
	vm               *instance
	from             powerOrigin
	delivery         delivery
	over             chan struct{} // closed at power-off
	machine          *guest.Machine
	forkedFrom       *guest.Snapshot // the fork point it started from
	forkPoint        *forkPoint
	guestinfoAtStart map[int64]map[string]string // guestinfo at the start of a program
	replayValues     map[string]string           // set by a program that is run again in a child
	recorded         [][]string
	replayError      error       // why a child's program could not be run again
	reportedState    guest.State // last report of Tools; guarded by vm.mu, like the fields below
	reportPending    bool        // it will be shown later
}

// isOver reports whether the VM has been powered off.
func (r *vmRun) isOver() bool {
	select {
	case <-r.over:
		return true
	default:
		return false
	}
}

// Call answers a command given to the programs of VMware Tools.
func (r *vmRun) Call(call guest.Call) guest.Answer {
	if r.isOver() {
		return failed("The VM is powered off")
	}
	verb, rest, _ := strings.Cut(strings.TrimLeft(call.Command, " "), " ")
	switch verb {
	case "info-get":
		return r.infoGet(call, strings.TrimSpace(rest))
	case "info-set":
		key, value, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
		return r.infoSet(call, key, value)
	case "machine.id.get":
		var id string
		r.vm.update(func(_ *simulator.Context, object *simulator.VirtualMachine) {
			id = extraConfig(&object.VirtualMachine)["machine.id"]
		})
		if id == "" {
			return failed("No machine id")
		}
		return guest.Answer{OK: true, Text: id}
	case "vmfork-begin":
		if r.vm.sim.hidden {
			return r.forkBegin(call, strings.Fields(rest))
		}
	case "instantclone.freeze":
		if r.vm.sim.hasInstantClone() {
			return r.instantFreeze(call)
		}
	case "log":
		return guest.Answer{OK: true}
	}
	return failed("Unknown command")
}

func failed(text string) guest.Answer { return guest.Answer{Text: text} }

func (r *vmRun) settings() toolsSettings {
	r.vm.mu.Lock()
	defer r.vm.mu.Unlock()
	return r.vm.tools
}

// infoGet reads guestinfo. A program that is run again in a child sees the
// values of its first run: those of the parent at its start, and its own.
func (r *vmRun) infoGet(call guest.Call, key string) guest.Answer {
	name, ok := strings.CutPrefix(key, guestinfoPrefix)
	if !ok || r.settings().RefuseInfo || r.hardened(call) {
		return failed("Permission denied")
	}
	var values map[string]string
	if call.Replay {
		values = r.replayed()
	} else {
		r.vm.update(func(_ *simulator.Context, object *simulator.VirtualMachine) {
			values = r.vm.guestinfo(&object.VirtualMachine)
		})
	}
	value, ok := values[guestinfoName(name)]
	if !ok {
		return failed("No value found")
	}
	return guest.Answer{OK: true, Text: value}
}

// hardened reports whether the VM's settings forbid this caller a command.
func (r *vmRun) hardened(call guest.Call) bool {
	if call.UID == 0 && r.vm.sim.rules.Is("guest_rpc_auth", "non-root") {
		return false
	}
	verb, _, _ := strings.Cut(strings.TrimLeft(call.Command, " "), " ")
	denied := false
	r.vm.update(func(_ *simulator.Context, object *simulator.VirtualMachine) {
		denied = strings.EqualFold(extraConfig(&object.VirtualMachine)["guest_rpc.rpci.auth.cmd."+verb], "TRUE")
	})
	return denied
}

// setDisabled reports whether the VM's settings forbid all writes.
func (r *vmRun) setDisabled() bool {
	disabled := false
	r.vm.update(func(_ *simulator.Context, object *simulator.VirtualMachine) {
		disabled = strings.EqualFold(extraConfig(&object.VirtualMachine)["isolation.tools.setinfo.disable"], "TRUE")
	})
	return disabled
}

// replayed returns the guestinfo that a program sees when it is run again in a
// child.
func (r *vmRun) replayed() map[string]string {
	r.vm.mu.Lock()
	origin := r.vm.origin
	r.vm.mu.Unlock()
	values := map[string]string{}
	if origin != nil {
		maps.Copy(values, origin.forkPoint.guestinfoAtStart())
	}
	r.vm.mu.Lock()
	defer r.vm.mu.Unlock()
	for name, value := range r.replayValues {
		if value == "" {
			delete(values, name)
		} else {
			values[name] = value
		}
	}
	return values
}

func (r *vmRun) infoSet(call guest.Call, key, value string) guest.Answer {
	name, ok := strings.CutPrefix(key, guestinfoPrefix)
	if !ok || r.settings().RefuseInfo || r.hardened(call) {
		return failed("Permission denied")
	}
	if limit, _ := strconv.Atoi(r.vm.sim.rules.Get("guestinfo_limit")); len(call.Command) > limit {
		return failed("Failed sending message to VMware.")
	}
	if value == "" && r.vm.sim.rules.Is("info_set_empty", "refused") || r.setDisabled() {
		return failed("Failed")
	}
	name = guestinfoName(name)
	if call.Replay {
		r.vm.mu.Lock()
		defer r.vm.mu.Unlock()
		if r.replayValues == nil {
			r.replayValues = map[string]string{}
		}
		r.replayValues[name] = value
		return guest.Answer{OK: true}
	}
	if name == ovfEnvName {
		r.vm.mu.Lock()
		defer r.vm.mu.Unlock()
		r.delivery.guest = value
		return guest.Answer{OK: true}
	}
	r.vm.mu.Lock()
	_, secret := r.vm.guestOnly[name]
	if secret {
		r.vm.guestOnly[name] = value
	}
	r.vm.mu.Unlock()
	if !secret {
		r.vm.update(func(ctx *simulator.Context, object *simulator.VirtualMachine) {
			setExtraConfig(ctx, object, map[string]string{key: value})
			if r.vm.sim.rules.Is("change_version_info_set", "changed") {
				renewChangeVersion(ctx, object)
			}
		})
	}
	return guest.Answer{OK: true}
}

// forkBegin lets an enabled parent freeze.
func (r *vmRun) forkBegin(call guest.Call, arguments []string) guest.Answer {
	if call.Replay {
		return guest.Answer{OK: true} // the fork point: the child goes on from here
	}
	settings := r.settings()
	r.vm.mu.Lock()
	defer r.vm.mu.Unlock()
	switch {
	case settings.RefuseFreeze != "":
		return failed(settings.RefuseFreeze)
	case len(arguments) != 2:
		return failed("Invalid arguments")
	case call.UID != 0 && r.vm.sim.rules.Is("freeze_needs_root", "yes"):
		return failed("Permission denied")
	case !r.vm.enabled:
		return failed("The VM is not enabled as a fork parent")
	case r.forkPoint != nil:
		return failed("The VM is frozen already")
	}
	r.forkPoint = &forkPoint{run: r, program: call.Program, holders: 1}
	return guest.Answer{OK: true, Freeze: true}
}

// instantFreeze lets any VM freeze for InstantClone.
func (r *vmRun) instantFreeze(call guest.Call) guest.Answer {
	if call.Replay {
		return guest.Answer{OK: true} // as in forkBegin
	}
	settings := r.settings()
	r.vm.mu.Lock()
	defer r.vm.mu.Unlock()
	switch {
	case settings.RefuseFreeze != "":
		return failed(settings.RefuseFreeze)
	case call.UID != 0 && r.vm.sim.rules.Is("freeze_needs_root", "yes"):
		return failed("Permission denied")
	case r.forkPoint != nil:
		return failed("The VM is frozen already")
	}
	r.forkPoint = &forkPoint{run: r, program: call.Program, holders: 1, instant: true}
	return guest.Answer{OK: true, Freeze: true}
}

// Frozen is called when nothing runs in the guest any longer.
func (r *vmRun) Frozen(snapshot *guest.Snapshot) {
	kept := false
	r.vm.update(func(ctx *simulator.Context, object *simulator.VirtualMachine) {
		if r.isOver() {
			return
		}
		kept = true
		r.forkPoint.record(snapshot, &object.VirtualMachine)
		r.vm.sim.showRuntime(ctx, object)
	})
	if !kept { // the VM was powered off just now
		r.vm.sim.platform.Release(snapshot)
	}
}

// Changed handles a change of the guest's host name and network.
func (r *vmRun) Changed(state guest.State, asked bool) { r.vm.sim.toolsReported(r, state, asked) }

// Ended removes the data of a program.
func (r *vmRun) Ended(process guest.Process) {
	r.vm.mu.Lock()
	defer r.vm.mu.Unlock()
	if r.forkPoint == nil {
		delete(r.guestinfoAtStart, process.PID)
	}
}

// Recorded keeps the calls of simulated commands for the control endpoint.
func (r *vmRun) Recorded(command []string) {
	r.vm.mu.Lock()
	defer r.vm.mu.Unlock()
	r.recorded = append(r.recorded, command)
}

// Rebooted restarts the guest, as RebootGuest does.
func (r *vmRun) Rebooted() {
	r.vm.sim.spawn(func() {
		r.vm.update(func(ctx *simulator.Context, object *simulator.VirtualMachine) {
			if !r.isOver() {
				r.vm.sim.guestReboots(ctx, object)
			}
		})
	})
}

// PoweredOff powers the VM off at the request of its guest. There is no task,
// and vCenter learns of it from the host.
func (r *vmRun) PoweredOff() {
	s := r.vm.sim
	s.spawn(func() {
		ctx := s.background()
		startOperation(ctx, operation{origin: fromGuest})
		if object, ok := r.vm.object(ctx); ok {
			ctx.WithLock(object, func() {
				if !r.isOver() {
					object.ShutdownGuest(ctx, &types.ShutdownGuest{This: object.Self})
				}
			})
		}
	})
}

// ReplayFailed stores why a child's program did not reach the fork point.
func (r *vmRun) ReplayFailed(err error) {
	r.vm.sim.logError("%s: the program that froze the parent could not be run again: %v", r.vm.ref.Value, err)
	r.vm.mu.Lock()
	defer r.vm.mu.Unlock()
	r.replayError = err
}

// starting is called before a program is started; the function it returns
// stores, with the program's PID, the guestinfo that the program sees.
func (r *vmRun) starting() func(pid int64) {
	var values map[string]string
	r.vm.update(func(_ *simulator.Context, object *simulator.VirtualMachine) {
		values = r.vm.guestinfo(&object.VirtualMachine)
	})
	return func(pid int64) {
		r.vm.mu.Lock()
		defer r.vm.mu.Unlock()
		r.guestinfoAtStart[pid] = values
	}
}
