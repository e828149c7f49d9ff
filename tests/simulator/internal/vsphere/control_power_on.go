// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The control endpoint: powering a VM on as vCenter, a host client, HA or
// autostart would.

package vsphere

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

// controlPowerOn powers a VM on in one of the supported ways. A VM that HA or
// autostart starts was running until its host failed.
func (s *Simulator) controlPowerOn(r *http.Request) (any, error) {
	vm, err := s.vmOf(r)
	if err != nil {
		return nil, err
	}
	var request struct {
		Origin powerOrigin `json:"origin"`
		User   *string     `json:"user"` // of the session, in vCenter or on the host
		Host   string      `json:"host"` // where HA restarts the VM; "" is where it was
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	if !slices.Contains(powerOrigins, request.Origin) {
		return nil, fmt.Errorf("origin is one of %v, not %q", powerOrigins, request.Origin)
	}
	var target *simulator.HostSystem
	if request.Host != "" {
		if target = s.hostNamed(request.Host); target == nil || request.Origin != fromHA {
			return nil, fmt.Errorf("host is where HA restarts the VM; there is no host %q, or the origin is not %q", request.Host, fromHA)
		}
	}
	op := operation{origin: request.Origin}
	switch {
	case request.User != nil:
		op.user = *request.User
	case op.origin == fromVCenter:
		op.user = s.options.Username
	case op.origin == fromESXi:
		op.user = hostUser
	}
	ctx := s.background()
	startOperation(ctx, op)
	if fault := s.powerOnAs(ctx, vm, target); fault != nil {
		return nil, errors.New(vimfault.Text(fault))
	}
	vm.waitQueue()
	return s.view(vm), nil
}

// powerOnAs powers a VM on as the origin of the context's operation.
func (s *Simulator) powerOnAs(ctx *simulator.Context, vm *instance, target *simulator.HostSystem) types.BaseMethodFault {
	object, ok := vm.object(ctx)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: vm.ref}
	}
	origin := operationOf(ctx).origin
	failed := &types.HostEventArgument{}
	if origin == fromHA || origin == fromAutostart {
		s.crash(object)
		ctx.WithLock(object, func() {
			failed = s.eventOn(ctx, object).Host
			if target != nil {
				moveTo(ctx, object, target)
			}
		})
	}
	if fault := s.powerOnAndWait(ctx, vm.ref, origin); fault != nil {
		return fault
	}
	if origin == fromHA { // vCenter posts the event, not the host
		startOperation(ctx, operation{origin: fromHA})
		ctx.WithLock(object, func() { s.postRestartedByHA(ctx, object, failed) })
	}
	return nil
}

// crash ends a running VM as a failure of its host does: no event is posted.
func (s *Simulator) crash(object *simulator.VirtualMachine) {
	ctx := s.background()
	startOperation(ctx, operation{silent: true})
	var task types.ManagedObjectReference
	ctx.WithLock(object, func() {
		if object.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
			task = object.PowerOffVMTask(ctx, &types.PowerOffVM_Task{This: object.Self}).(*methods.PowerOffVM_TaskBody).Res.Returnval
		}
	})
	if task.Value != "" {
		waitTask(ctx, task)
	}
}
