// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The operation that a call belongs to: who caused it, and its event chain.

package vsphere

import (
	"context"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// operation is what one call does to the inventory, with all that follows from
// it. It travels with the call's context.
type operation struct {
	origin powerOrigin
	user   string // whom the events name; "" is the system
	silent bool   // nobody is left to post an event

	chain        int32                      // of its events; guarded by events.mu
	reconfigured *types.VmReconfiguredEvent // kept when the task succeeds
}

type operationKey struct{}

// startOperation makes a context that of an operation.
func startOperation(ctx *simulator.Context, op operation) {
	parent := ctx.Context
	if parent == nil {
		parent = context.Background()
	}
	ctx.Context = context.WithValue(parent, operationKey{}, &op)
}

// hasEvents reports whether an event of the operation was logged.
func (op *operation) hasEvents() bool { return op.chain != 0 }

// operationOf is the operation that a context belongs to. What the simulator
// does on its own is done by vCenter.
func operationOf(ctx *simulator.Context) *operation {
	if ctx.Context != nil {
		if op, ok := ctx.Context.Value(operationKey{}).(*operation); ok {
			return op
		}
	}
	return &operation{origin: fromVCenter}
}
