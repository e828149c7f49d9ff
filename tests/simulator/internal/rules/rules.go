// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package rules is the table of vSphere behaviors that tests depend on, with
// their sources, and the values that a simulator uses.
package rules

import (
	"fmt"
	"slices"
	"sync"
)

// Rule is one behavior of vSphere that the simulator implements. A rule without
// a public source is an assumption, and every assumption has a second choice.
type Rule struct {
	Name      string   `json:"name"`
	Statement string   `json:"statement"`
	Source    string   `json:"source"`
	Default   string   `json:"default"`
	Choices   []string `json:"choices"`
	Value     string   `json:"value"`
}

// The sources the table refers to.
const (
	Assumption       = "assumption"
	higebu           = "blog of higebu, 2016-04-27"
	lox              = "lox/govmomi-vmfork"
	serengeti        = "vmware-serengeti/serengeti-ws (VcVirtualMachine.java)"
	fling            = "samples of the fling VMFork for pyVmomi"
	reference        = "vSphere API reference"
	communityScripts = "lamw/vmfork-community-customization-scripts"
	serengetiGuest   = "guest scripts of vmware-serengeti"
	programmingGuide = "vSphere Web Services SDK Programming Guide, chapter Instant Clone Virtual Machines"
	kb67186          = "knowledge base of Broadcom, article 67186"
	vixText          = "vmware/vic issues 5915 and 3417; vmware/govmomi issue 759"
	eventLists       = "lamw/vcenter-event-mapping (in the list of 7.0 U1, not in that of 6.7 U3); lamw/vghetto-scripts VMCloneInfo.ps1"
)

// Table lists every rule. The first choice is the default; a rule with one
// choice is backed by its source and cannot be switched.
var Table = []Rule{
	// Parents.
	{Name: "enable_power_state", Source: higebu + "; " + serengeti, Choices: []string{"on-or-off"},
		Statement: "A VM may be enabled as a fork parent while it is powered on or off."},
	{Name: "enable_twice", Source: Assumption, Choices: []string{"InvalidState", "success"},
		Statement: "Enabling a VM that is already enabled fails with this fault."},
	{Name: "disable_twice", Source: Assumption, Choices: []string{"InvalidState", "success"},
		Statement: "Disabling a VM that is not a fork parent fails with this fault."},
	{Name: "enable_on_other_host", Source: Assumption, Choices: []string{"relocates", "InvalidArgument", "ignored"},
		Statement: "EnableForkParent with another host moves a powered-off VM to that host; a running VM is refused with InvalidArgument."},
	{Name: "enable_needs_tools", Source: Assumption, Choices: []string{"no", "yes"},
		Statement: "Enabling a running VM without running Tools fails with ToolsUnavailable."},
	{Name: "enable_independent_disk", Source: Assumption, Choices: []string{"NotSupported", "allowed"},
		Statement: "A VM with a disk in an independent mode cannot be enabled."},
	{Name: "child_as_parent", Source: Assumption, Choices: []string{"NotSupported", "allowed"},
		Statement: "A fork child cannot be enabled as a parent."},
	{Name: "enabled_after_power_off", Source: Assumption, Choices: []string{"kept", "cleared"},
		Statement: "A parent stays enabled when it is powered off."},
	{Name: "fork_group_on_enable", Source: Assumption, Choices: []string{"new", "kept"},
		Statement: "Enabling a VM again starts a new fork group."},
	{Name: "parent_fork_group_id", Source: reference, Choices: []string{"from-6.5", "always", "absent"},
		Statement: "config.forkConfigInfo.parentForkGroupId is shown from API version 6.5 on."},
	{Name: "disabled_parent_enabled", Source: reference, Choices: []string{"unset", "false"},
		Statement: "config.forkConfigInfo.parentEnabled is unset when the VM is not a parent."},
	{Name: "plain_vm_fork_config", Source: Assumption, Choices: []string{"unset", "child-type-none"},
		Statement: "config.forkConfigInfo is unset on a VM that is neither parent nor child."},
	{Name: "disable_while_quiesced", Source: Assumption, Choices: []string{"allowed", "InvalidState"},
		Statement: "A quiesced parent may be disabled; it stays frozen until it is powered off."},
	{Name: "disable_with_children", Source: Assumption, Choices: []string{"breaks", "InvalidState", "harmless"},
		Statement: "Disabling a parent breaks its children: they lose the shared memory, are powered off, and cannot be powered on again."},
	{Name: "power_off_with_children", Source: Assumption, Choices: []string{"breaks", "InvalidState", "harmless"},
		Statement: "Powering a quiesced parent off breaks its children: they lose the shared memory, are powered off, and cannot be powered on again."},

	// The freeze.
	{Name: "freeze_needs_root", Source: communityScripts, Choices: []string{"yes", "no"},
		Statement: "vmfork-begin and instantclone.freeze work for root only."},
	{Name: "freeze_needs_enabled", Source: higebu, Choices: []string{"yes"},
		Statement: "vmfork-begin works only in an enabled parent, on a server that has the fork methods."},
	{Name: "instant_freeze", Source: programmingGuide, Choices: []string{"any-vm"},
		Statement: "instantclone.freeze works in every VM from vSphere 6.7 on."},
	{Name: "quiesced_elsewhere", Source: Assumption, Choices: []string{"unset", "false"},
		Statement: "runtime.quiescedForkParent is unset on a VM that is not quiesced."},
	{Name: "frozen_guest_operations", Source: Assumption + ": " + vixText, Choices: []string{"SystemError", "GuestOperationsUnavailable", "hang"},
		Statement: "Guest operations in a frozen VM fail at once with this fault, whose text names vix error code 3016 (hang: after a minute without an answer)."},
	{Name: "unready_guest_operations", Source: vixText, Choices: []string{"SystemError", "GuestOperationsUnavailable"},
		Statement: "Guest operations in a guest that is starting, or whose Tools do not answer yet, fail with SystemError \"vix error codes = (3016, 0)\". If Tools do not run at all, the fault is GuestOperationsUnavailable."},
	{Name: "frozen_tools_status", Source: "test-kitchen/kitchen-vcenter lib/support/clone_vm.rb", Choices: []string{"not-running", "running"},
		Statement: "guest.toolsRunningStatus of a frozen VM reads guestToolsNotRunning."},
	{Name: "frozen_reconfigure", Source: Assumption, Choices: []string{"allowed", "InvalidState"},
		Statement: "A frozen VM may be reconfigured."},
	{Name: "revert_powers_off", Source: reference + " (RevertToSnapshot_Task)", Choices: []string{"yes"},
		Statement: "Reverting to a snapshot powers the VM off and ends a freeze (in the simulator, no snapshot has memory)."},
	{Name: "frozen_relocate", Source: "Horizon documentation of its instant clone parents", Choices: []string{"InvalidState"},
		Statement: "A frozen VM cannot be moved to another host."},

	// Children.
	{Name: "child_needs_quiesced_parent", Source: serengeti, Choices: []string{"InvalidState"},
		Statement: "CreateForkChild needs a quiesced parent."},
	{Name: "child_power_state", Source: lox + "; " + fling, Choices: []string{"poweredOff"},
		Statement: "A child is created powered off."},
	{Name: "child_host", Source: reference, Choices: []string{"parent"},
		Statement: "A child is created on the host of its parent."},
	{Name: "persistent_needs_snapshot", Source: serengeti, Choices: []string{"InvalidState"},
		Statement: "A persistent child needs a parent with a disk snapshot."},
	{Name: "persistent_child_type", Source: reference, Choices: []string{"none"},
		Statement: "config.forkConfigInfo.childType of a persistent child is none after the child was powered on."},
	{Name: "child_fork_group_id", Source: reference, Choices: []string{"always", "absent"},
		Statement: "config.forkConfigInfo.childForkGroupId of a child is shown."},
	{Name: "persistent_child_group", Source: Assumption, Choices: []string{"kept", "removed"},
		Statement: "A persistent child keeps childForkGroupId after its power-on."},
	{Name: "persistent_children_listed", Source: Assumption, Choices: []string{"until-power-on", "always"},
		Statement: "RetrieveForkChildren lists a persistent child until it is powered on."},
	{Name: "location_folder", Source: serengeti, Choices: []string{"honoured", "ignored"},
		Statement: "spec.location.folder is the folder of the child (the reference does not list it among the fields that apply)."},
	{Name: "create_result", Source: serengeti, Choices: []string{"child", "unset"},
		Statement: "The result of a CreateForkChild task is the child."},
	{Name: "create_privilege", Source: Assumption, Choices: []string{"ToggleForkParent", "none"},
		Statement: "CreateForkChild requires VirtualMachine.Config.ToggleForkParent on the parent."},
	{Name: "retrieve_privilege", Source: Assumption, Choices: []string{"none", "ToggleForkParent"},
		Statement: "RetrieveForkChildren and RetrieveForkParent require no privilege beyond reading (the other choice: VirtualMachine.Config.ToggleForkParent)."},
	{Name: "children_result_empty", Source: Assumption, Choices: []string{"unset", "empty-list"},
		Statement: "The result of RetrieveForkChildren is unset when there are none."},
	{Name: "children_of_non_parent", Source: Assumption, Choices: []string{"success", "InvalidState"},
		Statement: "RetrieveForkChildren succeeds on a VM that is not a parent."},
	{Name: "parent_of_non_child", Source: Assumption, Choices: []string{"success", "InvalidState"},
		Statement: "RetrieveForkParent succeeds, without a result, on a VM that is not a child."},
	{Name: "config_params_visible", Source: Assumption, Choices: []string{"extraConfig", "guest-only"},
		Statement: "guestinfo.fork.* of a child is visible in its config.extraConfig (guest-only: only after a client sets it)."},
	{Name: "extra_config_inherited", Source: Assumption, Choices: []string{"yes", "no"},
		Statement: "A child inherits the parent's extraConfig outside guestinfo."},
	{Name: "guestinfo_inherited", Source: Assumption, Choices: []string{"at-freeze", "no"},
		Statement: "A child inherits the parent's guestinfo from the moment when the parent froze, or was cloned while it ran."},
	{Name: "fork_addresses", Source: serengetiGuest, Choices: []string{"yes"},
		Statement: "guestinfo.fork.ethernet<N>.address contains a child's MAC addresses without being requested."},
	{Name: "child_reconfigure", Source: Assumption, Choices: []string{"allowed", "InvalidState"},
		Statement: "A child may be reconfigured before its first power-on."},
	{Name: "network_after_fork", Source: Assumption + ": vmware/open-vm-tools issue 577", Choices: []string{"on-request", "until-report", "cleared", "late"},
		Statement: "guest.* of a child shows the parent's values until the child's Tools report: at once where the guest asks for it with info update network, else five seconds later (until-report: always at once; cleared: at once, and there are no values before; late: always five seconds later)."},
	{Name: "nonpersistent_power_off", Source: Assumption, Choices: []string{"kept", "destroyed"},
		Statement: "A nonpersistent child loses its state at power-off; the VM remains."},
	{Name: "nonpersistent_power_on_again", Source: Assumption, Choices: []string{"forks-again", "InvalidState"},
		Statement: "A nonpersistent child that is powered on again starts from the fork point."},
	{Name: "child_disk_backing", Source: Assumption, Choices: []string{"linked", "flat"},
		Statement: "A child's disk is a delta disk whose backing.parent is the file of its parent's disk (the other choice: no chain is shown, as after a migration to another datastore)."},
	{Name: "clone_inherits_fork_group", Source: Assumption, Choices: []string{"no", "yes"},
		Statement: "An ordinary clone of a child has no childForkGroupId."},

	// Instant clones.
	{Name: "instant_clone_frozen_elsewhere", Source: Assumption, Choices: []string{"false", "unset"},
		Statement: "runtime.instantCloneFrozen is false on a VM that is not frozen, and unset before API version 6.7."},
	{Name: "instant_clone_runs", Source: reference, Choices: []string{"poweredOn"},
		Statement: "An instant clone is created powered on, on the host of its source (spec.location.host is ignored); the source must be powered on."},
	{Name: "instant_clone_vcenter_only", Source: programmingGuide, Choices: []string{"NotSupported"},
		Statement: "InstantClone is not available on a connection to the host itself."},
	{Name: "instant_clone_result", Source: reference, Choices: []string{"child", "unset"},
		Statement: "The result of an InstantClone task is the clone."},
	{Name: "instant_clone_independent", Source: programmingGuide, Choices: []string{"yes"},
		Statement: "A clone does not need its source after it was created, and keeps its state at power-off. No public property names its source."},
	{Name: "instant_clone_fork_config", Source: Assumption, Choices: []string{"child-type-none", "unset"},
		Statement: "config.forkConfigInfo of an instant clone has childType none and no fork group (the other choice: is that of any VM)."},
	{Name: "instant_clone_config", Source: reference, Choices: []string{"extraConfig"},
		Statement: "spec.config is written to the clone's config.extraConfig under the given keys; the guest reads the keys that start with guestinfo."},
	{Name: "instant_clone_config_keys", Source: Assumption, Choices: []string{"kept", "dropped"},
		Statement: "Keys of spec.config outside guestinfo are kept."},
	{Name: "instant_clone_folder", Source: Assumption + ": the type's page says honoured, the 8.0 programming guide says that location is ignored", Choices: []string{"honoured", "ignored"},
		Statement: "spec.location.folder is the folder of the clone (the other choice: it is ignored, as if none were given)."},
	{Name: "instant_clone_refuses", Source: "vmware/ansible-vsphere-gos-validation (issue 416 there)", Choices: []string{"vSphere's texts"},
		Statement: "A VM with a vTPM, a passthrough device, a serial port that is not backed by a file, or a connected CD drive whose image cannot be reached is not cloned instantly."},
	{Name: "memory_admission", Source: reference + " (InsufficientMemoryResourcesFault)", Choices: []string{"InsufficientMemoryResourcesFault"},
		Statement: "A child that reserves more memory than its resource pool has unreserved is refused with this fault."},
	{Name: "swap_file_space", Source: Assumption + ": \"vSphere Resource Management\" has that the space must be reserved, and no fault", Choices: []string{"NoDiskSpace", "ignored"},
		Statement: "A child is refused with this fault if its datastore has no space for its swap file: the memory that it does not reserve."},
	{Name: "instant_clone_vtpm_fault", Source: Assumption + ": the text is known, its fault is not", Choices: []string{"NotSupported", "InvalidState", "GenericVmConfigFault"},
		Statement: "The InstantClone of a VM with a vTPM fails with this fault."},
	{Name: "instant_clone_device_changes", Source: Assumption + ": the type's page says honoured, the 8.0 programming guide says that location is ignored", Choices: []string{"honoured", "ignored"},
		Statement: "spec.location.deviceChange changes the clone's adapters (the other choice: they are on the source's networks, connected as the source's are, with new MACs)."},
	{Name: "instant_clone_default_folder", Source: reference, Choices: []string{"root", "source"},
		Statement: "Without a folder, the clone is created in the root VM folder of its source's datacenter (the other choice: in the source's folder)."},
	{Name: "instant_clone_power_on_privilege", Source: "vSphere Automation API reference, instant-clone of a VM", Choices: []string{"folder", "source"},
		Statement: "InstantClone requires VirtualMachine.Interact.PowerOn on the clone's folder (the other choice: on the source)."},
	{Name: "instant_clone_network_privilege", Source: "vSphere Automation API reference, instant-clone of a VM", Choices: []string{"Network.Assign"},
		Statement: "For changes of the clone's adapters, InstantClone requires Network.Assign on their new networks and no other privilege."},
	{Name: "instant_clone_events", Source: Assumption, Choices: []string{"power-on", "none"},
		Statement: "The events of the creation of an instant clone are those of a power-on by vCenter."},
	{Name: "instant_clone_event", Source: eventLists, Choices: []string{"from-7.0.1", "absent"},
		Statement: "From API version 7.0.1 on the clone also has an EventEx com.vmware.vc.VmInstantClonedEvent, whose first argument is its source's name."},
	{Name: "check_instant_clone_finds", Source: Assumption, Choices: []string{"errors-and-warnings", "errors", "nothing"},
		Statement: "CheckInstantClone reports everything that would make InstantClone fail, and warns about a source that is not frozen or has more than 100 delta disks."},
	{Name: "check_instant_clone_privilege", Source: reference, Choices: []string{"System.View"},
		Statement: "CheckInstantClone requires System.View only."},
	{Name: "instant_clone_deltas", Source: kb67186, Choices: []string{"source-and-clone"},
		Statement: "Cloning a running VM adds a delta disk to it, visible in layoutEx; a frozen VM keeps its disks. A clone has one delta disk more than its source had."},
	{Name: "chain_limit_fault", Source: kb67186, Choices: []string{"SystemError"},
		Statement: "A virtual disk has at most 255 delta disks; a clone that would need more fails with SystemError (reason Launch failure, caused by GenericVmConfigFault)."},
	{Name: "chain_limit_text", Source: Assumption, Choices: []string{"shown", "hidden"},
		Statement: "The text of that fault names the number of delta disks (the other choice: only that a migration could not be prepared)."},

	// Networks.
	{Name: "adapter_connected", Source: reference, Choices: []string{"while-on"},
		Statement: "connectable.connected says whether an adapter is connected now, which it can be while the VM is on; startConnected says whether a power-on connects it. guest.net[].connected follows it."},
	{Name: "driver_mac_after_fork", Source: "community scripts of VMFork and Instant Clone (lamw), which all load the driver again or rebind it; that the address does not change otherwise is an " + Assumption, Choices: []string{"parent", "own"},
		Statement: "The driver in a child's guest goes on with the parent's MAC until it is loaded again or rebound; the network answers nothing that is sent from it (the other choice: it knows the child's at once)."},
	{Name: "stale_mac_report", Source: Assumption, Choices: []string{"as-seen", "omitted"},
		Statement: "guest.net shows an adapter whose MAC in the guest is not the hardware's with the guest's MAC, its addresses and deviceConfigId -1 (the other choice: not at all)."},
	{Name: "mac_conflict", Source: Assumption + ": the reference has VmMacConflictEvent, \"vSphere Networking\" that such a VM powers on and functions; \"vSphere 5.1 Networking\" that vCenter resolves conflicts when an adapter is edited", Choices: []string{"VmMacConflictEvent", "refused"},
		Statement: "A manual MAC address that another VM has on the same network is accepted, and the event is logged (the other choice: the adapter is refused with InvalidDeviceSpec)."},
	{Name: "reserved_macs", Source: "ansible-collections/community.vmware issue 1159; josenk/terraform-provider-esxi issue 184; \"vSphere Networking\"; which fault, and that it does not come earlier, is an " + Assumption, Choices: []string{"at-power-on", "at-configuration"},
		Statement: "A VM with a manual MAC address of 00:50:56:40:00:00 to 00:50:56:FF:FF:FF or 00:0C:29 does not start, and is not made by InstantClone: GenericVmConfigFault, \"conflicts with VMware reserved MACs for other usage\" (the other choice: the adapter is refused already)."},
	{Name: "mac_change_while_on", Source: Assumption + ": vSphere's documentation asks to power the VM off first", Choices: []string{"InvalidPowerState", "applied"},
		Statement: "The MAC address of an adapter of a VM that runs cannot be changed (the other choice: the guest sees it when its driver is loaded again)."},
	{Name: "instant_clone_devices", Source: Assumption + ": the reference names what can be edited, and no fault", Choices: []string{"NotSupported", "InvalidDeviceSpec"},
		Statement: "Of the devices of an instant clone only adapters (and ports backed by files, which are not simulated) can be edited; anything else fails with this fault."},
	{Name: "port_taken", Source: reference + "; vmwarearena.com, vSphere Distributed Switch part 14", Choices: []string{"by-configuration"},
		Statement: "In a port group with static binding an adapter has a port from when it is configured, whether the VM is on and the adapter connected or not, until it is moved or removed."},
	{Name: "no_free_port", Source: Assumption + ": vmwarearena.com, vSphere Distributed Switch part 14, has the sentence", Choices: []string{"ResourceNotAvailable", "InvalidArgument"},
		Statement: "An adapter that finds no free port in its port group fails the task with this fault, \"No free port is available in the distributed port group\"."},
	{Name: "port_group_elastic", Source: "documentation \"vSphere 6.5 Networking\"; vmware/pyvmomi-community-samples issue 750", Choices: []string{"eight-more"},
		Statement: "A port group expands by eight ports when all are taken, unless config.autoExpand is false."},
	{Name: "opaque_network_backing", Source: "vmware-tanzu/vm-operator pull request 942; vmware/govmomi simulator (configureDevices)", Choices: []string{"port-group", "kept"},
		Statement: "An adapter that is put on an opaque network is shown on the distributed port group of that logical switch, where there is one (the other choice: as it was asked for, as without NSX on a distributed switch)."},
	{Name: "adapter_privileges", Source: reference, Choices: []string{"EditDevice, DeviceConnection, Network.Assign"},
		Statement: "Editing a device requires VirtualMachine.Config.EditDevice; connecting or disconnecting it, VirtualMachine.Interact.DeviceConnection; moving an adapter to another network, Network.Assign on that network."},

	// Events.
	{Name: "drs_power_on_event", Source: "vmware/vic pull request 3236", Choices: []string{"from-6.5", "always", "never"},
		Statement: "From vCenter 6.5 on, a power-on in a cluster with DRS is logged as DrsVmPoweredOnEvent, and a filter on VmPoweredOnEvent alone does not select it."},
	{Name: "host_client_user", Source: Assumption, Choices: []string{"session", "empty", "vpxuser"},
		Statement: "The events of a power operation on the host itself name the user of the session there."},
	{Name: "ha_event", Source: reference, Choices: []string{"EventEx", "VmRestartedOnAlternateHostEvent"},
		Statement: "A restart by HA is logged as EventEx com.vmware.vc.ha.VmRestartedByHAEvent (before vSphere 5.0: VmRestartedOnAlternateHostEvent)."},
	{Name: "multi_power_on_chain", Source: Assumption, Choices: []string{"shared", "own"},
		Statement: "The events of PowerOnMultiVM and of the power-on of each of its VMs are one chain."},
	{Name: "resume_events", Source: Assumption, Choices: []string{"resuming-and-powered-on", "resuming"},
		Statement: "Powering a suspended VM on is logged as VmResumingEvent and VmPoweredOnEvent."},
	{Name: "events_of_disconnected_host", Source: Assumption, Choices: []string{"late", "lost"},
		Statement: "Events of a disconnected host are logged when it is reconnected, with the time of the reconnection."},
	{Name: "event_type_and_id", Source: Assumption, Choices: []string{"InvalidArgument", "allowed"},
		Statement: "An event filter with both type and eventTypeId is refused with this fault (the reference: it may be)."},
	{Name: "event_type_subclasses", Source: Assumption, Choices: []string{"included", "excluded"},
		Statement: "The deprecated filter by type selects the events derived from a class as well."},
	{Name: "event_page_limit", Source: Assumption, Choices: []string{"1000", "InvalidArgument"},
		Statement: "More than 1,000 events asked for at once are answered with 1,000."},

	// The OVF environment.
	{Name: "ovfenv_delivered", Source: "documentation \"vSphere 6.7 VM Administration\" (GUID-4BC11AEF); blog vHoge on VMs started on ESXi directly", Choices: []string{"vcenter-power-on"},
		Statement: "The environment is made of config.vAppConfig when vCenter powers the VM on, if there is a transport; a VM that a host powers on has none."},
	{Name: "ovfenv_kept", Source: "blog vHoge on VMs started on ESXi directly", Choices: []string{"reset-and-reboot"},
		Statement: "A reset and a reboot of the guest leave the environment as it is, there or not; a power-off takes it away."},
	{Name: "ovfenv_lost_by_ha", Source: "vmware/vic-product issue 741", Choices: []string{"yes"},
		Statement: "A VM that HA restarted, or that was started on its host after a crash, has no environment."},
	{Name: "ovfenv_value", Source: reference, Choices: []string{"value-or-default"},
		Statement: "A property is [classId.]id[.instanceId], a name the VM has once; its default stands in for an empty value."},
	{Name: "ovfenv_of_vapp", Source: "documentation \"vSphere 6.7 VM Administration\" (GUID-4BC11AEF); CoprHD/coprhd-controller parseOvfEnv.py", Choices: []string{"yes"},
		Statement: "The environment of a VM in a vApp has an id, and an Entity for each of the VM's siblings."},
	{Name: "vapp_members", Source: "ansible-collections/community.vmware issues 429 and 777; vmware/pyvmomi-community-samples issue 407", Choices: []string{"no-folder"},
		Statement: "A VM in a vApp has parentVApp; its parent is unset, and no folder has it as a child."},
	{Name: "child_of_vapp_member", Source: Assumption, Choices: []string{"vapp", "pool"},
		Statement: "A child of a VM in a vApp is in the vApp too, unless spec.location.pool says otherwise (the other choice: it is in the resource pool around the vApp, and in a folder)."},
	{Name: "ovfenv_vapp_properties", Source: Assumption, Choices: []string{"included", "excluded"},
		Statement: "The environment of a VM in a vApp has the vApp's own properties too."},
	{Name: "ovfenv_hidden", Source: "vmware/vic doc/design/vic-machine/upgrade.md", Choices: []string{"yes"},
		Statement: "guestinfo.ovfEnv can be written through config.extraConfig and is never shown there."},
	{Name: "ovfenv_injected_while_on", Source: "vmware/vic issue 8148", Choices: []string{"volatile"},
		Statement: "guestinfo.ovfEnv that is written through extraConfig while the VM runs is lost at the next power-off."},
	{Name: "vapp_passwords", Source: reference, Choices: []string{"write-only"},
		Statement: "Value and default of a property of type password are always returned empty."},
	{Name: "vapp_privileges", Source: reference, Choices: []string{"two"},
		Statement: "Changing the structure of vApp options requires VApp.ApplicationConfig; changing values and the IP allocation policy requires VApp.InstanceConfig."},
	{Name: "vapp_computed_values", Source: reference, Choices: []string{"while-running"},
		Statement: "An expression's value is shown while the VM runs; a VM with one that cannot be computed does not start."},
	{Name: "required_property_empty", Source: "vmware/pyvmomi issue 711 (a property of type ip); the published guide of a Harbor appliance (boolean); which fault it is, is not public", Choices: []string{"InvalidPropertyValue"},
		Statement: "A VM with a property whose type does not take an empty value, and that has none, is not powered on: Property 'LABEL' must be configured for the VM to power on."},
	{Name: "required_property_types", Source: Assumption, Choices: []string{"all", "ip-and-boolean"},
		Statement: "Strings with a least length or a list of values, int and real do not take an empty value either."},
	{Name: "computed_address_disabled", Source: reference + " (IpPoolConfigInfo.ipPoolEnabled); which fault is an " + Assumption, Choices: []string{"MissingIpPool", "NoAvailableIp"},
		Statement: "An address is taken only from an IP pool that is enabled; a VM with a property that needs one does not start, with this fault."},
	{Name: "vapp_dhcp_address", Source: reference, Choices: []string{"reported-later"},
		Statement: "A property of type ip:network is empty at a power-on with the DHCP policy; later its value is the address that the guest reports."},
	{Name: "extract_secrets", Source: reference, Choices: []string{"omitted"},
		Statement: "ExtractOvfEnvironment needs a running VM (InvalidState), leaves secrets out, and returns an empty text without vApp options."},
	{Name: "iso_client_device", Source: "hashicorp/terraform-provider-vsphere virtual_machine_cdrom_subresource.go", Choices: []string{"needed"},
		Statement: "The transport iso puts [datastore] VM/_ovfenv-VM.iso into a CD drive that is a client device; without one nothing is delivered."},
	{Name: "guest_rpc_auth", Source: "canonical/cloud-init doc/rtd/reference/datasources/ovf.rst; knowledge base of Broadcom, as public notes cite it", Choices: []string{"non-root", "everybody"},
		Statement: "guest_rpc.rpci.auth.cmd.info-get = TRUE (or info-set) denies the command to users other than root."},
	{Name: "password_edited_empty", Source: Assumption, Choices: []string{"cleared", "kept"},
		Statement: "Editing a password property without a value clears the password."},
	{Name: "vapp_property_types", Source: reference + " (VAppPropertyInfo.type, InvalidPropertyType)", Choices: []string{"checked"},
		Statement: "A property with a type that VAppPropertyInfo does not list is refused with InvalidPropertyType."},
	{Name: "vapp_values_checked", Source: Assumption + ", when InvalidPropertyValue is reported", Choices: []string{"yes", "no"},
		Statement: "A value or default that the type of a property does not allow is refused with InvalidPropertyValue when it is written."},
	{Name: "vapp_not_user_configurable", Source: "hashicorp/terraform-provider-vsphere issue 394", Choices: []string{"NotUserConfigurableProperty"},
		Statement: "Changing the value of a property that is not user-configurable fails with this fault."},
	{Name: "vapp_made_configurable", Source: Assumption + ": vmware-tanzu/vm-operator issue 181 does the one and then the other", Choices: []string{"accepted", "refused"},
		Statement: "One edit can make a property user-configurable and give it a value."},
	{Name: "vapp_fixed_value_added", Source: Assumption, Choices: []string{"refused", "accepted"},
		Statement: "A property that is not user-configurable is added without a value only; it may have a default."},
	{Name: "vapp_edit_left_out", Source: Assumption, Choices: []string{"kept", "cleared"},
		Statement: "A field that an edit of a property omits keeps its value, except the value itself; an empty field is cleared."},
	{Name: "vapp_change_while_on", Source: Assumption + ": hashicorp/terraform-provider-vsphere issue 393 powers the VM off first", Choices: []string{"accepted", "InvalidPowerState"},
		Statement: "vApp options can be changed while the VM is powered on; the guest has them at the next power-on."},
	{Name: "child_vapp_config", Source: Assumption, Choices: []string{"copied", "unset"},
		Statement: "A child has its parent's config.vAppConfig, and with guestinfo_inherited the parent's environment in its memory."},
	{Name: "extract_after_host_start", Source: Assumption, Choices: []string{"empty", "stale", "regenerated"},
		Statement: "ExtractOvfEnvironment returns nothing for a VM that was powered on without vCenter."},
	{Name: "extract_reflects_edits", Source: Assumption, Choices: []string{"no", "yes"},
		Statement: "ExtractOvfEnvironment shows the environment of the power-on, whatever was edited since."},
	{Name: "computed_after_host_start", Source: Assumption, Choices: []string{"empty", "kept"},
		Statement: "Computed values are empty while a VM runs that was powered on without vCenter."},
	{Name: "iso_after_host_start", Source: Assumption, Choices: []string{"gone", "stays"},
		Statement: "The image of the environment is not connected in a VM that was powered on without vCenter."},
	{Name: "ovfenv_after_host_start", Source: Assumption + ": vmware/vic-product ts_ovf_error.md and issue 961 have it otherwise than the blog vHoge", Choices: []string{"delivered", "after-reconfigure"},
		Statement: "A VM that was powered on without vCenter has its environment again at the next power-on through vCenter (the other choice: only after its vApp options were written again)."},
	{Name: "ovfenv_after_vmotion", Source: Assumption, Choices: []string{"kept", "lost"},
		Statement: "The environment survives a move to another host."},
	{Name: "ovfenv_after_resume", Source: Assumption, Choices: []string{"kept", "lost"},
		Statement: "The environment survives suspend and resume."},
	{Name: "ovfenv_after_power_cycle_reboot", Source: Assumption, Choices: []string{"kept", "lost"},
		Statement: "The environment survives a reboot of a guest with vmx.reboot.powerCycle."},

	// The guest.
	{Name: "guestinfo_after_power_cycle", Source: Assumption + ": vmware/vic issues 1337 and 4110 and flatcar-docs pull request 73 say so, open-vm-tools issue 288 says kept", Choices: []string{"cleared", "kept"},
		Statement: "guestinfo values that were set while the VM was running are lost at power-off, no matter who set them."},
	{Name: "info_set_empty", Source: Assumption + ": vmware-archive/cloud-init-vmware-guestinfo issue 25 says that an empty value cannot be set and a blank can; other guests' scripts set empty values", Choices: []string{"refused", "accepted"},
		Statement: "info-set with an empty value fails (the other choice: removes the value)."},
	{Name: "info_set_disabled", Source: "cloudfoundry/bosh-vsphere-cpi-release issue 18", Choices: []string{"yes"},
		Statement: "isolation.tools.setinfo.disable = TRUE makes every info-set fail."},
	{Name: "guest_reboot", Source: "systemd halt(8); random(4); file-hierarchy(7)", Choices: []string{"restarts"},
		Statement: "A guest that reboots starts again: Tools do not run until then, and /run, /tmp and the boot ID are new."},
	{Name: "guest_power_off", Source: "systemd halt(8), shutdown(8); vSphere API reference (VmGuestShutdownEvent)", Choices: []string{"powers-off"},
		Statement: "A guest that powers itself off leaves the VM powered off, without a task and with events that name no user. A guest that only halts leaves it powered on."},
	{Name: "sudoers", Source: "sudoers(5)", Choices: []string{"counts"},
		Statement: "The guest's /etc/sudoers and /etc/sudoers.d define who may use sudo without a password, and for which commands."},
	{Name: "sudo_owner", Source: "sudo(8); kill(2); open-vm-tools services/plugins/vix (VixToolsKillProcess: EPERM is VIX_E_GUEST_USER_PERMISSIONS)", Choices: []string{"root"},
		Statement: "sudo and its child processes belong to root: TerminateProcessInGuest by the user who called it fails with GuestPermissionDenied."},

	// Whether a power-on is possible, and where vCenter itself is.
	{Name: "check_power_on_properties", Source: Assumption, Choices: []string{"reported", "ignored"},
		Statement: "CheckPowerOn_Task reports a vApp property that cannot be computed."},
	{Name: "check_power_on_running", Source: Assumption, Choices: []string{"InvalidPowerState", "ignored"},
		Statement: "CheckPowerOn_Task reports a running VM with this fault."},
	{Name: "own_address", Source: "AsBuiltReport.VMware.vSphere; pyvmomi-community-samples issue 633", Choices: []string{"shown"},
		Statement: "The settings VirtualCenter.FQDN and VirtualCenter.AutoManagedIPV4, and every host's managementServerIp, contain the address of vCenter."},

	// The server.
	{Name: "names_differing_in_case", Source: Assumption + ": Icinga/icingaweb2-module-vspheredb issue 129 shows vm, vM, Vm and VM side by side; guides of other tools ask for names that differ by more", Choices: []string{"same", "different"},
		Statement: "Names that differ in case only are one name: two VMs of a folder cannot have them (DuplicateName), and FindChild finds the VM by either."},
	{Name: "unknown_method_fault", Source: "vpulim/node-soap issue 668", Choices: []string{"InvalidRequest", "RuntimeFault", "MethodNotFound", "NotSupported"},
		Statement: "A call of an unknown method returns this fault."},
	{Name: "forgotten_tasks", Source: "kubernetes-sigs/vsphere-csi-driver issue 2592; vmware/govmomi issue 3256", Choices: []string{"unresolved"},
		Statement: "A task that vCenter no longer knows (DELETE /vmforksim/tasks, or a fault injected at vanish) cannot be resolved: ModifyListView returns it as unresolved, and no update for it arrives. Its work continues."},
	{Name: "read_privileges", Source: reference + "; the privileges of properties in pyVmomi's type definitions", Choices: []string{"missing-set"},
		Statement: "Without System.Read, properties are reported as missing with NoPermission; name, parent and references to other objects require System.View only."},
	{Name: "unseen_object", Source: Assumption, Choices: []string{"missing-set", "ManagedObjectNotFound"},
		Statement: "An object without System.View is in no view, list or search; read by its reference, all its properties are missing with NoPermission (the other choice: this fault)."},
	{Name: "reconfigure_change_version", Source: reference + " (ConfigSpec.changeVersion); vmware/govmomi issue 953", Choices: []string{"ConcurrentAccess"},
		Statement: "ReconfigVM with a changeVersion that is not the VM's fails with this fault."},
	{Name: "change_version_race", Source: Assumption, Choices: []string{"one", "both"},
		Statement: "Of two reconfigures with the same changeVersion that are sent at the same time, one succeeds (the other choice: changeVersion is compared when the request arrives, so both do)."},
	{Name: "change_version_power_on", Source: Assumption, Choices: []string{"changed", "kept"},
		Statement: "A power-on changes config.changeVersion."},
	{Name: "change_version_info_set", Source: Assumption, Choices: []string{"kept", "changed"},
		Statement: "A guest that sets guestinfo does not change config.changeVersion."},
	{Name: "permissions", Source: "documentation \"vSphere Security\" (GUID-03B36057)", Choices: []string{"nearest"},
		Statement: "A permission on an object overrides what propagates to it from above; a VM inherits from its folder and from its pool at once. In the simulator, a user without any permission entry may do everything."},
	{Name: "privileges_asked_of", Source: reference, Choices: []string{"readable entities"},
		Statement: "HasPrivilegeOnEntities requires System.Read on every entity; for a session that does not exist it returns that no privilege is granted."},
	{Name: "newer_soap_version", Source: "govmomi's clients name their own newest version to every server", Choices: []string{"served", "refused"},
		Statement: "A published API version newer than the server's own is accepted in SOAPAction."},
	{Name: "transfer_url_host", Source: "govmomi guest/file_manager.go", Choices: []string{"address", "inventory-name", "asterisk"},
		Statement: "A guest file transfer's URL names the ESXi host (a real one by its inventory name; here by an address that can be reached)."},
	{Name: "hidden_methods_over_soap", Source: Assumption, Choices: []string{"known", "unknown"},
		Statement: "A server that has the hidden methods answers them over SOAP as well as through the Managed Object Browser."},
	{Name: "guestinfo_limit", Source: Assumption + ": GUESTMSG_MAX_IN_SIZE of open-vm-tools is the first", Choices: []string{"65536", "1048576"},
		Statement: "A message from a guest may have this many bytes, including the command and the key."},

	// The Managed Object Browser.
	{Name: "mob", Source: "config-modules-vmware managed_object_browser.py (vpxd.enableDebugBrowse); DISA STIG for vCenter", Choices: []string{"on", "off", "login-page", "redirect"},
		Statement: "The browser is served unless vpxd.enableDebugBrowse is false (login-page, redirect: another login page is served instead)."},
	{Name: "mob_off_answer", Source: Assumption + "; the text of 503: ustclug/discussions issue 61", Choices: []string{"404", "503"},
		Statement: "A browser that is switched off answers with this status."},
	{Name: "mob_session", Source: "lamw/vmware-scripts automate-vsphere-mob.ps1; lamw's script that joins ESXi to vCenter (virtuallyghetto, 2011-03); realm: nmap http-default-accounts", Choices: []string{"basic-and-cookie"},
		Statement: "HTTP basic authentication logs in; the cookie vmware_soap_session is enough from then on. GET /mob/logout and the method logout of SessionManager end the session."},
	{Name: "mob_nonce", Source: "lamw/vmware-scripts automate-vsphere-mob.ps1; descendants of lamw's script that joins ESXi to vCenter (one serves servers with and without a nonce)", Choices: []string{"required", "absent"},
		Statement: "Every form contains vmware-session-nonce, a value per session that must be sent back."},
	{Name: "mob_wrong_nonce", Source: Assumption, Choices: []string{"403", "form"},
		Statement: "A form without the right nonce is refused with 403 Forbidden (the other choice: the form is shown again)."},
	{Name: "mob_pages", Source: "a page of ESX 3.5 in yavijava ResultConverter.java; lamw's regular expressions", Choices: []string{"name-type-value"},
		Statement: "Values are shown in tables of name, type and value, nested for values with properties; the address of an object is /mob/?moid= with all but letters and digits escaped; a result is headed Method Invocation Result: and its type."},
	{Name: "mob_hidden_methods", Source: higebu, Choices: []string{"not-listed"},
		Statement: "A hidden method has a page under its name in the object model; the object's page does not link to it."},
	{Name: "mob_parameters", Source: "vSphere Web Services SDK Programming Guide, Managed Object Browser; lamw enable-disable-vsphere-api-method.ps1 and his script that joins ESXi to vCenter", Choices: []string{"text-and-xml"},
		Statement: "A value is entered as text (a boolean also as 1), a data object or a reference as XML in the order of its type (<host type=\"HostSystem\">host-12</host>), an array as one element after the other; a field left empty is unset."},
	{Name: "mob_undeclared_prefixes", Source: Assumption + ", for xsd; xsi: lamw enable-disable-vsphere-api-method.ps1", Choices: []string{"xsi and xsd", "xsi"},
		Statement: "XML that is entered may use these prefixes without declaring them."},
	{Name: "mob_untyped_value", Source: Assumption, Choices: []string{"refused", "string"},
		Statement: "A value of any type, as in an OptionValue, needs xsi:type (the other choice: without it, it is a string)."},
	{Name: "mob_bad_parameter", Source: Assumption, Choices: []string{"InvalidRequest", "InvalidArgument"},
		Statement: "A parameter that is missing, malformed or not of its type is answered with this fault."},
	{Name: "mob_fault_page", Source: Assumption + "; a public Ansible module for global permissions (class MobClient) knows that the error is an HTML table", Choices: []string{"result", "error-page"},
		Statement: "A fault is shown as the result of the method, with its type and text (the other choice: a page of its own, with status 500)."},
	{Name: "mob_not_found", Source: Assumption, Choices: []string{"404", "fault"},
		Statement: "An object or a method that the server does not have is answered with 404 Not Found (the other choice: a page with the fault, status 500)."},
}

// Rules is the table with the values of one simulator.
type Rules struct {
	mu     sync.Mutex
	values map[string]string
}

// New returns the rules with their default values.
func New() *Rules { return &Rules{values: map[string]string{}} }

// Find returns a rule by name.
func Find(name string) (Rule, bool) {
	for _, rule := range Table {
		if rule.Name == name {
			rule.Default = rule.Choices[0]
			return rule, true
		}
	}
	return Rule{}, false
}

// Get returns a rule's value.
func (r *Rules) Get(name string) string {
	rule, ok := Find(name)
	if !ok {
		panic("no such rule: " + name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if value, ok := r.values[name]; ok {
		return value
	}
	return rule.Default
}

// Is reports whether a rule has a value. It panics if the value is not one of
// the choices: a misspelled one would never match.
func (r *Rules) Is(name, choice string) bool {
	if rule, _ := Find(name); !slices.Contains(rule.Choices, choice) {
		panic(fmt.Sprintf("rule %s has no choice %s", name, choice))
	}
	return r.Get(name) == choice
}

// Set switches a rule.
func (r *Rules) Set(name, value string) error {
	rule, ok := Find(name)
	if !ok {
		return fmt.Errorf("there is no rule %q", name)
	}
	if !slices.Contains(rule.Choices, value) {
		return fmt.Errorf("rule %s is one of %v, not %q", name, rule.Choices, value)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.values[name] = value
	return nil
}

// Reset sets all rules back to their defaults.
func (r *Rules) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.values = map[string]string{}
}

// List returns the table with the values as they are now.
func (r *Rules) List() []Rule {
	list := slices.Clone(Table)
	for i := range list {
		list[i].Default = list[i].Choices[0]
		list[i].Value = r.Get(list[i].Name)
	}
	return list
}
