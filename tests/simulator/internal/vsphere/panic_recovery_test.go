// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// fragile is an object whose method panics once.
type fragile struct {
	mo.HostDatastoreBrowser
	calls int
}

func (f *fragile) DeleteFile(*simulator.Context, *types.DeleteFile) soap.HasFault {
	if f.calls++; f.calls == 1 {
		panic("a mistake")
	}
	return &methods.DeleteFileBody{Res: &types.DeleteFileResponse{}}
}

func TestPanicInMethodLeavesNoLock(t *testing.T) {
	b := start(t)
	ref := b.sim.registry().Put(&fragile{}).Reference()
	call := func() (*rawFault, error) {
		_, fault, err := b.raw.call("DeleteFile", ref.Type, ref.Value, "<datastorePath>[x] y</datastorePath>")
		return fault, err
	}
	if fault, err := call(); err != nil || fault == nil || fault.kind() != "SystemError" {
		t.Fatalf("%+v, %v", fault, err)
	}
	ended := make(chan error, 1)
	go func() {
		fault, err := call()
		if fault != nil {
			t.Errorf("the second call: %+v", fault)
		}
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the second call waits for the lock of the first")
	}
}
