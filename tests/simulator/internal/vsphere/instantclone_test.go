// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func modern(o *Options) { o.APIVersion = "8.0.3.0" }

// startModern starts a simulator that has Instant Clone, with guests.
func startModern(t *testing.T) *bed { return start(t, modern, withGuests) }

const freezeCommand = "vmtoolsd --cmd instantclone.freeze"

// freezeInstant lets a program in the guest freeze it.
func (b *bed) freezeInstant(vm types.ManagedObjectReference, script string) {
	b.Helper()
	b.untilReady(vm)
	b.control(http.MethodPost, "guests/"+vm.Value+"/run", map[string]any{
		"program": "/bin/sh", "arguments": "-c " + shellQuote(script), "wait": false,
	}, nil)
	b.until(vm, "the freeze", func(vm mo.VirtualMachine) bool {
		return vm.Runtime.InstantCloneFrozen != nil && *vm.Runtime.InstantCloneFrozen
	}, "runtime")
}

// clone asks for an instant clone.
func (b *bed) clone(source types.ManagedObjectReference, spec types.VirtualMachineInstantCloneSpec) outcome {
	b.Helper()
	res, err := methods.InstantClone_Task(b.ctx, b.client.Client, &types.InstantClone_Task{This: source, Spec: spec})
	return b.outcomeOf(res, err)
}

func (b *bed) outcomeOf(res *types.InstantClone_TaskResponse, err error) outcome {
	b.Helper()
	if err != nil {
		if !soap.IsSoapFault(err) {
			b.Fatal(err)
		}
		fault := soap.ToSoapFault(err)
		return outcome{fault: strings.TrimPrefix(fmt.Sprintf("%T", fault.VimFault()), "types."), message: fault.String}
	}
	return b.ended(res.Returnval)
}

// cloned is a clone that must come to be.
func (b *bed) cloned(source types.ManagedObjectReference, name string, config ...types.BaseOptionValue) types.ManagedObjectReference {
	b.Helper()
	got := b.expect("clone "+name, b.clone(source, types.VirtualMachineInstantCloneSpec{Name: name, Config: config}), "")
	return got.result.(types.ManagedObjectReference)
}

func TestInstantCloneOfFrozenSource(t *testing.T) {
	b := startModern(t)
	source := b.vm("DC0_H0_VM0")
	if frozen := b.read(source, "runtime").Runtime.InstantCloneFrozen; frozen == nil || *frozen {
		t.Errorf("a VM that runs says instantCloneFrozen %v", frozen)
	}
	b.freezeInstant(source, `vmware-rpctool 'info-set guestinfo.before yes'
		`+freezeCommand+`
		vmware-rpctool "info-set guestinfo.seen $(vmware-rpctool 'info-get guestinfo.ic.hostname')"
		hostname $(vmware-rpctool 'info-get guestinfo.ic.hostname')`)
	if _, fault, _ := b.raw.guestCall("ListProcessesInGuest", source, "root", "guest-pw", ""); fault.kind() != "GuestOperationsUnavailable" {
		t.Errorf("guest operations in a frozen source: %q", fault.kind())
	}
	const bios = "564d0000-1111-2222-3333-444455556666"
	got := b.expect("clone", b.clone(source, types.VirtualMachineInstantCloneSpec{
		Name: "web-01", BiosUuid: bios,
		Config: []types.BaseOptionValue{
			&types.OptionValue{Key: "guestinfo.ic.hostname", Value: "web-01"}, &types.OptionValue{Key: "vmfork.child", Value: "record"},
		},
	}), "")
	if got.info.Name != "InstantClone_Task" || got.info.DescriptionId != "VirtualMachine.instantClone" || *got.info.Entity != source {
		t.Errorf("the task says %+v", got.info)
	}
	clone := got.result.(types.ManagedObjectReference)
	if clone != b.vm("web-01") {
		t.Errorf("the task's result is %v", clone)
	}
	before, after := b.read(source, "config", "runtime"), b.read(clone, "config", "runtime")
	if after.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn || *after.Runtime.Host != *before.Runtime.Host {
		t.Errorf("the clone is %s on %v", after.Runtime.PowerState, after.Runtime.Host)
	}
	if after.Config.Uuid != bios || after.Config.InstanceUuid == before.Config.InstanceUuid || after.Config.InstanceUuid == "" {
		t.Errorf("UUIDs: %s %s", after.Config.Uuid, after.Config.InstanceUuid)
	}
	mac := object.VirtualDeviceList(after.Config.Hardware.Device).PrimaryMacAddress()
	if mac == "" || mac == object.VirtualDeviceList(before.Config.Hardware.Device).PrimaryMacAddress() {
		t.Errorf("the clone's MAC is %q", mac)
	}
	if info := after.Config.ForkConfigInfo; info == nil || info.ChildType != "none" || info.ChildForkGroupId != "" || info.ParentEnabled != nil {
		t.Errorf("forkConfigInfo: %+v", info)
	}
	b.until(clone, "the script's end", func(vm mo.VirtualMachine) bool { return vm.Guest.HostName == "web-01" }, "guest")
	extra := b.extra(clone)
	if extra["guestinfo.seen"] != "web-01" || extra["guestinfo.before"] != "yes" || extra["vmfork.child"] != "record" || extra["guestinfo.ic.hostname"] != "web-01" {
		t.Errorf("extraConfig: %v", extra)
	}
	if _, ok := extra["guestinfo.fork.ethernet0.address"]; ok {
		t.Error("the clone has what only fork children get")
	}
	if frozen := b.read(clone, "runtime").Runtime.InstantCloneFrozen; frozen == nil || *frozen {
		t.Errorf("the clone says instantCloneFrozen %v", frozen)
	}
	if seen := b.extra(source)["guestinfo.seen"]; seen != "" {
		t.Errorf("the script went on in the source: %q", seen)
	}

	b.expect("off", b.power(source, false), "")
	if runtime := b.read(source, "runtime").Runtime; *runtime.InstantCloneFrozen {
		t.Error("a source that is off is still frozen")
	}
	if state := b.read(clone, "runtime").Runtime.PowerState; state != types.VirtualMachinePowerStatePoweredOn {
		t.Errorf("without its source the clone is %s", state)
	}
}
