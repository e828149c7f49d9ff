// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// A simulation of the common forms of ip(8), for hosts without it.

package guest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// errForm is the answer to other forms of ip.
var errForm = errors.New("this form of the command is not simulated")

func ip(words []string) int {
	family := netlink.FAMILY_ALL
	words = words[1:]
	for len(words) > 0 && strings.HasPrefix(words[0], "-") {
		switch words[0] {
		case "-4":
			family = netlink.FAMILY_V4
		case "-6":
			family = netlink.FAMILY_V6
		case "-V":
			fmt.Println("ip utility, simulated")
			return 0
		}
		words = words[1:]
	}
	if len(words) == 0 {
		fmt.Fprintln(os.Stderr, "Usage: ip [ -4 | -6 ] { link | address | route } COMMAND")
		return 1
	}
	object, rest := words[0], words[1:]
	var err error
	switch {
	case isShort(object, "link"):
		err = ipLink(rest)
	case isShort(object, "address"):
		err = ipAddress(rest, family)
	case isShort(object, "route"):
		err = ipRoute(rest, family)
	default:
		err = errForm
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ip:", err)
		return 2
	}
	return 0
}

// isShort reports whether a word is a name or its beginning, as ip allows.
func isShort(word, name string) bool { return word != "" && strings.HasPrefix(name, word) }

// options reads "key value" pairs; a single word has the key "".
func options(words []string, flags ...string) map[string]string {
	read := map[string]string{}
words:
	for i := 0; i < len(words); i++ {
		for _, flag := range flags {
			if words[i] == flag {
				read[flag] = flag
				continue words
			}
		}
		switch words[i] {
		case "dev", "via", "src", "metric", "proto", "scope", "table", "address", "mtu", "broadcast", "brd", "label", "type":
			if i+1 < len(words) {
				read[words[i]] = words[i+1]
				i++
			}
		default:
			read[""] = words[i]
		}
	}
	return read
}

func ipLink(words []string) error {
	if len(words) == 0 || isShort(words[0], "show") || words[0] == "list" {
		return ipShow(words, netlink.FAMILY_ALL, false)
	}
	if !isShort(words[0], "set") {
		return errForm
	}
	given := options(words[1:], "up", "down")
	name := given["dev"]
	if name == "" {
		name = given[""]
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if given["down"] != "" {
		err = netlink.LinkSetDown(link)
	}
	if text := given["address"]; err == nil && text != "" {
		var mac net.HardwareAddr
		if mac, err = net.ParseMAC(text); err == nil {
			err = netlink.LinkSetHardwareAddr(link, mac)
		}
	}
	if text := given["mtu"]; err == nil && text != "" {
		var mtu int
		if mtu, err = strconv.Atoi(text); err == nil {
			err = netlink.LinkSetMTU(link, mtu)
		}
	}
	if err == nil && given["up"] != "" {
		err = netlink.LinkSetUp(link)
	}
	return err
}

func ipAddress(words []string, family int) error {
	if len(words) == 0 || isShort(words[0], "show") || words[0] == "list" {
		return ipShow(words, family, true)
	}
	verb, given := words[0], options(words[1:])
	if verb == "flush" {
		name := given["dev"]
		if name == "" {
			name = given[""]
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		addresses, err := ignoreInterrupted(netlink.AddrList(link, family))
		for _, address := range addresses {
			err = errors.Join(err, ignore(netlink.AddrDel(link, &address), unix.EADDRNOTAVAIL))
		}
		return err
	}
	link, err := netlink.LinkByName(given["dev"])
	if err != nil {
		return err
	}
	address, err := netlink.ParseAddr(withPrefix(given[""], ""))
	if err != nil {
		return err
	}
	address.Label = given["label"]
	switch {
	case isShort(verb, "add"):
		return netlink.AddrAdd(link, address)
	case isShort(verb, "replace"):
		return netlink.AddrReplace(link, address)
	case isShort(verb, "delete"):
		return netlink.AddrDel(link, address)
	}
	return errForm
}

func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

// ipShow prints the interfaces in ip's format.
func ipShow(words []string, family int, addresses bool) error {
	var only string
	if len(words) > 0 {
		given := options(words[1:])
		if only = given["dev"]; only == "" {
			only = given[""]
		}
	}
	state, names, err := readLinks()
	if err != nil {
		return err
	}
	index := map[string]int{}
	for i, name := range names {
		index[name] = i
	}
	if _, ok := index[only]; only != "" && !ok {
		return fmt.Errorf("Device %q does not exist.", only) //nolint:staticcheck // ip's own words
	}
	for _, link := range state.Links {
		if only != "" && link.Name != only {
			continue
		}
		kind, flags, up := "ether", "BROADCAST,MULTICAST", "DOWN"
		if link.Name == loopback {
			kind, flags = "loopback", "LOOPBACK"
		}
		if link.Up {
			flags, up = flags+",UP,LOWER_UP", "UP"
		}
		mac := link.MAC
		if mac == "" {
			mac = "00:00:00:00:00:00"
		}
		fmt.Printf("%d: %s: <%s> mtu %d state %s\n    link/%s %s\n", index[link.Name], link.Name, flags, link.MTU, up, kind, mac)
		for _, address := range link.Addresses {
			inet := "inet"
			if strings.Contains(address.CIDR, ":") {
				inet = "inet6"
			}
			if !addresses || family == netlink.FAMILY_V4 && inet == "inet6" || family == netlink.FAMILY_V6 && inet == "inet" {
				continue
			}
			scope := netlink.Scope(address.Scope).String()
			if address.Scope == unix.RT_SCOPE_UNIVERSE {
				scope = "global" // ip's word
			}
			fmt.Printf("    %s %s scope %s %s\n", inet, address.CIDR, scope, link.Name)
		}
	}
	return nil
}

func ipRoute(words []string, family int) error {
	if len(words) == 0 || isShort(words[0], "show") || words[0] == "list" {
		return ipRoutes(family)
	}
	verb, given := words[0], options(words[1:])
	want := routeState{
		Destination: given[""], Gateway: given["via"], Link: given["dev"], Source: given["src"],
		Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_BOOT,
	}
	if want.Destination == "default" {
		want.Destination = ""
	} else {
		want.Destination = withPrefix(want.Destination, "")
	}
	if want.Gateway == "" {
		want.Scope = unix.RT_SCOPE_LINK
	}
	want.Priority, _ = strconv.Atoi(given["metric"])
	switch {
	case isShort(verb, "add"), isShort(verb, "replace"), isShort(verb, "change"):
		return setRoute(want)
	case isShort(verb, "delete"):
		return deleteRoute(want)
	}
	return errForm
}

func deleteRoute(want routeState) error {
	state, err := readNetwork()
	if err != nil {
		return err
	}
	for _, found := range state.Routes {
		if isDefault(found.Destination) && want.Destination == "" || found.Destination == want.Destination {
			route, err := routeOf(found)
			if err != nil {
				return err
			}
			return netlink.RouteDel(&route)
		}
	}
	return unix.ESRCH
}

func isDefault(destination string) bool {
	return destination == "" || destination == "0.0.0.0/0" || destination == "::/0"
}

func ipRoutes(family int) error {
	if family == netlink.FAMILY_ALL {
		family = netlink.FAMILY_V4
	}
	routes, err := ignoreInterrupted(netlink.RouteList(nil, family))
	if err != nil {
		return err
	}
	_, names, err := readLinks()
	if err != nil {
		return err
	}
	for _, route := range routes {
		shown := readRoute(route, family, names[route.LinkIndex])
		if isDefault(shown.Destination) {
			shown.Destination = "default"
		}
		line := shown.Destination
		if shown.Gateway != "" {
			line += " via " + shown.Gateway
		}
		line += " dev " + shown.Link
		if shown.Source != "" {
			line += " src " + shown.Source
		}
		fmt.Println(line)
	}
	return nil
}
