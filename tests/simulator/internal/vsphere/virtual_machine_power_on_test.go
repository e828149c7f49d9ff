// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

// Each kind of power-on can be distinguished from the others.
func TestPowerOnOrigin(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	control := func(origin string) func() {
		return func() {
			if status := b.control(http.MethodPost, "guests/"+vm.Value+"/power-on", map[string]string{"origin": origin}, nil); status != http.StatusOK {
				t.Fatalf("%s: %d", origin, status)
			}
		}
	}
	for _, test := range []struct {
		how     string
		powerOn func()
		want    powerOrigin
	}{
		{"PowerOnVM_Task", func() { b.expect("on", b.power(vm, true), "") }, "vcenter"},
		{"PowerOnMultiVM_Task", func() { b.powerOnMulti(vm, "") }, "vcenter"},
		{"the host", control("esxi"), "esxi"},
		{"HA", control("ha"), "ha"},
		{"autostart", control("autostart"), "autostart"},
		{"vCenter over control", control("vcenter"), "vcenter"},
	} {
		b.expect("off", b.power(vm, false), "")
		if got := b.guestView(vm).PoweredOn; got != "" {
			t.Errorf("%s: before it is %q", test.how, got)
		}
		test.powerOn()
		if got := b.guestView(vm).PoweredOn; got != test.want {
			t.Errorf("%s: %q, want %q", test.how, got, test.want)
		}
	}
	for origin, want := range map[string]int{"moon": http.StatusBadRequest, "esxi": http.StatusBadRequest} { // it runs already
		if status := b.control(http.MethodPost, "guests/"+vm.Value+"/power-on", map[string]string{"origin": origin}, nil); status != want {
			t.Errorf("%s: %d", origin, status)
		}
	}
	if got := b.guestView(vm).PoweredOn; got != "vcenter" {
		t.Errorf("after power-ons that failed: %q", got)
	}
}

func (b *bed) guestView(vm types.ManagedObjectReference) (view guestView) {
	b.Helper()
	b.control(http.MethodGet, "guests/"+vm.Value, nil, &view)
	return view
}

// powerOnMulti powers a VM on as vCenter's user interface does; the task of the
// VM itself ends with the fault.
func (b *bed) powerOnMulti(vm types.ManagedObjectReference, fault string) {
	b.Helper()
	task, refused, err := b.raw.call("PowerOnMultiVM_Task", "Datacenter", b.sim.registry().Any("Datacenter").Reference().Value,
		fmt.Sprintf(`<vm type="VirtualMachine">%s</vm>`, vm.Value))
	if err != nil || refused != nil {
		b.Fatalf("PowerOnMultiVM_Task: %v %+v", err, refused)
	}
	got := b.expect("PowerOnMultiVM_Task", b.ended(types.ManagedObjectReference{Type: "Task", Value: task}), "")
	attempted := got.result.(types.ClusterPowerOnVmResult).Attempted
	if len(attempted) != 1 || attempted[0].Vm != vm {
		b.Fatalf("%+v", got.result)
	}
	b.expect("the VM's own task", b.ended(*attempted[0].Task), fault)
}
