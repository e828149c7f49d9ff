// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Recovery from panics in methods of govmomi's simulator.

package vsphere

import (
	"fmt"
	"net/http"
	"reflect"
	"runtime/debug"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// govmomi's simulator keeps the lock of an object whose method panics, so every
// later call on it would wait forever. Here such a call is answered with
// SystemError, and the lock is released. Locks of other objects that the method
// took are not released.

// activeCalls are the calls in progress, by their HTTP requests.
type activeCalls struct{ calls sync.Map }

// activeCall is the lock that a call holds.
type activeCall struct {
	ctx *simulator.Context
	ref types.ManagedObjectReference
}

// requestOf identifies the HTTP request of a context.
func requestOf(ctx *simulator.Context) uintptr {
	return reflect.ValueOf(ctx).Elem().FieldByName("req").Pointer()
}

// begin records the object of a call.
func (u *activeCalls) begin(ctx *simulator.Context, ref types.ManagedObjectReference) {
	if request := requestOf(ctx); request != 0 {
		u.calls.Store(request, activeCall{ctx, ref})
	}
}

// recoverPanic is deferred around the answer to a request.
func (s *Simulator) recoverPanic(r *http.Request, answer *responseBuffer) {
	call, known := s.activeCalls.calls.LoadAndDelete(reflect.ValueOf(r).Pointer())
	recovered := recover()
	if recovered == nil {
		return
	}
	if recovered == http.ErrAbortHandler || !known {
		panic(recovered)
	}
	s.log.Printf("a call on %s panics: %v\n%s", call.(activeCall).ref, recovered, debug.Stack())
	call.(activeCall).unlock()
	*answer = *newResponseBuffer()
	text := fmt.Sprintf("A general system error occurred: %v", recovered)
	writeFault(answer, "ServerFaultCode", text, &types.SystemError{Reason: fmt.Sprint(recovered)})
}

// unlock releases the object's lock as often as the call has taken it: one
// release too many panics, and changes nothing.
func (c activeCall) unlock() {
	if _, ownLock := c.ctx.Map.Get(c.ref).(sync.Locker); ownLock {
		return
	}
	defer func() { _ = recover() }()
	release := c.ctx.Map.AcquireLock(c.ctx, c.ref)
	for {
		release()
	}
}
