// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	vim "github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// lowly adds a user who lacks privileges, and logs in as that user.
func (b *bed) lowly(lacks map[string]any) *govmomi.Client {
	b.Helper()
	lacks["name"], lacks["password"] = "low", "low"
	b.control(http.MethodPost, "users", lacks, nil)
	return b.login("low", "low")
}

// retrieve reads properties of an object as they are sent in SOAP.
func (b *bed) retrieve(client *govmomi.Client, ref types.ManagedObjectReference, paths ...string) types.ObjectContent {
	b.Helper()
	res, err := property.DefaultCollector(client.Client).RetrieveProperties(b.ctx, types.RetrieveProperties{
		SpecSet: []types.PropertyFilterSpec{{
			PropSet:   []types.PropertySpec{{Type: ref.Type, PathSet: paths}},
			ObjectSet: []types.ObjectSpec{{Obj: ref}},
		}},
	})
	if err != nil || len(res.Returnval) != 1 {
		b.Fatalf("%v %+v", err, res)
	}
	return res.Returnval[0]
}

func TestPropertiesThatMayNotBeRead(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	for privilege, want := range map[string]struct{ read, missing []string }{
		systemRead: {read: []string{"name", "parent"}, missing: []string{"config.template", "guest.customizationInfo", "summary.config.vmPathName"}},
		systemView: {missing: []string{"config.template", "guest.customizationInfo", "name", "parent", "summary.config.vmPathName"}},
	} {
		low := b.lowly(map[string]any{"deny": []string{privilege}, "deny_on": []string{vm.Value}})
		content := b.retrieve(low, vm, "name", "parent", "config.template", "guest.customizationInfo", "summary.config.vmPathName")
		var read, missing []string
		for _, one := range content.PropSet {
			read = append(read, one.Name)
		}
		for _, one := range content.MissingSet {
			missing = append(missing, one.Path)
			if fault, ok := one.Fault.Fault.(*types.NoPermission); !ok || fault.PrivilegeId != privilege || *fault.Object != vm {
				t.Errorf("%s: %+v", one.Path, one.Fault)
			}
		}
		if !slices.Equal(read, want.read) || !slices.Equal(missing, want.missing) {
			t.Errorf("without %s: read %v, missing %v", privilege, read, missing)
		}
	}
}

// A VM that the user may not see is in no list, view or search result.
func TestInvisibleVM(t *testing.T) {
	b := start(t)
	vm, other := b.vm("DC0_H0_VM0"), b.vm("DC0_C0_RP0_VM0")
	low := b.lowly(map[string]any{"deny": []string{systemView}, "deny_on": []string{vm.Value}})
	folder := *b.read(vm, "parent").Parent
	has := func(what string, refs []types.ManagedObjectReference) {
		t.Helper()
		if slices.Contains(refs, vm) || !slices.Contains(refs, other) {
			t.Errorf("%s: %v", what, refs)
		}
	}
	var seen mo.Folder
	if err := property.DefaultCollector(low.Client).RetrieveOne(b.ctx, folder, []string{"childEntity"}, &seen); err != nil {
		t.Fatal(err)
	}
	has("childEntity", seen.ChildEntity)
	views, err := view.NewManager(low.Client).CreateContainerView(b.ctx, low.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		t.Fatal(err)
	}
	var vms []mo.VirtualMachine
	if err := views.Retrieve(b.ctx, []string{"VirtualMachine"}, []string{"name"}, &vms); err != nil {
		t.Fatal(err)
	}
	var refs []types.ManagedObjectReference
	for _, one := range vms {
		refs = append(refs, one.Self)
	}
	has("container view", refs)
	index := vim.NewSearchIndex(low.Client)
	if found, err := index.FindByInventoryPath(b.ctx, "/DC0/vm/DC0_H0_VM0"); err != nil || found != nil {
		t.Errorf("by path: %v %v", found, err)
	}
	if found, err := index.FindByUuid(b.ctx, nil, b.read(vm, "config").Config.Uuid, true, nil); err != nil || found != nil {
		t.Errorf("by UUID: %v %v", found, err)
	}
	if found, err := find.NewFinder(low.Client).VirtualMachine(b.ctx, "/DC0/vm/DC0_C0_RP0_VM0"); err != nil {
		t.Errorf("the other VM: %v %v", found, err)
	}
	_, fault, err := b.rawLogin("low", "low").call("ReconfigVM_Task", "VirtualMachine", vm.Value, "<spec/>")
	if err != nil || fault.kind() != "NoPermission" || fault.Detail.Fault.Privilege != systemView {
		t.Errorf("a call: %v %+v", err, fault)
	}
}

// Filtered reads come in pages like others.
func TestPagesOfARestrictedUser(t *testing.T) {
	b := start(t, func(o *Options) { o.VMs = 2 })
	hidden := b.vm("DC0_H0_VM0")
	low := b.lowly(map[string]any{"deny": []string{systemView}, "deny_on": []string{hidden.Value}})
	vms, err := view.NewManager(low.Client).CreateContainerView(b.ctx, low.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		t.Fatal(err)
	}
	collector := low.ServiceContent.PropertyCollector
	traverse := &types.TraversalSpec{Type: "ContainerView", Path: "view"}
	res, err := methods.RetrievePropertiesEx(b.ctx, low, &types.RetrievePropertiesEx{
		This: collector, Options: types.RetrieveOptions{MaxObjects: 2},
		SpecSet: []types.PropertyFilterSpec{{
			PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"name"}}},
			ObjectSet: []types.ObjectSpec{{Obj: vms.Reference(), Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{traverse}}},
		}},
	})
	if err != nil || len(res.Returnval.Objects) != 2 || res.Returnval.Token == "" {
		t.Fatalf("%v %+v", err, res)
	}
	rest, err := methods.ContinueRetrievePropertiesEx(b.ctx, low, &types.ContinueRetrievePropertiesEx{This: collector, Token: res.Returnval.Token})
	if err != nil || len(rest.Returnval.Objects) != 1 || rest.Returnval.Token != "" {
		t.Fatalf("%v %+v", err, rest)
	}
}

// After a restart vCenter does not know its earlier tasks; their operations are
// still carried out.
func TestForgottenTasks(t *testing.T) {
	for _, how := range []string{"as it begins", "on request"} {
		t.Run(how, func(t *testing.T) {
			b := start(t)
			vm := b.vm("DC0_H0_VM0")
			if how == "as it begins" {
				b.control(http.MethodPost, "faults", map[string]any{"method": "PowerOffVM_Task", "at": "vanish"}, nil)
			}
			ref, fault, err := b.raw.call("PowerOffVM_Task", "VirtualMachine", vm.Value, "")
			if err != nil || fault != nil {
				t.Fatalf("%v %+v", err, fault)
			}
			task := types.ManagedObjectReference{Type: "Task", Value: ref}
			if how == "on request" {
				if got := b.ended(task); got.fault != "" {
					t.Fatal(got)
				}
				b.control(http.MethodDelete, "tasks", nil, nil)
			}
			b.until(vm, "its effect", func(vm mo.VirtualMachine) bool {
				return vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff
			}, "runtime")
			var seen mo.Task
			if err := property.DefaultCollector(b.client.Client).RetrieveOne(b.ctx, task, []string{"info"}, &seen); !strings.HasPrefix(faultName(err), "ManagedObjectNotFound") {
				t.Errorf("read: %v", err)
			}
			if _, fault, _ := b.raw.call("CancelTask", "Task", ref, ""); fault.kind() != "ManagedObjectNotFound" {
				t.Errorf("call: %+v", fault)
			}
			list, err := view.NewManager(b.client.Client).CreateListView(b.ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			unresolved, err := list.Add(b.ctx, []types.ManagedObjectReference{task, vm})
			if err != nil || !slices.Equal(unresolved, []types.ManagedObjectReference{task}) {
				t.Errorf("unresolved: %v %v", unresolved, err)
			}
			var view mo.ListView
			if err := property.DefaultCollector(b.client.Client).RetrieveOne(b.ctx, list.Reference(), []string{"view"}, &view); err != nil ||
				!slices.Equal(view.View, []types.ManagedObjectReference{vm}) {
				t.Errorf("view: %v %v", view.View, err)
			}
			var manager mo.TaskManager
			if err := property.DefaultCollector(b.client.Client).RetrieveOne(b.ctx, *b.client.ServiceContent.TaskManager, []string{"recentTask"}, &manager); err != nil ||
				slices.Contains(manager.RecentTask, task) {
				t.Errorf("recent tasks: %v %v", manager.RecentTask, err)
			}
		})
	}
}

func TestConcurrentAccess(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	version := b.read(vm, "config").Config.ChangeVersion
	change := "<spec><changeVersion>" + version + "</changeVersion><annotation>x</annotation></spec>"
	b.expect("first", b.raw.task("ReconfigVM_Task", vm, change), "")
	b.expect("second", b.raw.task("ReconfigVM_Task", vm, change), "ConcurrentAccess")
	b.expect("without", b.raw.task("ReconfigVM_Task", vm, "<spec><annotation>y</annotation></spec>"), "")
}
