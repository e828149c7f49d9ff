// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func TestFaultToleranceRole(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	for role, want := range map[int32]types.VirtualMachineFaultToleranceState{1: "running", 2: "running", 0: "notConfigured"} {
		b.patch("vms/"+vm.Value, map[string]any{"fault_tolerance_role": role})
		read := b.read(vm, "config", "runtime")
		got := int32(0)
		if info := read.Config.FtInfo; info != nil {
			got = info.GetFaultToleranceConfigInfo().Role
		}
		if got != role || read.Runtime.FaultToleranceState != want {
			t.Errorf("role %d: %d %s", role, got, read.Runtime.FaultToleranceState)
		}
	}
}

func TestWhatAPowerOnThroughVCenterSees(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	before := b.read(vm, "config.keyId", "guest.customizationInfo", "runtime.dasVmProtection")
	if before.Guest != nil && before.Guest.CustomizationInfo != nil || before.Runtime.DasVmProtection != nil {
		t.Errorf("shown of an ordinary VM: %+v %+v", before.Guest, before.Runtime.DasVmProtection)
	}
	b.patch("vms/"+vm.Value, map[string]any{"ha_protected": false, "encrypted": true, "customization_pending": true})
	after := b.read(vm, "config.keyId", "guest.customizationInfo", "runtime.dasVmProtection")
	if state := after.Runtime.DasVmProtection; state == nil || state.DasProtected {
		t.Errorf("protection: %+v", state)
	}
	if after.Config.KeyId == nil || after.Guest.CustomizationInfo.CustomizationStatus != "TOOLSDEPLOYPKG_PENDING" {
		t.Errorf("key %+v, customization %+v", after.Config.KeyId, after.Guest.CustomizationInfo)
	}
}

// Only vCenter's settings and its hosts show which VM it is.
func TestOwnVM(t *testing.T) {
	for _, with := range []func(*Options){func(*Options) {}, withGuests} {
		b := start(t, with)
		vm := b.vm("DC0_H0_VM0")
		if b.sim.platform != nil {
			b.untilReady(vm)
		}
		settings := object.NewOptionManager(b.client.Client, *b.client.ServiceContent.Setting)
		setting := func(key string) string {
			t.Helper()
			options, err := settings.Query(b.ctx, key)
			if err != nil || len(options) != 1 {
				t.Fatalf("%v %v", options, err)
			}
			return options[0].GetOptionValue().Value.(string)
		}
		is := func() bool {
			t.Helper()
			read := b.read(vm, "guest", "runtime.host")
			var host mo.HostSystem
			if err := object.NewHostSystem(b.client.Client, *read.Runtime.Host).Properties(b.ctx, *read.Runtime.Host, []string{"summary"}, &host); err != nil {
				t.Fatal(err)
			}
			address := setting(ownAddress)
			if host.Summary.ManagementServerIp != address {
				t.Errorf("the host is managed from %q", host.Summary.ManagementServerIp)
			}
			return read.Guest.IpAddress == address && read.Guest.HostName == setting(ownFQDN)
		}
		if is() {
			t.Error("a VM like any other is vCenter's own")
		}
		b.patch("vms/"+vm.Value, map[string]any{"is_vcenter": true})
		if !is() {
			t.Errorf("%s %s", setting(ownFQDN), setting(ownAddress))
		}
	}
}

// A datastore changes while VMs on it are removed: this is for the race
// detector.
func TestDatastoreOfVMsThatGo(t *testing.T) {
	b := start(t)
	var made struct{ Moids []string }
	b.control(http.MethodPost, "inventory", map[string]any{"vms": 40, "name": "gone-%04d"}, &made)
	var removals sync.WaitGroup
	for moids := range slices.Chunk(made.Moids, 10) {
		client := b.rawLogin("user", "pass")
		removals.Go(func() {
			for _, moid := range moids {
				vm := types.ManagedObjectReference{Type: "VirtualMachine", Value: moid}
				if got := client.task("Destroy_Task", vm, ""); got.fault != "" {
					t.Errorf("%s: %+v", moid, got)
				}
			}
		})
	}
	gone := make(chan struct{})
	go func() {
		removals.Wait()
		close(gone)
	}()
	for {
		select {
		case <-gone:
			return
		default:
			b.patch("datastores/LocalDS_0", map[string]any{"accessible": true})
		}
	}
}

func TestStatesRefused(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	for _, test := range []struct {
		path    string
		request map[string]any
		want    int
	}{
		{"vms/vm-0", map[string]any{}, http.StatusNotFound},
		{"vms/" + vm.Value, map[string]any{"connection_state": "asleep"}, http.StatusBadRequest},
		{"vms/" + vm.Value, map[string]any{"fault_tolerance_role": 3}, http.StatusBadRequest},
		{"datastores/LocalDS_0", map[string]any{}, http.StatusBadRequest},
		{"datastores/nowhere", map[string]any{"accessible": true}, http.StatusNotFound},
	} {
		if status := b.control(http.MethodPatch, test.path, test.request, nil); status != test.want {
			t.Errorf("%s %v: %d, want %d", test.path, test.request, status, test.want)
		}
	}
}
