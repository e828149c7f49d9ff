// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The extraConfig keys that every VM has, as written by vCenter and ESXi.

package vsphere

import (
	"fmt"

	"github.com/vmware/govmomi/vim25/types"
)

// defaultExtraConfig is the extraConfig of an unmodified VM: a real one has
// about 60 keys, which vCenter and the ESXi host write.
func defaultExtraConfig(name string) []types.BaseOptionValue {
	var all []types.BaseOptionValue
	add := func(key, value string) { all = append(all, &types.OptionValue{Key: key, Value: value}) }
	add("nvram", name+".nvram")
	add("svga.present", "TRUE")
	add("hpet0.present", "TRUE")
	add("disk.EnableUUID", "TRUE")
	add("RemoteDisplay.maxConnections", "-1")
	add("monitor.phys_bits_used", "45")
	add("numa.autosize.vcpu.maxPerVirtualNode", "1")
	add("numa.autosize.cookie", "10012")
	add("sched.cpu.latencySensitivity", "normal")
	add("sched.swap.derivedName", fmt.Sprintf("/vmfs/volumes/5f3e0c2a-1b2c3d4e-5f60-005056000001/%[1]s/%[1]s.vswp", name))
	add("softPowerOff", "FALSE")
	add("svga.guestBackedPrimaryAware", "TRUE")
	add("tools.guest.desktop.autolock", "FALSE")
	add("tools.remindInstall", "FALSE")
	add("toolsInstallManager.lastInstallError", "0")
	add("toolsInstallManager.updateCounter", "1")
	add("vmware.tools.internalversion", "12389")
	add("vmware.tools.requiredversion", "12389")
	add("viv.moid", "c5a2f6a4-0d3d-4a7b-9b1c-5d5b2b0c9a11:vm-42:Vb0q5c3b7o0a9n8m7l6k5j4h3g2f1d0s")
	add("vmotion.checkpointFBSize", "4194304")
	add("vmotion.checkpointSVGAPrimarySize", "4194304")
	add("vmotion.svga.mobMaxSize", "4194304")
	add("vmotion.svga.graphicsMemoryKB", "4096")
	add("vmxstats.filename", name+".scoreboard")
	add("virtualHW.productCompatibility", "hosted")
	add("migrate.hostLogState", "none")
	add("migrate.migrationId", "0")
	add("migrate.hostLog", name+"-1a2b3c4d.hlog")
	add("scsi0.pciSlotNumber", "160")
	add("scsi0.sasWWID", "50 05 05 6b 6b 6c 2d 10")
	add("ethernet0.pciSlotNumber", "192")
	add("vmci0.pciSlotNumber", "32")
	add("monitor_control.disable_apichv", "FALSE")
	add("pciBridge0.present", "TRUE")
	add("pciBridge0.pciSlotNumber", "17")
	for i := 4; i < 8; i++ {
		bridge := fmt.Sprintf("pciBridge%d.", i)
		add(bridge+"present", "TRUE")
		add(bridge+"virtualDev", "pcieRootPort")
		add(bridge+"functions", "8")
		add(bridge+"pciSlotNumber", fmt.Sprint(17+i))
		add(bridge+"domain", "0")
		add(bridge+"hotplug", "TRUE")
	}
	return all
}
