// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func modern(o *Options) { o.APIVersion = "8.0.3.0" }

// startModern starts a simulator that supports Instant Clone, with guests.
func startModern(t *testing.T) *bed { return start(t, modern, withGuests) }

const freezeCommand = "vmtoolsd --cmd instantclone.freeze"

// freezeInstant has a program in the guest freeze it.
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

// clone requests an instant clone.
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

// cloned creates a clone; this must succeed.
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
	if _, fault, _ := b.raw.guestCall("ListProcessesInGuest", source, "root", "guest-pw", ""); fault.kind() != "SystemError" {
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

func TestInstantCloneOfRunningSource(t *testing.T) {
	b := startModern(t)
	source := b.vm("DC0_H0_VM0")
	b.untilReady(source)
	b.run(source, `echo here >/root/file; hostname golden; vmware-rpctool 'info-set guestinfo.a b'; sleep 1000 &`)
	clone := b.cloned(source, "c1", &types.OptionValue{Key: "guestinfo.ic.x", Value: "y"})
	b.untilReady(clone)
	output := b.run(clone, `cat /root/file; hostname; vmware-rpctool 'info-get guestinfo.a'; vmware-rpctool 'info-get guestinfo.ic.x'; cat /proc/[0-9]*/comm | grep -qx sleep || echo gone`)
	if output != "here\ngolden\nb\ny\ngone\n" {
		t.Errorf("in the clone: %q", output)
	}
	b.run(clone, "echo changed >/root/file")
	if output := b.run(source, `cat /root/file; cat /proc/[0-9]*/comm | grep -qx sleep && echo runs`); output != "here\nruns\n" {
		t.Errorf("in the source: %q", output)
	}

	// It has its own adapter, with its source's address.
	address := b.read(source, "guest").Guest.IpAddress
	b.run(clone, "modprobe -r vmxnet3; modprobe vmxnet3; ip link set eth0 up; ip addr add "+address+"/8 dev eth0")
	before, after := b.read(source, "guest", "config"), b.until(clone, "a report", func(vm mo.VirtualMachine) bool {
		return vm.Guest.IpAddress != "" && len(vm.Guest.Net) == 1 && vm.Guest.Net[0].MacAddress == object.VirtualDeviceList(vm.Config.Hardware.Device).PrimaryMacAddress()
	}, "guest", "config")
	if after.Guest.IpAddress != before.Guest.IpAddress || after.Guest.HostName != "golden" || after.Guest.Net[0].MacAddress == before.Guest.Net[0].MacAddress {
		t.Errorf("the clone reports %s %s %s", after.Guest.HostName, after.Guest.IpAddress, after.Guest.Net[0].MacAddress)
	}

	// A clone is independent: data on its disk is kept, and it can be cloned.
	b.expect("off", b.power(clone, false), "")
	b.expect("on", b.power(clone, true), "")
	b.untilReady(clone)
	b.expect("the source off", b.power(source, false), "")
	again := b.cloned(clone, "c2")
	b.untilReady(again)
	if output := b.run(again, "cat /root/file"); output != "changed\n" {
		t.Errorf("in the clone's clone: %q", output)
	}
}

// run runs a script as the guest itself, and returns its output.
func (b *bed) run(vm types.ManagedObjectReference, script string) string {
	b.Helper()
	var ended struct{ Output string }
	b.control(http.MethodPost, "guests/"+vm.Value+"/run", map[string]any{"program": "/bin/sh", "arguments": "-c " + shellQuote(script)}, &ended)
	return ended.Output
}

// TestCloneOfAClone clones a frozen VM, and then its clone when that is frozen
// too.
func TestCloneOfAClone(t *testing.T) {
	b := startModern(t)
	source := b.vm("DC0_H0_VM0")
	b.freezeInstant(source, freezeCommand+"; hostname second")
	child := b.cloned(source, "child")
	b.until(child, "the script's end", func(vm mo.VirtualMachine) bool { return vm.Guest.HostName == "second" }, "guest")
	b.freezeInstant(child, freezeCommand+"; hostname third")
	grandchild := b.cloned(child, "grandchild")
	b.until(grandchild, "the script's end", func(vm mo.VirtualMachine) bool { return vm.Guest.HostName == "third" }, "guest")
	if chain := b.chain(grandchild); len(chain) != 3 {
		t.Errorf("the disk of the clone's clone: %v", chain)
	}
}

// A program that has already passed a freeze cannot be run again: a clone of
// its next freeze has its files, but not the program.
func TestProgramThatFreezesTwice(t *testing.T) {
	b := startModern(t)
	source := b.vm("DC0_H0_VM0")
	b.freezeInstant(source, freezeCommand+"; echo one >/root/count; "+freezeCommand+"; echo two >/root/count")
	child := b.cloned(source, "child")
	b.until(child, "the second freeze", func(vm mo.VirtualMachine) bool { return *vm.Runtime.InstantCloneFrozen }, "runtime")
	grandchild := b.cloned(child, "grandchild")
	b.untilReady(grandchild)
	if output := b.run(grandchild, "cat /root/count"); output != "one\n" {
		t.Errorf("in the grandchild: %q", output)
	}
	if failure := b.guest(grandchild).Failure; !strings.Contains(failure, "cannot be run again") {
		t.Errorf("%q", failure)
	}
}

func (b *bed) guest(vm types.ManagedObjectReference) guestView {
	b.Helper()
	var view guestView
	b.control(http.MethodGet, "guests/"+vm.Value, nil, &view)
	return view
}

// chain returns the names of the files of a VM's disk.
func (b *bed) chain(ref types.ManagedObjectReference) []string {
	b.Helper()
	vm := b.read(ref, "layoutEx")
	names := map[int32]string{}
	for _, file := range vm.LayoutEx.File {
		names[file.Key] = file.Name
	}
	var chain []string
	for _, unit := range vm.LayoutEx.Disk[0].Chain {
		chain = append(chain, names[unit.FileKey[0]])
	}
	return chain
}

func TestDeltaDisks(t *testing.T) {
	b := startModern(t)
	source := b.vm("DC0_H0_VM0")
	b.untilReady(source)
	b.control(http.MethodPatch, "vms/"+source.Value, map[string]any{"chain_limit": 3}, nil)
	if chain := b.chain(source); len(chain) != 1 {
		t.Fatalf("before: %v", chain)
	}
	first := b.cloned(source, "c1")
	b.cloned(source, "c2")
	chain := b.chain(source)
	if len(chain) != 3 || !strings.HasSuffix(chain[1], "/DC0_H0_VM0-000001.vmdk") || !strings.HasSuffix(chain[2], "/DC0_H0_VM0-000002.vmdk") || chain[0] == "" {
		t.Errorf("after two clones: %v", chain)
	}
	if chain := b.chain(first); len(chain) != 2 {
		t.Errorf("the first clone's: %v", chain)
	}
	b.expect("reconfigure", b.raw.task("ReconfigVM_Task", source, "<spec><annotation>x</annotation></spec>"), "")
	if chain := b.chain(source); len(chain) != 3 {
		t.Errorf("after a reconfigure: %v", chain)
	}
	if _, fault, err := b.raw.call("RefreshStorageInfo", source.Type, source.Value, ""); fault != nil || err != nil {
		t.Error(fault, err)
	}
	if chain := b.chain(source); len(chain) != 3 {
		t.Errorf("after a refresh: %v", chain)
	}
	b.expect("name taken", b.clone(source, types.VirtualMachineInstantCloneSpec{Name: "c1"}), "DuplicateName")
	if chain := b.chain(source); len(chain) != 3 {
		t.Errorf("after a clone that failed: %v", chain)
	}

	b.freezeInstant(source, freezeCommand)
	frozen := []types.ManagedObjectReference{b.cloned(source, "f1"), b.cloned(source, "f2")}
	if chain := b.chain(source); len(chain) != 3 {
		t.Errorf("after clones while frozen: %v", chain)
	}
	for _, clone := range frozen {
		if chain := b.chain(clone); len(chain) != 4 {
			t.Errorf("a clone's: %v", chain)
		}
	}
	b.expect("off", b.power(source, false), "")
	b.expect("on", b.power(source, true), "")
	b.untilReady(source)
	b.cloned(source, "c3")
	got := b.expect("one too many", b.clone(source, types.VirtualMachineInstantCloneSpec{Name: "c4"}), "SystemError")
	fault, ok := got.info.Error.Fault.(*types.SystemError)
	if !ok || fault.Reason != "Launch failure" || !strings.Contains(got.message, "the maximum of 3 delta disks") ||
		kindsOf([]types.LocalizedMethodFault{*fault.FaultCause}) != "GenericVmConfigFault" {
		t.Errorf("%s: %+v", got.message, got.info.Error.Fault)
	}
	if chain := b.chain(source); len(chain) != 4 {
		t.Errorf("at the limit: %v", chain)
	}
	if status := b.control(http.MethodPatch, "vms/"+source.Value, map[string]any{"chain_limit": -1}, nil); status != http.StatusBadRequest {
		t.Errorf("a limit below nothing: %d", status)
	}
}

// refusals are specs that cannot be carried out, with their faults and the
// groups of tests that find them.
func (b *bed) refusals() map[string]struct {
	spec  types.VirtualMachineInstantCloneSpec
	fault string
	test  types.CheckTestType
} {
	ref := func(kind, moid string) *types.ManagedObjectReference {
		return &types.ManagedObjectReference{Type: kind, Value: moid}
	}
	elsewhere := b.pool("DC0_C0")
	at := func(location types.VirtualMachineRelocateSpec) types.VirtualMachineInstantCloneSpec {
		return types.VirtualMachineInstantCloneSpec{Name: "x", Location: location}
	}
	host, err := object.NewSearchIndex(b.client.Client).FindByInventoryPath(b.ctx, "/DC0/host")
	if err != nil || host == nil {
		b.Fatal(err)
	}
	hosts := host.Reference()
	return map[string]struct {
		spec  types.VirtualMachineInstantCloneSpec
		fault string
		test  types.CheckTestType
	}{
		"name taken":                {types.VirtualMachineInstantCloneSpec{Name: "DC0_C0_RP0_VM0"}, "DuplicateName", types.CheckTestTypeSourceTests},
		"no name":                   {types.VirtualMachineInstantCloneSpec{}, "InvalidName", types.CheckTestTypeSourceTests},
		"a BIOS UUID that is none":  {types.VirtualMachineInstantCloneSpec{Name: "x", BiosUuid: "564d"}, "InvalidArgument", types.CheckTestTypeSourceTests},
		"a pool of another host":    {at(types.VirtualMachineRelocateSpec{Pool: &elsewhere}), "InvalidArgument", types.CheckTestTypeResourcePoolTests},
		"a datastore that is none":  {at(types.VirtualMachineRelocateSpec{Datastore: ref("Datastore", "none")}), "InvalidArgument", types.CheckTestTypeDatastoreTests},
		"a folder that is none":     {at(types.VirtualMachineRelocateSpec{Folder: ref("Folder", "none")}), "ManagedObjectNotFound", types.CheckTestTypeSourceTests},
		"a folder for other things": {at(types.VirtualMachineRelocateSpec{Folder: &hosts}), "InvalidArgument", types.CheckTestTypeSourceTests},
	}
}

func TestInstantCloneRefused(t *testing.T) {
	b := start(t, modern)
	source := b.vm("DC0_H0_VM0")
	vms := len(b.sim.registry().All("VirtualMachine"))
	for what, refused := range b.refusals() {
		b.expect(what, b.clone(source, refused.spec), refused.fault)
	}
	spec := types.VirtualMachineInstantCloneSpec{Name: "x"}
	b.maintain(source, true)
	b.expect("a host in maintenance mode", b.clone(source, spec), "InvalidState")
	b.maintain(source, false)
	b.expect("off", b.power(source, false), "")
	b.expect("a source that is off", b.clone(source, spec), "InvalidPowerState")
	if now := len(b.sim.registry().All("VirtualMachine")); now != vms {
		t.Errorf("%d VMs of %d are there", now, vms)
	}
	b.expect("on", b.power(source, true), "")
	here := *b.read(source, "runtime").Runtime.Host
	host := *b.read(b.vm("DC0_C0_RP0_VM0"), "runtime").Runtime.Host
	spec.Location.Host = &host
	clone := b.expect("a host is named", b.clone(source, spec), "").result.(types.ManagedObjectReference)
	if at := *b.read(clone, "runtime").Runtime.Host; at != here {
		t.Errorf("the clone is on %v", at)
	}
	if pool := b.read(clone, "resourcePool").ResourcePool; *pool != *b.read(source, "resourcePool").ResourcePool {
		t.Errorf("the clone is in %v", pool)
	}
}

func (b *bed) maintain(vm types.ManagedObjectReference, in bool) {
	host := b.sim.hostObject(*b.read(vm, "runtime").Runtime.Host)
	ctx := b.sim.background()
	ctx.Map.AtomicUpdate(ctx, host, []types.PropertyChange{{Name: "runtime.inMaintenanceMode", Val: in}})
}

// check asks whether a clone would succeed.
func (b *bed) check(source types.ManagedObjectReference, spec types.VirtualMachineInstantCloneSpec, tests ...types.CheckTestType) types.CheckResult {
	b.Helper()
	req := &types.CheckInstantClone_Task{This: *b.client.ServiceContent.VmProvisioningChecker, Vm: source, Spec: spec}
	for _, test := range tests {
		req.TestType = append(req.TestType, string(test))
	}
	res, err := methods.CheckInstantClone_Task(b.ctx, b.client.Client, req)
	if err != nil {
		b.Fatal(err)
	}
	got := b.expect("check", b.ended(res.Returnval), "")
	if got.info.Name != "CheckInstantClone_Task" || got.info.DescriptionId != "vm.check.ProvisioningChecker.checkInstantClone" {
		b.Errorf("the task says %+v", got.info)
	}
	results := got.result.(types.ArrayOfCheckResult).CheckResult
	if len(results) != 1 || *results[0].Vm != source || *results[0].Host != *b.read(source, "runtime").Runtime.Host {
		b.Fatalf("%+v", results)
	}
	return results[0]
}

func kindsOf(faults []types.LocalizedMethodFault) string {
	var kinds []string
	for _, fault := range faults {
		kinds = append(kinds, strings.TrimPrefix(fmt.Sprintf("%T", fault.Fault), "*types."))
	}
	return strings.Join(kinds, " ")
}

func TestCheckInstantClone(t *testing.T) {
	b := startModern(t)
	source := b.vm("DC0_H0_VM0")
	b.untilReady(source)
	spec := types.VirtualMachineInstantCloneSpec{Name: "x"}
	vms := len(b.sim.registry().All("VirtualMachine"))
	result := b.check(source, spec)
	if len(result.Error) > 0 || kindsOf(result.Warning) != "GenericVmConfigFault" || !strings.Contains(result.Warning[0].LocalizedMessage, "not frozen") {
		t.Errorf("a source that runs: %+v", result)
	}
	for what, refused := range b.refusals() {
		if result := b.check(source, refused.spec); kindsOf(result.Error) != refused.fault {
			t.Errorf("%s: %+v", what, result.Error)
		}
		for _, test := range types.CheckTestType("").Values() {
			want := map[bool]string{true: refused.fault}[test == refused.test]
			if result := b.check(source, refused.spec, test); kindsOf(result.Error) != want {
				t.Errorf("%s by %s: %+v", what, test, result.Error)
			}
		}
	}
	b.maintain(source, true)
	if result := b.check(source, spec, types.CheckTestTypeHostTests); kindsOf(result.Error) != "InvalidState" || !strings.Contains(result.Error[0].LocalizedMessage, "maintenance mode") {
		t.Errorf("maintenance mode: %+v", result)
	}
	b.maintain(source, false)
	b.sim.instances.of(source).deltas = 101
	if result := b.check(source, spec); len(result.Warning) != 2 || !strings.Contains(result.Warning[1].LocalizedMessage, "more than 100 redo logs") {
		t.Errorf("101 delta disks: %+v", result)
	}
	b.control(http.MethodPatch, "vms/"+source.Value, map[string]any{"chain_limit": 101}, nil)
	if result := b.check(source, spec); kindsOf(result.Error) != "SystemError" || !strings.Contains(result.Error[0].LocalizedMessage, "maximum of 101 delta disks") {
		t.Errorf("at the limit: %+v", result)
	}
	b.sim.instances.of(source).deltas = 0
	b.freezeInstant(source, freezeCommand)
	if result := b.check(source, spec); len(result.Error)+len(result.Warning) > 0 {
		t.Errorf("frozen: %+v", result)
	}
	b.expect("off", b.power(source, false), "")
	if result := b.check(source, spec); kindsOf(result.Error) != "InvalidPowerState" {
		t.Errorf("off: %+v", result)
	}
	if now := len(b.sim.registry().All("VirtualMachine")); now != vms || len(b.chain(source)) != 1 {
		t.Errorf("%d VMs of %d are there, and a chain of %d", now, vms, len(b.chain(source)))
	}
	_, err := methods.CheckInstantClone_Task(b.ctx, b.client.Client, &types.CheckInstantClone_Task{
		This: *b.client.ServiceContent.VmProvisioningChecker, Vm: types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-none"}, Spec: spec,
	})
	if err == nil || fmt.Sprintf("%T", soap.ToSoapFault(err).VimFault()) != "types.ManagedObjectNotFound" {
		t.Errorf("a VM that is none: %v", err)
	}
}

// The server's version decides which commands freeze a VM and which method
// clones it; -hidden-methods on adds the older ones.
func TestFreezeCommandsOfVersions(t *testing.T) {
	for name, at := range map[string]struct {
		change          func(*Options)
		hidden, instant bool
	}{
		"6.5":               {func(o *Options) { o.APIVersion = "6.5" }, true, false},
		"6.7":               {func(o *Options) { o.APIVersion = "6.7" }, false, true},
		"8.0.3.0":           {modern, false, true},
		"8.0.3.0 with both": {func(o *Options) { o.APIVersion, o.HiddenMethods = "8.0.3.0", "on" }, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, at.change, withGuests)
			vm := b.vm("DC0_H0_VM0")
			unknown := func(message string) bool { return strings.Contains(message, "Unable to resolve WSDL method name") }
			if got := b.raw.task("EnableForkParent_Task", vm, ""); unknown(got.message) == at.hidden {
				t.Errorf("EnableForkParent_Task: %+v", got)
			}
			if got := b.clone(vm, types.VirtualMachineInstantCloneSpec{Name: "DC0_C0_RP0_VM0"}); unknown(got.message) == at.instant {
				t.Errorf("InstantClone_Task: %+v", got)
			}
			_, err := methods.CheckInstantClone_Task(b.ctx, b.client.Client, &types.CheckInstantClone_Task{
				This: *b.client.ServiceContent.VmProvisioningChecker, Vm: vm, Spec: types.VirtualMachineInstantCloneSpec{Name: "x"},
			})
			if (err == nil) != at.instant || err != nil && !unknown(err.Error()) {
				t.Errorf("CheckInstantClone_Task: %v", err)
			}
			if shown := b.read(vm, "runtime").Runtime.InstantCloneFrozen != nil; shown != at.instant {
				t.Errorf("runtime.instantCloneFrozen is there: %t", shown)
			}
			b.untilReady(vm)
			if !at.hidden {
				if said := b.run(vm, "vmtoolsd --cmd 'vmfork-begin -1 -1' 2>&1; echo $?"); said != "Unknown command\n1\n" {
					t.Errorf("vmfork-begin: %q", said)
				}
			}
			if !at.instant {
				if said := b.run(vm, "vmware-rpctool instantclone.freeze 2>&1; echo $?"); said != "Unknown command\n1\n" {
					t.Errorf("instantclone.freeze: %q", said)
				}
				return
			}
			b.freezeInstant(vm, "vmware-rpctool instantclone.freeze")
			if quiesced := b.read(vm, "runtime").Runtime.QuiescedForkParent; quiesced != nil {
				t.Errorf("runtime.quiescedForkParent is %t", *quiesced)
			}
			if at.hidden { // it is frozen, and no quiesced fork parent
				b.expect("a fork child", b.create(vm, "x", ""), "InvalidState")
			}
		})
	}
}

// A quiesced fork parent cannot be the source of an instant clone, but an
// instant clone may become a fork parent.
func TestBothGenerations(t *testing.T) {
	b := start(t, func(o *Options) { o.APIVersion, o.HiddenMethods = "8.0.3.0", "on" }, withGuests)
	parent := b.parent()
	if frozen := b.read(parent, "runtime").Runtime.InstantCloneFrozen; frozen == nil || *frozen {
		t.Error("a quiesced fork parent says that it is frozen for Instant Clone")
	}
	b.expect("an instant clone", b.clone(parent, types.VirtualMachineInstantCloneSpec{Name: "x"}), "InvalidState")
	b.expect("off", b.power(parent, false), "")
	b.expect("on", b.power(parent, true), "")
	b.untilReady(parent)
	clone := b.cloned(parent, "x")
	b.rule("persistent_children_listed", "always")
	if list := b.raw.task("RetrieveForkChildren_Task", parent, ""); list.result != nil {
		t.Errorf("fork children: %v", list.result)
	}
	if of := b.raw.task("RetrieveForkParent_Task", clone, ""); of.result != nil {
		t.Errorf("fork parent: %v", of.result)
	}
	b.enable(clone)
	b.freeze(clone)
	b.child(clone, "y", "")
}

func TestInstantFreeze(t *testing.T) {
	b := startModern(t)
	vm := b.vm("DC0_H0_VM0")
	b.untilReady(vm)
	b.control(http.MethodPatch, "guests/"+vm.Value, map[string]any{"refuse_freeze": "Not today"}, nil)
	if said := b.run(vm, freezeCommand+" 2>&1; echo $?"); said != "Not today\n1\n" {
		t.Errorf("%q", said)
	}
	b.control(http.MethodPatch, "guests/"+vm.Value, map[string]any{"refuse_freeze": ""}, nil)
	if answer := b.sim.instances.of(vm).run.Call(callOf("instantclone.freeze", 1000)); answer.OK || answer.Text != "Permission denied" {
		t.Errorf("a user other than root: %+v", answer)
	}
	b.freezeInstant(vm, freezeCommand)
	if view := b.guest(vm); !view.Frozen {
		t.Errorf("%+v", view)
	}
	b.expect("move", b.raw.task("RelocateVM_Task", vm, "<spec></spec>"), "InvalidState")
	b.expect("suspend", b.raw.task("SuspendVM_Task", vm, ""), "InvalidState")
	clone := b.cloned(vm, "c")
	b.expect("reset", b.raw.task("ResetVM_Task", vm, ""), "")
	b.until(vm, "a guest that runs again", func(vm mo.VirtualMachine) bool { return !*vm.Runtime.InstantCloneFrozen }, "runtime")
	b.untilReady(vm)
	b.untilReady(clone)
}

func TestPrivilegesOfInstantClone(t *testing.T) {
	b := start(t, modern)
	source := b.vm("DC0_H0_VM0")
	vm := b.read(source, "resourcePool", "datastore")
	spec := types.VirtualMachineInstantCloneSpec{Name: "x"}
	folder := b.sim.vmFolder().Self
	for privilege, on := range map[string]types.ManagedObjectReference{
		provisioningClone: source, powerOn: folder, createExisting: folder, allocateSpace: vm.Datastore[0], assignToPool: *vm.ResourcePool,
	} {
		b.control(http.MethodPost, "users", map[string]any{"name": "low", "password": "low", "deny": []string{privilege}, "deny_on": []string{on.Value}}, nil)
		low := b.login("low", "low")
		_, err := methods.InstantClone_Task(b.ctx, low.Client, &types.InstantClone_Task{This: source, Spec: spec})
		denied, ok := soap.ToSoapFault(err).VimFault().(types.NoPermission)
		if !ok || denied.PrivilegeId != privilege || *denied.Object != on {
			t.Errorf("without %s on %v: %+v", privilege, on, err)
		}
		check := &types.CheckInstantClone_Task{This: *low.ServiceContent.VmProvisioningChecker, Vm: source, Spec: spec}
		if _, err := methods.CheckInstantClone_Task(b.ctx, low.Client, check); err != nil {
			t.Errorf("the check asks for %s: %v", privilege, err)
		}
		session, err := low.SessionManager.UserSession(b.ctx)
		if err != nil {
			t.Fatal(err)
		}
		held, err := methods.HasPrivilegeOnEntities(b.ctx, low, &types.HasPrivilegeOnEntities{
			This: *low.ServiceContent.AuthorizationManager, Entity: []types.ManagedObjectReference{on}, SessionId: session.Key, PrivId: []string{privilege},
		})
		if err != nil || held.Returnval[0].PrivAvailability[0].IsGranted {
			t.Errorf("%s: %v %+v", privilege, err, held)
		}
	}
	b.control(http.MethodPost, "users", map[string]any{"name": "blind", "password": "blind", "deny": []string{systemView}, "deny_on": []string{source.Value}}, nil)
	blind := b.login("blind", "blind")
	_, err := methods.CheckInstantClone_Task(b.ctx, blind.Client, &types.CheckInstantClone_Task{This: *blind.ServiceContent.VmProvisioningChecker, Vm: source, Spec: spec})
	if _, ok := soap.ToSoapFault(err).VimFault().(types.NoPermission); !ok {
		t.Errorf("the check without %s: %v", systemView, err)
	}
	if found := b.sim.registry().FindByName("x", nil); found != nil {
		t.Error("a clone was made")
	}
}

func TestInstantCloneOnTheHost(t *testing.T) {
	b := start(t, modern, withESX)
	host := b.esx("root")
	replica := b.replicas(host)["DC0_H0_VM0"].Self
	_, err := methods.InstantClone_Task(b.ctx, host.Client, &types.InstantClone_Task{This: replica, Spec: types.VirtualMachineInstantCloneSpec{Name: "x"}})
	if err == nil || fmt.Sprintf("%T", soap.ToSoapFault(err).VimFault()) != "types.NotSupported" || !strings.Contains(err.Error(), "needs vCenter Server") {
		t.Errorf("%v", err)
	}
	if host.ServiceContent.VmProvisioningChecker != nil {
		t.Error("the host has a provisioning checker")
	}
}

// An injected fault finds a clone by its name, in the call and in the task.
func TestFaultInjectionOfInstantClones(t *testing.T) {
	b := start(t, modern)
	source := b.vm("DC0_H0_VM0")
	for at, name := range map[string]string{"call": "c1", "task": "c2"} {
		b.control(http.MethodPost, "faults", map[string]any{"at": at, "method": "InstantClone_Task", "vm_name": name, "fault": "ResourceInUse"}, nil)
		b.cloned(source, "other-"+name)
		b.expect(at, b.clone(source, types.VirtualMachineInstantCloneSpec{Name: name}), "ResourceInUse")
		b.cloned(source, name)
	}
}

// A clone that cannot be powered on is removed.
func TestInstantCloneBackedOut(t *testing.T) {
	b := start(t, modern)
	source := b.vm("DC0_H0_VM0")
	datastore := b.read(source, "datastore").Datastore[0]
	b.control(http.MethodPatch, "datastores/"+datastore.Value, map[string]any{"accessible": false}, nil)
	b.expect("clone", b.clone(source, types.VirtualMachineInstantCloneSpec{Name: "x"}), "InaccessibleDatastore")
	if chain := b.chain(source); len(chain) != 1 {
		t.Errorf("the source's disk: %v", chain)
	}
	b.control(http.MethodPatch, "datastores/"+datastore.Value, map[string]any{"accessible": true}, nil)
	b.cloned(source, "x")
}

// Many clones at once, of a source that runs and then is frozen.
func TestManyInstantClones(t *testing.T) {
	const each = 6
	b := startModern(t)
	source := b.vm("DC0_H0_VM0")
	b.untilReady(source)
	for _, round := range []string{"running", "frozen"} {
		if round == "frozen" {
			b.freezeInstant(source, freezeCommand+`; hostname $(vmware-rpctool 'info-get guestinfo.ic.hostname')`)
		}
		var all sync.WaitGroup
		for number := range each {
			all.Go(func() {
				name := fmt.Sprintf("%s-%d", round, number)
				res, err := methods.InstantClone_Task(b.ctx, b.client.Client, &types.InstantClone_Task{This: source, Spec: types.VirtualMachineInstantCloneSpec{
					Name: name, Config: []types.BaseOptionValue{&types.OptionValue{Key: "guestinfo.ic.hostname", Value: name}},
				}})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := object.NewTask(b.client.Client, res.Returnval).WaitForResult(b.ctx); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		all.Wait()
		for number := range each {
			name := fmt.Sprintf("%s-%d", round, number)
			clone := b.vm(name)
			b.untilReady(clone)
			if round == "frozen" {
				b.until(clone, name+"'s script", func(vm mo.VirtualMachine) bool { return vm.Guest.HostName == name }, "guest")
			}
		}
		if chain := b.chain(source); len(chain) != 1+each {
			t.Errorf("%s: %d files make up the source's disk", round, len(chain))
		}
	}
}
