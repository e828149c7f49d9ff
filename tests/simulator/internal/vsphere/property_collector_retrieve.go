// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// PropertyCollector: RetrieveProperties, limited to what the user may see.

package vsphere

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

// Reads of properties omit what the client must not see: forgotten tasks,
// objects without System.View, and properties without System.Read.

// viewProperties are the properties that require only System.View; all others
// of an entity require System.Read (rule read_privileges).
var viewProperties = map[string][]string{
	"ManagedEntity":          {"parent", "customValue", "effectiveRole", "name", "declaredAlarmState", "triggeredAlarmState", "tag"},
	"Folder":                 {"childType", "childEntity", "namespace"},
	"Datacenter":             {"vmFolder", "hostFolder", "datastoreFolder", "networkFolder", "configuration"},
	"HostSystem":             {"datastore", "network", "datastoreBrowser"},
	"ComputeResource":        {"resourcePool", "host", "datastore", "network", "environmentBrowser", "lifecycleManaged", "configManagerEnabled", "networkBootMode"},
	"ClusterComputeResource": {"resourcePool", "host", "datastore", "network", "environmentBrowser", "lifecycleManaged", "configManagerEnabled", "networkBootMode"},
	"ResourcePool":           {"owner", "resourcePool", "vm", "namespace"},
	"VirtualApp":             {"owner", "resourcePool", "vm", "namespace", "parentFolder", "datastore", "network"},
	"StoragePod":             {"summary", "childType", "childEntity", "namespace"},
	"VirtualMachine":         {"datastore", "network"},
}

// accessFilter defines what one call may read.
type accessFilter struct {
	sim       *Simulator
	ctx       *simulator.Context
	user      string // "" if the user may read everything
	viewCache map[types.ManagedObjectReference]bool
	readCache map[types.ManagedObjectReference]bool
}

// accessFilterOf returns the filter of a call; nil if it may read everything.
func (s *Simulator) accessFilterOf(ctx *simulator.Context) *accessFilter {
	found := &accessFilter{sim: s, ctx: ctx, viewCache: map[types.ManagedObjectReference]bool{}, readCache: map[types.ManagedObjectReference]bool{}}
	if ctx.Session != nil && s.restricted(ctx, ctx.Session.UserName) {
		found.user = ctx.Session.UserName
	}
	if found.user == "" && !s.tasks.anyUnknown() && !s.instances.anyMember() {
		return nil
	}
	return found
}

// restricted reports whether there may be something that a user cannot read.
func (s *Simulator) restricted(ctx *simulator.Context, name string) bool {
	if !s.users.known(name) { // the simulator itself
		return false
	}
	manager, ok := ctx.Map.Get(*s.content().AuthorizationManager).(*simulator.AuthorizationManager)
	if !ok { // at the host
		return false
	}
	if s.users.mayLack(name, systemRead, systemView) {
		return true
	}
	found := false
	ctx.WithLock(manager, func() {
		all := manager.RetrieveAllPermissions(&types.RetrieveAllPermissions{This: manager.Self}).(*methods.RetrieveAllPermissionsBody)
		found = slices.ContainsFunc(all.Res.Returnval, func(permission types.Permission) bool { return permission.Principal == name && !permission.Group })
	})
	return found
}

// mayLack reports whether a user is denied one of the privileges somewhere.
func (u *users) mayLack(name string, privileges ...string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.ContainsFunc(u.byName[name].Deny, func(denied string) bool { return slices.Contains(privileges, denied) })
}

func (v *accessFilter) holds(cache map[types.ManagedObjectReference]bool, privilege string, ref types.ManagedObjectReference) bool {
	if v.user == "" {
		return true
	}
	held, known := cache[ref]
	if !known {
		_, entity := v.ctx.Map.Get(ref).(mo.Entity)
		held = !entity || v.sim.holds(v.ctx, v.user, privilege, ref)
		cache[ref] = held
	}
	return held
}

// visible reports whether an object may be seen.
func (v *accessFilter) visible(ref types.ManagedObjectReference) bool {
	return !v.sim.tasks.isUnknown(ref) && v.holds(v.viewCache, systemView, ref)
}

// readable reports whether a property of a visible object may be read.
func (v *accessFilter) readable(ref types.ManagedObjectReference, path string) bool {
	if v.holds(v.readCache, systemRead, ref) {
		return true
	}
	name, _, _ := strings.Cut(path, ".")
	return slices.Contains(viewProperties["ManagedEntity"], name) || slices.Contains(viewProperties[ref.Type], name)
}

// baseTypes are the types that a client may name for an entity besides its own.
var baseTypes = map[string]string{
	"ClusterComputeResource": "ComputeResource", "VirtualApp": "ResourcePool", "StoragePod": "Folder",
	"DistributedVirtualPortgroup": "Network", "OpaqueNetwork": "Network", "VmwareDistributedVirtualSwitch": "DistributedVirtualSwitch",
}

// requestedPaths returns the properties of an object that a read names, set or
// unset.
func requestedPaths(specs []types.PropertyFilterSpec, object types.ObjectContent) (paths []string) {
	for _, spec := range specs {
		for _, set := range spec.PropSet {
			if slices.Contains([]string{object.Obj.Type, baseTypes[object.Obj.Type], "ManagedEntity"}, set.Type) {
				paths = append(paths, set.PathSet...)
			}
		}
	}
	for _, property := range object.PropSet { // all of them, perhaps
		paths = append(paths, property.Name)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// content removes from an object's properties those that the client must not
// read. A refused property is reported as such whether it is set or not.
func (v *accessFilter) content(specs []types.PropertyFilterSpec, object types.ObjectContent) types.ObjectContent {
	refused := map[string]string{}
	visible := v.visible(object.Obj)
	for _, path := range requestedPaths(specs, object) {
		if !visible {
			refused[path] = systemView
		} else if !v.readable(object.Obj, path) {
			refused[path] = systemRead
		}
	}
	object.MissingSet = slices.DeleteFunc(slices.Clone(object.MissingSet), func(missing types.MissingProperty) bool { return refused[missing.Path] != "" })
	for _, path := range slices.Sorted(maps.Keys(refused)) {
		fault := &types.NoPermission{Object: &object.Obj, PrivilegeId: refused[path]}
		object.MissingSet = append(object.MissingSet, types.MissingProperty{
			Path: path, Fault: types.LocalizedMethodFault{Fault: fault, LocalizedMessage: vimfault.Text(fault)},
		})
	}
	var kept []types.DynamicProperty
	for _, property := range object.PropSet {
		if refused[property.Name] != "" || property.Name == "parent" && v.sim.instances.inVApp(object.Obj) {
			continue
		}
		if list, ok := property.Val.(types.ArrayOfManagedObjectReference); ok {
			list.ManagedObjectReference = slices.DeleteFunc(slices.Clone(list.ManagedObjectReference),
				func(ref types.ManagedObjectReference) bool { return !v.visible(ref) })
			property.Val = list
		}
		kept = append(kept, property)
	}
	object.PropSet = kept
	return object
}

// readPages contains the rest of reads that did not fit into one answer, by
// token.
type readPages struct {
	mu   sync.Mutex
	rest map[string]readPage
}

type readPage struct {
	objects []types.ObjectContent
	size    int32
}

// page returns the first objects, and keeps the rest under a token.
func (p *readPages) page(objects []types.ObjectContent, size int32) *types.RetrieveResult {
	result := &types.RetrieveResult{Objects: objects}
	if size > 0 && len(objects) > int(size) {
		result.Objects, result.Token = objects[:size], uuid.NewString()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.rest[result.Token] = readPage{objects[size:], size}
	}
	return result
}

func (p *readPages) take(token string) (readPage, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	page, ok := p.rest[token]
	delete(p.rest, token)
	return page, ok
}

// RetrievePropertiesEx reads what the client may see.
func (c *propertyCollector) RetrievePropertiesEx(ctx *simulator.Context, req *types.RetrievePropertiesEx) soap.HasFault {
	access := c.sim.accessFilterOf(ctx)
	if access == nil {
		return c.PropertyCollector.RetrievePropertiesEx(ctx, req)
	}
	request := types.RetrievePropertiesEx{This: req.This, SpecSet: slices.Clone(req.SpecSet)}
	direct := map[types.ManagedObjectReference]bool{}
	for i := range request.SpecSet {
		spec := &request.SpecSet[i]
		objects := spec.ObjectSet
		spec.ObjectSet = nil
		for _, object := range objects {
			gone := c.sim.tasks.isUnknown(object.Obj) || c.sim.rules.Is("unseen_object", "ManagedObjectNotFound") && !access.visible(object.Obj)
			if gone && (spec.ReportMissingObjectsInResults == nil || !*spec.ReportMissingObjectsInResults) {
				fault := &types.ManagedObjectNotFound{Obj: object.Obj}
				return &methods.RetrievePropertiesExBody{Fault_: simulator.Fault("The object has already been deleted or has not been completely created", fault)}
			}
			if !gone {
				direct[object.Obj] = true
				spec.ObjectSet = append(spec.ObjectSet, object)
			}
		}
	}
	body := c.PropertyCollector.RetrievePropertiesEx(ctx, &request).(*methods.RetrievePropertiesExBody)
	if body.Fault_ != nil {
		return body
	}
	var objects []types.ObjectContent
	for _, object := range body.Res.Returnval.Objects {
		if access.visible(object.Obj) || direct[object.Obj] && !c.sim.tasks.isUnknown(object.Obj) {
			objects = append(objects, access.content(req.SpecSet, object))
		}
	}
	body.Res.Returnval = c.sim.pages.page(objects, req.Options.MaxObjects)
	return body
}

func (c *propertyCollector) RetrieveProperties(ctx *simulator.Context, req *types.RetrieveProperties) soap.HasFault {
	read := c.RetrievePropertiesEx(ctx, &types.RetrievePropertiesEx{This: req.This, SpecSet: req.SpecSet}).(*methods.RetrievePropertiesExBody)
	if read.Fault_ != nil {
		return &methods.RetrievePropertiesBody{Fault_: read.Fault_}
	}
	return &methods.RetrievePropertiesBody{Res: &types.RetrievePropertiesResponse{Returnval: read.Res.Returnval.Objects}}
}

func (c *propertyCollector) ContinueRetrievePropertiesEx(ctx *simulator.Context, req *types.ContinueRetrievePropertiesEx) soap.HasFault {
	page, ok := c.sim.pages.take(req.Token)
	if !ok {
		return c.PropertyCollector.ContinueRetrievePropertiesEx(ctx, req)
	}
	rest := c.sim.pages.page(page.objects, page.size)
	return &methods.ContinueRetrievePropertiesExBody{Res: &types.ContinueRetrievePropertiesExResponse{Returnval: *rest}}
}

// checkVisible refuses a call on an entity that the user does not see.
func (s *Simulator) checkVisible(ctx *simulator.Context, name string, ref types.ManagedObjectReference) types.BaseMethodFault {
	if _, entity := ctx.Map.Get(ref).(mo.Entity); !entity || !s.restricted(ctx, name) || s.holds(ctx, name, systemView, ref) {
		return nil
	}
	return &types.NoPermission{Object: &ref, PrivilegeId: systemView}
}
