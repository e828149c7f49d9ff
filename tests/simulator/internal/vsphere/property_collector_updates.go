// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// govmomi's simulator reports the changes its methods announce, by the name
// they announce, and reads every object of a filter anew for each. Here a
// collector compares, as vCenter's does: what a filter selects now with what
// the client was told last. So a change is seen whatever part of it a filter
// names, and costs what the changed object costs.

// gathering is how long changes gather before they are told.
const batchDelay = 10 * time.Millisecond

// mostObjects is vCenter's limit of objects in one update.
const maxUpdateObjects = 100

// told is what a client knows of an object: its properties in wire form.
type reportedProperties map[string]string

// updates is the state of one property collector.
type collectorState struct {
	wake chan struct{} // something changed; holds one

	mu         sync.Mutex // guards what follows; never held while objects are read
	dirty      map[types.ManagedObjectReference]bool
	kinds      map[string]bool // types of which objects came or went
	cancelCall context.CancelFunc

	callMu  sync.Mutex // one call at a time; guards what follows
	version int
	last    *types.UpdateSet // what version was, in case its answer was lost
	filters map[types.ManagedObjectReference]map[types.ManagedObjectReference]reportedProperties
	queue   []types.PropertyFilterUpdate // what did not fit
}

// collectors are the collectors that clients wait on.
type collectors struct {
	mu      sync.Mutex
	all     map[*simulator.PropertyCollector]*collectorState
	filters sync.Mutex // guards the list of filters in every collector
}

func (c *collectors) of(collector *simulator.PropertyCollector) *collectorState {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, ok := c.all[collector]
	if !ok {
		u = &collectorState{
			wake:    make(chan struct{}, 1),
			dirty:   map[types.ManagedObjectReference]bool{},
			kinds:   map[string]bool{},
			filters: map[types.ManagedObjectReference]map[types.ManagedObjectReference]reportedProperties{},
		}
		c.all[collector] = u
	}
	return u
}

// forget ends a collector and what waits on it.
func (c *collectors) remove(collector *simulator.PropertyCollector) {
	c.mu.Lock()
	u := c.all[collector]
	delete(c.all, collector)
	c.mu.Unlock()
	if u != nil {
		u.cancel()
	}
}

// changed notes an object that was changed, or one that came or went.
func (c *collectors) changed(ref types.ManagedObjectReference, cameOrWent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.all {
		u.mu.Lock()
		u.dirty[ref] = true
		if cameOrWent {
			u.kinds[ref.Type] = true
		}
		u.mu.Unlock()
		select {
		case u.wake <- struct{}{}:
		default:
		}
	}
}

func (u *collectorState) cancel() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.cancelCall != nil {
		u.cancelCall()
	}
}

func (c *propertyCollector) CreateFilter(ctx *simulator.Context, req *types.CreateFilter) soap.HasFault {
	c.sim.collectors.filters.Lock()
	defer c.sim.collectors.filters.Unlock()
	body := c.PropertyCollector.CreateFilter(ctx, req)
	u := c.sim.collectors.of(c.PropertyCollector)
	select {
	case u.wake <- struct{}{}: // a call that waits tells the new filter's objects
	default:
	}
	return body
}

// propertyFilter stands in for a filter.
type propertyFilter struct {
	*simulator.PropertyFilter
	sim *Simulator
}

func (f *propertyFilter) DestroyPropertyFilter(ctx *simulator.Context, req *types.DestroyPropertyFilter) soap.HasFault {
	f.sim.collectors.filters.Lock()
	defer f.sim.collectors.filters.Unlock()
	return f.PropertyFilter.DestroyPropertyFilter(ctx, req)
}

func (c *propertyCollector) DestroyPropertyCollector(ctx *simulator.Context, req *types.DestroyPropertyCollector) soap.HasFault {
	c.sim.collectors.remove(c.PropertyCollector)
	c.sim.collectors.filters.Lock()
	defer c.sim.collectors.filters.Unlock()
	return c.PropertyCollector.DestroyPropertyCollector(ctx, req)
}

func (c *propertyCollector) CancelWaitForUpdates(*types.CancelWaitForUpdates) soap.HasFault {
	c.sim.collectors.of(c.PropertyCollector).cancel()
	return &methods.CancelWaitForUpdatesBody{Res: &types.CancelWaitForUpdatesResponse{}}
}

func (c *propertyCollector) WaitForUpdates(ctx *simulator.Context, req *types.WaitForUpdates) soap.HasFault {
	set, fault := c.waitForChanges(ctx, req.Version, nil)
	if fault != nil {
		return &methods.WaitForUpdatesBody{Fault_: soapFaultOf(fault)}
	}
	return &methods.WaitForUpdatesBody{Res: &types.WaitForUpdatesResponse{Returnval: *set}}
}

func (c *propertyCollector) CheckForUpdates(ctx *simulator.Context, req *types.CheckForUpdates) soap.HasFault {
	set, fault := c.waitForChanges(ctx, req.Version, &types.WaitOptions{MaxWaitSeconds: types.NewInt32(0)})
	if fault != nil {
		return &methods.CheckForUpdatesBody{Fault_: soapFaultOf(fault)}
	}
	return &methods.CheckForUpdatesBody{Res: &types.CheckForUpdatesResponse{Returnval: set}}
}

func (c *propertyCollector) WaitForUpdatesEx(ctx *simulator.Context, req *types.WaitForUpdatesEx) soap.HasFault {
	set, fault := c.waitForChanges(ctx, req.Version, req.Options)
	if fault != nil {
		return &methods.WaitForUpdatesExBody{Fault_: soapFaultOf(fault)}
	}
	return &methods.WaitForUpdatesExBody{Res: &types.WaitForUpdatesExResponse{Returnval: set}}
}

// await returns what changed since a version; nil when nothing did in time.
func (c *propertyCollector) waitForChanges(ctx *simulator.Context, version string, options *types.WaitOptions) (*types.UpdateSet, types.BaseMethodFault) {
	u := c.sim.collectors.of(c.PropertyCollector)
	wait, cancel := context.WithCancel(context.Background())
	defer cancel()
	limit := maxUpdateObjects
	atOnce := false
	if options != nil {
		if seconds := options.MaxWaitSeconds; seconds != nil {
			atOnce = *seconds <= 0
			wait, cancel = context.WithTimeout(wait, time.Duration(*seconds)*time.Second)
			defer cancel()
		}
		if options.MaxObjectUpdates > 0 {
			limit = min(limit, int(options.MaxObjectUpdates))
		}
	}
	u.callMu.Lock()
	defer u.callMu.Unlock()
	u.mu.Lock()
	u.cancelCall = cancel
	u.mu.Unlock()

	switch {
	case version == "":
		clear(u.filters)
		u.queue, u.last = nil, nil
	case u.last != nil && version == strconv.Itoa(u.version-1):
		return u.last, nil // the client did not get the last answer
	case version != strconv.Itoa(u.version):
		return nil, &types.InvalidCollectorVersion{}
	}
	for {
		if len(u.queue) == 0 {
			found, fault := c.compare(ctx, u)
			if fault != nil {
				return nil, fault
			}
			u.queue = found
		}
		if len(u.queue) > 0 || version == "" {
			u.version++
			u.last = &types.UpdateSet{Version: strconv.Itoa(u.version)}
			u.last.FilterSet, u.queue = page(u.queue, limit)
			if len(u.queue) > 0 {
				u.last.Truncated = types.NewBool(true)
			}
			return u.last, nil
		}
		if atOnce {
			return nil, nil
		}
		select {
		case <-wait.Done():
			switch {
			case wait.Err() == context.DeadlineExceeded:
				return nil, nil
			case c.sim.sessions.killed(ctx.Session.Key):
				return nil, &types.NotAuthenticated{}
			}
			return nil, &types.RequestCanceled{}
		case <-u.wake:
			time.Sleep(batchDelay)
		}
	}
}

// page takes the first objects off a queue.
func page(queue []types.PropertyFilterUpdate, limit int) (first, rest []types.PropertyFilterUpdate) {
	for i, update := range queue {
		if len(update.ObjectSet) <= limit {
			limit -= len(update.ObjectSet)
			first = append(first, update)
			continue
		}
		if limit > 0 {
			first = append(first, types.PropertyFilterUpdate{Filter: update.Filter, ObjectSet: update.ObjectSet[:limit]})
		}
		rest = append(rest, types.PropertyFilterUpdate{Filter: update.Filter, ObjectSet: update.ObjectSet[limit:]})
		return first, append(rest, queue[i+1:]...)
	}
	return first, nil
}

// compare finds what changed in every filter since the client was told.
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

// selectionChanged tells whether a filter may select other objects than before.
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

// difference is what the client is to be told of an object, if anything, and
// notes it as told.
func objectUpdate(known map[types.ManagedObjectReference]reportedProperties, object types.ObjectContent) (types.ObjectUpdate, bool) {
	before, modify := known[object.Obj]
	now := reportedProperties{}
	update := types.ObjectUpdate{Kind: types.ObjectUpdateKindEnter, Obj: object.Obj, MissingSet: object.MissingSet}
	if modify {
		update.Kind, update.MissingSet = types.ObjectUpdateKindModify, nil
	}
	for _, property := range object.PropSet {
		wire, _ := xml.Marshal(property)
		now[property.Name] = string(wire)
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
