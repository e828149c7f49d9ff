// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// Problems found with other clients.

func TestTaskNamesAtTheHost(t *testing.T) {
	b := start(t, withESX)
	host := b.esx("root")
	replica := object.NewVirtualMachine(host.Client, b.replicas(host)["DC0_H0_VM0"].Self)
	for want, do := range map[string]func() (*object.Task, error){
		"PowerOffVM_Task": func() (*object.Task, error) { return replica.PowerOff(b.ctx) },
	} {
		task, err := do()
		if err != nil {
			t.Fatal(err)
		}
		info, err := task.WaitForResult(b.ctx)
		if err != nil || info.Name != want {
			t.Errorf("%v: %q, want %s", err, info.Name, want)
		}
	}
	task, err := replica.PowerOn(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := task.WaitForResult(b.ctx); err != nil || info.Name != "PowerOnVM_Task" {
		t.Errorf("%v: %q", err, info.Name)
	}
}

// Every recent task has the name of a method, and every creation is among them.
func TestRecentTasks(t *testing.T) {
	b := start(t)
	vm := object.NewVirtualMachine(b.client.Client, b.vm("DC0_H0_VM0"))
	b.expect("off", b.power(vm.Reference(), false), "")
	folder := b.read(vm.Reference(), "parent").Parent
	pool := b.read(vm.Reference(), "resourcePool").ResourcePool
	task, err := object.NewFolder(b.client.Client, *folder).CreateVM(b.ctx, types.VirtualMachineConfigSpec{
		Name: "new", GuestId: "otherGuest64", Files: &types.VirtualMachineFileInfo{VmPathName: "[LocalDS_0]"},
	}, object.NewResourcePool(b.client.Client, *pool), nil)
	if err != nil {
		t.Fatal(err)
	}
	b.expect("create", b.ended(task.Reference()), "")
	var manager mo.TaskManager
	if err := property.DefaultCollector(b.client.Client).RetrieveOne(b.ctx, *b.client.ServiceContent.TaskManager, []string{"recentTask"}, &manager); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(manager.RecentTask, task.Reference()) {
		t.Errorf("%v is not among %v", task.Reference(), manager.RecentTask)
	}
	var tasks []mo.Task
	if err := property.DefaultCollector(b.client.Client).Retrieve(b.ctx, manager.RecentTask, []string{"info"}, &tasks); err != nil {
		t.Fatal(err)
	}
	for _, one := range tasks {
		if !isMethod(one.Info.Name) {
			t.Errorf("%s of %s is no method", one.Info.Name, one.Info.DescriptionId)
		}
	}
	var owner mo.Folder
	if err := property.DefaultCollector(b.client.Client).RetrieveOne(b.ctx, *folder, []string{"recentTask"}, &owner); err != nil || !slices.Contains(owner.RecentTask, task.Reference()) {
		t.Errorf("recent tasks of the folder: %v %v", owner.RecentTask, err)
	}
}

func TestCustomizePoweredOff(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.expect("off", b.power(vm, false), "")
	task, err := object.NewVirtualMachine(b.client.Client, vm).Customize(b.ctx, types.CustomizationSpec{
		Identity:      &types.CustomizationLinuxPrep{HostName: &types.CustomizationVirtualMachineName{}},
		NicSettingMap: []types.CustomizationAdapterMapping{{Adapter: types.CustomizationIPSettings{Ip: &types.CustomizationDhcpIpGenerator{}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.expect("customize", b.ended(task.Reference()), "")
	if nets := b.read(vm, "guest").Guest.Net; len(nets) > 0 {
		t.Errorf("a guest that is off reports %+v", nets)
	}
}

// A VM that is registered without a name gets the name of its file.
func TestRegisterWithoutName(t *testing.T) {
	b := start(t)
	ref := b.vm("DC0_H0_VM0")
	b.expect("off", b.power(ref, false), "")
	before := b.read(ref, "parent", "resourcePool", "config")
	if err := object.NewVirtualMachine(b.client.Client, ref).Unregister(b.ctx); err != nil {
		t.Fatal(err)
	}
	task, err := object.NewFolder(b.client.Client, *before.Parent).RegisterVM(
		b.ctx, before.Config.Files.VmPathName, "", false, object.NewResourcePool(b.client.Client, *before.ResourcePool), nil)
	if err != nil {
		t.Fatal(err)
	}
	again := b.expect("register", b.ended(task.Reference()), "").result.(types.ManagedObjectReference)
	if name := b.read(again, "name").Name; name != "DC0_H0_VM0" {
		t.Error(name)
	}
}

func TestAddDisk(t *testing.T) {
	b := start(t, modern)
	source := b.vm("DC0_H0_VM0")
	clone := b.cloned(source, "clone")
	for name, ref := range map[string]types.ManagedObjectReference{"DC0_H0_VM0": source, "clone": clone} {
		vm := object.NewVirtualMachine(b.client.Client, ref)
		for _, test := range []struct {
			what   string
			change func(disk *types.VirtualDisk)
			fault  string
		}{
			{"as govc", func(*types.VirtualDisk) {}, ""},
			{"without a file name", func(disk *types.VirtualDisk) {
				disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo).FileName = ""
			}, ""},
			{"without a unit number", func(disk *types.VirtualDisk) { disk.UnitNumber = nil }, ""},
			{"with a bare backing", func(disk *types.VirtualDisk) { disk.Backing = &types.VirtualDiskFlatVer2BackingInfo{} }, ""},
			{"without a backing", func(disk *types.VirtualDisk) { disk.Backing = nil }, "InvalidDeviceSpec"},
			{"without a controller", func(disk *types.VirtualDisk) { disk.ControllerKey = 4711 }, "InvalidDeviceSpec"},
		} {
			devices, err := vm.Device(b.ctx)
			if err != nil {
				t.Fatal(err)
			}
			controller, err := devices.FindDiskController("")
			if err != nil {
				t.Fatal(err)
			}
			file := "[LocalDS_0] " + name + "/" + strings.ReplaceAll(test.what, " ", "-") + ".vmdk"
			disk := devices.CreateDisk(controller, b.read(ref, "datastore").Datastore[0], file)
			disk.CapacityInKB = 1024
			test.change(disk)
			task, err := vm.Reconfigure(b.ctx, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
				&types.VirtualDeviceConfigSpec{
					Operation: types.VirtualDeviceConfigSpecOperationAdd, FileOperation: types.VirtualDeviceConfigSpecFileOperationCreate, Device: disk,
				},
			}})
			if err != nil {
				t.Fatalf("%s: %v", test.what, err)
			}
			got := b.ended(task.Reference())
			if got.fault != test.fault || strings.Contains(got.message, "runtime error") {
				t.Errorf("%s, %s: %q (%s)", name, test.what, got.fault, got.message)
			}
			after, err := vm.Device(b.ctx)
			if grown := len(after) - len(devices); err != nil || grown != map[bool]int{true: 1}[test.fault == ""] {
				t.Errorf("%s, %s: %v, %d devices more", name, test.what, err, grown)
			}
		}
	}
}

const plainOVF = `<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
 <References/>
 <VirtualSystem ovf:id="vm"><Info>A VM</Info><Name>vm</Name>%s</VirtualSystem>
</Envelope>`

func TestImportOVFWithoutSystem(t *testing.T) {
	b := start(t)
	source := b.read(b.vm("DC0_H0_VM0"), "resourcePool", "datastore")
	pool := object.NewResourcePool(b.client.Client, *source.ResourcePool)
	for name, hardware := range map[string]string{
		"no-system":   "<VirtualHardwareSection><Info>hardware</Info></VirtualHardwareSection>",
		"no-hardware": "",
	} {
		spec, err := ovf.NewManager(b.client.Client).CreateImportSpec(b.ctx, strings.Replace(plainOVF, "%s", hardware, 1), pool,
			object.NewDatastore(b.client.Client, source.Datastore[0]), &types.OvfCreateImportSpecParams{EntityName: name})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(spec.Error) > 0 || spec.ImportSpec == nil {
			t.Errorf("%s: %+v", name, spec.Error)
			continue
		}
		lease, err := pool.ImportVApp(b.ctx, spec.ImportSpec, nil, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := lease.Wait(b.ctx, spec.FileItem); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if err := lease.Complete(b.ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.vm(name)
	}
}
