// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/event"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// describe returns an event in one line: class or ID, user, and the task's
// name.
func describe(base types.BaseEvent) string {
	user := base.GetEvent().UserName
	switch event := base.(type) {
	case *types.EventEx:
		return event.EventTypeId + " by " + user
	case *types.TaskEvent:
		return fmt.Sprintf("TaskEvent %s by %s (%s)", event.Info.DescriptionId, user, event.Info.Reason.(*types.TaskReasonUser).UserName)
	}
	return eventName(base) + " by " + user
}

// chains returns the events by chain, each in chronological order.
func chains(events []types.BaseEvent) [][]string {
	var found [][]string
	last := int32(0)
	for _, event := range events {
		if chain := event.GetEvent().ChainId; chain != last {
			last = chain
			found = append(found, nil)
		}
		found[len(found)-1] = append(found[len(found)-1], describe(event))
	}
	return found
}

func eventsOf(vm types.ManagedObjectReference) types.EventFilterSpec {
	return types.EventFilterSpec{Entity: &types.EventFilterSpecByEntity{Entity: vm, Recursion: types.EventFilterSpecRecursionOptionSelf}}
}

// collector creates a collector and returns the fault of the call.
func (b *bed) collector(spec types.EventFilterSpec) (*event.HistoryCollector, string) {
	b.Helper()
	collector, err := event.NewManager(b.client.Client).CreateCollectorForEvents(b.ctx, spec)
	return collector, faultName(err)
}

func faultName(err error) string {
	if err == nil {
		return ""
	}
	if !soap.IsSoapFault(err) {
		return err.Error()
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", soap.ToSoapFault(err).VimFault()), "types.")
}

// events returns what a filter selects, page by page, oldest first.
func (b *bed) events(spec types.EventFilterSpec) []types.BaseEvent {
	b.Helper()
	collector, fault := b.collector(spec)
	if fault != "" {
		b.Fatal(fault)
	}
	defer func() { _ = collector.Destroy(b.ctx) }()
	var all []types.BaseEvent
	for {
		page, err := collector.ReadNextEvents(b.ctx, 100)
		if err != nil {
			b.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
	}
}

// forget removes all events so far.
func (b *bed) forget() {
	b.Helper()
	if status := b.control(http.MethodDelete, "events", nil, nil); status != http.StatusOK {
		b.Fatal(status)
	}
}

func (b *bed) powerOnBy(vm types.ManagedObjectReference, request map[string]any) {
	b.Helper()
	if status := b.control(http.MethodPost, "guests/"+vm.Value+"/power-on", request, nil); status != http.StatusOK {
		b.Fatalf("%v: %d", request, status)
	}
}

// Every power-on and every disturbance of a VM leaves the same events as in a
// vCenter.
func TestPowerEvents(t *testing.T) {
	b := start(t)
	standalone, clustered := b.vm("DC0_H0_VM0"), b.vm("DC0_C0_RP0_VM0")
	off := func(vm types.ManagedObjectReference) { b.expect("off", b.power(vm, false), "") }
	by := func(vm types.ManagedObjectReference, request map[string]any) func() {
		return func() { b.powerOnBy(vm, request) }
	}
	task := func(vm types.ManagedObjectReference, method string) func() {
		return func() { b.expect(method, b.raw.task(method, vm, ""), "") }
	}
	const taskOn = "TaskEvent VirtualMachine.powerOn by user (user)"
	for _, test := range []struct {
		name string
		vm   types.ManagedObjectReference
		from func(types.ManagedObjectReference)
		do   func()
		want [][]string
	}{
		{"on", standalone, off, task(standalone, "PowerOnVM_Task"),
			[][]string{{taskOn, "VmStartingEvent by user", "VmPoweredOnEvent by user"}}},
		{"on, in a cluster with DRS", clustered, off, task(clustered, "PowerOnVM_Task"),
			[][]string{{taskOn, "VmStartingEvent by user", "DrsVmPoweredOnEvent by user"}}},
		{"on by control", standalone, off, by(standalone, map[string]any{"origin": "vcenter", "user": "EXAMPLE\\jo"}),
			[][]string{{"TaskEvent VirtualMachine.powerOn by EXAMPLE\\jo (EXAMPLE\\jo)", "VmStartingEvent by EXAMPLE\\jo", "VmPoweredOnEvent by EXAMPLE\\jo"}}},
		{"on at the host", clustered, off, by(clustered, map[string]any{"origin": "esxi"}),
			[][]string{{"VmStartingEvent by root", "VmPoweredOnEvent by root"}}},
		{"HA", clustered, nil, by(clustered, map[string]any{"origin": "ha", "host": "DC0_C0_H1"}),
			[][]string{{"VmStartingEvent by ", "VmPoweredOnEvent by "}, {"com.vmware.vc.ha.VmRestartedByHAEvent by "}}},
		{"autostart", standalone, nil, by(standalone, map[string]any{"origin": "autostart"}),
			[][]string{{"VmStartingEvent by ", "VmPoweredOnEvent by "}}},
		{"off", standalone, nil, task(standalone, "PowerOffVM_Task"),
			[][]string{{"TaskEvent VirtualMachine.powerOff by user (user)", "VmStoppingEvent by user", "VmPoweredOffEvent by user"}}},
		{"all at once", standalone, nil, func() { b.powerOnMulti(standalone, "") },
			[][]string{{taskOn, "VmStartingEvent by user", "VmPoweredOnEvent by user"}}},
		{"suspend", standalone, nil, task(standalone, "SuspendVM_Task"),
			[][]string{{"TaskEvent VirtualMachine.suspend by user (user)", "VmSuspendingEvent by user", "VmSuspendedEvent by user"}}},
		{"resume", standalone, nil, task(standalone, "PowerOnVM_Task"),
			[][]string{{taskOn, "VmResumingEvent by user", "VmPoweredOnEvent by user"}}},
		{"reset", standalone, nil, task(standalone, "ResetVM_Task"),
			[][]string{{"TaskEvent VirtualMachine.reset by user (user)", "VmResettingEvent by user"}}},
		{"reconfigure", standalone, nil, func() {
			b.expect("reconfigure", b.raw.task("ReconfigVM_Task", standalone, "<spec><annotation>x</annotation></spec>"), "")
		}, [][]string{{"TaskEvent VirtualMachine.reconfigure by user (user)", "VmReconfiguredEvent by user"}}},
		{"reconfigure that fails", standalone, nil, func() {
			b.expect("reconfigure", b.raw.task("ReconfigVM_Task", standalone, "<spec><guestId>nonsense</guestId></spec>"), "InvalidArgument")
		}, [][]string{{"TaskEvent VirtualMachine.reconfigure by user (user)"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.from != nil {
				test.from(test.vm)
			}
			b.forget()
			test.do()
			got := b.events(eventsOf(test.vm))
			if fmt.Sprint(chains(got)) != fmt.Sprint(test.want) {
				t.Errorf("got  %v\nwant %v", chains(got), test.want)
			}
			for _, event := range got {
				at := event.GetEvent()
				if at.Vm == nil || at.Vm.Name == "" || at.Host == nil || at.Datacenter == nil || at.CreatedTime.IsZero() || at.FullFormattedMessage == "" {
					t.Errorf("%s: %+v", eventName(event), at)
				}
				if task, ok := event.(*types.TaskEvent); ok && (task.Info.State != types.TaskInfoStateQueued || task.Info.EventChainId != task.ChainId || task.Info.Entity.Value != test.vm.Value) {
					t.Errorf("%+v", task.Info)
				}
			}
		})
	}
	if read := b.read(clustered, "runtime.host"); b.sim.hostObject(*read.Runtime.Host).Name != "DC0_C0_H1" {
		t.Errorf("HA restarted the VM on %v", read.Runtime.Host)
	}
}

// lastEvent returns the event of a power-on in one of the supported ways.
func (b *bed) lastEvent(vm types.ManagedObjectReference, request map[string]any, want string) {
	b.Helper()
	b.expect("off", b.power(vm, false), "")
	b.powerOnBy(vm, request)
	events := b.events(eventsOf(vm))
	if got := describe(events[len(events)-1]); got != want {
		b.Errorf("%s, want %s", got, want)
	}
}

// PowerOnMultiVM is a task of the datacenter, and one of each VM.
func TestPowerOnMultiEvents(t *testing.T) {
	b := start(t)
	vms := []types.ManagedObjectReference{b.vm("DC0_H0_VM0"), b.vm("DC0_C0_RP0_VM0")}
	for _, vm := range vms {
		b.expect("off", b.power(vm, false), "")
	}
	b.forget()
	datacenter := b.sim.registry().Any("Datacenter").Reference()
	res, err := methods.PowerOnMultiVM_Task(b.ctx, b.client.Client, &types.PowerOnMultiVM_Task{This: datacenter, Vm: vms})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range b.ended(res.Returnval).result.(types.ClusterPowerOnVmResult).Attempted {
		b.expect("on", b.ended(*one.Task), "")
	}
	count := map[string]int{}
	for _, event := range b.events(types.EventFilterSpec{Entity: &types.EventFilterSpecByEntity{Entity: datacenter, Recursion: types.EventFilterSpecRecursionOptionAll}}) {
		count[describe(event)]++
	}
	want := map[string]int{
		"TaskEvent Datacenter.powerOnVm by user (user)": 1, "TaskEvent VirtualMachine.powerOn by user (user)": 2,
		"VmStartingEvent by user": 2, "VmPoweredOnEvent by user": 1, "DrsVmPoweredOnEvent by user": 1,
	}
	if !maps.Equal(count, want) {
		t.Errorf("%v", count)
	}
}

// A filter selects exactly the requested events of a VM.
func TestEventFilter(t *testing.T) {
	b := start(t)
	vm, other := b.vm("DC0_H0_VM0"), b.vm("DC0_C0_RP0_VM0")
	b.forget()
	b.expect("off", b.power(vm, false), "")
	b.expect("on", b.power(vm, true), "")
	b.powerOnBy(other, map[string]any{"origin": "ha"})
	b.expect("reset", b.raw.task("ResetVM_Task", other, ""), "")
	read := b.read(other, "runtime.host", "resourcePool", "parent")
	by := func(ref types.ManagedObjectReference, recursion types.EventFilterSpecRecursionOption) *types.EventFilterSpecByEntity {
		return &types.EventFilterSpecByEntity{Entity: ref, Recursion: recursion}
	}
	const self, children, all = types.EventFilterSpecRecursionOptionSelf, types.EventFilterSpecRecursionOptionChildren, types.EventFilterSpecRecursionOptionAll
	root := b.client.ServiceContent.RootFolder
	powerOn := []string{"VmPoweredOnEvent"}
	everything := b.events(types.EventFilterSpec{})
	if len(everything) != 11 {
		t.Fatalf("%v", chains(everything))
	}
	middle := everything[3].GetEvent().CreatedTime
	for name, test := range map[string]struct {
		spec types.EventFilterSpec
		want int
	}{
		"one VM":                    {types.EventFilterSpec{Entity: by(vm, self)}, 6},
		"another VM":                {types.EventFilterSpec{Entity: by(other, self)}, 5},
		"below a VM":                {types.EventFilterSpec{Entity: by(vm, children)}, 0},
		"the root":                  {types.EventFilterSpec{Entity: by(root, all)}, 11},
		"below the root":            {types.EventFilterSpec{Entity: by(root, children)}, 11},
		"a folder":                  {types.EventFilterSpec{Entity: by(*read.Parent, all)}, 11},
		"a folder, not its VMs":     {types.EventFilterSpec{Entity: by(*read.Parent, self)}, 0},
		"a host":                    {types.EventFilterSpec{Entity: by(*read.Runtime.Host, children)}, 5},
		"a pool":                    {types.EventFilterSpec{Entity: by(*read.ResourcePool, all)}, 5},
		"a class":                   {types.EventFilterSpec{EventTypeId: powerOn}, 2},
		"a class, fully named":      {types.EventFilterSpec{EventTypeId: []string{"vim.event.VmPoweredOnEvent"}}, 2},
		"an id":                     {types.EventFilterSpec{EventTypeId: []string{restartedByHA}}, 1},
		"a class and an id":         {types.EventFilterSpec{EventTypeId: []string{restartedByHA, "VmPoweredOnEvent"}}, 3},
		"a class with its children": {types.EventFilterSpec{EventTypeId: []string{"VmEvent"}}, 0},
		"type":                      {types.EventFilterSpec{Type: []string{"VmEvent"}}, 7},
		"one class of one VM":       {types.EventFilterSpec{Entity: by(vm, self), EventTypeId: powerOn}, 1},
		"from":                      {types.EventFilterSpec{Time: &types.EventFilterSpecByTime{BeginTime: &middle}}, 8},
		"until":                     {types.EventFilterSpec{Time: &types.EventFilterSpecByTime{EndTime: &middle}}, 4},
		"a user":                    {types.EventFilterSpec{UserName: &types.EventFilterSpecByUsername{UserList: []string{"user"}}}, 8},
		"nobody":                    {types.EventFilterSpec{UserName: &types.EventFilterSpecByUsername{SystemUser: true, UserList: []string{"-"}}}, 3},
		"a chain":                   {types.EventFilterSpec{EventChainId: everything[0].GetEvent().ChainId}, 3},
	} {
		if got := b.events(test.spec); len(got) != test.want {
			t.Errorf("%s: %v", name, chains(got))
		}
	}
	for name, test := range map[string]struct {
		spec  types.EventFilterSpec
		fault string
	}{
		"type and eventTypeId": {types.EventFilterSpec{Type: powerOn, EventTypeId: powerOn}, "InvalidArgument"},
		"too many":             {types.EventFilterSpec{MaxCount: 1001}, "InvalidArgument"},
		"unknown":              {types.EventFilterSpec{Entity: by(types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-0"}, self)}, "ManagedObjectNotFound"},
	} {
		if _, fault := b.collector(test.spec); fault != test.fault {
			t.Errorf("%s: %q", name, fault)
		}
	}
	for _, event := range b.events(types.EventFilterSpec{EventTypeId: powerOn, DisableFullMessage: types.NewBool(true)}) {
		if event.GetEvent().FullFormattedMessage != "" {
			t.Errorf("%+v", event)
		}
	}
}

// DrsVmPoweredOnEvent is derived from VmPoweredOnEvent, and a filter on that
// does not select it.
func TestDRSPitfall(t *testing.T) {
	b := start(t)
	b.forget()
	vm := b.vm("DC0_C0_RP0_VM0")
	b.expect("off", b.power(vm, false), "")
	b.expect("on", b.power(vm, true), "")
	spec := eventsOf(vm)
	for id, want := range map[string]int{"VmPoweredOnEvent": 0, "DrsVmPoweredOnEvent": 1} {
		spec.EventTypeId = []string{id}
		if got := b.events(spec); len(got) != want {
			t.Errorf("%s: %v", id, chains(got))
		}
	}
}

// A collector is read in both directions, and also returns new events.
func TestEventCollector(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.forget()
	for range 4 {
		b.expect("off", b.power(vm, false), "")
		b.expect("on", b.power(vm, true), "")
	}
	spec := eventsOf(vm)
	spec.EventTypeId = []string{"VmPoweredOnEvent", "VmPoweredOffEvent"}
	collector, _ := b.collector(spec)
	read := func(next bool, count int32) (keys []int32) {
		turn := collector.ReadPreviousEvents
		if next {
			turn = collector.ReadNextEvents
		}
		page, err := turn(b.ctx, count)
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range page {
			keys = append(keys, event.GetEvent().Key)
		}
		return keys
	}
	first, rest, end := read(true, 3), read(true, 1000), read(true, 10)
	if len(first) != 3 || len(rest) != 5 || len(end) != 0 || !slices.IsSorted(slices.Concat(first, rest)) {
		t.Errorf("%v %v %v", first, rest, end)
	}
	if err := collector.SetPageSize(b.ctx, 2); err != nil {
		t.Fatal(err)
	}
	if latest, err := collector.LatestPage(b.ctx); err != nil || len(latest) != 2 || latest[0].GetEvent().Key != rest[4] {
		t.Errorf("%v %v", latest, err)
	}
	b.expect("off", b.power(vm, false), "")
	if more := read(true, 10); len(more) != 1 {
		t.Errorf("new: %v", more)
	}
	if err := collector.Reset(b.ctx); err != nil {
		t.Fatal(err)
	}
	if back := read(false, 1000); len(back) != 9 || back[8] != first[0] {
		t.Errorf("backward: %v", back)
	}
	if err := collector.Rewind(b.ctx); err != nil {
		t.Fatal(err)
	}
	if again := read(true, 3); !slices.Equal(again, first) {
		t.Errorf("%v, was %v", again, first)
	}
	if _, err := collector.ReadNextEvents(b.ctx, 0); faultName(err) != "InvalidArgument" {
		t.Error(err)
	}
	if _, err := collector.ReadNextEvents(b.ctx, 1001); err != nil {
		t.Error(err)
	}
	if err := collector.Destroy(b.ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := collector.ReadNextEvents(b.ctx, 1); faultName(err) != "ManagedObjectNotFound" {
		t.Error(err)
	}
}

// A session has at most maxEventCollectors collectors; another has its own.
func TestEventCollectorLimit(t *testing.T) {
	b := start(t)
	var last *event.HistoryCollector
	for range maxEventCollectors {
		last, _ = b.collector(types.EventFilterSpec{})
	}
	if _, fault := b.collector(types.EventFilterSpec{}); fault != "InvalidState" {
		t.Errorf("one more: %q", fault)
	}
	if _, err := event.NewManager(b.login("user", "pass").Client).CreateCollectorForEvents(b.ctx, types.EventFilterSpec{}); err != nil {
		t.Errorf("another session: %v", err)
	}
	if err := last.Destroy(b.ctx); err != nil {
		t.Fatal(err)
	}
	if _, fault := b.collector(types.EventFilterSpec{}); fault != "" {
		t.Errorf("after one was destroyed: %s", fault)
	}
	if err := b.client.Logout(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.eventually("the end of the collectors with their session", func() bool {
		b.sim.events.mu.Lock()
		defer b.sim.events.mu.Unlock()
		return len(b.sim.events.collectors) == 1
	})
}

// A client that waits is notified of new events.
func TestWaitForEvents(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.forget()
	seen := make(chan string, 100)
	go func() {
		_ = event.NewManager(b.client.Client).Events(b.ctx, []types.ManagedObjectReference{vm}, 10, true, false,
			func(_ types.ManagedObjectReference, events []types.BaseEvent) error {
				for _, event := range events {
					seen <- eventName(event)
				}
				return nil
			}, "VmPoweredOffEvent")
	}()
	b.eventually("the collector", func() bool {
		b.sim.events.mu.Lock()
		defer b.sim.events.mu.Unlock()
		return len(b.sim.events.collectors) == 1
	})
	b.expect("off", b.power(vm, false), "")
	select {
	case name := <-seen:
		if name != "VmPoweredOffEvent" {
			t.Error(name)
		}
	case <-time.After(patience):
		t.Error("no event")
	}
}

// Removed events can no longer be read.
func TestEventsAge(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	before := len(b.events(eventsOf(vm)))
	if before == 0 {
		t.Error("the first power-on left no events")
	}
	for query, want := range map[string]int{"?older_than=1h": http.StatusOK, "?older_than=soon": http.StatusBadRequest} {
		if status := b.control(http.MethodDelete, "events"+query, nil, nil); status != want {
			t.Errorf("%s: %d", query, status)
		}
	}
	if after := len(b.events(eventsOf(vm))); after != before {
		t.Errorf("%d events of %d are left", after, before)
	}
	b.forget()
	if after := b.events(eventsOf(vm)); len(after) != 0 {
		t.Errorf("%v", chains(after))
	}
}

// Each of many VMs keeps its power events, and they are found quickly.
func TestManyEvents(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.forget()
	b.expect("reset", b.raw.task("ResetVM_Task", vm, ""), "")
	own := b.sim.events.since(0)[0].(*types.TaskEvent).Event
	for number := range 2000 {
		other := own
		other.Vm = &types.VmEventArgument{Vm: types.ManagedObjectReference{Type: "VirtualMachine", Value: fmt.Sprintf("vm-other-%d", number)}}
		for range 5 {
			event := types.VmEvent{Event: other}
			b.sim.events.add(&operation{}, &types.VmStartingEvent{VmEvent: event})
			b.sim.events.add(&operation{}, &types.VmPoweredOnEvent{VmEvent: event})
		}
	}
	for what, test := range map[string]struct {
		spec types.EventFilterSpec
		want int
	}{
		"one VM":   {eventsOf(vm), 2},
		"a folder": {types.EventFilterSpec{Entity: &types.EventFilterSpecByEntity{Entity: b.sim.vmFolder().Self, Recursion: types.EventFilterSpecRecursionOptionChildren}}, 2},
		"a class":  {types.EventFilterSpec{EventTypeId: []string{"VmPoweredOnEvent"}}, 10000},
	} {
		begun := time.Now()
		collector, _ := b.collector(test.spec)
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("%s: %v", what, took)
		}
		_ = collector.Destroy(b.ctx)
		if got := b.events(test.spec); len(got) != test.want {
			t.Errorf("%s: %d events", what, len(got))
		}
	}
}

// A clone that is powered on as part of cloning has no power-on task of its
// own.
func TestCloneEvents(t *testing.T) {
	b := start(t)
	b.forget()
	task, err := object.NewVirtualMachine(b.client.Client, b.vm("DC0_H0_VM0")).Clone(b.ctx,
		object.NewFolder(b.client.Client, b.sim.vmFolder().Self), "clone", types.VirtualMachineCloneSpec{PowerOn: true})
	if err != nil {
		t.Fatal(err)
	}
	b.expect("clone", b.ended(task.Reference()), "")
	got := fmt.Sprint(chains(b.events(eventsOf(b.vm("clone")))))
	if !strings.Contains(got, "VmPoweredOnEvent by user") || strings.Contains(got, "VirtualMachine.powerOn") {
		t.Error(got)
	}
}

// The event of a reconfiguration contains the changed vApp options.
func TestReconfiguredEvent(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.forget()
	b.setVApp(vm, options(prop(1, "hostname", "string", "web"), prop(2, "secret", "password", "event-secret")))
	b.expect("annotate", b.raw.task("ReconfigVM_Task", vm, "<spec><annotation>x</annotation></spec>"), "")
	spec := eventsOf(vm)
	spec.EventTypeId = []string{"VmReconfiguredEvent"}
	got := b.events(spec)
	if len(got) != 2 {
		t.Fatal(chains(got))
	}
	first, second := got[0].(*types.VmReconfiguredEvent).ConfigSpec, got[1].(*types.VmReconfiguredEvent).ConfigSpec
	if first.VAppConfig == nil || len(first.VAppConfig.GetVmConfigSpec().Property) != 2 || second.VAppConfig != nil {
		t.Errorf("%+v %+v", first.VAppConfig, second.VAppConfig)
	}
	for _, property := range first.VAppConfig.GetVmConfigSpec().Property {
		if property.Info.Value == "event-secret" {
			t.Error("the event contains a password")
		}
	}
}
