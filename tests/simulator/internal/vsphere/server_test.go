// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/guest"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func TestStartRefused(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"-api-version":                 func(o *Options) { o.APIVersion = "99.9" },
		"-hidden-methods":              func(o *Options) { o.HiddenMethods = "perhaps" },
		"-guest is ns, plain or none":  func(o *Options) { o.Guest = "docker" },
		"address":                      func(o *Options) { o.Listen = "192.0.2.1:1" },
		"there is no host \"nowhere\"": func(o *Options) { o.ESXListen, o.ESXHost = "127.0.0.1:0", "nowhere" },
	} {
		options := defaults()
		change(&options)
		sim, err := Start(options)
		if err == nil {
			sim.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if os.Geteuid() == 0 {
		options := defaults()
		options.Guest = "plain"
		if _, err := Start(options); err == nil || !strings.Contains(err.Error(), "refused for root") {
			t.Errorf("-guest plain as root: %v", err)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	directory := t.TempDir()
	t.Setenv("TMPDIR", directory)
	options := defaults()
	options.Guest = "ns"
	sim, err := Start(options)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(directory); len(left) == 0 {
		t.Error("the simulator does not use TMPDIR")
	}
	sim.Close()
	if left, _ := os.ReadDir(directory); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A simulator that ends does not wait for a guest that is stuck.
func TestCloseWithStuckGuest(t *testing.T) {
	var log strings.Builder
	b := start(t, withGuests, func(o *Options) { o.Log = &log })
	vm := b.vm("DC0_H0_VM0")
	b.enable(vm)
	b.untilReady(vm)
	b.control(http.MethodPost, "guests/"+vm.Value+"/run", map[string]any{"wait": false, "program": "/bin/sh", "arguments": "-c " + shellQuote(
		"vmtoolsd --cmd 'info-set guestinfo.again yes'; until [ -e /run/go ]; do sleep 0.1; done; vmtoolsd --cmd 'vmfork-begin -1 -1'")}, nil)
	b.runIn(vm, "touch /run/go")
	b.until(vm, "the fork point", func(vm mo.VirtualMachine) bool {
		return vm.Runtime.QuiescedForkParent != nil && *vm.Runtime.QuiescedForkParent
	}, "runtime")
	child := b.child(vm, "c", "")
	b.expect("power on", b.power(child, true), "")
	again := b.sim.instances.of(child)
	b.eventually("the second run of the program, which waits for ever", func() bool {
		again.mu.Lock()
		defer again.mu.Unlock()
		return again.run.replayValues["again"] == "yes"
	})
	begun := time.Now()
	b.sim.Close()
	if took := time.Since(begun); took > patience {
		t.Errorf("it took %v", took)
	}
	if log.Len() > 0 {
		t.Errorf("log: %s", log.String())
	}
}

func TestDelay(t *testing.T) {
	b := start(t, func(o *Options) { o.Delay, o.TaskDelay = 50*time.Millisecond, 200*time.Millisecond })
	begun := time.Now()
	_, _, _ = b.raw.call("CurrentTime", "ServiceInstance", "ServiceInstance", "")
	if took := time.Since(begun); took < 50*time.Millisecond {
		t.Errorf("a call took %v", took)
	}
	begun = time.Now()
	b.expect("off", b.power(b.vm("DC0_H0_VM0"), false), "")
	if took := time.Since(begun); took < 250*time.Millisecond {
		t.Errorf("a task took %v", took)
	}
}

func TestLogin(t *testing.T) {
	b := start(t)
	for _, login := range [][2]string{{"user", "wrong"}, {"other", "pass"}, {"user", ""}} {
		client := &rawClient{b: b, address: b.sim.URL(), action: "urn:vim25/6.0", http: b.raw.http}
		_, fault, err := client.call("Login", "SessionManager", "SessionManager", "<userName>"+login[0]+"</userName><password>"+login[1]+"</password>")
		if err != nil || fault.kind() != "InvalidLogin" {
			t.Errorf("%v: %v %+v", login, err, fault)
		}
	}
}

func TestSOAPAction(t *testing.T) {
	b := start(t)
	for action, accepted := range map[string]bool{
		"urn:vim25/6.0": true, `"urn:vim25/6.5"`: true, "urn:vim25/2.5u2": true, "urn:vim25/9.1.0.0": true,
		"": false, "urn:vim25": false, "urn:vim25/99.9": false, "urn:internalvim25/5.5": false, "urn:vim25/dev": false, "nonsense": false,
	} {
		b.raw.action = action
		_, fault, err := b.raw.call("CurrentTime", "ServiceInstance", "ServiceInstance", "")
		if err != nil || (fault == nil) != accepted {
			t.Errorf("%q: %v %+v", action, err, fault)
		}
		if fault != nil && (fault.Code != "VersionMismatchFaultCode" || !strings.Contains(fault.String, "Unsupported version URI")) {
			t.Errorf("%q: %+v", action, fault)
		}
	}
}

func TestServiceVersions(t *testing.T) {
	b := start(t)
	if err := b.client.UseServiceVersion(); err != nil || b.client.Version != "6.5" || b.client.Namespace != "urn:vim25" {
		t.Errorf("%v %s %s", err, b.client.Namespace, b.client.Version)
	}
	if got := priorVersions("6.5")[0]; got != "6.0" {
		t.Errorf("before 6.5 came %s", got)
	}
	if !parseVersion("10.0").atLeast(9, 1) || parseVersion("6.5").atLeast(6, 7) || !parseVersion("6.7.3").atLeast(6, 7) {
		t.Error("versions are compared as text")
	}
}

func TestCalls(t *testing.T) {
	b := start(t)
	b.control(http.MethodDelete, "calls", nil, nil)
	b.enable(b.vm("DC0_H0_VM0"))
	var count callCount
	b.control(http.MethodGet, "calls", nil, &count)
	if count.Methods["EnableForkParent_Task"] != 1 || count.Methods["FindByInventoryPath"] != 1 || count.Total < 2 {
		t.Errorf("%+v", count)
	}
	b.control(http.MethodDelete, "calls", nil, &count)
	b.control(http.MethodGet, "calls", nil, &count)
	if count.Total != 0 {
		t.Errorf("after the reset: %+v", count)
	}
}

func TestPrivileges(t *testing.T) {
	b := start(t, withGuests)
	parent := b.parent()
	other := b.vm("DC0_C0_RP0_VM0")
	b.untilReady(other)
	reconfigure := `<spec><extraConfig xsi:type="OptionValue"><key>a</key><value xsi:type="xsd:string">b</value></extraConfig></spec>`
	create := "<name>c</name><spec><persistent>false</persistent></spec>"
	for _, test := range []struct {
		privilege, method, arguments string
		vm                           types.ManagedObjectReference
	}{
		{toggleForkParent, "EnableForkParent_Task", "", other},
		{toggleForkParent, "DisableForkParent_Task", "", other},
		{toggleForkParent, "CreateForkChild_Task", create, parent},
		{createExisting, "CreateForkChild_Task", create, parent},
		{assignToPool, "CreateForkChild_Task", create, parent},
		{allocateSpace, "CreateForkChild_Task", create, parent},
		{powerOn, "PowerOnVM_Task", "", other},
		{powerOff, "PowerOffVM_Task", "", other},
		{deleteVM, "Destroy_Task", "", other},
		{advancedConfig, "ReconfigVM_Task", reconfigure, other},
	} {
		b.control(http.MethodPost, "users", map[string]any{"name": "low", "password": "low", "deny": []string{test.privilege}}, nil)
		low := b.rawLogin("low", "low")
		_, fault, err := low.call(test.method, "VirtualMachine", test.vm.Value, test.arguments)
		if err != nil || fault.kind() != "NoPermission" || fault.Detail.Fault.Privilege != test.privilege || fault.Detail.Fault.Object == "" ||
			strings.Contains(fault.Detail.Fault.Object, overrideSuffix) {
			t.Errorf("%s without %s: %v %+v", test.method, test.privilege, err, fault)
		}
	}
	for privilege, method := range map[string]string{guestQuery: "ListProcessesInGuest", guestModify: "CreateTemporaryFileInGuest", guestExecute: "StartProgramInGuest"} {
		b.control(http.MethodPost, "users", map[string]any{"name": "low", "password": "low", "deny": []string{privilege}}, nil)
		_, fault, err := b.rawLogin("low", "low").guestCall(method, other, "root", "guest-pw", "")
		if err != nil || fault.kind() != "NoPermission" || fault.Detail.Fault.Privilege != privilege {
			t.Errorf("%s without %s: %v %+v", method, privilege, err, fault)
		}
	}
	b.control(http.MethodPost, "users", map[string]any{"name": "low", "password": "low", "deny": []string{toggleForkParent}, "deny_on": []string{parent.Value}}, nil)
	b.expect("elsewhere", b.rawLogin("low", "low").task("EnableForkParent_Task", other, ""), "")
}

func TestFaults(t *testing.T) {
	b := start(t)
	vm, other := b.vm("DC0_H0_VM0"), b.vm("DC0_C0_RP0_VM0")
	fault := func(rule map[string]any) {
		t.Helper()
		b.control(http.MethodDelete, "faults", nil, nil)
		if status := b.control(http.MethodPost, "faults", rule, nil); status != http.StatusOK {
			t.Fatalf("%v: %d", rule, status)
		}
	}
	off := func(vm types.ManagedObjectReference) outcome { return b.raw.task("PowerOffVM_Task", vm, "") }
	on := func(vm types.ManagedObjectReference) outcome { return b.raw.task("PowerOnVM_Task", vm, "") }

	fault(map[string]any{"method": "PowerOffVM_Task", "at": "call", "fault": "InvalidState", "message": "by request", "vm": vm.Value})
	b.expect("another VM", off(other), "")
	if got := b.expect("call", off(vm), "InvalidState"); got.message != "by request" || got.info != nil {
		t.Errorf("%+v", got)
	}
	b.expect("once", off(vm), "")
	fault(map[string]any{"method": "PowerOnVM_Task", "at": "task", "fault": "FileFault", "message": "by request", "vm_name": "DC0_H0_VM0", "count": 0})
	for range 2 {
		if got := b.expect("task", on(vm), "FileFault"); got.message != "by request" || got.info == nil {
			t.Errorf("%+v", got)
		}
	}
	b.expect("another VM", on(other), "")
	fault(map[string]any{"method": "PowerOnVM_Task", "at": "call", "fault": "InvalidState", "after": 1})
	b.expect("first", on(vm), "")
	b.expect("second", off(vm), "")
	b.expect("second", on(vm), "InvalidState")

	fault(map[string]any{"method": "PowerOnVM_Task", "at": "call", "drop": "before"})
	if _, _, err := b.raw.call("PowerOnVM_Task", "VirtualMachine", vm.Value, ""); err == nil {
		t.Error("the call was answered")
	}
	if state := b.read(vm, "runtime").Runtime.PowerState; state != types.VirtualMachinePowerStatePoweredOff {
		t.Errorf("a dropped call left the VM %s", state)
	}
	fault(map[string]any{"method": "PowerOnVM_Task", "at": "call", "drop": "after"})
	if _, _, err := b.raw.call("PowerOnVM_Task", "VirtualMachine", vm.Value, ""); err == nil {
		t.Error("the call was answered")
	}
	b.until(vm, "the power-on whose answer was lost", func(vm mo.VirtualMachine) bool {
		return vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
	}, "runtime")

	for _, wrong := range []map[string]any{
		{"fault": "InvalidState"}, {"method": "X"}, {"method": "X", "fault": "NoSuchFault"}, {"method": "X", "at": "never", "fault": "InvalidState"},
		{"method": "X", "drop": "sometimes"}, {"method": "X", "unknown": 1}, {"method": "X", "at": "task", "drop": "before"},
		{"method": "X", "gather": -1}, {"method": "X", "at": "task", "gather": 2},
		{"method": "PowerOnVM_Task", "at": "result", "fault": "InvalidState"}, {"method": "CheckPowerOn_Task", "at": "result", "delay_ms": 1},
	} {
		if status := b.control(http.MethodPost, "faults", wrong, nil); status != http.StatusBadRequest {
			t.Errorf("%v: %d", wrong, status)
		}
	}
}

// An injected fault has the fields that a server never omits.
func TestFaultsAreComplete(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	for kind, complete := range map[string]func(fault types.BaseMethodFault) bool{
		"InvalidPowerState":     func(f types.BaseMethodFault) bool { return f.(*types.InvalidPowerState).ExistingState != "" },
		"TaskInProgress":        func(f types.BaseMethodFault) bool { return f.(*types.TaskInProgress).Task.Type == "Task" },
		"ManagedObjectNotFound": func(f types.BaseMethodFault) bool { return f.(*types.ManagedObjectNotFound).Obj == vm },
	} {
		b.control(http.MethodPost, "faults", map[string]any{"method": "PowerOffVM_Task", "at": "task", "fault": kind, "count": 1}, nil)
		got := b.expect(kind, b.raw.task("PowerOffVM_Task", vm, ""), kind)
		if fault := got.info.Error.Fault; !complete(fault) {
			t.Errorf("%+v", fault)
		}
	}
}

// A VM may be destroyed while its task waits.
func TestDelayedTaskOfAVMThatIsGone(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.expect("off", b.power(vm, false), "")
	b.control(http.MethodPost, "faults", map[string]any{"method": "PowerOnVM_Task", "at": "task", "delay_ms": 5000, "count": 1}, nil)
	task, fault, err := b.raw.call("PowerOnVM_Task", "VirtualMachine", vm.Value, "")
	if err != nil || fault != nil {
		t.Fatal(err, fault)
	}
	b.expect("destroy", b.raw.task("Destroy_Task", vm, ""), "")
	b.expect("power on", b.ended(types.ManagedObjectReference{Type: "Task", Value: task}), "ManagedObjectNotFound")
	b.expect("another", b.power(b.vm("DC0_C0_RP0_VM0"), false), "")
}

// A waiting task must not prevent clients from reading its VM.
func TestDelayedTask(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.control(http.MethodPost, "faults", map[string]any{"method": "PowerOffVM_Task", "at": "task", "delay_ms": 5000}, nil)
	begun := time.Now()
	task, fault, err := b.raw.call("PowerOffVM_Task", "VirtualMachine", vm.Value, "")
	if err != nil || fault != nil {
		t.Fatal(err, fault)
	}
	if state := b.read(vm, "runtime").Runtime.PowerState; state != types.VirtualMachinePowerStatePoweredOn || time.Since(begun) > 4*time.Second {
		t.Errorf("%s after %v", state, time.Since(begun))
	}
	b.expect("power off", b.ended(types.ManagedObjectReference{Type: "Task", Value: task}), "")
	if took := time.Since(begun); took < 5*time.Second {
		t.Errorf("the task took %v", took)
	}
}

func TestSessionKill(t *testing.T) {
	b := start(t)
	b.control(http.MethodPost, "users", map[string]any{"name": "two", "password": "two"}, nil)
	second := b.login("two", "two")
	ended := make(chan error, 1)
	vm := b.vm("DC0_H0_VM0")
	go func() {
		collector, err := property.DefaultCollector(second.Client).Create(b.ctx)
		if err == nil {
			err = property.Wait(b.ctx, collector, vm, []string{"name"}, func([]types.PropertyChange) bool { return false })
		}
		ended <- err
	}()
	var list []sessionInfo
	b.eventually("the wait of the second session", func() bool {
		var count callCount
		b.control(http.MethodGet, "calls", nil, &count)
		return count.Methods["WaitForUpdatesEx"] >= 2
	})
	b.control(http.MethodGet, "sessions", nil, &list)
	if len(list) != 3 {
		t.Errorf("%+v", list)
	}
	b.control(http.MethodDelete, "sessions?user=two", nil, &list)
	if len(list) != 1 || list[0].User != "two" {
		t.Errorf("killed: %+v", list)
	}
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "not authenticated") || strings.Contains(err.Error(), "RequestCanceled") {
			t.Errorf("the wait ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("the wait goes on")
	}
	b.read(vm, "name") // the first session lives
	b.control(http.MethodDelete, "sessions", nil, nil)
	if _, fault, err := b.raw.call("CurrentTime", "ServiceInstance", "ServiceInstance", ""); err != nil || fault.kind() != "NotAuthenticated" {
		t.Errorf("%v %+v", err, fault)
	}
	_, fault, err := b.raw.call("RetrievePropertiesEx", "PropertyCollector", "propertyCollector",
		`<specSet><propSet><type>VirtualMachine</type><pathSet>name</pathSet></propSet><objectSet><obj type="VirtualMachine">`+vm.Value+`</obj></objectSet></specSet><options/>`)
	if err != nil || fault.kind() != "NotAuthenticated" {
		t.Errorf("%v %+v", err, fault)
	}
}

// A session that the server dropped has ended, and its client can log in again.
func TestSessionDropped(t *testing.T) {
	b := start(t)
	sessions := func() []string {
		var list []sessionInfo
		b.control(http.MethodGet, "sessions", nil, &list)
		var keys []string
		for _, session := range list {
			keys = append(keys, session.Key)
		}
		slices.Sort(keys)
		return keys
	}
	before := sessions()
	b.control(http.MethodPost, "faults", map[string]any{"method": "CurrentTime", "fault": "NotAuthenticated", "count": 1}, nil)
	now := func() string {
		_, fault, err := b.raw.call("CurrentTime", "ServiceInstance", "ServiceInstance", "")
		if err != nil {
			t.Fatal(err)
		}
		return fault.kind()
	}
	for range 2 { // the second time no fault is injected
		if got := now(); got != "NotAuthenticated" {
			t.Errorf("in a session that was dropped: %q", got)
		}
	}
	dropped := sessions()
	if len(dropped) != len(before)-1 {
		t.Errorf("sessions %v, before %v", dropped, before)
	}
	b.read(b.vm("DC0_H0_VM0"), "name") // the other client's is not touched
	if _, fault, err := b.raw.call("Login", "SessionManager", "SessionManager", "<userName>user</userName><password>pass</password>"); err != nil || fault != nil {
		t.Fatalf("login with the old cookie: %v %+v", err, fault)
	}
	if got := now(); got != "" {
		t.Errorf("after the new login: %q", got)
	}
	if after := sessions(); len(after) != len(before) || slices.Equal(after, before) {
		t.Errorf("sessions %v, before %v", after, before)
	}
}

func soapDetail(err error) any {
	if soap.IsSoapFault(err) {
		return soap.ToSoapFault(err).VimFault()
	}
	return err
}

func TestMethodNotFound(t *testing.T) {
	b := start(t)
	_, fault, err := b.raw.call("TurnOffFaultToleranceForVM_Task", "VirtualMachine", b.vm("DC0_H0_VM0").Value, "")
	if err != nil || fault.kind() != "MethodNotFound" || strings.Contains(fault.Detail.Fault.Receiver, overrideSuffix) || fault.Detail.Fault.Receiver == "" {
		t.Errorf("%v %+v", err, fault)
	}
}

func TestNoMethods(t *testing.T) {
	b := start(t)
	for _, name := range []string{"NoSuchMethod", "VirtualMachineConfigSpec", "string"} {
		if _, fault, err := b.raw.call(name, "VirtualMachine", "vm-1", ""); err != nil || fault.kind() != "InvalidRequest" {
			t.Errorf("%s: %v %+v", name, err, fault)
		}
	}
}

func TestFetch(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	for _, unset := range []string{"snapshot", "parentVApp", "config.forkConfigInfo"} {
		if got, fault, err := b.raw.call("Fetch", "VirtualMachine", vm.Value, "<prop>"+unset+"</prop>"); err != nil || fault != nil || got != "" {
			t.Errorf("%s: %q %+v %v", unset, got, fault, err)
		}
	}
	if got, _, err := b.raw.call("Fetch", "VirtualMachine", vm.Value, "<prop>name</prop>"); err != nil || got != "DC0_H0_VM0" {
		t.Errorf("name: %q %v", got, err)
	}
	if _, fault, _ := b.raw.call("Fetch", "VirtualMachine", vm.Value, "<prop>nonsense</prop>"); fault.kind() != "InvalidProperty" {
		t.Errorf("nonsense: %+v", fault)
	}
	runtime := b.read(vm, "runtime", "summary")
	if runtime.Runtime.FaultToleranceState == "" || runtime.Summary.Runtime.RecordReplayState == "" {
		t.Error("enumerations are empty")
	}
}

// A change must be visible under any part of its path that a client requested.
func TestUpdates(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	seen := make(chan string, 1)
	ready := make(chan bool)
	go func() {
		first := true
		_ = property.Wait(b.ctx, property.DefaultCollector(b.login("user", "pass").Client), vm, []string{"config.forkConfigInfo.parentEnabled"}, func(changes []types.PropertyChange) bool {
			if first {
				first = false
				close(ready)
			}
			for _, change := range changes {
				if change.Val == true {
					seen <- change.Name
					return true
				}
			}
			return false
		})
	}()
	time.AfterFunc(patience, func() { seen <- "nothing at first" })
	select {
	case <-ready:
	case <-time.After(500 * time.Millisecond): // no change reports an unset property
	}
	b.enable(vm)
	if got := <-seen; got != "config.forkConfigInfo.parentEnabled" {
		t.Error(got)
	}
}

func TestGuestOperations(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	b.untilReady(vm)
	auth := &types.NamePasswordAuthentication{GuestAuthentication: types.GuestAuthentication{}, Username: "root", Password: "guest-pw"}
	manager := guest.NewOperationsManager(b.client.Client, vm)
	files, err := manager.FileManager(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	processes, err := manager.ProcessManager(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	directory, err := files.CreateTemporaryDirectory(b.ctx, auth, "pre", "suf", "")
	if err != nil || !strings.HasPrefix(directory, "/tmp/pre") || !strings.HasSuffix(directory, "suf") {
		t.Fatal(directory, err)
	}
	content := []byte("echo out; echo err >&2; exit 3\n")
	upload := func(name string, overwrite bool) error {
		address, err := files.InitiateFileTransferToGuest(b.ctx, auth, name, &types.GuestPosixFileAttributes{Permissions: 0o700}, int64(len(content)), overwrite)
		if err != nil {
			return err
		}
		u, err := files.TransferURL(b.ctx, address)
		if err != nil {
			return err
		}
		parameters := soap.DefaultUpload
		parameters.ContentLength = int64(len(content))
		if err := b.client.Client.Upload(b.ctx, bytes.NewReader(content), u, &parameters); err != nil {
			return err
		}
		return nil
	}
	script := directory + "/script"
	if err := upload(script, false); err != nil {
		t.Fatal(err)
	}
	if err := upload(script, false); err == nil || !strings.Contains(fmt.Sprintf("%T", soapDetail(err)), "FileAlreadyExists") {
		t.Errorf("upload over a file: %v", err)
	}
	if err := upload("/nowhere/x", true); err == nil || !strings.Contains(fmt.Sprintf("%T", soapDetail(err)), "FileNotFound") {
		t.Errorf("upload into nothing: %v", err)
	}
	pid, err := processes.StartProgram(b.ctx, auth, &types.GuestProgramSpec{ProgramPath: "/bin/sh", Arguments: script + " > " + directory + "/out 2>&1"})
	if err != nil {
		t.Fatal(err)
	}
	var ended []types.GuestProcessInfo
	b.eventually("the program's end", func() bool {
		ended, err = processes.ListProcesses(b.ctx, auth, []int64{pid})
		return err != nil || len(ended) == 1 && ended[0].EndTime != nil
	})
	if err != nil || ended[0].ExitCode != 3 || ended[0].Owner != "root" {
		t.Errorf("%v %+v", err, ended)
	}
	information, err := files.InitiateFileTransferFromGuest(b.ctx, auth, directory+"/out")
	if err != nil || information.Size != 8 {
		t.Fatal(err, information)
	}
	response, err := b.raw.http.Get(information.Url)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if string(got) != "out\nerr\n" {
		t.Errorf("downloaded %q", got)
	}
	list, err := files.ListFiles(b.ctx, auth, directory, 0, 0, "^script$")
	if err != nil || len(list.Files) != 1 || list.Files[0].Path != "script" || list.Files[0].Attributes.(*types.GuestPosixFileAttributes).Permissions != 0o700 {
		t.Errorf("%v %+v", err, list)
	}
	if err := files.DeleteFile(b.ctx, auth, directory); err == nil || !strings.Contains(fmt.Sprintf("%T", soapDetail(err)), "NotAFile") {
		t.Errorf("DeleteFile of a directory: %v", err)
	}
	if err := files.DeleteDirectory(b.ctx, auth, directory, false); err == nil || !strings.Contains(fmt.Sprintf("%T", soapDetail(err)), "DirectoryNotEmpty") {
		t.Errorf("DeleteDirectory of a full one: %v", err)
	}
	if err := files.MakeDirectory(b.ctx, auth, directory+"/a/b", true); err != nil {
		t.Error(err)
	}
	if err := files.MoveFile(b.ctx, auth, directory+"/out", directory+"/a/b/moved", false); err != nil {
		t.Error(err)
	}
	if err := files.DeleteDirectory(b.ctx, auth, directory, true); err != nil {
		t.Error(err)
	}
	if _, err := processes.StartProgram(b.ctx, auth, &types.GuestProgramSpec{ProgramPath: "/no/such/program"}); err == nil || !strings.Contains(fmt.Sprintf("%T", soapDetail(err)), "FileNotFound") {
		t.Errorf("no program: %v", err)
	}
	if variables, err := processes.ReadEnvironmentVariable(b.ctx, auth, []string{"HOME"}); err != nil || len(variables) != 1 || variables[0] != "HOME=/root" {
		t.Errorf("%v %v", err, variables)
	}
	pid, _ = processes.StartProgram(b.ctx, auth, &types.GuestProgramSpec{ProgramPath: "/bin/sleep", Arguments: "100"})
	if err := processes.TerminateProcess(b.ctx, auth, pid); err != nil {
		t.Error(err)
	}
	if err := processes.TerminateProcess(b.ctx, auth, 999999); err == nil || !strings.Contains(fmt.Sprintf("%T", soapDetail(err)), "GuestProcessNotFound") {
		t.Errorf("no process: %v", err)
	}

	// Guest operations that are refused, and when.
	for _, login := range [][2]string{{"root", "wrong"}, {"nobody-here", "guest-pw"}} {
		if _, fault, err := b.raw.guestCall("ValidateCredentialsInGuest", vm, login[0], login[1], ""); err != nil || fault.kind() != "InvalidGuestLogin" {
			t.Errorf("%v: %v %+v", login, err, fault)
		}
	}
	_, fault, _ := b.raw.guestCall("ValidateCredentialsInGuest", vm, "operator", "guest-pw", "")
	if os.Geteuid() == 0 && fault != nil {
		t.Errorf("operator: %+v", fault)
	}
	if os.Geteuid() != 0 && (fault.kind() != "InvalidGuestLogin" || !strings.Contains(fault.String, "no account but root")) {
		t.Errorf("an account that the host cannot give: %+v", fault)
	}
	b.control(http.MethodPatch, "guests/"+vm.Value, map[string]any{"tools_running": false}, nil)
	if got := b.read(vm, "guest").Guest; got.ToolsRunningStatus != "guestToolsNotRunning" || *got.GuestOperationsReady {
		t.Errorf("%+v", got)
	}
	if _, fault, _ := b.raw.guestCall("ValidateCredentialsInGuest", vm, "root", "guest-pw", ""); fault.kind() != "GuestOperationsUnavailable" {
		t.Errorf("Tools stopped: %+v", fault)
	}
	b.expect("off", b.power(vm, false), "")
	if _, fault, _ := b.raw.guestCall("ValidateCredentialsInGuest", vm, "root", "guest-pw", ""); fault.kind() != "InvalidPowerState" {
		t.Errorf("powered off: %+v", fault)
	}
}

func TestTransfersBlocked(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	b.untilReady(vm)
	address, _, err := b.raw.guestCall("InitiateFileTransferFromGuest", vm, "root", "guest-pw", "<guestFilePath>/etc/hostname</guestFilePath>")
	if err != nil {
		t.Fatal(err)
	}
	address = b.downloadURL(vm)
	b.control(http.MethodPut, "transfers", map[string]bool{"blocked": true}, nil)
	if _, err := b.raw.http.Get(address); err == nil {
		t.Error("a blocked transfer was answered")
	}
	b.control(http.MethodPut, "transfers", map[string]bool{"blocked": false}, nil)
	response, err := b.raw.http.Get(address)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(err, response)
	}
	response.Body.Close()
	if again, err := b.raw.http.Get(address); err != nil || again.StatusCode != http.StatusNotFound {
		t.Errorf("a transfer's URL was good twice: %v %v", err, again)
	} else {
		again.Body.Close()
	}

	// The certificate is the one that vCenter reports for the host, not
	// vCenter's own.
	var host mo.HostSystem
	if err := property.DefaultCollector(b.client.Client).RetrieveOne(b.ctx, *b.read(vm, "runtime").Runtime.Host, []string{"config.certificate", "summary.config.sslThumbprint"}, &host); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(host.Config.Certificate)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !certificate.Equal(response.TLS.PeerCertificates[0]) {
		t.Errorf("%v: the host reports another certificate", err)
	}
	if bytes.Equal(certificate.Raw, b.sim.service.TLS.Certificates[0].Certificate[0]) {
		t.Error("the hosts have vCenter's certificate")
	}
	sum := sha1.Sum(certificate.Raw)
	if got := strings.ToLower(strings.ReplaceAll(host.Summary.Config.SslThumbprint, ":", "")); got != fmt.Sprintf("%x", sum) {
		t.Errorf("the thumbprint is %s", got)
	}
}

func (b *bed) downloadURL(vm types.ManagedObjectReference) string {
	b.Helper()
	auth := &types.NamePasswordAuthentication{Username: "root", Password: "guest-pw"}
	files, err := guest.NewOperationsManager(b.client.Client, vm).FileManager(b.ctx)
	if err != nil {
		b.Fatal(err)
	}
	information, err := files.InitiateFileTransferFromGuest(b.ctx, auth, "/etc/hostname")
	if err != nil {
		b.Fatal(err)
	}
	return information.Url
}

func TestClone(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.expect("set", b.raw.task("ReconfigVM_Task", vm, `<spec><extraConfig xsi:type="OptionValue"><key>k</key><value xsi:type="xsd:string">v</value></extraConfig><vAppConfig xsi:type="VmConfigSpec"><property><operation>add</operation><info><key>1</key><id>x</id><type>string</type><userConfigurable>true</userConfigurable><value>y</value></info></property></vAppConfig></spec>`), "")
	folder := b.sim.vmFolder().Self.Value
	clone := func() outcome {
		return b.raw.task("CloneVM_Task", vm, `<folder type="Folder">`+folder+`</folder><name>copy</name><spec><location></location><powerOn>true</powerOn><template>false</template></spec>`)
	}
	b.expect("clone", clone(), "")
	b.expect("again", clone(), "DuplicateName")
	copied, source := b.read(b.vm("copy"), "config", "runtime"), b.read(vm, "config")
	if b.extra(b.vm("copy"))["k"] != "v" || copied.Config.VAppConfig == nil || len(copied.Config.VAppConfig.GetVmConfigInfo().Property) != 1 {
		t.Errorf("the clone lost extraConfig or vAppConfig")
	}
	if copied.Config.Uuid == source.Config.Uuid || object.VirtualDeviceList(copied.Config.Hardware.Device).PrimaryMacAddress() == object.VirtualDeviceList(source.Config.Hardware.Device).PrimaryMacAddress() {
		t.Error("the clone has its source's UUID or MAC address")
	}
	if copied.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		t.Error(copied.Runtime.PowerState)
	}
}

func TestBulkInventory(t *testing.T) {
	b := start(t)
	begun := time.Now()
	var made struct{ Moids []string }
	b.control(http.MethodPost, "inventory", map[string]any{"vms": 200, "name": "bulk-%04d", "folders": []string{"/DC0/vm/a/b"}, "folder": "/DC0/vm/a/b"}, &made)
	t.Logf("200 VMs in %v", time.Since(begun))
	if len(made.Moids) != 200 || b.vm("a/b/bulk-0199").Value != made.Moids[199] {
		t.Errorf("%d VMs", len(made.Moids))
	}
	for _, entity := range b.sim.registry().All("Datastore") {
		if summary := entity.(*simulator.Datastore).Summary; summary.FreeSpace != summary.Capacity {
			t.Errorf("%d of %d bytes are free, though nothing is written", summary.FreeSpace, summary.Capacity)
		}
	}
	var answer struct{ Error string }
	b.control(http.MethodPost, "inventory", map[string]any{"vms": 1, "name": "x", "folder": "/DC0/vm/none"}, &answer)
	if !strings.Contains(answer.Error, "/DC0/vm/none") {
		t.Error(answer)
	}
}

// Only one of many clients that request a name gets it.
func TestOneNameForMany(t *testing.T) {
	b := start(t, withGuests)
	parent := b.parent()
	outcomes := make(chan string)
	const clients = 8
	for range clients {
		client := b.rawLogin("user", "pass")
		go func() {
			outcomes <- client.task("CreateForkChild_Task", parent, "<name>same</name><spec><persistent>false</persistent></spec>").fault
		}()
	}
	count := map[string]int{}
	for range clients {
		count[<-outcomes]++
	}
	if count[""] != 1 || count["DuplicateName"] != clients-1 {
		t.Error(count)
	}
}

// Many clients at once: this is for the race detector.
func TestManyChildren(t *testing.T) {
	b := start(t, withGuests)
	parent := b.parent()
	const clients, each = 8, 13
	var done sync.WaitGroup
	stop := make(chan bool)
	for i := range clients {
		done.Add(1)
		go func() {
			defer done.Done()
			client := b.rawLogin("user", "pass")
			for j := range each {
				if i*each+j >= 100 {
					return
				}
				got := client.task("CreateForkChild_Task", parent, fmt.Sprintf("<name>c-%d-%d</name><spec><persistent>false</persistent></spec>", i, j))
				if got.fault != "" {
					t.Errorf("c-%d-%d: %+v", i, j, got)
				}
				if j == 0 { // some of them run
					b.expect("on", client.task("PowerOnVM_Task", got.result.(types.ManagedObjectReference), ""), "")
				}
			}
		}()
	}
	var readers sync.WaitGroup
	readers.Add(1)
	go func() {
		defer readers.Done()
		for {
			select {
			case <-stop:
				return
			default:
				_, _, _ = b.raw.call("RetrieveForkChildren_Task", "VirtualMachine", parent.Value, "")
				_, _ = object.NewSearchIndex(b.client.Client).FindByInventoryPath(b.ctx, "/DC0/vm/c-3-3")
			}
		}
	}()
	done.Wait()
	close(stop)
	readers.Wait()
	got := b.expect("children", b.raw.task("RetrieveForkChildren_Task", parent, ""), "")
	if refs := got.result.(types.ArrayOfManagedObjectReference).ManagedObjectReference; len(refs) != 100 {
		t.Errorf("%d children", len(refs))
	}
	macs := map[string]bool{}
	for _, child := range b.sim.childrenOf(parent) {
		macs[cardsOf(b.sim.vmObject(child.ref).Config.Hardware.Device)[0].MacAddress] = true
	}
	if len(macs) != 100 {
		t.Errorf("%d MAC addresses", len(macs))
	}
}
