// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// DistributedVirtualSwitch: the ports of port groups, and the adapters that use
// them.

package vsphere

import (
	"slices"
	"strconv"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

const (
	portGroupType  = "DistributedVirtualPortgroup"
	staticBinding  = string(types.DistributedVirtualPortgroupPortgroupTypeEarlyBinding)
	portsExpandBy  = 8 // rule port_group_elastic
	vmAdapterOnDVS = string(types.DistributedVirtualSwitchPortConnecteeConnecteeTypeVmVnic)
)

// ports contains the ports of the distributed port groups with static binding,
// and the adapters that use them (rule port_taken), with the adapters' MAC
// addresses. The mutex is locked while a VM's lock is held, and only a port
// group's lock is taken after it.
type ports struct {
	sim *Simulator

	mu     sync.Mutex
	groups map[string]*portGroup
	next   map[types.ManagedObjectReference]int // the key of a switch's next port
	held   map[types.ManagedObjectReference][]port
	macs   map[types.ManagedObjectReference][]macOnNetwork // of the adapters, for MAC conflicts
}

// port is one port of a port group.
type port struct{ group, key string }

type portGroup struct {
	object   *simulator.DistributedVirtualPortgroup
	keys     []string
	taken    map[string]portHolder
	reserved int // ports that are reserved for future adapters
	search   int // all keys before this one are taken
}

// portHolder is the adapter that uses a port.
type portHolder struct {
	vm   types.ManagedObjectReference
	card int32
}

func newPorts(s *Simulator) *ports {
	return &ports{
		sim: s, groups: map[string]*portGroup{}, next: map[types.ManagedObjectReference]int{},
		held: map[types.ManagedObjectReference][]port{}, macs: map[types.ManagedObjectReference][]macOnNetwork{},
	}
}

// group returns a port group with its configured ports; nil for one without
// ports of its own. The caller holds the mutex.
func (p *ports) group(key string) *portGroup {
	ctx := p.sim.background()
	object, ok := ctx.Map.Get(types.ManagedObjectReference{Type: portGroupType, Value: key}).(*simulator.DistributedVirtualPortgroup)
	if !ok {
		return nil
	}
	group := p.groups[key]
	var config types.DVPortgroupConfigInfo
	ctx.WithLock(object, func() { config = object.Config })
	if config.Type != staticBinding {
		return nil
	}
	if group == nil {
		group = &portGroup{object: object, taken: map[string]portHolder{}}
		p.groups[key] = group
	}
	if missing := int(config.NumPorts) - len(group.keys); missing > 0 {
		p.grow(group, missing)
	}
	return group
}

// grow adds ports with keys that are unique in the switch.
func (p *ports) grow(group *portGroup, count int) {
	ctx := p.sim.background()
	ctx.WithLock(group.object, func() {
		owner := *group.object.Config.DistributedVirtualSwitch
		for range count {
			group.keys = append(group.keys, strconv.Itoa(p.next[owner]))
			p.next[owner]++
		}
		ctx.Update(group.object, []types.PropertyChange{
			{Name: "config.numPorts", Val: int32(len(group.keys))},
			{Name: "portKeys", Val: slices.Clone(group.keys)},
		})
	})
}

// publish publishes the ports of new port groups. A group expands unless its
// creator disabled that.
func (p *ports) publish(groups ...types.ManagedObjectReference) {
	ctx := p.sim.background()
	for _, ref := range groups {
		object := ctx.Map.Get(ref).(*simulator.DistributedVirtualPortgroup)
		ctx.WithLock(object, func() {
			if object.Config.AutoExpand == nil {
				ctx.Update(object, []types.PropertyChange{{Name: "config.autoExpand", Val: true}})
			}
		})
		p.mu.Lock()
		p.group(ref.Value)
		p.mu.Unlock()
	}
}

// portReservation reserves ports for future adapters.
type portReservation struct {
	ports  *ports
	groups []string // one for each port
}

// reserve reserves a port for each of a VM's adapters that has none, or fails
// and reserves nothing. A port requested by its key must be free.
func (p *ports) reserve(vm types.ManagedObjectReference, cards []*types.VirtualEthernetCard) (*portReservation, types.BaseMethodFault) {
	reservation := &portReservation{ports: p}
	p.mu.Lock()
	defer p.mu.Unlock()
	if fault := p.sim.refusedMACs(cards); fault != nil {
		return nil, fault
	}
	if taken := p.conflicts(vm, cards); len(taken) > 0 && p.sim.rules.Is("mac_conflict", "refused") {
		return nil, macTaken(taken[0].mac)
	}
	for _, card := range cards {
		asked, ok := dvPortOf(card)
		if !ok {
			continue
		}
		group := p.group(asked.PortgroupKey)
		if group == nil {
			continue
		}
		holder, taken := group.taken[asked.PortKey]
		if taken && holder == (portHolder{vm, card.Key}) {
			continue
		}
		unknown := asked.PortKey != "" && !slices.Contains(group.keys, asked.PortKey)
		if taken || unknown || !p.hasRoom(group) {
			reservation.cancel()
			return nil, p.sim.noFreePort(group)
		}
		group.reserved++
		reservation.groups = append(reservation.groups, asked.PortgroupKey)
	}
	return reservation, nil
}

// hasRoom reports whether a group has a free port, after expanding it if
// possible.
func (p *ports) hasRoom(group *portGroup) bool {
	if len(group.taken)+group.reserved < len(group.keys) {
		return true
	}
	ctx := p.sim.background()
	expands := false
	ctx.WithLock(group.object, func() { expands = isTrue(group.object.Config.AutoExpand) })
	if expands {
		p.grow(group, portsExpandBy)
	}
	return expands
}

func isTrue(value *bool) bool { return value != nil && *value }

// noFreePort is the fault of an adapter that finds no port.
func (s *Simulator) noFreePort(group *portGroup) types.BaseMethodFault {
	text := "No free port is available in the distributed port group '" + group.object.Name + "'."
	if s.rules.Is("no_free_port", "InvalidArgument") {
		return vimfault.WithText(&types.InvalidArgument{InvalidProperty: "deviceChange.device.backing.port"}, text)
	}
	return vimfault.WithText(&types.ResourceNotAvailable{
		ContainerType: portGroupType, ContainerName: group.object.Name, Type: "DistributedVirtualPort",
	}, text)
}

// cancel releases the ports that were not assigned; a second call does nothing.
func (r *portReservation) cancel() {
	for _, key := range r.groups {
		r.ports.groups[key].reserved--
	}
	r.groups = nil
}

// release is cancel for a caller that does not hold the mutex.
func (r *portReservation) release() {
	if r == nil {
		return
	}
	r.ports.mu.Lock()
	defer r.ports.mu.Unlock()
	r.cancel()
}

// assign assigns the reserved ports to a VM's adapters, and releases their
// previous ports. The cards are not published yet.
func (r *portReservation) assign(vm types.ManagedObjectReference, cards []*types.VirtualEthernetCard) {
	p := r.ports
	p.mu.Lock()
	conflicts := p.conflicts(vm, cards)
	if len(conflicts) > 0 {
		defer p.sim.spawn(func() { p.sim.postConflicts(vm, conflicts) }) // the caller holds the VM's lock
	}
	defer p.mu.Unlock()
	r.cancel()
	p.macs[vm] = nil
	for _, card := range cards {
		p.macs[vm] = append(p.macs[vm], macOnNetworkOf(card))
	}
	var held []port
	for _, card := range cards {
		asked, ok := dvPortOf(card)
		if !ok {
			continue
		}
		group := p.group(asked.PortgroupKey)
		if group == nil {
			asked.PortKey, asked.ConnectionCookie = "", 0
			continue
		}
		owner := portHolder{vm, card.Key}
		if asked.PortKey == "" || group.taken[asked.PortKey] != owner && group.taken[asked.PortKey] != (portHolder{}) {
			asked.PortKey = group.free()
		}
		group.taken[asked.PortKey] = owner
		asked.ConnectionCookie = card.Key
		held = append(held, port{asked.PortgroupKey, asked.PortKey})
	}
	for _, left := range p.held[vm] {
		if !slices.Contains(held, left) {
			p.groups[left.group].release(left.key)
		}
	}
	p.held[vm] = held
}

// free returns the first free port.
func (g *portGroup) free() string {
	for g.search < len(g.keys) {
		key := g.keys[g.search]
		if _, taken := g.taken[key]; !taken {
			return key
		}
		g.search++
	}
	return ""
}

func (g *portGroup) release(key string) {
	delete(g.taken, key)
	g.search = min(g.search, slices.Index(g.keys, key))
}

// releaseAll releases the ports of a removed VM.
func (p *ports) releaseAll(vm types.ManagedObjectReference) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, left := range p.held[vm] {
		p.groups[left.group].release(left.key)
	}
	delete(p.held, vm)
	delete(p.macs, vm)
}

// dvPortOf is the distributed port that an adapter is connected to.
func dvPortOf(card *types.VirtualEthernetCard) (*types.DistributedVirtualSwitchPortConnection, bool) {
	backing, ok := card.Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo)
	if !ok {
		return nil, false
	}
	return &backing.Port, true
}

// distributedSwitch overrides methods of a distributed switch, which reports
// its ports.
type distributedSwitch struct {
	*simulator.DistributedVirtualSwitch
	sim *Simulator
}

func (d *distributedSwitch) AddDVPortgroupTask(ctx *simulator.Context, req *types.AddDVPortgroup_Task) soap.HasFault {
	before := len(d.Portgroup)
	plan := &taskPlan{ctx: ctx, method: "AddDVPortgroup_Task", after: func(result types.AnyType, fault types.BaseMethodFault) (types.AnyType, types.BaseMethodFault) {
		if fault == nil {
			d.sim.ports.publish(d.Portgroup[before:]...)
			d.sim.showNetworks(ctx)
		}
		return result, fault
	}}
	return d.sim.tasks.start(d.Self, plan, func() soap.HasFault { return d.DistributedVirtualSwitch.AddDVPortgroupTask(ctx, req) })
}

func (d *distributedSwitch) FetchDVPorts(_ *simulator.Context, req *types.FetchDVPorts) soap.HasFault {
	body := &methods.FetchDVPortsBody{Res: &types.FetchDVPortsResponse{}}
	for _, ref := range d.Portgroup {
		for _, found := range d.sim.ports.of(ref.Value) {
			found.DvsUuid = d.Uuid
			if matchesCriteria(found, req.Criteria) {
				body.Res.Returnval = append(body.Res.Returnval, found)
			}
		}
	}
	return body
}

// of describes the ports of a group.
func (p *ports) of(key string) []types.DistributedVirtualPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	group := p.group(key)
	if group == nil {
		return nil
	}
	var all []types.DistributedVirtualPort
	for _, number := range group.keys {
		found := types.DistributedVirtualPort{
			Key: number, PortgroupKey: key,
			Config: types.DVPortConfigInfo{Setting: group.object.Config.DefaultPortConfig},
		}
		if owner, taken := group.taken[number]; taken {
			found.Connectee = &types.DistributedVirtualSwitchPortConnectee{
				ConnectedEntity: &owner.vm, NicKey: strconv.Itoa(int(owner.card)), Type: vmAdapterOnDVS,
			}
			found.ConnectionCookie = owner.card
		}
		all = append(all, found)
	}
	return all
}

// matchesCriteria reports whether a port matches the criteria; hosts, scopes
// and uplinks are ignored.
func matchesCriteria(found types.DistributedVirtualPort, criteria *types.DistributedVirtualSwitchPortCriteria) bool {
	if criteria == nil {
		return true
	}
	if want := criteria.Connected; want != nil && *want != (found.Connectee != nil) {
		return false
	}
	if len(criteria.PortKey) > 0 && !slices.Contains(criteria.PortKey, found.Key) {
		return false
	}
	within := len(criteria.PortgroupKey) == 0 || slices.Contains(criteria.PortgroupKey, found.PortgroupKey)
	return criteria.Inside == nil || *criteria.Inside == within
}
