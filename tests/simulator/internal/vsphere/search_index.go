// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// SearchIndex: lookups by path, name, UUID, DNS name and IP address.

package vsphere

import (
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// searchIndex answers lookups from our index of names, and reads VMs under
// their lock.
type searchIndex struct {
	*simulator.SearchIndex
	sim *Simulator
}

func (x *searchIndex) FindByInventoryPath(ctx *simulator.Context, req *types.FindByInventoryPath) soap.HasFault {
	body := &methods.FindByInventoryPathBody{Res: &types.FindByInventoryPathResponse{}}
	ref := x.sim.content().RootFolder
	for _, name := range strings.FieldsFunc(req.InventoryPath, func(r rune) bool { return r == '/' }) {
		child := x.FindChild(ctx, &types.FindChild{Entity: ref, Name: name})
		found, ok := child.(*methods.FindChildBody)
		if !ok || found.Res == nil || found.Res.Returnval == nil {
			return body
		}
		ref = *found.Res.Returnval
	}
	body.Res.Returnval = &ref
	return body
}

func (x *searchIndex) FindChild(ctx *simulator.Context, req *types.FindChild) soap.HasFault {
	folder, ok := ctx.Map.Get(req.Entity).(*simulator.Folder)
	if !ok {
		return x.SearchIndex.FindChild(ctx, req)
	}
	body := &methods.FindChildBody{Res: &types.FindChildResponse{}}
	ref, ok := x.sim.names.find(folder.Self, req.Name)
	if !ok || x.sim.instances.inVApp(ref) {
		ref, ok = x.sim.childWithName(ctx, folder, req.Name)
	}
	if access := x.sim.accessFilterOf(ctx); ok && (access == nil || access.visible(ref)) {
		body.Res.Returnval = &ref
	}
	return body
}

// childWithName finds a child of a folder that is not a VM.
func (s *Simulator) childWithName(ctx *simulator.Context, folder *simulator.Folder, name string) (types.ManagedObjectReference, bool) {
	var others []types.ManagedObjectReference
	ctx.WithLock(folder, func() {
		for _, ref := range folder.ChildEntity {
			if ref.Type != "VirtualMachine" {
				others = append(others, ref)
			}
		}
	})
	if child := ctx.Map.FindByName(name, others); child != nil {
		return child.Reference(), true
	}
	return types.ManagedObjectReference{}, false
}

// matching returns the VMs that the user sees and for which match is true.
func (s *Simulator) matching(ctx *simulator.Context, match func(*mo.VirtualMachine) bool) []types.ManagedObjectReference {
	var found []types.ManagedObjectReference
	access := s.accessFilterOf(ctx)
	for _, entity := range ctx.Map.All("VirtualMachine") {
		vm, ok := entity.(*simulator.VirtualMachine)
		if !ok || !s.names.visible(vm.Self) || access != nil && !access.visible(vm.Self) {
			continue
		}
		ctx.WithLock(vm, func() {
			if vm.Config != nil && match(&vm.VirtualMachine) {
				found = append(found, vm.Self)
			}
		})
	}
	return found
}

// firstOf returns the first of the VMs found, or nil.
func firstOf(found []types.ManagedObjectReference) *types.ManagedObjectReference {
	if len(found) == 0 {
		return nil
	}
	return &found[0]
}

func uuidOf(vm *mo.VirtualMachine, instance *bool) string {
	if instance != nil && *instance {
		return vm.Config.InstanceUuid
	}
	return vm.Config.Uuid
}

func (x *searchIndex) FindByUuid(ctx *simulator.Context, req *types.FindByUuid) soap.HasFault {
	if !req.VmSearch {
		return x.SearchIndex.FindByUuid(ctx, req)
	}
	found := x.sim.matching(ctx, func(vm *mo.VirtualMachine) bool {
		return strings.EqualFold(uuidOf(vm, req.InstanceUuid), req.Uuid)
	})
	return &methods.FindByUuidBody{Res: &types.FindByUuidResponse{Returnval: firstOf(found)}}
}

func (x *searchIndex) FindAllByUuid(ctx *simulator.Context, req *types.FindAllByUuid) soap.HasFault {
	if !req.VmSearch {
		return x.SearchIndex.FindAllByUuid(ctx, req)
	}
	found := x.sim.matching(ctx, func(vm *mo.VirtualMachine) bool {
		return strings.EqualFold(uuidOf(vm, req.InstanceUuid), req.Uuid)
	})
	return &methods.FindAllByUuidBody{Res: &types.FindAllByUuidResponse{Returnval: found}}
}

func (x *searchIndex) FindByDatastorePath(ctx *simulator.Context, req *types.FindByDatastorePath) soap.HasFault {
	found := x.sim.matching(ctx, func(vm *mo.VirtualMachine) bool { return vm.Config.Files.VmPathName == req.Path })
	return &methods.FindByDatastorePathBody{Res: &types.FindByDatastorePathResponse{Returnval: firstOf(found)}}
}

func (x *searchIndex) FindAllByDnsName(ctx *simulator.Context, req *types.FindAllByDnsName) soap.HasFault {
	if !req.VmSearch {
		return x.SearchIndex.FindAllByDnsName(ctx, req)
	}
	found := x.sim.matching(ctx, func(vm *mo.VirtualMachine) bool { return vm.Guest != nil && vm.Guest.HostName == req.DnsName })
	return &methods.FindAllByDnsNameBody{Res: &types.FindAllByDnsNameResponse{Returnval: found}}
}

func (x *searchIndex) FindByDnsName(ctx *simulator.Context, req *types.FindByDnsName) soap.HasFault {
	all := types.FindAllByDnsName(*req)
	found := x.FindAllByDnsName(ctx, &all).(*methods.FindAllByDnsNameBody).Res.Returnval
	return &methods.FindByDnsNameBody{Res: &types.FindByDnsNameResponse{Returnval: firstOf(found)}}
}

func (x *searchIndex) FindAllByIp(ctx *simulator.Context, req *types.FindAllByIp) soap.HasFault {
	if !req.VmSearch {
		return x.SearchIndex.FindAllByIp(ctx, req)
	}
	found := x.sim.matching(ctx, func(vm *mo.VirtualMachine) bool { return vm.Guest != nil && vm.Guest.IpAddress == req.Ip })
	return &methods.FindAllByIpBody{Res: &types.FindAllByIpResponse{Returnval: found}}
}

func (x *searchIndex) FindByIp(ctx *simulator.Context, req *types.FindByIp) soap.HasFault {
	all := types.FindAllByIp(*req)
	found := x.FindAllByIp(ctx, &all).(*methods.FindAllByIpBody).Res.Returnval
	return &methods.FindByIpBody{Res: &types.FindByIpResponse{Returnval: firstOf(found)}}
}
