// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// checked contains the findings of CheckPowerOn_Task by host, and the fault of
// its task.
func (b *bed) checked(req types.CheckPowerOn_Task) (map[string][]string, string) {
	b.Helper()
	req.This = *b.client.ServiceContent.VmCompatibilityChecker
	res, err := methods.CheckPowerOn_Task(b.ctx, b.client.Client, &req)
	if err != nil {
		return nil, faultName(err)
	}
	got := b.ended(res.Returnval)
	if got.info.Entity == nil || *got.info.Entity != req.Vm {
		b.Errorf("the task is one of %v", got.info.Entity) // pyVmomi cannot read one of anything but an entity
	}
	if got.fault != "" {
		return nil, got.fault
	}
	found := map[string][]string{}
	for _, result := range got.result.(types.ArrayOfCheckResult).CheckResult {
		host := b.sim.hostObject(*result.Host).Name
		found[host] = []string{}
		for _, problem := range result.Error {
			found[host] = append(found[host], fmt.Sprintf("%T", problem.Fault)[len("*types."):])
		}
	}
	return found, ""
}

// The check finds the faults with which the power-on fails, and which a
// power-on at the host ignores.
func TestCheckPowerOn(t *testing.T) {
	b := start(t, func(o *Options) { o.APIVersion = "6.7" })
	vm := b.vm("DC0_C0_RP0_VM0")
	b.expect("off", b.power(vm, false), "")
	read := b.read(vm, "runtime.host", "resourcePool", "datastore")
	host := object.NewHostSystem(b.client.Client, *read.Runtime.Host)
	name := b.sim.hostObject(host.Reference()).Name
	state := func(state string) { b.patch("vms/"+vm.Value, map[string]any{"connection_state": state}) }
	store := func(accessible bool) { b.patch("datastores/LocalDS_0", map[string]any{"accessible": accessible}) }
	connect := func(task *object.Task, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		b.expect("connect", b.ended(task.Reference()), "")
	}
	for _, test := range []struct {
		do, undo func()
		want     string
	}{
		{func() {}, func() {}, "[]"},
		{func() { connect(host.Disconnect(b.ctx)) }, func() { connect(host.Reconnect(b.ctx, nil, nil)) }, "[HostNotConnected]"},
		{func() { store(false) }, func() { store(true) }, "[InaccessibleDatastore]"},
		{func() { state("orphaned") }, func() { state("connected") }, "[InvalidState]"},
		{func() { state("inaccessible"); store(false) }, func() { state("connected"); store(true) }, "[InvalidState InaccessibleDatastore]"},
	} {
		test.do()
		if got, fault := b.checked(types.CheckPowerOn_Task{Vm: vm, Host: read.Runtime.Host}); fmt.Sprint(got[name]) != test.want || len(got) != 1 {
			t.Errorf("%v %s, want %s", got, fault, test.want)
		}
		if test.want != "[]" {
			if got := b.power(vm, true); got.fault == "" || fmt.Sprintf("[%s", got.fault) != test.want[:len(got.fault)+1] {
				t.Errorf("power-on: %q, want the first of %s", got.fault, test.want)
			}
			b.powerOnBy(vm, map[string]any{"origin": "esxi"})
		}
		test.undo()
		if test.want != "[]" {
			b.expect("off", b.power(vm, false), "")
		}
	}
	b.control(http.MethodPost, "faults", map[string]any{"method": "CheckPowerOn_Task", "at": "result", "fault": "OvfConsumerPowerOnFault", "count": 1}, nil)
	for _, want := range []string{"[OvfConsumerPowerOnFault]", "[]"} {
		if got, fault := b.checked(types.CheckPowerOn_Task{Vm: vm, Host: read.Runtime.Host}); fmt.Sprint(got[name]) != want || fault != "" {
			t.Errorf("by request: %v %s, want %s", got, fault, want)
		}
	}
	if got, fault := b.checked(types.CheckPowerOn_Task{Vm: vm, Pool: read.ResourcePool}); fmt.Sprint(got) != "map[DC0_C0_H0:[] DC0_C0_H1:[]]" {
		t.Errorf("in the pool: %v %s", got, fault)
	}
	if _, fault := b.checked(types.CheckPowerOn_Task{Vm: vm}); fault != "InvalidArgument" {
		t.Errorf("nowhere: %q", fault)
	}
	elsewhere := b.read(b.vm("DC0_H0_VM0"), "runtime.host").Runtime.Host
	if _, fault := b.checked(types.CheckPowerOn_Task{Vm: vm, Pool: read.ResourcePool, Host: elsewhere}); fault != "InvalidArgument" {
		t.Errorf("on a host of another pool: %q", fault)
	}
}

// Before 6.7 the check does not exist.
func TestNoCheckPowerOn(t *testing.T) {
	b := start(t, func(o *Options) { o.APIVersion = "6.5" })
	vm := b.vm("DC0_H0_VM0")
	if _, fault := b.checked(types.CheckPowerOn_Task{Vm: vm, Host: b.read(vm, "runtime.host").Runtime.Host}); fault != "InvalidRequest" {
		t.Error(fault)
	}
}

// A disconnected host disconnects its VMs.
func TestDisconnectHost(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	host := object.NewHostSystem(b.client.Client, *b.read(vm, "runtime.host").Runtime.Host)
	state := func() string {
		var seen mo.HostSystem
		if err := host.Properties(b.ctx, host.Reference(), []string{"runtime.connectionState"}, &seen); err != nil {
			t.Fatal(err)
		}
		read := b.read(vm, "runtime", "summary.runtime")
		return fmt.Sprint(seen.Runtime.ConnectionState, " ", read.Runtime.ConnectionState, " ", read.Summary.Runtime.ConnectionState)
	}
	task, err := host.Disconnect(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	b.expect("disconnect", b.ended(task.Reference()), "")
	if got := state(); got != "disconnected disconnected disconnected" {
		t.Error(got)
	}
	if task, err = host.Reconnect(b.ctx, nil, nil); err != nil {
		t.Fatal(err)
	}
	b.expect("reconnect", b.ended(task.Reference()), "")
	if got := state(); got != "connected connected connected" {
		t.Error(got)
	}
}

func (b *bed) patch(path string, request map[string]any) {
	b.Helper()
	if status := b.control(http.MethodPatch, path, request, nil); status != http.StatusOK {
		b.Fatalf("%s %v: %d", path, request, status)
	}
}

// Clients create IP pools, with or without a range, for networks given by
// reference.
func TestIPPools(t *testing.T) {
	b := start(t)
	manager := *b.client.ServiceContent.IpPoolManager
	datacenter := b.sim.registry().Any("Datacenter").Reference()
	network := b.sim.registry().Any("DistributedVirtualPortgroup").Reference()
	query := func() []types.IpPool {
		res, err := methods.QueryIpPools(b.ctx, b.client.Client, &types.QueryIpPools{This: manager, Dc: datacenter})
		if err != nil {
			t.Fatal(err)
		}
		return res.Returnval
	}
	if pools := query(); len(pools) != 0 {
		t.Errorf("a new vCenter has %+v", pools)
	}
	pool := types.IpPool{
		Name: "lab", Ipv4Config: &types.IpPoolIpPoolConfigInfo{SubnetAddress: "192.0.2.0", Netmask: "255.255.255.0", Gateway: "192.0.2.1"},
		NetworkAssociation: []types.IpPoolAssociation{{Network: &network}},
	}
	res, err := methods.CreateIpPool(b.ctx, b.client.Client, &types.CreateIpPool{This: manager, Dc: datacenter, Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	name := b.sim.registry().Get(network).(mo.Entity).Entity().Name
	if pools := query(); len(pools) != 1 || pools[0].Ipv4Config.Range != "" || pools[0].NetworkAssociation[0].NetworkName != name {
		t.Errorf("%+v", pools)
	}
	if pools := query(); pools[0].Id != res.Returnval {
		t.Errorf("it is %d and shows %d", res.Returnval, pools[0].Id)
	}
	pool.Id, pool.Ipv4Config.Range = res.Returnval, "192.0.2.10#3"
	if _, err := methods.UpdateIpPool(b.ctx, b.client.Client, &types.UpdateIpPool{This: manager, Dc: datacenter, Pool: pool}); err != nil {
		t.Fatal(err)
	}
	if pools := query(); len(pools) != 1 || pools[0].Ipv4Config.Range != "192.0.2.10#3" {
		t.Errorf("%+v", pools)
	}
	if _, err := methods.DestroyIpPool(b.ctx, b.client.Client, &types.DestroyIpPool{This: manager, Dc: datacenter, Id: pool.Id}); err != nil || len(query()) != 0 {
		t.Errorf("%v", err)
	}
}
