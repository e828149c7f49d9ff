// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// Without our overrides there is no hidden method and no correction of
// govmomi's simulator: this fails if its dispatcher stops calling the
// registry's handler, or uses the original object after that call.
func TestOurObjectsAreCalled(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	for method, want := range map[string]string{
		"EnableForkParent_Task": "", "RetrieveForkChildren_Task": "", "RetrieveForkParent_Task": "", "DisableForkParent_Task": "",
	} {
		if method == "DisableForkParent_Task" {
			b.raw.task("EnableForkParent_Task", vm, "")
		}
		b.expect(method, b.raw.task(method, vm, ""), want)
	}
	b.expect("CreateForkChild_Task", b.create(vm, "x", ""), "InvalidState")
}

func TestEnableAndDisable(t *testing.T) {
	b := start(t)
	for _, on := range []bool{true, false} {
		vm := b.vm("DC0_H0_VM0")
		if !on {
			b.expect("power off", b.power(vm, false), "")
		}
		got := b.expect("enable", b.raw.task("EnableForkParent_Task", vm, ""), "")
		if got.info.Name != "EnableForkParent_Task" || got.info.DescriptionId != "VirtualMachine.enableForkParent" ||
			got.info.EntityName != "DC0_H0_VM0" || got.info.Reason.(*types.TaskReasonUser).UserName != "user" {
			t.Errorf("the task says %+v", got.info)
		}
		info := b.read(vm, "config.forkConfigInfo").Config.ForkConfigInfo
		if info == nil || info.ParentEnabled == nil || !*info.ParentEnabled || info.ParentForkGroupId == "" || info.ChildType != "none" {
			t.Errorf("forkConfigInfo of a parent: %+v", info)
		}
		b.expect("disable", b.raw.task("DisableForkParent_Task", vm, ""), "")
		if info := b.read(vm, "config"); info.Config.ForkConfigInfo != nil {
			t.Errorf("forkConfigInfo of a former parent: %+v", info.Config.ForkConfigInfo)
		}
	}
}

func TestUnknownMethods(t *testing.T) {
	for version, hidden := range map[string]bool{"6.0": true, "6.5": true, "6.7": false, "8.0.3.0": false} {
		b := start(t, func(o *Options) { o.APIVersion = version })
		vm := b.vm("DC0_H0_VM0")
		got := b.raw.task("EnableForkParent_Task", vm, "")
		want := ""
		if !hidden {
			want = "InvalidRequest"
		}
		b.expect(version, got, want)
		if !hidden && !strings.Contains(got.message, "Unable to resolve WSDL method name EnableForkParent_Task") {
			t.Errorf("%s: %s", version, got.message)
		}
		got = b.raw.task("InstantClone_Task", vm, "")
		if hidden != strings.Contains(got.message, "Unable to resolve WSDL method name") {
			t.Errorf("%s: InstantClone_Task: %s", version, got.message)
		}
		if info := b.read(vm, "config.forkConfigInfo"); info.Config != nil && info.Config.ForkConfigInfo != nil {
			if shown := info.Config.ForkConfigInfo.ParentForkGroupId != ""; shown != (version == "6.5") {
				t.Errorf("%s: parentForkGroupId %q", version, info.Config.ForkConfigInfo.ParentForkGroupId)
			}
		}
	}
	b := start(t, func(o *Options) { o.APIVersion, o.HiddenMethods = "8.0.3.0", "on" })
	b.enable(b.vm("DC0_H0_VM0"))
}

func TestCreateChild(t *testing.T) {
	b := start(t, withGuests)
	parent := b.parent()
	got := b.expect("create", b.create(parent, "web-01",
		`<persistent>false</persistent><configParams><key>hostname</key><value xsi:type="xsd:string">web-01</value></configParams>`), "")
	ref, ok := got.result.(types.ManagedObjectReference)
	if !ok || ref != b.vm("web-01") {
		t.Fatalf("the task's result is %v", got.result)
	}
	before, child := b.read(parent, "config", "runtime", "parent"), b.read(ref, "config", "runtime", "parent")
	if child.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		t.Errorf("a new child is %s", child.Runtime.PowerState)
	}
	if *child.Runtime.Host != *before.Runtime.Host || *child.Parent != *before.Parent {
		t.Errorf("the child is on %v in %v", child.Runtime.Host, child.Parent)
	}
	info := child.Config.ForkConfigInfo
	if info == nil || info.ChildType != "nonpersistent" || info.ChildForkGroupId != before.Config.ForkConfigInfo.ParentForkGroupId {
		t.Errorf("forkConfigInfo: %+v", info)
	}
	if child.Config.Uuid == before.Config.Uuid || child.Config.InstanceUuid == before.Config.InstanceUuid {
		t.Error("the child has its parent's UUIDs")
	}
	mac := object.VirtualDeviceList(child.Config.Hardware.Device).PrimaryMacAddress()
	if mac == "" || mac == object.VirtualDeviceList(before.Config.Hardware.Device).PrimaryMacAddress() {
		t.Errorf("the child's MAC is %q", mac)
	}
	extra := b.extra(ref)
	if extra["guestinfo.fork.hostname"] != "web-01" || extra["guestinfo.fork.ethernet0.address"] != mac {
		t.Errorf("extraConfig: %v", extra)
	}
	list := b.expect("children", b.raw.task("RetrieveForkChildren_Task", parent, ""), "")
	if refs := list.result.(types.ArrayOfManagedObjectReference).ManagedObjectReference; len(refs) != 1 || refs[0] != ref {
		t.Errorf("children: %v", refs)
	}
	if got := b.raw.task("RetrieveForkParent_Task", ref, ""); got.result != parent {
		t.Errorf("parent: %v", got.result)
	}
}

func TestCreateRefused(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	b.expect("not enabled", b.create(vm, "x", ""), "InvalidState")
	b.enable(vm)
	b.expect("not quiesced", b.create(vm, "x", ""), "InvalidState")
	b.freeze(vm)
	b.child(vm, "x", "")
	b.expect("name taken by a child", b.create(vm, "x", ""), "DuplicateName")
	b.expect("name taken by a foreign VM", b.create(vm, "DC0_C0_RP0_VM0", ""), "DuplicateName")
	b.control(http.MethodPost, "inventory", map[string]any{"folders": []string{"/DC0/vm/taken"}}, nil)
	b.expect("name taken by a folder", b.create(vm, "taken", ""), "DuplicateName")
	b.expect("no name", b.create(vm, "", ""), "InvalidName")
	b.expect("80 characters", b.create(vm, strings.Repeat("ü", 80), ""), "")
	b.expect("81 characters", b.create(vm, strings.Repeat("ü", 81), ""), "InvalidName")
	b.expect("persistent without a snapshot", b.create(vm, "p", "<persistent>true</persistent>"), "InvalidState")
	b.expect("a pool of another host", b.create(vm, "p", `<location><pool type="ResourcePool">`+b.pool("DC0_C0").Value+`</pool></location><persistent>false</persistent>`), "InvalidArgument")
	b.expect("a folder that is none", b.create(vm, "p", `<location><folder type="Folder">group-none</folder></location><persistent>false</persistent>`), "ManagedObjectNotFound")
	b.expect("a datastore that is none", b.create(vm, "p", `<location><datastore type="Datastore">datastore-none</datastore></location><persistent>false</persistent>`), "InvalidArgument")
	b.expect("move the parent", b.raw.task("RelocateVM_Task", vm, `<spec></spec>`), "InvalidState")
}

func (b *bed) pool(cluster string) types.ManagedObjectReference {
	b.Helper()
	ref, err := object.NewSearchIndex(b.client.Client).FindByInventoryPath(b.ctx, "/DC0/host/"+cluster+"/Resources")
	if err != nil || ref == nil {
		b.Fatalf("pool of %s: %v", cluster, err)
	}
	return ref.Reference()
}

func TestNames(t *testing.T) {
	b := start(t, withGuests)
	parent := b.parent()
	for name, escaped := range map[string]string{
		"a/b": "a%2fb", `c\d`: "c%5cd", "5%": "5%25", "e%2ff": "e%2ff", "spaces and 'quotes' $(x) ;": "", "größe": "", ".vmx": "",
	} {
		if escaped == "" {
			escaped = name
		}
		got := b.expect(name, b.create(parent, strings.NewReplacer("'", "&apos;").Replace(name), ""), "")
		if vm := b.read(got.result.(types.ManagedObjectReference), "name"); vm.Name != escaped {
			t.Errorf("%q became %q", name, vm.Name)
		}
		b.vm(escaped)
	}
}

func TestLocation(t *testing.T) {
	b := start(t, withGuests)
	parent := b.parent()
	b.control(http.MethodPost, "inventory", map[string]any{"folders": []string{"/DC0/vm/kids"}}, nil)
	folder := b.vm("kids")
	b.expect("create", b.create(parent, "there", `<location><folder type="Folder">`+folder.Value+`</folder></location><persistent>false</persistent>`), "")
	b.vm("kids/there")
}

func TestPersistentChild(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	b.expect("snapshot", b.raw.task("CreateSnapshot_Task", vm, "<name>s</name><memory>false</memory><quiesce>false</quiesce>"), "")
	parent := b.parent()
	child := b.child(parent, "keep", "<persistent>true</persistent>")
	if info := b.read(child, "config.forkConfigInfo").Config.ForkConfigInfo; info.ChildType != "persistent" {
		t.Errorf("before power-on: %+v", info)
	}
	b.expect("power on", b.power(child, true), "")
	if info := b.read(child, "config.forkConfigInfo").Config.ForkConfigInfo; info.ChildType != "none" {
		t.Errorf("after power-on: %+v", info)
	}
	b.untilReady(child)
	b.runIn(child, "echo kept > /root/file")
	b.expect("power off", b.power(child, false), "")
	b.expect("power on", b.power(child, true), "")
	b.untilReady(child)
	if got := b.runIn(child, "cat /root/file"); got != "kept\n" {
		t.Errorf("after a power cycle the file holds %q", got)
	}
}

func TestNonpersistentChildLosesItsState(t *testing.T) {
	b := start(t, withGuests)
	child := b.child(b.parent(), "lose", "")
	b.expect("power on", b.power(child, true), "")
	b.untilReady(child)
	b.runIn(child, "echo lost > /root/file")
	b.expect("power off", b.power(child, false), "")
	b.expect("power on", b.power(child, true), "")
	b.untilReady(child)
	if got := b.runIn(child, "cat /root/file 2>/dev/null || echo none"); got != "none\n" {
		t.Errorf("after a power cycle the file holds %q", got)
	}
}

// runIn runs a shell command as the guest itself and returns its output.
func (b *bed) runIn(vm types.ManagedObjectReference, command string) string {
	b.Helper()
	var result struct {
		Output string `json:"output"`
		Error  string `json:"error"`
	}
	b.control(http.MethodPost, "guests/"+vm.Value+"/run", map[string]any{"program": "/bin/sh", "arguments": "-c " + shellQuote(command)}, &result)
	if result.Error != "" {
		b.Fatal(result.Error)
	}
	return result.Output
}

// A complete fork: values that the parent sets before the fork point are
// visible after it, and what follows happens in every child.
func TestForkPoint(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	b.enable(vm)
	b.freeze(vm, `n=$(vmware-rpctool 'info-get guestinfo.count' || echo 0)
vmware-rpctool "info-set guestinfo.count $((n + 1))"
vmware-rpctool 'info-get guestinfo.count' >> /root/counted
vmtoolsd --cmd 'vmfork-begin -1 -1'
vmware-rpctool "info-set guestinfo.after $(vmtoolsd --cmd 'info-get guestinfo.fork.hostname')"
hostname "$(vmtoolsd --cmd 'info-get guestinfo.fork.hostname')"`)
	spec := func(name string) string {
		return `<persistent>false</persistent><configParams><key>hostname</key><value xsi:type="xsd:string">` + name + `</value></configParams>`
	}
	for _, name := range []string{"one", "two"} {
		child := b.child(vm, name, spec(name))
		b.expect("power on", b.power(child, true), "")
		b.until(child, "the child's host name", func(vm mo.VirtualMachine) bool { return vm.Guest.HostName == name }, "guest")
		if got := b.runIn(child, "cat /root/counted"); got != "1\n" {
			t.Errorf("what came before the fork point happened again: %q", got)
		}
		if got := b.extra(child)["guestinfo.count"]; got != "1" {
			t.Errorf("guestinfo from before the fork point: %q", got)
		}
		b.until(child, "the child's report", func(mo.VirtualMachine) bool { return b.extra(child)["guestinfo.after"] == name }, "config.extraConfig")
	}
	if extra := b.extra(vm); extra["guestinfo.after"] != "" {
		t.Errorf("the parent went on: %v", extra)
	}
	if got := b.read(vm, "guest").Guest.HostName; got != "dc0-h0-vm0" {
		t.Errorf("the parent's host name is %q", got)
	}
}

// A guest that reboots itself remains the same VM, with Tools that are started
// again.
func TestGuestReboots(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	b.untilReady(vm)
	id := b.inGuest(vm, "touch /run/lost; cat /proc/sys/kernel/random/boot_id")
	booted := b.read(vm, "runtime").Runtime.BootTime
	b.forget()
	b.inGuest(vm, "systemctl reboot")
	b.eventually("the new guest", func() bool {
		var ran struct{ Output string }
		b.control(http.MethodPost, "guests/"+vm.Value+"/run", map[string]any{"program": "/bin/sh", "arguments": "-c 'test -e /run/lost || cat /proc/sys/kernel/random/boot_id'"}, &ran)
		return len(ran.Output) == 37 && strings.TrimSpace(ran.Output) != id
	})
	b.untilReady(vm)
	if now := b.read(vm, "runtime").Runtime; now.PowerState != types.VirtualMachinePowerStatePoweredOn || !now.BootTime.Equal(*booted) {
		t.Errorf("it is %s since %s", now.PowerState, now.BootTime)
	}
	events := b.events(eventsOf(vm))
	if _, ok := events[0].(*types.VmGuestRebootEvent); !ok || len(events) != 1 {
		t.Errorf("%T", events)
	}
}

// A guest that powers itself off leaves a powered-off VM and an event without a
// user.
func TestGuestPowersOff(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	b.untilReady(vm)
	b.forget()
	b.inGuest(vm, "shutdown -h now")
	b.until(vm, "the power-off", func(vm mo.VirtualMachine) bool {
		return vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff
	}, "runtime")
	var got []string
	b.eventually("the events", func() bool {
		got = nil
		for _, event := range b.events(eventsOf(vm)) {
			got = append(got, fmt.Sprintf("%T by %q", event, event.GetEvent().UserName))
		}
		return len(got) >= 2
	})
	slices.Sort(got)
	if want := []string{`*types.VmGuestShutdownEvent by ""`, `*types.VmPoweredOffEvent by ""`}; !slices.Equal(got, want) {
		t.Error(got)
	}
	b.expect("power on", b.power(vm, true), "")
	b.untilReady(vm)
}

// Until a child's Tools report, vCenter shows the parent's network for it.
func TestToolsReportAgain(t *testing.T) {
	b := start(t, withGuests)
	vm := b.parent()
	parents := b.read(vm, "guest").Guest
	if parents.IpAddress == "" {
		t.Fatal("the parent has no address to inherit")
	}
	child := b.child(vm, "c", "")
	b.expect("power on", b.power(child, true), "")
	b.untilReady(child)
	mac := cardsOf(b.read(child, "config.hardware").Config.Hardware.Device)[0].MacAddress
	before := b.read(child, "guest").Guest // a second later a link-local address is news
	if got := before.Net[0].MacAddress; before.IpAddress != parents.IpAddress || got != parents.Net[0].MacAddress && got != mac {
		t.Errorf("before the report: %+v", before.Net)
	}
	b.runIn(child, "modprobe -r vmxnet3; modprobe vmxnet3; ip link set eth0 up; ip addr add "+parents.IpAddress+"/8 dev eth0; vmware-toolbox-cmd info update network")
	after := b.read(child, "guest").Guest // without waiting
	if len(after.Net) != 1 || after.Net[0].MacAddress != mac || after.HostName != parents.HostName || after.IpAddress != parents.IpAddress {
		t.Errorf("after the report, of a VM with %s: %+v", mac, after.Net)
	}
}

func TestFreezeRefused(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	b.untilReady(vm)
	begin := "vmtoolsd --cmd 'vmfork-begin -1 -1' 2>&1; echo $?"
	refused := func(what, want string) {
		t.Helper()
		if got := b.runIn(vm, begin); !strings.Contains(got, want) || !strings.HasSuffix(got, "1\n") {
			t.Errorf("%s: %q", what, got)
		}
	}
	refused("not enabled", "not enabled")
	b.enable(vm)
	b.control(http.MethodPatch, "guests/"+vm.Value, map[string]any{"refuse_freeze": "no way"}, nil)
	refused("refused", "no way")
	b.control(http.MethodPatch, "guests/"+vm.Value, map[string]any{"refuse_freeze": "", "refuse_info": true}, nil)
	if got := b.runIn(vm, "vmware-rpctool 'info-set guestinfo.x y' 2>&1; vmware-rpctool 'info-get guestinfo.x' 2>&1"); strings.Count(got, "Permission denied") != 2 {
		t.Errorf("refused info: %q", got)
	}
	b.control(http.MethodPatch, "guests/"+vm.Value, map[string]any{"tools_installed": false}, nil)
	if got := b.runIn(vm, "command -v vmtoolsd || echo none"); got != "none\n" {
		t.Errorf("without Tools: %q", got)
	}
}
