// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
)

func TestClockOffset(t *testing.T) {
	const offset = -5 * time.Hour
	b := start(t, func(o *Options) { o.ClockOffset = offset })
	vm := b.vm("DC0_H0_VM0")
	near := func(what string, at time.Time) {
		t.Helper()
		if wrong := time.Since(at.Add(-offset)).Abs(); wrong > time.Hour {
			t.Errorf("%s is %s off", what, wrong)
		}
	}
	now, err := methods.GetCurrentTime(b.ctx, b.client.Client)
	if err != nil {
		t.Fatal(err)
	}
	near("the time", *now)
	near("the boot time", *b.read(vm, "runtime.bootTime").Runtime.BootTime)
	events := b.events(eventsOf(vm))
	if len(events) == 0 {
		t.Fatal("there is no event")
	}
	for _, event := range events {
		near("an event", event.GetEvent().CreatedTime)
	}
}
