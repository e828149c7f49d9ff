// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// VirtualEthernetCard: adding, editing, connecting and cloning network
// adapters.

package vsphere

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
	"vmforksim/internal/vimfault"
)

// firstCard is the key of a VM's first network adapter.
const firstCard = 4000

// cardsOf returns the network adapters in their order.
func cardsOf(devices []types.BaseVirtualDevice) []*types.VirtualEthernetCard {
	var cards []*types.VirtualEthernetCard
	for _, device := range cardDevices(devices) {
		cards = append(cards, device.GetVirtualEthernetCard())
	}
	return cards
}

// cardDevices returns the network adapters with their types.
func cardDevices(devices []types.BaseVirtualDevice) []types.BaseVirtualEthernetCard {
	var cards []types.BaseVirtualEthernetCard
	for _, device := range devices {
		if card, ok := device.(types.BaseVirtualEthernetCard); ok {
			cards = append(cards, card)
		}
	}
	return cards
}

// driverOf returns the kernel module for an adapter.
func driverOf(card types.BaseVirtualEthernetCard) string {
	switch card.(type) {
	case *types.VirtualE1000:
		return "e1000"
	case *types.VirtualE1000e:
		return "e1000e"
	case *types.VirtualPCNet32:
		return "pcnet32"
	}
	return "vmxnet3"
}

// cardIn returns the adapter of a device change; nil for other devices.
func cardIn(change types.BaseVirtualDeviceConfigSpec) *types.VirtualEthernetCard {
	card, ok := change.GetVirtualDeviceConfigSpec().Device.(types.BaseVirtualEthernetCard)
	if !ok {
		return nil
	}
	return card.GetVirtualEthernetCard()
}

// editsCard reports whether a change edits a network adapter.
func editsCard(change types.BaseVirtualDeviceConfigSpec) bool {
	return cardIn(change) != nil && change.GetVirtualDeviceConfigSpec().Operation == types.VirtualDeviceConfigSpecOperationEdit
}

// newCards returns the adapters that changes add, completed with a MAC and a
// valid key.
func (s *Simulator) newCards(present []types.BaseVirtualDevice, changes []types.BaseVirtualDeviceConfigSpec) []*types.VirtualEthernetCard {
	var added []*types.VirtualEthernetCard
	all := cardsOf(present)
	for _, change := range changes {
		card := cardIn(change)
		if card == nil || change.GetVirtualDeviceConfigSpec().Operation != types.VirtualDeviceConfigSpecOperationAdd {
			continue
		}
		has := func(key int32) bool {
			return slices.ContainsFunc(all, func(other *types.VirtualEthernetCard) bool { return other.Key == key })
		}
		for card.Key < firstCard || has(card.Key) {
			card.Key = max(card.Key+1, firstCard)
		}
		s.assignMAC(card)
		all, added = append(all, card), append(added, card)
	}
	return added
}

// editCards applies the edits of network adapters among changes to the devices
// of a VM, or of a copy of it; path is the position of the changes in the
// request. Other changes are omitted. The devices are changed in place.
func (s *Simulator) editCards(ctx *simulator.Context, vm *simulator.VirtualMachine, devices []types.BaseVirtualDevice, changes []types.BaseVirtualDeviceConfigSpec, path string) types.BaseMethodFault {
	for i, change := range changes {
		if !editsCard(change) {
			continue
		}
		at := fmt.Sprintf("%s[%d].device", path, i)
		given := change.GetVirtualDeviceConfigSpec().Device
		wanted := given.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
		present := object.VirtualDeviceList(devices).FindByKey(wanted.Key)
		if present == nil || reflect.TypeOf(present) != reflect.TypeOf(given) {
			return invalidDevice(i, at+".key")
		}
		card := present.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
		if wanted.Backing != nil {
			backing, property := s.backing(ctx, vm, wanted.Backing)
			if backing == nil {
				return invalidDevice(i, at+".backing"+property)
			}
			card.Backing = samePort(card.Backing, backing)
		}
		if err := s.setMAC(card, wanted); err != nil {
			return invalidDevice(i, at+".macAddress")
		}
		if wanted.Connectable != nil {
			connectable := *wanted.Connectable
			card.Connectable = &connectable
		}
		if wanted.WakeOnLanEnabled != nil {
			card.WakeOnLanEnabled = wanted.WakeOnLanEnabled
		}
	}
	return nil
}

// invalidDevice is the fault of a device change that cannot be carried out.
func invalidDevice(index int, property string) types.BaseMethodFault {
	return vimfault.WithText(&types.InvalidDeviceSpec{
		InvalidVmConfig: types.InvalidVmConfig{Property: property}, DeviceIndex: int32(index),
	}, fmt.Sprintf("Invalid configuration for device '%d'.", index))
}

// backing completes the backing of an adapter; if the VM's host does not have
// that network it returns nil and the invalid property.
func (s *Simulator) backing(ctx *simulator.Context, vm *simulator.VirtualMachine, wanted types.BaseVirtualDeviceBackingInfo) (complete types.BaseVirtualDeviceBackingInfo, wrong string) {
	host := ctx.Map.Get(*vm.Runtime.Host).(*simulator.HostSystem)
	switch wanted := wanted.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		for _, ref := range host.Network {
			if network, ok := ctx.Map.Get(ref).(*mo.Network); ok && network.Name == wanted.DeviceName {
				backing := *wanted
				backing.Network = &ref
				return &backing, ""
			}
		}
		return nil, ".deviceName"
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		ref := types.ManagedObjectReference{Type: portGroupType, Value: wanted.Port.PortgroupKey}
		group, ok := ctx.Map.Get(ref).(*simulator.DistributedVirtualPortgroup)
		if !ok || !slices.Contains(host.Network, ref) {
			return nil, ".port.portgroupKey"
		}
		if owner := ctx.Map.Get(*group.Config.DistributedVirtualSwitch).(*simulator.DistributedVirtualSwitch); owner.Uuid != wanted.Port.SwitchUuid {
			return nil, ".port.switchUuid"
		}
		backing := *wanted
		return &backing, ""
	case *types.VirtualEthernetCardOpaqueNetworkBackingInfo:
		for _, ref := range host.Network {
			if summary, ok := opaqueSummary(ctx, ref); ok && summary.OpaqueNetworkId == wanted.OpaqueNetworkId && summary.OpaqueNetworkType == wanted.OpaqueNetworkType {
				backing := *wanted
				return s.segmentBacking(ctx, &backing), ""
			}
		}
		return nil, ".opaqueNetworkId"
	}
	return nil, ""
}

// segmentBacking returns the backing by the port group of the logical switch
// for an opaque network (rule opaque_network_backing); the backing itself if
// there is none.
func (s *Simulator) segmentBacking(ctx *simulator.Context, opaque *types.VirtualEthernetCardOpaqueNetworkBackingInfo) types.BaseVirtualDeviceBackingInfo {
	if s.rules.Is("opaque_network_backing", "kept") {
		return opaque
	}
	for _, entity := range ctx.Map.All(portGroupType) {
		group := entity.(*simulator.DistributedVirtualPortgroup)
		if group.Config.LogicalSwitchUuid == opaque.OpaqueNetworkId {
			owner := ctx.Map.Get(*group.Config.DistributedVirtualSwitch).(*simulator.DistributedVirtualSwitch)
			return &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{
				Port: types.DistributedVirtualSwitchPortConnection{PortgroupKey: group.Key, SwitchUuid: owner.Uuid},
			}
		}
	}
	return opaque
}

// opaqueSummary describes an opaque network.
func opaqueSummary(ctx *simulator.Context, ref types.ManagedObjectReference) (*types.OpaqueNetworkSummary, bool) {
	network, ok := ctx.Map.Get(ref).(*mo.OpaqueNetwork)
	if !ok {
		return nil, false
	}
	summary, ok := network.Summary.(*types.OpaqueNetworkSummary)
	return summary, ok
}

// samePort keeps the port of an adapter that stays in its port group, unless
// another one is requested.
func samePort(old, backing types.BaseVirtualDeviceBackingInfo) types.BaseVirtualDeviceBackingInfo {
	was, ok := old.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo)
	is, dv := backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo)
	if ok && dv && is.Port.PortKey == "" && is.Port.PortgroupKey == was.Port.PortgroupKey {
		is.Port.PortKey = was.Port.PortKey
	}
	return backing
}

var errMAC = errors.New("not the address of an adapter")

// setMAC gives an adapter the requested address: a manual one or, if the
// address type changes, a new one from vCenter.
func (s *Simulator) setMAC(card, wanted *types.VirtualEthernetCard) error {
	kind := orElse(wanted.AddressType, card.AddressType)
	manual := string(types.VirtualEthernetCardMacTypeManual)
	switch {
	case wanted.MacAddress == "" && kind == card.AddressType:
	case wanted.MacAddress == "" && kind == manual:
		return errMAC
	case wanted.MacAddress == "":
		card.MacAddress = ""
		s.assignMAC(card)
	case strings.EqualFold(wanted.MacAddress, card.MacAddress):
		card.AddressType = kind
	default:
		mac, err := net.ParseMAC(wanted.MacAddress)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return errMAC
		}
		card.MacAddress, card.AddressType = mac.String(), orElse(wanted.AddressType, manual)
	}
	return nil
}

// clonedCards returns the devices of an instant clone: copies of its source's,
// with new MACs, changed according to the spec.
func (s *Simulator) clonedCards(ctx *simulator.Context, source *simulator.VirtualMachine, changes []types.BaseVirtualDeviceConfigSpec) ([]types.BaseVirtualDevice, types.BaseMethodFault) {
	const path = "spec.location.deviceChange"
	for i, change := range changes {
		if editsCard(change) {
			continue
		}
		property := fmt.Sprintf("%s[%d]", path, i)
		if s.rules.Is("instant_clone_devices", "InvalidDeviceSpec") {
			return nil, invalidDevice(i, property)
		}
		return nil, vimfault.WithText(&types.NotSupported{}, "The operation is not supported on the object: "+property+" is no edit of a network adapter.")
	}
	devices := cloneDevices(source.Config.Hardware.Device)
	own := map[string]bool{} // ports of the source
	for _, card := range cardsOf(devices) {
		if connection, ok := dvPortOf(card); ok {
			own[connection.PortKey] = true
		}
		card.MacAddress, card.AddressType = "", string(types.VirtualEthernetCardMacTypeAssigned)
	}
	fault := s.editCards(ctx, source, devices, changes, path)
	for _, card := range cardsOf(devices) {
		if connection, ok := dvPortOf(card); ok && own[connection.PortKey] {
			leavePort(card)
		}
	}
	return devices, fault
}

// leavePort lets an adapter use any port of its port group.
func leavePort(card *types.VirtualEthernetCard) {
	if connection, ok := dvPortOf(card); ok {
		connection.PortKey, connection.ConnectionCookie = "", 0
	}
}

// withoutPorts is leavePort for all adapters among devices.
func withoutPorts(devices []types.BaseVirtualDevice) []types.BaseVirtualDevice {
	for _, card := range cardsOf(devices) {
		leavePort(card)
	}
	return devices
}

// connections returns which adapters among devices are connected.
func connections(devices []types.BaseVirtualDevice) map[int32]bool {
	connected := map[int32]bool{}
	for _, card := range cardsOf(devices) {
		connected[card.Key] = isConnected(card)
	}
	return connected
}

// replaceCards replaces the adapters with the same keys.
func replaceCards(devices, cards []types.BaseVirtualDevice) {
	for i, device := range devices {
		if _, ok := device.(types.BaseVirtualEthernetCard); !ok {
			continue
		}
		if card := object.VirtualDeviceList(cards).FindByKey(device.GetVirtualDevice().Key); card != nil {
			devices[i] = card
		}
	}
}

// changeCards applies device changes to the adapters in a copy of a VM's
// devices, and reserves the ports they need. The caller holds the VM's lock.
func (v *virtualMachine) changeCards(ctx *simulator.Context, changes []types.BaseVirtualDeviceConfigSpec) ([]types.BaseVirtualDevice, *portReservation, types.BaseMethodFault) {
	devices := cloneDevices(v.Config.Hardware.Device)
	if fault := v.sim.editCards(ctx, v.VirtualMachine, devices, changes, "spec.deviceChange"); fault != nil {
		return nil, nil, fault
	}
	on := v.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff
	cards := cardsOf(devices)
	for i, card := range cardsOf(v.Config.Hardware.Device) {
		if on && cards[i].MacAddress != card.MacAddress && v.sim.rules.Is("mac_change_while_on", "InvalidPowerState") {
			return nil, nil, &types.InvalidPowerState{RequestedState: types.VirtualMachinePowerStatePoweredOff, ExistingState: v.Runtime.PowerState}
		}
		if !on && cards[i].Connectable != nil {
			cards[i].Connectable.Connected = false
		}
	}
	reservation, fault := v.sim.ports.reserve(v.Self, append(cards, v.sim.newCards(devices, changes)...))
	return devices, reservation, fault
}

// describeCards completes the displayed information of adapters, and returns
// their networks. The devices are not published yet.
func (s *Simulator) describeCards(ctx *simulator.Context, devices []types.BaseVirtualDevice) []types.ManagedObjectReference {
	networks := []types.ManagedObjectReference{}
	for _, card := range cardsOf(devices) {
		summary := s.networkOf(ctx, card)
		if connection, ok := dvPortOf(card); ok {
			summary = "DVSwitch: " + connection.SwitchUuid
		}
		card.DeviceInfo = &types.Description{Label: fmt.Sprintf("Network adapter %d", card.Key-firstCard+1), Summary: summary}
		if ref := networkRefOf(ctx, card); ref.Value != "" && !slices.Contains(networks, ref) {
			networks = append(networks, ref)
		}
	}
	return networks
}

// networkRefOf returns the network of an adapter.
func networkRefOf(ctx *simulator.Context, card *types.VirtualEthernetCard) types.ManagedObjectReference {
	if connection, ok := dvPortOf(card); ok {
		return types.ManagedObjectReference{Type: portGroupType, Value: connection.PortgroupKey}
	}
	if backing, ok := card.Backing.(*types.VirtualEthernetCardNetworkBackingInfo); ok {
		for _, entity := range ctx.Map.All("Network") {
			if entity.Entity().Name == backing.DeviceName {
				return entity.Reference()
			}
		}
	}
	if backing, ok := card.Backing.(*types.VirtualEthernetCardOpaqueNetworkBackingInfo); ok {
		for _, entity := range ctx.Map.All("OpaqueNetwork") {
			if summary, ok := opaqueSummary(ctx, entity.Reference()); ok && summary.OpaqueNetworkId == backing.OpaqueNetworkId {
				return entity.Reference()
			}
		}
	}
	return types.ManagedObjectReference{}
}

// showCards publishes a VM's devices, and plugs its guest's adapters. The
// caller holds the VM's lock.
func (s *Simulator) showCards(ctx *simulator.Context, vm *simulator.VirtualMachine, devices []types.BaseVirtualDevice) {
	networks := s.describeCards(ctx, devices)
	ctx.Update(vm, []types.PropertyChange{
		{Name: "config.hardware.device", Val: devices},
		{Name: "network", Val: networks},
	})
	s.plug(vm)
}

// plug connects a running guest's adapters.
func (s *Simulator) plug(object *simulator.VirtualMachine) {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	nics := nicsOf(object, vm.tools.Interfaces)
	off := vm.run == nil || s.platform == nil
	vm.mu.Unlock()
	if off {
		return
	}
	vm.enqueue(func() {
		machine, _ := vm.machine()
		if machine == nil {
			return
		}
		if err := machine.Plug(nics); err != nil && !errors.Is(err, guest.ErrOff) {
			s.logError("%s: the adapters are not connected: %v", vm.ref.Value, err)
		}
	})
}

// connectCards connects the adapters of a VM that was just powered on, or
// disconnects those of one that is off (rule adapter_connected). The caller
// holds the VM's lock.
func (s *Simulator) connectCards(ctx *simulator.Context, object *simulator.VirtualMachine, on bool) {
	devices := cloneDevices(object.Config.Hardware.Device)
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	requested := vm.connectedCards
	vm.connectedCards = nil
	vm.mu.Unlock()
	cards := cardsOf(devices)
	for _, card := range cards {
		if card.Connectable == nil {
			continue
		}
		connected, given := requested[card.Key]
		if !given {
			connected = card.Connectable.StartConnected
		}
		card.Connectable.Connected = on && connected
		card.Connectable.Status = string(types.VirtualDeviceConnectInfoStatusOk)
		if !on {
			card.Connectable.Status = string(types.VirtualDeviceConnectInfoStatusUntried)
		}
	}
	if len(cards) > 0 {
		ctx.Update(object, []types.PropertyChange{{Name: "config.hardware.device", Val: devices}})
	}
}

// isConnected reports whether an adapter is connected now.
func isConnected(card *types.VirtualEthernetCard) bool {
	return card.Connectable == nil || card.Connectable.Connected
}

// nicsOf returns the adapters of a VM as its guest finds them. Their interfaces
// have the given names; further ones are eth<number>.
func nicsOf(vm *simulator.VirtualMachine, names []string) []guest.NIC {
	var nics []guest.NIC
	for number, device := range cardDevices(vm.Config.Hardware.Device) {
		card := device.GetVirtualEthernetCard()
		nic := guest.NIC{
			Name: fmt.Sprintf("eth%d", number), Driver: driverOf(device),
			MAC: strings.ToLower(card.MacAddress), Unplugged: !isConnected(card),
		}
		if number < len(names) {
			nic.Name = names[number]
		}
		if !nic.Unplugged {
			nic.Address = leaseOf(card.MacAddress)
		}
		nics = append(nics, nic)
	}
	return nics
}

// networkOf returns the name of an adapter's network.
func (s *Simulator) networkOf(ctx *simulator.Context, card *types.VirtualEthernetCard) string {
	switch backing := card.Backing.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		return backing.DeviceName
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		ref := types.ManagedObjectReference{Type: "DistributedVirtualPortgroup", Value: backing.Port.PortgroupKey}
		if group, ok := ctx.Map.Get(ref).(*simulator.DistributedVirtualPortgroup); ok {
			return group.Name
		}
	case *types.VirtualEthernetCardOpaqueNetworkBackingInfo:
		if summary, ok := opaqueSummary(ctx, networkRefOf(ctx, card)); ok {
			return summary.Name
		}
	}
	return ""
}
