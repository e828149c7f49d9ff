// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// ServiceInstance: vCenter's clock.

package vsphere

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// now returns the time of vCenter's clock, which may be wrong (flag
// -clock-offset). The times of events and of power-ons are read from it, those
// of tasks are not.
func (s *Simulator) now() time.Time { return time.Now().Add(s.options.ClockOffset) }

// serviceInstance overrides methods of the service instance, which reports the
// time.
type serviceInstance struct {
	*simulator.ServiceInstance
	sim *Simulator
}

func (i *serviceInstance) CurrentTime(*simulator.Context, *types.CurrentTime) soap.HasFault {
	return &methods.CurrentTimeBody{Res: &types.CurrentTimeResponse{Returnval: i.sim.now()}}
}
