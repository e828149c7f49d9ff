// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package vimfault creates vSphere faults and knows the texts that vCenter
// reports with them.
package vimfault

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// New creates a fault of a type given by name, about a VM, with a message.
func New(kind, vm, message string) (types.BaseMethodFault, error) {
	goType, ok := types.TypeFunc()(kind)
	if ok {
		if fault, ok := reflect.New(goType).Interface().(types.BaseMethodFault); ok {
			fillRequired(reflect.ValueOf(fault).Elem(), vm)
			return WithText(fault, message), nil
		}
	}
	return nil, fmt.Errorf("%q is not the name of a fault", kind)
}

// fillRequired sets the fields of a fault that a server never omits, and
// without which a client cannot parse it: enumerations and references.
func fillRequired(fault reflect.Value, vm string) {
	for i := range fault.NumField() {
		field, kind := fault.Field(i), fault.Type().Field(i)
		if kind.Anonymous {
			fillRequired(field, vm)
			continue
		}
		if strings.Contains(kind.Tag.Get("xml"), ",omitempty") {
			continue
		}
		if field.Type() == reflect.TypeOf(types.ManagedObjectReference{}) {
			ref := types.ManagedObjectReference{Type: "VirtualMachine", Value: vm}
			if kind.Name == "Task" {
				ref = types.ManagedObjectReference{Type: "Task", Value: "task-0"}
			}
			field.Set(reflect.ValueOf(ref))
		} else if values := field.MethodByName("Values"); field.Kind() == reflect.String && values.IsValid() {
			field.Set(values.Call(nil)[0].Index(0))
		}
	}
}

// WithText sets the text that a fault's task or call reports.
func WithText(fault types.BaseMethodFault, message string) types.BaseMethodFault {
	if message != "" {
		fault.GetMethodFault().FaultMessage = []types.LocalizableMessage{{Key: "vmforksim", Message: message}}
	}
	return fault
}

// Text returns the sentence that vCenter shows for a fault.
func Text(fault types.BaseMethodFault) string {
	if messages := fault.GetMethodFault().FaultMessage; len(messages) > 0 && messages[0].Message != "" {
		return messages[0].Message
	}
	switch fault := fault.(type) {
	case *types.InvalidState:
		return "The operation is not allowed in the current state."
	case *types.NotSupported:
		return "The operation is not supported on the object."
	case *types.NoPermission:
		return "Permission to perform this operation was denied."
	case *types.DuplicateName:
		return fmt.Sprintf("The name '%s' already exists.", fault.Name)
	case *types.InvalidName:
		return fmt.Sprintf("The name '%s' is invalid.", fault.Name)
	case *types.InvalidPowerState:
		return fmt.Sprintf("The attempted operation cannot be performed in the current state (%s).", fault.ExistingState)
	case *types.InvalidArgument:
		return "A specified parameter was not correct: " + fault.InvalidProperty
	case *types.ToolsUnavailable:
		return "Cannot complete operation because VMware Tools is not running in this virtual machine."
	case *types.GuestOperationsUnavailable:
		return "The guest operations agent could not be contacted."
	case *types.InvalidGuestLogin:
		return "Failed to authenticate with the guest operating system using the supplied credentials."
	case *types.NotAuthenticated:
		return "The session is not authenticated."
	}
	return "A general system error occurred: " + reflect.TypeOf(fault).Elem().Name()
}
