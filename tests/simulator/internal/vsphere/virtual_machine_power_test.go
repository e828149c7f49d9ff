// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// bootTime is the time of the power-on, whatever happens until the power-off.
func TestBootTime(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	boot := func() *time.Time {
		read := b.read(vm, "runtime.bootTime", "summary.runtime.bootTime")
		if one, other := read.Runtime.BootTime, read.Summary.Runtime.BootTime; (one == nil) != (other == nil) || one != nil && !one.Equal(*other) {
			t.Errorf("runtime says %v, summary %v", one, other)
		}
		return read.Runtime.BootTime
	}
	first := boot()
	if first == nil {
		t.Fatal("no boot time")
	}
	for _, method := range []string{"SuspendVM_Task", "PowerOnVM_Task", "ResetVM_Task"} {
		b.expect(method, b.raw.task(method, vm, ""), "")
		if now := boot(); now == nil || !now.Equal(*first) {
			t.Errorf("after %s: %v, was %v", method, now, first)
		}
	}
	b.expect("off", b.power(vm, false), "")
	if now := boot(); now != nil {
		t.Errorf("powered off: %v", now)
	}
	b.expect("reset while off", b.raw.task("ResetVM_Task", vm, ""), "InvalidPowerState")
	b.expect("on", b.power(vm, true), "")
	if now := boot(); now == nil || !now.After(*first) {
		t.Errorf("powered on again: %v, was %v", now, first)
	}
}

// A reset and a reboot restart the guest, but the VM stays powered on.
func TestRestart(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	b.untilReady(vm)
	before := b.read(vm, "runtime.bootTime").Runtime.BootTime
	for _, restart := range []func(){
		func() { b.expect("reset", b.raw.task("ResetVM_Task", vm, ""), "") },
		func() {
			if _, fault, err := b.raw.call("RebootGuest", vm.Type, vm.Value, ""); fault != nil || err != nil {
				t.Fatalf("%v %v", fault.kind(), err)
			}
		},
	} {
		b.runIn(vm, "touch /run/was-here; touch /root/stays")
		restart()
		b.untilReady(vm)
		if left := b.runIn(vm, "ls /run/was-here /root/stays 2>/dev/null"); left != "/root/stays\n" {
			t.Errorf("in the guest: %q", left)
		}
		read := b.read(vm, "runtime")
		if read.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn || !read.Runtime.BootTime.Equal(*before) {
			t.Errorf("%+v", read.Runtime)
		}
	}
}

// Guest operations that use VMware Tools need running Tools.
func TestGuestPowerNeedsTools(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	for _, method := range []string{"ShutdownGuest", "RebootGuest"} {
		if _, fault, err := b.raw.call(method, vm.Type, vm.Value, ""); err != nil || fault.kind() != "ToolsUnavailable" {
			t.Errorf("%s: %v %v", method, fault.kind(), err)
		}
	}
}
