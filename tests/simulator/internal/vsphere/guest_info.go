// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// GuestInfo: what VMware Tools report of a guest, in guest.*, summary.guest.*
// and runtime.*.

package vsphere

import (
	"cmp"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
)

// toolsReported handles a report of Tools on host name and network (rule
// network_after_fork). A delayed report shows the latest values.
func (s *Simulator) toolsReported(c *vmRun, state guest.State, asked bool) {
	c.vm.mu.Lock()
	c.reportedState = state
	late := c.vm.origin != nil && (s.rules.Is("network_after_fork", "late") || !asked && s.rules.Is("network_after_fork", "on-request"))
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

// lateReport is longer than a module waits for an unrequested report.
const lateReport = 5 * time.Second

// properties collects changes of a VM, leaving out unchanged values.
type properties []types.PropertyChange

func (p *properties) set(name string, old, value any) {
	if reflect.DeepEqual(old, value) {
		return
	}
	*p = append(*p, types.PropertyChange{Name: name, Val: value})
}

// showRuntime publishes the properties that depend on whether the guest runs or
// is frozen, and on the state of its Tools. The caller holds the VM's lock.
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
	if frozen && s.rules.Is("frozen_tools_status", "not-running") {
		running = false
	}

	var quiesced, cloneable any
	if frozen && !instant {
		quiesced = true
	} else if s.rules.Is("quiesced_elsewhere", "false") {
		quiesced = false
	}
	if instant || s.hasInstantClone() && s.rules.Is("instant_clone_frozen_elsewhere", "false") {
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

// timeOf returns the value of an optional property in a change.
func timeOf(value *time.Time) any {
	if value == nil || value.IsZero() {
		return nil
	}
	return *value
}

// boolOf returns the value of an optional property in a change.
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
	if s.rules.Is("network_after_fork", "cleared") {
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

// guestNets returns guest.net for the guest's interfaces.
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
		if info.DeviceConfigId < 0 && nic.Adapter > 0 && s.rules.Is("stale_mac_report", "omitted") {
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

// firstAddress returns guest.ipAddress: the first address that is not
// link-local, IPv4 before IPv6.
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

// hostLabel returns the host name of a new guest, derived from its VM's name.
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

func splitCIDR(address string) (string, int32) {
	prefix, err := netip.ParsePrefix(address)
	if err != nil {
		return address, 0
	}
	return prefix.Addr().String(), int32(prefix.Bits())
}
