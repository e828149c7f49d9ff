// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package ovfenv

import (
	"bytes"
	"cmp"
	"fmt"
	"math/big"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/rules"
	"vmforksim/internal/vimfault"
)

// Refused properties of vApp options.

// checkProperties refuses added or edited properties that have an unknown type,
// a value that the type does not allow, or a new value although they are not
// user-configurable.
func checkProperties(r *rules.Rules, old, list []types.VAppPropertyInfo) types.BaseMethodFault {
	before := map[int32]types.VAppPropertyInfo{}
	for _, p := range old {
		before[p.Key] = p
	}
	for _, p := range list {
		was, existed := before[p.Key]
		if existed && reflect.DeepEqual(was, p) {
			continue
		}
		configurable := p.UserConfigurable != nil && *p.UserConfigurable
		if r.Is("vapp_made_configurable", "refused") {
			configurable = configurable && was.UserConfigurable != nil && *was.UserConfigurable
		}
		switch {
		case !isPropertyType(p.Type):
			return vimfault.WithText(&types.InvalidPropertyType{VAppPropertyFault: propertyFault(p)}, "Type "+p.Type+" of property "+FullKey(p)+" is not valid.")
		case existed && was.Value != p.Value && p.Type != "expression" && !configurable:
			return vimfault.WithText(&types.NotUserConfigurableProperty{VAppPropertyFault: propertyFault(p)}, "Property "+FullKey(p)+" is not user configurable.")
		case !existed && p.Value != "" && p.Type != "expression" && !configurable && r.Is("vapp_fixed_value_added", "refused"):
			return vimfault.WithText(&types.NotUserConfigurableProperty{VAppPropertyFault: propertyFault(p)}, "Property "+FullKey(p)+" is not user configurable.")
		case p.Type == "expression" || r.Is("vapp_values_checked", "no"):
		case !isPropertyValue(p.Type, p.Value), !isPropertyValue(p.Type, p.DefaultValue):
			return vimfault.WithText(&types.InvalidPropertyValue{VAppPropertyFault: propertyFault(p)}, "Value "+p.Value+" of property "+FullKey(p)+" is not valid for type "+p.Type+".")
		}
	}
	return nil
}

var (
	plainType   = regexp.MustCompile(`^(string|password|int|real|boolean|ip|ip:.+|expression)?$`)
	boundedType = regexp.MustCompile(`^(string|password|int|real)\(\s*([^.\s][^\s]*?)?\s*\.\.\s*([^\s]*?)\s*\)$`)
	choiceType  = regexp.MustCompile(`^string\[(\s*"(?:[^"\\]|\\.)*"\s*(?:,\s*"(?:[^"\\]|\\.)*"\s*)*)\]$`)
	choice      = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
	unescaped   = regexp.MustCompile(`\\(.)`)
	integer     = regexp.MustCompile(`^[+-]?[0-9]{1,100}$`)
	realNumber  = regexp.MustCompile(`^[+-]?[0-9]*\.[0-9]+([eE][+-]?[0-9]+)?$`)
)

// isPropertyType reports whether a type is one of VAppPropertyInfo.type; a
// property without a type is a string.
func isPropertyType(kind string) bool {
	return plainType.MatchString(kind) || boundedType.MatchString(kind) || choiceType.MatchString(kind)
}

// isPropertyValue reports whether a type allows a value; an empty value means
// none.
func isPropertyValue(kind, value string) bool {
	if value == "" {
		return true
	}
	if match := choiceType.FindStringSubmatch(kind); match != nil {
		for _, listed := range choice.FindAllStringSubmatch(match[1], -1) {
			if unescaped.ReplaceAllString(listed[1], "$1") == value {
				return true
			}
		}
		return false
	}
	name, low, high := kind, "", ""
	if match := boundedType.FindStringSubmatch(kind); match != nil {
		name, low, high = match[1], match[2], match[3]
	}
	switch {
	case name == "" || name == "string" || name == "password":
		length := utf8.RuneCountInString(value)
		least, _ := strconv.Atoi(low)
		most, err := strconv.Atoi(high)
		return length <= 65535 && length >= least && (err != nil || length <= most)
	case name == "int":
		number, ok := new(big.Int).SetString(strings.TrimPrefix(value, "+"), 10)
		if low == "" && high == "" {
			low, high = "-2147483648", "2147483647"
		}
		least, hasLeast := new(big.Int).SetString(low, 10)
		most, hasMost := new(big.Int).SetString(high, 10)
		return ok && integer.MatchString(value) && (!hasLeast || number.Cmp(least) >= 0) && (!hasMost || number.Cmp(most) <= 0)
	case name == "real":
		number, err := strconv.ParseFloat(value, 64)
		least, noLeast := strconv.ParseFloat(low, 64)
		most, noMost := strconv.ParseFloat(high, 64)
		return err == nil && realNumber.MatchString(value) && (noLeast != nil || number >= least) && (noMost != nil || number <= most)
	case name == "boolean":
		return strings.EqualFold(value, "true") || strings.EqualFold(value, "false")
	case strings.HasPrefix(name, "ip"):
		address, err := netip.ParseAddr(value)
		return err == nil && address.Zone() == ""
	}
	return true
}

// blank marks a text that a client sent empty, which govmomi's types cannot
// distinguish from an omitted one.
const blank = "\ufdd0blank\ufdd0"

var (
	vAppConfig = regexp.MustCompile(`(?s)<vAppConfig[ >].*</vAppConfig>`)
	emptyText  = regexp.MustCompile(`<(classId|instanceId|category|label|defaultValue|description|vendor|version|fullVersion|vendorUrl|productUrl|appUrl)(\s*/>|></[A-Za-z]+>)`)
)

// MarkBlanks marks the empty texts in the vApp options of a request.
func MarkBlanks(request []byte) []byte {
	return vAppConfig.ReplaceAllFunc(request, func(options []byte) []byte {
		if !bytes.Contains(options, []byte("<info")) {
			return options
		}
		return emptyText.ReplaceAll(options, []byte("<$1>"+blank+"</$1>"))
	})
}

// withoutBlanks returns a value whose blank texts are empty.
func withoutBlanks[T any](given T) T {
	value := reflect.ValueOf(&given).Elem()
	for i := range value.NumField() {
		if field := value.Field(i); field.Kind() == reflect.String && field.String() == blank {
			field.SetString("")
		}
	}
	return given
}

// leastLength finds the least length in a type such as string(1..) or string(3..8).
var leastLength = regexp.MustCompile(`^string\((\d+)\.\.`)

// requiresValue reports whether an empty value is invalid for a property's
// type, so that vCenter does not power on the VM (rules required_property_empty
// and required_property_types).
func requiresValue(r *rules.Rules, kind string) bool {
	if kind == "ip" || kind == "boolean" {
		return true
	}
	if !r.Is("required_property_types", "all") {
		return false
	}
	if least := leastLength.FindStringSubmatch(kind); least != nil {
		length, err := strconv.Atoi(least[1])
		return err != nil || length > 0
	}
	return strings.HasPrefix(kind, "string[") || strings.HasPrefix(kind, "int") || strings.HasPrefix(kind, "real")
}

// missingValue is the fault for a property that lacks a required value.
func missingValue(p types.VAppPropertyInfo) types.BaseMethodFault {
	return vimfault.WithText(&types.InvalidPropertyValue{VAppPropertyFault: propertyFault(p)},
		fmt.Sprintf("Property '%s' must be configured for the VM to power on.", cmp.Or(p.Label, FullKey(p))))
}
