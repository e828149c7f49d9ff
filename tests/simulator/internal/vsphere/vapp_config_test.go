// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func TestWhatIsRefusedInProperties(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	fixed := func(p *types.VAppPropertyInfo) { p.UserConfigurable = types.NewBool(false) }
	b.setVApp(vm, options(prop(1, "a", "string", "x", byDefault("d")), prop(2, "fixed", "string", "", byDefault("x"), fixed)))
	change := func(properties ...types.VAppPropertySpec) types.VirtualMachineConfigSpec {
		return types.VirtualMachineConfigSpec{VAppConfig: &types.VmConfigSpec{Property: properties}}
	}
	before := b.vApp(vm)
	b.reconfigure(vm, change(prop(3, "b", "uint8", "")), "InvalidPropertyType")
	b.reconfigure(vm, change(prop(3, "b", "int(0..255)", "256")), "InvalidPropertyValue")
	b.reconfigure(vm, change(edit(types.VAppPropertyInfo{Key: 2, Value: "y"})), "NotUserConfigurableProperty")
	if after := b.vApp(vm); len(after.Property) != len(before.Property) || after.Property[1].Value != "" {
		t.Errorf("a refused change was made: %v", after)
	}
	b.reconfigure(vm, change(edit(types.VAppPropertyInfo{Key: 2, Label: "Fixed"})), "")
	b.reconfigure(vm, change(edit(types.VAppPropertyInfo{Key: 2, Value: "y", UserConfigurable: types.NewBool(true)})), "")

	b.rule("vapp_change_while_on", "InvalidPowerState")
	b.reconfigure(vm, change(edit(types.VAppPropertyInfo{Key: 1, Value: "z"})), "InvalidPowerState")
	b.reconfigure(vm, types.VirtualMachineConfigSpec{VAppConfigRemoved: types.NewBool(true)}, "InvalidPowerState")
	if b.vApp(vm) == nil {
		t.Error("the vApp options are gone")
	}
	b.rule("vapp_change_while_on", "accepted")
	b.reconfigure(vm, types.VirtualMachineConfigSpec{VAppConfigRemoved: types.NewBool(true)}, "")
	if b.vApp(vm) != nil {
		t.Error("the vApp options are there")
	}
}

// Fields that an edit omits, and fields that it sends empty.
func TestFieldsOfAnEdit(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	property := func() types.VAppPropertyInfo { return b.vApp(vm).Property[0] }
	sent := func(fields string) {
		b.Helper()
		b.expect("edit", b.raw.task("ReconfigVM_Task", vm, `<spec><vAppConfig xsi:type="VmConfigSpec"><property><operation>edit</operation><info><key>1</key>`+
			fields+`</info></property></vAppConfig></spec>`), "")
	}
	b.setVApp(vm, options(prop(1, "a", "string", "x", byDefault("d"), func(p *types.VAppPropertyInfo) { p.Label = "A" })))
	sent(`<id>a</id><value>x</value>`)
	if p := property(); p.DefaultValue != "d" || p.Label != "A" || p.Value != "x" {
		t.Errorf("%+v", p)
	}
	sent(`<id>a</id><label></label><defaultValue/><value></value>`)
	if p := property(); p.DefaultValue != "" || p.Label != "" || p.Value != "" {
		t.Errorf("%+v", p)
	}
}
