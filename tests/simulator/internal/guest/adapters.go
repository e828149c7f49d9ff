// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The network adapters of a guest and their drivers. An adapter without a
// driver has no interface: its end of the cable is in a network namespace that
// no program of the guest can enter. A driver that binds an adapter reads its
// MAC from the hardware; until then the guest keeps using the MAC it knows,
// which after a fork is the parent's.

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

// card is an adapter as seen by the guest.
type card struct {
	nic   NIC
	index int  // index of the interface, in the guest or in the hidden namespace
	bound bool // bound to a driver
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
			nic.Address = "" // the network's answers go to another MAC
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

// numbered sets for each interface the number of its adapter.
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

// setDriver binds adapters to their driver, or unbinds them. An adapter that is
// already in this state is left unchanged.
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
			continue // it appears at the next power-on
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

// unbind hides an adapter's interface from the guest, which removes its
// addresses and routes. The caller holds the lock, as for all functions below.
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

// bind returns the interface to the guest, as a driver does that finds the
// adapter: down, without addresses, with the name and the MAC of the hardware.
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

// keepKernelNames exists if the administrator does not want interfaces to be
// named after their position on the bus.
const keepKernelNames = "/etc/udev/rules.d/80-net-setup-link.rules"

// freeName returns the name that the guest gives an adapter's interface.
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

// makeHiddenNS creates the namespace for the interfaces that are hidden from
// the guest.
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

// setNetwork sets the network and the host name to those of a state. Adapters
// that the state does not contain are left unchanged.
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
			continue // taking it down and up again is expensive
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

// rename gives the adapters' interfaces their names in a state. The names may
// be swapped, so each interface to rename gets a temporary name first.
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
