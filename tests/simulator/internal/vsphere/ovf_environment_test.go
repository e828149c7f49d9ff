// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/ovfenv"
	"vmforksim/internal/vimfault"
)

// prop returns a spec that adds a property.
func prop(key int32, id, kind, value string, more ...func(*types.VAppPropertyInfo)) types.VAppPropertySpec {
	info := &types.VAppPropertyInfo{Key: key, Id: id, Type: kind, Value: value, UserConfigurable: types.NewBool(true)}
	for _, change := range more {
		change(info)
	}
	return types.VAppPropertySpec{ArrayUpdateSpec: types.ArrayUpdateSpec{Operation: types.ArrayUpdateOperationAdd}, Info: info}
}

func class(class, instance string) func(*types.VAppPropertyInfo) {
	return func(p *types.VAppPropertyInfo) { p.ClassId, p.InstanceId = class, instance }
}

func byDefault(value string) func(*types.VAppPropertyInfo) {
	return func(p *types.VAppPropertyInfo) { p.DefaultValue = value }
}

func edit(info types.VAppPropertyInfo) types.VAppPropertySpec {
	return types.VAppPropertySpec{ArrayUpdateSpec: types.ArrayUpdateSpec{Operation: types.ArrayUpdateOperationEdit}, Info: &info}
}

func removed(key int32) types.VAppPropertySpec {
	return types.VAppPropertySpec{ArrayUpdateSpec: types.ArrayUpdateSpec{Operation: types.ArrayUpdateOperationRemove, RemoveKey: key}}
}

// options returns vApp options that are delivered through guestinfo.
func options(properties ...types.VAppPropertySpec) *types.VmConfigSpec {
	return &types.VmConfigSpec{Property: properties, OvfEnvironmentTransport: []string{byGuestInfo}}
}

// reconfigure expects a reconfigure to end with a fault; "" means success.
func (b *bed) reconfigure(vm types.ManagedObjectReference, spec types.VirtualMachineConfigSpec, fault string) {
	b.Helper()
	task, err := object.NewVirtualMachine(b.client.Client, vm).Reconfigure(b.ctx, spec)
	if err != nil {
		b.Fatal(err)
	}
	b.expect("reconfigure", b.ended(task.Reference()), fault)
}

func (b *bed) setVApp(vm types.ManagedObjectReference, spec *types.VmConfigSpec) {
	b.Helper()
	b.reconfigure(vm, types.VirtualMachineConfigSpec{VAppConfig: spec}, "")
}

// clear empties a list of the vApp options with a single empty text, which
// govmomi's client cannot send.
func (b *bed) clear(vm types.ManagedObjectReference, list string) {
	b.Helper()
	b.expect("clear", b.raw.task("ReconfigVM_Task", vm, `<spec><vAppConfig xsi:type="VmConfigSpec"><`+list+`></`+list+`></vAppConfig></spec>`), "")
}

func (b *bed) setExtra(vm types.ManagedObjectReference, key, value string) {
	b.Helper()
	b.reconfigure(vm, types.VirtualMachineConfigSpec{ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: key, Value: value}}}, "")
}

// vApp reads config.vAppConfig; nil when it is unset.
func (b *bed) vApp(vm types.ManagedObjectReference) *types.VmConfigInfo {
	b.Helper()
	config := b.read(vm, "config").Config
	if config.VAppConfig == nil {
		return nil
	}
	return config.VAppConfig.GetVmConfigInfo()
}

// values returns the properties of config.vAppConfig by full key.
func (b *bed) values(vm types.ManagedObjectReference) map[string]string {
	b.Helper()
	values := map[string]string{}
	for _, p := range b.vApp(vm).Property {
		values[ovfenv.FullKey(p)] = p.Value
	}
	return values
}

// cycled powers a VM off, if it is running, and on through vCenter.
func (b *bed) cycled(vm types.ManagedObjectReference) {
	b.Helper()
	if b.read(vm, "runtime").Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
		b.expect("off", b.power(vm, false), "")
	}
	b.expect("on", b.power(vm, true), "")
}

// startedBy powers a VM off and on without vCenter.
func (b *bed) startedBy(vm types.ManagedObjectReference, from powerOrigin) {
	b.Helper()
	if b.read(vm, "runtime").Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
		b.expect("off", b.power(vm, false), "")
	}
	if fault := b.sim.powerOnAndWait(b.sim.background(), vm, from); fault != nil {
		b.Fatal(vimfault.Text(fault))
	}
}

// seen returns the content of guestinfo.ovfEnv in the guest; "" means none.
func (b *bed) seen(vm types.ManagedObjectReference) string {
	b.Helper()
	return b.guestView(vm).Guestinfo["ovfEnv"]
}

// extract calls ExtractOvfEnvironment.
func (b *bed) extract(vm types.ManagedObjectReference) string {
	b.Helper()
	res, err := methods.ExtractOvfEnvironment(b.ctx, b.client.Client, &types.ExtractOvfEnvironment{This: vm})
	if err != nil {
		b.Fatal(err)
	}
	return res.Returnval
}

// parsed returns the properties of a document and of its entities.
func (b *bed) parsed(document string) (own map[string]string, entities map[string]map[string]string) {
	b.Helper()
	type section struct {
		Property []struct {
			Key   string `xml:"http://schemas.dmtf.org/ovf/environment/1 key,attr"`
			Value string `xml:"http://schemas.dmtf.org/ovf/environment/1 value,attr"`
		} `xml:"Property"`
	}
	var env struct {
		XMLName xml.Name `xml:"http://schemas.dmtf.org/ovf/environment/1 Environment"`
		Section section  `xml:"PropertySection"`
		Entity  []struct {
			ID      string  `xml:"http://schemas.dmtf.org/ovf/environment/1 id,attr"`
			Section section `xml:"PropertySection"`
		} `xml:"Entity"`
	}
	if err := xml.Unmarshal([]byte(document), &env); err != nil {
		b.Fatalf("%v in %s", err, document)
	}
	values := func(s section) map[string]string {
		values := map[string]string{}
		for _, p := range s.Property {
			values[p.Key] = p.Value
		}
		return values
	}
	entities = map[string]map[string]string{}
	for _, entity := range env.Entity {
		entities[entity.ID] = values(entity.Section)
	}
	return values(env.Section), entities
}

// All fields of vApp options are kept, can be changed one by one, and are
// announced.
func TestVAppOptions(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	if got := b.vApp(vm); got != nil {
		t.Fatalf("before: %+v", got)
	}
	whole := &types.VmConfigSpec{
		Property: []types.VAppPropertySpec{
			prop(1, "ip0", "string", "192.0.2.1", class("vami", "X"), byDefault("0.0.0.0")),
			prop(2, "password", "password(8..)", "planted-secret-value", byDefault("planted-secret-default")),
		},
		Product: []types.VAppProductSpec{{
			ArrayUpdateSpec: types.ArrayUpdateSpec{Operation: types.ArrayUpdateOperationAdd},
			Info:            &types.VAppProductInfo{Key: 1, ClassId: "vami", Name: "Appliance", FullVersion: "1.2.3 build 4", AppUrl: "http://${app.ip}/"},
		}},
		OvfSection: []types.VAppOvfSectionSpec{{
			ArrayUpdateSpec: types.ArrayUpdateSpec{Operation: types.ArrayUpdateOperationAdd},
			Info:            &types.VAppOvfSectionInfo{Key: 7, Namespace: "urn:n", Type: "T_Type", AtEnvelopeLevel: types.NewBool(true), Contents: "<a/>"},
		}},
		IpAssignment: &types.VAppIPAssignmentInfo{
			SupportedAllocationScheme: []string{"dhcp", "ovfenv"}, IpAllocationPolicy: "fixedPolicy",
			SupportedIpProtocol: []string{"IPv4"}, IpProtocol: "IPv4",
		},
		Eula:                    []string{"Do no harm."},
		OvfEnvironmentTransport: []string{byGuestInfo, byISO},
		InstallBootRequired:     types.NewBool(true),
		InstallBootStopDelay:    30,
	}
	want := &types.VmConfigInfo{
		Property: []types.VAppPropertyInfo{*whole.Property[0].Info, *whole.Property[1].Info}, Product: []types.VAppProductInfo{*whole.Product[0].Info},
		OvfSection: []types.VAppOvfSectionInfo{*whole.OvfSection[0].Info}, IpAssignment: *whole.IpAssignment, Eula: whole.Eula,
		OvfEnvironmentTransport: whole.OvfEnvironmentTransport, InstallBootRequired: true, InstallBootStopDelay: 30,
	}
	want.Property[1].Value, want.Property[1].DefaultValue = "", ""
	change := func(spec types.VmConfigSpec) func() { return func() { b.setVApp(vm, &spec) } }
	property1 := func(info types.VAppPropertyInfo) func() {
		return change(types.VmConfigSpec{Property: []types.VAppPropertySpec{edit(info)}})
	}
	for _, step := range []struct {
		what   string
		change func()
		then   func()
	}{
		{"all fields", change(*whole), func() {}},
		{"a value, by key alone", property1(types.VAppPropertyInfo{Key: 1, Value: "192.0.2.2"}), func() { want.Property[0].Value = "192.0.2.2" }},
		{"a password, by key alone", func() {
			property1(types.VAppPropertyInfo{Key: 2, Value: "planted-secret-later"})()
			b.setVApp(vm, &types.VmConfigSpec{InstallBootStopDelay: 31}) // which can be seen
		}, func() { want.InstallBootStopDelay = 31 }},
		{"no value", property1(types.VAppPropertyInfo{Key: 1, Label: "Address"}), func() { want.Property[0].Value, want.Property[0].Label = "", "Address" }},
		{"a policy", change(types.VmConfigSpec{IpAssignment: &types.VAppIPAssignmentInfo{IpAllocationPolicy: "dhcpPolicy"}}),
			func() { want.IpAssignment.IpAllocationPolicy = "dhcpPolicy" }},
		{"one transport", change(types.VmConfigSpec{OvfEnvironmentTransport: []string{byISO}}), func() { want.OvfEnvironmentTransport = []string{byISO} }},
		{"no transport", func() { b.clear(vm, "ovfEnvironmentTransport") }, func() { want.OvfEnvironmentTransport = nil }},
		{"no licence", func() { b.clear(vm, "eula") }, func() { want.Eula = nil }},
		{"a property less", change(types.VmConfigSpec{Property: []types.VAppPropertySpec{removed(1)}}), func() { want.Property = want.Property[1:] }},
		{"off", func() { b.reconfigure(vm, types.VirtualMachineConfigSpec{VAppConfigRemoved: types.NewBool(true)}, "") }, func() { want = nil }},
		{"on, with nothing", change(types.VmConfigSpec{}), func() { want = &types.VmConfigInfo{} }},
	} {
		step.then()
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		updates := 0
		err := property.Wait(ctx, property.DefaultCollector(b.client.Client), vm, []string{"config.vAppConfig"}, func([]types.PropertyChange) bool {
			if updates++; updates == 1 { // how it is; the rest is news
				step.change()
			}
			return updates > 1
		})
		cancel()
		if err != nil {
			t.Fatalf("%s: the change is not seen: %v", step.what, err)
		}
		if got := b.vApp(vm); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s:\n%+v, want\n%+v", step.what, got, want)
		}
	}
	var encoded strings.Builder
	for _, event := range b.events(types.EventFilterSpec{EventTypeId: []string{"VmReconfiguredEvent"}}) {
		if err := xml.NewEncoder(&encoded).Encode(event); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(encoded.String(), "planted-secret") || !strings.Contains(encoded.String(), "192.0.2.2") {
		t.Errorf("events: %s", encoded.String())
	}
}

func TestVAppOptionsRefused(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.setVApp(vm, options(prop(1, "a", "string", "x", class("c", "i"))))
	before := b.vApp(vm)
	for what, properties := range map[string][]types.VAppPropertySpec{
		"the same key":             {prop(1, "b", "string", "")},
		"the same name":            {prop(2, "a", "string", "", class("c", "i"))},
		"the same name by an edit": {prop(2, "b", "string", "", class("c", "i")), edit(types.VAppPropertyInfo{Key: 2, Id: "a"})},
		"no name":                  {prop(2, "", "string", "")},
		"white space in the name":  {prop(2, "a b", "string", "")},
		"an unknown key":           {edit(types.VAppPropertyInfo{Key: 9, Value: "x"})},
		"an unknown key to remove": {removed(9)},
		"nothing":                  {{ArrayUpdateSpec: types.ArrayUpdateSpec{Operation: types.ArrayUpdateOperationAdd}}},
	} {
		t.Run(what, func(*testing.T) {
			b.reconfigure(vm, types.VirtualMachineConfigSpec{VAppConfig: &types.VmConfigSpec{Property: properties}}, "InvalidArgument")
		})
	}
	// A call that fails for another reason changes nothing either.
	b.reconfigure(vm, types.VirtualMachineConfigSpec{GuestId: "no such", VAppConfig: options(prop(2, "b", "string", ""))}, "InvalidArgument")
	if got := b.vApp(vm); !reflect.DeepEqual(got, before) {
		t.Errorf("changed: %+v", got)
	}
	b.setVApp(vm, &types.VmConfigSpec{Property: []types.VAppPropertySpec{prop(2, "a", "string", "", class("c", "j"))}})
}

func TestVAppPrivileges(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.setVApp(vm, options(prop(1, "a", "string", "x")))
	read := b.vApp(vm).Property[0]
	read.Value = "y"
	relabelled := read
	relabelled.Label = "A"
	structure, values := []string{vAppStructure}, []string{vAppValues}
	for _, test := range []struct {
		what string
		spec types.VirtualMachineConfigSpec
		asks []string
	}{
		{"a value", types.VirtualMachineConfigSpec{VAppConfig: &types.VmConfigSpec{Property: []types.VAppPropertySpec{edit(types.VAppPropertyInfo{Key: 1, Value: "y"})}}}, values},
		{"a complete value", types.VirtualMachineConfigSpec{VAppConfig: &types.VmConfigSpec{Property: []types.VAppPropertySpec{edit(read)}}}, values},
		{"a policy", types.VirtualMachineConfigSpec{VAppConfig: &types.VmConfigSpec{IpAssignment: &types.VAppIPAssignmentInfo{IpAllocationPolicy: "dhcpPolicy"}}}, values},
		{"a label", types.VirtualMachineConfigSpec{VAppConfig: &types.VmConfigSpec{Property: []types.VAppPropertySpec{edit(relabelled)}}}, []string{vAppStructure, vAppValues}},
		{"a property", types.VirtualMachineConfigSpec{VAppConfig: &types.VmConfigSpec{Property: []types.VAppPropertySpec{prop(2, "b", "string", "")}}}, structure},
		{"a property less", types.VirtualMachineConfigSpec{VAppConfig: &types.VmConfigSpec{Property: []types.VAppPropertySpec{removed(1)}}}, structure},
		{"a transport", types.VirtualMachineConfigSpec{VAppConfig: &types.VmConfigSpec{OvfEnvironmentTransport: []string{byISO}}}, structure},
		{"off", types.VirtualMachineConfigSpec{VAppConfigRemoved: types.NewBool(true)}, structure},
	} {
		for _, privilege := range []string{vAppStructure, vAppValues} {
			b.control(http.MethodPost, "users", map[string]any{"name": "low", "password": "low", "deny": []string{privilege}}, nil)
			low := b.login("low", "low")
			_, err := object.NewVirtualMachine(low.Client, vm).Reconfigure(b.ctx, test.spec)
			denied := err != nil && strings.Contains(fmt.Sprintf("%v", err), "Permission")
			wanted := false
			for _, asked := range test.asks {
				wanted = wanted || asked == privilege
			}
			if denied != wanted {
				t.Errorf("%s without %s: %v", test.what, privilege, err)
			}
			if wanted {
				continue
			}
			b.settle(vm)
			b.reconfigure(vm, types.VirtualMachineConfigSpec{VAppConfigRemoved: types.NewBool(true)}, "")
			b.setVApp(vm, options(prop(1, "a", "string", "x")))
		}
	}
	b.control(http.MethodPost, "users", map[string]any{"name": "low", "password": "low", "deny": []string{vAppExtract}}, nil)
	if _, fault, err := b.rawLogin("low", "low").call("ExtractOvfEnvironment", "VirtualMachine", vm.Value, ""); err != nil || fault.kind() != "NoPermission" || fault.Detail.Fault.Privilege != vAppExtract {
		t.Errorf("extract: %v %+v", err, fault)
	}
}

// settle waits for the tasks on a VM.
func (b *bed) settle(vm types.ManagedObjectReference) {
	b.Helper()
	for _, task := range b.read(vm, "recentTask").RecentTask {
		b.ended(task)
	}
}

// The exact document.
func TestOVFDocument(t *testing.T) {
	b := start(t, func(o *Options) { o.APIVersion = "8.0.3.0" })
	vm := b.vm("DC0_H0_VM0")
	b.setVApp(vm, options(
		prop(1, "motd", "string", "a<b>&\"c\"'d'\nzweite Zeile ü"),
		prop(2, "ip0", "ip", "", class("vami", "X"), byDefault("192.0.2.9")),
		prop(3, "ip0", "ip", "192.0.2.1", class("vami", "")),
		prop(4, "password", "password", "planted-secret-value"),
		prop(5, "unset", "string", ""),
	))
	b.cycled(vm)
	card := cardsOf(b.read(vm, "config.hardware").Config.Hardware.Device)[0]
	want := `<?xml version="1.0" encoding="UTF-8"?>
<Environment
      xmlns="http://schemas.dmtf.org/ovf/environment/1"
      xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
      xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"
      xmlns:ve="http://www.vmware.com/schema/ovfenv"
      oe:id=""
      ve:vCenterId="` + vm.Value + `">
   <PlatformSection>
      <Kind>VMware ESXi</Kind>
      <Version>8.0.3</Version>
      <Vendor>VMware, Inc.</Vendor>
      <Locale>en</Locale>
   </PlatformSection>
   <PropertySection>
      <Property oe:key="motd" oe:value="a&lt;b&gt;&amp;&quot;c&quot;&apos;d&apos;
zweite Zeile ü"/>
      <Property oe:key="password" oe:value="planted-secret-value"/>
      <Property oe:key="unset" oe:value=""/>
      <Property oe:key="vami.ip0" oe:value="192.0.2.1"/>
      <Property oe:key="vami.ip0.X" oe:value="192.0.2.9"/>
   </PropertySection>
   <ve:EthernetAdapterSection>
      <ve:Adapter ve:mac="` + card.MacAddress + `" ve:network="DC0_DVPG0" ve:unitNumber="7"/>
   </ve:EthernetAdapterSection>
</Environment>`
	if got := b.seen(vm); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := b.extract(vm); got != strings.Replace(want, "planted-secret-value", "", 1) {
		t.Errorf("extracted\n%s", got)
	}
}

// The guest's document after each kind of start and each event. Each step
// continues from the previous one.
func TestOVFEnvironmentComesAndGoes(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_C0_RP0_VM0")
	other := b.otherHost(*b.read(vm, "runtime").Runtime.Host)
	b.untilReady(vm)
	b.setVApp(vm, options(prop(1, "a", "string", "first")))
	task := func(method, arguments string) func() {
		return func() { b.expect(method, b.raw.task(method, vm, arguments), "") }
	}
	control := func(from powerOrigin) func() { return func() { b.startedBy(vm, from) } }
	for _, step := range []struct {
		what string
		do   func()
		want string // the property's value; "" is no document
	}{
		{"configured while it runs", func() {}, ""},
		{"reset", task("ResetVM_Task", ""), ""},
		{"powered on by vCenter", func() { b.cycled(vm) }, "first"},
		{"edited while it runs", func() {
			b.setVApp(vm, &types.VmConfigSpec{Property: []types.VAppPropertySpec{edit(types.VAppPropertyInfo{Key: 1, Value: "second"})}})
		}, "first"},
		{"reset", task("ResetVM_Task", ""), "first"},
		{"the guest rebooted", func() {
			b.untilReady(vm)
			if _, fault, err := b.raw.call("RebootGuest", vm.Type, vm.Value, ""); err != nil || fault != nil {
				t.Fatal(err, fault)
			}
		}, "first"},
		{"moved to another host", task("RelocateVM_Task", `<spec><host type="HostSystem">`+other.Value+`</host></spec>`), "first"},
		{"suspended", task("SuspendVM_Task", ""), "first"},
		{"resumed", task("PowerOnVM_Task", ""), "first"},
		{"powered off", task("PowerOffVM_Task", ""), ""},
		{"powered on by several", func() { b.powerOnMulti(vm, "") }, "second"},
		{"powered on by its host", control(fromESXi), ""},
		{"reset", task("ResetVM_Task", ""), ""},
		{"powered on by vCenter", func() { b.cycled(vm) }, "second"},
		{"restarted by HA", control(fromHA), ""},
		{"powered on by vCenter", func() { b.cycled(vm) }, "second"},
		{"started with its host", control(fromAutostart), ""},
		{"without a transport", func() {
			b.clear(vm, "ovfEnvironmentTransport")
			b.cycled(vm)
		}, ""},
		{"with the other transport", func() {
			b.setVApp(vm, &types.VmConfigSpec{OvfEnvironmentTransport: []string{byISO}})
			b.cycled(vm)
		}, ""},
		{"with both", func() {
			b.setVApp(vm, &types.VmConfigSpec{OvfEnvironmentTransport: []string{byISO, byGuestInfo}})
			b.cycled(vm)
		}, "second"},
		{"without options", func() {
			b.reconfigure(vm, types.VirtualMachineConfigSpec{VAppConfigRemoved: types.NewBool(true)}, "")
			b.cycled(vm)
		}, ""},
	} {
		step.do()
		document := b.seen(vm)
		if step.want == "" {
			if document != "" {
				t.Fatalf("%s: %s", step.what, document)
			}
		} else if own, _ := b.parsed(document); own["a"] != step.want {
			t.Fatalf("%s: %v, want %s", step.what, own, step.want)
		}
		if view := b.guestView(vm).OVFEnv; view != nil && view.GuestInfo != (step.want != "") {
			t.Errorf("%s: %+v", step.what, view)
		}
		if got, there := b.extra(vm)["guestinfo.ovfEnv"]; there {
			t.Fatalf("%s: extraConfig shows %s", step.what, got)
		}
	}
}

// The same in the guest, through the programs of VMware Tools.
func TestOVFEnvironmentInGuest(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	b.setVApp(vm, options(prop(1, "a", "string", "x")))
	b.cycled(vm)
	b.untilReady(vm)
	run := func(user, command string) string {
		t.Helper()
		var answer struct {
			Output string `json:"output"`
		}
		b.control(http.MethodPost, "guests/"+vm.Value+"/run", map[string]any{
			"program": "/bin/sh", "arguments": "-c " + shellQuote(command), "user": user}, &answer)
		return answer.Output
	}
	get := `vmtoolsd --cmd 'info-get guestinfo.ovfEnv' 2>/dev/null; echo "exit $?"; vmtoolsd --cmd 'info-get guestinfo.ovfEnv' 2>&1 >/dev/null`
	document := b.seen(vm)
	for _, spelling := range []string{"ovfEnv", "ovfenv", "OVFENV"} {
		for _, tool := range []string{"vmtoolsd --cmd", "vmware-rpctool"} {
			if got := run("root", tool+" 'info-get guestinfo."+spelling+"'"); got != document+"\n" {
				t.Errorf("%s %s: %q", tool, spelling, got)
			}
		}
	}
	if got := run("operator", get); got != document+"\nexit 0\n" {
		t.Errorf("operator: %q", got)
	}
	run("root", "vmtoolsd --cmd 'info-set guestinfo.ovfenv NULL'")
	if got := run("root", get); got != "NULL\nexit 0\n" {
		t.Errorf("after info-set: %q", got)
	}
	if view := b.guestView(vm).OVFEnv; !view.MadeByVCenter || !view.GuestInfo || view.Inherited || view.ISO {
		t.Errorf("%+v", view)
	}
	b.cycled(vm)
	b.untilReady(vm)
	if got := run("root", get); !strings.HasPrefix(got, "<?xml") {
		t.Errorf("after a power cycle: %q", got)
	}
	b.setExtra(vm, "guest_rpc.rpci.auth.cmd.info-get", "TRUE")
	if got := run("root", get); !strings.HasPrefix(got, "<?xml") {
		t.Errorf("hardened, root: %q", got)
	}
	for _, tool := range []string{"vmtoolsd --cmd", "vmware-rpctool"} {
		if got := run("operator", tool+" 'info-get guestinfo.ovfEnv' 2>/dev/null; echo $?; "+tool+" 'info-get guestinfo.ovfEnv' 2>&1"); got != "1\nPermission denied\n" {
			t.Errorf("hardened, operator: %q", got)
		}
		if got := run("operator", tool+" 'info-set guestinfo.x 1' 2>&1"); strings.Contains(got, "denied") {
			t.Errorf("only info-get was forbidden: %q", got)
		}
	}
	b.startedBy(vm, fromESXi)
	b.untilReady(vm)
	if got := run("root", get); got != "exit 1\nNo value found\n" {
		t.Errorf("powered on by its host: %q", got)
	}
}

// A client of the host finds no document there, and a power-on there delivers
// none.
func TestOVFEnvironmentAtTheHost(t *testing.T) {
	b := start(t, withESX)
	vm := b.vm("DC0_H0_VM0")
	b.setVApp(vm, options(prop(1, "a", "string", "x")))
	b.cycled(vm)
	host := b.esx("root")
	replica := object.NewVirtualMachine(host.Client, b.replicas(host)["DC0_H0_VM0"].Self)
	config := b.replicas(host)["DC0_H0_VM0"].Config
	if config.VAppConfig != nil || extraConfig(&mo.VirtualMachine{Config: config})["guestinfo.ovfEnv"] != "" {
		t.Errorf("%+v", config)
	}
	for _, power := range []func(context.Context) (*object.Task, error){replica.PowerOff, replica.PowerOn} {
		task, err := power(b.ctx)
		if err == nil {
			err = task.Wait(b.ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if view := b.guestView(vm); view.PoweredOn != fromESXi || view.OVFEnv.MadeByVCenter || view.OVFEnv.GuestInfo || b.extract(vm) != "" {
		t.Errorf("%+v", view)
	}
	b.cycled(vm)
	if b.seen(vm) == "" {
		t.Error("not even vCenter delivers it")
	}
}

// A document that a client writes into extraConfig.
func TestOVFEnvironmentInjected(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	write := func(value string) func() { return func() { b.setExtra(vm, "guestinfo.ovfEnv", value) } }
	off := func() { b.expect("off", b.power(vm, false), "") }
	host := func() { b.startedBy(vm, fromESXi) }
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"written while off", func() { off(); write("<one/>")() }, ""},
		{"started by the host", host, "<one/>"},
		{"once more", host, "<one/>"},
		{"started by vCenter, which has nothing to deliver", func() { b.cycled(vm) }, "<one/>"},
		{"written while on", write("<two/>"), "<two/>"},
		{"which is volatile", host, ""},
		{"written while off again", func() { off(); write("<three/>")(); host() }, "<three/>"},
		{"taken away", func() { off(); write("")(); host() }, ""},
		{"vCenter has its own", func() {
			off()
			b.reconfigure(vm, types.VirtualMachineConfigSpec{VAppConfig: options()}, "")
			write("<four/>")()
			b.cycled(vm)
			if got := b.seen(vm); !strings.HasPrefix(got, "<?xml") {
				t.Errorf("vCenter's: %q", got)
			}
			host()
		}, "<four/>"},
	} {
		step.do()
		if got := b.seen(vm); got != step.want {
			t.Errorf("%s: %q, want %q", step.what, got, step.want)
		}
		if _, there := b.extra(vm)["guestinfo.ovfEnv"]; there {
			t.Errorf("%s: extraConfig shows it", step.what)
		}
	}
}

func TestOVFEnvironmentISO(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.setVApp(vm, &types.VmConfigSpec{Property: []types.VAppPropertySpec{prop(1, "a", "string", "x")}, OvfEnvironmentTransport: []string{byISO}})
	drive := func() (image string, connected bool) {
		t.Helper()
		for _, device := range b.read(vm, "config.hardware").Config.Hardware.Device {
			if drive, ok := device.(*types.VirtualCdrom); ok {
				if backing, ok := drive.Backing.(*types.VirtualCdromIsoBackingInfo); ok {
					image = backing.FileName
				}
				return image, drive.Connectable.Connected
			}
		}
		return "", false
	}
	expect := func(what, image string) {
		t.Helper()
		if got, connected := drive(); got != image || connected != (image != "") && image != "" {
			t.Errorf("%s: %q, connected %v", what, got, connected)
		}
	}
	want := "[LocalDS_0] DC0_H0_VM0/_ovfenv-DC0_H0_VM0.iso"
	expect("before", "")
	b.cycled(vm)
	expect("powered on by vCenter", want)
	b.expect("reset", b.raw.task("ResetVM_Task", vm, ""), "")
	expect("reset", want)
	if view := b.guestView(vm).OVFEnv; !view.ISO || view.GuestInfo {
		t.Errorf("%+v", view)
	}
	b.expect("off", b.power(vm, false), "")
	if image, connected := drive(); image != "" || connected {
		t.Errorf("off: %q %v", image, connected)
	}
	b.startedBy(vm, fromESXi)
	expect("powered on by its host", "")
	if view := b.guestView(vm).OVFEnv; view.ISO {
		t.Errorf("%+v", view)
	}
	// A drive of the host is not a client device.
	b.reconfigure(vm, types.VirtualMachineConfigSpec{DeviceChange: b.cdrom(vm, types.VirtualDeviceConfigSpecOperationEdit, &types.VirtualCdromAtapiBackingInfo{
		VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: "cdrom"}})}, "")
	b.cycled(vm)
	expect("with a drive of the host", "")
	b.reconfigure(vm, types.VirtualMachineConfigSpec{DeviceChange: b.cdrom(vm, types.VirtualDeviceConfigSpecOperationRemove, nil)}, "")
	b.cycled(vm)
	expect("without a drive", "")
	if view := b.guestView(vm).OVFEnv; view.ISO {
		t.Errorf("without a drive: %+v", view)
	}
}

// cdrom returns a change of a VM's CD drive.
func (b *bed) cdrom(vm types.ManagedObjectReference, operation types.VirtualDeviceConfigSpecOperation, backing types.BaseVirtualDeviceBackingInfo) []types.BaseVirtualDeviceConfigSpec {
	b.Helper()
	for _, device := range b.read(vm, "config.hardware").Config.Hardware.Device {
		if drive, ok := device.(*types.VirtualCdrom); ok {
			if backing != nil {
				drive.Backing = backing
			}
			return []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{Operation: operation, Device: drive}}
		}
	}
	b.Fatal("there is no CD drive")
	return nil
}

func TestExtractOvfEnvironment(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	if got := b.extract(vm); got != "" {
		t.Errorf("without options: %s", got)
	}
	b.setVApp(vm, options(prop(1, "a", "string", "x"), prop(2, "p", "password", "planted-secret-value")))
	if got := b.extract(vm); got != "" {
		t.Errorf("before a power-on: %s", got)
	}
	b.cycled(vm)
	if own, _ := b.parsed(b.extract(vm)); own["a"] != "x" || own["p"] != "" || len(own) != 2 {
		t.Errorf("%v", own)
	}
	if own, _ := b.parsed(b.seen(vm)); own["p"] != "planted-secret-value" {
		t.Errorf("the guest's: %v", own)
	}
	b.startedBy(vm, fromESXi)
	if got := b.extract(vm); got != "" {
		t.Errorf("powered on by its host: %s", got)
	}
	for what, method := range map[string]string{"suspended": "SuspendVM_Task", "off": "PowerOffVM_Task"} {
		b.cycled(vm)
		b.expect(what, b.raw.task(method, vm, ""), "")
		if _, fault, err := b.raw.call("ExtractOvfEnvironment", "VirtualMachine", vm.Value, ""); err != nil || fault.kind() != "InvalidState" {
			t.Errorf("%s: %v %+v", what, err, fault)
		}
		if what == "suspended" {
			b.expect("off", b.power(vm, false), "")
		}
	}
}

// Values that vCenter computes.
func TestComputedProperties(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.profile("Production", "10.1.0")
	expression := func(key int32, id, text string) types.VAppPropertySpec {
		return prop(key, id, "expression", "", byDefault(text))
	}
	b.setVApp(vm, &types.VmConfigSpec{
		Property: []types.VAppPropertySpec{
			expression(1, "netmask", "${netmask:Production}"), expression(2, "gateway", "${gateway:Production}"),
			expression(3, "subnet", "${subnet:Production}"), expression(4, "dns", "${dns:Production}"),
			expression(5, "domain", "${domainName:Production}"), expression(6, "search", "${searchPath:Production}"),
			expression(7, "prefix", "${hostPrefix:Production}"), expression(8, "proxy", "${httpProxy:Production}"),
			expression(9, "net", "${net:Anywhere}"), expression(10, "vim", "${vimIp:}"), expression(11, "alone", "${nobody}"),
			expression(12, "auto", "${autoIp:Production}"), prop(13, "ip0", "ip:Production", ""),
		},
		IpAssignment:            &types.VAppIPAssignmentInfo{IpAllocationPolicy: "transientPolicy"},
		OvfEnvironmentTransport: []string{byGuestInfo},
	})
	want := map[string]string{
		"netmask": "255.255.255.0", "gateway": "10.1.0.1", "subnet": "10.1.0.0", "dns": "10.1.0.53,10.1.0.54", "domain": "example.com",
		"search": "a.example.com;example.com", "prefix": "prod-", "proxy": "proxy:3128", "net": "Anywhere", "vim": "127.0.0.1", "alone": "",
		"auto": "10.1.0.", "ip0": "10.1.0.", // 10 and 11, in any order
	}
	network := func(values map[string]string) map[string]string {
		if values["auto"] == values["ip0"] {
			t.Errorf("the same address twice: %v", values)
		}
		for _, key := range []string{"auto", "ip0"} {
			values[key] = strings.TrimRight(values[key], "0123456789")
		}
		return values
	}
	empty := map[string]string{}
	for key := range want {
		empty[key] = ""
	}
	for range 2 { // the second time with the addresses of the first
		b.cycled(vm)
		if own, _ := b.parsed(b.seen(vm)); !reflect.DeepEqual(network(own), want) {
			t.Errorf("document: %v", own)
		}
		if got := b.values(vm); !reflect.DeepEqual(network(got), want) {
			t.Errorf("while it runs: %v", got)
		}
		b.expect("off", b.power(vm, false), "")
		if got := b.values(vm); !reflect.DeepEqual(got, empty) {
			t.Errorf("off: %v", got)
		}
	}
	b.startedBy(vm, fromESXi)
	if got := b.values(vm); !reflect.DeepEqual(got, empty) {
		t.Errorf("powered on by its host: %v", got)
	}
	// The pool has two addresses, and the VM took both while it ran.
	other := b.vm("DC0_C0_RP0_VM0")
	spec := options(prop(1, "ip0", "ip:Production", ""))
	spec.IpAssignment = &types.VAppIPAssignmentInfo{IpAllocationPolicy: "transientPolicy"}
	b.setVApp(other, spec)
	b.cycled(other)
	b.expect("off", b.power(vm, false), "")
	b.expect("one address is left", b.power(vm, true), "NoAvailableIp")
	b.expect("off", b.power(other, false), "")
	b.cycled(vm)
	b.expect("none is left", b.power(other, true), "NoAvailableIp")
	b.expect("reset", b.raw.task("ResetVM_Task", vm, ""), "")
	b.expect("a reset gives none back", b.power(other, true), "NoAvailableIp")
}

// With DHCP the guest reports the address, too late for its document.
func TestAddressByDHCP(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	spec := options(prop(1, "ip0", "ip:VM Network", ""))
	spec.IpAssignment = &types.VAppIPAssignmentInfo{IpAllocationPolicy: "dhcpPolicy"}
	b.setVApp(vm, spec)
	b.cycled(vm)
	b.until(vm, "the address", func(vm mo.VirtualMachine) bool { return vm.Guest.IpAddress != "" }, "guest")
	if got, want := b.values(vm)["ip0"], b.read(vm, "guest").Guest.IpAddress; got != want {
		t.Errorf("value %q, reported %q", got, want)
	}
	if own, _ := b.parsed(b.seen(vm)); own["ip0"] != "" {
		t.Errorf("document: %v", own)
	}
	b.expect("off", b.power(vm, false), "")
	if got := b.values(vm)["ip0"]; got != "" {
		t.Errorf("off: %s", got)
	}
}

// profile creates an IP pool (a network protocol profile) of a network.
func (b *bed) profile(network, prefix string) types.IpPool {
	b.Helper()
	pool := types.IpPool{
		Name: network, DnsDomain: "example.com", DnsSearchPath: "a.example.com;example.com", HostPrefix: "prod-", HttpProxy: "proxy:3128",
		Ipv4Config: &types.IpPoolIpPoolConfigInfo{
			SubnetAddress: prefix + ".0", Netmask: "255.255.255.0", Gateway: prefix + ".1", Range: prefix + ".10#2",
			Dns: []string{prefix + ".53", prefix + ".54"}, IpPoolEnabled: types.NewBool(true),
		},
		NetworkAssociation: []types.IpPoolAssociation{{NetworkName: network}},
	}
	manager, dc := b.ipPools()
	res, err := methods.CreateIpPool(b.ctx, b.client.Client, &types.CreateIpPool{This: manager, Dc: dc, Pool: pool})
	if err != nil {
		b.Fatal(err)
	}
	pool.Id = res.Returnval
	return pool
}

// update changes an IP pool.
func (b *bed) update(pool types.IpPool) {
	b.Helper()
	manager, dc := b.ipPools()
	if _, err := methods.UpdateIpPool(b.ctx, b.client.Client, &types.UpdateIpPool{This: manager, Dc: dc, Pool: pool}); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) ipPools() (manager, datacenter types.ManagedObjectReference) {
	return *b.client.ServiceContent.IpPoolManager, b.sim.registry().Any("Datacenter").Reference()
}

// A VM with a property that cannot be computed starts only without vCenter.
func TestPropertiesThatCannotBeComputed(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.profile("Full", "10.2.0")
	b.expect("off", b.power(vm, false), "")
	for _, test := range []struct {
		property types.VAppPropertySpec
		fault    string
		text     string
	}{
		{prop(1, "g", "expression", "", byDefault("${gateway:Lab}")), "MissingNetworkIpConfig", "Network 'Lab' has no associated network protocol profile."},
		{prop(1, "g", "expression", "", byDefault("gateway")), "InvalidPropertyValue", "'g'"},
		{prop(1, "g", "expression", "", byDefault("${colour:Full}")), "InvalidPropertyValue", "${colour:Full}"},
		{prop(1, "g", "ip:Lab", ""), "MissingNetworkIpConfig", "'g'"},
		{prop(1, "g", "ip", ""), "InvalidPropertyValue", "Property 'g' must be configured for the VM to power on."},
		{prop(1, "g", "boolean", ""), "InvalidPropertyValue", "'g'"},
		{prop(1, "g", "string(3..8)", ""), "InvalidPropertyValue", "'g'"},
		{prop(1, "g", `string["a", "b"]`, ""), "InvalidPropertyValue", "'g'"},
		{prop(1, "g", "int(1..4094)", ""), "InvalidPropertyValue", "'g'"},
		{prop(1, "g", "ip:Full", ""), "NoAvailableIp", ""},
	} {
		properties := []types.VAppPropertySpec{test.property}
		if test.fault == "NoAvailableIp" {
			properties = append([]types.VAppPropertySpec{prop(2, "h", "ip:Full", ""), prop(3, "i", "ip:Full", "")}, properties...)
		}
		b.reconfigure(vm, types.VirtualMachineConfigSpec{VAppConfigRemoved: types.NewBool(true)}, "")
		spec := options(properties...)
		spec.IpAssignment = &types.VAppIPAssignmentInfo{IpAllocationPolicy: "transientPolicy"}
		b.setVApp(vm, spec)
		got := b.expect(test.property.Info.DefaultValue, b.power(vm, true), test.fault)
		if !strings.Contains(got.message, test.text) {
			t.Errorf("%s: %s", test.fault, got.message)
		}
		b.powerOnMulti(vm, test.fault)
		if state := b.read(vm, "runtime").Runtime.PowerState; state != types.VirtualMachinePowerStatePoweredOff {
			t.Errorf("%s: %s", test.fault, state)
		}
		b.startedBy(vm, fromESXi)
		b.expect("off", b.power(vm, false), "")
	}
}

// shop creates a vApp with the powered-off VMs web and db.
func (b *bed) shop() (vApp *object.VirtualApp, web, db types.ManagedObjectReference) {
	b.Helper()
	source := b.vm("DC0_H0_VM0")
	spec := types.VAppConfigSpec{VmConfigSpec: types.VmConfigSpec{
		Property:     []types.VAppPropertySpec{prop(1, "realm", "string", "EXAMPLE"), prop(2, "key", "password", "planted-secret-value")},
		IpAssignment: &types.VAppIPAssignmentInfo{IpAllocationPolicy: "dhcpPolicy"},
	}}
	pool := object.NewResourcePool(b.client.Client, *b.read(source, "resourcePool").ResourcePool)
	vApp, err := pool.CreateVApp(b.ctx, "shop", types.DefaultResourceConfigSpec(), spec, nil)
	if err != nil {
		b.Fatal(err)
	}
	clone := func(name string) types.ManagedObjectReference {
		ref := vApp.Reference()
		task, err := object.NewVirtualMachine(b.client.Client, source).Clone(b.ctx, object.NewFolder(b.client.Client, b.sim.vmFolder().Self), name,
			types.VirtualMachineCloneSpec{
				Location: types.VirtualMachineRelocateSpec{Pool: &ref},
				Config: &types.VirtualMachineConfigSpec{VAppConfig: options(
					prop(1, "name", "string", name), prop(2, "realm", "expression", "", class("auth", ""), byDefault("${realm}")), prop(3, "ip0", "ip:None", ""))},
			})
		if err != nil {
			b.Fatal(err)
		}
		return b.expect("clone", b.ended(task.Reference()), "").result.(types.ManagedObjectReference)
	}
	return vApp, clone("web"), clone("db")
}

// The environment of a VM in a vApp describes the vApp and its other VMs.
func TestOVFEnvironmentOfVApp(t *testing.T) {
	b := start(t)
	vApp, web, db := b.shop()
	if got := b.read(web, "parentVApp").ParentVApp; got == nil || *got != vApp.Reference() {
		t.Fatalf("parentVApp: %v", got)
	}
	var shown mo.VirtualApp
	if err := property.DefaultCollector(b.client.Client).RetrieveOne(b.ctx, vApp.Reference(), []string{"vAppConfig"}, &shown); err != nil {
		t.Fatal(err)
	}
	if got := shown.VAppConfig.Property; len(got) != 2 || got[0].Value != "EXAMPLE" || got[1].Value != "" {
		t.Errorf("%+v", got)
	}
	task, err := vApp.PowerOn(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	b.expect("power on", b.ended(task.Reference()), "")
	document := b.seen(db)
	own, entities := b.parsed(document)
	if want := map[string]string{"name": "db", "auth.realm": "EXAMPLE", "realm": "EXAMPLE", "key": "planted-secret-value", "ip0": ""}; !reflect.DeepEqual(own, want) {
		t.Errorf("own: %v", own)
	}
	if want := map[string]map[string]string{"web": {"name": "web", "auth.realm": "EXAMPLE", "ip0": ""}}; !reflect.DeepEqual(entities, want) {
		t.Errorf("entities: %v", entities)
	}
	if !strings.Contains(document, `oe:id="db"`) || !strings.Contains(document, `ve:vCenterId="`+db.Value+`"`) {
		t.Error(document)
	}
	if strings.Contains(b.extract(db), "planted-secret-value") {
		t.Error("the vApp's password is extracted")
	}
}

// Clones have the options of their source, as changed by their spec.
func TestOVFEnvironmentOfClone(t *testing.T) {
	b := start(t)
	source := b.vm("DC0_H0_VM0")
	b.setVApp(source, options(prop(1, "a", "string", "x"), prop(2, "p", "password", "planted-secret-value")))
	b.cycled(source)
	for name, test := range map[string]struct {
		config *types.VirtualMachineConfigSpec
		want   map[string]string
		fault  string
	}{
		"same": {nil, map[string]string{"a": "x", "p": "planted-secret-value"}, ""},
		"changed": {&types.VirtualMachineConfigSpec{VAppConfig: &types.VmConfigSpec{Property: []types.VAppPropertySpec{
			edit(types.VAppPropertyInfo{Key: 1, Value: "y"}), prop(3, "b", "int", "3")}}}, map[string]string{"a": "y", "b": "3", "p": "planted-secret-value"}, ""},
		"without": {&types.VirtualMachineConfigSpec{VAppConfigRemoved: types.NewBool(true)}, nil, ""},
		"wrong":   {&types.VirtualMachineConfigSpec{VAppConfig: &types.VmConfigSpec{Property: []types.VAppPropertySpec{removed(9)}}}, nil, "InvalidArgument"},
	} {
		task, err := object.NewVirtualMachine(b.client.Client, source).Clone(b.ctx, object.NewFolder(b.client.Client, b.sim.vmFolder().Self), name,
			types.VirtualMachineCloneSpec{PowerOn: true, Config: test.config})
		if err != nil {
			t.Fatal(err)
		}
		if b.expect(name, b.ended(task.Reference()), test.fault); test.fault != "" {
			continue
		}
		clone := b.vm(name)
		if test.want == nil {
			if got := b.vApp(clone); got != nil || b.seen(clone) != "" {
				t.Errorf("%s: %+v", name, got)
			}
			continue
		}
		if own, _ := b.parsed(b.seen(clone)); !reflect.DeepEqual(own, test.want) || !strings.Contains(b.seen(clone), `vCenterId="`+clone.Value+`"`) {
			t.Errorf("%s: %v", name, own)
		}
		if got := b.values(clone)["p"]; got != "" {
			t.Errorf("%s: password %s", name, got)
		}
	}
	if got := b.values(source); got["a"] != "x" || len(got) != 2 {
		t.Errorf("the source: %v", got)
	}
}

// package of one VM, as a vendor ships it.
const descriptor = `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References/>
  <DiskSection><Info>Disks</Info></DiskSection>
  <NetworkSection><Info>Networks</Info><Network ovf:name="VM Network"/></NetworkSection>
  <VirtualSystem ovf:id="appliance">
    <Info>An appliance</Info>
    <ProductSection ovf:class="vami" ovf:instance="X">
      <Info>Product</Info><Product>Appliance</Product><Vendor>Example</Vendor><Version>1.2</Version><FullVersion>1.2.3 build 4</FullVersion>
      <Category>Network</Category>
      <Property ovf:key="ip0" ovf:type="string" ovf:userConfigurable="true" ovf:value=""><Label>Address</Label></Property>
      <Category>Accounts</Category>
      <Property ovf:key="secret" ovf:type="string" ovf:password="true" ovf:userConfigurable="true" ovf:qualifiers="MinLen(8)"/>
      <Property ovf:key="mode" ovf:type="string" ovf:userConfigurable="true" ovf:value="quick"/>
      <Property ovf:key="build" ovf:type="string" ovf:value="7"/>
    </ProductSection>
    <EulaSection><Info>Licence</Info><License>Do no harm.</License></EulaSection>
    <OperatingSystemSection ovf:id="101"><Info>Linux</Info></OperatingSystemSection>
    <VirtualHardwareSection ovf:transport="com.vmware.guestInfo iso">
      <Info>Hardware</Info>
      <System><vssd:ElementName>h</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemType>vmx-10</vssd:VirtualSystemType></System>
      <Item><rasd:ElementName>cpu</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
      <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>memory</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
      <Item><rasd:Address>0</rasd:Address><rasd:ElementName>ide</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceType>5</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>cd</rasd:ElementName><rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceSubType>vmware.cdrom.remotepassthrough</rasd:ResourceSubType><rasd:ResourceType>15</rasd:ResourceType></Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>`

// imported imports the package with answers.
func (b *bed) imported(name string, answers ...types.KeyValue) error {
	b.Helper()
	other := b.read(b.vm("DC0_H0_VM0"), "resourcePool", "datastore")
	pool := object.NewResourcePool(b.client.Client, *other.ResourcePool)
	spec, err := ovf.NewManager(b.client.Client).CreateImportSpec(b.ctx, descriptor, pool, object.NewDatastore(b.client.Client, other.Datastore[0]),
		&types.OvfCreateImportSpecParams{EntityName: name, IpAllocationPolicy: "fixedPolicy", IpProtocol: "IPv4", PropertyMapping: answers})
	if err != nil || len(spec.Error) > 0 {
		b.Fatalf("%v %+v", err, spec)
	}
	lease, err := pool.ImportVApp(b.ctx, spec.ImportSpec, nil, nil)
	if err != nil {
		return err
	}
	if _, err := lease.Wait(b.ctx, spec.FileItem); err != nil {
		return err
	}
	return lease.Complete(b.ctx)
}

func TestOVFEnvironmentOfImport(t *testing.T) {
	b := start(t)
	if err := b.imported("imported", types.KeyValue{Key: "vami.ip0.X", Value: "192.0.2.7"}, types.KeyValue{Key: "vami.secret.X", Value: "planted-secret-value"}); err != nil {
		t.Fatal(err)
	}
	for what, refused := range map[string]error{
		"a name that is taken":           b.imported("imported"),
		"a property that stays as it is": b.imported("other", types.KeyValue{Key: "vami.build.X", Value: "8"}),
	} {
		if refused == nil {
			t.Errorf("%s: imported", what)
		}
	}
	for _, event := range b.events(types.EventFilterSpec{}) {
		if text, err := xml.Marshal(event); err != nil || strings.Contains(string(text), "planted-secret") {
			t.Errorf("%v %s", err, text)
		}
	}
	vm := b.vm("imported")
	got := b.vApp(vm)
	want := &types.VmConfigInfo{
		Product: []types.VAppProductInfo{{ClassId: "vami", InstanceId: "X", Name: "Appliance", Vendor: "Example", Version: "1.2", FullVersion: "1.2.3 build 4"}},
		Property: []types.VAppPropertyInfo{
			{Key: 0, ClassId: "vami", InstanceId: "X", Id: "ip0", Category: "Network", Label: "Address", Type: "string", UserConfigurable: types.NewBool(true), Value: "192.0.2.7"},
			{Key: 1, ClassId: "vami", InstanceId: "X", Id: "secret", Category: "Accounts", Type: "password(8..)", UserConfigurable: types.NewBool(true)},
			{Key: 2, ClassId: "vami", InstanceId: "X", Id: "mode", Category: "Accounts", Type: "string", UserConfigurable: types.NewBool(true), DefaultValue: "quick"},
			{Key: 3, ClassId: "vami", InstanceId: "X", Id: "build", Category: "Accounts", Type: "string", UserConfigurable: types.NewBool(false), DefaultValue: "7"},
		},
		IpAssignment:            types.VAppIPAssignmentInfo{IpAllocationPolicy: "fixedPolicy", IpProtocol: "IPv4"},
		Eula:                    []string{"Do no harm."},
		OvfEnvironmentTransport: []string{byGuestInfo, byISO},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	for key := range b.extra(vm) {
		if strings.Contains(key, "vami") {
			t.Errorf("extraConfig has the property %s", key)
		}
	}
	b.cycled(vm)
	if own, _ := b.parsed(b.seen(vm)); own["vami.secret.X"] != "planted-secret-value" || own["vami.mode.X"] != "quick" || own["vami.ip0.X"] != "192.0.2.7" {
		t.Errorf("%v", own)
	}
	if !b.guestView(vm).OVFEnv.ISO {
		t.Error("the CD drive is not used")
	}
}

// A fork child has its parent's document in its memory.
func TestOVFEnvironmentOfForkChild(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	b.setVApp(vm, options(prop(1, "a", "string", "parent's")))
	b.cycled(vm)
	b.enable(vm)
	b.freeze(vm, `vmtoolsd --cmd 'vmfork-begin -1 -1'; vmtoolsd --cmd "info-set guestinfo.length $(vmtoolsd --cmd 'info-get guestinfo.ovfEnv' | wc -c)"`)
	document := b.seen(vm)
	child := b.child(vm, "c", "")
	b.setVApp(child, &types.VmConfigSpec{Property: []types.VAppPropertySpec{edit(types.VAppPropertyInfo{Key: 1, Value: "child's"})}})
	b.expect("on", b.power(child, true), "")
	b.until(child, "the child's report", func(mo.VirtualMachine) bool {
		return b.extra(child)["guestinfo.length"] == fmt.Sprint(len(document)+1)
	}, "config.extraConfig")
	if got := b.seen(child); got != document || !strings.Contains(got, `vCenterId="`+vm.Value+`"`) {
		t.Errorf("child: %s", got)
	}
	if view := b.guestView(child).OVFEnv; !view.Inherited || view.MadeByVCenter || !view.GuestInfo {
		t.Errorf("%+v", view)
	}
	if got := b.extract(child); got != b.extract(vm) || got == "" {
		t.Errorf("extracted: %s", got)
	}
}
