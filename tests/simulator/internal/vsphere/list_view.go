// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// ListView: references that cannot be resolved.

package vsphere

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// listView returns references that cannot be resolved, as vCenter does:
// govmomi's simulator adds them to the view.
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
