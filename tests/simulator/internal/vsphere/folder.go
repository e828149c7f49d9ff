// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Folder: creating, registering and moving VMs.

package vsphere

import (
	"path"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// vmFolder overrides methods of a folder: VMs are created hidden from clients.
type vmFolder struct {
	*simulator.Folder
	sim *Simulator
}

func (f *vmFolder) CreateVMTask(ctx *simulator.Context, req *types.CreateVM_Task) soap.HasFault {
	c := f.sim.newCreation(ctx, f.Folder)
	name := req.Config.Name
	plan := c.plan("CreateVM_Task", f.Self, func() types.BaseMethodFault {
		if fault := c.reserve(name); fault != nil {
			return fault
		}
		return c.prepare(&req.Config)
	})
	return f.sim.tasks.start(c.staging.Self, plan, func() soap.HasFault { return c.staging.CreateVMTask(ctx, req) })
}

func (f *vmFolder) RegisterVMTask(ctx *simulator.Context, req *types.RegisterVM_Task) soap.HasFault {
	c := f.sim.newCreation(ctx, f.Folder)
	name := req.Name
	if name == "" { // that of the file
		_, file, _ := strings.Cut(req.Path, "] ")
		name = strings.TrimSuffix(path.Base(file), ".vmx")
	}
	plan := c.plan("RegisterVM_Task", f.Self, func() types.BaseMethodFault {
		if fault := c.reserve(name); fault != nil {
			return fault
		}
		req.Name = fileName(c.name)
		return nil
	})
	return f.sim.tasks.start(c.staging.Self, plan, func() soap.HasFault { return c.staging.RegisterVMTask(ctx, req) })
}

func (f *vmFolder) MoveIntoFolderTask(ctx *simulator.Context, req *types.MoveIntoFolder_Task) soap.HasFault {
	return f.sim.tasks.start(f.Self, &taskPlan{
		ctx: ctx, method: "MoveIntoFolder_Task",
		before: func() types.BaseMethodFault {
			for _, ref := range req.List {
				name := f.sim.names.of(ref.Value)
				if other, ok := f.sim.names.find(f.Self, name); ok && name != "" && other != ref {
					return &types.DuplicateName{Name: name, Object: other}
				}
			}
			return nil
		},
		after: func(result types.AnyType, fault types.BaseMethodFault) (types.AnyType, types.BaseMethodFault) {
			if fault != nil {
				return nil, fault
			}
			for _, ref := range req.List {
				if name := f.sim.names.of(ref.Value); name != "" {
					f.sim.names.put(ref, f.Self, name)
				}
			}
			return result, nil
		},
	}, func() soap.HasFault { return f.Folder.MoveIntoFolderTask(ctx, req) })
}
