// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseNetworkConfiguration(t *testing.T) {
	static := []linkConfig{{Name: "eth0", Addresses: []string{"198.51.100.5/24"}, Gateway: "198.51.100.1"}}
	for name, test := range map[string]struct {
		parse func(string) []linkConfig
		text  string
		want  []linkConfig
	}{
		"networkd":        {parseNetworkd, "[Match]\nName=eth0\n\n[Network]\n# Address=1.2.3.4/5\nAddress=198.51.100.5/24\nGateway=198.51.100.1\n", static},
		"networkd dhcp":   {parseNetworkd, "[Match]\nName=eth0\n[Network]\nDHCP=yes\n", []linkConfig{{Name: "eth0", DHCP: true}}},
		"interfaces":      {parseInterfaces, "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet static\n  address 198.51.100.5\n  netmask 255.255.255.0\n  gateway 198.51.100.1\n", append([]linkConfig{{Name: "lo"}}, static...)},
		"interfaces dhcp": {parseInterfaces, "iface eth0 inet dhcp\n", []linkConfig{{Name: "eth0", DHCP: true}}},
		"ifcfg":           {parseIfcfg, "DEVICE=\"eth0\"\nBOOTPROTO=static\nIPADDR=198.51.100.5\nPREFIX=24\nGATEWAY=198.51.100.1\n", static},
	} {
		if got := test.parse(test.text); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, not %+v", name, got, test.want)
		}
	}
}

func TestWithPrefix(t *testing.T) {
	for _, test := range []struct{ address, mask, want string }{
		{"192.0.2.1", "", "192.0.2.1/32"},
		{"192.0.2.1", "24", "192.0.2.1/24"},
		{"192.0.2.1", "255.255.0.0", "192.0.2.1/16"},
		{"192.0.2.1/24", "", "192.0.2.1/24"},
		{"192.0.2.1/255.255.255.128", "", "192.0.2.1/25"},
		{"2001:db8::1", "", "2001:db8::1/128"},
		{"2001:db8::1/64", "", "2001:db8::1/64"},
	} {
		if got := withPrefix(test.address, test.mask); got != test.want {
			t.Errorf("%q with %q: %q, not %q", test.address, test.mask, got, test.want)
		}
	}
}

func TestNetworkServices(t *testing.T) {
	m := boot(t, newPlatform(t, Namespaces), parentSpec(), nil)
	ipv4 := func() string {
		return strings.Join(slices.DeleteFunc(m.State().Interfaces[0].Addresses, func(a string) bool { return strings.Contains(a, ":") }), " ")
	}
	must(t, m, `printf '[Match]\nName=eth0\n[Network]\nAddress=198.51.100.5/24\nGateway=198.51.100.1\n' >/etc/systemd/network/10-eth0.network
		systemctl restart systemd-networkd && ip route | grep -q '^default via 198.51.100.1 '`)
	if got := ipv4(); got != "198.51.100.5/24" {
		t.Errorf("networkd set %q", got)
	}
	must(t, m, "rm /etc/systemd/network/*; printf 'iface eth0 inet static\naddress 198.51.100.6\nnetmask 255.255.255.0\n' >>/etc/network/interfaces; ifdown eth0")
	if got := ipv4(); got != "" {
		t.Errorf("ifdown left %q", got)
	}
	must(t, m, "ifup eth0")
	if got := ipv4(); got != "198.51.100.6/24" {
		t.Errorf("ifup set %q", got)
	}
}

// TestIPCommand runs the simulated ip under its name, although the host has
// one.
func TestIPCommand(t *testing.T) {
	m := boot(t, newPlatform(t, Namespaces), parentSpec(), nil)
	must(t, m, "mkdir /tmp/bin && ln -s "+programInGuest+" /tmp/bin/ip")
	for _, step := range []struct{ do, see string }{
		{"ip addr flush dev eth0", "! ip -4 addr show eth0 | grep inet"},
		{"ip link set eth0 down; ip link set dev eth0 address 00:50:56:00:00:44 mtu 1400", "grep -qx 00:50:56:00:00:44 /sys/class/net/eth0/address && ip link show eth0 | grep -q 'mtu 1400 .*DOWN'"},
		{"ip link set eth0 up", "ip link show eth0 | grep -q ',UP'"},
		{"ip addr add 198.51.100.7/24 dev eth0", "ip -4 a s eth0 | grep -q ' inet 198.51.100.7/24 scope global eth0$'"},
		{"ip route add default via 198.51.100.1", "ip route show | grep -q '^default via 198.51.100.1 dev eth0'"},
		{"ip route del default", "! ip route | grep default"},
		{"ip addr del 198.51.100.7/24 dev eth0", "! ip -4 addr show dev eth0 | grep inet"},
	} {
		must(t, m, "PATH=/tmp/bin:$PATH; "+step.do+" && "+step.see)
	}
	if code, output := shell(t, m, "root", "/tmp/bin/ip tunnel show 2>&1"); code != 2 || output != "ip: "+errForm.Error() {
		t.Errorf("an unknown form: exit code %d, %q", code, output)
	}
}
