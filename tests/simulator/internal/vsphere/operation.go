// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The operation of a call: its user, and its event chain.

package vsphere

import (
	"context"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// operation is everything that a call does to the inventory. The call's context
// carries it.
type operation struct {
	origin powerOrigin
	user   string // the user in the events; "" means the system
	silent bool   // no events are posted

	chain        int32                      // the chain of its events; guarded by events.mu
	reconfigured *types.VmReconfiguredEvent // kept when the task succeeds
}

type operationKey struct{}

// startOperation returns a context with an operation.
func startOperation(ctx *simulator.Context, op operation) {
	parent := ctx.Context
	if parent == nil {
		parent = context.Background()
	}
	ctx.Context = context.WithValue(parent, operationKey{}, &op)
}

// hasEvents reports whether an event of the operation was logged.
func (op *operation) hasEvents() bool { return op.chain != 0 }

// operationOf returns the operation of a context. Operations of the simulator
// itself are vCenter's.
func operationOf(ctx *simulator.Context) *operation {
	if ctx.Context != nil {
		if op, ok := ctx.Context.Value(operationKey{}).(*operation); ok {
			return op
		}
	}
	return &operation{origin: fromVCenter}
}
