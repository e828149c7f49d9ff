// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package ovfenv builds OVF environments. It applies edits to vApp options
// (config.vAppConfig), computes the values of their properties, and writes the
// environment document that vCenter hands to a guest.
//
// The package knows nothing of VMs or of the server: a caller passes in the
// vApp options, the rules, and the IP pools.
package ovfenv

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// Environment is the OVF environment that vCenter builds from a VM's vApp
// options when it powers the VM on.
type Environment struct {
	ID         string // the VM's name in its vApp
	VCenterID  string
	Version    string
	Properties []Property
	Adapters   []Adapter
	Entities   []Entity         // the other VMs of its vApp
	Computed   map[int32]string // values that vCenter computed, by property key
	ByDHCP     []int32          // properties whose value the guest will report

	leases []func() // release the addresses that the VM holds while it runs
}

// Property is one property of an environment.
type Property struct {
	Key, Value string
	Password   bool
}

// NewProperty returns a property of vApp options with its value in an
// environment.
func NewProperty(p types.VAppPropertyInfo, value string) Property {
	return Property{Key: FullKey(p), Value: value, Password: isPassword(p)}
}

// Adapter describes a network adapter in an environment.
type Adapter struct {
	MAC, Network string
	Unit         *int32
}

// Entity describes another VM of the same vApp.
type Entity struct {
	ID         string
	Properties []Property
}

// Release returns the addresses that the VM holds while it runs.
func (e *Environment) Release() {
	for _, release := range e.leases {
		release()
	}
}

// SortProperties sorts properties by key.
func SortProperties(properties []Property) {
	slices.SortFunc(properties, func(a, b Property) int { return strings.Compare(a.Key, b.Key) })
}

var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;").Replace

// Document writes the environment as XML. The guest gets it with secrets;
// ExtractOvfEnvironment returns it without them.
func (e *Environment) Document(secrets bool) string {
	var text strings.Builder
	line := func(depth int, format string, values ...any) {
		for i, value := range values {
			values[i] = escape(fmt.Sprint(value))
		}
		fmt.Fprintf(&text, strings.Repeat("   ", depth)+format+"\n", values...)
	}
	section := func(depth int, properties []Property) {
		line(depth, "<PropertySection>")
		for _, p := range properties {
			value := p.Value
			if p.Password && !secrets {
				value = ""
			}
			line(depth+1, `<Property oe:key="%s" oe:value="%s"/>`, p.Key, value)
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
		{"oe:id", e.ID},
	} {
		line(2, `%s="%s"`, namespace[0], namespace[1])
	}
	line(2, `ve:vCenterId="%s">`, e.VCenterID)
	line(1, "<PlatformSection>")
	for _, fact := range [][2]string{{"Kind", "VMware ESXi"}, {"Version", e.Version}, {"Vendor", "VMware, Inc."}, {"Locale", "en"}} {
		line(2, "<%[1]s>%[2]s</%[1]s>", fact[0], fact[1])
	}
	line(1, "</PlatformSection>")
	section(1, e.Properties)
	line(1, "<ve:EthernetAdapterSection>")
	for _, adapter := range e.Adapters {
		unit := ""
		if adapter.Unit != nil {
			unit = fmt.Sprint(*adapter.Unit)
		}
		line(2, `<ve:Adapter ve:mac="%s" ve:network="%s" ve:unitNumber="%s"/>`, adapter.MAC, adapter.Network, unit)
	}
	line(1, "</ve:EthernetAdapterSection>")
	for _, entity := range e.Entities {
		line(1, `<Entity oe:id="%s">`, entity.ID)
		section(2, entity.Properties)
		line(1, "</Entity>")
	}
	text.WriteString("</Environment>")
	return text.String()
}
