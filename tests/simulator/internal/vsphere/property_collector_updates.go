// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// PropertyCollector: WaitForUpdates, versions, and paging of updates.

package vsphere

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// govmomi's simulator reports the changes that its methods announce, with the
// announced names, and reads every object of a filter again for each. Here a
// collector compares what a filter selects now with what the client was sent
// last, as vCenter's does. So a change is seen under any part of its path that
// a filter names, and costs only as much as the changed object.

// batchDelay is how long changes are collected before they are reported.
const batchDelay = 10 * time.Millisecond

// maxUpdateObjects is vCenter's limit of objects in one update.
const maxUpdateObjects = 100

// collectorState is the state of one property collector.
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

// remove ends a collector and the calls that wait on it.
func (c *collectors) remove(collector *simulator.PropertyCollector) {
	c.mu.Lock()
	u := c.all[collector]
	delete(c.all, collector)
	c.mu.Unlock()
	if u != nil {
		u.cancel()
	}
}

// changed records an object that was changed, created or removed.
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

// waitForChanges returns the changes since a version; nil if there were none in
// time.
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
