// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

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

// Every VM that runs has an address of its own from the network, also one that
// is made or powered on later; and the same one again.
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
