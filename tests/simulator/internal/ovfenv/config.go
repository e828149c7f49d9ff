// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package ovfenv

import (
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/rules"
	"vmforksim/internal/vimfault"
)

// The vApp options of a VM, config.vAppConfig, from which the OVF environment
// is built. govmomi's simulator keeps only properties and products and
// announces no change; here all fields are kept, and clients see a copy without
// passwords. A configuration is never changed in place.

// ApplySpec returns vApp options with a spec applied; nil if they are disabled.
func ApplySpec(r *rules.Rules, old *types.VmConfigInfo, given types.BaseVmConfigSpec, removed *bool) (*types.VmConfigInfo, types.BaseMethodFault) {
	if removed != nil && *removed {
		return nil, nil
	}
	if given == nil {
		return old, nil
	}
	info, spec := types.VmConfigInfo{}, given.GetVmConfigSpec()
	if old != nil {
		info = *old
	}
	var faults [3]types.BaseMethodFault
	info.Product, faults[0] = applyUpdates(info.Product, spec.Product, "product", func(u types.VAppProductSpec) (types.ArrayUpdateSpec, *types.VAppProductInfo) {
		return u.ArrayUpdateSpec, u.Info
	}, merged)
	info.Property, faults[1] = applyUpdates(info.Property, spec.Property, "property", func(u types.VAppPropertySpec) (types.ArrayUpdateSpec, *types.VAppPropertyInfo) {
		return u.ArrayUpdateSpec, u.Info
	}, func(old, given types.VAppPropertyInfo) types.VAppPropertyInfo { return editedProperty(r, old, given) })
	info.OvfSection, faults[2] = applyUpdates(info.OvfSection, spec.OvfSection, "ovfSection", func(u types.VAppOvfSectionSpec) (types.ArrayUpdateSpec, *types.VAppOvfSectionInfo) {
		return u.ArrayUpdateSpec, u.Info
	}, merged)
	var were []types.VAppPropertyInfo
	if old != nil {
		were = old.Property
	}
	for _, fault := range append(faults[:], checkPropertyKeys(info.Property), checkProperties(r, were, info.Property)) {
		if fault != nil {
			return nil, fault
		}
	}
	if ip := spec.IpAssignment; ip != nil {
		info.IpAssignment = merged(info.IpAssignment, *ip)
		info.IpAssignment.SupportedAllocationScheme = replacedList(info.IpAssignment.SupportedAllocationScheme, ip.SupportedAllocationScheme)
		info.IpAssignment.SupportedIpProtocol = replacedList(info.IpAssignment.SupportedIpProtocol, ip.SupportedIpProtocol)
	}
	info.Eula = replacedList(info.Eula, spec.Eula)
	info.OvfEnvironmentTransport = replacedList(info.OvfEnvironmentTransport, spec.OvfEnvironmentTransport)
	if spec.InstallBootRequired != nil {
		info.InstallBootRequired = *spec.InstallBootRequired
	}
	if spec.InstallBootStopDelay != 0 {
		info.InstallBootStopDelay = spec.InstallBootStopDelay
	}
	return &info, nil
}

// applyUpdates applies the updates of a spec to a list whose elements have keys.
func applyUpdates[T, U any](list []T, updates []U, path string, parts func(U) (types.ArrayUpdateSpec, *T), merge func(old, given T) T) ([]T, types.BaseMethodFault) {
	keyOf := func(element T) int32 { return int32(reflect.ValueOf(element).FieldByName("Key").Int()) }
	list = slices.Clone(list)
	for _, update := range updates {
		how, given := parts(update)
		var key int32
		removeKey, isKey := how.RemoveKey.(int32)
		switch {
		case how.Operation == types.ArrayUpdateOperationRemove && isKey:
			key = removeKey
		case given != nil:
			key = keyOf(*given)
		default:
			return nil, &types.InvalidArgument{InvalidProperty: "spec.vAppConfig." + path + ".info"}
		}
		at := slices.IndexFunc(list, func(element T) bool { return keyOf(element) == key })
		if (how.Operation == types.ArrayUpdateOperationAdd) != (at < 0) {
			return nil, &types.InvalidArgument{InvalidProperty: "spec.vAppConfig." + path + ".info.key"}
		}
		switch how.Operation {
		case types.ArrayUpdateOperationAdd:
			list = append(list, withoutBlanks(*given))
		case types.ArrayUpdateOperationEdit:
			list[at] = merge(list[at], *given)
		case types.ArrayUpdateOperationRemove:
			list = slices.Delete(list, at, at+1)
		}
	}
	return list, nil
}

// merged returns a value with the fields that a client sent; omitted fields are
// unchanged.
func merged[T any](old, given T) T {
	result, from := reflect.ValueOf(&old).Elem(), reflect.ValueOf(given)
	for i := range from.NumField() {
		if !from.Field(i).IsZero() {
			result.Field(i).Set(from.Field(i))
		}
	}
	return withoutBlanks(old)
}

// editedProperty uses the value as given, because an empty value means the
// default.
func editedProperty(r *rules.Rules, old, given types.VAppPropertyInfo) types.VAppPropertyInfo {
	result := merged(old, given)
	if r.Is("vapp_edit_left_out", "cleared") {
		result = withoutBlanks(given)
		if result.Id == "" {
			result.Id = old.Id
		}
		if isPassword(old) {
			result.Value = merged(old, given).Value
		}
	}
	if !isPassword(result) || r.Is("password_edited_empty", "cleared") {
		result.Value = given.Value
	}
	return result
}

// replacedList returns a list after an update: an empty update changes nothing,
// and a single empty text clears the list.
func replacedList(old, given []string) []string {
	switch {
	case len(given) == 0:
		return old
	case len(given) == 1 && given[0] == "":
		return nil
	}
	return given
}

// checkPropertyKeys refuses properties whose names in the environment are not
// unique or not complete.
func checkPropertyKeys(properties []types.VAppPropertyInfo) types.BaseMethodFault {
	seen := map[[3]string]bool{}
	for _, p := range properties {
		triple := [3]string{p.ClassId, p.Id, p.InstanceId}
		if p.Id == "" || strings.ContainsFunc(p.ClassId+p.Id+p.InstanceId, unicode.IsSpace) || seen[triple] {
			return vimfault.WithText(&types.InvalidArgument{InvalidProperty: "spec.vAppConfig.property.info.id"},
				"A specified parameter was not correct: the property "+FullKey(p)+" has no id, white space in its name, or is there already.")
		}
		seen[triple] = true
	}
	return nil
}

// FullKey is a property's name in the environment: [classId.]id[.instanceId].
func FullKey(p types.VAppPropertyInfo) string {
	key := p.Id
	if p.ClassId != "" {
		key = p.ClassId + "." + key
	}
	if p.InstanceId != "" {
		key += "." + p.InstanceId
	}
	return key
}

func isPassword(p types.VAppPropertyInfo) bool { return strings.HasPrefix(p.Type, "password") }

// WithoutPasswords returns properties as clients may see them.
func WithoutPasswords(properties []types.VAppPropertyInfo) []types.VAppPropertyInfo {
	properties = slices.Clone(properties)
	for i, p := range properties {
		if isPassword(p) {
			properties[i].Value, properties[i].DefaultValue = "", ""
		}
	}
	return properties
}

// WithoutSecrets returns a spec as govmomi's simulator and its events may see
// it: without values that are passwords in the resulting options, and with
// everything that the simulator requires.
func WithoutSecrets(given types.BaseVmConfigSpec, options *types.VmConfigInfo) *types.VmConfigSpec {
	spec := *given.GetVmConfigSpec()
	spec.Property = slices.Clone(spec.Property)
	for i, update := range spec.Property {
		if update.Info == nil {
			spec.Property[i].Info = &types.VAppPropertyInfo{Key: update.RemoveKey.(int32)}
			continue
		}
		info := withoutBlanks(*update.Info)
		if result := propertyOf(options, info.Key); result == nil || isPassword(*result) { // an edit need not say its type
			info.Value, info.DefaultValue = "", ""
		}
		spec.Property[i].Info = &info
	}
	spec.Product = slices.Clone(spec.Product)
	for i, update := range spec.Product {
		if update.Info == nil {
			spec.Product[i].Info = &types.VAppProductInfo{Key: update.RemoveKey.(int32)}
		}
	}
	return &spec
}

func propertyOf(info *types.VmConfigInfo, key int32) *types.VAppPropertyInfo {
	if info == nil {
		return nil
	}
	for _, p := range info.Property {
		if p.Key == key {
			return &p
		}
	}
	return nil
}

// ChangedParts reports whether a change of vApp options concerns their
// structure, and whether it concerns values: each requires its own privilege.
func ChangedParts(old *types.VmConfigInfo, given types.BaseVmConfigSpec, removed *bool) (structure, values bool) {
	structure = removed != nil && *removed
	if given == nil {
		return structure, false
	}
	spec := given.GetVmConfigSpec()
	structure = structure || len(spec.Product) > 0 || len(spec.OvfSection) > 0 || len(spec.Eula) > 0 ||
		len(spec.OvfEnvironmentTransport) > 0 || spec.InstallBootRequired != nil || spec.InstallBootStopDelay != 0
	if ip := spec.IpAssignment; ip != nil {
		structure = structure || len(ip.SupportedAllocationScheme) > 0 || len(ip.SupportedIpProtocol) > 0
		values = ip.IpAllocationPolicy != "" || ip.IpProtocol != ""
	}
	for _, update := range spec.Property {
		if update.Info == nil || update.Operation != types.ArrayUpdateOperationEdit {
			structure = true
			values = values || update.Info != nil && update.Info.Value != ""
			continue
		}
		values = true
		edited := *update.Info
		if before := propertyOf(old, edited.Key); before != nil {
			edited = merged(*before, edited)
			edited.Value = before.Value
			structure = structure || !reflect.DeepEqual(edited, *before)
		}
	}
	return structure, values
}
