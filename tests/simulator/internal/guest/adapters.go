// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The network adapters of a guest and their drivers. An adapter that no driver
// has has no interface: its end of the cable lies in a network namespace where
// no program of the guest comes. A driver that gets an adapter reads its MAC
// from the hardware; until then the guest goes on with the MAC it knows, after
// a fork the parent's.

package guest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"runtime"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const defaultDriver = "vmxnet3"

func (n NIC) driver() string {
	if n.Driver == "" {
		return defaultDriver
	}
	return n.Driver
}

// namespaces is the sandbox of an init in its own namespaces: it sees what the
// guest sees.
type namespaces struct {
	hardware func() ([]NIC, error)

	mu           sync.Mutex
	cards        []card
	hiddenNS     netns.NsHandle  // the namespace of the interfaces that the guest does not see
	hiddenHandle *netlink.Handle // in it; nil until there is one
	driver       *driverFiles
	shown        map[string]shownLink // in /sys/class/net
}

// card is an adapter as the guest has it.
type card struct {
	nic   NIC
	index int  // of the interface, in the guest or in the hidden namespace
	bound bool // a driver has it
}

func (*namespaces) path(inGuest string) string     { return inGuest }
func (*namespaces) inGuest(path string) string     { return path }
func (*namespaces) user(name string) (user, error) { return lookUp(name) }
func (*namespaces) uid(caller int) int             { return caller }
func (*namespaces) setHostname(name string) error  { return unix.Sethostname([]byte(name)) }
func (*namespaces) wrap(*command)                  {}
func (*namespaces) socket() string                 { return toolsSocket }

func (n *namespaces) startNetwork(nics []NIC) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return startNetwork(nics)
}

func (n *namespaces) watch(changed func()) error {
	return watchNetwork(func() {
		n.mu.Lock()
		_ = n.showLinks() // if a link is gone by then, the kernel reports another change
		n.mu.Unlock()
		changed()
	})
}

func (n *namespaces) adapters(nics []NIC, hardware func() ([]NIC, error)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hardware = hardware
	for _, nic := range nics {
		link, err := netlink.LinkByName(nic.Name)
		if err != nil {
			return err
		}
		n.cards = append(n.cards, card{nic, link.Attrs().Index, true})
	}
	if err := n.makeDeviceFiles(); err != nil {
		return err
	}
	return n.showLinks()
}

func (n *namespaces) withInterfaceNames(nics []NIC) ([]NIC, error) {
	state, err := n.network()
	if err != nil {
		return nil, err
	}
	for i := range nics {
		nic := &nics[i]
		at := slices.IndexFunc(state.Links, func(link linkState) bool { return link.Adapter == i+1 })
		if at < 0 {
			nic.Name, nic.Address = "", ""
			continue
		}
		nic.Name = state.Links[at].Name
		if state.Links[at].MAC != nic.MAC {
			nic.Address = "" // what the network answers goes to another MAC
		}
	}
	return nics, nil
}

func (n *namespaces) report() (State, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	state, _, err := readLinks()
	return n.numbered(state).report(), err
}

func (n *namespaces) network() (netState, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.read()
}

func (n *namespaces) read() (netState, error) {
	state, err := readNetwork()
	return n.numbered(state), err
}

// numbered says of each interface which adapter it is.
func (n *namespaces) numbered(state netState) netState {
	for i, card := range n.cards {
		if !card.bound {
			state.Driverless = append(state.Driverless, i+1)
		}
		for at := range state.Links {
			if card.bound && state.Links[at].index == card.index {
				state.Links[at].Adapter = i + 1
			}
		}
	}
	return state
}

// setDriver gives adapters to their driver, or takes them from it. One that is
// that way already stays as it is.
func (n *namespaces) setDriver(adapters []int, bound bool) error {
	var nics []NIC
	if bound {
		var err error
		if nics, err = n.hardware(); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, adapter := range adapters {
		if adapter > len(n.cards) {
			continue // comes at the next power-on
		}
		var err error
		if !bound {
			err = n.unbind(adapter)
		} else if adapter <= len(nics) {
			err = n.bind(adapter, nics[adapter-1].MAC)
		}
		if err != nil {
			return fmt.Errorf("network adapter %d: %w", adapter, err)
		}
	}
	return n.showLinks()
}

// unbind takes an adapter's interface out of the guest's sight, which takes its
// addresses and routes. The caller holds the lock, as for all that follows.
func (n *namespaces) unbind(adapter int) error {
	card := &n.cards[adapter-1]
	if !card.bound {
		return nil
	}
	if err := n.makeHiddenNS(); err != nil {
		return err
	}
	link, err := netlink.LinkByIndex(card.index)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return err
	}
	name := fmt.Sprintf("adapter%d", adapter)
	if err := netlink.LinkSetName(link, name); err != nil {
		return err
	}
	if err := netlink.LinkSetNsFd(link, int(n.hiddenNS)); err != nil {
		return err
	}
	if link, err = n.hiddenHandle.LinkByName(name); err != nil {
		return err
	}
	card.index, card.bound = link.Attrs().Index, false
	return nil
}

// bind brings it back, as a driver does that finds the adapter: down, without
// addresses, under the name and with the MAC of the hardware.
func (n *namespaces) bind(adapter int, address string) error {
	card := &n.cards[adapter-1]
	if card.bound {
		return nil
	}
	mac, err := net.ParseMAC(address)
	if err != nil {
		return err
	}
	link, err := n.hiddenHandle.LinkByIndex(card.index)
	if err != nil {
		return err
	}
	name := n.freeName(adapter)
	for _, err := range []error{
		n.hiddenHandle.LinkSetName(link, name), n.hiddenHandle.LinkSetHardwareAddr(link, mac), n.hiddenHandle.LinkSetMTU(link, 1500),
	} {
		if err != nil {
			return err
		}
	}
	here, err := netns.Get()
	if err != nil {
		return err
	}
	defer here.Close()
	if err := n.hiddenHandle.LinkSetNsFd(link, int(here)); err != nil {
		return err
	}
	if link, err = netlink.LinkByName(name); err != nil {
		return err
	}
	quietIPv6(name)
	card.index, card.bound = link.Attrs().Index, true
	return nil
}

// keepKernelNames is there where the administrator does not want interfaces to
// be named after their place on the bus.
const keepKernelNames = "/etc/udev/rules.d/80-net-setup-link.rules"

// freeName is the name that the guest gives an adapter's interface.
func (n *namespaces) freeName(adapter int) string {
	name := n.cards[adapter-1].nic.Name
	if target, err := os.Readlink(keepKernelNames); err == nil && target == "/dev/null" {
		name = fmt.Sprintf("eth%d", adapter-1)
	}
	for number := adapter - 1; ; number++ {
		if _, err := netlink.LinkByName(name); err != nil {
			return name
		}
		name = fmt.Sprintf("eth%d", number)
	}
}

// makeHiddenNS makes the namespace for the interfaces that the guest does not see.
func (n *namespaces) makeHiddenNS() error {
	if n.hiddenHandle != nil {
		return nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	if err != nil {
		return err
	}
	defer here.Close()
	aside, err := netns.New()
	if err != nil {
		return err
	}
	if err := netns.Set(here); err != nil {
		runtime.LockOSThread() // stays locked: this thread is lost
		return err
	}
	if n.hiddenHandle, err = netlink.NewHandleAt(aside); err != nil {
		return err
	}
	n.hiddenNS = aside
	return nil
}

// setNetwork makes the network and the host name what a state says. Adapters
// that the state does not know stay as they are.
func (n *namespaces) setNetwork(state netState) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := unix.Sethostname([]byte(state.Hostname)); err != nil {
		return os.NewSyscallError("sethostname", err)
	}
	for _, adapter := range state.Driverless {
		if adapter <= len(n.cards) {
			if err := n.unbind(adapter); err != nil {
				return err
			}
		}
	}
	for _, link := range state.Links {
		if link.Adapter > 0 && link.Adapter <= len(n.cards) {
			if err := n.bind(link.Adapter, link.MAC); err != nil {
				return err
			}
		}
	}
	if err := n.rename(state); err != nil {
		return err
	}
	now, err := n.read()
	if err != nil {
		return err
	}
	for _, want := range state.Links {
		if reflect.DeepEqual(now.ofLink(want.Name), state.ofLink(want.Name)) {
			continue // to take it down and up again is dear
		}
		if err := setLink(want); err != nil {
			return fmt.Errorf("interface %s: %w", want.Name, err)
		}
	}
	for _, want := range state.Routes {
		if err := setRoute(want); err != nil {
			return fmt.Errorf("route to %q: %w", want.Destination, err)
		}
	}
	return n.showLinks()
}

// rename gives the adapters' interfaces their names in a state. They may swap
// them: so each that is to have another has none of them for a moment.
func (n *namespaces) rename(state netState) error {
	names := map[string]netlink.Link{}
	for _, want := range state.Links {
		if want.Adapter == 0 || want.Adapter > len(n.cards) {
			continue
		}
		link, err := netlink.LinkByIndex(n.cards[want.Adapter-1].index)
		if err != nil {
			return err
		}
		if link.Attrs().Name == want.Name {
			continue
		}
		if err := errors.Join(netlink.LinkSetDown(link), netlink.LinkSetName(link, fmt.Sprintf("adapter%d", want.Adapter))); err != nil {
			return err
		}
		names[want.Name] = link
	}
	for name, link := range names {
		if err := netlink.LinkSetName(link, name); err != nil {
			return err
		}
	}
	return nil
}
