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

// cycle is one run of a VM, from power-on to power-off, as its guest's tools
// see it: it is the guest's backdoor. The instance's mutex guards its fields.
type vmRun struct {
	vm               *instance
	from             powerOrigin
	delivery         delivery
	over             chan struct{} // closed at power-off
	machine          *guest.Machine
	forkedFrom       *guest.Snapshot // the fork point it began at
	forkPoint        *forkPoint
	guestinfoAtStart map[int64]map[string]string // guestinfo when a program was started
	replayValues     map[string]string           // what a program that is run again in a child set
	recorded         [][]string
	replayError      error       // why a child's program could not be run again
	reportedState    guest.State // what Tools reported last; guarded by vm.mu, as what follows
	reportPending    bool        // it will be shown later
}

// isOver reports whether the VM was powered off since.
func (c *vmRun) isOver() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// Call answers a command given to the programs of VMware Tools.
func (c *vmRun) Call(call guest.Call) guest.Answer {
	if c.isOver() {
		return failed("The VM is powered off")
	}
	verb, rest, _ := strings.Cut(strings.TrimLeft(call.Command, " "), " ")
	switch verb {
	case "info-get":
		return c.infoGet(call, strings.TrimSpace(rest))
	case "info-set":
		key, value, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
		return c.infoSet(call, key, value)
	case "machine.id.get":
		var id string
		c.vm.update(func(_ *simulator.Context, object *simulator.VirtualMachine) {
			id = extraConfig(&object.VirtualMachine)["machine.id"]
		})
		if id == "" {
			return failed("No machine id")
		}
		return guest.Answer{OK: true, Text: id}
	case "vmfork-begin":
		if c.vm.sim.hidden {
			return c.forkBegin(call, strings.Fields(rest))
		}
	case "instantclone.freeze":
		if c.vm.sim.hasInstantClone() {
			return c.instantFreeze(call)
		}
	case "log":
		return guest.Answer{OK: true}
	}
	return failed("Unknown command")
}

func failed(text string) guest.Answer { return guest.Answer{Text: text} }

func (c *vmRun) settings() toolsSettings {
	c.vm.mu.Lock()
	defer c.vm.mu.Unlock()
	return c.vm.tools
}

// infoGet reads guestinfo. A program that is run again in a child sees the
// values of its first run: those of the parent when it was started, and its own.
func (c *vmRun) infoGet(call guest.Call, key string) guest.Answer {
	name, ok := strings.CutPrefix(key, guestinfoPrefix)
	if !ok || c.settings().RefuseInfo || c.hardened(call) {
		return failed("Permission denied")
	}
	var values map[string]string
	if call.Replay {
		values = c.replayed()
	} else {
		c.vm.update(func(_ *simulator.Context, object *simulator.VirtualMachine) {
			values = c.vm.guestinfo(&object.VirtualMachine)
		})
	}
	value, ok := values[guestinfoName(name)]
	if !ok {
		return failed("No value found")
	}
	return guest.Answer{OK: true, Text: value}
}

// hardened reports whether the VM's settings forbid this caller a command.
func (c *vmRun) hardened(call guest.Call) bool {
	if call.UID == 0 && c.vm.sim.rules.Is("guest_rpc_auth", "non-root") {
		return false
	}
	verb, _, _ := strings.Cut(strings.TrimLeft(call.Command, " "), " ")
	denied := false
	c.vm.update(func(_ *simulator.Context, object *simulator.VirtualMachine) {
		denied = strings.EqualFold(extraConfig(&object.VirtualMachine)["guest_rpc.rpci.auth.cmd."+verb], "TRUE")
	})
	return denied
}

// setDisabled reports whether the VM's settings forbid every caller to write.
func (c *vmRun) setDisabled() bool {
	disabled := false
	c.vm.update(func(_ *simulator.Context, object *simulator.VirtualMachine) {
		disabled = strings.EqualFold(extraConfig(&object.VirtualMachine)["isolation.tools.setinfo.disable"], "TRUE")
	})
	return disabled
}

// replayed is the guestinfo that a program which is run again in a child sees.
func (c *vmRun) replayed() map[string]string {
	c.vm.mu.Lock()
	origin := c.vm.origin
	c.vm.mu.Unlock()
	values := map[string]string{}
	if origin != nil {
		maps.Copy(values, origin.forkPoint.guestinfoAtStart())
	}
	c.vm.mu.Lock()
	defer c.vm.mu.Unlock()
	for name, value := range c.replayValues {
		if value == "" {
			delete(values, name)
		} else {
			values[name] = value
		}
	}
	return values
}

func (c *vmRun) infoSet(call guest.Call, key, value string) guest.Answer {
	name, ok := strings.CutPrefix(key, guestinfoPrefix)
	if !ok || c.settings().RefuseInfo || c.hardened(call) {
		return failed("Permission denied")
	}
	if limit, _ := strconv.Atoi(c.vm.sim.rules.Get("guestinfo_limit")); len(call.Command) > limit {
		return failed("Failed sending message to VMware.")
	}
	if value == "" && c.vm.sim.rules.Is("info_set_empty", "refused") || c.setDisabled() {
		return failed("Failed")
	}
	name = guestinfoName(name)
	if call.Replay {
		c.vm.mu.Lock()
		defer c.vm.mu.Unlock()
		if c.replayValues == nil {
			c.replayValues = map[string]string{}
		}
		c.replayValues[name] = value
		return guest.Answer{OK: true}
	}
	if name == ovfEnvName {
		c.vm.mu.Lock()
		defer c.vm.mu.Unlock()
		c.delivery.guest = value
		return guest.Answer{OK: true}
	}
	c.vm.mu.Lock()
	_, secret := c.vm.guestOnly[name]
	if secret {
		c.vm.guestOnly[name] = value
	}
	c.vm.mu.Unlock()
	if !secret {
		c.vm.update(func(ctx *simulator.Context, object *simulator.VirtualMachine) {
			setExtraConfig(ctx, object, map[string]string{key: value})
		})
	}
	return guest.Answer{OK: true}
}

// forkBegin lets an enabled parent freeze.
func (c *vmRun) forkBegin(call guest.Call, arguments []string) guest.Answer {
	if call.Replay {
		return guest.Answer{OK: true} // the fork point: the child goes on from here
	}
	settings := c.settings()
	c.vm.mu.Lock()
	defer c.vm.mu.Unlock()
	switch {
	case settings.RefuseFreeze != "":
		return failed(settings.RefuseFreeze)
	case len(arguments) != 2:
		return failed("Invalid arguments")
	case call.UID != 0 && c.vm.sim.rules.Is("freeze_needs_root", "yes"):
		return failed("Permission denied")
	case !c.vm.enabled:
		return failed("The VM is not enabled as a fork parent")
	case c.forkPoint != nil:
		return failed("The VM is frozen already")
	}
	c.forkPoint = &forkPoint{run: c, program: call.Program, holders: 1}
	return guest.Answer{OK: true, Freeze: true}
}

// instantFreeze lets any VM freeze for InstantClone.
func (c *vmRun) instantFreeze(call guest.Call) guest.Answer {
	if call.Replay {
		return guest.Answer{OK: true} // as in forkBegin
	}
	settings := c.settings()
	c.vm.mu.Lock()
	defer c.vm.mu.Unlock()
	switch {
	case settings.RefuseFreeze != "":
		return failed(settings.RefuseFreeze)
	case call.UID != 0 && c.vm.sim.rules.Is("freeze_needs_root", "yes"):
		return failed("Permission denied")
	case c.forkPoint != nil:
		return failed("The VM is frozen already")
	}
	c.forkPoint = &forkPoint{run: c, program: call.Program, holders: 1, instant: true}
	return guest.Answer{OK: true, Freeze: true}
}

// Frozen follows when nothing runs in the guest any longer.
func (c *vmRun) Frozen(snapshot *guest.Snapshot) {
	kept := false
	c.vm.update(func(ctx *simulator.Context, object *simulator.VirtualMachine) {
		if c.isOver() {
			return
		}
		kept = true
		c.forkPoint.record(snapshot, &object.VirtualMachine)
		c.vm.sim.showRuntime(ctx, object)
	})
	if !kept { // the VM was powered off just now
		c.vm.sim.platform.Release(snapshot)
	}
}

// Changed follows the guest's host name and network.
func (c *vmRun) Changed(state guest.State, asked bool) { c.vm.sim.toolsReported(c, state, asked) }

// Ended forgets what belonged to a program.
func (c *vmRun) Ended(process guest.Process) {
	c.vm.mu.Lock()
	defer c.vm.mu.Unlock()
	if c.forkPoint == nil {
		delete(c.guestinfoAtStart, process.PID)
	}
}

// Recorded keeps the calls of simulated commands for the control endpoint.
func (c *vmRun) Recorded(command []string) {
	c.vm.mu.Lock()
	defer c.vm.mu.Unlock()
	c.recorded = append(c.recorded, command)
}

// Rebooted starts the guest again, as RebootGuest does.
func (c *vmRun) Rebooted() {
	c.vm.sim.spawn(func() {
		c.vm.update(func(ctx *simulator.Context, object *simulator.VirtualMachine) {
			if !c.isOver() {
				c.vm.sim.guestReboots(ctx, object)
			}
		})
	})
}

// PoweredOff powers the VM off as its guest asked. It is nobody's task, and
// vCenter learns of it from the host.
func (c *vmRun) PoweredOff() {
	s := c.vm.sim
	s.spawn(func() {
		ctx := s.background()
		startOperation(ctx, operation{origin: fromGuest})
		if object, ok := c.vm.object(ctx); ok {
			ctx.WithLock(object, func() {
				if !c.isOver() {
					object.ShutdownGuest(ctx, &types.ShutdownGuest{This: object.Self})
				}
			})
		}
	})
}

// ReplayFailed keeps why a child's program did not come to the fork point.
func (c *vmRun) ReplayFailed(err error) {
	c.vm.sim.logError("%s: the program that froze the parent could not be run again: %v", c.vm.ref.Value, err)
	c.vm.mu.Lock()
	defer c.vm.mu.Unlock()
	c.replayError = err
}

// starting is called before a program is started; what it returns keeps, with
// the program's pid, the guestinfo the program met.
func (c *vmRun) starting() func(pid int64) {
	var values map[string]string
	c.vm.update(func(_ *simulator.Context, object *simulator.VirtualMachine) {
		values = c.vm.guestinfo(&object.VirtualMachine)
	})
	return func(pid int64) {
		c.vm.mu.Lock()
		defer c.vm.mu.Unlock()
		c.guestinfoAtStart[pid] = values
	}
}
