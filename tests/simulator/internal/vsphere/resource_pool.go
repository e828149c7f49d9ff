// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// ResourcePool: creating vApps and importing OVF packages.

package vsphere

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/ovfenv"
	"vmforksim/internal/vimfault"
)

// resourcePool overrides methods of a resource pool.
type resourcePool struct {
	*simulator.ResourcePool
	sim *Simulator
}

func (p *resourcePool) CreateVApp(ctx *simulator.Context, req *types.CreateVApp) soap.HasFault {
	return p.sim.createVApp(ctx, req, p.ResourcePool.CreateVApp)
}

func (p *resourcePool) ImportVApp(ctx *simulator.Context, req *types.ImportVApp) soap.HasFault {
	return p.sim.importVApp(ctx, req, p.ResourcePool.ImportVApp)
}

// importVApp creates the VM of an OVF package. Like every VM, it is hidden from
// clients until it is complete.
func (s *Simulator) importVApp(ctx *simulator.Context, req *types.ImportVApp, stock func(*simulator.Context, *types.ImportVApp) soap.HasFault) soap.HasFault {
	refuse := func(fault types.BaseMethodFault) soap.HasFault {
		return &methods.ImportVAppBody{Fault_: simulator.Fault(vimfault.Text(fault), fault)}
	}
	spec, ok := req.Spec.(*types.VirtualMachineImportSpec)
	if !ok {
		return refuse(&types.InvalidArgument{InvalidProperty: "spec"})
	}
	target := s.firstDatacenter().VmFolder
	if req.Folder != nil {
		target = *req.Folder
	}
	folder, ok := ctx.Map.Get(target).(*simulator.Folder)
	if !ok {
		return refuse(&types.ManagedObjectNotFound{Obj: target})
	}
	given := spec.ConfigSpec.VAppConfig
	c := s.newCreation(ctx, folder)
	fault := c.reserve(spec.ConfigSpec.Name)
	if fault == nil {
		fault = c.prepare(&spec.ConfigSpec)
	}
	if fault != nil {
		c.abandon()
		return refuse(fault)
	}
	if given != nil { // govmomi's simulator checks what may be configured
		spec.ConfigSpec.VAppConfig = &types.VAppConfigSpec{VmConfigSpec: *ovfenv.WithoutSecrets(given, c.vapp)}
	}
	req.Folder = &c.staging.Self
	s.tasks.expectTask(c.staging.Self, &taskPlan{ctx: ctx, entity: c.staging.Self, usesFiles: true, nested: true,
		after: func(result types.AnyType, fault types.BaseMethodFault) (types.AnyType, types.BaseMethodFault) {
			if fault != nil {
				c.abandon()
				return nil, fault
			}
			c.finish(result.(types.ManagedObjectReference), nil)
			return result, nil
		},
	})
	return stock(ctx, req)
}

// computeResourceOf returns the compute resource of a resource pool.
func (s *Simulator) computeResourceOf(ctx *simulator.Context, pool types.ManagedObjectReference) types.ManagedObjectReference {
	for ref := pool; ; {
		entity, ok := ctx.Map.Get(ref).(mo.Entity)
		if !ok || entity.Entity().Parent == nil {
			return types.ManagedObjectReference{}
		}
		ref = *entity.Entity().Parent
		if ref.Type == "ComputeResource" || ref.Type == "ClusterComputeResource" {
			return ref
		}
	}
}
