// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// The privileges that are checked.
const (
	toggleForkParent  = "VirtualMachine.Config.ToggleForkParent"
	advancedConfig    = "VirtualMachine.Config.AdvancedConfig"
	settings          = "VirtualMachine.Config.Settings"
	rename            = "VirtualMachine.Config.Rename"
	addRemoveDevice   = "VirtualMachine.Config.AddRemoveDevice"
	editDevice        = "VirtualMachine.Config.EditDevice"
	connectDevice     = "VirtualMachine.Interact.DeviceConnection"
	assignNetwork     = "Network.Assign"
	powerOn           = "VirtualMachine.Interact.PowerOn"
	powerOff          = "VirtualMachine.Interact.PowerOff"
	deleteVM          = "VirtualMachine.Inventory.Delete"
	provisioningClone = "VirtualMachine.Provisioning.Clone"
	createExisting    = "VirtualMachine.Inventory.CreateFromExisting"
	assignToPool      = "Resource.AssignVMToPool"
	allocateSpace     = "Datastore.AllocateSpace"
	vAppStructure     = "VApp.ApplicationConfig"
	vAppValues        = "VApp.InstanceConfig"
	vAppExtract       = "VApp.ExtractOvfEnvironment"
	guestExecute      = "VirtualMachine.GuestOperations.Execute"
	guestQuery        = "VirtualMachine.GuestOperations.Query"
	guestModify       = "VirtualMachine.GuestOperations.Modify"
	systemRead        = "System.Read"
	systemView        = "System.View"
)

// user is someone who can log in to vCenter.
type user struct {
	Name     string   `json:"name"`
	Password string   `json:"password"`
	Deny     []string `json:"deny"`
	DenyOn   []string `json:"deny_on"` // moids; empty means everywhere
}

// users are those who can log in. Who is not denied a privilege has it, as long
// as no permission of vCenter's is about him.
type users struct {
	mu     sync.Mutex
	byName map[string]user
}

func newUsers(name, password string) *users {
	return &users{byName: map[string]user{name: {Name: name, Password: password}}}
}

func (u *users) put(added user) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.byName[added.Name] = added
}

func (u *users) valid(name, password string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	known, ok := u.byName[name]
	return ok && password != "" && known.Password == password
}

func (u *users) denied(name, privilege, moid string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	known := u.byName[name]
	return slices.Contains(known.Deny, privilege) && (len(known.DenyOn) == 0 || slices.Contains(known.DenyOn, moid))
}

func (u *users) known(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, known := u.byName[name]
	return known
}

// holds tells whether somebody who can log in has a privilege.
func (s *Simulator) holds(ctx *simulator.Context, name, privilege string, on types.ManagedObjectReference) bool {
	return s.users.known(name) && !s.users.denied(name, privilege, on.Value) && s.permitted(ctx, name, privilege, on)
}

// permitted tells whether permissions give a user a privilege (rule permissions);
// they do while none is about him.
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

// waysUp are the ways from an object to the root: two of a VM, through its
// folder and through its pool.
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

// need is a privilege that a call asks for, and the object it is asked on.
type requiredPrivilege struct {
	privilege string
	on        types.ManagedObjectReference
}

// authorize refuses a call that the user lacks a privilege for.
func (s *Simulator) authorize(ctx *simulator.Context, name string, method *simulator.Method) types.BaseMethodFault {
	for _, required := range s.requiredPrivileges(method) {
		if !s.holds(ctx, name, required.privilege, required.on) {
			on := required.on
			return &types.NoPermission{Object: &on, PrivilegeId: required.privilege}
		}
	}
	return nil
}

// needs lists the privileges a call asks for.
func (s *Simulator) requiredPrivileges(method *simulator.Method) []requiredPrivilege {
	on := func(ref types.ManagedObjectReference, privileges ...string) []requiredPrivilege {
		var required []requiredPrivilege
		for _, privilege := range privileges {
			required = append(required, requiredPrivilege{privilege, ref})
		}
		return required
	}
	this := method.This
	switch request := method.Body.(type) {
	case *enableForkParentRequest, *disableForkParentRequest:
		return on(this, toggleForkParent)
	case *retrieveForkChildrenRequest, *retrieveForkParentRequest:
		if s.rules.is("retrieve_privilege", "ToggleForkParent") {
			return on(this, toggleForkParent)
		}
	case *createForkChildRequest:
		return s.forkChildPrivileges(this, request)
	case *types.PowerOnVM_Task:
		return on(this, powerOn)
	case *types.PowerOnMultiVM_Task:
		var required []requiredPrivilege
		for _, ref := range request.Vm {
			required = append(required, requiredPrivilege{powerOn, ref})
		}
		return required
	case *types.PowerOffVM_Task, *types.ShutdownGuest:
		return on(this, powerOff)
	case *types.Destroy_Task:
		if this.Type == "VirtualMachine" {
			return on(this, deleteVM)
		}
	case *types.ReconfigVM_Task:
		var options *types.VmConfigInfo
		if vm := s.instances.get(this.Value); vm != nil {
			options = vm.options()
		}
		return slices.Concat(on(this, reconfigurePrivileges(&request.Spec)...), s.devicePrivileges(this, request.Spec.DeviceChange),
			on(this, vAppPrivileges(options, request.Spec.VAppConfig, request.Spec.VAppConfigRemoved)...))
	case *types.ExtractOvfEnvironment:
		return on(this, vAppExtract)
	case *types.HasPrivilegeOnEntities: // rule privileges_asked_of
		var required []requiredPrivilege
		for _, ref := range request.Entity {
			required = append(required, requiredPrivilege{systemRead, ref})
		}
		return required
	case *types.CloneVM_Task:
		return append(on(this, provisioningClone), requiredPrivilege{createExisting, request.Folder})
	case *types.InstantClone_Task:
		return s.instantClonePrivileges(this, &request.Spec)
	case *types.CheckInstantClone_Task:
		return on(request.Vm, systemView)
	}
	switch this.Type {
	case "GuestFileManager", "GuestProcessManager", "GuestAuthManager":
		return on(guestVM(method.Body), guestPrivilege(method.Name))
	}
	return nil
}

// needsOfDevices lists the privileges that changes of a VM's devices ask for.
func (s *Simulator) devicePrivileges(vm types.ManagedObjectReference, changes []types.BaseVirtualDeviceConfigSpec) []requiredPrivilege {
	ctx := s.background()
	target, ok := ctx.Map.Get(vm).(*simulator.VirtualMachine)
	if !ok || len(changes) == 0 {
		return nil
	}
	var devices object.VirtualDeviceList
	ctx.WithLock(target, func() { devices = cloneDevices(target.Config.Hardware.Device) })
	var required []requiredPrivilege
	for _, change := range changes {
		device := change.GetVirtualDeviceConfigSpec().Device
		network := types.ManagedObjectReference{}
		if card := cardIn(change); card != nil {
			network = networkRefOf(ctx, card)
		}
		if change.GetVirtualDeviceConfigSpec().Operation != types.VirtualDeviceConfigSpecOperationEdit {
			required = append(required, requiredPrivilege{addRemoveDevice, vm})
		} else {
			required = append(required, requiredPrivilege{editDevice, vm})
			present := devices.FindByKey(device.GetVirtualDevice().Key)
			if present == nil {
				continue
			}
			is, wanted := present.GetVirtualDevice().Connectable, device.GetVirtualDevice().Connectable
			if is != nil && wanted != nil && is.Connected != wanted.Connected {
				required = append(required, requiredPrivilege{connectDevice, vm})
			}
			if card, ok := present.(types.BaseVirtualEthernetCard); ok && network == networkRefOf(ctx, card.GetVirtualEthernetCard()) {
				continue
			}
		}
		if network.Value != "" {
			required = append(required, requiredPrivilege{assignNetwork, network})
		}
	}
	return required
}

func reconfigurePrivileges(spec *types.VirtualMachineConfigSpec) []string {
	var privileges []string
	if len(spec.ExtraConfig) > 0 {
		privileges = append(privileges, advancedConfig)
	}
	if spec.Name != "" {
		privileges = append(privileges, rename)
	}
	if spec.Annotation != "" || spec.Uuid != "" || spec.InstanceUuid != "" {
		privileges = append(privileges, settings)
	}
	return privileges
}

// guestPrivilege is the privilege a guest operation asks for.
func guestPrivilege(method string) string {
	switch {
	case strings.HasPrefix(method, "List"), strings.HasPrefix(method, "Read"),
		strings.HasPrefix(method, "InitiateFileTransferFrom"), strings.HasPrefix(method, "Validate"):
		return guestQuery
	case strings.HasPrefix(method, "StartProgram"), strings.HasPrefix(method, "TerminateProcess"):
		return guestExecute
	}
	return guestModify
}

// authorizationManager tells who holds which privileges: by the users' deny
// lists and the permissions, where govmomi's says that everybody holds all.
type authorizationManager struct {
	*simulator.AuthorizationManager
	sim *Simulator
}

// SetEntityPermissions leaves the permissions of others as they are (vSphere
// API reference), where govmomi's removes them.
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

// hasPrivilegeResponse is an answer with all its truth values: govmomi's leaves
// those out that are false.
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
