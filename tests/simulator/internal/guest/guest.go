// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package guest is the inside of a simulated VM: a small Linux machine with its
// own processes, host name, network interfaces and files, which runs scripts
// written for real guests unchanged.
//
// The package does not depend on vSphere. What VMware Tools would send to the
// hypervisor arrives at a Backdoor; what the hypervisor does to the VM are the
// methods of Platform and Machine.
//
// Of the parent's processes, a forked child has only the program that froze the
// parent and the processes which that program started; daemons and other
// programs of the parent are not run again. A child of a running parent has the
// parent's files, host name and network, and no program at all. fork.go
// explains the implementation.
package guest

import (
	"io"
	"os"
	"time"
)

// Kind is how a machine is isolated from the host.
type Kind string

const (
	// Namespaces gives every machine its own Linux namespaces.
	Namespaces Kind = "ns"
	// Plain runs guest programs directly on the host, in a private directory
	// for each machine: without isolation, and not as root.
	Plain Kind = "plain"
)

// Options apply to all machines of a simulator.
type Options struct {
	Kind      Kind
	Directory string    // private to the simulator; holds every machine's disk
	Accounts  []Account // accounts of every machine; root always exists
	Log       io.Writer // receives reports of failures in guests

	noOverlay bool // for tests: behave as on a kernel that refuses overlays
}

// Account is a guest user.
type Account struct {
	Name string
	Sudo bool // may use sudo without a password
}

// NIC is a network adapter of the VM's hardware.
type NIC struct {
	Name      string // the guest's name for the interface when the driver finds it: eth0, ens192, …
	Driver    string // the kernel module that drives it; "" is vmxnet3
	MAC       string // lower case, colons
	Address   string // given by the network at Boot, as by DHCP: "192.0.2.7/24"; "" means none
	Unplugged bool   // the adapter is not connected: the interface has no carrier
}

// Spec describes a new machine.
type Spec struct {
	ID       string // unique among the machines of a platform
	Hostname string // for a new disk; an existing disk keeps its own
	NICs     []NIC
	FreshMAC bool // after a fork the drivers know the MACs of NICs at once, not only when they are loaded again
}

// State is what VMware Tools report about the guest.
type State struct {
	Hostname   string
	Interfaces []Interface
}

// Interface is one of the guest's network interfaces, without lo.
type Interface struct {
	Name      string
	Adapter   int // its position in Spec.NICs, from 1; 0 means no adapter
	MAC       string
	Up        bool     // as the guest set it
	Connected bool     // whether the adapter is connected
	Addresses []string // "192.0.2.7/24", "fe80::1/64"
}

// Call is one command given to vmtoolsd --cmd or vmware-rpctool.
type Call struct {
	Command string // for example "info-get guestinfo.ovfEnv"
	UID     int    // of the caller, as the guest sees it
	Program int64  // pid of the top-level program (see Program) it came from
	Replay  bool   // the call comes from a program that is run again in a child
}

// Answer is the answer to a Call.
type Answer struct {
	Text   string // printed by the tool to stdout if OK, or else to stderr
	OK     bool   // exit status 0, else 1
	Freeze bool   // stop the machine; the call does not return in it
}

// Backdoor is the hypervisor as seen by a machine's tools. Its methods are
// called from several goroutines.
type Backdoor interface {
	// Call answers a tools command.
	Call(Call) Answer
	// Frozen follows an Answer with Freeze: nothing runs in the machine any
	// longer, and the snapshot contains the state that every child starts with.
	Frozen(*Snapshot)
	// Changed reports a new state of host name or network, or the old one if a
	// report was requested.
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
	// child before it reached the fork point.
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

// Files are a guest's files as seen by one of its users. Errors are those of
// package os (os.ErrNotExist, os.ErrPermission, os.ErrExist, …).
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
