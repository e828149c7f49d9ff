// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// What differs for a guest's init between the kinds of guests.

package guest

import "golang.org/x/sys/unix"

// world is the surroundings of an init.
type world interface {
	path(inGuest string) string      // of the guest's file, as the init sees it
	inGuest(path string) string      // the reverse
	user(name string) (user, error)  // an account of the guest
	uid(onHost int) int              // of a caller, as the guest numbers it
	wrap(program *command)           // what every program needs to run in the guest
	report() (State, error)          // what Tools tells of network and host name
	network() (netState, error)      // all of it
	setNetwork(state netState) error // all of it
	setHostname(name string) error   // for programs that cannot
	startNetwork(nics []NIC) error   // as at boot
	watch(changed func()) error      // of network and host name
	socket() string                  // where in-guest tools find the init
}

// enterWorld makes an init's surroundings; tools is the directory with the
// programs of Tools. The world is never nil.
func enterWorld(kind Kind, disk, tools string) (world, error) {
	if kind == Plain {
		return enterPlain(disk, tools)
	}
	return namespaces{}, enterRoot()
}

// namespaces is the world of an init that has its own: what it sees is the
// guest's.
type namespaces struct{}

func (namespaces) path(inGuest string) string     { return inGuest }
func (namespaces) inGuest(path string) string     { return path }
func (namespaces) user(name string) (user, error) { return lookUp(name) }
func (namespaces) uid(caller int) int             { return caller }
func (namespaces) setHostname(name string) error  { return unix.Sethostname([]byte(name)) }
func (namespaces) wrap(*command)                  {}
func (namespaces) report() (State, error) {
	state, _, err := readLinks()
	return state.report(), err
}

func (namespaces) network() (netState, error)      { return readNetwork() }
func (namespaces) setNetwork(state netState) error { return setNetwork(state) }
func (namespaces) startNetwork(nics []NIC) error   { return startNetwork(nics) }
func (namespaces) watch(changed func()) error      { return watchNetwork(changed) }
func (namespaces) socket() string                  { return toolsSocket }
