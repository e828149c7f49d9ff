// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// AuthorizationManager: permissions, and the privileges of users.

package vsphere

import (
	"slices"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// holds reports whether a user has a privilege.
func (s *Simulator) holds(ctx *simulator.Context, name, privilege string, on types.ManagedObjectReference) bool {
	return s.users.known(name) && !s.users.denied(name, privilege, on.Value) && s.permitted(ctx, name, privilege, on)
}

// permitted reports whether permissions grant a user a privilege (rule
// permissions). A user without any permission entry has every privilege.
func (s *Simulator) permitted(ctx *simulator.Context, name, privilege string, on types.ManagedObjectReference) (yes bool) {
	manager := ctx.Map.Get(*s.content().AuthorizationManager).(*simulator.AuthorizationManager)
	ctx.WithLock(manager, func() {
		permissions := map[types.ManagedObjectReference]types.Permission{}
		all := manager.RetrieveAllPermissions(&types.RetrieveAllPermissions{This: manager.Self}).(*methods.RetrieveAllPermissionsBody)
		for _, permission := range all.Res.Returnval {
			if permission.Principal == name && !permission.Group {
				permissions[*permission.Entity] = permission
			}
		}
		if len(permissions) == 0 {
			yes = true
			return
		}
		for _, path := range pathsToRoot(ctx, on) {
			for _, at := range path {
				permission, found := permissions[at]
				if !found || at != on && !permission.Propagate {
					continue
				}
				role := object.AuthorizationRoleList(manager.RoleList).ById(permission.RoleId)
				yes = yes || role != nil && slices.Contains(role.Privilege, privilege)
				break // the nearest overrides those above it
			}
		}
	})
	return yes
}

// pathsToRoot returns the paths from an object to the root. A VM has two:
// through its folder and through its resource pool.
func pathsToRoot(ctx *simulator.Context, ref types.ManagedObjectReference) (paths [][]types.ManagedObjectReference) {
	starts := []*types.ManagedObjectReference{&ref}
	if vm, ok := ctx.Map.Get(ref).(*simulator.VirtualMachine); ok {
		ctx.WithLock(vm, func() { starts = []*types.ManagedObjectReference{vm.Parent, vm.ResourcePool} })
	}
	for _, next := range starts {
		path := []types.ManagedObjectReference{ref}
		for next != nil {
			path = append(path, *next)
			entity, ok := ctx.Map.Get(*next).(mo.Entity)
			if !ok {
				break
			}
			next = entity.Entity().Parent
		}
		paths = append(paths, path)
	}
	return paths
}

// authorizationManager reports the privileges of users, according to their deny
// lists and the permissions; govmomi's reports that everybody has all.
type authorizationManager struct {
	*simulator.AuthorizationManager
	sim *Simulator
}

// SetEntityPermissions keeps the permissions of other users (vSphere API
// reference), which govmomi's removes.
func (m *authorizationManager) SetEntityPermissions(ctx *simulator.Context, req *types.SetEntityPermissions) soap.HasFault {
	set := *req
	for i := range set.Permission {
		set.Permission[i].Entity = &req.Entity
	}
	now := m.RetrieveEntityPermissions(ctx, &types.RetrieveEntityPermissions{This: req.This, Entity: req.Entity})
	for _, existing := range now.(*methods.RetrieveEntityPermissionsBody).Res.Returnval {
		if !slices.ContainsFunc(req.Permission, func(new types.Permission) bool {
			return new.Principal == existing.Principal && new.Group == existing.Group
		}) {
			set.Permission = append(set.Permission, existing)
		}
	}
	return m.AuthorizationManager.SetEntityPermissions(&set)
}

// hasPrivilegeResponse is an answer with all its truth values: govmomi's omits
// those that are false.
type hasPrivilegeResponse struct {
	Returnval []bool `xml:"returnval"`
}

type hasPrivilegeBody struct {
	Res    *hasPrivilegeResponse `xml:"urn:vim25 HasPrivilegeOnEntityResponse,omitempty"`
	Fault_ *soap.Fault           `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

func (b *hasPrivilegeBody) Fault() *soap.Fault { return b.Fault_ }

func (m *authorizationManager) HasPrivilegeOnEntity(ctx *simulator.Context, req *types.HasPrivilegeOnEntity) soap.HasFault {
	body := &hasPrivilegeBody{Res: &hasPrivilegeResponse{}}
	user := m.sim.sessions.userOf(req.SessionId)
	for _, privilege := range req.PrivId {
		body.Res.Returnval = append(body.Res.Returnval, m.sim.holds(ctx, user, privilege, req.Entity))
	}
	return body
}

func (m *authorizationManager) HasPrivilegeOnEntities(ctx *simulator.Context, req *types.HasPrivilegeOnEntities) soap.HasFault {
	held := m.held(ctx, m.sim.sessions.userOf(req.SessionId), req.Entity, req.PrivId)
	return &methods.HasPrivilegeOnEntitiesBody{Res: &types.HasPrivilegeOnEntitiesResponse{Returnval: held}}
}

func (m *authorizationManager) HasUserPrivilegeOnEntities(ctx *simulator.Context, req *types.HasUserPrivilegeOnEntities) soap.HasFault {
	held := m.held(ctx, req.UserName, req.Entities, req.PrivId)
	return &methods.HasUserPrivilegeOnEntitiesBody{Res: &types.HasUserPrivilegeOnEntitiesResponse{Returnval: held}}
}

func (m *authorizationManager) FetchUserPrivilegeOnEntities(ctx *simulator.Context, req *types.FetchUserPrivilegeOnEntities) soap.HasFault {
	body := &methods.FetchUserPrivilegeOnEntitiesBody{Res: &types.FetchUserPrivilegeOnEntitiesResponse{}}
	for _, entity := range req.Entities {
		result := types.UserPrivilegeResult{Entity: entity}
		for _, privilege := range object.AuthorizationRoleList(m.RoleList).ByName("Admin").Privilege {
			if m.sim.holds(ctx, req.UserName, privilege, entity) {
				result.Privileges = append(result.Privileges, privilege)
			}
		}
		body.Res.Returnval = append(body.Res.Returnval, result)
	}
	return body
}

func (m *authorizationManager) held(ctx *simulator.Context, user string, entities []types.ManagedObjectReference, privileges []string) []types.EntityPrivilege {
	var held []types.EntityPrivilege
	for _, entity := range entities {
		on := types.EntityPrivilege{Entity: entity}
		for _, privilege := range privileges {
			on.PrivAvailability = append(on.PrivAvailability, types.PrivilegeAvailability{
				PrivId: privilege, IsGranted: m.sim.holds(ctx, user, privilege, entity),
			})
		}
		held = append(held, on)
	}
	return held
}
