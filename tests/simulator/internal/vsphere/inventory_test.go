// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func TestLeaseOf(t *testing.T) {
	for mac, want := range map[string]string{
		"00:50:56:80:00:01": "10.128.0.1/8",
		"00:50:56:BF:ff:fe": "10.191.255.254/8",
		"00:50:56:00:00:00": "", // the network's own
		"00:50:56:ff:ff:ff": "", // everybody's
		"":                  "",
		"no MAC":            "",
	} {
		if got := leaseOf(mac); got != want {
			t.Errorf("%q gets %q, not %q", mac, got, want)
		}
	}
}

// Every host has each network, and so has its cluster, once.
func TestNetworksOfHosts(t *testing.T) {
	b := start(t)
	named := func(networks []types.ManagedObjectReference) (names []string) {
		t.Helper()
		for _, ref := range networks {
			var network mo.Network
			if err := b.client.RetrieveOne(b.ctx, ref, []string{"name", "host"}, &network); err != nil {
				t.Fatal(err)
			}
			if len(network.Host) != 3 {
				t.Errorf("%s is on the hosts %v", network.Name, network.Host)
			}
			if !strings.Contains(network.Name, "Uplink") {
				names = append(names, network.Name)
			}
		}
		slices.Sort(names)
		return names
	}
	expect := func(want ...string) {
		t.Helper()
		for _, entity := range b.sim.registry().All("HostSystem") {
			var host mo.HostSystem
			if err := b.client.RetrieveOne(b.ctx, entity.Reference(), []string{"network"}, &host); err != nil {
				t.Fatal(err)
			}
			if names := named(host.Network); !slices.Equal(names, want) {
				t.Errorf("%s has %v", entity.Entity().Name, names)
			}
		}
		for _, entity := range b.sim.registry().All("ClusterComputeResource") {
			var cluster mo.ClusterComputeResource
			if err := b.client.RetrieveOne(b.ctx, entity.Reference(), []string{"network"}, &cluster); err != nil {
				t.Fatal(err)
			}
			if names := named(cluster.Network); !slices.Equal(names, want) {
				t.Errorf("%s has %v", entity.Entity().Name, names)
			}
		}
	}
	expect("DC0_DVPG0", "VM Network")
	b.networks(map[string]any{"networks": []string{"Lab"}, "port_groups": []map[string]any{{"name": "Two", "ports": 2}}})
	expect("DC0_DVPG0", "Lab", "Two", "VM Network")
}

// A VM that is moved to another datacenter is found there, and no longer in the
// old one.
func TestMoveToAnotherDatacenter(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	finder := find.NewFinder(b.client.Client)
	from, err := finder.Datacenter(b.ctx, "/DC0")
	if err != nil {
		t.Fatal(err)
	}
	to, err := object.NewRootFolder(b.client.Client).CreateDatacenter(b.ctx, "DC1")
	if err != nil {
		t.Fatal(err)
	}
	finder.SetDatacenter(to)
	folders, err := to.Folders(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	added, err := folders.HostFolder.AddStandaloneHost(b.ctx, types.HostConnectSpec{HostName: "esx1"}, true, nil, nil)
	if err != nil || added.Wait(b.ctx) != nil {
		t.Fatal(err)
	}
	host, err := finder.HostSystem(b.ctx, "esx1")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := host.ResourcePool(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	folder, there, in := folders.VmFolder.Reference(), host.Reference(), pool.Reference()
	moved, err := object.NewVirtualMachine(b.client.Client, vm).Relocate(b.ctx, types.VirtualMachineRelocateSpec{Folder: &folder, Host: &there, Pool: &in}, "")
	if err != nil || moved.Wait(b.ctx) != nil {
		t.Fatal(err)
	}
	for datacenter, want := range map[types.ManagedObjectReference]bool{from.Reference(): false, to.Reference(): true} {
		all, err := view.NewManager(b.client.Client).CreateContainerView(b.ctx, datacenter, []string{"VirtualMachine"}, true)
		if err != nil {
			t.Fatal(err)
		}
		found, err := all.Find(b.ctx, []string{"VirtualMachine"}, property.Match{"name": "*"})
		if err != nil || slices.Contains(found, vm) != want {
			t.Errorf("in %s there are %v (%v)", datacenter.Value, found, err)
		}
	}
	for path, want := range map[string]bool{"/DC0/vm/DC0_H0_VM0": false, "/DC1/vm/DC0_H0_VM0": true} {
		found, err := object.NewSearchIndex(b.client.Client).FindByInventoryPath(b.ctx, path)
		if err != nil || (found != nil) != want {
			t.Errorf("at %s there is %v (%v)", path, found, err)
		}
	}
}

// Every running VM has an address of its own from the network, including VMs
// that are created or powered on later; and keeps it.
func TestAddresses(t *testing.T) {
	b := start(t, withGuests)
	network := netip.MustParsePrefix("10.0.0.0/8")
	address := func(name string) string {
		t.Helper()
		seen := b.until(b.vm(name), "an address of "+name, func(vm mo.VirtualMachine) bool { return vm.Guest.IpAddress != "" }, "guest")
		if ip := netip.MustParseAddr(seen.Guest.IpAddress); !network.Contains(ip) {
			t.Errorf("%s has %s", name, ip)
		}
		var inside guestView
		b.control(http.MethodGet, "guests/"+b.vm(name).Value, nil, &inside)
		if !slices.Contains(inside.State.Interfaces[0].Addresses, seen.Guest.IpAddress+"/8") {
			t.Errorf("%s is said to have %s, and has %+v", name, seen.Guest.IpAddress, inside.State.Interfaces)
		}
		return seen.Guest.IpAddress
	}
	b.control(http.MethodPost, "inventory", map[string]any{"vms": 1, "name": "later", "power_on": true}, nil)
	names := []string{"DC0_H0_VM0", "DC0_C0_RP0_VM0", "later"}
	var all []string
	for _, name := range names {
		all = append(all, address(name))
	}
	vm := b.vm(names[0])
	b.expect("off", b.power(vm, false), "")
	if got := b.read(vm, "guest").Guest.IpAddress; got != "" {
		t.Errorf("a VM that is off has %s", got)
	}
	b.expect("on", b.power(vm, true), "")
	if again := address(names[0]); again != all[0] {
		t.Errorf("%s, after a power cycle %s", all[0], again)
	}
	slices.Sort(all)
	if len(slices.Compact(all)) != len(names) {
		t.Errorf("shared addresses: %v", all)
	}
}
