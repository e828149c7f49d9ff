// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Command vmforksim-guest is the program that the simulator runs for and in its
// guests. vmforksim can do the same, but would load the whole vSphere API
// first, and a guest starts such programs all the time.
package main

import (
	"fmt"
	"os"

	"vmforksim/internal/guest"
)

func main() {
	if !guest.Main() {
		fmt.Fprintln(os.Stderr, "vmforksim-guest: the simulator starts this program; vmforksim is the one to call")
		os.Exit(2)
	}
}
