// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"errors"
	"net/http"
	"os"
	"testing"

	"vmforksim/internal/guest"
	"vmforksim/internal/unprivileged"
)

func TestUnprivileged(t *testing.T) {
	unprivileged.Run(t, "TestOtherAccountUnprivileged", "TestPlainGuests", "TestGuestOperations")
}

func TestOtherAccountUnprivileged(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root can have every account; TestUnprivileged runs this")
	}
	options := defaults()
	options.Guest, options.GuestUsername = "ns", "ann"
	sim, err := Start(options)
	if err == nil {
		sim.Close()
	}
	if !errors.Is(err, guest.ErrOnlyRoot) {
		t.Error(err)
	}
}

func TestPlainGuests(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("refused for root; TestUnprivileged runs this")
	}
	b := start(t, func(o *Options) { o.Guest, o.GuestUsername = "plain", "ann" })
	parent := b.vm("DC0_H0_VM0")
	b.enable(parent)
	b.untilReady(parent)
	run := func(moid, command string) (output string) {
		var ended struct {
			Output string `json:"output"`
		}
		request := map[string]any{"program": "/bin/sh", "arguments": "-c '" + command + "'", "user": "ann"}
		if status := b.control(http.MethodPost, "guests/"+moid+"/run", request, &ended); status != http.StatusOK {
			t.Fatalf("%s: %d", command, status)
		}
		return ended.Output
	}
	run(parent.Value, "echo before >$HOME/file")
	b.freeze(parent)
	child := b.child(parent, "child", "")
	b.expect("power on", b.power(child, true), "")
	b.untilReady(child)
	if got := run(child.Value, "cat $HOME/file"); got != "before\n" {
		t.Errorf("the child has %q", got)
	}
}
