// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// leastLength finds the least length in a type such as string(1..) or string(3..8).
var leastLength = regexp.MustCompile(`^string\((\d+)\.\.`)

// requiresValue reports whether an empty value does not fit a property's type,
// so that vCenter does not power the VM on (rules required_property_empty and
// required_property_types).
func (r *rules) requiresValue(kind string) bool {
	if kind == "ip" || kind == "boolean" {
		return true
	}
	if !r.is("required_property_types", "all") {
		return false
	}
	if least := leastLength.FindStringSubmatch(kind); least != nil {
		length, err := strconv.Atoi(least[1])
		return err != nil || length > 0
	}
	return strings.HasPrefix(kind, "string[") || strings.HasPrefix(kind, "int") || strings.HasPrefix(kind, "real")
}

// unset is the fault for a property that must have a value and has none.
func unset(p types.VAppPropertyInfo) types.BaseMethodFault {
	return withText(&types.InvalidPropertyValue{VAppPropertyFault: propertyFault(p)},
		fmt.Sprintf("Property '%s' must be configured for the VM to power on.", cmp.Or(p.Label, fullKey(p))))
}
