// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

// Snapshot is a machine at the fork point.
type Snapshot struct {
	Command string // the tools command that froze the machine
	Program Program
}

// Machine is a VM that is powered on.
type Machine struct{ spec Spec }

// Forkable says whether this machine may be frozen later. Only then what the
// fork of a program needs is kept from the program's start on.
func (m *Machine) Forkable(forkable bool) {}

// Start starts a program and returns its process ID. Errors: os.ErrNotExist
// for a program or directory that is not there, os.ErrPermission for one that
// cannot be executed.
func (m *Machine) Start(program Program) (int64, error) { return 0, errNotYet }

// Run runs a program as the guest itself would, waits for its end, and
// returns what it wrote to stdout and stderr.
func (m *Machine) Run(program Program) (Process, []byte, error) { return Process{}, nil, errNotYet }

// Processes returns the given processes, or all. Those that Start or Run
// began stay listed for five minutes after their end.
func (m *Machine) Processes(pids ...int64) []Process { return nil }

// Terminate ends a process with the rights of a user. Errors:
// os.ErrNotExist, os.ErrPermission.
func (m *Machine) Terminate(pid int64, user string) error { return errNotYet }

// Files are the machine's files with the rights of a user.
func (m *Machine) Files(user string) Files { return nil }

// State is what Tools reports now.
func (m *Machine) State() State { return State{Hostname: m.spec.Hostname} }

// SetTools installs or removes the programs of VMware Tools in the guest.
func (m *Machine) SetTools(installed bool) {}

// Stop powers the machine off at once. Its disk stays.
func (m *Machine) Stop() error { return nil }
