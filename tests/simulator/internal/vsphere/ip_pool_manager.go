// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// IpPoolManager: IP pools (network protocol profiles) and the addresses that
// OVF properties take from them.

package vsphere

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ipPoolManager overrides methods of the manager of IP pools.
type ipPoolManager struct {
	*simulator.IpPoolManager
}

func (m *ipPoolManager) CreateIpPool(ctx *simulator.Context, req *types.CreateIpPool) (body soap.HasFault) {
	completePool(ctx, &req.Pool, func() { body = m.IpPoolManager.CreateIpPool(req) })
	if made := body.(*methods.CreateIpPoolBody).Res; made != nil {
		req.Pool.Id = made.Returnval // the manager keeps the request's pool
	}
	return body
}

func (m *ipPoolManager) UpdateIpPool(ctx *simulator.Context, req *types.UpdateIpPool) (body soap.HasFault) {
	completePool(ctx, &req.Pool, func() { body = m.IpPoolManager.UpdateIpPool(req) })
	return body
}

// completePool adds the names of its networks to a pool. govmomi's simulator
// requires a range of addresses, which a pool need not have, and stores the
// pool as given.
func completePool(ctx *simulator.Context, pool *types.IpPool, enter func()) {
	for i := range pool.NetworkAssociation {
		association := &pool.NetworkAssociation[i]
		if association.Network != nil {
			if network, ok := ctx.Map.Get(*association.Network).(mo.Entity); ok {
				association.NetworkName = network.Entity().Name
			}
		}
	}
	for config, none := range map[*types.IpPoolIpPoolConfigInfo]string{pool.Ipv4Config: "0.0.0.0#0", pool.Ipv6Config: "::#0"} {
		if config != nil && config.Range == "" {
			config.Range = none
			defer func() { config.Range = "" }()
		}
	}
	enter()
}

// ipPoolService is the part of govmomi's IpPoolManager that is used here.
type ipPoolService interface {
	mo.Reference
	QueryIpPools(*types.QueryIpPools) soap.HasFault
	AllocateIpv4Address(*types.AllocateIpv4Address) soap.HasFault
	ReleaseIpAllocation(*types.ReleaseIpAllocation) soap.HasFault
}

// ipPools implements ovfenv.Pools with the server's IpPoolManager.
type ipPools struct {
	sim *Simulator
	ctx *simulator.Context
}

func (p ipPools) manager() ipPoolService {
	return p.sim.registry().Get(*p.sim.content().IpPoolManager).(ipPoolService)
}

// Find returns the pool of a network, or nil.
func (p ipPools) Find(network string) (found *types.IpPool) {
	manager := p.manager()
	p.ctx.WithLock(manager, func() {
		for _, pool := range manager.QueryIpPools(&types.QueryIpPools{}).(*methods.QueryIpPoolsBody).Res.Returnval {
			for _, association := range pool.NetworkAssociation {
				if association.NetworkName == network && pool.Ipv4Config != nil {
					found = &pool
				}
			}
		}
	})
	return found
}

// Allocate reserves an address.
func (p ipPools) Allocate(pool int32, id string) (address string, ok bool) {
	manager := p.manager()
	p.ctx.WithLock(manager, func() {
		body := manager.AllocateIpv4Address(&types.AllocateIpv4Address{PoolId: pool, AllocationId: id}).(*methods.AllocateIpv4AddressBody)
		if ok = body.Res != nil; ok {
			address = body.Res.Returnval
		}
	})
	return address, ok
}

// Release returns an address. It may run long after the call that reserved it.
func (p ipPools) Release(pool int32, id string) {
	ctx, manager := p.sim.background(), p.manager()
	ctx.WithLock(manager, func() {
		manager.ReleaseIpAllocation(&types.ReleaseIpAllocation{PoolId: pool, AllocationId: id})
	})
}
