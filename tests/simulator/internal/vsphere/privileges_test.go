// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"net/http"
	"slices"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	vim "github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// A client can check in advance which privileges a call would lack.
func TestAuthorizationManager(t *testing.T) {
	b := start(t)
	vm, other := b.vm("DC0_H0_VM0"), b.vm("DC0_C0_RP0_VM0")
	deny := func(on []string, privileges ...string) *govmomi.Client {
		t.Helper()
		b.control(http.MethodPost, "users", map[string]any{"name": "low", "password": "low", "deny": privileges, "deny_on": on}, nil)
		return b.login("low", "low")
	}
	low := deny([]string{vm.Value}, powerOn, toggleForkParent)
	manager := *low.ServiceContent.AuthorizationManager
	session, err := low.SessionManager.UserSession(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	asked := []string{powerOn, powerOff, toggleForkParent}
	entities := []types.ManagedObjectReference{vm, other}
	ask := func(key string) (*types.HasPrivilegeOnEntitiesResponse, error) {
		return methods.HasPrivilegeOnEntities(b.ctx, low, &types.HasPrivilegeOnEntities{This: manager, Entity: entities, SessionId: key, PrivId: asked})
	}
	granted := func(held []types.EntityPrivilege) (all []bool) {
		for i, on := range held {
			if on.Entity != entities[i] {
				t.Errorf("%v instead of %v", on.Entity, entities[i])
			}
			for j, one := range on.PrivAvailability {
				if one.PrivId != asked[j] {
					t.Errorf("%s instead of %s", one.PrivId, asked[j])
				}
				all = append(all, one.IsGranted)
			}
		}
		return all
	}
	held, err := ask(session.Key)
	if err != nil || !slices.Equal(granted(held.Returnval), []bool{false, true, false, true, true, true}) {
		t.Errorf("%v %+v", err, held)
	}
	if held, err := ask("no session"); err != nil || slices.Contains(granted(held.Returnval), true) {
		t.Errorf("a session that is not there: %v %+v", err, held)
	}
	if held, err := methods.HasUserPrivilegeOnEntities(b.ctx, low, &types.HasUserPrivilegeOnEntities{
		This: manager, Entities: entities, UserName: "low", PrivId: asked,
	}); err != nil || !slices.Equal(granted(held.Returnval), []bool{false, true, false, true, true, true}) {
		t.Errorf("%v %+v", err, held)
	}
	for moid, want := range map[string][]bool{vm.Value: {false, true, false}, other.Value: {true, true, true}} {
		held, err := methods.HasPrivilegeOnEntity(b.ctx, low, &types.HasPrivilegeOnEntity{
			This: manager, Entity: types.ManagedObjectReference{Type: "VirtualMachine", Value: moid}, SessionId: session.Key, PrivId: asked,
		})
		if err != nil || !slices.Equal(held.Returnval, want) {
			t.Errorf("%s: %v %+v", moid, err, held)
		}
	}
	for user, want := range map[string][]int{"low": {0, 1}, "user": {1, 1}, "nobody": {0, 0}} {
		fetched, err := methods.FetchUserPrivilegeOnEntities(b.ctx, low, &types.FetchUserPrivilegeOnEntities{This: manager, Entities: entities, UserName: user})
		if err != nil {
			t.Fatal(err)
		}
		for i, on := range fetched.Returnval {
			if on.Entity != entities[i] || slices.Contains(on.Privileges, toggleForkParent) != (want[i] == 1) {
				t.Errorf("%s on %v: %d privileges", user, on.Entity, len(on.Privileges))
			}
		}
	}
	deny([]string{vm.Value}, systemRead)
	if _, err := ask(session.Key); !fault.Is(err, &types.NoPermission{}) {
		t.Errorf("without System.Read: %v", err)
	}
}

// vSphere 6.0 does not have the methods that were added in 6.5.
func TestAuthorizationManagerOfOldServer(t *testing.T) {
	b := start(t, func(o *Options) { o.APIVersion = "6.0" })
	entity := `type="VirtualMachine">` + b.vm("DC0_H0_VM0").Value
	for method, known := range map[string]bool{"HasPrivilegeOnEntities": true, "HasUserPrivilegeOnEntities": false, "FetchUserPrivilegeOnEntities": false} {
		arguments := "<entities " + entity + "</entities><userName>user</userName>"
		if known {
			arguments = "<entity " + entity + "</entity><sessionId>x</sessionId>"
		}
		_, fault, err := b.raw.call(method, "AuthorizationManager", b.client.ServiceContent.AuthorizationManager.Value, arguments)
		if err != nil || (fault == nil) != known {
			t.Errorf("%s: %v %+v", method, err, fault)
		}
	}
}

// A user with permission entries has the privileges that they grant, and no
// others.
func TestPermissions(t *testing.T) {
	b := start(t)
	b.control(http.MethodPost, "users", map[string]any{"name": "low", "password": "low"}, nil)
	low := b.login("low", "low")
	vm := b.vm("DC0_H0_VM0")
	var object mo.VirtualMachine
	if err := property.DefaultCollector(b.client.Client).RetrieveOne(b.ctx, vm, []string{"parent", "resourcePool"}, &object); err != nil {
		t.Fatal(err)
	}
	manager := vim.NewAuthorizationManager(b.client.Client)
	role := func(name string, privileges ...string) int32 {
		t.Helper()
		if _, err := manager.AddRole(b.ctx, name, privileges); err != nil {
			t.Fatal(err)
		}
		roles, err := manager.RoleList(b.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return roles.ByName(name).RoleId
	}
	on, off := role("on", powerOn), role("off", powerOff)
	set := func(entity types.ManagedObjectReference, who string, role int32, propagate bool) {
		t.Helper()
		err := manager.SetEntityPermissions(b.ctx, entity, []types.Permission{{Principal: who, RoleId: role, Propagate: propagate}})
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func(when string, want ...bool) {
		t.Helper()
		held, err := methods.HasUserPrivilegeOnEntities(b.ctx, low, &types.HasUserPrivilegeOnEntities{
			This: manager.Reference(), Entities: []types.ManagedObjectReference{vm}, UserName: "low", PrivId: []string{powerOn, powerOff, systemRead},
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, one := range held.Returnval[0].PrivAvailability {
			if one.IsGranted != want[i] {
				t.Errorf("%s: %s is held: %t", when, one.PrivId, one.IsGranted)
			}
		}
	}
	power := func(off bool) error {
		var task types.ManagedObjectReference
		if off {
			res, err := methods.PowerOffVM_Task(b.ctx, low, &types.PowerOffVM_Task{This: vm})
			if err != nil {
				return err
			}
			task = res.Returnval
		} else {
			res, err := methods.PowerOnVM_Task(b.ctx, low, &types.PowerOnVM_Task{This: vm})
			if err != nil {
				return err
			}
			task = res.Returnval
		}
		return vim.NewTask(b.client.Client, task).Wait(b.ctx)
	}
	root := b.client.ServiceContent.RootFolder
	expect("no permission is about the user", true, true, true)
	set(root, "somebody", off, true)
	expect("a permission is about somebody else", true, true, true)
	set(root, "low", on, false)
	expect("a permission does not propagate", false, false, false)
	set(root, "low", on, true)
	expect("a permission propagates", true, false, true)
	if err := power(true); !fault.Is(err, &types.NoPermission{}) {
		t.Errorf("powered off without the privilege: %v", err)
	}
	set(*object.Parent, "low", off, true)
	expect("one on the folder, another from above through the pool", true, true, true)
	set(*object.ResourcePool, "low", off, true)
	expect("one on the folder, one on the pool", false, true, true)
	if err := power(true); err != nil {
		t.Error(err)
	}
	set(vm, "low", on, false)
	expect("one on the VM itself", true, false, true)
	if err := power(false); err != nil {
		t.Error(err)
	}
	if all, err := manager.RetrieveEntityPermissions(b.ctx, root, false); err != nil || !slices.ContainsFunc(all, func(one types.Permission) bool {
		return one.Principal == "somebody"
	}) {
		t.Errorf("the permission of somebody else is gone: %v %+v", err, all)
	}
}
