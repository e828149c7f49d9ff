// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"net/http"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// A vCenter that was restarted does not know its earlier tasks (rule
// forgotten_tasks). What they do on the hosts goes on.

// forget makes a task unknown to clients.
func (t *tasks) markUnknown(ref types.ManagedObjectReference) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unknown[ref] = true
}

// forgotten reports whether clients must not find an object: a task that was forgotten.
func (t *tasks) isUnknown(ref types.ManagedObjectReference) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unknown[ref]
}

// anyForgotten reports whether reads must leave something out.
func (t *tasks) anyUnknown() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.unknown) > 0
}

// controlForget forgets all tasks there are, as a restart of vCenter does.
// Sessions stay; DELETE /vmforksim/sessions ends them.
func (s *Simulator) controlTasks(*http.Request) (any, error) {
	forgotten := []string{}
	for _, task := range s.registry().AllReference("Task") {
		ref := task.Reference()
		s.tasks.markUnknown(ref)
		forgotten = append(forgotten, ref.Value)
	}
	slices.Sort(forgotten)
	return map[string]any{"forgotten": forgotten}, nil
}

// listView returns what cannot be resolved as vCenter does: govmomi's simulator
// puts it into the view nevertheless.
type listView struct {
	*simulator.ListView
	sim *Simulator
}

// resolve splits references into those of known objects and the others.
func (s *Simulator) resolve(ctx *simulator.Context, refs []types.ManagedObjectReference) (known, unresolved []types.ManagedObjectReference) {
	for _, ref := range refs {
		if s.tasks.isUnknown(ref) || ctx.Session.Get(ref) == nil {
			unresolved = append(unresolved, ref)
		} else {
			known = append(known, ref)
		}
	}
	return known, unresolved
}

func (v *listView) ModifyListView(ctx *simulator.Context, req *types.ModifyListView) soap.HasFault {
	request := *req
	var unresolved []types.ManagedObjectReference
	request.Add, unresolved = v.sim.resolve(ctx, req.Add)
	body := v.ListView.ModifyListView(ctx, &request).(*methods.ModifyListViewBody)
	body.Res.Returnval = unresolved
	return body
}

func (v *listView) ResetListView(ctx *simulator.Context, req *types.ResetListView) soap.HasFault {
	request := *req
	var unresolved []types.ManagedObjectReference
	request.Obj, unresolved = v.sim.resolve(ctx, req.Obj)
	body := v.ListView.ResetListView(ctx, &request).(*methods.ResetListViewBody)
	body.Res.Returnval = unresolved
	return body
}
