// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package guest is the inside of a simulated VM: a small Linux machine with
// its own processes, host name, network interfaces and files, in which
// scripts written for real guests run unchanged.
//
// The package knows nothing of vSphere. What VMware Tools would tell the
// hypervisor arrives at a Backdoor; what the hypervisor does to the VM are
// the methods of Platform and Machine.
//
// A forked child has, of the parent's processes, only the program that froze
// the parent and what that program began; daemons and other programs of the
// parent are not run again. A child of a parent that runs, and is not frozen,
// has the parent's files, host name and network, and no program at all. fork.go
// says how it comes about.
package guest

import (
	"io"
	"os"
	"time"
)

// Kind says how a machine is kept apart from the host.
type Kind string

const (
	// Namespaces gives every machine its own Linux namespaces.
	Namespaces Kind = "ns"
	// Plain runs guest programs on the host as they are, in a private
	// directory per machine: no isolation, refused as root.
	Plain Kind = "plain"
)

// Options hold for all machines of one simulator.
type Options struct {
	Kind      Kind
	Directory string    // private to the simulator; holds every machine's disk
	Accounts  []Account // who can log in to every machine; root is always one
	Log       io.Writer // where troubles of a guest are reported

	noOverlay bool // for tests: as on a kernel that refuses overlays
}

// Account is a guest user.
type Account struct {
	Name string
	Sudo bool // may use sudo without a password
}

// NIC is a network adapter as the VM's hardware has it.
type NIC struct {
	Name      string // that the guest gives its interface when the driver finds it: eth0, ens192, …
	Driver    string // the kernel module that drives it; "" is vmxnet3
	MAC       string // lower case, colons
	Address   string // that the network gives it at Boot, as DHCP would: "192.0.2.7/24"; "" is none
	Unplugged bool   // the adapter is not connected: the interface has no carrier
}

// Spec is what a machine starts with.
type Spec struct {
	ID       string // unique among the machines of a platform
	Hostname string // of a disk that is new; an existing disk keeps its own
	NICs     []NIC
	FreshMAC bool // after a fork the drivers know the MACs of NICs at once, not only when they are loaded again
}

// State is what VMware Tools reports of the guest.
type State struct {
	Hostname   string
	Interfaces []Interface
}

// Interface is one of the guest's network interfaces, without lo.
type Interface struct {
	Name      string
	Adapter   int // its position in Spec.NICs, from 1; 0 is an interface that is no adapter's
	MAC       string
	Up        bool     // as the guest set it
	Connected bool     // the adapter is
	Addresses []string // "192.0.2.7/24", "fe80::1/64"
}

// Call is one command given to vmtoolsd --cmd or vmware-rpctool.
type Call struct {
	Command string // for example "info-get guestinfo.ovfEnv"
	UID     int    // of the caller, as the guest sees it
	Program int64  // pid of the top-level program (see Program) it came from
	Replay  bool   // the call comes from a program that is run again in a child
}

// Answer to a Call.
type Answer struct {
	Text   string // printed by the tool: to stdout if OK, else to stderr
	OK     bool   // exit status 0, else 1
	Freeze bool   // stop the machine; the call does not return in it
}

// Backdoor is the hypervisor as a machine's tools see it. Its methods are
// called from several goroutines.
type Backdoor interface {
	// Call answers a tools command.
	Call(Call) Answer
	// Frozen follows an Answer with Freeze: nothing runs in the machine any
	// more, and the snapshot holds what every child begins with.
	Frozen(*Snapshot)
	// Changed reports a new host name or network state, or the old one when
	// somebody asked for a report.
	Changed(state State, asked bool)
	// Ended reports that a program (top-level process) ended.
	Ended(Process)
	// Recorded reports that a simulated command (systemctl, hwclock, …) was called.
	Recorded(command []string)
	// Rebooted follows a guest that wants to start again.
	Rebooted()
	// PoweredOff follows a guest that wants to be powered off.
	PoweredOff()
	// ReplayFailed reports that the program that froze the parent ended in a
	// child before it came to the fork point.
	ReplayFailed(error)
}

// Program is what StartProgramInGuest asks for.
type Program struct {
	Path      string
	Arguments string   // handed to a shell after Path, as Tools does on Linux
	Directory string   // "" is the user's home
	Env       []string // nil is the user's default environment
	User      string
}

// Process is a top-level process of a machine: running, or ended.
type Process struct {
	PID         int64
	Name        string
	CommandLine string
	Owner       string
	Started     time.Time
	Ended       time.Time // zero while it runs
	ExitCode    int
}

// Files are a guest's files as one of its users sees them. Errors are those
// of package os (os.ErrNotExist, os.ErrPermission, os.ErrExist, …).
type Files interface {
	MakeTemporary(directory, prefix, suffix string, isDirectory bool) (path string, err error)
	MakeDirectory(path string, parents bool) error
	Remove(path string) error
	RemoveAll(path string) error
	Move(from, to string, overwrite bool) error
	List(path string) ([]FileInfo, error)
	Stat(path string) (FileInfo, error)
	Chmod(path string, mode os.FileMode) error
	Chown(path string, uid, gid int) error
	Read(path string) (io.ReadCloser, int64, error)
	Write(path string, size int64, mode os.FileMode, overwrite bool, content io.Reader) error
}

// FileInfo describes one file.
type FileInfo struct {
	Path     string
	Size     int64
	Mode     os.FileMode
	UID, GID int
	Modified time.Time
	Accessed time.Time
	Target   string // of a symbolic link
}
