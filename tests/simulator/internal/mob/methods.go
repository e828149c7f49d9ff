// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package mob

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// methodInfo is a method of the Managed Object Browser, with its name in the
// object model where SOAP uses another one.
type methodInfo struct {
	soapName string
	result   string // how the page names its type
}

const (
	taskResult = "ManagedObjectReference:Task"
	voidResult = "void"
)

// methodTable contains the methods that can be called, by type of the object.
// The names are those of pyVmomi's method tables.
var methodTable = map[string]map[string]methodInfo{
	"VirtualMachine": {
		"clone":                   {"CloneVM_Task", taskResult},
		"createForkChild":         {"CreateForkChild_Task", taskResult},
		"createSnapshot":          {"CreateSnapshot_Task", taskResult},
		"customize":               {"CustomizeVM_Task", taskResult},
		"destroy":                 {"Destroy_Task", taskResult},
		"disableForkParent":       {"DisableForkParent_Task", taskResult},
		"enableForkParent":        {"EnableForkParent_Task", taskResult},
		"extractOvfEnvironment":   {"ExtractOvfEnvironment", "string"},
		"instantClone":            {"InstantClone_Task", taskResult},
		"markAsTemplate":          {"MarkAsTemplate", voidResult},
		"powerOff":                {"PowerOffVM_Task", taskResult},
		"powerOn":                 {"PowerOnVM_Task", taskResult},
		"promoteDisks":            {"PromoteDisks_Task", taskResult},
		"rebootGuest":             {"RebootGuest", voidResult},
		"reconfigure":             {"ReconfigVM_Task", taskResult},
		"relocate":                {"RelocateVM_Task", taskResult},
		"removeAllSnapshots":      {"RemoveAllSnapshots_Task", taskResult},
		"rename":                  {"Rename_Task", taskResult},
		"reset":                   {"ResetVM_Task", taskResult},
		"retrieveForkChildren":    {"RetrieveForkChildren_Task", taskResult},
		"retrieveForkParent":      {"RetrieveForkParent_Task", taskResult},
		"revertToCurrentSnapshot": {"RevertToCurrentSnapshot_Task", taskResult},
		"shutdownGuest":           {"ShutdownGuest", voidResult},
		"suspend":                 {"SuspendVM_Task", taskResult},
		"unregister":              {"UnregisterVM", voidResult},
		"upgradeVirtualHardware":  {"UpgradeVM_Task", taskResult},
	},
	"SessionManager": {"logout": {"Logout", voidResult}},
	"ServiceInstance": {
		"currentTime":     {"CurrentTime", "dateTime"},
		"retrieveContent": {"RetrieveServiceContent", "ServiceContent"},
	},
	"SearchIndex": {
		"findByInventoryPath": {"FindByInventoryPath", "ManagedObjectReference:ManagedEntity"},
		"findByUuid":          {"FindByUuid", "ManagedObjectReference:ManagedEntity"},
	},
	"Task": {"cancel": {"CancelTask", voidResult}},
}

// method finds a method of an object that the server's version has.
func (b *Browser) method(object types.ManagedObjectReference, name string) (methodInfo, bool) {
	method, ok := methodTable[object.Type][name]
	return method, ok && b.server.HasMethod(method.soapName)
}

// listed returns the methods that an object's page links to (rule
// mob_hidden_methods).
func (b *Browser) listed(object types.ManagedObjectReference) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(methodTable[object.Type])) {
		if method, ok := b.method(object, name); ok && !b.server.IsHidden(method.soapName) {
			names = append(names, name)
		}
	}
	return names
}

// parameters are a method's parameters.
func (m methodInfo) parameters() []fieldInfo {
	request, _ := types.TypeFunc()(m.soapName)
	return fieldsOf(request)
}

// resultType is the type of a method's result; nil for a reference.
func (m methodInfo) resultType() reflect.Type {
	if strings.HasPrefix(m.result, "ManagedObjectReference:") {
		return morefType
	}
	if t, ok := xsdTypes[m.result]; ok {
		return t
	}
	t, _ := types.TypeFunc()(m.result)
	return t
}
