// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"cmp"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
)

// powerChanged follows every change of a VM's power state, whoever made it.
// The caller holds the VM's lock, so the guest itself is only queued.
func (s *Simulator) powerChanged(ctx *simulator.Context, changed *mo.VirtualMachine) {
	vm := s.instances.of(changed.Self)
	object, ok := vm.object(ctx)
	if !ok {
		return
	}
	resumed := vm.isSuspended()
	switch state := changed.Runtime.PowerState; {
	case state == types.VirtualMachinePowerStatePoweredOn && !resumed:
		s.connectCards(ctx, object, true)
		vm.setBootTime(s.now(), extraConfig(&object.VirtualMachine))
		s.poweredOn(ctx, vm, object, operationOf(ctx).origin)
	case state == types.VirtualMachinePowerStatePoweredOff:
		s.connectCards(ctx, object, false)
		s.forgetGuestinfo(ctx, vm, object)
		vm.setBootTime(time.Time{}, nil)
		s.poweredOff(ctx, vm, object)
	}
	s.showBootTime(ctx, object)
}

// resumes tells whether a power-on goes on with what was suspended.
func (vm *instance) isSuspended() bool {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.run != nil
}

// restart begins the guest anew, as a reset and its own reboot do: the VM
// stays powered on, and what it was given at its power-on stays.
func (s *Simulator) restart(ctx *simulator.Context, object *simulator.VirtualMachine) {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	from, kept := vm.run.from, vm.keepDelivery()
	vm.mu.Unlock()
	s.poweredOff(ctx, vm, object)
	vm.mu.Lock()
	vm.nextDelivery = kept
	vm.mu.Unlock()
	s.poweredOn(ctx, vm, object, from)
}

func (vm *instance) setBootTime(when time.Time, with map[string]string) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.booted, vm.extraConfigAtPowerOn = when, with
}

// showBootTime publishes when the VM was powered on: neither suspending and
// resuming nor a restart of the guest changes it. govmomi's simulator has it
// only in the summary, and sets it there at every change.
func (s *Simulator) showBootTime(ctx *simulator.Context, object *simulator.VirtualMachine) {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	booted := vm.booted
	vm.mu.Unlock()
	shown := timeOf(&booted)
	ctx.Update(object, []types.PropertyChange{
		{Name: "runtime.bootTime", Val: shown},
		{Name: "summary.runtime.bootTime", Val: shown},
	})
}

// poweredOn starts the guest.
func (s *Simulator) poweredOn(ctx *simulator.Context, vm *instance, object *simulator.VirtualMachine, from powerOrigin) {
	vm.mu.Lock()
	c := &vmRun{vm: vm, from: from, over: make(chan struct{}), guestinfoAtStart: map[int64]map[string]string{}}
	vm.run = c
	origin := vm.origin
	forks := vm.startsAtForkPoint()
	interfaces := vm.tools.Interfaces
	if vm.nextDelivery != nil {
		c.delivery = *vm.nextDelivery
		vm.nextDelivery = nil
	}
	if forks {
		origin.started = true
		c.forkedFrom = origin.forkPoint.guestSnapshot()
		c.delivery = origin.forkPoint.delivered().inheritedBy(s.rules)
	}
	vm.mu.Unlock()

	s.showDelivery(ctx, object)
	spec := guest.Spec{ID: vm.ref.Value, Hostname: hostLabel(object.Name), NICs: nicsOf(object, interfaces), FreshMAC: s.rules.is("driver_mac_after_fork", "own")}
	if forks {
		s.showFork(ctx, object)
		s.showInherited(ctx, object, origin.forkPoint)
	}
	if s.platform == nil || origin != nil && origin.broken {
		return
	}
	vm.enqueue(func() {
		if c.isOver() {
			return
		}
		var machine *guest.Machine
		var err error
		if c.forkedFrom != nil {
			machine, err = s.platform.Fork(spec, c.forkedFrom, c)
		} else {
			machine, err = s.platform.Boot(spec, c)
		}
		if err != nil {
			s.logError("%s (%s): the guest does not start: %v", spec.ID, spec.Hostname, err)
			return
		}
		s.guestStarted(c, machine)
	})
}

// running shows that a guest is up.
func (s *Simulator) guestStarted(c *vmRun, machine *guest.Machine) {
	c.vm.mu.Lock()
	c.machine = machine
	c.vm.disk = true
	uninstalled := c.vm.tools.Uninstalled
	c.vm.mu.Unlock()
	machine.Forkable(c.vm.forkable())
	if uninstalled {
		machine.SetTools(false)
	}
	c.vm.update(func(ctx *simulator.Context, object *simulator.VirtualMachine) {
		if !c.isOver() {
			s.showRuntime(ctx, object)
		}
	})
	// A child that comes from a fork point goes on with its parent's memory until
	// its script has Tools report. Other Tools report by themselves.
	if c.forkedFrom == nil || c.forkedFrom.Command == "" {
		s.toolsReported(c, machine.State(), false)
	}
}

func (s *Simulator) poweredOff(ctx *simulator.Context, vm *instance, object *simulator.VirtualMachine) {
	vm.mu.Lock()
	c := vm.run
	if c == nil {
		vm.mu.Unlock()
		return
	}
	close(c.over)
	vm.run = nil
	point := c.forkPoint
	if s.rules.is("enabled_after_power_off", "cleared") {
		vm.enabled = false
	}
	loses := vm.origin != nil && !vm.origin.persistent
	vm.mu.Unlock()

	s.showRuntime(ctx, object)
	s.showFork(ctx, object)
	s.showGuest(ctx, object, guest.State{})
	s.showDelivery(ctx, object)
	c.delivery.end()
	if point != nil && s.rules.is("power_off_with_children", "breaks") {
		s.spawn(func() { s.breakChildren(vm.ref) })
	}
	vm.enqueue(func() {
		vm.mu.Lock()
		machine := c.machine
		vm.mu.Unlock()
		if machine != nil {
			if err := machine.Stop(); err != nil {
				s.logError("%s: the guest does not stop: %v", vm.ref.Value, err)
			}
		}
		if point != nil {
			point.release()
		}
	})
	if loses && s.rules.is("nonpersistent_power_off", "destroyed") {
		s.spawn(func() { s.destroy(vm.ref) })
	}
}

// reported follows what Tools say of host name and network: rule
// network_after_fork. What is shown late is what was reported last by then.
func (s *Simulator) toolsReported(c *vmRun, state guest.State, asked bool) {
	c.vm.mu.Lock()
	c.reportedState = state
	late := c.vm.origin != nil && (s.rules.is("network_after_fork", "late") || !asked && s.rules.is("network_after_fork", "on-request"))
	waits := c.reportPending
	c.reportPending = waits || late
	c.vm.mu.Unlock()
	show := func() {
		c.vm.update(func(ctx *simulator.Context, object *simulator.VirtualMachine) {
			if c.isOver() {
				return
			}
			c.vm.mu.Lock()
			state := c.reportedState
			if late {
				c.reportPending = false
			}
			c.vm.mu.Unlock()
			s.showGuest(ctx, object, state)
			s.showLeased(ctx, object)
		})
	}
	switch {
	case !late:
		show()
	case !waits:
		time.AfterFunc(lateReport, show)
	}
}

// lateReport is longer than a module waits for a report of its own accord.
const lateReport = 5 * time.Second

// properties collects changes of a VM, leaving out what stays as it is.
type properties []types.PropertyChange

func (p *properties) set(name string, old, value any) {
	if reflect.DeepEqual(old, value) {
		return
	}
	*p = append(*p, types.PropertyChange{Name: name, Val: value})
}

// showRuntime publishes what depends on whether the guest runs, is frozen, and
// how its Tools are. The caller holds the VM's lock.
func (s *Simulator) showRuntime(ctx *simulator.Context, object *simulator.VirtualMachine) {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	on := vm.run != nil
	frozen := on && vm.run.forkPoint != nil && vm.run.forkPoint.guestSnapshot() != nil
	instant := frozen && vm.run.forkPoint.instant
	running := on && vm.run.machine != nil && !vm.tools.Stopped
	unready := vm.tools.Unready
	family := cmp.Or(vm.tools.Family, string(types.VirtualMachineGuestOsFamilyLinuxGuest))
	vm.mu.Unlock()
	ready := running && !frozen && !unready
	if frozen && s.rules.is("frozen_tools_status", "not-running") {
		running = false
	}

	var quiesced, cloneable any
	if frozen && !instant {
		quiesced = true
	} else if s.rules.is("quiesced_elsewhere", "false") {
		quiesced = false
	}
	if instant || s.hasInstantClone() && s.rules.is("instant_clone_frozen_elsewhere", "false") {
		cloneable = instant
	}
	status, runningStatus, state := types.VirtualMachineToolsStatusToolsNotRunning, types.VirtualMachineToolsRunningStatusGuestToolsNotRunning, types.VirtualMachineGuestStateNotRunning
	heartbeat := types.ManagedEntityStatusGray
	if running {
		status, runningStatus, state = types.VirtualMachineToolsStatusToolsOk, types.VirtualMachineToolsRunningStatusGuestToolsRunning, types.VirtualMachineGuestStateRunning
		heartbeat = types.ManagedEntityStatusGreen
	}
	versionStatus := string(types.VirtualMachineToolsVersionStatusGuestToolsUnmanaged)

	g, summary := object.Guest, object.Summary.Guest
	var p properties
	p.set("runtime.quiescedForkParent", boolOf(object.Runtime.QuiescedForkParent), quiesced)
	p.set("summary.runtime.quiescedForkParent", boolOf(object.Summary.Runtime.QuiescedForkParent), quiesced)
	p.set("runtime.instantCloneFrozen", boolOf(object.Runtime.InstantCloneFrozen), cloneable)
	p.set("summary.runtime.instantCloneFrozen", boolOf(object.Summary.Runtime.InstantCloneFrozen), cloneable)
	p.set("guest.toolsStatus", g.ToolsStatus, status)
	p.set("guest.toolsVersionStatus", g.ToolsVersionStatus, versionStatus)
	p.set("guest.toolsVersionStatus2", g.ToolsVersionStatus2, versionStatus)
	p.set("guest.toolsRunningStatus", g.ToolsRunningStatus, string(runningStatus))
	p.set("guest.toolsVersion", g.ToolsVersion, toolsVersion)
	p.set("guest.guestId", g.GuestId, object.Config.GuestId)
	p.set("guest.guestFamily", g.GuestFamily, family)
	p.set("guest.guestFullName", g.GuestFullName, guestFullName)
	p.set("guest.guestState", g.GuestState, string(state))
	p.set("guest.guestOperationsReady", boolOf(g.GuestOperationsReady), ready)
	p.set("guest.interactiveGuestOperationsReady", boolOf(g.InteractiveGuestOperationsReady), false)
	p.set("guest.guestStateChangeSupported", boolOf(g.GuestStateChangeSupported), running)
	p.set("summary.guest.toolsStatus", summary.ToolsStatus, status)
	p.set("summary.guest.toolsVersionStatus", summary.ToolsVersionStatus, versionStatus)
	p.set("summary.guest.toolsVersionStatus2", summary.ToolsVersionStatus2, versionStatus)
	p.set("summary.guest.toolsRunningStatus", summary.ToolsRunningStatus, string(runningStatus))
	p.set("summary.guest.guestId", summary.GuestId, object.Config.GuestId)
	p.set("summary.guest.guestFullName", summary.GuestFullName, guestFullName)
	p.set("summary.quickStats.guestHeartbeatStatus", object.Summary.QuickStats.GuestHeartbeatStatus, heartbeat)
	p.set("guestHeartbeatStatus", object.GuestHeartbeatStatus, heartbeat)
	if len(p) > 0 {
		ctx.Update(object, p)
	}
}

const (
	toolsVersion  = "12352"
	guestFullName = "Other Linux (64-bit)"
)

// timeOf is the value of an optional property as a change carries it.
func timeOf(value *time.Time) any {
	if value == nil || value.IsZero() {
		return nil
	}
	return *value
}

// boolOf is the value of an optional property as a change carries it.
func boolOf(value *bool) any {
	if value == nil {
		return nil
	}
	return *value
}

// showGuest publishes host name and network. The caller holds the VM's lock.
func (s *Simulator) showGuest(ctx *simulator.Context, object *simulator.VirtualMachine, state guest.State) {
	nets := s.guestNets(ctx, object, state)
	address := firstAddress(nets)
	var p properties
	p.set("guest.hostName", object.Guest.HostName, state.Hostname)
	p.set("guest.ipAddress", object.Guest.IpAddress, address)
	p.set("guest.net", object.Guest.Net, nets)
	p.set("summary.guest.hostName", object.Summary.Guest.HostName, state.Hostname)
	p.set("summary.guest.ipAddress", object.Summary.Guest.IpAddress, address)
	if len(p) > 0 {
		ctx.Update(object, p)
	}
}

// showInherited publishes the parent's values in a child that was just powered
// on. The caller holds the child's lock.
func (s *Simulator) showInherited(ctx *simulator.Context, object *simulator.VirtualMachine, point *forkPoint) {
	hostname, address, nets := point.guestInfo()
	if s.rules.is("network_after_fork", "cleared") {
		hostname, address, nets = "", "", []types.GuestNicInfo{}
	}
	var p properties
	p.set("guest.hostName", object.Guest.HostName, hostname)
	p.set("guest.ipAddress", object.Guest.IpAddress, address)
	p.set("guest.net", object.Guest.Net, nets)
	p.set("summary.guest.hostName", object.Summary.Guest.HostName, hostname)
	p.set("summary.guest.ipAddress", object.Summary.Guest.IpAddress, address)
	if len(p) > 0 {
		ctx.Update(object, p)
	}
}

// guestNets is guest.net for what the guest's interfaces are.
func (s *Simulator) guestNets(ctx *simulator.Context, object *simulator.VirtualMachine, state guest.State) []types.GuestNicInfo {
	cards := cardsOf(object.Config.Hardware.Device)
	nets := []types.GuestNicInfo{}
	for _, nic := range state.Interfaces {
		info := types.GuestNicInfo{
			MacAddress: nic.MAC, Connected: nic.Up && nic.Connected, DeviceConfigId: -1, IpConfig: &types.NetIpConfigInfo{},
		}
		for _, card := range cards {
			if strings.EqualFold(card.MacAddress, nic.MAC) {
				info.Network, info.DeviceConfigId = s.networkOf(ctx, card), card.Key
			}
		}
		if info.DeviceConfigId < 0 && nic.Adapter > 0 && s.rules.is("stale_mac_report", "omitted") {
			continue
		}
		for _, address := range nic.Addresses {
			ip, prefix := splitCIDR(address)
			info.IpAddress = append(info.IpAddress, ip)
			info.IpConfig.IpAddress = append(info.IpConfig.IpAddress, types.NetIpConfigInfoIpAddress{
				IpAddress: ip, PrefixLength: prefix, State: string(types.NetIpConfigInfoIpAddressStatusPreferred),
			})
		}
		nets = append(nets, info)
	}
	return nets
}

// firstAddress is guest.ipAddress: the first that is not link-local, IPv4
// before IPv6.
func firstAddress(nets []types.GuestNicInfo) string {
	var second string
	for _, net := range nets {
		for _, address := range net.IpAddress {
			switch {
			case strings.HasPrefix(address, "169.254."), strings.HasPrefix(strings.ToLower(address), "fe80:"):
			case strings.Contains(address, ":"):
				if second == "" {
					second = address
				}
			default:
				return address
			}
		}
	}
	return second
}

var notInLabel = regexp.MustCompile(`[^a-z0-9-]+`)

// hostLabel is the host name that a new guest gets from its VM's name.
func hostLabel(name string) string {
	label := strings.Trim(notInLabel.ReplaceAllString(strings.ToLower(name), "-"), "-")
	if len(label) > 63 {
		label = strings.TrimRight(label[:63], "-")
	}
	if label == "" {
		return "localhost"
	}
	return label
}
