// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The kind of guest for hosts that do not allow namespaces. Programs run
// directly on the host, as the simulator's user, in a private directory; only
// accesses through the simulator, or through $HOME, $TMPDIR or the working
// directory, stay in there. Host name and network are only simulated.

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// plain is the sandbox of such a guest's init.
type plain struct {
	disk, tools, shims string

	mu      sync.Mutex
	read    func() ([]NIC, error) // the adapters that the VM has
	state   netState
	changed func()
}

func enterPlain(disk, tools string) (sandbox, error) {
	p := &plain{changed: func() {}}
	here, err := os.Getwd()
	p.disk, p.tools, p.shims = filepath.Join(here, disk), filepath.Join(here, tools), filepath.Join(here, shimDirectory)
	if err == nil { // orphans become the init's children, as in a guest with process IDs of its own
		err = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	return p, err
}

// path maps paths on the disk; all others are the host's.
func (p *plain) path(inGuest string) string {
	clean := filepath.Clean("/" + inGuest)
	for _, part := range parts {
		if rest, ok := strings.CutPrefix(clean, "/"+part.path); ok && (rest == "" || rest[0] == '/') {
			return filepath.Join(p.disk, part.name, rest)
		}
	}
	return clean
}

func (p *plain) inGuest(path string) string {
	for _, part := range parts {
		if rest, ok := strings.CutPrefix(path, filepath.Join(p.disk, part.name)); ok && (rest == "" || rest[0] == '/') {
			return "/" + part.path + rest
		}
	}
	return path
}

// user has the name and home in the guest, and the only available user ID.
func (p *plain) user(name string) (user, error) {
	if name == strconv.Itoa(os.Getuid()) {
		name = "root"
	}
	passwd, err := os.ReadFile(p.path("/etc/passwd"))
	if err != nil {
		return user{}, err
	}
	found, err := findUser(name, string(passwd), "")
	found.uid, found.gid, found.groups = os.Getuid(), os.Getgid(), nil
	return found, err
}

func (p *plain) uid(int) int { return 0 }

// wrap puts the in-guest programs first in PATH and sets the private directory.
func (p *plain) wrap(c *command) {
	path, home := defaultPath, p.path("/root")
	for _, pair := range c.env {
		if value, ok := strings.CutPrefix(pair, "PATH="); ok {
			path = value
		}
		if value, ok := strings.CutPrefix(pair, "HOME="); ok {
			home = p.path(value)
		}
	}
	c.env = lastOfEach(append(slices.Clone(c.env), "PATH="+p.tools+":"+p.shims+":"+path, "HOME="+home, "TMPDIR="+p.path("/tmp"),
		socketVariable+"="+p.socket()))
}

func (p *plain) adapters(_ []NIC, hardware func() ([]NIC, error)) error {
	p.read = hardware
	return nil
}

// withInterfaceNames leaves the adapters unchanged: programs see the host's
// interfaces.
func (p *plain) withInterfaceNames(nics []NIC) ([]NIC, error) { return nics, nil }

// setDriver lets a loaded driver read the MACs. The addresses are kept, because
// no program of the guest could set them again.
func (p *plain) setDriver(adapters []int, bound bool) error {
	if !bound || len(adapters) == 0 {
		return nil
	}
	nics, err := p.read()
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.state = p.state.withMACs(nics)
	changed := p.changed
	p.mu.Unlock()
	changed()
	return nil
}

func (p *plain) report() (State, error) {
	state, err := p.network()
	return state.report(), err
}

func (p *plain) network() (netState, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	state := p.state
	state.Links = slices.Clone(state.Links)
	return state, nil
}

func (p *plain) setNetwork(state netState) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = state
	return nil
}

func (p *plain) setHostname(name string) error {
	if err := os.WriteFile(p.path("/etc/hostname"), []byte(name+"\n"), 0o644); err != nil {
		return err
	}
	p.mu.Lock()
	p.state.Hostname = name
	changed := p.changed
	p.mu.Unlock()
	changed()
	return nil
}

func (p *plain) startNetwork(nics []NIC) error {
	name, err := os.ReadFile(p.path("/etc/hostname"))
	if err != nil {
		return err
	}
	state := netState{Hostname: strings.TrimSpace(string(name))}
	for i, nic := range nics {
		link := linkState{Name: nic.Name, Adapter: i + 1, MAC: nic.MAC, MTU: 1500, Up: true}
		if nic.Address != "" {
			link.Addresses = []addressState{{CIDR: nic.Address}}
		}
		state.Links = append(state.Links, link)
	}
	return p.setNetwork(state)
}

func (p *plain) watch(changed func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed = changed
	return nil
}

func (p *plain) socket() string { return fmt.Sprintf("@vmforksim-%d", os.Getpid()) }
