// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// card reads a VM's first adapter.
func (b *bed) card(vm types.ManagedObjectReference) *types.VirtualVmxnet3 {
	b.Helper()
	devices := object.VirtualDeviceList(b.read(vm, "config.hardware").Config.Hardware.Device)
	return devices.FindByKey(firstCard).(*types.VirtualVmxnet3)
}

func editOf(device types.BaseVirtualDevice) []types.BaseVirtualDeviceConfigSpec {
	return []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: device}}
}

// change requests device changes.
func (b *bed) change(vm types.ManagedObjectReference, changes []types.BaseVirtualDeviceConfigSpec) outcome {
	b.Helper()
	task, err := object.NewVirtualMachine(b.client.Client, vm).Reconfigure(b.ctx, types.VirtualMachineConfigSpec{DeviceChange: changes})
	if err != nil {
		return outcome{fault: faultName(err)}
	}
	return b.ended(task.Reference())
}

// editCard changes a VM's first adapter.
func (b *bed) editCard(vm types.ManagedObjectReference, change func(card *types.VirtualVmxnet3)) outcome {
	b.Helper()
	card := b.card(vm)
	change(card)
	return b.change(vm, editOf(card))
}

func connect(connected bool) func(card *types.VirtualVmxnet3) {
	return func(card *types.VirtualVmxnet3) { card.Connectable.Connected = connected }
}

// backed returns the change to a network, by its name.
func (b *bed) backed(network string) func(card *types.VirtualVmxnet3) {
	b.Helper()
	found, err := find.NewFinder(b.client.Client).Network(b.ctx, "/DC0/network/"+network)
	if err != nil {
		b.Fatal(err)
	}
	backing, err := found.EthernetCardBackingInfo(b.ctx)
	if err != nil {
		b.Fatal(err)
	}
	return func(card *types.VirtualVmxnet3) { card.Backing = backing }
}

func (b *bed) networks(request map[string]any) {
	b.Helper()
	if status := b.control(http.MethodPost, "inventory", request, nil); status != http.StatusOK {
		b.Fatal(status)
	}
}

// untilNet waits for what Tools report about a VM's first adapter.
func (b *bed) untilNet(vm types.ManagedObjectReference, what string, wanted func(net types.GuestNicInfo) bool) types.GuestNicInfo {
	b.Helper()
	seen := b.until(vm, what, func(vm mo.VirtualMachine) bool {
		return vm.Guest != nil && len(vm.Guest.Net) == 1 && wanted(vm.Guest.Net[0])
	}, "guest")
	return seen.Guest.Net[0]
}

// inGuest runs a script in a guest.
func (b *bed) inGuest(vm types.ManagedObjectReference, script string) string {
	b.Helper()
	var ran struct {
		Code   int    `json:"exit_code"`
		Output string `json:"output"`
	}
	b.control(http.MethodPost, "guests/"+vm.Value+"/run", map[string]any{"program": "/bin/sh", "arguments": "-c " + shellQuote(script)}, &ran)
	if ran.Code != 0 {
		b.Fatalf("%s: %d %s", script, ran.Code, ran.Output)
	}
	return strings.TrimSpace(ran.Output)
}

func TestAdapterIsConnected(t *testing.T) {
	b := start(t, withGuests)
	b.networks(map[string]any{"networks": []string{"Lab"}, "port_groups": []map[string]any{{"name": "Second", "ports": 1}}})
	vm := b.vm("DC0_H0_VM0")
	b.untilReady(vm)
	isUp := func(up bool) func(types.GuestNicInfo) bool {
		return func(net types.GuestNicInfo) bool { return net.Connected == up }
	}
	net := b.untilNet(vm, "a link", isUp(true))
	if net.Network != "DC0_DVPG0" || net.DeviceConfigId != firstCard {
		t.Errorf("%+v", net)
	}
	card := b.card(vm)
	if info := card.DeviceInfo.GetDescription(); info.Label != "Network adapter 1" || !strings.HasPrefix(info.Summary, "DVSwitch: ") || !card.Connectable.Connected {
		t.Errorf("%+v %+v", info, card.Connectable)
	}

	b.expect("disconnect", b.editCard(vm, connect(false)), "")
	b.untilNet(vm, "the link to go", isUp(false))
	if got := b.inGuest(vm, "cat /sys/class/net/eth0/carrier; ip addr add 198.51.100.9/24 dev eth0"); got != "0" {
		t.Errorf("carrier %s", got)
	}
	if got := b.card(vm).Connectable; got.Connected || !got.StartConnected {
		t.Errorf("%+v", got)
	}
	b.expect("connect", b.editCard(vm, connect(true)), "")
	net = b.untilNet(vm, "the link to come", isUp(true))
	if !slices.Contains(net.IpAddress, "198.51.100.9") || b.inGuest(vm, "cat /sys/class/net/eth0/carrier") != "1" {
		t.Errorf("%+v", net)
	}

	for _, name := range []string{"Lab", "Second"} {
		b.expect("move", b.editCard(vm, b.backed(name)), "")
		b.untilNet(vm, "the network "+name, func(net types.GuestNicInfo) bool { return net.Network == name && net.Connected })
		networks := b.read(vm, "network").Network
		if len(networks) != 1 || b.sim.registry().Get(networks[0]).(mo.Entity).Entity().Name != name {
			t.Errorf("%s: %v", name, networks)
		}
	}
	b.networks(map[string]any{"vms": 1, "name": "other"})

	b.expect("off", b.power(vm, false), "")
	if got := b.card(vm).Connectable; got.Connected {
		t.Error("connected while the VM is off")
	}
	b.expect("edit", b.editCard(vm, func(card *types.VirtualVmxnet3) {
		card.Connectable.StartConnected, card.Connectable.Connected = false, true
	}), "")
	if got := b.card(vm).Connectable; got.Connected {
		t.Error("connected while the VM is off")
	}
	b.expect("on", b.power(vm, true), "")
	b.untilReady(vm)
	if net := b.untilNet(vm, "a report", isUp(false)); slices.ContainsFunc(net.IpAddress, func(address string) bool { return strings.HasPrefix(address, "10.") }) {
		t.Errorf("an address without a link: %+v", net)
	}
	b.expect("connect", b.editCard(vm, connect(true)), "")
	b.untilNet(vm, "the link to come", isUp(true))
}

func TestAdapterEditsThatAreRefused(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	was := b.card(vm)
	unknown := func(card *types.VirtualVmxnet3) *types.DistributedVirtualSwitchPortConnection {
		return &card.Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo).Port
	}
	for property, change := range map[string]func(card *types.VirtualVmxnet3){
		"key":                       func(card *types.VirtualVmxnet3) { card.Key = 4711 },
		"backing.deviceName":        func(card *types.VirtualVmxnet3) { card.Backing = standardBacking("No such network") },
		"backing.port.portgroupKey": func(card *types.VirtualVmxnet3) { unknown(card).PortgroupKey = "dvportgroup-4711" },
		"backing.port.switchUuid":   func(card *types.VirtualVmxnet3) { unknown(card).SwitchUuid = "4711" },
		"macAddress":                func(card *types.VirtualVmxnet3) { card.MacAddress = "01:00:5e:00:00:01" },
	} {
		got := b.expect(property, b.editCard(vm, change), "InvalidDeviceSpec")
		fault := got.info.Error.Fault.(*types.InvalidDeviceSpec)
		if fault.Property != "spec.deviceChange[0].device."+property || got.message != "Invalid configuration for device '0'." {
			t.Errorf("%s: %+v: %s", property, fault, got.message)
		}
	}
	if now := b.card(vm); fmt.Sprintf("%+v", now.Backing) != fmt.Sprintf("%+v", was.Backing) || now.MacAddress != was.MacAddress {
		t.Errorf("%+v became %+v", was, now)
	}
}

func standardBacking(name string) types.BaseVirtualDeviceBackingInfo {
	return &types.VirtualEthernetCardNetworkBackingInfo{VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: name}}
}

func TestAdapterMAC(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.expect("off", b.power(vm, false), "")
	was := b.card(vm)
	b.expect("manual", b.editCard(vm, func(card *types.VirtualVmxnet3) {
		card.AddressType, card.MacAddress = "manual", "00:50:56:11:22:33"
	}), "")
	if now := b.card(vm); now.MacAddress != "00:50:56:11:22:33" || now.AddressType != "manual" {
		t.Errorf("%+v", now)
	}
	b.expect("assigned", b.editCard(vm, func(card *types.VirtualVmxnet3) { card.AddressType, card.MacAddress = "assigned", "" }), "")
	if now := b.card(vm); now.MacAddress == was.MacAddress || now.AddressType != "assigned" || !strings.HasPrefix(now.MacAddress, "00:50:56:") {
		t.Errorf("%+v", now)
	}
}

// ports reads the ports of a group from the switch.
func (b *bed) ports(group string, connected bool) []types.DistributedVirtualPort {
	b.Helper()
	found, err := find.NewFinder(b.client.Client).Network(b.ctx, "/DC0/network/"+group)
	if err != nil {
		b.Fatal(err)
	}
	owner := b.sim.registry().Any("DistributedVirtualSwitch").Reference()
	answer, err := methods.FetchDVPorts(b.ctx, b.client.Client, &types.FetchDVPorts{This: owner, Criteria: &types.DistributedVirtualSwitchPortCriteria{
		Connected: &connected, PortgroupKey: []string{found.Reference().Value}, Inside: types.NewBool(true),
	}})
	if err != nil {
		b.Fatal(err)
	}
	return answer.Returnval
}

// expectPorts checks how many ports of a group are used and free.
func (b *bed) expectPorts(group string, taken, free int) {
	b.Helper()
	if is, others := len(b.ports(group, true)), len(b.ports(group, false)); is != taken || others != free {
		b.Errorf("%s: %d ports are taken and %d free, not %d and %d", group, is, others, taken, free)
	}
}

func TestPortsOfAPortGroup(t *testing.T) {
	b := start(t, withGuests)
	b.networks(map[string]any{"port_groups": []map[string]any{{"name": "Two", "ports": 2}}, "vms": 1, "name": "third"})
	first, second, third := b.vm("DC0_H0_VM0"), b.vm("DC0_C0_RP0_VM0"), b.vm("third")
	two := b.backed("Two")
	b.expectPorts("Two", 0, 2)
	b.expect("first", b.editCard(first, two), "")
	b.expect("first again", b.editCard(first, two), "")
	b.expectPorts("Two", 1, 1)
	b.expect("disconnect", b.editCard(first, connect(false)), "")
	b.expectPorts("Two", 1, 1)
	b.expect("second", b.editCard(second, two), "")
	b.expect("off", b.power(second, false), "")
	b.expectPorts("Two", 2, 0)
	for _, taken := range b.ports("Two", true) {
		if owner := *taken.Connectee.ConnectedEntity; taken.Connectee.NicKey != "4000" || owner != first && owner != second ||
			b.card(owner).Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo).Port.PortKey != taken.Key {
			t.Errorf("%+v", taken)
		}
	}

	full := func(what string, got outcome) {
		t.Helper()
		b.expect(what, got, "ResourceNotAvailable")
		if fault := got.info.Error.Fault.(*types.ResourceNotAvailable); fault.ContainerName != "Two" ||
			got.message != "No free port is available in the distributed port group 'Two'." {
			t.Errorf("%s: %+v %s", what, fault, got.message)
		}
	}
	full("third", b.editCard(third, two))
	folder := b.sim.vmFolder().Self.Value
	clone := func(name string) outcome {
		return b.raw.task("CloneVM_Task", first, `<folder type="Folder">`+folder+`</folder><name>`+name+`</name><spec><location></location><powerOn>false</powerOn><template>false</template></spec>`)
	}
	full("clone", clone("c"))
	if ref, _ := object.NewSearchIndex(b.client.Client).FindByInventoryPath(b.ctx, "/DC0/vm/c"); ref != nil {
		t.Error("a clone that failed is there")
	}
	b.enable(first)
	b.freeze(first)
	full("fork", b.create(first, "f", ""))

	b.expect("second leaves", b.editCard(second, b.backed("VM Network")), "")
	b.expectPorts("Two", 1, 1)
	b.expect("clone", clone("c"), "")
	b.expectPorts("Two", 2, 0)
	b.expect("destroy", b.raw.task("Destroy_Task", b.vm("c"), ""), "")
	b.expectPorts("Two", 1, 1)
	child := b.child(first, "f", "")
	b.expectPorts("Two", 2, 0)
	if mine, its := b.card(first).Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo), b.card(child).Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo); mine.Port.PortKey == its.Port.PortKey {
		t.Errorf("parent and child share port %s", its.Port.PortKey)
	}
	full("third still", b.editCard(third, two))
}

func TestPortByItsKey(t *testing.T) {
	b := start(t)
	b.networks(map[string]any{"port_groups": []map[string]any{{"name": "Two", "ports": 2}}})
	last := b.ports("Two", false)[1].Key
	asked := func(card *types.VirtualVmxnet3) {
		b.backed("Two")(card)
		card.Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo).Port.PortKey = last
	}
	b.expect("free", b.editCard(b.vm("DC0_H0_VM0"), asked), "")
	if got := b.ports("Two", true); len(got) != 1 || got[0].Key != last {
		t.Errorf("%+v", got)
	}
	b.expect("taken", b.editCard(b.vm("DC0_C0_RP0_VM0"), asked), "ResourceNotAvailable")
}

// A task that fails keeps no port.
func TestPortOfAFailedTask(t *testing.T) {
	b := start(t)
	b.networks(map[string]any{"port_groups": []map[string]any{{"name": "One", "ports": 1}}})
	vm := b.vm("DC0_H0_VM0")
	card, unknown := b.card(vm), &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: 4711}}
	b.backed("One")(card)
	b.expect("edit", b.change(vm, append(editOf(card), editOf(unknown)...)), "InvalidDeviceSpec")
	added := &types.VirtualVmxnet3{}
	added.Backing = card.Backing
	pool := object.NewResourcePool(b.client.Client, *b.read(vm, "resourcePool").ResourcePool)
	task, err := object.NewFolder(b.client.Client, b.sim.vmFolder().Self).CreateVM(b.ctx, types.VirtualMachineConfigSpec{
		Name: "c", GuestId: string(guestID), Files: &types.VirtualMachineFileInfo{VmPathName: "[nowhere]"},
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: added}},
	}, pool, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.ended(task.Reference()); got.fault == "" {
		t.Fatal("a VM was made nowhere")
	}
	if got := portOf(b.card(vm)).PortgroupKey; got == portOf(card).PortgroupKey {
		t.Error("the adapter was moved")
	}
	b.expect("move", b.editCard(vm, b.backed("One")), "")
}

func portOf(card *types.VirtualVmxnet3) *types.DistributedVirtualSwitchPortConnection {
	port, _ := dvPortOf(&card.VirtualEthernetCard)
	return port
}

// A released port is assigned to the next adapter, even if those after it are
// used.
func TestReleasedPort(t *testing.T) {
	b := start(t)
	b.networks(map[string]any{"port_groups": []map[string]any{{"name": "Two", "ports": 2}}, "vms": 1, "name": "third"})
	first, two := b.vm("DC0_H0_VM0"), b.backed("Two")
	b.expect("first", b.editCard(first, two), "")
	left := b.ports("Two", true)[0].Key
	b.expect("second", b.editCard(b.vm("DC0_C0_RP0_VM0"), two), "")
	b.expect("first leaves", b.editCard(first, b.backed("DC0_DVPG0")), "")
	b.expectPorts("Two", 1, 1)
	third := b.vm("third")
	b.expect("third", b.editCard(third, two), "")
	if port, _ := dvPortOf(&b.card(third).VirtualEthernetCard); port.PortKey != left {
		t.Errorf("port %q instead of %q", port.PortKey, left)
	}
}

// A group that may expand does so by eight, which its properties show.
func TestPortGroupExpands(t *testing.T) {
	b := start(t)
	b.networks(map[string]any{"port_groups": []map[string]any{{"name": "Elastic", "ports": 1, "auto_expand": true}}})
	for _, name := range []string{"DC0_H0_VM0", "DC0_C0_RP0_VM0"} {
		b.expect(name, b.editCard(b.vm(name), b.backed("Elastic")), "")
	}
	b.expectPorts("Elastic", 2, 7)
	found, err := find.NewFinder(b.client.Client).Network(b.ctx, "/DC0/network/Elastic")
	if err != nil {
		t.Fatal(err)
	}
	var group mo.DistributedVirtualPortgroup
	if err := b.client.RetrieveOne(b.ctx, found.Reference(), []string{"config", "key", "portKeys"}, &group); err != nil {
		t.Fatal(err)
	}
	if c := group.Config; c.NumPorts != 9 || !isTrue(c.AutoExpand) || c.Type != "earlyBinding" || group.Key != found.Reference().Value || len(group.PortKeys) != 9 {
		t.Errorf("%+v %s %v", c, group.Key, group.PortKeys)
	}
	seen := map[string]bool{}
	owner := b.sim.registry().Any("DistributedVirtualSwitch").Reference()
	all, err := methods.FetchDVPorts(b.ctx, b.client.Client, &types.FetchDVPorts{This: owner})
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range all.Returnval {
		if seen[port.Key] {
			t.Errorf("two ports have the key %s", port.Key)
		}
		seen[port.Key] = true
	}
}

// An instant clone has its source's adapters with MACs of its own, changed
// according to the spec.
func TestAdaptersOfAnInstantClone(t *testing.T) {
	b := startModern(t)
	b.networks(map[string]any{"networks": []string{"Lab"}, "port_groups": []map[string]any{{"name": "One", "ports": 1}}})
	ref := b.vm("DC0_H0_VM0")
	made := func(name string, changes ...types.BaseVirtualDeviceConfigSpec) outcome {
		t.Helper()
		return b.clone(ref, types.VirtualMachineInstantCloneSpec{Name: name, Location: types.VirtualMachineRelocateSpec{DeviceChange: changes}})
	}
	b.rule("mac_change_while_on", "applied")
	b.expect("a MAC of its own", b.editCard(ref, func(card *types.VirtualVmxnet3) { card.AddressType, card.MacAddress = "manual", "00:50:56:00:00:07" }), "")
	b.freezeInstant(ref, freezeCommand+"; modprobe -r vmxnet3; modprobe vmxnet3; ip link set eth0 up; ip addr add 198.51.100.9/24 dev eth0; vmware-toolbox-cmd info update network")
	source := b.card(ref)

	b.expect("plain", made("plain"), "")
	plain := b.card(b.vm("plain"))
	mine, _ := dvPortOf(&source.VirtualEthernetCard)
	its, _ := dvPortOf(&plain.VirtualEthernetCard)
	if plain.MacAddress == source.MacAddress || mine.PortKey == its.PortKey || mine.PortgroupKey != its.PortgroupKey || !plain.Connectable.Connected {
		t.Errorf("%+v %+v", plain, its)
	}

	change := *source
	change.AddressType, change.MacAddress = "manual", "00:50:56:11:22:33"
	change.Connectable = &types.VirtualDeviceConnectInfo{StartConnected: true}
	b.backed("Lab")(&change)
	b.expect("changed", made("changed", editOf(&change)...), "")
	vm := b.vm("changed")
	net := b.untilNet(vm, "the report", func(net types.GuestNicInfo) bool { return slices.Contains(net.IpAddress, "198.51.100.9") })
	if card := b.card(vm); net.Connected || net.Network != "Lab" || net.MacAddress != "00:50:56:11:22:33" || card.Connectable.Connected || card.MacAddress != net.MacAddress {
		t.Errorf("%+v %+v", net, card)
	}
	if got := b.inGuest(vm, "cat /sys/class/net/eth0/carrier"); got != "0" {
		t.Errorf("carrier %s", got)
	}
	b.expect("connect", b.editCard(vm, connect(true)), "")
	b.untilNet(vm, "the link", func(net types.GuestNicInfo) bool { return net.Connected })
	b.expect("off", b.power(vm, false), "")
	b.expect("on", b.power(vm, true), "")
	if !b.card(vm).Connectable.Connected {
		t.Error("a power-on does not connect what starts connected")
	}

	b.backed("One")(&change)
	change.AddressType, change.MacAddress = "", ""
	b.expect("one", made("one", editOf(&change)...), "")
	b.expect("full", made("full", editOf(&change)...), "ResourceNotAvailable")
	change.Backing = standardBacking("none")
	got := b.expect("no network", made("no-network", editOf(&change)...), "InvalidDeviceSpec")
	if fault := got.info.Error.Fault.(*types.InvalidDeviceSpec); fault.Property != "spec.location.deviceChange[0].device.backing.deviceName" {
		t.Errorf("%+v", fault)
	}
	disk := object.VirtualDeviceList(b.read(ref, "config.hardware").Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil))[0]
	got = b.expect("disk", made("disk", append(editOf(source), editOf(disk)...)...), "NotSupported")
	if !strings.Contains(got.message, "spec.location.deviceChange[1]") {
		t.Error(got.message)
	}
	for _, name := range []string{"full", "no-network", "disk"} {
		if ref, _ := object.NewSearchIndex(b.client.Client).FindByInventoryPath(b.ctx, "/DC0/vm/"+name); ref != nil {
			t.Errorf("%s is there", name)
		}
	}
	if now := b.card(ref); now.MacAddress != source.MacAddress || !now.Connectable.Connected {
		t.Errorf("the source became %+v", now)
	}
}

func TestDevicePrivileges(t *testing.T) {
	b := start(t)
	b.networks(map[string]any{"networks": []string{"Lab"}})
	vm := b.vm("DC0_H0_VM0")
	for privilege, change := range map[string]func(card *types.VirtualVmxnet3){
		editDevice:    func(*types.VirtualVmxnet3) {},
		connectDevice: connect(false),
		assignNetwork: b.backed("Lab"),
	} {
		b.control(http.MethodPost, "users", map[string]any{"name": "u", "password": "p", "deny": []string{privilege}}, nil)
		limited := *b
		limited.client = b.login("u", "p")
		limited.expect(privilege, limited.editCard(vm, change), "NoPermission")
	}
	limited := *b
	b.control(http.MethodPost, "users", map[string]any{"name": "v", "password": "p", "deny": []string{connectDevice, assignNetwork, addRemoveDevice}}, nil)
	limited.client = b.login("v", "p")
	limited.expect("edit", limited.editCard(vm, func(card *types.VirtualVmxnet3) { card.WakeOnLanEnabled = types.NewBool(false) }), "")
}
