// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"testing"

	"github.com/vmware/govmomi/object"
)

func TestVMsInVAppHaveNoFolder(t *testing.T) {
	b := start(t)
	vApp, web, _ := b.shop()
	folder := b.sim.vmFolder().Self
	source := b.vm("DC0_H0_VM0")
	for vm, inVApp := range map[string]bool{web.Value: true, source.Value: false} {
		ref := web
		ref.Value = vm
		read := b.read(ref, "parent", "parentVApp")
		if (read.Parent == nil) != inVApp || (read.ParentVApp != nil && *read.ParentVApp == vApp.Reference()) != inVApp {
			t.Errorf("%s: %v, %v", vm, read.Parent, read.ParentVApp)
		}
	}
	index := object.NewSearchIndex(b.client.Client)
	if found, err := index.FindChild(b.ctx, folder, "web"); err != nil || found != nil {
		t.Errorf("in the folder: %v, %v", found, err)
	}
	if found, err := index.FindByInventoryPath(b.ctx, "/DC0/vm/web"); err != nil || found != nil {
		t.Errorf("at its path: %v, %v", found, err)
	}
	if name := b.read(web, "name").Name; name != "web" {
		t.Error(name)
	}
}
