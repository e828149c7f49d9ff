// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// MAC addresses: assignment, conflicts, and reserved ranges.

package vsphere

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

// macOnNetwork is the MAC address of an adapter with its network.
type macOnNetwork struct{ mac, network string }

// macOnNetworkOf returns where an adapter may conflict with another one.
func macOnNetworkOf(card *types.VirtualEthernetCard) macOnNetwork {
	at := macOnNetwork{mac: strings.ToLower(card.MacAddress)}
	switch backing := card.Backing.(type) {
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		at.network = "port group " + backing.Port.PortgroupKey
	case *types.VirtualEthernetCardNetworkBackingInfo:
		at.network = "network " + backing.DeviceName
	case *types.VirtualEthernetCardOpaqueNetworkBackingInfo:
		at.network = "opaque network " + backing.OpaqueNetworkId
	}
	return at
}

// isManual reports whether an adapter's MAC address was assigned manually.
func isManual(card *types.VirtualEthernetCard) bool {
	return card.AddressType == string(types.VirtualEthernetCardMacTypeManual) && card.MacAddress != ""
}

// macConflict is another VM that has the MAC address of an adapter.
type macConflict struct {
	mac string
	vm  types.ManagedObjectReference
}

// conflicts finds manual MAC addresses of a VM's adapters that another VM uses
// on the same network. The caller holds the mutex.
func (p *ports) conflicts(vm types.ManagedObjectReference, cards []*types.VirtualEthernetCard) (found []macConflict) {
	for _, card := range cards {
		at := macOnNetworkOf(card)
		if !isManual(card) || slices.Contains(p.macs[vm], at) {
			continue
		}
		for other, theirs := range p.macs {
			if other != vm && slices.Contains(theirs, at) {
				found = append(found, macConflict{at.mac, other})
			}
		}
	}
	return found
}

// macTaken is the fault of an adapter with another VM's MAC address.
func macTaken(mac string) types.BaseMethodFault {
	return vimfault.WithText(&types.InvalidDeviceSpec{InvalidVmConfig: types.InvalidVmConfig{Property: "macAddress"}},
		"The MAC address "+mac+" is in use by another virtual machine on the network.")
}

// postConflicts posts that a VM has MAC addresses of others: rule mac_conflict.
func (s *Simulator) postConflicts(vm types.ManagedObjectReference, conflicts []macConflict) {
	ctx := s.background()
	for _, conflict := range conflicts {
		object, ok := ctx.Map.Get(vm).(*simulator.VirtualMachine)
		if !ok {
			continue
		}
		var event types.Event
		ctx.WithLock(object, func() { event = s.eventOn(ctx, object) })
		name := s.names.of(conflict.vm.Value)
		event.FullFormattedMessage = fmt.Sprintf("The MAC address (%s) of %s conflicts with MAC assigned to %s", conflict.mac, event.Vm.Name, name)
		s.post(ctx, &types.VmMacConflictEvent{
			VmEvent:      types.VmEvent{Event: event},
			ConflictedVm: types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: name}, Vm: conflict.vm},
			Mac:          conflict.mac,
		})
	}
}

// reservedMACs are the ranges from which vSphere assigns addresses itself.
var reservedMACs = [][2]string{
	{"00:50:56:40:00:00", "00:50:56:ff:ff:ff"}, {"00:0c:29:00:00:00", "00:0c:29:ff:ff:ff"},
}

// reservedMAC refuses manual MAC addresses that vSphere reserves.
func reservedMAC(cards []*types.VirtualEthernetCard) types.BaseMethodFault {
	for _, card := range cards {
		mac := strings.ToLower(card.MacAddress)
		if isManual(card) && slices.ContainsFunc(reservedMACs, func(ends [2]string) bool { return ends[0] <= mac && mac <= ends[1] }) {
			text := mac + " is not a valid static Ethernet address. It conflicts with VMware reserved MACs for other usage."
			return vimfault.WithText(&types.GenericVmConfigFault{Reason: text}, text)
		}
	}
	return nil
}

// refusedMACs is the fault of adapters with MAC addresses that they cannot
// have: reserved ones, if the rule reserved_macs says so.
func (s *Simulator) refusedMACs(cards []*types.VirtualEthernetCard) types.BaseMethodFault {
	if s.rules.Is("reserved_macs", "at-power-on") {
		return nil
	}
	return reservedMAC(cards)
}

// assignMAC gives an adapter an address of vCenter's range, unless it was
// assigned manually.
func (s *Simulator) assignMAC(card *types.VirtualEthernetCard) {
	if card.AddressType == string(types.VirtualEthernetCardMacTypeManual) && card.MacAddress != "" {
		return
	}
	number := atomic.AddUint32(&s.lastMAC, 1)
	card.AddressType = string(types.VirtualEthernetCardMacTypeAssigned)
	card.MacAddress = fmt.Sprintf("00:50:56:%02x:%02x:%02x", 0x80|number>>16&0x3f, number>>8&0xff, number&0xff)
}
