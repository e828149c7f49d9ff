// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The network and the host name of the namespaces this process is in: read,
// set, watched.

package guest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// netState is the part of the network that a fork keeps.
type netState struct {
	Hostname   string
	Links      []linkState
	Routes     []routeState
	Driverless []int // adapters that no driver has, as linkState numbers them
}

type linkState struct {
	Name, MAC string
	Adapter   int // its position in Spec.NICs, from 1; 0 is none
	index     int // in the namespace it was read in
	MTU       int
	Up        bool
	Addresses []addressState
}

type addressState struct {
	CIDR, Broadcast, Label string
	Scope                  int
	FromMAC                bool // a link-local address that the kernel made of the MAC
}

type routeState struct {
	Family, Scope, Protocol, Table, Type, Priority, MTU int
	Destination, Gateway, Source, Link                  string
	OnLink                                              bool
}

// report is the state as Tools reports it.
func (s netState) report() State {
	state := State{Hostname: s.Hostname}
	for _, link := range s.Links {
		if link.Name == loopback {
			continue
		}
		shown := Interface{Name: link.Name, Adapter: link.Adapter, MAC: link.MAC, Up: link.Up, Addresses: []string{}}
		for _, address := range link.Addresses {
			shown.Addresses = append(shown.Addresses, address.CIDR)
		}
		state.Interfaces = append(state.Interfaces, shown)
	}
	return state
}

// on returns the state together with what the hypervisor knows about the
// adapters.
func (s State) on(nics []NIC) State {
	s.Interfaces = slices.Clone(s.Interfaces)
	for i := range s.Interfaces {
		shown := &s.Interfaces[i]
		known := shown.Adapter > 0 && shown.Adapter <= len(nics)
		shown.Connected = !known || !nics[shown.Adapter-1].Unplugged
	}
	return s
}

// withMACs returns the state of the same network on other adapters.
func (s netState) withMACs(nics []NIC) netState {
	s.Links = slices.Clone(s.Links)
	for i := range s.Links {
		if adapter := s.Links[i].Adapter; adapter > 0 && adapter <= len(nics) {
			s.Links[i].MAC = nics[adapter-1].MAC
		}
	}
	return s
}

const loopback = "lo"

// readNetwork reads all of it.
func readNetwork() (netState, error) {
	state, names, err := readLinks()
	if err != nil {
		return state, err
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := ignoreInterrupted(netlink.RouteList(nil, family))
		if err != nil {
			return state, err
		}
		for _, route := range routes {
			if route.Protocol != unix.RTPROT_KERNEL && route.Protocol != unix.RTPROT_REDIRECT {
				state.Routes = append(state.Routes, readRoute(route, family, names[route.LinkIndex]))
			}
		}
	}
	return state, nil
}

// readLinks reads what Tools report, and the names of the interfaces by their
// index.
func readLinks() (netState, map[int]string, error) {
	var state netState
	name, err := os.Hostname()
	if err != nil {
		return state, nil, err
	}
	state.Hostname = name
	links, err := ignoreInterrupted(netlink.LinkList())
	if err != nil {
		return state, nil, err
	}
	addresses, err := ignoreInterrupted(netlink.AddrList(nil, netlink.FAMILY_ALL))
	if err != nil {
		return state, nil, err
	}
	names := map[int]string{}
	for _, link := range links {
		attributes := link.Attrs()
		names[attributes.Index] = attributes.Name
		read := linkState{
			index: attributes.Index,
			Name:  attributes.Name, MAC: attributes.HardwareAddr.String(), MTU: attributes.MTU, Up: attributes.Flags&net.FlagUp != 0,
		}
		for _, address := range addresses {
			if address.LinkIndex == attributes.Index {
				read.Addresses = append(read.Addresses, readAddress(address, attributes.HardwareAddr))
			}
		}
		state.Links = append(state.Links, read)
	}
	return state, names, nil
}

// ignoreInterrupted accepts a listing during which something changed: the
// kernel reports the change shortly afterwards, and it is read then.
func ignoreInterrupted[T any](list []T, err error) ([]T, error) {
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		err = nil
	}
	return list, err
}

func readAddress(address netlink.Addr, mac net.HardwareAddr) addressState {
	read := addressState{CIDR: address.IPNet.String(), Label: address.Label, Scope: address.Scope}
	if address.Broadcast != nil {
		read.Broadcast = address.Broadcast.String()
	}
	read.FromMAC = address.IP.To4() == nil && address.IP.IsLinkLocalUnicast() && bytes.Equal(address.IP[8:], eui64(mac))
	return read
}

// eui64 is the interface identifier of RFC 4291, appendix A.
func eui64(mac net.HardwareAddr) []byte {
	if len(mac) != 6 {
		return nil
	}
	return []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}
}

func readRoute(route netlink.Route, family int, link string) routeState {
	read := routeState{
		Family: family, Scope: int(route.Scope), Protocol: int(route.Protocol), Table: route.Table, Type: route.Type,
		Priority: route.Priority, MTU: route.MTU, Link: link, OnLink: route.Flags&unix.RTNH_F_ONLINK != 0,
	}
	if route.Dst != nil {
		read.Destination = route.Dst.String()
	}
	if route.Gw != nil {
		read.Gateway = route.Gw.String()
	}
	if route.Src != nil {
		read.Source = route.Src.String()
	}
	return read
}

// ofLink returns the part of a state about one interface, with its routes.
func (s netState) ofLink(name string) netState {
	var one netState
	for _, link := range s.Links {
		if link.Name == name {
			link.index = 0
			link.Addresses = slices.DeleteFunc(slices.Clone(link.Addresses), func(a addressState) bool { return a.FromMAC })
			one.Links = append(one.Links, link)
		}
	}
	for _, route := range s.Routes {
		if route.Link == name {
			one.Routes = append(one.Routes, route)
		}
	}
	return one
}

// setLink takes an interface down first, which removes its IPv6 addresses and
// all its routes.
func setLink(want linkState) error {
	link, err := netlink.LinkByName(want.Name)
	if err != nil {
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil // the fork has fewer adapters
		}
		return err
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return err
	}
	addresses, err := ignoreInterrupted(netlink.AddrList(link, netlink.FAMILY_ALL))
	if err != nil {
		return err
	}
	for _, address := range addresses {
		if err := netlink.AddrDel(link, &address); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return err
		}
	}
	if mac, err := net.ParseMAC(want.MAC); err == nil && want.Name != loopback && !bytes.Equal(mac, link.Attrs().HardwareAddr) {
		if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
			return err
		}
	}
	if want.MTU != link.Attrs().MTU {
		if err := netlink.LinkSetMTU(link, want.MTU); err != nil {
			return err
		}
	}
	if want.Up {
		quietIPv6(want.Name)
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
	}
	for _, address := range want.Addresses {
		if address.FromMAC {
			continue // follows the new MAC
		}
		if err := addAddress(link, address); err != nil {
			return fmt.Errorf("%s: %w", address.CIDR, err)
		}
	}
	return nil
}

func addAddress(link netlink.Link, want addressState) error {
	address, err := netlink.ParseAddr(want.CIDR)
	if err != nil {
		return err
	}
	address.Scope, address.Label = want.Scope, want.Label
	if want.Broadcast != "" {
		address.Broadcast = net.ParseIP(want.Broadcast)
	}
	if address.IP.To4() == nil {
		address.Flags |= unix.IFA_F_NODAD
	}
	err = netlink.AddrAdd(link, address)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

func setRoute(want routeState) error {
	route, err := routeOf(want)
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&route)
}

func routeOf(want routeState) (netlink.Route, error) {
	route := netlink.Route{
		Family: want.Family, Scope: netlink.Scope(want.Scope), Protocol: netlink.RouteProtocol(want.Protocol), Table: want.Table,
		Type: want.Type, Priority: want.Priority, MTU: want.MTU, Gw: net.ParseIP(want.Gateway), Src: net.ParseIP(want.Source),
	}
	if want.OnLink {
		route.Flags |= unix.RTNH_F_ONLINK
	}
	if want.Destination != "" {
		_, destination, err := net.ParseCIDR(want.Destination)
		if err != nil {
			return route, err
		}
		route.Dst = destination
	}
	if want.Link != "" {
		link, err := netlink.LinkByName(want.Link)
		if err != nil {
			return route, err
		}
		route.LinkIndex = link.Attrs().Index
	}
	return route, nil
}

// quietIPv6 disables what makes no sense on a cable to nowhere: duplicate
// address detection and the search for routers.
func quietIPv6(name string) {
	for _, setting := range []string{"accept_dad", "router_solicitations", "accept_ra"} {
		_ = os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", name, setting), []byte("0"), 0) // no IPv6, no setting
	}
}

// startNetwork does what a guest does at boot: it sets the host name from its
// disk, brings its interfaces up, and requests addresses from the network.
func startNetwork(nics []NIC) error {
	if name, err := os.ReadFile("/etc/hostname"); err == nil {
		if err := unix.Sethostname(bytes.TrimSpace(name)); err != nil {
			return os.NewSyscallError("sethostname", err)
		}
	}
	up := append([]NIC{{Name: loopback}}, nics...)
	for _, nic := range up {
		quietIPv6(nic.Name)
		link, err := netlink.LinkByName(nic.Name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		if nic.Address == "" {
			continue
		}
		if err := addAddress(link, addressState{CIDR: nic.Address}); err != nil {
			return fmt.Errorf("%s: %w", nic.Address, err)
		}
	}
	return nil
}

// watchNetwork calls changed whenever the kernel reports a change of links,
// addresses, or the host name. It wakes up for a change of any host name on the
// machine, in all guests of all simulators, so it compares the name first.
func watchNetwork(changed func()) error {
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(socket, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	hostname, err := unix.Open("/proc/sys/kernel/hostname", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/proc/sys/kernel/hostname", Err: err}
	}
	known, _ := os.Hostname()
	go func() {
		buffer := make([]byte, 64<<10)
		// A change of the host name shows as POLLPRI|POLLERR, see proc_sys_poll.
		watched := []unix.PollFd{{Fd: int32(socket), Events: unix.POLLIN}, {Fd: int32(hostname), Events: unix.POLLPRI}}
		for {
			if _, err := unix.Poll(watched, -1); err != nil {
				continue // interrupted
			}
			if name, err := os.Hostname(); err == nil {
				if watched[0].Revents == 0 && name == known {
					continue
				}
				known = name
			}
			for watched[0].Revents != 0 {
				if _, _, err := unix.Recvfrom(socket, buffer, unix.MSG_DONTWAIT); err == unix.EAGAIN {
					break
				}
			}
			changed()
		}
	}()
	return nil
}
