// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/event"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/rules"
)

// ruleTests contains a test for every rule that shows which choice is set: the
// test is run once for each choice. A rule whose source leaves no choice has
// none.
var ruleTests = map[string]struct {
	guests  bool
	version string
	opaque  int
	test    func(b *bed, choice string)
}{
	"swap_file_space": {version: "8.0.3.0", test: func(b *bed, choice string) {
		source := b.vm("DC0_H0_VM0")
		memory := int64(b.sim.vmObject(source).Config.Hardware.MemoryMB) << 20
		for name, short := range map[string]int64{"enough": 0, "full": 1} {
			fault := ""
			if short > 0 && choice == "NoDiskSpace" {
				fault = choice
			}
			b.patch("datastores/LocalDS_0", map[string]any{"free_space": memory - short})
			spec := types.VirtualMachineInstantCloneSpec{Name: name}
			if kinds := kindsOf(b.check(source, spec).Error); strings.Contains(kinds, "NoDiskSpace") != (fault != "") {
				b.Errorf("%s: checked: %s", name, kinds)
			}
			b.expect(name, b.clone(source, spec), fault)
		}
	}},
	"enable_twice": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.enable(vm)
		b.expect("again", b.raw.task("EnableForkParent_Task", vm, ""), faultOf(choice))
	}},
	"disable_twice": {test: func(b *bed, choice string) {
		b.expect("disable", b.raw.task("DisableForkParent_Task", b.vm("DC0_H0_VM0"), ""), faultOf(choice))
	}},
	"enable_on_other_host": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_C0_RP0_VM0")
		b.expect("off", b.power(vm, false), "")
		here := *b.read(vm, "runtime").Runtime.Host
		other := b.otherHost(here)
		got := b.raw.task("EnableForkParent_Task", vm, `<host type="HostSystem">`+other.Value+`</host>`)
		b.expect("enable", got, map[string]string{"InvalidArgument": "InvalidArgument"}[choice])
		if now := *b.read(vm, "runtime").Runtime.Host; (now == other) != (choice == "relocates") {
			b.Errorf("the VM is on %v", now)
		}
	}},
	"enable_needs_tools": {test: func(b *bed, choice string) {
		want := map[string]string{"yes": "ToolsUnavailable"}[choice]
		b.expect("enable", b.raw.task("EnableForkParent_Task", b.vm("DC0_H0_VM0"), ""), want)
	}},
	"enable_independent_disk": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		object := b.sim.registry().Get(vm)
		ctx := b.sim.background()
		ctx.WithLock(object, func() {
			for _, device := range b.sim.vmObject(vm).Config.Hardware.Device {
				if disk, ok := device.(*types.VirtualDisk); ok {
					disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo).DiskMode = "independent_persistent"
				}
			}
		})
		b.expect("enable", b.raw.task("EnableForkParent_Task", vm, ""), map[string]string{"NotSupported": "NotSupported"}[choice])
	}},
	"child_as_parent": {guests: true, test: func(b *bed, choice string) {
		child := b.child(b.parent(), "c", "")
		b.expect("enable", b.raw.task("EnableForkParent_Task", child, ""), map[string]string{"NotSupported": "NotSupported"}[choice])
	}},
	"enabled_after_power_off": {guests: true, test: func(b *bed, choice string) {
		parent := b.parent()
		b.expect("off", b.power(parent, false), "")
		info := b.read(parent, "config").Config.ForkConfigInfo
		if enabled := info != nil && info.ParentEnabled != nil && *info.ParentEnabled; enabled != (choice == "kept") {
			b.Errorf("%+v", info)
		}
	}},
	"fork_group_on_enable": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		var groups []string
		for range 2 {
			b.enable(vm)
			groups = append(groups, b.read(vm, "config").Config.ForkConfigInfo.ParentForkGroupId)
			b.expect("disable", b.raw.task("DisableForkParent_Task", vm, ""), "")
		}
		if (groups[0] == groups[1]) != (choice == "kept") {
			b.Error(groups)
		}
	}},
	"parent_fork_group_id": {version: "6.0", test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.enable(vm)
		if group := b.read(vm, "config").Config.ForkConfigInfo.ParentForkGroupId; (group != "") != (choice == "always") {
			b.Errorf("%q", group)
		}
	}},
	"disabled_parent_enabled": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.enable(vm)
		b.expect("disable", b.raw.task("DisableForkParent_Task", vm, ""), "")
		info := b.read(vm, "config").Config.ForkConfigInfo
		if (info != nil && info.ParentEnabled != nil) != (choice == "false") {
			b.Errorf("%+v", info)
		}
	}},
	"plain_vm_fork_config": {test: func(b *bed, choice string) {
		info := b.read(b.vm("DC0_H0_VM0"), "config").Config.ForkConfigInfo
		if (info != nil) != (choice == "child-type-none") {
			b.Errorf("%+v", info)
		}
	}},
	"disable_while_quiesced": {guests: true, test: func(b *bed, choice string) {
		parent := b.parent()
		b.expect("disable", b.raw.task("DisableForkParent_Task", parent, ""), faultOf(choice))
		if quiesced := b.read(parent, "runtime").Runtime.QuiescedForkParent; quiesced == nil || !*quiesced {
			b.Error("the parent is no longer quiesced")
		}
	}},
	"disable_with_children": {guests: true, test: func(b *bed, choice string) {
		parent := b.parent()
		b.orphans(parent, choice, func() outcome { return b.raw.task("DisableForkParent_Task", parent, "") })
	}},
	"power_off_with_children": {guests: true, test: func(b *bed, choice string) {
		parent := b.parent()
		b.orphans(parent, choice, func() outcome { return b.power(parent, false) })
	}},
	"instant_clone_frozen_elsewhere": {version: "6.7", test: func(b *bed, choice string) {
		frozen := b.read(b.vm("DC0_H0_VM0"), "runtime").Runtime.InstantCloneFrozen
		if (frozen != nil) != (choice == "false") || frozen != nil && *frozen {
			b.Errorf("%v", frozen)
		}
	}},
	"instant_clone_result": {version: "6.7", test: func(b *bed, choice string) {
		got := b.clone(b.vm("DC0_H0_VM0"), types.VirtualMachineInstantCloneSpec{Name: "c"})
		if (got.result != nil) != (choice == "child") || got.fault != "" {
			b.Error(got.result, got.fault)
		}
		b.vm("c")
	}},
	"instant_clone_fork_config": {version: "6.7", test: func(b *bed, choice string) {
		info := b.read(b.cloned(b.vm("DC0_H0_VM0"), "c"), "config").Config.ForkConfigInfo
		if (info != nil) != (choice == "child-type-none") {
			b.Errorf("%+v", info)
		}
	}},
	"instant_clone_config_keys": {version: "6.7", test: func(b *bed, choice string) {
		clone := b.cloned(b.vm("DC0_H0_VM0"), "c", &types.OptionValue{Key: "vmfork.child", Value: "x"}, &types.OptionValue{Key: "guestinfo.a", Value: "y"})
		extra := b.extra(clone)
		if (extra["vmfork.child"] == "x") != (choice == "kept") || extra["guestinfo.a"] != "y" {
			b.Error(extra)
		}
	}},
	"instant_clone_folder": {version: "6.7", test: func(b *bed, choice string) {
		b.control(http.MethodPost, "inventory", map[string]any{"folders": []string{"/DC0/vm/f"}}, nil)
		folder := b.vm("f")
		b.expect("clone", b.clone(b.vm("DC0_H0_VM0"), types.VirtualMachineInstantCloneSpec{
			Name: "c", Location: types.VirtualMachineRelocateSpec{Folder: &folder},
		}), "")
		b.vm(map[string]string{"honoured": "f/c", "ignored": "c"}[choice])
	}},
	"instant_clone_device_changes": {version: "6.7", test: func(b *bed, choice string) {
		b.networks(map[string]any{"networks": []string{"Lab"}})
		source := b.vm("DC0_H0_VM0")
		card := *b.card(source)
		card.AddressType, card.MacAddress = "manual", "00:50:56:11:22:33"
		card.Connectable = &types.VirtualDeviceConnectInfo{}
		b.backed("Lab")(&card)
		b.expect("clone", b.clone(source, types.VirtualMachineInstantCloneSpec{
			Name: "c", Location: types.VirtualMachineRelocateSpec{DeviceChange: editOf(&card)},
		}), "")
		is, was := b.card(b.vm("c")), b.card(source)
		_, standard := is.Backing.(*types.VirtualEthernetCardNetworkBackingInfo)
		honoured := choice == "honoured"
		if (is.MacAddress == card.MacAddress) != honoured || is.Connectable.Connected == honoured || standard != honoured || is.MacAddress == was.MacAddress {
			b.Errorf("%+v", is)
		}
	}},
	"instant_clone_default_folder": {version: "6.7", test: func(b *bed, choice string) {
		b.control(http.MethodPost, "inventory", map[string]any{
			"folders": []string{"/DC0/vm/f"}, "vms": 1, "name": "source", "folder": "/DC0/vm/f", "power_on": true,
		}, nil)
		b.cloned(b.vm("f/source"), "c")
		b.vm(map[string]string{"root": "c", "source": "f/c"}[choice])
	}},
	"instant_clone_power_on_privilege": {version: "6.7", test: func(b *bed, choice string) {
		b.control(http.MethodPost, "inventory", map[string]any{"folders": []string{"/DC0/vm/f"}}, nil)
		source, folder := b.vm("DC0_H0_VM0"), b.vm("f")
		on := map[string]types.ManagedObjectReference{"source": source, "folder": folder}[choice]
		b.control(http.MethodPost, "users", map[string]any{"name": "low", "password": "low", "deny": []string{powerOn}, "deny_on": []string{on.Value}}, nil)
		res, err := methods.InstantClone_Task(b.ctx, b.login("low", "low").Client, &types.InstantClone_Task{This: source, Spec: types.VirtualMachineInstantCloneSpec{
			Name: "c", Location: types.VirtualMachineRelocateSpec{Folder: &folder},
		}})
		b.expect("clone", b.outcomeOf(res, err), "NoPermission")
	}},
	"instant_clone_events": {version: "6.7", test: func(b *bed, choice string) {
		clone := b.cloned(b.vm("DC0_H0_VM0"), "c")
		events, err := event.NewManager(b.client.Client).QueryEvents(b.ctx, types.EventFilterSpec{
			Entity: &types.EventFilterSpecByEntity{Entity: clone, Recursion: types.EventFilterSpecRecursionOptionSelf},
		})
		if err != nil {
			b.Fatal(err)
		}
		on := slices.ContainsFunc(events, func(e types.BaseEvent) bool { return eventName(e) == "VmPoweredOnEvent" })
		if on != (choice == "power-on") {
			b.Errorf("%d events, a power-on: %t", len(events), on)
		}
	}},
	"instant_clone_event": {version: "7.0.1.0", test: func(b *bed, choice string) {
		clone := b.cloned(b.vm("DC0_H0_VM0"), "c")
		events, err := event.NewManager(b.client.Client).QueryEvents(b.ctx, types.EventFilterSpec{
			Entity:      &types.EventFilterSpecByEntity{Entity: clone, Recursion: types.EventFilterSpecRecursionOptionSelf},
			EventTypeId: []string{instantCloned},
		})
		if err != nil {
			b.Fatal(err)
		}
		if (len(events) == 1) != (choice == "from-7.0.1") {
			b.Fatalf("%d events", len(events))
		}
		for _, e := range events {
			if posted := e.(*types.EventEx); posted.Arguments[0].Value != "DC0_H0_VM0" || posted.Vm.Vm != clone {
				b.Errorf("%+v", posted)
			}
		}
	}},
	"check_instant_clone_finds": {version: "6.7", test: func(b *bed, choice string) {
		result := b.check(b.vm("DC0_H0_VM0"), types.VirtualMachineInstantCloneSpec{Name: "DC0_C0_RP0_VM0"})
		if (len(result.Error) > 0) != (choice != "nothing") || (len(result.Warning) > 0) != (choice == "errors-and-warnings") {
			b.Errorf("%+v", result)
		}
	}},
	"chain_limit_text": {version: "6.7", test: func(b *bed, choice string) {
		source := b.vm("DC0_H0_VM0")
		b.control(http.MethodPatch, "vms/"+source.Value, map[string]any{"chain_limit": 1}, nil)
		b.cloned(source, "c1")
		got := b.expect("one too many", b.clone(source, types.VirtualMachineInstantCloneSpec{Name: "c2"}), "SystemError")
		if strings.Contains(got.message, "the maximum of 1 delta disks") != (choice == "shown") {
			b.Error(got.message)
		}
	}},
	"freeze_needs_root": {guests: true, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.enable(vm)
		b.untilReady(vm)
		c := b.sim.instances.of(vm).run
		answer := c.forkBegin(callOf("vmfork-begin -1 -1", 1000), []string{"-1", "-1"})
		if answer.OK != (choice == "no") {
			b.Errorf("%+v", answer)
		}
	}},
	"quiesced_elsewhere": {test: func(b *bed, choice string) {
		quiesced := b.read(b.vm("DC0_H0_VM0"), "runtime").Runtime.QuiescedForkParent
		if (quiesced != nil) != (choice == "false") || quiesced != nil && *quiesced {
			b.Errorf("%v", quiesced)
		}
	}},
	"frozen_guest_operations": {guests: true, test: func(b *bed, choice string) {
		parent := b.parent()
		ended := make(chan string)
		go func() {
			_, fault, _ := b.raw.guestCall("ListProcessesInGuest", parent, "root", "guest-pw", "")
			ended <- fault.kind()
		}()
		wait := patience
		if choice == "hang" {
			wait = 500 * time.Millisecond
		}
		select {
		case kind := <-ended:
			if kind != choice {
				b.Errorf("%s at once", kind)
			}
		case <-time.After(wait):
			if choice != "hang" {
				b.Error("no answer")
			}
			b.expect("off", b.rawLogin("user", "pass").task("PowerOffVM_Task", parent, ""), "")
			if kind := <-ended; kind != "GuestOperationsUnavailable" {
				b.Error(kind)
			}
		}
	}},
	"frozen_tools_status": {guests: true, test: func(b *bed, choice string) {
		want := map[string]string{"running": "guestToolsRunning", "not-running": "guestToolsNotRunning"}[choice]
		if got := b.read(b.parent(), "guest").Guest.ToolsRunningStatus; got != want {
			b.Error(got)
		}
	}},
	"unready_guest_operations": {guests: true, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.untilReady(vm)
		b.control(http.MethodPatch, "guests/"+vm.Value, map[string]any{"operations_ready": false}, nil)
		_, fault, err := b.raw.guestCall("ListProcessesInGuest", vm, "root", "guest-pw", "")
		if err != nil || fault.kind() != choice || strings.Contains(fault.String, "vix error codes = (3016, 0)") != (choice == "SystemError") {
			b.Errorf("%v %+v", err, fault)
		}
		b.control(http.MethodPatch, "guests/"+vm.Value, map[string]any{"operations_ready": true, "tools_running": false}, nil)
		if _, fault, _ := b.raw.guestCall("ListProcessesInGuest", vm, "root", "guest-pw", ""); fault.kind() != "GuestOperationsUnavailable" {
			b.Errorf("without Tools: %+v", fault)
		}
	}},
	"unseen_object": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		low := b.lowly(map[string]any{"deny": []string{systemView}, "deny_on": []string{vm.Value}})
		var seen mo.VirtualMachine
		err := property.DefaultCollector(low.Client).RetrieveOne(b.ctx, vm, []string{"name"}, &seen)
		if want := map[string]string{"missing-set": "NoPermission", "ManagedObjectNotFound": choice}[choice]; !strings.HasPrefix(faultName(err), want) {
			b.Errorf("%s (%v)", faultName(err), err)
		}
	}},
	"frozen_reconfigure": {guests: true, test: func(b *bed, choice string) {
		b.expect("reconfigure", b.raw.task("ReconfigVM_Task", b.parent(), "<spec><annotation>x</annotation></spec>"), faultOf(choice))
	}},
	"child_fork_group_id": {guests: true, test: func(b *bed, choice string) {
		child := b.child(b.parent(), "c", "")
		if group := b.read(child, "config").Config.ForkConfigInfo.ChildForkGroupId; (group != "") != (choice == "always") {
			b.Errorf("%q", group)
		}
	}},
	"persistent_child_group": {guests: true, test: func(b *bed, choice string) {
		_, child := b.persistent()
		if group := b.read(child, "config").Config.ForkConfigInfo.ChildForkGroupId; (group != "") != (choice == "kept") {
			b.Errorf("%q", group)
		}
	}},
	"persistent_children_listed": {guests: true, test: func(b *bed, choice string) {
		parent, _ := b.persistent()
		if got := b.raw.task("RetrieveForkChildren_Task", parent, ""); (got.result != nil) != (choice == "always") {
			b.Error(got.result)
		}
	}},
	"location_folder": {guests: true, test: func(b *bed, choice string) {
		parent := b.parent()
		b.control(http.MethodPost, "inventory", map[string]any{"folders": []string{"/DC0/vm/f"}}, nil)
		b.expect("create", b.create(parent, "c", `<location><folder type="Folder">`+b.vm("f").Value+`</folder></location><persistent>false</persistent>`), "")
		b.vm(map[string]string{"honoured": "f/c", "ignored": "c"}[choice])
	}},
	"create_result": {guests: true, test: func(b *bed, choice string) {
		if got := b.create(b.parent(), "c", ""); (got.result != nil) != (choice == "child") || got.fault != "" {
			b.Error(got.result)
		}
	}},
	"create_privilege": {guests: true, test: func(b *bed, choice string) {
		parent := b.parent()
		b.control(http.MethodPost, "users", map[string]any{"name": "low", "password": "low", "deny": []string{toggleForkParent}}, nil)
		got := b.rawLogin("low", "low").task("CreateForkChild_Task", parent, "<name>c</name><spec><persistent>false</persistent></spec>")
		b.expect("create", got, map[string]string{"ToggleForkParent": "NoPermission"}[choice])
	}},
	"retrieve_privilege": {test: func(b *bed, choice string) {
		b.control(http.MethodPost, "users", map[string]any{"name": "low", "password": "low", "deny": []string{toggleForkParent}}, nil)
		low := b.rawLogin("low", "low")
		for _, method := range []string{"RetrieveForkChildren_Task", "RetrieveForkParent_Task"} {
			got := low.task(method, b.vm("DC0_H0_VM0"), "")
			b.expect(method, got, map[string]string{"ToggleForkParent": "NoPermission"}[choice])
		}
	}},
	"children_result_empty": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.enable(vm)
		if got := b.raw.task("RetrieveForkChildren_Task", vm, ""); (got.result != nil) != (choice == "empty-list") {
			b.Error(got.result)
		}
	}},
	"children_of_non_parent": {test: func(b *bed, choice string) {
		b.expect("children", b.raw.task("RetrieveForkChildren_Task", b.vm("DC0_H0_VM0"), ""), faultOf(choice))
	}},
	"parent_of_non_child": {test: func(b *bed, choice string) {
		b.expect("parent", b.raw.task("RetrieveForkParent_Task", b.vm("DC0_H0_VM0"), ""), faultOf(choice))
	}},
	"config_params_visible": {guests: true, test: func(b *bed, choice string) {
		child := b.child(b.parent(), "c", `<persistent>false</persistent><configParams><key>k</key><value xsi:type="xsd:string">v</value></configParams>`)
		if _, shown := b.extra(child)["guestinfo.fork.k"]; shown != (choice == "extraConfig") {
			b.Error(b.extra(child))
		}
		b.expect("on", b.power(child, true), "")
		b.untilReady(child)
		if got := b.runIn(child, "vmtoolsd --cmd 'info-get guestinfo.fork.k'"); got != "v\n" {
			b.Errorf("the guest reads %q", got)
		}
	}},
	"change_version_race": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.inject(map[string]any{"method": "ReconfigVM_Task", "at": "task", "delay_ms": 200, "count": 2})
		spec := "<spec><changeVersion>" + b.read(vm, "config").Config.ChangeVersion + "</changeVersion><annotation>x</annotation></spec>"
		var started []types.ManagedObjectReference
		for range 2 {
			task, fault, err := b.raw.call("ReconfigVM_Task", vm.Type, vm.Value, spec)
			if err != nil || fault != nil {
				b.Fatal(fault, err)
			}
			started = append(started, types.ManagedObjectReference{Type: "Task", Value: task})
		}
		var faults []string
		for _, task := range started {
			faults = append(faults, b.ended(task).fault)
		}
		slices.Sort(faults)
		if want := map[string][]string{"one": {"", "ConcurrentAccess"}, "both": {"", ""}}[choice]; !slices.Equal(faults, want) {
			b.Errorf("%q", faults)
		}
	}},
	"change_version_power_on": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.expect("off", b.power(vm, false), "")
		before := b.read(vm, "config").Config.ChangeVersion
		b.expect("on", b.power(vm, true), "")
		if changed := b.read(vm, "config").Config.ChangeVersion != before; changed != (choice == "changed") {
			b.Errorf("changed: %t", changed)
		}
	}},
	"change_version_info_set": {guests: true, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		before := b.read(vm, "config").Config.ChangeVersion
		b.runIn(vm, "vmtoolsd --cmd 'info-set guestinfo.x 1'")
		if changed := b.read(vm, "config").Config.ChangeVersion != before; changed != (choice == "changed") {
			b.Errorf("changed: %t", changed)
		}
	}},
	"extra_config_inherited": {guests: true, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.expect("set", b.raw.task("ReconfigVM_Task", vm, `<spec><extraConfig xsi:type="OptionValue"><key>my.key</key><value xsi:type="xsd:string">v</value></extraConfig></spec>`), "")
		if got := b.extra(b.child(b.parent(), "c", ""))["my.key"]; (got == "v") != (choice == "yes") {
			b.Errorf("%q", got)
		}
	}},
	"guestinfo_inherited": {guests: true, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.enable(vm)
		b.freeze(vm, "vmware-rpctool 'info-set guestinfo.x before'; vmtoolsd --cmd 'vmfork-begin -1 -1'")
		b.expect("set later", b.raw.task("ReconfigVM_Task", vm, `<spec><extraConfig xsi:type="OptionValue"><key>guestinfo.x</key><value xsi:type="xsd:string">after</value></extraConfig></spec>`), "")
		want := map[string]string{"at-freeze": "before"}[choice]
		if got := b.extra(b.child(vm, "c", ""))["guestinfo.x"]; got != want {
			b.Errorf("%q", got)
		}
	}},
	"guestinfo_after_power_cycle": {guests: true, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		set := func(key, value string) {
			b.expect("set", b.raw.task("ReconfigVM_Task", vm, `<spec><extraConfig xsi:type="OptionValue"><key>`+key+`</key><value xsi:type="xsd:string">`+value+`</value></extraConfig></spec>`), "")
		}
		b.expect("off", b.power(vm, false), "")
		set("guestinfo.before", "v")
		b.expect("on", b.power(vm, true), "")
		b.untilReady(vm)
		b.runIn(vm, "vmtoolsd --cmd 'info-set guestinfo.guest v'")
		set("guestinfo.client", "v")
		set("my.key", "v")
		b.expect("off", b.power(vm, false), "")
		want := map[string]string{"guestinfo.before": "v", "my.key": "v"}
		if choice == "kept" {
			want["guestinfo.guest"], want["guestinfo.client"] = "v", "v"
		}
		extra := b.extra(vm)
		for _, key := range []string{"guestinfo.before", "guestinfo.guest", "guestinfo.client", "my.key"} {
			if extra[key] != want[key] {
				b.Errorf("%s is %q", key, extra[key])
			}
		}
	}},
	"child_reconfigure": {guests: true, test: func(b *bed, choice string) {
		child := b.child(b.parent(), "c", "")
		b.expect("reconfigure", b.raw.task("ReconfigVM_Task", child, "<spec><annotation>x</annotation></spec>"), faultOf(choice))
	}},
	"network_after_fork": {guests: true, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.enable(vm)
		b.freeze(vm, "hostname before; vmtoolsd --cmd 'vmfork-begin -1 -1'; hostname after; sleep 100")
		parents := b.until(vm, "the parent's last name", func(vm mo.VirtualMachine) bool { return vm.Guest.HostName == "before" }, "guest").Guest.IpAddress
		child := b.child(vm, "c", "")
		on := time.Now()
		b.expect("on", b.power(child, true), "")
		got := b.read(child, "guest").Guest.IpAddress
		late := choice == "late" || choice == "on-request"
		if late && time.Since(on) < lateReport && (got != parents || got == "") {
			b.Errorf("after power-on the address is %q", got)
		}
		b.eventually("the name in the guest", func() bool { return b.runIn(child, "hostname") == "after\n" })
		named := time.Now()
		b.until(child, "the report", func(vm mo.VirtualMachine) bool { return vm.Guest.HostName == "after" }, "guest")
		if took := time.Since(on); late && took < lateReport {
			b.Errorf("the report came %v after the power-on", took)
		}
		if took := time.Since(named); !late && took >= lateReport {
			b.Errorf("the report came %v after the name", took)
		}
		b.inGuest(child, "hostname asked; vmware-toolbox-cmd info update network")
		if got := b.read(child, "guest").Guest.HostName; got != map[string]string{"late": "after"}[choice] && got != "asked" {
			b.Errorf("after the guest asked for a report the name is %q", got)
		}
		b.until(child, "the report that was asked for", func(vm mo.VirtualMachine) bool { return vm.Guest.HostName == "asked" }, "guest")
	}},
	"child_disk_backing": {guests: true, test: func(b *bed, choice string) {
		backing := func(vm types.ManagedObjectReference) *types.VirtualDiskFlatVer2BackingInfo {
			disks := object.VirtualDeviceList(b.read(vm, "config.hardware").Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil))
			return disks[0].(*types.VirtualDisk).Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		}
		parent := b.parent()
		base, own := backing(parent), backing(b.child(parent, "c", ""))
		linked := own.Parent != nil && own.Parent.FileName == base.FileName
		if own.FileName == base.FileName || linked != (choice == "linked") || own.Parent != nil != linked {
			b.Errorf("%+v of %+v", own, base)
		}
	}},
	"nonpersistent_power_off": {guests: true, test: func(b *bed, choice string) {
		child := b.child(b.parent(), "c", "")
		b.expect("on", b.power(child, true), "")
		b.expect("off", b.power(child, false), "")
		b.eventually("the child's fate", func() bool {
			_, there := b.sim.names.find(b.sim.vmFolder().Self, "c")
			return there == (choice == "kept")
		})
	}},
	"nonpersistent_power_on_again": {guests: true, test: func(b *bed, choice string) {
		child := b.child(b.parent(), "c", "")
		b.expect("on", b.power(child, true), "")
		b.expect("off", b.power(child, false), "")
		b.expect("on again", b.power(child, true), map[string]string{"InvalidState": "InvalidState"}[choice])
	}},
	"instant_clone_vtpm_fault": {version: "8.0.3.0", test: func(b *bed, choice string) {
		source := b.vm("DC0_H0_VM0")
		b.fit(source, &types.VirtualTPM{VirtualDevice: types.VirtualDevice{Key: 11000}})
		b.expect("clone", b.clone(source, types.VirtualMachineInstantCloneSpec{Name: "c"}), choice)
	}},
	"names_differing_in_case": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		index, folder := object.NewSearchIndex(b.client.Client), b.sim.vmFolder().Self
		found, err := index.FindChild(b.ctx, folder, "dc0_h0_vm0")
		if err != nil || (found != nil && found.Reference() == vm) != (choice == "same") {
			b.Error(found, err)
		}
		rename := func(name string) outcome {
			return b.raw.task("Rename_Task", b.vm("DC0_C0_RP0_VM0"), "<newName>"+name+"</newName>")
		}
		b.expect("another VM's name", rename("DC0_h0_VM0"), map[string]string{"same": "DuplicateName"}[choice])
		if choice == "same" {
			b.expect("its own name", rename("dc0_C0_RP0_VM0"), "")
		}
		if found, err := index.FindChild(b.ctx, folder, "DC0_H0_VM0"); err != nil || found == nil || found.Reference() != vm {
			b.Error(found, err)
		}
	}},
	"clone_inherits_fork_group": {guests: true, test: func(b *bed, choice string) {
		child := b.child(b.parent(), "c", "")
		folder := b.sim.vmFolder().Self.Value
		b.expect("clone", b.raw.task("CloneVM_Task", child, `<folder type="Folder">`+folder+`</folder><name>d</name><spec><location></location><powerOn>false</powerOn><template>false</template></spec>`), "")
		info := b.read(b.vm("d"), "config").Config.ForkConfigInfo
		if (info != nil && info.ChildForkGroupId != "") != (choice == "yes") {
			b.Errorf("%+v", info)
		}
	}},
	"guest_rpc_auth": {guests: true, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.untilReady(vm)
		b.setExtra(vm, "guest_rpc.rpci.auth.cmd.info-get", "TRUE")
		for uid, denied := range map[int]bool{0: choice == "everybody", 1000: true} {
			answer := b.sim.instances.of(vm).run.Call(callOf("info-get guestinfo.x", uid))
			if answer.OK || (answer.Text == "Permission denied") != denied {
				b.Errorf("uid %d: %+v", uid, answer)
			}
		}
	}},
	"ovfenv_vapp_properties": {test: func(b *bed, choice string) {
		_, web, _ := b.shop()
		b.cycled(web)
		if own, _ := b.parsed(b.seen(web)); (own["realm"] != "") != (choice == "included") {
			b.Error(own)
		}
	}},
	"password_edited_empty": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.setVApp(vm, options(prop(1, "p", "password", "planted-secret-value")))
		b.setVApp(vm, &types.VmConfigSpec{Property: []types.VAppPropertySpec{edit(b.vApp(vm).Property[0])}})
		b.cycled(vm)
		if own, _ := b.parsed(b.seen(vm)); (own["p"] == "") != (choice == "cleared") {
			b.Error(own)
		}
	}},
	"vapp_values_checked": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		fault := map[string]string{"yes": "InvalidPropertyValue", "no": ""}[choice]
		b.reconfigure(vm, types.VirtualMachineConfigSpec{VAppConfig: options(prop(1, "a", "int", "x"))}, fault)
	}},
	"vapp_made_configurable": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.setVApp(vm, options(prop(1, "a", "string", "", byDefault("x"), func(p *types.VAppPropertyInfo) { p.UserConfigurable = nil })))
		made := types.VAppPropertyInfo{Key: 1, Value: "y", UserConfigurable: types.NewBool(true)}
		fault := map[string]string{"refused": "NotUserConfigurableProperty", "accepted": ""}[choice]
		b.reconfigure(vm, types.VirtualMachineConfigSpec{VAppConfig: &types.VmConfigSpec{Property: []types.VAppPropertySpec{edit(made)}}}, fault)
	}},
	"vapp_fixed_value_added": {test: func(b *bed, choice string) {
		fixed := prop(1, "a", "string", "x", func(p *types.VAppPropertyInfo) { p.UserConfigurable = types.NewBool(false) })
		fault := map[string]string{"refused": "NotUserConfigurableProperty", "accepted": ""}[choice]
		b.reconfigure(b.vm("DC0_H0_VM0"), types.VirtualMachineConfigSpec{VAppConfig: options(fixed)}, fault)
	}},
	"vapp_edit_left_out": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.setVApp(vm, options(prop(1, "a", "string", "x", byDefault("d"))))
		b.setVApp(vm, &types.VmConfigSpec{Property: []types.VAppPropertySpec{edit(types.VAppPropertyInfo{Key: 1, Value: "x", UserConfigurable: types.NewBool(true)})}})
		if got := b.vApp(vm).Property[0].DefaultValue; (got == "d") != (choice == "kept") {
			b.Error(got)
		}
	}},
	"vapp_change_while_on": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		fault := map[string]string{"InvalidPowerState": "InvalidPowerState", "accepted": ""}[choice]
		b.reconfigure(vm, types.VirtualMachineConfigSpec{VAppConfig: options()}, fault)
	}},
	"child_vapp_config": {guests: true, test: func(b *bed, choice string) {
		b.setVApp(b.vm("DC0_H0_VM0"), options())
		if got := b.vApp(b.child(b.parent(), "c", "")); (got != nil) != (choice == "copied") {
			b.Errorf("%+v", got)
		}
	}},
	"extract_after_host_start": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.setVApp(vm, options(prop(1, "a", "string", "first")))
		b.cycled(vm)
		b.setVApp(vm, &types.VmConfigSpec{Property: []types.VAppPropertySpec{edit(types.VAppPropertyInfo{Key: 1, Value: "second"})}})
		b.startedBy(vm, fromHA)
		got := b.extract(vm)
		if choice == "empty" {
			if got != "" {
				b.Error(got)
			}
		} else if own, _ := b.parsed(got); own["a"] != map[string]string{"stale": "first", "regenerated": "second"}[choice] {
			b.Error(got)
		}
		if b.seen(vm) != "" {
			b.Error("the guest has it")
		}
	}},
	"extract_reflects_edits": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.setVApp(vm, options(prop(1, "a", "string", "first")))
		b.cycled(vm)
		b.setVApp(vm, &types.VmConfigSpec{Property: []types.VAppPropertySpec{edit(types.VAppPropertyInfo{Key: 1, Value: "second"})}})
		if own, _ := b.parsed(b.extract(vm)); own["a"] != map[string]string{"no": "first", "yes": "second"}[choice] {
			b.Error(own)
		}
	}},
	"computed_after_host_start": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.setVApp(vm, options(prop(1, "n", "expression", "", byDefault("${net:Lab}"))))
		b.cycled(vm)
		b.startedBy(vm, fromESXi)
		if got := b.values(vm)["n"]; got != map[string]string{"empty": "", "kept": "Lab"}[choice] {
			b.Error(got)
		}
	}},
	"computed_address_disabled": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.expect("off", b.power(vm, false), "")
		spec := options(prop(1, "ip0", "ip:Lab", ""))
		spec.IpAssignment = &types.VAppIPAssignmentInfo{IpAllocationPolicy: "transientPolicy"}
		b.setVApp(vm, spec)
		pool := b.profile("Lab", "192.0.2")
		pool.Ipv4Config.IpPoolEnabled = types.NewBool(false)
		b.update(pool)
		b.expect("not enabled", b.power(vm, true), choice)
		pool.Ipv4Config.IpPoolEnabled = types.NewBool(true)
		b.update(pool)
		b.expect("enabled", b.power(vm, true), "")
	}},
	"iso_after_host_start": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.setVApp(vm, &types.VmConfigSpec{OvfEnvironmentTransport: []string{byISO}})
		b.cycled(vm)
		b.startedBy(vm, fromESXi)
		drive := imageDrive(b.read(vm, "config.hardware").Config.Hardware.Device)
		if isClientDevice(drive) != (choice == "gone") || b.guestView(vm).OVFEnv.ISO != (choice == "stays") {
			b.Errorf("%+v", drive.Backing)
		}
	}},
	"ovfenv_after_vmotion": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_C0_RP0_VM0")
		b.setVApp(vm, options())
		b.cycled(vm)
		other := b.otherHost(*b.read(vm, "runtime").Runtime.Host)
		b.expect("move", b.raw.task("RelocateVM_Task", vm, `<spec><host type="HostSystem">`+other.Value+`</host></spec>`), "")
		if (b.seen(vm) != "") != (choice == "kept") {
			b.Error(b.seen(vm))
		}
	}},
	"ovfenv_after_host_start": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.setVApp(vm, options())
		b.startedBy(vm, fromESXi)
		for range 2 {
			b.cycled(vm)
			if (b.seen(vm) != "") != (choice == "delivered") {
				b.Error(b.seen(vm))
			}
		}
		b.setVApp(vm, &types.VmConfigSpec{})
		b.cycled(vm)
		if b.seen(vm) == "" {
			b.Error("not there after a reconfigure")
		}
	}},
	"ovfenv_after_resume": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.setVApp(vm, options())
		b.cycled(vm)
		b.expect("suspend", b.raw.task("SuspendVM_Task", vm, ""), "")
		b.expect("resume", b.power(vm, true), "")
		if (b.seen(vm) != "") != (choice == "kept") {
			b.Error(b.seen(vm))
		}
	}},
	"ovfenv_after_power_cycle_reboot": {guests: true, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.setVApp(vm, options())
		b.cycled(vm)
		for _, setting := range []string{"FALSE", "TRUE"} {
			b.setExtra(vm, "vmx.reboot.powerCycle", setting)
			b.untilReady(vm)
			if _, fault, err := b.raw.call("RebootGuest", vm.Type, vm.Value, ""); err != nil || fault != nil {
				b.Fatal(err, fault)
			}
			if (b.seen(vm) != "") != (setting == "FALSE" || choice == "kept") {
				b.Errorf("%s: %s", setting, b.seen(vm))
			}
		}
		if got := b.extra(vm)["vmx.reboot.powerCycle"]; got != "" {
			b.Errorf("it holds for more than one reboot: %s", got)
		}
	}},
	"driver_mac_after_fork": {guests: true, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		if code := b.control(http.MethodPatch, "guests/"+vm.Value, map[string]any{"interfaces": []string{"ens192"}}, nil); code != 200 {
			b.Fatal(code)
		}
		b.expect("off", b.power(vm, false), "")
		b.expect("on", b.power(vm, true), "")
		b.untilReady(vm)
		b.enable(vm)
		b.freeze(vm, "vmtoolsd --cmd 'vmfork-begin -1 -1'; hostname after; sleep 100")
		child := b.child(vm, "c", "")
		b.expect("on", b.power(child, true), "")
		b.eventually("the name in the guest", func() bool { return b.runIn(child, "hostname") == "after\n" })
		mac := map[string]string{"parent": b.card(vm).MacAddress, "own": b.card(child).MacAddress}[choice]
		b.inGuest(child, "grep -qx "+mac+" /sys/class/net/ens192/address; vmware-toolbox-cmd info update network")
		b.untilNet(child, "the MAC that the driver knows", func(net types.GuestNicInfo) bool {
			return net.MacAddress == mac && (net.DeviceConfigId == firstCard) == (choice == "own")
		})
		b.inGuest(child, "modprobe -r vmxnet3; modprobe vmxnet3; ip link set ens192 up; dhclient -1 ens192")
		b.untilNet(child, "an address of its own", func(net types.GuestNicInfo) bool {
			return net.MacAddress == b.card(child).MacAddress && net.DeviceConfigId == firstCard && slices.Contains(net.IpAddress, strings.Split(leaseOf(net.MacAddress), "/")[0])
		})
	}},
	"stale_mac_report": {guests: true, test: func(b *bed, choice string) {
		child := b.child(b.parent(), "c", "")
		b.expect("on", b.power(child, true), "")
		b.untilReady(child)
		b.inGuest(child, "hostname after; vmware-toolbox-cmd info update network")
		shown := map[string]int{"as-seen": 1, "omitted": 0}[choice]
		b.until(child, "the report", func(vm mo.VirtualMachine) bool { return vm.Guest.HostName == "after" && len(vm.Guest.Net) == shown }, "guest")
	}},
	"mac_change_while_on": {guests: true, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.untilReady(vm)
		got := b.editCard(vm, func(card *types.VirtualVmxnet3) { card.AddressType, card.MacAddress = "manual", "00:50:56:11:22:33" })
		b.expect("edit", got, map[string]string{"InvalidPowerState": "InvalidPowerState"}[choice])
		if choice == "applied" {
			b.inGuest(vm, "rmmod vmxnet3; modprobe vmxnet3; grep -qx 00:50:56:11:22:33 /sys/class/net/eth0/address")
		}
	}},
	"mac_conflict": {test: func(b *bed, choice string) {
		first, second := b.vm("DC0_H0_VM0"), b.vm("DC0_C0_RP0_VM0")
		for _, vm := range []types.ManagedObjectReference{first, second} {
			b.expect("off", b.power(vm, false), "")
		}
		manual := func(card *types.VirtualVmxnet3) { card.AddressType, card.MacAddress = "manual", "00:50:56:01:02:03" }
		b.expect("first", b.editCard(first, manual), "")
		b.expect("second", b.editCard(second, manual), map[string]string{"refused": "InvalidDeviceSpec"}[choice])
		seen := func() bool {
			return slices.ContainsFunc(b.events(eventsOf(second)), func(event types.BaseEvent) bool {
				conflict, ok := event.(*types.VmMacConflictEvent)
				return ok && conflict.ConflictedVm.Vm == first && conflict.Mac == "00:50:56:01:02:03"
			})
		}
		if choice == "refused" {
			if seen() {
				b.Error("the conflict of an adapter that was refused is logged")
			}
			return
		}
		b.eventually("the event", seen)
	}},
	"child_of_vapp_member": {version: "8.0.3.0", test: func(b *bed, choice string) {
		vApp, web, _ := b.shop()
		b.expect("on", b.power(web, true), "")
		child := b.expect("clone", b.clone(web, types.VirtualMachineInstantCloneSpec{Name: "child"}), "").result.(types.ManagedObjectReference)
		above := b.read(child, "parentVApp").ParentVApp
		if (above != nil && *above == vApp.Reference()) != (choice == "vapp") || (above == nil) != (choice == "pool") {
			b.Error(above)
		}
	}},
	"opaque_network_backing": {version: "8.0.3.0", opaque: 1, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		var segment string
		b.expect("edit", b.editCard(vm, func(card *types.VirtualVmxnet3) {
			b.backed("DC0_NSX0")(card)
			segment = card.Backing.(*types.VirtualEthernetCardOpaqueNetworkBackingInfo).OpaqueNetworkId
		}), "")
		child := b.expect("clone", b.clone(vm, types.VirtualMachineInstantCloneSpec{Name: "child"}), "").result.(types.ManagedObjectReference)
		b.expect("note", b.change(child, nil), "")
		for _, vm := range []types.ManagedObjectReference{vm, child} {
			b.onSegment(vm, segment, choice)
		}
	}},
	"reserved_macs": {version: "8.0.3.0", test: func(b *bed, choice string) {
		vm, source := b.vm("DC0_H0_VM0"), b.vm("DC0_C0_RP0_VM0")
		card := b.card(source)
		card.AddressType, card.MacAddress = "manual", "00:0c:29:01:02:03"
		spec := types.VirtualMachineInstantCloneSpec{Name: "c", Location: types.VirtualMachineRelocateSpec{DeviceChange: editOf(card)}}
		b.expect("clone", b.clone(source, spec), "GenericVmConfigFault")
		b.expect("off", b.power(vm, false), "")
		edited := b.editCard(vm, func(card *types.VirtualVmxnet3) { card.AddressType, card.MacAddress = "manual", "00:50:56:40:00:00" })
		b.expect("edit", edited, map[string]string{"at-configuration": "GenericVmConfigFault"}[choice])
		b.expect("on", b.power(vm, true), map[string]string{"at-power-on": "GenericVmConfigFault"}[choice])
	}},
	"instant_clone_devices": {version: "8.0.3.0", test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		disk := object.VirtualDeviceList(b.read(vm, "config.hardware").Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil))[0]
		b.expect("clone", b.clone(vm, types.VirtualMachineInstantCloneSpec{Name: "c", Location: types.VirtualMachineRelocateSpec{DeviceChange: editOf(disk)}}), choice)
	}},
	"no_free_port": {test: func(b *bed, choice string) {
		b.networks(map[string]any{"port_groups": []map[string]any{{"name": "None", "ports": 0}}})
		b.expect("move", b.editCard(b.vm("DC0_H0_VM0"), b.backed("None")), choice)
	}},
	"unknown_method_fault": {version: "8.0.3.0", test: func(b *bed, choice string) {
		b.expect("enable", b.raw.task("EnableForkParent_Task", b.vm("DC0_H0_VM0"), ""), choice)
	}},
	"newer_soap_version": {test: func(b *bed, choice string) {
		client := b.rawLogin("user", "pass")
		client.action = "urn:vim25/8.0.3.0"
		_, fault, err := client.call("CurrentTime", "ServiceInstance", "ServiceInstance", "")
		if err != nil || (fault == nil) != (choice == "served") {
			b.Errorf("%v %+v", err, fault)
		}
	}},
	"transfer_url_host": {guests: true, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.untilReady(vm)
		address, fault, err := b.raw.guestCall("InitiateFileTransferToGuest", vm, "root", "guest-pw",
			`<guestFilePath>/tmp/x</guestFilePath><fileAttributes></fileAttributes><fileSize>1</fileSize><overwrite>true</overwrite>`)
		want := map[string]string{"address": "https://127.0.0.1:", "asterisk": "https://*:", "inventory-name": "https://DC0_H0:"}[choice]
		if err != nil || fault != nil || !strings.HasPrefix(address, want) {
			b.Errorf("%v %v %s", err, fault, address)
		}
	}},
	"info_set_empty": {guests: true, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.untilReady(vm)
		b.inGuest(vm, "vmtoolsd --cmd 'info-set guestinfo.x y'")
		status := b.inGuest(vm, "vmtoolsd --cmd 'info-set guestinfo.x ' >/dev/null 2>&1; echo $?")
		if value := b.extra(vm)["guestinfo.x"]; status != map[string]string{"refused": "1", "accepted": "0"}[choice] || value != map[string]string{"refused": "y"}[choice] {
			b.Errorf("exit code %s, and the value is %q", status, value)
		}
		b.inGuest(vm, "vmware-rpctool 'info-set guestinfo.x  '")
		if value := b.extra(vm)["guestinfo.x"]; value != " " {
			b.Errorf("the blank is %q", value)
		}
		b.setExtra(vm, "isolation.tools.setinfo.disable", "true")
		b.inGuest(vm, "! vmtoolsd --cmd 'info-set guestinfo.x z' && vmtoolsd --cmd 'info-get guestinfo.x'")
	}},
	"guestinfo_limit": {guests: true, test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.untilReady(vm)
		c := b.sim.instances.of(vm).run
		limit, _ := strconv.Atoi(choice)
		message := "info-set guestinfo.long " + strings.Repeat("x", limit)
		for length, ok := range map[int]bool{limit: true, limit + 1: false} {
			if answer := c.Call(callOf(message[:length], 0)); answer.OK != ok {
				b.Errorf("%d bytes: %+v", length, answer)
			}
		}
	}},
	"drs_power_on_event": {version: "6.5", test: func(b *bed, choice string) {
		want := map[string]string{"from-6.5": "DrsVmPoweredOnEvent", "always": "DrsVmPoweredOnEvent", "never": "VmPoweredOnEvent"}[choice]
		b.lastEvent(b.vm("DC0_C0_RP0_VM0"), map[string]any{"origin": "vcenter"}, want+" by user")
		b.lastEvent(b.vm("DC0_H0_VM0"), map[string]any{"origin": "vcenter"}, "VmPoweredOnEvent by user")
	}},
	"host_client_user": {test: func(b *bed, choice string) {
		want := map[string]string{"session": "dcui", "vpxuser": "vpxuser"}[choice]
		b.lastEvent(b.vm("DC0_H0_VM0"), map[string]any{"origin": "esxi", "user": "dcui"}, "VmPoweredOnEvent by "+want)
	}},
	"ha_event": {test: func(b *bed, choice string) {
		want := map[string]string{"EventEx": restartedByHA}[choice]
		if want == "" {
			want = choice
		}
		b.lastEvent(b.vm("DC0_C0_RP0_VM0"), map[string]any{"origin": "ha"}, want+" by ")
	}},
	"multi_power_on_chain": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.expect("off", b.power(vm, false), "")
		b.forget()
		b.powerOnMulti(vm, "")
		got := chains(b.events(types.EventFilterSpec{}))
		if want := map[string]int{"shared": 1, "own": 2}[choice]; len(got) != want {
			b.Error(got)
		}
	}},
	"resume_events": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.expect("suspend", b.raw.task("SuspendVM_Task", vm, ""), "")
		b.forget()
		b.expect("resume", b.power(vm, true), "")
		got := fmt.Sprint(chains(b.events(eventsOf(vm))))
		if !strings.Contains(got, "VmResumingEvent") || strings.Contains(got, "VmPoweredOnEvent") != (choice == "resuming-and-powered-on") {
			b.Error(got)
		}
	}},
	"event_type_and_id": {test: func(b *bed, choice string) {
		_, fault := b.collector(types.EventFilterSpec{Type: []string{"VmPoweredOnEvent"}, EventTypeId: []string{restartedByHA}})
		if want := map[string]string{"InvalidArgument": "InvalidArgument"}[choice]; fault != want {
			b.Errorf("%q", fault)
		}
	}},
	"event_type_subclasses": {test: func(b *bed, choice string) {
		got := b.events(types.EventFilterSpec{Type: []string{"VmPoweredOnEvent"}})
		if want := map[string]int{"included": 2, "excluded": 1}[choice]; len(got) != want { // one VM is in a cluster with DRS
			b.Error(chains(got))
		}
	}},
	"required_property_types": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.expect("off", b.power(vm, false), "")
		b.setVApp(vm, options(prop(1, "name", "string(1..)", "")))
		b.expect("on", b.power(vm, true), map[string]string{"all": "InvalidPropertyValue"}[choice])
	}},
	"check_power_on_properties": {version: "6.7", test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.expect("off", b.power(vm, false), "")
		b.setVApp(vm, options(prop(1, "g", "expression", "", byDefault("${gateway:Lab}"))))
		got, _ := b.checked(types.CheckPowerOn_Task{Vm: vm, Host: b.read(vm, "runtime.host").Runtime.Host})
		if want := map[string]string{"reported": "[MissingNetworkIpConfig]", "ignored": "[]"}[choice]; fmt.Sprint(got["DC0_H0"]) != want {
			b.Errorf("%v, want %s", got, want)
		}
		b.profile("Lab", "192.0.2")
		if got, _ := b.checked(types.CheckPowerOn_Task{Vm: vm, Host: b.read(vm, "runtime.host").Runtime.Host}); len(got["DC0_H0"]) != 0 {
			b.Errorf("with a profile: %v", got)
		}
	}},
	"check_power_on_running": {version: "6.7", test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		check := func() string {
			got, _ := b.checked(types.CheckPowerOn_Task{Vm: vm, Host: b.read(vm, "runtime.host").Runtime.Host})
			return fmt.Sprint(got["DC0_H0"])
		}
		if got, want := check(), map[string]string{"InvalidPowerState": "[InvalidPowerState]", "ignored": "[]"}[choice]; got != want {
			b.Errorf("%s, want %s", got, want)
		}
		b.expect("off", b.power(vm, false), "")
		if got := check(); got != "[]" {
			b.Errorf("powered off: %s", got)
		}
	}},
	"events_of_disconnected_host": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.expect("off", b.power(vm, false), "")
		b.forget()
		host := object.NewHostSystem(b.client.Client, *b.read(vm, "runtime.host").Runtime.Host)
		connect := func(task *object.Task, err error) {
			if err != nil {
				b.Fatal(err)
			}
			b.expect("connect", b.ended(task.Reference()), "")
		}
		connect(host.Disconnect(b.ctx))
		b.powerOnBy(vm, map[string]any{"origin": "esxi"})
		if got := b.events(eventsOf(vm)); len(got) != 0 {
			b.Errorf("while it is disconnected: %v", chains(got))
		}
		before := time.Now()
		connect(host.Reconnect(b.ctx, nil, nil))
		got := b.events(eventsOf(vm))
		if want := map[string]string{"late": "[[VmStartingEvent by root VmPoweredOnEvent by root]]", "lost": "[]"}[choice]; fmt.Sprint(chains(got)) != want {
			b.Errorf("%v, want %s", chains(got), want)
		}
		for _, event := range got {
			if event.GetEvent().CreatedTime.Before(before) {
				b.Errorf("%+v", event)
			}
		}
	}},
	"event_page_limit": {test: func(b *bed, choice string) {
		collector, _ := b.collector(types.EventFilterSpec{})
		_, err := collector.ReadNextEvents(b.ctx, 1001)
		if want := map[string]string{"InvalidArgument": "InvalidArgument"}[choice]; faultName(err) != want {
			b.Error(err)
		}
	}},
	"hidden_methods_over_soap": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		b.expect("SOAP", b.raw.task("EnableForkParent_Task", vm, ""), map[string]string{"unknown": "InvalidRequest"}[choice])
		b.expect("MOB", b.mob("user", "pass").task(vm.Value, "enableForkParent"), map[string]string{"known": "InvalidState"}[choice])
	}},
	"mob": {test: func(b *bed, choice string) {
		page := b.mob("user", "pass").get("/mob/?moid=ServiceInstance&method=retrieveContent")
		want := map[string]int{"off": http.StatusNotFound}[choice]
		if want == 0 {
			want = http.StatusOK
		}
		login := strings.Contains(page.text, `<form id="loginForm"`)
		if page.status != want || (page.nonce() != "") != (choice == "on") || login != (choice == "login-page" || choice == "redirect") {
			b.Error(page.status, page.text)
		}
	}},
	"mob_off_answer": {test: func(b *bed, choice string) {
		b.rule("mob", "off")
		if page := b.mob("user", "pass").get("/mob/"); strconv.Itoa(page.status) != choice || !strings.Contains(page.text, choice) {
			b.Error(page.status, page.text)
		}
	}},
	"mob_nonce": {test: func(b *bed, choice string) {
		page := b.mob("user", "pass").do(http.MethodPost, methodPath(b.vm("DC0_H0_VM0").Value, "powerOff"), url.Values{})
		if (page.status == http.StatusOK) != (choice == "absent") || (page.result() != "") != (choice == "absent") {
			b.Error(page.status, page.text)
		}
	}},
	"mob_wrong_nonce": {test: func(b *bed, choice string) {
		c, path := b.mob("user", "pass"), methodPath(b.vm("DC0_H0_VM0").Value, "powerOff")
		for _, nonce := range []url.Values{{}, {"vmware-session-nonce": {""}}, {"vmware-session-nonce": {"wrong"}}} {
			page := c.do(http.MethodPost, path, nonce)
			if (page.status == http.StatusForbidden) != (choice == "403") || (page.nonce() != "") != (choice == "form") || page.result() != "" {
				b.Errorf("%v: %d %s", nonce, page.status, page.text)
			}
		}
		if n := b.calls().Methods["mob:PowerOffVM_Task"]; n != 0 {
			b.Errorf("called %d times", n)
		}
	}},
	"mob_undeclared_prefixes": {test: func(b *bed, choice string) {
		got := b.mob("user", "pass").task(b.vm("DC0_H0_VM0").Value, "reconfigure", "spec", reconfigureNote(` xsi:type="xsd:string"`))
		b.expect("xsd", got, map[string]string{"xsi": "InvalidRequest"}[choice])
	}},
	"mob_untyped_value": {test: func(b *bed, choice string) {
		vm := b.vm("DC0_H0_VM0")
		got := b.mob("user", "pass").task(vm.Value, "reconfigure", "spec", reconfigureNote(""))
		b.expect("untyped", got, map[string]string{"refused": "InvalidRequest"}[choice])
		if (b.extra(vm)["note"] == "x") != (choice == "string") {
			b.Error(b.extra(vm))
		}
	}},
	"mob_bad_parameter": {test: func(b *bed, choice string) {
		b.expect("empty", b.mob("user", "pass").task(b.vm("DC0_H0_VM0").Value, "reconfigure"), choice)
	}},
	"mob_fault_page": {test: func(b *bed, choice string) {
		b.control(http.MethodPost, "faults", map[string]any{"method": "PowerOnVM_Task", "fault": "InvalidPowerState"}, nil)
		page := b.mob("user", "pass").invoke(b.vm("DC0_H0_VM0").Value, "powerOn")
		if (page.status == http.StatusOK) != (choice == "result") || (page.result() == "") != (choice == "error-page") ||
			!strings.Contains(page.text, "InvalidPowerState") || page.message() == "" {
			b.Error(page.status, page.text)
		}
	}},
	"mob_not_found": {test: func(b *bed, choice string) {
		c := b.mob("user", "pass")
		for path, fault := range map[string]string{
			"/mob/?moid=vm-99999": "ManagedObjectNotFound", methodPath(b.vm("DC0_H0_VM0").Value, "explode"): "MethodNotFound",
		} {
			page := c.get(path)
			if (page.status == http.StatusNotFound) != (choice == "404") || strings.Contains(page.text, fault) != (choice == "fault") {
				b.Error(page.status, page.text)
			}
		}
	}},
}

// reconfigureNote sets an extraConfig key.
func reconfigureNote(valueAttributes string) string {
	return "<spec><extraConfig><key>note</key><value" + valueAttributes + ">x</value></extraConfig></spec>"
}

// faultOf returns the fault of a choice that is named after one.
func faultOf(choice string) string {
	if choice == "InvalidState" {
		return choice
	}
	return ""
}

func TestEveryRuleBothWays(t *testing.T) {
	for _, rule := range rules.Table {
		if len(rule.Choices) == 1 { // the tests of the methods cover it
			continue
		}
		tested, ok := ruleTests[rule.Name]
		if !ok {
			t.Errorf("rule %s has no test", rule.Name)
			continue
		}
		for _, choice := range rule.Choices {
			t.Run(rule.Name+"/"+choice, func(t *testing.T) {
				t.Parallel()
				b := start(t, func(o *Options) {
					if tested.guests {
						o.Guest = "ns"
					}
					if tested.version != "" {
						o.APIVersion = tested.version
					}
					o.Opaque = tested.opaque
				})
				b.rule(rule.Name, choice)
				tested.test(b, choice)
			})
		}
	}
	for name := range ruleTests {
		if !slices.ContainsFunc(rules.Table, func(rule rules.Rule) bool { return rule.Name == name }) {
			t.Errorf("rule %s is tested and does not exist", name)
		}
	}
}

// TestEveryRuleHasASourceOrASwitch checks that every assumption can be
// reversed.
func TestEveryRuleHasASourceOrASwitch(t *testing.T) {
	seen := map[string]bool{}
	for _, rule := range rules.Table {
		choices := map[string]bool{}
		for _, choice := range rule.Choices {
			choices[choice] = true
		}
		switch {
		case seen[rule.Name]:
			t.Errorf("rule %s is there twice", rule.Name)
		case strings.TrimSpace(rule.Source) == "" || strings.TrimSpace(rule.Statement) == "":
			t.Errorf("rule %s has no source or statement", rule.Name)
		case len(choices) == 0 || len(choices) != len(rule.Choices):
			t.Errorf("rule %s has the choices %q", rule.Name, rule.Choices)
		case strings.Contains(rule.Source, rules.Assumption) && len(choices) < 2:
			t.Errorf("rule %s is an assumption and has no switch", rule.Name)
		}
		seen[rule.Name] = true
	}
}

func TestRulesOverControl(t *testing.T) {
	b := start(t)
	var list []rules.Rule
	b.control(http.MethodGet, "rules", nil, &list)
	if len(list) != len(rules.Table) || list[0].Name == "" || list[0].Value != list[0].Default {
		t.Errorf("%+v", list)
	}
	if status := b.control(http.MethodPut, "rules/enable_twice", map[string]string{"value": "maybe"}, nil); status != http.StatusBadRequest {
		t.Error(status)
	}
	if status := b.control(http.MethodPut, "rules/no_such_rule", map[string]string{"value": "x"}, nil); status != http.StatusNotFound {
		t.Error(status)
	}
	b.rule("enable_twice", "success")
	b.control(http.MethodDelete, "rules", nil, &list)
	for _, rule := range list {
		if rule.Value != rule.Default {
			t.Errorf("%s is %s after the reset", rule.Name, rule.Value)
		}
	}
}

// onSegment checks how an adapter on an opaque network is shown.
func (b *bed) onSegment(vm types.ManagedObjectReference, segment, choice string) {
	b.Helper()
	switch backing := b.card(vm).Backing.(type) {
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		group := b.sim.registry().Get(types.ManagedObjectReference{Type: portGroupType, Value: backing.Port.PortgroupKey})
		if choice != "port-group" || group.(*simulator.DistributedVirtualPortgroup).Config.LogicalSwitchUuid != segment || backing.Port.PortKey == "" {
			b.Errorf("%s: %+v", vm.Value, backing)
		}
	case *types.VirtualEthernetCardOpaqueNetworkBackingInfo:
		if choice != "kept" || backing.OpaqueNetworkId != segment {
			b.Errorf("%s: %+v", vm.Value, backing)
		}
	default:
		b.Errorf("%s: %+v", vm.Value, backing)
	}
}

// orphans checks the state of children whose parent is removed.
func (b *bed) orphans(parent types.ManagedObjectReference, choice string, leave func() outcome) {
	b.Helper()
	running, waiting := b.child(parent, "running", ""), b.child(parent, "waiting", "")
	b.expect("on", b.power(running, true), "")
	b.untilReady(running)
	b.expect("leave", leave(), faultOf(choice))
	if choice == "breaks" {
		b.until(running, "the child to be powered off", func(vm mo.VirtualMachine) bool {
			return vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff
		}, "runtime")
		b.expect("on", b.power(waiting, true), "InvalidState")
		return
	}
	b.expect("on", b.power(waiting, true), "")
	if state := b.read(running, "runtime").Runtime.PowerState; state != types.VirtualMachinePowerStatePoweredOn {
		b.Error(state)
	}
}

// persistent returns a parent with a persistent child that was powered on.
func (b *bed) persistent() (parent, child types.ManagedObjectReference) {
	b.Helper()
	vm := b.vm("DC0_H0_VM0")
	b.expect("snapshot", b.raw.task("CreateSnapshot_Task", vm, "<name>s</name><memory>false</memory><quiesce>false</quiesce>"), "")
	parent = b.parent()
	child = b.child(parent, "p", "<persistent>true</persistent>")
	b.expect("on", b.power(child, true), "")
	return parent, child
}

func (b *bed) otherHost(here types.ManagedObjectReference) types.ManagedObjectReference {
	b.Helper()
	for _, entity := range b.sim.registry().All("HostSystem") {
		if ref := entity.Reference(); ref != here && *entity.Entity().Parent == *b.sim.hostObject(here).Parent {
			return ref
		}
	}
	b.Fatal("no other host in the cluster")
	return here
}

// eventually waits for something that no property shows.
func (b *bed) eventually(what string, true func() bool) {
	b.Helper()
	deadline := time.Now().Add(patience)
	for !true() {
		if time.Now().After(deadline) {
			b.Fatalf("%s never came", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
