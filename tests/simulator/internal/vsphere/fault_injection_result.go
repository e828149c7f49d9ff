// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"fmt"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// newAnswer is the result of a task whose server gives another one than the
// object it made: "int", "string", "bool", "nil", "list" (of the object named
// after a colon, or empty), or one managed object as "Type:id".
func newResult(answer string) (types.AnyType, error) {
	kind, rest, named := strings.Cut(answer, ":")
	switch {
	case kind == "int":
		return int32(42), nil
	case kind == "string":
		return "vm-42", nil
	case kind == "bool":
		return true, nil
	case kind == "nil":
		return nil, nil
	case kind == "list":
		list := types.ArrayOfManagedObjectReference{ManagedObjectReference: []types.ManagedObjectReference{}}
		if named {
			list.ManagedObjectReference = append(list.ManagedObjectReference,
				types.ManagedObjectReference{Type: "VirtualMachine", Value: rest})
		}
		return list, nil
	case named && kind != "" && rest != "":
		return types.ManagedObjectReference{Type: kind, Value: rest}, nil
	}
	return nil, fmt.Errorf("answer is int, string, bool, nil, list, list:id or Type:id, not %q", answer)
}

// answered replaces the result of a task that succeeded, where that was asked
// for.
func (s *Simulator) replaceResult(plan *taskPlan, entity types.ManagedObjectReference, result types.AnyType) types.AnyType {
	injected := s.faults.take("answer", plan.method, entity.Value, append(plan.names, s.names.of(entity.Value))...)
	if injected == nil {
		return result
	}
	other, _ := newResult(injected.Answer) // it was checked by add
	return other
}
