// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The values of properties in an environment: expressions and addresses.

package ovfenv

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/rules"
	"vmforksim/internal/vimfault"
)

// Pools gives access to the IP pools of the server (in the vSphere Client:
// network protocol profiles).
type Pools interface {
	// Find returns the pool of a network, or nil if it has none.
	Find(network string) *types.IpPool
	// Allocate reserves an address under an ID. It reports false if the pool
	// has no free address.
	Allocate(pool int32, id string) (string, bool)
	// Release returns the address reserved under an ID.
	Release(pool int32, id string)
}

// Computation computes the values of one VM's properties.
type Computation struct {
	Rules       *rules.Rules
	Pools       Pools
	VCenter     string             // the address of vCenter
	VApp        types.VmConfigInfo // the options of the parent vApp
	Policy      string             // the IP allocation policy
	Environment *Environment       // receives computed values and leases
}

// Value returns the value of a property in the environment.
func (c *Computation) Value(p types.VAppPropertyInfo) (string, types.BaseMethodFault) {
	var value string
	var fault types.BaseMethodFault
	network, onNetwork := strings.CutPrefix(p.Type, "ip:")
	switch {
	case p.Type == "expression":
		value, fault = c.expression(p)
	case onNetwork && c.Policy == string(types.VAppIPAssignmentInfoIpAllocationPolicyDhcpPolicy):
		c.Environment.ByDHCP = append(c.Environment.ByDHCP, p.Key)
	case onNetwork && (c.Policy == string(types.VAppIPAssignmentInfoIpAllocationPolicyTransientPolicy) ||
		c.Policy == string(types.VAppIPAssignmentInfoIpAllocationPolicyFixedAllocatedPolicy)):
		value, fault = c.address(p, network)
	default:
		value = cmp.Or(p.Value, p.DefaultValue)
		if value == "" && requiresValue(c.Rules, p.Type) {
			return "", missingValue(p)
		}
		return value, nil
	}
	if fault == nil {
		c.Environment.Computed[p.Key] = value
	}
	return value, fault
}

var expressionForm = regexp.MustCompile(`^\$\{(?:([A-Za-z]+):)?([^{}]*)\}$`)

// expression computes a property of type expression. A value that the system
// cannot find is a fault; an unknown name of the parent vApp is empty.
func (c *Computation) expression(p types.VAppPropertyInfo) (string, types.BaseMethodFault) {
	form := expressionForm.FindStringSubmatch(p.DefaultValue)
	if form == nil {
		return "", invalidExpression(p)
	}
	command, argument := form[1], form[2]
	switch command {
	case "":
		for _, named := range c.VApp.Property {
			if named.Id == argument || FullKey(named) == argument {
				return cmp.Or(named.Value, named.DefaultValue), nil
			}
		}
		return "", nil
	case "net":
		return argument, nil
	case "vimIp":
		return c.VCenter, nil
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
		return "", invalidExpression(p)
	}
	return value, nil
}

// pool returns the IP pool of a network.
func (c *Computation) pool(p types.VAppPropertyInfo, network string) (*types.IpPool, types.BaseMethodFault) {
	if pool := c.Pools.Find(network); pool != nil {
		return pool, nil
	}
	return nil, vimfault.WithText(&types.MissingNetworkIpConfig{VAppPropertyFault: propertyFault(p)}, fmt.Sprintf(
		"Cannot initialize property '%s'. Network '%s' has no associated network protocol profile.", FullKey(p), network))
}

// address allocates an address from a network's pool. Unless the policy keeps
// it, the address is released when the VM is powered off.
func (c *Computation) address(p types.VAppPropertyInfo, network string) (string, types.BaseMethodFault) {
	pool, fault := c.pool(p, network)
	if fault != nil {
		return "", fault
	}
	if enabled := pool.Ipv4Config.IpPoolEnabled; enabled != nil && !*enabled {
		if c.Rules.Is("computed_address_disabled", "NoAvailableIp") {
			return "", &types.NoAvailableIp{VAppPropertyFault: propertyFault(p)}
		}
		return "", &types.MissingIpPool{VAppPropertyFault: propertyFault(p)}
	}
	allocation := c.Environment.VCenterID + "/" + FullKey(p)
	address, ok := c.Pools.Allocate(pool.Id, allocation)
	if !ok {
		return "", &types.NoAvailableIp{VAppPropertyFault: propertyFault(p)}
	}
	if c.Policy != string(types.VAppIPAssignmentInfoIpAllocationPolicyFixedAllocatedPolicy) {
		c.Environment.leases = append(c.Environment.leases, func() { c.Pools.Release(pool.Id, allocation) })
	}
	return address, nil
}

// propertyFault returns the part that all faults about a property share.
func propertyFault(p types.VAppPropertyInfo) types.VAppPropertyFault {
	return types.VAppPropertyFault{Id: p.Id, Category: p.Category, Label: p.Label, Type: p.Type, Value: p.DefaultValue}
}

// invalidExpression returns the fault for an expression without a value.
func invalidExpression(p types.VAppPropertyInfo) types.BaseMethodFault {
	return vimfault.WithText(&types.InvalidPropertyValue{VAppPropertyFault: propertyFault(p)},
		fmt.Sprintf("Cannot initialize property '%s'. Its expression '%s' has no value.", FullKey(p), p.DefaultValue))
}
