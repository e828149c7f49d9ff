// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The names under which this program runs.

package guest

import (
	"fmt"
	"os"
	"path/filepath"
)

// Names under which the program starts itself again.
const (
	supervisorName = "vmforksim-supervisor"
	initName       = "vmforksim-init"
)

// Main must be called first in the program's main function. If this process is
// not the simulator but the supervisor, a guest's init, or a program in a guest
// (vmtoolsd, systemctl, …), Main does its work, and the process ends in Main or
// right after Main returns true.
func Main() bool {
	name := filepath.Base(os.Args[0])
	switch name {
	case supervisorName:
		supervisorMain()
		return true
	case initName:
		initMain()
		return true
	}
	run := toolsPrograms[name]
	if run == nil {
		run = simulatedCommands[name]
	}
	if run == nil {
		// A host's link such as reboot -> systemctl leads here in a guest.
		if self, err := os.Executable(); err != nil || self != programInGuest {
			return false
		}
		run = func([]string) int {
			fmt.Fprintf(os.Stderr, "%s: not simulated in this guest\n", name)
			return 1
		}
	}
	os.Exit(run(append([]string{name}, os.Args[1:]...)))
	return true
}
