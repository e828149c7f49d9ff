// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// EventManager: the event log, event chains, and the users in events.

package vsphere

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// govmomi's simulator keeps its last 1,000 events in total, each a chain of its
// own. Here its event manager only creates them. They reach us through a
// collector of ours that is notified of every event as it is posted; we add
// each to the chain of its operation, with the user that vCenter would name,
// and keep it until the control endpoint lets it age.

// eventLog contains the events that vCenter keeps.
type eventLog struct {
	mu         sync.Mutex
	key        int32
	logged     []types.BaseEvent // oldest first; a logged event does not change
	collectors map[types.ManagedObjectReference]*eventCollector
	heldByHost map[types.ManagedObjectReference][]heldEvent // by host that is disconnected
}

// heldEvent is an event that a host cannot send to vCenter.
type heldEvent struct {
	op    *operation
	event types.BaseEvent
}

func newEventLog() *eventLog {
	return &eventLog{
		collectors: map[types.ManagedObjectReference]*eventCollector{},
		heldByHost: map[types.ManagedObjectReference][]heldEvent{},
	}
}

// subscribeToEvents has every future event reported to us.
func (s *Simulator) subscribeToEvents() {
	s.registry().EventManager().CreateCollectorForEvents(s.background(), &types.CreateCollectorForEvents{
		Filter: types.EventFilterSpec{MaxCount: 1},
	})
}

// post posts an event for the context's operation.
func (s *Simulator) post(ctx *simulator.Context, event types.BaseEvent) {
	manager := ctx.Map.EventManager()
	ctx.WithLock(manager, func() { manager.PostEvent(ctx, &types.PostEvent{EventToPost: event}) })
}

// eventPosted handles an event that govmomi's event manager has created.
func (s *Simulator) eventPosted(ctx *simulator.Context, event types.BaseEvent) {
	op := operationOf(ctx)
	if op.silent {
		return
	}
	if event = s.loggedEvent(op, event); event == nil {
		return
	}
	event.GetEvent().CreatedTime = s.now()
	if reconfigured, ok := event.(*types.VmReconfiguredEvent); ok {
		op.reconfigured = reconfigured // posted before it is tried
		return
	}
	s.recordEvent(op, event)
}

// recordEvent stores an event and notifies waiting clients.
func (s *Simulator) recordEvent(op *operation, event types.BaseEvent) {
	if s.events.holdBack(op, event) {
		return
	}
	s.events.add(op, event)
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	for ref := range s.events.collectors {
		s.collectors.changed(ref, false)
	}
}

// add adds an event to the chain of its operation, whose first event gives the
// chain its number.
func (e *eventLog) add(op *operation, event types.BaseEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.key++
	if op.chain == 0 {
		op.chain = e.key
	}
	base := event.GetEvent()
	base.Key, base.ChainId = e.key, op.chain
	if task, ok := event.(*types.TaskEvent); ok {
		task.Info.EventChainId = op.chain
	}
	e.logged = append(e.logged, event)
}

// holdBack keeps back an event of a disconnected host, and reports whether it
// did.
func (e *eventLog) holdBack(op *operation, event types.BaseEvent) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	host := event.GetEvent().Host
	if op.origin == fromVCenter || host == nil {
		return false
	}
	held, away := e.heldByHost[host.Host]
	if away {
		e.heldByHost[host.Host] = append(held, heldEvent{op, event})
	}
	return away
}

// disconnected begins to keep back the events of a host.
func (e *eventLog) disconnected(host types.ManagedObjectReference) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, away := e.heldByHost[host]; !away {
		e.heldByHost[host] = nil
	}
}

// reconnected sends to vCenter the events that a host kept back.
func (s *Simulator) reconnected(host types.ManagedObjectReference) {
	s.events.mu.Lock()
	held := s.events.heldByHost[host]
	delete(s.events.heldByHost, host)
	s.events.mu.Unlock()
	if s.rules.Is("events_of_disconnected_host", "lost") {
		return
	}
	for _, late := range held {
		late.event.GetEvent().CreatedTime = s.now()
		s.recordEvent(late.op, late.event)
	}
}

// since returns the events newer than the one with a key.
func (e *eventLog) since(key int32) []types.BaseEvent {
	e.mu.Lock()
	defer e.mu.Unlock()
	first, _ := slices.BinarySearchFunc(e.logged, key+1, func(event types.BaseEvent, key int32) int {
		return int(event.GetEvent().Key - key)
	})
	return e.logged[first:len(e.logged):len(e.logged)]
}

// prune removes the events before a time and returns their number.
func (e *eventLog) prune(before time.Time) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := slices.IndexFunc(e.logged, func(event types.BaseEvent) bool { return !event.GetEvent().CreatedTime.Before(before) })
	if old < 0 {
		old = len(e.logged)
	}
	e.logged = slices.Clone(e.logged[old:])
	return old
}

// loggedEvent returns an event as vCenter logs it; nil if vCenter does not log
// it.
func (s *Simulator) loggedEvent(op *operation, event types.BaseEvent) types.BaseEvent {
	event.GetEvent().UserName = s.loggedUser(op, event.GetEvent().UserName)
	switch event := event.(type) {
	case *types.VmStartingEvent:
		if s.instances.of(event.Vm.Vm).isSuspended() {
			return &types.VmResumingEvent{VmEvent: event.VmEvent}
		}
	case *types.VmPoweredOnEvent:
		switch {
		case s.instances.of(event.Vm.Vm).isSuspended():
			if s.rules.Is("resume_events", "resuming") {
				return nil
			}
		case op.origin == fromVCenter && s.placedByDRS(event):
			return &types.DrsVmPoweredOnEvent{VmPoweredOnEvent: *event}
		}
	}
	return event
}

// loggedUser returns the user that vCenter names for its own operations and
// those reported by a host.
func (s *Simulator) loggedUser(op *operation, session string) string {
	switch op.origin {
	case fromVCenter:
		if op.user != "" {
			return op.user
		}
		return session
	case fromESXi:
		switch s.rules.Get("host_client_user") {
		case "session":
			return op.user
		case "vpxuser":
			return "vpxuser"
		}
	}
	return ""
}

// placedByDRS reports whether DRS chose the host for a VM's power-on.
func (s *Simulator) placedByDRS(event *types.VmPoweredOnEvent) bool {
	switch s.rules.Get("drs_power_on_event") {
	case "never":
		return false
	case "from-6.5":
		if !s.version.atLeast(6, 5) {
			return false
		}
	}
	cluster, ok := s.registry().Get(event.ComputeResource.ComputeResource).(*simulator.ClusterComputeResource)
	if !ok {
		return false
	}
	config, ok := cluster.ConfigurationEx.(*types.ClusterConfigInfoEx)
	return ok && config.DrsConfig.Enabled != nil && *config.DrsConfig.Enabled
}

// postTask posts that a client started a task. The events of the task follow in
// the same chain.
func (s *Simulator) postTask(ctx *simulator.Context, task *simulator.Task) {
	info := task.Info
	event := &types.TaskEvent{Info: info}
	switch entity := ctx.Map.Get(*info.Entity).(type) {
	case *simulator.VirtualMachine:
		event.Event = s.eventOn(ctx, entity)
	case *simulator.Datacenter:
		event.Datacenter = &types.DatacenterEventArgument{EntityEventArgument: types.EntityEventArgument{Name: entity.Name}, Datacenter: entity.Self}
	default:
		return
	}
	event.FullFormattedMessage = "Task: " + info.Name
	s.post(ctx, event)
	task.Info.EventChainId = event.ChainId
}

// eventOn returns an event on a VM with its location. The caller holds the VM's
// lock.
func (s *Simulator) eventOn(ctx *simulator.Context, vm *simulator.VirtualMachine) types.Event {
	event := types.Event{Vm: &types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: vm.Name}, Vm: vm.Self}}
	for at := vm.Runtime.Host; at != nil; {
		entity, ok := ctx.Map.Get(*at).(mo.Entity)
		if !ok {
			break
		}
		name := types.EntityEventArgument{Name: entity.Entity().Name}
		switch at.Type {
		case "HostSystem":
			event.Host = &types.HostEventArgument{EntityEventArgument: name, Host: *at}
		case "ComputeResource", "ClusterComputeResource":
			event.ComputeResource = &types.ComputeResourceEventArgument{EntityEventArgument: name, ComputeResource: *at}
		case "Datacenter":
			event.Datacenter = &types.DatacenterEventArgument{EntityEventArgument: name, Datacenter: *at}
		}
		at = entity.Entity().Parent
	}
	return event
}

// The event that HA posts, and its name before vSphere 5.0.
const restartedByHA = "com.vmware.vc.ha.VmRestartedByHAEvent"

// postRestartedByHA posts that HA restarted a VM.
func (s *Simulator) postRestartedByHA(ctx *simulator.Context, vm *simulator.VirtualMachine, failed *types.HostEventArgument) {
	event := s.eventOn(ctx, vm)
	event.FullFormattedMessage = fmt.Sprintf("vSphere HA restarted virtual machine %s on host %s", vm.Name, event.Host.Name)
	if s.rules.Is("ha_event", "VmRestartedOnAlternateHostEvent") {
		s.post(ctx, &types.VmRestartedOnAlternateHostEvent{
			VmPoweredOnEvent: types.VmPoweredOnEvent{VmEvent: types.VmEvent{Event: event}}, SourceHost: *failed,
		})
		return
	}
	s.post(ctx, &types.EventEx{
		Event: event, EventTypeId: restartedByHA, Severity: string(types.EventEventSeverityWarning), Message: event.FullFormattedMessage,
		ObjectId: vm.Self.Value, ObjectType: vm.Self.Type, ObjectName: vm.Name,
	})
}

// controlEvents lets events age.
func (s *Simulator) controlEvents(r *http.Request) (any, error) {
	age := time.Duration(0)
	if text := r.URL.Query().Get("older_than"); text != "" {
		var err error
		if age, err = time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("older_than is a duration such as 90s, not %q", text)
		}
	}
	return map[string]int{"forgotten": s.events.prune(s.now().Add(-age))}, nil
}

// eventName is the name of an event's class.
func eventName(event types.BaseEvent) string { return reflect.TypeOf(event).Elem().Name() }

// eventManager overrides methods of the event manager.
type eventManager struct {
	*simulator.EventManager
	sim *Simulator
}
