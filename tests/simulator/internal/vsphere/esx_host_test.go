// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func withESX(o *Options) { o.ESXListen = "127.0.0.1:0" }

// esx is a client of the host.
func (b *bed) esx(name string) *govmomi.Client {
	b.Helper()
	address, _ := url.Parse(b.sim.ESXURL())
	address.User = url.UserPassword(name, "pass")
	client, err := govmomi.NewClient(b.ctx, address, true)
	if err != nil {
		b.Fatal(err)
	}
	return client
}

// replicas are the VMs of the host, by name.
func (b *bed) replicas(client *govmomi.Client) map[string]mo.VirtualMachine {
	b.Helper()
	all, err := view.NewManager(client.Client).CreateContainerView(b.ctx, client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = all.Destroy(b.ctx) }()
	var vms []mo.VirtualMachine
	if err := all.Retrieve(b.ctx, []string{"VirtualMachine"}, nil, &vms); err != nil {
		b.Fatal(err)
	}
	found := map[string]mo.VirtualMachine{}
	for _, vm := range vms {
		found[vm.Name] = vm
	}
	return found
}

// The host has a replica of each of its VMs, and no other VM.
func TestReplicas(t *testing.T) {
	b := start(t, withESX, func(o *Options) { o.VMs = 2 })
	host := b.esx("root")
	names := func() string {
		var found []string
		for name := range b.replicas(host) {
			found = append(found, name)
		}
		slices.Sort(found)
		return fmt.Sprint(found)
	}
	if got := names(); got != "[DC0_H0_VM0 DC0_H0_VM1]" {
		t.Error(got)
	}
	vm := b.read(b.vm("DC0_H0_VM0"))
	replica := b.replicas(host)["DC0_H0_VM0"]
	if replica.Self == vm.Self || replica.Config.Uuid != vm.Config.Uuid || replica.Config.InstanceUuid != vm.Config.InstanceUuid || replica.Config.VAppConfig != nil ||
		len(replica.Config.Hardware.Device) != len(vm.Config.Hardware.Device) || replica.Runtime.PowerState != "poweredOn" || !replica.Runtime.BootTime.Equal(*vm.Runtime.BootTime) ||
		replica.Summary.Runtime.PowerState != "poweredOn" {
		t.Errorf("%+v", replica)
	}
	if found, err := object.NewSearchIndex(host.Client).FindByUuid(b.ctx, nil, vm.Config.Uuid, true, nil); err != nil || found == nil || found.Reference() != replica.Self {
		t.Errorf("%v %v", found, err)
	}

	if _, err := b.sim.addBulk(3, "later-%d", "/DC0/vm", false); err != nil { // one for each host
		t.Fatal(err)
	}
	b.expect("rename", b.raw.task("Rename_Task", vm.Self, "<newName>renamed</newName>"), "")
	b.expect("off", b.power(b.vm("DC0_H0_VM1"), false), "")
	b.expect("destroy", b.raw.task("Destroy_Task", b.vm("DC0_H0_VM1"), ""), "")
	later := ""
	for _, name := range []string{"later-0", "later-1", "later-2"} {
		if *b.read(b.vm(name), "runtime.host").Runtime.Host == b.sim.esx.host {
			later = name
		}
	}
	if got, want := names(), fmt.Sprintf("[%s renamed]", later); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	there := b.vm(later)
	object := b.sim.vmObject(there)
	ctx := b.sim.background()
	ctx.WithLock(object, func() { moveTo(ctx, object, b.sim.hostNamed("DC0_C0_H0")) })
	if got := names(); got != "[renamed]" {
		t.Errorf("after one was moved away: %s", got)
	}
}

// Operations at the host change the VM without vCenter; operations in vCenter
// are visible at the host.
func TestReplicaPower(t *testing.T) {
	b := start(t, withESX)
	host := b.esx("root")
	vm := b.vm("DC0_H0_VM0")
	replica := object.NewVirtualMachine(host.Client, b.replicas(host)["DC0_H0_VM0"].Self)
	same := func(want types.VirtualMachinePowerState) {
		t.Helper()
		var here mo.VirtualMachine
		if err := property.DefaultCollector(host.Client).RetrieveOne(b.ctx, replica.Reference(), []string{"runtime", "summary.runtime"}, &here); err != nil {
			t.Fatal(err)
		}
		there := b.read(vm, "runtime")
		if here.Runtime.PowerState != want || there.Runtime.PowerState != want || here.Summary.Runtime.PowerState != want {
			t.Errorf("%s at the host, %s in vCenter, want %s", here.Runtime.PowerState, there.Runtime.PowerState, want)
		}
		if one, other := here.Runtime.BootTime, there.Runtime.BootTime; (one == nil) != (other == nil) || one != nil && !one.Equal(*other) {
			t.Errorf("booted %v at the host, %v in vCenter", one, other)
		}
	}
	b.control("POST", "faults", map[string]any{"method": "PowerOnVM_Task", "at": "task", "fault": "InvalidState", "count": 0}, nil)
	for _, step := range []struct {
		do    func() (*object.Task, error)
		state types.VirtualMachinePowerState
		want  string
	}{
		{func() (*object.Task, error) { return replica.Suspend(b.ctx) }, "suspended", "[[VmSuspendingEvent by root VmSuspendedEvent by root]]"},
		{func() (*object.Task, error) { return replica.PowerOn(b.ctx) }, "poweredOn", "[[VmResumingEvent by root VmPoweredOnEvent by root]]"},
		{func() (*object.Task, error) { return replica.Reset(b.ctx) }, "poweredOn", "[[VmResettingEvent by root]]"},
		{func() (*object.Task, error) { return replica.PowerOff(b.ctx) }, "poweredOff", "[[VmStoppingEvent by root VmPoweredOffEvent by root]]"},
		{func() (*object.Task, error) { return replica.PowerOn(b.ctx) }, "poweredOn", "[[VmStartingEvent by root VmPoweredOnEvent by root]]"},
	} {
		b.forget()
		task, err := step.do()
		if err != nil {
			t.Fatal(err)
		}
		if err := task.Wait(b.ctx); err != nil {
			t.Fatalf("%s: %v", step.state, err)
		}
		same(step.state)
		if got := fmt.Sprint(chains(b.events(eventsOf(vm)))); got != step.want {
			t.Errorf("%s, want %s", got, step.want)
		}
	}
	if got := b.guestView(vm).PoweredOn; got != fromESXi {
		t.Errorf("powered on from %q", got)
	}
	b.control("DELETE", "faults", nil, nil)
	b.expect("off", b.power(vm, false), "")
	same("poweredOff")

	task, err := replica.PowerOff(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := task.WaitForResult(b.ctx); err == nil || faultOfTask(info) != "InvalidPowerState" {
		t.Errorf("off while off: %v %v", info, err)
	}
	if task, err := replica.Reconfigure(b.ctx, types.VirtualMachineConfigSpec{Annotation: "x"}); err == nil {
		t.Errorf("reconfigured at the host: %v", task)
	}
	if _, err := methods.CreateVM_Task(b.ctx, host.Client, &types.CreateVM_Task{This: types.ManagedObjectReference{Type: "Folder", Value: "ha-folder-vm"}}); faultName(err) != "NotSupported" {
		t.Error(err)
	}
}

func faultOfTask(info *types.TaskInfo) string {
	if info == nil || info.Error == nil {
		return ""
	}
	return fmt.Sprintf("%T", info.Error.Fault)[len("*types."):]
}

// A replica shows the report of the guest's Tools, notifies waiting clients,
// and accepts guest operations.
func TestReplicaGuest(t *testing.T) {
	b := start(t, withESX, withGuests)
	host := b.esx("user")
	vm := b.vm("DC0_H0_VM0")
	replica := object.NewVirtualMachine(host.Client, b.replicas(host)["DC0_H0_VM0"].Self)
	until := func(what string, wanted func(mo.VirtualMachine) bool) {
		t.Helper()
		deadline := time.Now().Add(patience)
		err := property.Wait(b.ctx, property.DefaultCollector(host.Client), replica.Reference(), []string{"runtime.powerState", "guest"}, func([]types.PropertyChange) bool {
			var seen mo.VirtualMachine
			_ = replica.Properties(b.ctx, replica.Reference(), []string{"runtime.powerState", "guest"}, &seen)
			return wanted(seen) || time.Now().After(deadline)
		})
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	until("the address", func(seen mo.VirtualMachine) bool {
		return seen.Guest.IpAddress != "" && seen.Guest.HostName == "dc0-h0-vm0"
	})
	b.untilReady(vm)
	b.forget()
	if err := replica.RebootGuest(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.untilReady(vm)
	if err := replica.ShutdownGuest(b.ctx); err != nil {
		t.Fatal(err)
	}
	until("the power-off", func(seen mo.VirtualMachine) bool { return seen.Runtime.PowerState == "poweredOff" })
	b.eventually("the events", func() bool {
		return fmt.Sprint(chains(b.events(eventsOf(vm)))) == "[[VmGuestRebootEvent by user] [VmGuestShutdownEvent by user VmPoweredOffEvent by user]]"
	})
}

// The host does not support forks.
func TestNoForkAtTheHost(t *testing.T) {
	b := start(t, withESX)
	host := b.rawLoginAt(b.sim.ESXURL(), "ha-sessionmgr", "root", "pass")
	for method := range hiddenMethods {
		if _, fault, err := host.call(method, "VirtualMachine", "1", ""); err != nil || fault.kind() != "InvalidRequest" {
			t.Errorf("%s: %v %v", method, fault.kind(), err)
		}
	}
}

// Only vCenter supports guest operations here; the host reports that.
func TestNoGuestOperationsAtTheHost(t *testing.T) {
	b := start(t, withESX)
	host := b.rawLoginAt(b.sim.ESXURL(), "ha-sessionmgr", "root", "pass")
	body := `<vm type="VirtualMachine">1</vm><auth type="NamePasswordAuthentication"><interactiveSession>false</interactiveSession></auth>`
	if _, fault, err := host.call("ListProcessesInGuest", "GuestProcessManager", "ha-guest-operations-process-manager", body); err != nil || fault.kind() != "NotSupported" {
		t.Errorf("%v %v", fault.kind(), err)
	}
}

// A client can detect that it is connected to a host directly.
func TestESXEndpoint(t *testing.T) {
	b := start(t, withESX, func(o *Options) { o.APIVersion = "7.0.2.0" })
	address, _ := url.Parse(b.sim.ESXURL())
	for password, right := range map[string]bool{"pass": true, "wrong": false} {
		address.User = url.UserPassword("user", password)
		client, err := govmomi.NewClient(b.ctx, address, true)
		if (err == nil) != right {
			t.Errorf("login with %q: %v", password, err)
		}
		if err != nil {
			continue
		}
		if about := client.ServiceContent.About; about.ApiType != "HostAgent" || about.ApiVersion != "7.0.2.0" || about.FullName != "VMware ESXi 7.0.2 (simulated)" {
			t.Errorf("%+v", about)
		}
		if vm, err := object.NewSearchIndex(client.Client).FindByInventoryPath(b.ctx, "/ha-datacenter/vm/DC0_H0_VM0"); err != nil || vm == nil {
			t.Errorf("%v %v", vm, err)
		}
	}
	if about := b.client.ServiceContent.About; about.ApiType != "VirtualCenter" {
		t.Errorf("vCenter: %+v", about)
	}
	certificate := func(address string) string {
		u, _ := url.Parse(address)
		conn, err := tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return string(conn.ConnectionState().PeerCertificates[0].Raw)
	}
	if certificate(b.sim.ESXURL()) == certificate(b.sim.URL()) {
		t.Error("host and vCenter have the same certificate")
	}
}
