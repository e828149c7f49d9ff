// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
)

// adapters returns NICs with the given names, whose MACs end with number and
// position.
func adapters(number int, names ...string) []NIC {
	var nics []NIC
	for i, name := range names {
		nics = append(nics, NIC{Name: name, MAC: fmt.Sprintf("00:50:56:00:%02x:%02x", number, i), Address: fmt.Sprintf("192.0.2.%d/24", 10*(number+1)+i)})
	}
	return nics
}

// forks returns a snapshot of a parent at a freeze and one of it while it runs.
func forks(t *testing.T, nics []NIC, prepare, script string) (*Platform, map[string]*Snapshot) {
	t.Helper()
	p := newPlatform(t, Namespaces)
	made := map[string]*Snapshot{}
	for _, kind := range []string{"running", "frozen"} {
		h := newHypervisor()
		h.answer = func(call Call) Answer { return Answer{OK: true, Freeze: call.Command == freezeCommand} }
		spec := parentSpec()
		spec.ID, spec.NICs = "vm-"+kind, nics
		m := boot(t, p, spec, h)
		m.Forkable(true)
		must(t, m, prepare)
		if kind == "running" {
			snapshot, err := m.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			made[kind] = snapshot
			continue
		}
		writeScript(t, m, "/root/fork.sh", "#!/bin/sh -e\n"+script+"\nvmtoolsd --cmd 'vmfork-begin -1 -1'\n")
		if _, err := m.Start(Program{Path: "/root/fork.sh", User: "root"}); err != nil {
			t.Fatal(err)
		}
		made[kind] = receiveFrom(t, h.frozen, "the freeze")
	}
	return p, made
}

// forked forks a snapshot and waits for the end of the program that froze it.
func forked(t *testing.T, p *Platform, kind string, number int, snapshot *Snapshot, nics []NIC, fresh bool) *Machine {
	t.Helper()
	h := newHypervisor()
	m := fork(t, p, Spec{ID: fmt.Sprintf("vm-%s-%d", kind, number), NICs: nics, FreshMAC: fresh}, snapshot, h)
	if snapshot.Command != "" {
		receiveFrom(t, h.ended, "the program's end")
	}
	return m
}

// TestForkKeepsInterfaces checks that the names, the order and the addresses of
// renamed interfaces are kept, and that adapters without a driver stay without.
func TestForkKeepsInterfaces(t *testing.T) {
	for _, test := range []struct {
		name, before, inScript string
		want                   []string
	}{
		{"renamed", "ip link set eth0 down; ip link set eth0 name ens192; ip link set ens192 up; ip addr add 198.51.100.1/24 dev ens192", "",
			[]string{"ens192", "eth1"}},
		{"swapped", "ip link set eth0 down; ip link set eth1 down; ip link set eth0 name x; ip link set eth1 name eth0; ip link set x name eth1; " +
			"ip link set eth0 up; ip link set eth1 up; ip addr add 198.51.100.1/24 dev eth0; ip addr add 198.51.100.2/24 dev eth1", "",
			[]string{"eth1", "eth0"}},
		{"renamed-in-script", "true", "ip link set eth1 down; ip link set eth1 name lan; ip link set lan up; ip addr add 198.51.100.1/24 dev lan", nil},
		{"without-driver", "modprobe -r vmxnet3", "", []string{}},
		{"driver-goes-in-script", "true", "modprobe -r vmxnet3", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, snapshots := forks(t, adapters(0, "eth0", "eth1"), test.before, test.inScript)
			for kind, snapshot := range snapshots {
				wanted := snapshot.freeze.network.report()
				if kind == "running" && test.want != nil || test.want != nil && len(test.want) == 0 {
					names := []string{}
					for _, shown := range wanted.Interfaces {
						names = append(names, shown.Name)
					}
					if !slices.Equal(names, test.want) {
						t.Fatalf("the parent has %q", names)
					}
				}
				for _, fresh := range []bool{false, true} {
					number := 1
					if fresh {
						number = 2
					}
					nics := adapters(number, "eth0", "eth1")
					got, err := forked(t, p, kind, number, snapshot, nics, fresh).network()
					if err != nil {
						t.Fatal(err)
					}
					want := wanted
					if fresh {
						want = snapshot.freeze.network.withMACs(nics).report()
					}
					if !reflect.DeepEqual(withoutLinkLocal(got.report()), withoutLinkLocal(want)) {
						t.Errorf("%s, fresh %v: the child has %+v, not %+v", kind, fresh, got.report(), want)
					}
				}
			}
		})
	}
}

func withoutLinkLocal(state State) State {
	for i := range state.Interfaces {
		state.Interfaces[i].Addresses = slices.DeleteFunc(state.Interfaces[i].Addresses, func(a string) bool { return a[:4] == "fe80" })
	}
	return state
}

// rebind does what public scripts for Instant Clone do with every adapter.
const rebind = `for NETDEV in /sys/class/net/e*
do
	DEVICE_LABEL=$(basename $(readlink -f "$NETDEV/device"))
	DEVICE_DRIVER=$(basename $(readlink -f "$NETDEV/device/driver"))
	echo $DEVICE_LABEL > /sys/bus/pci/drivers/$DEVICE_DRIVER/unbind
	echo $DEVICE_LABEL > /sys/bus/pci/drivers/$DEVICE_DRIVER/bind
done
`

// TestDriverKeepsTheParentsMAC checks that a child's network works after its
// driver is reloaded, with each method of public scripts.
func TestDriverKeepsTheParentsMAC(t *testing.T) {
	p, snapshots := forks(t, adapters(0, "ens192", "ens224"), "true", "")
	const own = " && test $(cat /sys/class/net/ens192/address) = 00:50:56:00:%[1]s:00 && test $(cat /sys/class/net/ens224/address) = 00:50:56:00:%[1]s:01"
	number := 0
	for _, test := range []struct{ name, script, check string }{
		{"nothing", "true", "test $(cat /sys/class/net/ens192/address) = 00:50:56:00:00:00 && test $(cat /sys/class/net/ens224/address) = 00:50:56:00:00:01"},
		{"no lease", "! dhclient -1 ens192 2>/dev/null", "true"},
		{"modprobe", "NIC_MODULE=$(lsmod | grep -o vmxnet3); modprobe -r ${NIC_MODULE};modprobe ${NIC_MODULE}", "true" + own},
		{"rmmod", "rmmod vmxnet3; ! lsmod | grep vmxnet3; ! ip link show ens192 2>/dev/null; test ! -e /sys/class/net/ens224; modprobe vmxnet3", "true" + own},
		{"shipped", "driver=$(readlink /sys/class/net/ens192/device/driver); modprobe -r ${driver##*/}; modprobe ${driver##*/}", "true" + own},
		{"rebind", rebind, "true" + own},
		{"sudo tee", "sudo -n sh -c 'echo 0000:0b:00.0 >/sys/bus/pci/drivers/vmxnet3/unbind'; echo 0000:0b:00.0 | sudo -n tee /sys/bus/pci/drivers/vmxnet3/bind",
			"test $(cat /sys/class/net/ens192/address) = 00:50:56:00:%[1]s:00 && test $(cat /sys/class/net/ens224/address) = 00:50:56:00:00:01"},
		{"both, then both", "cd /sys/bus/pci/drivers/vmxnet3; for i in 0000:0b:00.0 0000:13:00.0; do echo $i >unbind; done; for i in 0000:0b:00.0 0000:13:00.0; do echo $i >bind; done", "true" + own},
		{"other driver", "modprobe -r e1000; modprobe e1000", "test $(cat /sys/class/net/ens192/address) = 00:50:56:00:00:00"},
		{"address of its own", "ip link set ens192 down; ip link set ens192 address 00:50:56:00:%[1]s:00; dhclient -1 ens192", "ip addr show ens192 | grep -q 192.0.2"},
		{"kernel's names", "ln -s /dev/null /etc/udev/rules.d/80-net-setup-link.rules; " + rebind, "test $(cat /sys/class/net/eth0/address) = 00:50:56:00:%[1]s:00 && test ! -e /sys/class/net/ens192"},
	} {
		for kind, snapshot := range snapshots {
			number++
			m := forked(t, p, kind, number, snapshot, adapters(number, "ens192", "ens224"), false)
			script := test.script + "\n" + test.check
			if code, output := shell(t, m, "root", "set -e\n"+filled(script, number)); code != 0 {
				t.Errorf("%s, %s: %d: %s; %+v", test.name, kind, code, output, m.State())
			}
		}
	}
}

func filled(text string, number int) string {
	if !slices.Contains([]byte(text), '%') {
		return text
	}
	return fmt.Sprintf(text, fmt.Sprintf("%02x", number))
}

// TestReloadedDriverTakesTheNetwork checks that only a requested lease survives
// a reload, and that VMware Tools report the child's own MAC.
func TestReloadedDriverTakesTheNetwork(t *testing.T) {
	p, snapshots := forks(t, adapters(0, "ens192"), "ip route add default via 192.0.2.1", "")
	for kind, snapshot := range snapshots {
		m := forked(t, p, kind, 7, snapshot, adapters(7, "ens192"), false)
		if state := m.State(); state.Interfaces[0].MAC != "00:50:56:00:00:00" || !slices.Contains(state.Interfaces[0].Addresses, "192.0.2.10/24") {
			t.Errorf("%s: %+v", kind, state)
		}
		must(t, m, "modprobe -r vmxnet3; modprobe vmxnet3; ! ip -4 addr show ens192 | grep inet; ! ip route | grep default; ! ip link show ens192 | grep ,UP")
		must(t, m, "dhclient -1 ens192")
		state := withoutLinkLocal(m.State())
		if want := []Interface{{"ens192", 1, "00:50:56:00:07:00", true, true, []string{"192.0.2.80/24"}}}; !reflect.DeepEqual(state.Interfaces, want) {
			t.Errorf("%s: %+v", kind, state.Interfaces)
		}
	}
}
