// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// How the OVF environment reaches a guest: delivery at power-on, loss, and
// ExtractOvfEnvironment.

package vsphere

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/ovfenv"
	"vmforksim/internal/rules"
)

// How the OVF environment reaches a guest: vCenter creates it when it powers
// the VM on and delivers it through the transports of the VM's vApp options. A
// VM that was powered on without vCenter gets none.

// The transports.
const (
	byGuestInfo = "com.vmware.guestInfo"
	byISO       = "iso"
)

// ovfEnvName is the guestinfo key of the environment, which the API never
// shows. Guests may use any capitalization.
const ovfEnvName = "ovfEnv"

// guestinfoName is a guestinfo key without its prefix, as stored for the VM.
func guestinfoName(name string) string {
	if strings.EqualFold(name, ovfEnvName) {
		return ovfEnvName
	}
	return name
}

// delivery is the environment of one run of a VM.
type delivery struct {
	env       *ovfenv.Environment // nil if vCenter did not make one for this run
	computed  map[int32]string
	extract   string // result of ExtractOvfEnvironment
	guest     string // content of guestinfo.ovfEnv in the guest; "" means none
	iso       bool
	inherited bool // whether it came with the memory of the fork parent
}

// computed returns the values that vCenter computed for a running VM's
// properties. The caller holds vm.mu.
func (vm *instance) computed() map[int32]string {
	if vm.run == nil {
		return nil
	}
	return maps.Clone(vm.run.delivery.computed)
}

// showLeased publishes the address reported by the guest as the value of the
// properties that wait for it. The caller holds the VM's lock.
func (s *Simulator) showLeased(ctx *simulator.Context, object *simulator.VirtualMachine) {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	waits := vm.run != nil && vm.run.delivery.env != nil && len(vm.run.delivery.env.ByDHCP) > 0
	if waits {
		computed := vm.computed()
		for _, key := range vm.run.delivery.env.ByDHCP {
			computed[key] = object.Guest.IpAddress
		}
		vm.run.delivery.computed = computed
	}
	vm.mu.Unlock()
	if waits {
		s.showVApp(ctx, object)
	}
}

// prepareDelivery creates the environment for a power-on; its fault fails the
// power-on. The caller holds the VM's lock.
func (s *Simulator) prepareDelivery(ctx *simulator.Context, object *simulator.VirtualMachine, from powerOrigin) types.BaseMethodFault {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.run != nil { // it is resumed
		vm.applyLossRule("ovfenv_after_resume")
		return nil
	}
	if vm.startsAtForkPoint() {
		return nil
	}
	next := delivery{guest: vm.injected}
	switch {
	case vm.vapp == nil:
	case from == fromVCenter && len(vm.vapp.OvfEnvironmentTransport) > 0:
		transports := vm.vapp.OvfEnvironmentTransport
		vm.mu.Unlock()
		env, fault := s.newEnvironment(ctx, object)
		vm.mu.Lock()
		if fault != nil {
			return fault
		}
		next.env, next.computed, next.extract = env, env.Computed, env.Document(false)
		handed := !vm.poweredOnByHost || s.rules.Is("ovfenv_after_host_start", "delivered")
		if handed && slices.Contains(transports, byGuestInfo) {
			next.guest = env.Document(true)
		}
		next.iso = handed && slices.Contains(transports, byISO) && imageDrive(object.Config.Hardware.Device) != nil
		vm.lastDelivery = next
	case from != fromVCenter:
		vm.poweredOnByHost = true
		if s.rules.Is("extract_after_host_start", "stale") {
			next.extract = vm.lastDelivery.extract
		}
		if s.rules.Is("computed_after_host_start", "kept") {
			next.computed = vm.lastDelivery.computed
		}
		next.iso = vm.lastDelivery.iso && s.rules.Is("iso_after_host_start", "stays")
	}
	vm.nextDelivery = &next
	return nil
}

// endDelivery discards what was prepared for a failed power-on.
func (vm *instance) endDelivery() {
	vm.mu.Lock()
	next := vm.nextDelivery
	vm.nextDelivery = nil
	vm.mu.Unlock()
	if next != nil {
		next.end()
	}
}

func (d *delivery) end() {
	if d.env != nil {
		d.env.Release()
	}
}

// vAppWritten records that the vApp options were written, even without a
// change.
func (vm *instance) vAppWritten() {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.poweredOnByHost = false
}

// inheritedBy returns what a child finds in the memory that it shares with its
// parent.
func (d delivery) inheritedBy(rules *rules.Rules) delivery {
	if rules.Is("guestinfo_inherited", "no") {
		return delivery{}
	}
	return delivery{extract: d.extract, guest: d.guest, inherited: d.guest != ""}
}

// showDelivery publishes the visible parts of the environment when the VM is
// powered on or off: computed values and the image in the CD drive. The caller
// holds the VM's lock.
func (s *Simulator) showDelivery(ctx *simulator.Context, object *simulator.VirtualMachine) {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	inserted := vm.run != nil && vm.run.delivery.iso
	vm.mu.Unlock()
	s.showVApp(ctx, object)

	if drive := imageDrive(object.Config.Hardware.Device); drive == nil || !inserted && isClientDevice(drive) {
		return
	}
	devices := cloneDevices(object.Config.Hardware.Device)
	drive := imageDrive(devices)
	if inserted {
		directory, _, _ := strings.Cut(object.Config.Files.VmPathName, "/")
		name := fmt.Sprintf("%s/_ovfenv-%s.iso", directory, fileName(object.Name))
		drive.Backing = &types.VirtualCdromIsoBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: name, Datastore: &object.Datastore[0]}}
		showDrive(drive, "ISO "+name, true)
	} else {
		drive.Backing = clientDevice()
		showDrive(drive, "Remote device", false)
	}
	ctx.Update(object, []types.PropertyChange{{Name: "config.hardware.device", Val: devices}})
}

// imageDrive returns the CD drive for the image of the environment: one that is
// a client device or contains such an image; nil if there is none.
func imageDrive(devices []types.BaseVirtualDevice) *types.VirtualCdrom {
	for _, device := range devices {
		drive, ok := device.(*types.VirtualCdrom)
		if !ok {
			continue
		}
		image, ok := drive.Backing.(*types.VirtualCdromIsoBackingInfo)
		if isClientDevice(drive) || ok && strings.Contains(image.FileName, "/_ovfenv-") {
			return drive
		}
	}
	return nil
}

func showDrive(drive *types.VirtualCdrom, summary string, connected bool) {
	if drive.DeviceInfo != nil {
		drive.DeviceInfo.GetDescription().Summary = summary
	}
	if drive.Connectable == nil {
		drive.Connectable = &types.VirtualDeviceConnectInfo{AllowGuestControl: true}
	}
	drive.Connectable.Connected = connected
}

// clientDevice is the backing of a CD drive that belongs to the client of the
// VM's console. vCenter may put its image in there.
func clientDevice() types.BaseVirtualDeviceBackingInfo {
	return &types.VirtualCdromRemotePassthroughBackingInfo{
		VirtualDeviceRemoteDeviceBackingInfo: types.VirtualDeviceRemoteDeviceBackingInfo{UseAutoDetect: types.NewBool(false)},
	}
}

func isClientDevice(drive *types.VirtualCdrom) bool {
	switch drive.Backing.(type) {
	case *types.VirtualCdromRemotePassthroughBackingInfo, *types.VirtualCdromRemoteAtapiBackingInfo:
		return true
	}
	return false
}

// takeOVFEnv removes guestinfo.ovfEnv from a spec's extraConfig: it can be
// written there but is never shown.
func takeOVFEnv(spec *types.VirtualMachineConfigSpec) (value string, given bool) {
	spec.ExtraConfig = slices.DeleteFunc(slices.Clone(spec.ExtraConfig), func(option types.BaseOptionValue) bool {
		name, ok := strings.CutPrefix(option.GetOptionValue().Key, guestinfoPrefix)
		if !ok || guestinfoName(name) != ovfEnvName {
			return false
		}
		value, given = fmt.Sprint(option.GetOptionValue().Value), true
		return true
	})
	return value, given
}

// setInjected stores a document that a client wrote into extraConfig for the
// guest. A running VM keeps it until the power-off, another VM until a client
// removes it or vCenter delivers its own.
func (vm *instance) setInjected(document string) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	vm.injected = document
	if vm.run != nil {
		vm.run.delivery.guest = document
		vm.injected = ""
	}
}

// applyLossRule removes the environment from the guest of a running VM if a
// rule says that it is lost. The caller holds vm.mu.
func (vm *instance) applyLossRule(rule string) {
	if vm.run != nil && vm.sim.rules.Is(rule, "lost") {
		vm.run.delivery.guest = ""
	}
}

// keepDelivery passes the environment of a run to the next one when the guest
// restarts. Its addresses are not released.
func (vm *instance) keepDelivery() *delivery {
	kept := vm.run.delivery
	vm.run.delivery.env = nil
	return &kept
}

// ExtractOvfEnvironment returns the environment of a running VM.
func (v *virtualMachine) ExtractOvfEnvironment(ctx *simulator.Context, _ *types.ExtractOvfEnvironment) soap.HasFault {
	if v.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		return &methods.ExtractOvfEnvironmentBody{Fault_: simulator.Fault("The virtual machine is not running.", &types.InvalidState{})}
	}
	vm, rules := v.instance(), v.sim.rules
	vm.mu.Lock()
	enabled, d, from := vm.vapp != nil, vm.run.delivery, vm.run.from
	vm.mu.Unlock()
	again := d.env != nil && rules.Is("extract_reflects_edits", "yes") ||
		d.env == nil && !d.inherited && from != fromVCenter && rules.Is("extract_after_host_start", "regenerated")
	response := &types.ExtractOvfEnvironmentResponse{}
	switch {
	case !enabled:
	case again:
		if env, fault := v.sim.newEnvironment(ctx, v.VirtualMachine); fault == nil {
			response.Returnval = env.Document(false)
			if d.env == nil { // else the addresses are those that the VM holds
				env.Release()
			}
		}
	default:
		response.Returnval = d.extract
	}
	return &methods.ExtractOvfEnvironmentBody{Res: response}
}

// newEnvironment builds a VM's OVF environment. The fault names the property
// that cannot be computed. The caller holds the VM's lock.
func (s *Simulator) newEnvironment(ctx *simulator.Context, object *simulator.VirtualMachine) (*ovfenv.Environment, types.BaseMethodFault) {
	vm := s.instances.of(object.Self)
	vm.mu.Lock()
	info, parent := vm.vapp, vm.parent
	vm.mu.Unlock()
	env := &ovfenv.Environment{
		VCenterID: object.Self.Value, Computed: map[int32]string{},
		Version: fmt.Sprintf("%d.%d.%d", s.version[0], s.version[1], s.version[2]),
	}
	vApp, policy := s.vApps.of(parent), info.IpAssignment.IpAllocationPolicy
	if parent != nil {
		env.ID = object.Name
		policy = vApp.IpAssignment.IpAllocationPolicy
	}
	vCenter, _, _ := strings.Cut(s.listener.Addr().String(), ":")
	c := ovfenv.Computation{Rules: s.rules, Pools: ipPools{s, ctx}, VCenter: vCenter, VApp: vApp, Policy: policy, Environment: env}
	for _, p := range info.Property {
		value, fault := c.Value(p)
		if fault != nil {
			env.Release()
			return nil, fault
		}
		env.Properties = append(env.Properties, ovfenv.NewProperty(p, value))
	}
	if parent != nil {
		own := map[string]bool{}
		for _, p := range env.Properties {
			own[p.Key] = true
		}
		for _, p := range vApp.Property {
			if !own[ovfenv.FullKey(p)] && s.rules.Is("ovfenv_vapp_properties", "included") {
				env.Properties = append(env.Properties, ovfenv.NewProperty(p, cmp.Or(p.Value, p.DefaultValue)))
			}
		}
		for _, sibling := range s.siblings(vm, *parent) {
			env.Entities = append(env.Entities, sibling.entity())
		}
	}
	ovfenv.SortProperties(env.Properties)
	for _, card := range cardsOf(object.Config.Hardware.Device) {
		env.Adapters = append(env.Adapters, ovfenv.Adapter{MAC: card.MacAddress, Network: s.networkOf(ctx, card), Unit: card.UnitNumber})
	}
	return env, nil
}

// siblings returns the other VMs of a vApp, sorted by name.
func (s *Simulator) siblings(of *instance, vApp types.ManagedObjectReference) []*instance {
	var siblings []*instance
	for _, vm := range s.instances.all() {
		vm.mu.Lock()
		if vm != of && vm.parent != nil && *vm.parent == vApp {
			siblings = append(siblings, vm)
		}
		vm.mu.Unlock()
	}
	slices.SortFunc(siblings, func(a, b *instance) int {
		return strings.Compare(s.names.of(a.ref.Value), s.names.of(b.ref.Value))
	})
	return siblings
}

// entity describes the VM for the environments of its siblings.
func (vm *instance) entity() ovfenv.Entity {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	entity := ovfenv.Entity{ID: vm.sim.names.of(vm.ref.Value)}
	if vm.vapp == nil {
		return entity
	}
	computed := vm.computed()
	for _, p := range vm.vapp.Property {
		value := cmp.Or(p.Value, p.DefaultValue)
		if p.Type == "expression" || strings.HasPrefix(p.Type, "ip:") {
			value = cmp.Or(computed[p.Key], p.Value)
		}
		entity.Properties = append(entity.Properties, ovfenv.NewProperty(p, value))
	}
	ovfenv.SortProperties(entity.Properties)
	return entity
}
