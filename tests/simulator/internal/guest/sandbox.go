// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The differences between the kinds of guests for a guest's init.

package guest

// sandbox is the environment of an init.
type sandbox interface {
	path(inGuest string) string                                // of the guest's file, as the init sees it
	inGuest(path string) string                                // the reverse
	user(name string) (user, error)                            // an account of the guest
	uid(onHost int) int                                        // of a caller, as the guest numbers it
	wrap(program *command)                                     // what every program needs to run in the guest
	adapters(nics []NIC, hardware func() ([]NIC, error)) error // what the VM has at power-on, and how to read what it has later
	withInterfaceNames(nics []NIC) ([]NIC, error)              // adapters under the names their interfaces have; "" is no interface
	setDriver(adapters []int, bound bool) error                // give adapters, numbered from 1, to their driver or take them from it
	report() (State, error)                                    // network and host name, as Tools reports them
	network() (netState, error)                                // all of it
	setNetwork(state netState) error                           // all of it
	setHostname(name string) error                             // for programs that cannot
	startNetwork(nics []NIC) error                             // as at boot
	watch(changed func()) error                                // of network and host name
	socket() string                                            // where in-guest tools find the init
}

// enterSandbox creates an init's environment; tools is the directory with the
// programs of Tools. The sandbox is never nil.
func enterSandbox(kind Kind, disk, tools string) (sandbox, error) {
	if kind == Plain {
		return enterPlain(disk, tools)
	}
	return &namespaces{}, enterRoot()
}
