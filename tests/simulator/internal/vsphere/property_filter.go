// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// PropertyFilter: what a filter selects now, compared with what the client has
// received.

package vsphere

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// reportedProperties contains an object's properties, as received by a client,
// as XML.
type reportedProperties map[string]string

func (c *propertyCollector) CreateFilter(ctx *simulator.Context, req *types.CreateFilter) soap.HasFault {
	c.sim.collectors.filters.Lock()
	defer c.sim.collectors.filters.Unlock()
	body := c.PropertyCollector.CreateFilter(ctx, req)
	u := c.sim.collectors.of(c.PropertyCollector)
	select {
	case u.wake <- struct{}{}: // a call that waits reports the new filter's objects
	default:
	}
	return body
}

// propertyFilter overrides methods of a filter.
type propertyFilter struct {
	*simulator.PropertyFilter
	sim *Simulator
}

func (f *propertyFilter) DestroyPropertyFilter(ctx *simulator.Context, req *types.DestroyPropertyFilter) soap.HasFault {
	f.sim.collectors.filters.Lock()
	defer f.sim.collectors.filters.Unlock()
	return f.PropertyFilter.DestroyPropertyFilter(ctx, req)
}

// compare finds the changes of every filter since the last update.
func (c *propertyCollector) compare(ctx *simulator.Context, u *collectorState) ([]types.PropertyFilterUpdate, types.BaseMethodFault) {
	u.mu.Lock()
	dirty, kinds := u.dirty, u.kinds
	u.dirty, u.kinds = map[types.ManagedObjectReference]bool{}, map[string]bool{}
	u.mu.Unlock()

	c.sim.collectors.filters.Lock()
	refs := slices.Clone(c.Filter)
	c.sim.collectors.filters.Unlock()
	for ref := range u.filters {
		if !slices.Contains(refs, ref) {
			delete(u.filters, ref)
		}
	}
	var found []types.PropertyFilterUpdate
	for _, ref := range refs {
		filter, ok := ctx.Session.Get(ref).(*simulator.PropertyFilter)
		if !ok {
			continue
		}
		known, old := u.filters[ref]
		if !old {
			known = map[types.ManagedObjectReference]reportedProperties{}
			u.filters[ref] = known
		}
		var objects []types.ObjectUpdate
		var fault types.BaseMethodFault
		if !old || selectionChanged(&filter.Spec, dirty, kinds) {
			objects, fault = c.compareAll(ctx, &filter.Spec, known)
		} else {
			objects = c.compareSome(ctx, &filter.Spec, known, dirty)
		}
		if fault != nil {
			return nil, fault
		}
		if len(objects) > 0 {
			found = append(found, types.PropertyFilterUpdate{Filter: ref, ObjectSet: objects})
		}
	}
	return found, nil
}

// selectionChanged reports whether a filter may select other objects than
// before.
func selectionChanged(spec *types.PropertyFilterSpec, dirty map[types.ManagedObjectReference]bool, kinds map[string]bool) bool {
	for _, object := range spec.ObjectSet {
		if len(object.SelectSet) == 0 {
			continue
		}
		if dirty[object.Obj] {
			return true
		}
		for _, set := range spec.PropSet {
			if kinds[set.Type] || set.Type == "ManagedEntity" && len(kinds) > 0 {
				return true
			}
		}
	}
	return false
}

// compareAll reads all that a filter selects.
func (c *propertyCollector) compareAll(ctx *simulator.Context, spec *types.PropertyFilterSpec, known map[types.ManagedObjectReference]reportedProperties) ([]types.ObjectUpdate, types.BaseMethodFault) {
	read := *spec
	read.ReportMissingObjectsInResults = types.NewBool(true)
	objects, fault := c.read(ctx, read)
	if fault != nil {
		return nil, fault
	}
	var found []types.ObjectUpdate
	selected := map[types.ManagedObjectReference]bool{}
	for _, object := range objects {
		selected[object.Obj] = true
		if update, ok := objectUpdate(known, object); ok {
			found = append(found, update)
		}
	}
	for ref := range known {
		if !selected[ref] && !c.sim.tasks.isUnknown(ref) {
			delete(known, ref)
			found = append(found, types.ObjectUpdate{Kind: types.ObjectUpdateKindLeave, Obj: ref})
		}
	}
	return found, nil
}

// compareSome reads the objects that changed.
func (c *propertyCollector) compareSome(ctx *simulator.Context, spec *types.PropertyFilterSpec, known map[types.ManagedObjectReference]reportedProperties, dirty map[types.ManagedObjectReference]bool) []types.ObjectUpdate {
	var found []types.ObjectUpdate
	for ref := range dirty {
		if _, ok := known[ref]; !ok || c.sim.tasks.isUnknown(ref) {
			continue
		}
		objects, fault := c.read(ctx, types.PropertyFilterSpec{
			PropSet: spec.PropSet, ObjectSet: []types.ObjectSpec{{Obj: ref}},
		})
		if fault != nil { // it is gone
			delete(known, ref)
			found = append(found, types.ObjectUpdate{Kind: types.ObjectUpdateKindLeave, Obj: ref})
			continue
		}
		for _, object := range objects {
			if update, ok := objectUpdate(known, object); ok {
				found = append(found, update)
			}
		}
	}
	return found
}

func (c *propertyCollector) read(ctx *simulator.Context, spec types.PropertyFilterSpec) ([]types.ObjectContent, types.BaseMethodFault) {
	body := c.RetrievePropertiesEx(ctx, &types.RetrievePropertiesEx{SpecSet: []types.PropertyFilterSpec{spec}})
	if fault := body.Fault(); fault != nil {
		return nil, fault.VimFault().(types.BaseMethodFault)
	}
	return body.(*methods.RetrievePropertiesExBody).Res.Returnval.Objects, nil
}

// objectUpdate returns the update of an object, if there is one, and records it
// as reported.
func objectUpdate(known map[types.ManagedObjectReference]reportedProperties, object types.ObjectContent) (types.ObjectUpdate, bool) {
	before, modify := known[object.Obj]
	now := reportedProperties{}
	update := types.ObjectUpdate{Kind: types.ObjectUpdateKindEnter, Obj: object.Obj, MissingSet: object.MissingSet}
	if modify {
		update.Kind, update.MissingSet = types.ObjectUpdateKindModify, nil
	}
	for _, property := range object.PropSet {
		encoded, _ := xml.Marshal(property)
		now[property.Name] = string(encoded)
		if before[property.Name] != now[property.Name] {
			update.ChangeSet = append(update.ChangeSet, types.PropertyChange{
				Name: property.Name, Op: types.PropertyChangeOpAssign, Val: property.Val,
			})
		}
	}
	for name := range before {
		if _, ok := now[name]; !ok {
			update.ChangeSet = append(update.ChangeSet, types.PropertyChange{Name: name, Op: types.PropertyChangeOpAssign})
		}
	}
	known[object.Obj] = now
	return update, !modify || len(update.ChangeSet) > 0
}
