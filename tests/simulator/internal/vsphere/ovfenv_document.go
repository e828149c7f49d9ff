// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// environment is the OVF environment that vCenter makes of a VM's vApp options
// when it powers the VM on.
type environment struct {
	id         string // the VM's name in its vApp
	vCenterID  string
	version    string
	properties []envProperty
	adapters   []envAdapter
	entities   []envEntity // the other VMs of its vApp
	computed   map[int32]string
	byDHCP     []int32  // properties whose value the guest will report
	leased     []func() // give addresses back that are the VM's while it runs
}

type envProperty struct {
	key, value string
	password   bool
}

type envAdapter struct {
	mac, network string
	unit         *int32
}

type envEntity struct {
	id         string
	properties []envProperty
}

// compose makes a VM's environment; the fault says which property cannot be
// computed. The caller holds the VM's lock.
func (s *Simulator) newEnvironment(ctx *simulator.Context, object *simulator.VirtualMachine) (*environment, types.BaseMethodFault) {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	info, parent := vm.vapp, vm.parent
	vm.mu.Unlock()
	env := &environment{
		vCenterID: object.Self.Value, computed: map[int32]string{},
		version: fmt.Sprintf("%d.%d.%d", s.version[0], s.version[1], s.version[2]),
	}
	around, policy := s.vApps.of(parent), info.IpAssignment.IpAllocationPolicy
	if parent != nil {
		env.id = object.Name
		policy = around.IpAssignment.IpAllocationPolicy
	}
	c := computation{sim: s, ctx: ctx, env: env, around: around, policy: policy}
	for _, p := range info.Property {
		value, fault := c.value(p)
		if fault != nil {
			env.release()
			return nil, fault
		}
		env.properties = append(env.properties, envProperty{fullKey(p), value, isPassword(p)})
	}
	if parent != nil {
		own := map[string]bool{}
		for _, p := range env.properties {
			own[p.key] = true
		}
		for _, p := range around.Property {
			if !own[fullKey(p)] && s.rules.is("ovfenv_vapp_properties", "included") {
				env.properties = append(env.properties, envProperty{fullKey(p), cmp.Or(p.Value, p.DefaultValue), isPassword(p)})
			}
		}
		for _, sibling := range s.siblings(vm, *parent) {
			env.entities = append(env.entities, sibling.entity())
		}
	}
	sortProperties(env.properties)
	for _, card := range cardsOf(object.Config.Hardware.Device) {
		env.adapters = append(env.adapters, envAdapter{card.MacAddress, s.networkOf(ctx, card), card.UnitNumber})
	}
	return env, nil
}

func sortProperties(properties []envProperty) {
	slices.SortFunc(properties, func(a, b envProperty) int { return strings.Compare(a.key, b.key) })
}

// siblings are the other VMs of a vApp, by name.
func (s *Simulator) siblings(of *instance, vApp types.ManagedObjectReference) []*instance {
	var siblings []*instance
	for _, vm := range s.instances.all() {
		vm.mu.Lock()
		if vm != of && vm.parent != nil && *vm.parent == vApp {
			siblings = append(siblings, vm)
		}
		vm.mu.Unlock()
	}
	slices.SortFunc(siblings, func(a, b *instance) int {
		return strings.Compare(s.names.of(a.ref.Value), s.names.of(b.ref.Value))
	})
	return siblings
}

// entity is a VM as the environments of its siblings show it.
func (vm *instance) entity() envEntity {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	entity := envEntity{id: vm.sim.names.of(vm.ref.Value)}
	if vm.vapp == nil {
		return entity
	}
	computed := vm.computed()
	for _, p := range vm.vapp.Property {
		value := cmp.Or(p.Value, p.DefaultValue)
		if p.Type == "expression" || strings.HasPrefix(p.Type, "ip:") {
			value = cmp.Or(computed[p.Key], p.Value)
		}
		entity.properties = append(entity.properties, envProperty{fullKey(p), value, isPassword(p)})
	}
	sortProperties(entity.properties)
	return entity
}

// networkOf names the network an adapter is on.
func (s *Simulator) networkOf(ctx *simulator.Context, card *types.VirtualEthernetCard) string {
	switch backing := card.Backing.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		return backing.DeviceName
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		ref := types.ManagedObjectReference{Type: "DistributedVirtualPortgroup", Value: backing.Port.PortgroupKey}
		if group, ok := ctx.Map.Get(ref).(*simulator.DistributedVirtualPortgroup); ok {
			return group.Name
		}
	case *types.VirtualEthernetCardOpaqueNetworkBackingInfo:
		if summary, ok := opaqueSummary(ctx, networkRefOf(ctx, card)); ok {
			return summary.Name
		}
	}
	return ""
}

// computation finds the values of one VM's properties.
type computation struct {
	sim    *Simulator
	ctx    *simulator.Context
	env    *environment
	around types.VmConfigInfo // of the parent vApp
	policy string
}

// value is what a property stands for in the environment.
func (c *computation) value(p types.VAppPropertyInfo) (string, types.BaseMethodFault) {
	var value string
	var fault types.BaseMethodFault
	network, onNetwork := strings.CutPrefix(p.Type, "ip:")
	switch {
	case p.Type == "expression":
		value, fault = c.expression(p)
	case onNetwork && c.policy == string(types.VAppIPAssignmentInfoIpAllocationPolicyDhcpPolicy):
		c.env.byDHCP = append(c.env.byDHCP, p.Key)
	case onNetwork && (c.policy == string(types.VAppIPAssignmentInfoIpAllocationPolicyTransientPolicy) ||
		c.policy == string(types.VAppIPAssignmentInfoIpAllocationPolicyFixedAllocatedPolicy)):
		value, fault = c.address(p, network)
	default:
		value = cmp.Or(p.Value, p.DefaultValue)
		if value == "" && c.sim.rules.requiresValue(p.Type) {
			return "", unset(p)
		}
		return value, nil
	}
	if fault == nil {
		c.env.computed[p.Key] = value
	}
	return value, fault
}

var expressionForm = regexp.MustCompile(`^\$\{(?:([A-Za-z]+):)?([^{}]*)\}$`)

// expression computes a property of type expression. A value that the system
// cannot find is a fault; a name that the parent vApp does not have is empty.
func (c *computation) expression(p types.VAppPropertyInfo) (string, types.BaseMethodFault) {
	form := expressionForm.FindStringSubmatch(p.DefaultValue)
	if form == nil {
		return "", invalidValue(p)
	}
	command, argument := form[1], form[2]
	switch command {
	case "":
		for _, named := range c.around.Property {
			if named.Id == argument || fullKey(named) == argument {
				return cmp.Or(named.Value, named.DefaultValue), nil
			}
		}
		return "", nil
	case "net":
		return argument, nil
	case "vimIp":
		host, _, _ := strings.Cut(c.sim.listener.Addr().String(), ":")
		return host, nil
	case "ip", "autoIp":
		return c.address(p, argument)
	}
	pool, fault := c.pool(p, argument)
	if fault != nil {
		return "", fault
	}
	var value string
	switch ip := pool.Ipv4Config; command {
	case "subnet":
		value = ip.SubnetAddress
	case "netmask":
		value = ip.Netmask
	case "gateway":
		value = ip.Gateway
	case "dns":
		value = strings.Join(ip.Dns, ",")
	case "domainName":
		value = pool.DnsDomain
	case "searchPath":
		value = pool.DnsSearchPath
	case "hostPrefix":
		value = pool.HostPrefix
	case "httpProxy":
		value = pool.HttpProxy
	}
	if value == "" {
		return "", invalidValue(p)
	}
	return value, nil
}

// ipPools is what is asked of the server's IpPoolManager.
type ipPools interface {
	mo.Reference
	QueryIpPools(*types.QueryIpPools) soap.HasFault
	AllocateIpv4Address(*types.AllocateIpv4Address) soap.HasFault
	ReleaseIpAllocation(*types.ReleaseIpAllocation) soap.HasFault
}

func (s *Simulator) ipPools() ipPools { return s.registry().Get(*s.content().IpPoolManager).(ipPools) }

// pool is the IP pool (for people: the network protocol profile) of a network.
func (c *computation) pool(p types.VAppPropertyInfo, network string) (found *types.IpPool, fault types.BaseMethodFault) {
	manager := c.sim.ipPools()
	c.ctx.WithLock(manager, func() {
		for _, pool := range manager.QueryIpPools(&types.QueryIpPools{}).(*methods.QueryIpPoolsBody).Res.Returnval {
			for _, association := range pool.NetworkAssociation {
				if association.NetworkName == network && pool.Ipv4Config != nil {
					found = &pool
				}
			}
		}
	})
	if found == nil {
		return nil, withText(&types.MissingNetworkIpConfig{VAppPropertyFault: propertyFault(p)}, fmt.Sprintf(
			"Cannot initialize property '%s'. Network '%s' has no associated network protocol profile.", fullKey(p), network))
	}
	return found, nil
}

// address takes an address from a network's pool. Unless the policy keeps it,
// it is given back when the VM is powered off.
func (c *computation) address(p types.VAppPropertyInfo, network string) (address string, fault types.BaseMethodFault) {
	pool, fault := c.pool(p, network)
	if fault != nil {
		return "", fault
	}
	if enabled := pool.Ipv4Config.IpPoolEnabled; enabled != nil && !*enabled {
		if c.sim.rules.is("computed_address_disabled", "NoAvailableIp") {
			return "", &types.NoAvailableIp{VAppPropertyFault: propertyFault(p)}
		}
		return "", &types.MissingIpPool{VAppPropertyFault: propertyFault(p)}
	}
	manager := c.sim.ipPools()
	allocation := c.env.vCenterID + "/" + fullKey(p)
	c.ctx.WithLock(manager, func() {
		body := manager.AllocateIpv4Address(&types.AllocateIpv4Address{PoolId: pool.Id, AllocationId: allocation}).(*methods.AllocateIpv4AddressBody)
		if body.Res == nil {
			fault = &types.NoAvailableIp{VAppPropertyFault: propertyFault(p)}
			return
		}
		address = body.Res.Returnval
	})
	if fault == nil && c.policy != string(types.VAppIPAssignmentInfoIpAllocationPolicyFixedAllocatedPolicy) {
		c.env.leased = append(c.env.leased, func() {
			ctx := c.sim.background()
			ctx.WithLock(manager, func() {
				manager.ReleaseIpAllocation(&types.ReleaseIpAllocation{PoolId: pool.Id, AllocationId: allocation})
			})
		})
	}
	return address, fault
}

func propertyFault(p types.VAppPropertyInfo) types.VAppPropertyFault {
	return types.VAppPropertyFault{Id: p.Id, Category: p.Category, Label: p.Label, Type: p.Type, Value: p.DefaultValue}
}

func invalidValue(p types.VAppPropertyInfo) types.BaseMethodFault {
	return withText(&types.InvalidPropertyValue{VAppPropertyFault: propertyFault(p)},
		fmt.Sprintf("Cannot initialize property '%s'. Its expression '%s' has no value.", fullKey(p), p.DefaultValue))
}

// release gives back what the environment holds while its VM runs.
func (e *environment) release() {
	for _, giveBack := range e.leased {
		giveBack()
	}
}

var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;").Replace

// document is the environment as the guest gets it, or as ExtractOvfEnvironment
// returns it: without what is secret.
func (e *environment) document(secrets bool) string {
	var text strings.Builder
	line := func(depth int, format string, values ...any) {
		for i, value := range values {
			values[i] = escape(fmt.Sprint(value))
		}
		fmt.Fprintf(&text, strings.Repeat("   ", depth)+format+"\n", values...)
	}
	section := func(depth int, properties []envProperty) {
		line(depth, "<PropertySection>")
		for _, p := range properties {
			value := p.value
			if p.password && !secrets {
				value = ""
			}
			line(depth+1, `<Property oe:key="%s" oe:value="%s"/>`, p.key, value)
		}
		line(depth, "</PropertySection>")
	}
	line(0, `<?xml version="1.0" encoding="UTF-8"?>`)
	line(0, "<Environment")
	for _, namespace := range [][2]string{
		{"xmlns", "http://schemas.dmtf.org/ovf/environment/1"},
		{"xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"},
		{"xmlns:oe", "http://schemas.dmtf.org/ovf/environment/1"},
		{"xmlns:ve", "http://www.vmware.com/schema/ovfenv"},
		{"oe:id", e.id},
	} {
		line(2, `%s="%s"`, namespace[0], namespace[1])
	}
	line(2, `ve:vCenterId="%s">`, e.vCenterID)
	line(1, "<PlatformSection>")
	for _, fact := range [][2]string{{"Kind", "VMware ESXi"}, {"Version", e.version}, {"Vendor", "VMware, Inc."}, {"Locale", "en"}} {
		line(2, "<%[1]s>%[2]s</%[1]s>", fact[0], fact[1])
	}
	line(1, "</PlatformSection>")
	section(1, e.properties)
	line(1, "<ve:EthernetAdapterSection>")
	for _, adapter := range e.adapters {
		unit := ""
		if adapter.unit != nil {
			unit = fmt.Sprint(*adapter.unit)
		}
		line(2, `<ve:Adapter ve:mac="%s" ve:network="%s" ve:unitNumber="%s"/>`, adapter.mac, adapter.network, unit)
	}
	line(1, "</ve:EthernetAdapterSection>")
	for _, entity := range e.entities {
		line(1, `<Entity oe:id="%s">`, entity.id)
		section(2, entity.properties)
		line(1, "</Entity>")
	}
	text.WriteString("</Environment>")
	return text.String()
}
