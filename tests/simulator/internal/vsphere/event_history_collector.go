// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// EventHistoryCollector: filters, paging, and QueryEvents.

package vsphere

import (
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

// The limits of vCenter's event collectors.
const (
	maxEventCollectors = 32 // per session
	maxEvents          = 1000
	latestPageSize     = 10
)

// eventFilter selects the events that a client requests.
type eventFilter struct {
	types.EventFilterSpec
	sim    *Simulator
	within map[types.ManagedObjectReference]bool // the entities asked for; nil is all
}

// filterEvents prepares a filter for the existing entities.
func (s *Simulator) filterEvents(ctx *simulator.Context, spec types.EventFilterSpec) (*eventFilter, types.BaseMethodFault) {
	switch {
	case spec.MaxCount < 0 || spec.MaxCount > maxEvents:
		return nil, &types.InvalidArgument{InvalidProperty: "filter.maxCount"}
	case len(spec.Type) > 0 && len(spec.EventTypeId) > 0 && s.rules.Is("event_type_and_id", "InvalidArgument"):
		return nil, &types.InvalidArgument{InvalidProperty: "filter.eventTypeId"}
	case spec.Alarm != nil || spec.ScheduledTask != nil || len(spec.Tag) > 0 || len(spec.Category) > 0:
		return nil, vimfault.WithText(&types.NotSupported{}, "The simulator filters events by entity, time, user, chain and type.")
	}
	filter := &eventFilter{EventFilterSpec: spec, sim: s}
	if by := spec.Entity; by != nil {
		if _, ok := ctx.Map.Get(by.Entity).(mo.Entity); !ok {
			return nil, &types.ManagedObjectNotFound{Obj: by.Entity}
		}
		if by.Entity != s.content().RootFolder || by.Recursion == types.EventFilterSpecRecursionOptionChildren {
			filter.within = s.entities(ctx, by.Entity, by.Recursion)
		}
	}
	filter.EventTypeId = slices.Clone(spec.EventTypeId)
	for i, id := range spec.EventTypeId {
		filter.EventTypeId[i] = strings.TrimPrefix(id, "vim.event.")
	}
	return filter, nil
}

// entities returns those whose events a filter by entity selects.
func (s *Simulator) entities(ctx *simulator.Context, root types.ManagedObjectReference, recursion types.EventFilterSpecRecursionOption) map[types.ManagedObjectReference]bool {
	within := map[types.ManagedObjectReference]bool{}
	if recursion != types.EventFilterSpecRecursionOptionSelf {
		for _, entity := range ctx.Map.All("") {
			if s.isUnder(ctx, entity, root) {
				within[entity.Reference()] = true
			}
		}
	}
	if recursion != types.EventFilterSpecRecursionOptionChildren {
		within[root] = true
	}
	return within
}

// isUnder reports whether an entity is below another: a VM is below its folder,
// its host and its resource pool.
func (s *Simulator) isUnder(ctx *simulator.Context, entity mo.Entity, root types.ManagedObjectReference) bool {
	starts := []*types.ManagedObjectReference{entity.Entity().Parent}
	if vm, ok := entity.(*simulator.VirtualMachine); ok {
		ctx.WithLock(vm, func() { starts = []*types.ManagedObjectReference{vm.Parent, vm.Runtime.Host, vm.ResourcePool} })
	}
	for _, at := range starts {
		for at != nil {
			if *at == root {
				return true
			}
			parent, ok := ctx.Map.Get(*at).(mo.Entity)
			if !ok {
				break
			}
			at = parent.Entity().Parent
		}
	}
	return false
}

// selects reports whether a filter selects an event.
func (f *eventFilter) selects(event types.BaseEvent) bool {
	base := event.GetEvent()
	if by := f.Time; by != nil {
		if by.BeginTime != nil && base.CreatedTime.Before(*by.BeginTime) || by.EndTime != nil && base.CreatedTime.After(*by.EndTime) {
			return false
		}
	}
	if by := f.UserName; by != nil {
		if base.UserName == "" && !by.SystemUser || base.UserName != "" && len(by.UserList) > 0 && !slices.Contains(by.UserList, base.UserName) {
			return false
		}
	}
	return (f.EventChainId == 0 || f.EventChainId == base.ChainId) && f.selectsType(event) && f.selectsEntity(event)
}

// selectsType compares an eventTypeId with the event's class, or with the ID of
// an event without a class of its own. A class in type includes the classes
// derived from it.
func (f *eventFilter) selectsType(event types.BaseEvent) bool {
	if len(f.EventTypeId) > 0 {
		id := eventName(event)
		switch event := event.(type) {
		case *types.EventEx:
			id = event.EventTypeId
		case *types.ExtendedEvent:
			id = event.EventTypeId
		}
		if slices.Contains(f.EventTypeId, id) {
			return true
		}
	}
	if len(f.Type) > 0 {
		for class := reflect.TypeOf(event).Elem(); ; class = class.Field(0).Type {
			if slices.Contains(f.Type, class.Name()) {
				return true
			}
			if class.Name() == "Event" || f.sim.rules.Is("event_type_subclasses", "excluded") {
				break
			}
		}
	}
	return len(f.EventTypeId) == 0 && len(f.Type) == 0
}

func (f *eventFilter) selectsEntity(event types.BaseEvent) bool {
	if f.within == nil {
		return true
	}
	base := event.GetEvent()
	return base.Vm != nil && f.within[base.Vm.Vm] ||
		base.Host != nil && f.within[base.Host.Host] ||
		base.ComputeResource != nil && f.within[base.ComputeResource.ComputeResource] ||
		base.Datacenter != nil && f.within[base.Datacenter.Datacenter] ||
		base.Ds != nil && f.within[base.Ds.Datastore] ||
		base.Net != nil && f.within[base.Net.Network] ||
		base.Dvs != nil && f.within[base.Dvs.Dvs]
}

// format returns events in the format that the client requests: with or without
// a message.
func (f *eventFilter) format(events []types.BaseEvent) []types.BaseEvent {
	if f.DisableFullMessage == nil || !*f.DisableFullMessage {
		return events
	}
	bare := make([]types.BaseEvent, len(events))
	for i, event := range events {
		copied := reflect.New(reflect.TypeOf(event).Elem())
		copied.Elem().Set(reflect.ValueOf(event).Elem())
		bare[i] = copied.Interface().(types.BaseEvent)
		bare[i].GetEvent().FullFormattedMessage = ""
	}
	return bare
}

func (m *eventManager) QueryEvents(ctx *simulator.Context, req *types.QueryEvents) soap.HasFault {
	filter, fault := m.sim.filterEvents(ctx, req.Filter)
	if fault != nil {
		return &methods.QueryEventsBody{Fault_: soapFaultOf(fault)}
	}
	limit := maxEvents
	if filter.MaxCount > 0 {
		limit = int(filter.MaxCount)
	}
	var found []types.BaseEvent
	for _, event := range slices.Backward(m.sim.events.since(0)) {
		if len(found) == limit {
			break
		}
		if filter.selects(event) {
			found = append(found, event)
		}
	}
	return &methods.QueryEventsBody{Res: &types.QueryEventsResponse{Returnval: filter.format(found)}}
}

// CreateCollectorForEvents creates a collector that exists as long as the
// session.
func (m *eventManager) CreateCollectorForEvents(ctx *simulator.Context, req *types.CreateCollectorForEvents) soap.HasFault {
	filter, fault := m.sim.filterEvents(ctx, req.Filter)
	if fault == nil && len(ctx.Session.AllReference("EventHistoryCollector")) >= maxEventCollectors {
		fault = vimfault.WithText(&types.InvalidState{}, "The session has too many event collectors.")
	}
	if fault != nil {
		return &methods.CreateCollectorForEventsBody{Fault_: soapFaultOf(fault)}
	}
	c := &eventCollector{filter: filter, size: latestPageSize}
	if filter.MaxCount > 0 {
		c.size = int(filter.MaxCount)
	}
	c.Self.Type = "EventHistoryCollector"
	c.Filter = req.Filter
	c.collect()
	ref := ctx.Session.Put(c).Reference()
	events := m.sim.events
	events.mu.Lock()
	defer events.mu.Unlock()
	events.collectors[ref] = c
	return &methods.CreateCollectorForEventsBody{Res: &types.CreateCollectorForEventsResponse{Returnval: ref}}
}

// eventCollector lets a client read events page by page.
type eventCollector struct {
	mo.EventHistoryCollector
	filter *eventFilter

	mu      sync.Mutex
	lastKey int32             // key of the last event examined
	found   []types.BaseEvent // oldest first
	next    int               // in found
	size    int               // of the latest page
}

// collect adds the events since the last call.
func (c *eventCollector) collect() {
	for _, event := range c.filter.sim.events.since(c.lastKey) {
		c.lastKey = event.GetEvent().Key
		if c.filter.selects(event) {
			c.found = append(c.found, event)
		}
	}
}

// Get returns the collector as its properties show it: the latest page has the
// newest event first.
func (c *eventCollector) Get() mo.Reference {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.collect()
	shown := c.EventHistoryCollector
	latest := slices.Clone(c.found[max(0, len(c.found)-c.size):])
	slices.Reverse(latest)
	shown.LatestPage = c.filter.format(latest)
	return &shown
}

// page returns up to count events forward or backward from the client's
// position.
func (c *eventCollector) page(count int32, forward bool) ([]types.BaseEvent, types.BaseMethodFault) {
	if count <= 0 || count > maxEvents && c.filter.sim.rules.Is("event_page_limit", "InvalidArgument") {
		return nil, &types.InvalidArgument{InvalidProperty: "maxCount"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.collect()
	from, to := c.next, min(c.next+min(int(count), maxEvents), len(c.found))
	if !forward {
		from, to = max(0, c.next-min(int(count), maxEvents)), c.next
	}
	page := slices.Clone(c.found[from:to])
	if c.next = to; !forward {
		c.next = from
		slices.Reverse(page)
	}
	return c.filter.format(page), nil
}

func (c *eventCollector) ReadNextEvents(req *types.ReadNextEvents) soap.HasFault {
	page, fault := c.page(req.MaxCount, true)
	if fault != nil {
		return &methods.ReadNextEventsBody{Fault_: soapFaultOf(fault)}
	}
	return &methods.ReadNextEventsBody{Res: &types.ReadNextEventsResponse{Returnval: page}}
}

func (c *eventCollector) ReadPreviousEvents(req *types.ReadPreviousEvents) soap.HasFault {
	page, fault := c.page(req.MaxCount, false)
	if fault != nil {
		return &methods.ReadPreviousEventsBody{Fault_: soapFaultOf(fault)}
	}
	return &methods.ReadPreviousEventsBody{Res: &types.ReadPreviousEventsResponse{Returnval: page}}
}

// RewindCollector goes to the oldest event, where a new collector is.
func (c *eventCollector) RewindCollector(*types.RewindCollector) soap.HasFault {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = 0
	return &methods.RewindCollectorBody{Res: &types.RewindCollectorResponse{}}
}

// ResetCollector goes to the newest event.
func (c *eventCollector) ResetCollector(*types.ResetCollector) soap.HasFault {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.collect()
	c.next = len(c.found)
	return &methods.ResetCollectorBody{Res: &types.ResetCollectorResponse{}}
}

func (c *eventCollector) SetCollectorPageSize(req *types.SetCollectorPageSize) soap.HasFault {
	if req.MaxCount <= 0 || req.MaxCount > maxEvents {
		return &methods.SetCollectorPageSizeBody{Fault_: soapFaultOf(&types.InvalidArgument{InvalidProperty: "maxCount"})}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size = int(req.MaxCount)
	return &methods.SetCollectorPageSizeBody{Res: &types.SetCollectorPageSizeResponse{}}
}

func (c *eventCollector) DestroyCollector(ctx *simulator.Context, _ *types.DestroyCollector) soap.HasFault {
	ctx.Session.Remove(ctx, c.Self)
	c.filter.sim.events.removeCollector(c.Self)
	return &methods.DestroyCollectorBody{Res: &types.DestroyCollectorResponse{}}
}

// removeCollector ends a collector.
func (e *eventLog) removeCollector(ref types.ManagedObjectReference) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.collectors, ref)
}
