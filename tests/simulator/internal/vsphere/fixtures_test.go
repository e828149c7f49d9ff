// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
)

func TestMain(m *testing.M) {
	if guest.Main() { // this process is a guest's own
		return
	}
	if err := buildGuestProgram(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// buildGuestProgram puts vmforksim-guest beside this program, so that guests run
// it. They could run this one, but under the race detector each start of it
// takes twenty times as long. The guests' code has its own tests, which run
// under the race detector. The unprivileged user of some tests has a copy.
func buildGuestProgram() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if _, err := os.Stat(self + "-guest"); err == nil {
		return nil
	}
	build := exec.Command("go", "build", "-o", self+"-guest", "vmforksim/guestprogram")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the guests' program: %w\n%s", err, output)
	}
	return nil
}

// bed is a simulator under test with the clients of one test.
type bed struct {
	*testing.T
	sim    *Simulator
	ctx    context.Context
	client *govmomi.Client
	raw    *rawClient
}

func defaults() Options {
	return Options{
		Listen: "127.0.0.1:0", VMs: 1, Hosts: 2, ESXHost: "DC0_H0", APIVersion: "6.5", HiddenMethods: "auto",
		Username: "user", Password: "pass", Guest: "none",
		GuestUsername: "root", GuestPassword: "guest-pw", Log: os.Stderr,
	}
}

// patience limits every wait for something that must happen.
const patience = time.Minute

func withGuests(o *Options) { o.Guest = "ns" }

// start starts a simulator and logs in.
func start(t *testing.T, change ...func(*Options)) *bed {
	t.Helper()
	options := defaults()
	for _, f := range change {
		f(&options)
	}
	sim, err := Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	b := &bed{T: t, sim: sim, ctx: ctx}
	b.client = b.login("user", "pass")
	b.raw = b.rawLogin("user", "pass")
	return b
}

func (b *bed) login(name, password string) *govmomi.Client {
	b.Helper()
	u, _ := url.Parse(b.sim.URL())
	u.User = url.UserPassword(name, password)
	client, err := govmomi.NewClient(b.ctx, u, true)
	if err != nil {
		b.Fatal(err)
	}
	return client
}

// rawClient sends SOAP as text, for requests that govmomi's client cannot send.
type rawClient struct {
	b       *bed
	address string
	http    *http.Client
	action  string
}

type rawFault struct {
	Code   string `xml:"faultcode"`
	String string `xml:"faultstring"`
	Detail struct {
		Fault struct {
			Type      string `xml:"http://www.w3.org/2001/XMLSchema-instance type,attr"`
			Privilege string `xml:"privilegeId"`
			Object    string `xml:"object"`
			Receiver  string `xml:"receiver"`
		} `xml:",any"`
	} `xml:"detail"`
}

func (f *rawFault) kind() string {
	if f == nil {
		return ""
	}
	return f.Detail.Fault.Type
}

func (b *bed) rawLogin(name, password string) *rawClient {
	b.Helper()
	return b.rawLoginAt(b.sim.URL(), "SessionManager", name, password)
}

func (b *bed) rawLoginAt(address, manager, name, password string) *rawClient {
	b.Helper()
	jar, _ := cookiejar.New(nil)
	c := &rawClient{b: b, address: address, action: "urn:vim25/6.0", http: &http.Client{
		Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}}
	b.Cleanup(c.http.CloseIdleConnections)
	_, fault, err := c.call("Login", "SessionManager", manager,
		"<userName>"+name+"</userName><password>"+password+"</password>")
	if err != nil || fault != nil {
		b.Fatalf("login: %v %v", err, fault)
	}
	return c
}

// call sends one request and returns the text of returnval.
func (c *rawClient) call(method, kind, moid, arguments string) (string, *rawFault, error) {
	body := fmt.Sprintf(`<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema"><soapenv:Body><%[1]s xmlns="urn:vim25"><_this type=%[2]q>%[3]s</_this>%[4]s</%[1]s></soapenv:Body></soapenv:Envelope>`, method, kind, moid, arguments)
	req, _ := http.NewRequestWithContext(c.b.ctx, http.MethodPost, c.address, strings.NewReader(body))
	req.Header.Set("SOAPAction", c.action)
	req.Header.Set("Content-Type", "text/xml")
	res, err := c.http.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return "", nil, err
	}
	var envelope struct {
		Body struct {
			Fault  *rawFault `xml:"Fault"`
			Answer struct {
				XMLName   xml.Name
				Returnval string `xml:"returnval"`
			} `xml:",any"`
		} `xml:"Body"`
	}
	if err := xml.Unmarshal(text, &envelope); err != nil {
		return "", nil, fmt.Errorf("%w in %.300s", err, text)
	}
	fault, answer := envelope.Body.Fault, envelope.Body.Answer
	if fault == nil && answer.XMLName.Local != method+"Response" {
		return "", nil, fmt.Errorf("the answer's element is %s", answer.XMLName.Local)
	}
	return answer.Returnval, fault, nil
}

// outcome is the result of a task or its call: the fault's type, or "" for
// success.
type outcome struct {
	fault   string
	message string
	result  types.AnyType
	info    *types.TaskInfo
}

// task calls a method that starts a task on a VM, and waits for it.
func (c *rawClient) task(method string, vm types.ManagedObjectReference, arguments string) outcome {
	c.b.Helper()
	ref, fault, err := c.call(method, vm.Type, vm.Value, arguments)
	if err != nil {
		c.b.Fatalf("%s: %v", method, err)
	}
	if fault != nil {
		return outcome{fault: fault.kind(), message: fault.String}
	}
	return c.b.ended(types.ManagedObjectReference{Type: "Task", Value: ref})
}

// ended waits for a task.
func (b *bed) ended(task types.ManagedObjectReference) outcome {
	b.Helper()
	info, err := object.NewTask(b.client.Client, task).WaitForResult(b.ctx)
	if info == nil {
		b.Fatalf("%s: %v", task.Value, err)
	}
	o := outcome{result: info.Result, info: info}
	if info.Error != nil {
		o.fault = strings.TrimPrefix(fmt.Sprintf("%T", info.Error.Fault), "*types.")
		o.message = info.Error.LocalizedMessage
	}
	return o
}

// expect fails the test unless an outcome is the given fault; "" means success.
func (b *bed) expect(what string, got outcome, fault string) outcome {
	b.Helper()
	if got.fault != fault {
		b.Fatalf("%s: got %q (%s), want %q", what, got.fault, got.message, fault)
	}
	return got
}

func (b *bed) vm(name string) types.ManagedObjectReference {
	b.Helper()
	ref, err := object.NewSearchIndex(b.client.Client).FindByInventoryPath(b.ctx, "/DC0/vm/"+name)
	if err != nil || ref == nil {
		b.Fatalf("%s: %v %v", name, ref, err)
	}
	return ref.Reference()
}

func (b *bed) read(ref types.ManagedObjectReference, properties ...string) mo.VirtualMachine {
	b.Helper()
	var vm mo.VirtualMachine
	if err := property.DefaultCollector(b.client.Client).RetrieveOne(b.ctx, ref, properties, &vm); err != nil {
		b.Fatal(err)
	}
	return vm
}

func (b *bed) extra(ref types.ManagedObjectReference) map[string]string {
	b.Helper()
	vm := b.read(ref, "config.extraConfig")
	vm.Config.Files = types.VirtualMachineFileInfo{}
	return extraConfig(&vm)
}

// until waits until a VM's properties meet a condition, as a client does.
func (b *bed) until(ref types.ManagedObjectReference, what string, wanted func(vm mo.VirtualMachine) bool, properties ...string) mo.VirtualMachine {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	var seen mo.VirtualMachine
	err := property.Wait(ctx, property.DefaultCollector(b.client.Client), ref, properties, func([]types.PropertyChange) bool {
		seen = b.read(ref, properties...)
		return wanted(seen)
	})
	if err != nil {
		b.Fatalf("waiting for %s: %v", what, err)
	}
	return seen
}

func (b *bed) power(ref types.ManagedObjectReference, on bool) outcome {
	b.Helper()
	if on {
		return b.raw.task("PowerOnVM_Task", ref, "")
	}
	return b.raw.task("PowerOffVM_Task", ref, "")
}

func (b *bed) untilReady(ref types.ManagedObjectReference) {
	b.Helper()
	b.until(ref, "guest operations", func(vm mo.VirtualMachine) bool {
		return vm.Guest != nil && vm.Guest.GuestOperationsReady != nil && *vm.Guest.GuestOperationsReady
	}, "guest")
}

func (b *bed) enable(ref types.ManagedObjectReference) {
	b.Helper()
	b.expect("enable", b.raw.task("EnableForkParent_Task", ref, ""), "")
}

// freeze has a program in the guest bring it to the fork point.
func (b *bed) freeze(ref types.ManagedObjectReference, script ...string) {
	b.Helper()
	b.untilReady(ref)
	text := "vmtoolsd --cmd 'vmfork-begin -1 -1'"
	if len(script) > 0 {
		text = script[0]
	}
	b.control(http.MethodPost, "guests/"+ref.Value+"/run", map[string]any{
		"program": "/bin/sh", "arguments": "-c " + shellQuote(text), "wait": false,
	}, nil)
	b.until(ref, "the fork point", func(vm mo.VirtualMachine) bool {
		return vm.Runtime.QuiescedForkParent != nil && *vm.Runtime.QuiescedForkParent
	}, "runtime")
}

func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// parent returns a frozen parent.
func (b *bed) parent() types.ManagedObjectReference {
	b.Helper()
	ref := b.vm("DC0_H0_VM0")
	b.enable(ref)
	b.freeze(ref)
	return ref
}

func (b *bed) create(parent types.ManagedObjectReference, name string, spec string) outcome {
	b.Helper()
	if spec == "" {
		spec = "<persistent>false</persistent>"
	}
	return b.raw.task("CreateForkChild_Task", parent, "<name>"+name+"</name><spec>"+spec+"</spec>")
}

// child creates a child; this must succeed.
func (b *bed) child(parent types.ManagedObjectReference, name string, spec string) types.ManagedObjectReference {
	b.Helper()
	b.expect("create "+name, b.create(parent, name, spec), "")
	return b.vm(name)
}

// control sends a request to the control endpoint and returns the status.
func (b *bed) control(method, path string, request, response any) int {
	b.Helper()
	var body bytes.Buffer
	if request != nil {
		_ = json.NewEncoder(&body).Encode(request)
	}
	req, _ := http.NewRequestWithContext(b.ctx, method, strings.TrimSuffix(b.sim.URL(), "/sdk")+"/vmforksim/"+path, &body)
	res, err := b.raw.http.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	if response != nil {
		if err := json.Unmarshal(text, response); err != nil {
			b.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	} else if res.StatusCode != http.StatusOK && request != nil {
		b.Logf("%s %s: %s", method, path, text)
	}
	return res.StatusCode
}

// rule sets a rule for the rest of the test.
func (b *bed) rule(name, value string) {
	b.Helper()
	if status := b.control(http.MethodPut, "rules/"+name, map[string]string{"value": value}, nil); status != http.StatusOK {
		b.Fatalf("rule %s=%s: %d", name, value, status)
	}
}

// guestCall calls a guest operation with a login.
func (c *rawClient) guestCall(method string, vm types.ManagedObjectReference, user, password, arguments string) (string, *rawFault, error) {
	manager := c.b.sim.guestManagerOf(method)
	return c.call(method, manager.Type, manager.Value, fmt.Sprintf(
		`<vm type="VirtualMachine">%s</vm><auth xsi:type="NamePasswordAuthentication"><interactiveSession>false</interactiveSession><username>%s</username><password>%s</password></auth>%s`,
		vm.Value, user, password, arguments))
}

func (s *Simulator) guestManagerOf(method string) types.ManagedObjectReference {
	manager := s.registry().Get(*s.content().GuestOperationsManager).(*simulator.GuestOperationsManager)
	switch {
	case strings.Contains(method, "Process"), strings.Contains(method, "Program"), strings.Contains(method, "Environment"):
		return *manager.ProcessManager
	case strings.Contains(method, "Credentials"):
		return *manager.AuthManager
	}
	return *manager.FileManager
}

func (s *Simulator) vmObject(ref types.ManagedObjectReference) *simulator.VirtualMachine {
	return s.registry().Get(ref).(*simulator.VirtualMachine)
}

func (s *Simulator) hostObject(ref types.ManagedObjectReference) *simulator.HostSystem {
	return s.registry().Get(ref).(*simulator.HostSystem)
}

func (s *Simulator) vmFolder() *simulator.Folder {
	return s.registry().Get(s.registry().Any("Datacenter").(*simulator.Datacenter).VmFolder).(*simulator.Folder)
}

func callOf(command string, uid int) guest.Call { return guest.Call{Command: command, UID: uid} }
