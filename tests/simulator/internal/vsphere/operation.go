// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"context"

	"github.com/vmware/govmomi/simulator"
)

// operation is what one call does to the inventory, with all that follows from
// it. It travels with the call's context.
type operation struct {
	origin powerOrigin
	user   string // whom the events name; "" is the system
}

type operationKey struct{}

// begin makes a context that of an operation.
func begin(ctx *simulator.Context, op operation) {
	parent := ctx.Context
	if parent == nil {
		parent = context.Background()
	}
	ctx.Context = context.WithValue(parent, operationKey{}, &op)
}

// operationOf is the operation that a context belongs to. What the simulator
// does by itself is vCenter's own doing.
func operationOf(ctx *simulator.Context) *operation {
	if ctx.Context != nil {
		if op, ok := ctx.Context.Value(operationKey{}).(*operation); ok {
			return op
		}
	}
	return &operation{origin: fromVCenter}
}
