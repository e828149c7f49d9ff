// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Faults, delays and other results that a test injects into calls and tasks.

package vsphere

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/vimfault"
)

// injectedFault is a fault, delay or result to inject, as requested over the
// control endpoint.
type injectedFault struct {
	Method  string `json:"method"`
	At      string `json:"at"`
	Fault   string `json:"fault"`
	Message string `json:"message"`
	VM      string `json:"vm,omitempty"`
	VMName  string `json:"vm_name,omitempty"`
	After   int    `json:"after"`
	Count   int    `json:"count"`
	DelayMS int    `json:"delay_ms"`
	Drop    string `json:"drop"`
	Answer  string `json:"answer,omitempty"` // the task's result instead; see newResult
	Gather  int    `json:"gather,omitempty"` // number of calls that wait for each other; later ones do not wait
	Reply   string `json:"reply,omitempty"`  // what a broken proxy sends instead of the server; see replies
	Hold    string `json:"hold,omitempty"`   // where a call waits until it is released: before or after it is carried out
	Fired   int    `json:"fired"`            // how often it was injected; set by the simulator

	seen               int
	gathered, released chan struct{}
}

func (f injectedFault) delay() time.Duration { return time.Duration(f.DelayMS) * time.Millisecond }

// gatherTimeout is how long a call waits for other calls.
const gatherTimeout = 30 * time.Second

// holdTimeout is how long a call waits to be released.
const holdTimeout = 5 * time.Minute

// replies is what a client receives if something between it and the server
// fails. Before "503" the call was not carried out, before all others it was.
var replies = []string{"503", "502", "truncated", "empty", "garbage"}

// gather holds a call back until the given number of calls has arrived.
func (f injectedFault) gather(ctx context.Context) {
	if f.Gather == 0 {
		return
	}
	select {
	case <-f.gathered:
	case <-ctx.Done():
	case <-time.After(gatherTimeout):
	}
}

// fault builds the fault; nil if only a delay or a dropped connection is
// injected.
func (f injectedFault) fault() types.BaseMethodFault {
	if f.Fault == "" {
		return nil
	}
	fault, _ := vimfault.New(f.Fault, f.VM, f.Message) // the name was checked by add
	return fault
}

// UnknownFault represents faults of a server newer than its client, which has
// no class for them.
type UnknownFault struct{ types.VimFault }

func init() { types.Add("UnknownFault", reflect.TypeOf(UnknownFault{})) }

// faultInjector holds the faults to inject.
type faultInjector struct {
	mu      sync.Mutex
	rules   []*injectedFault
	held    chan struct{} // receives a value for each call that is held
	cleared chan struct{} // closed when the faults are removed
}

func newFaultInjector() *faultInjector {
	return &faultInjector{held: make(chan struct{}, 100), cleared: make(chan struct{})}
}

func (f *faultInjector) add(rule injectedFault) error {
	if rule.At == "" {
		rule.At = "call"
	}
	switch {
	case rule.Method == "":
		return fmt.Errorf("method is missing")
	case !slices.Contains([]string{"call", "task", "result", "answer", "vanish"}, rule.At):
		return fmt.Errorf("at is call, task, result, answer or vanish, not %q", rule.At)
	case (rule.At == "answer") != (rule.Answer != ""):
		return fmt.Errorf("answer goes with at=answer")
	case rule.At == "vanish" && (rule.Fault != "" || rule.Drop != "" || rule.DelayMS != 0):
		return fmt.Errorf("a task that vanishes is only forgotten: no fault, delay_ms or drop")
	case rule.At == "result" && (rule.Method != "CheckPowerOn_Task" || rule.Fault == ""):
		return fmt.Errorf("only a check (CheckPowerOn_Task) reports faults in its result")
	case !slices.Contains([]string{"", "before", "after"}, rule.Drop):
		return fmt.Errorf(`drop is "", "before" or "after", not %q`, rule.Drop)
	case !slices.Contains([]string{"", "before", "after"}, rule.Hold):
		return fmt.Errorf(`hold is "", "before" or "after", not %q`, rule.Hold)
	case rule.Reply != "" && !slices.Contains(replies, rule.Reply):
		return fmt.Errorf("reply is one of %v, not %q", replies, rule.Reply)
	case rule.At != "call" && rule.Drop+rule.Reply+rule.Hold != "":
		return fmt.Errorf("only a call has a connection to drop, a reply, and a moment to hold")
	case strings.Contains(rule.Method, " ") && (rule.At != "call" || rule.Fault != ""):
		return fmt.Errorf("an HTTP request has neither faults nor tasks")
	case rule.Gather < 0 || rule.Gather > 0 && rule.At != "call":
		return fmt.Errorf("gather is a number of calls")
	case rule.At != "vanish" && rule.Fault == "" && rule.Drop == "" && rule.DelayMS == 0 && rule.Answer == "" &&
		rule.Gather == 0 && rule.Reply == "" && rule.Hold == "":
		return fmt.Errorf("one of fault, delay_ms, drop, gather, reply, hold and answer is needed")
	}
	if rule.Answer != "" {
		if _, err := newResult(rule.Answer); err != nil {
			return err
		}
	}
	if rule.Fault != "" {
		if _, err := vimfault.New(rule.Fault, "", ""); err != nil {
			return err
		}
	}
	if rule.Count > 0 {
		rule.Count = max(rule.Count, rule.Gather) // calls that wait for each other must all be taken
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	rule.Fired = 0
	rule.gathered, rule.released = make(chan struct{}), make(chan struct{})
	f.rules = append(f.rules, &rule)
	return nil
}

func (f *faultInjector) list() []injectedFault {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := []injectedFault{}
	for _, rule := range f.rules {
		list = append(list, *rule)
	}
	return list
}

func (f *faultInjector) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.releaseAll()
	f.rules = nil
	close(f.cleared)
	f.held, f.cleared = make(chan struct{}, cap(f.held)), make(chan struct{})
}

// release lets all held calls go on, and those to come pass.
func (f *faultInjector) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.releaseAll()
}

func (f *faultInjector) releaseAll() {
	for _, rule := range f.rules {
		select {
		case <-rule.released:
		default:
			close(rule.released)
		}
	}
}

// awaitHeld waits until a call is held, and reports whether one was before the
// faults were removed or the client went away. It does not wait if no fault
// holds calls.
func (f *faultInjector) awaitHeld(ctx context.Context) bool {
	f.mu.Lock()
	held, cleared := f.held, f.cleared
	holds := slices.ContainsFunc(f.rules, func(rule *injectedFault) bool { return rule.Hold != "" })
	f.mu.Unlock()
	if !holds {
		return false
	}
	select {
	case <-held:
		return true
	case <-cleared:
	case <-ctx.Done():
	}
	return false
}

// hold has a call wait until it is released. It is carried out even if its
// client goes away meanwhile.
func (f *faultInjector) hold(rule *injectedFault, moment string) {
	if rule.Hold != moment {
		return
	}
	f.mu.Lock()
	held := f.held
	f.mu.Unlock()
	select {
	case <-rule.released:
		return
	case held <- struct{}{}:
	}
	select {
	case <-rule.released:
	case <-time.After(holdTimeout):
	}
}

// carryOut answers a request, with what a rule injects into it except the
// fault. A dropped connection ends the handler.
func (f *faultInjector) carryOut(rule *injectedFault, r *http.Request, serve func() *responseBuffer) *responseBuffer {
	if rule == nil {
		return serve()
	}
	rule.gather(r.Context())
	time.Sleep(rule.delay())
	f.hold(rule, "before")
	if rule.Drop == "before" {
		panic(http.ErrAbortHandler)
	}
	if rule.Reply == "503" {
		return proxyReply(http.StatusServiceUnavailable, "503 Service Unavailable")
	}
	answer := serve()
	f.hold(rule, "after")
	if rule.Drop == "after" {
		panic(http.ErrAbortHandler)
	}
	switch rule.Reply {
	case "502":
		return proxyReply(http.StatusBadGateway, "502 Bad Gateway")
	case "empty":
		return proxyReply(http.StatusOK, "")
	case "garbage":
		return proxyReply(http.StatusOK, "<html><body><p>Please accept the terms of use & log in<br></body>")
	case "truncated":
		answer.header.Set("Content-Length", strconv.Itoa(answer.body.Len()))
		answer.body.Truncate(answer.body.Len() / 2)
	}
	return answer
}

func proxyReply(status int, body string) *responseBuffer {
	answer := newResponseBuffer()
	answer.status = status
	answer.header.Set("Content-Type", "text/html")
	answer.body.WriteString(body)
	return answer
}

// take returns what to inject into this call or task, if anything, and counts
// it. The names are those of the VM: its own, and a new child's.
func (f *faultInjector) take(at, method, moid string, names ...string) *injectedFault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, rule := range f.rules {
		if rule.At != at || rule.Method != method ||
			rule.VM != "" && rule.VM != moid ||
			rule.VMName != "" && !slices.Contains(names, rule.VMName) {
			continue
		}
		rule.seen++
		if rule.seen <= rule.After || rule.Count > 0 && rule.Fired >= rule.Count {
			continue
		}
		rule.Fired++
		if rule.Fired == rule.Gather {
			close(rule.gathered)
		}
		taken := *rule
		if moid != "" {
			taken.VM = moid // what the fault is about
		}
		return &taken
	}
	return nil
}

// newResult is the result of a task whose server returns something other than
// the new object: "int", "string", "bool", "nil", "list" (of the object named
// after a colon, or empty), or a managed object as "Type:id".
func newResult(answer string) (types.AnyType, error) {
	kind, rest, named := strings.Cut(answer, ":")
	switch {
	case kind == "int":
		return int32(42), nil
	case kind == "string":
		return "vm-42", nil
	case kind == "bool":
		return true, nil
	case kind == "nil":
		return nil, nil
	case kind == "list":
		list := types.ArrayOfManagedObjectReference{ManagedObjectReference: []types.ManagedObjectReference{}}
		if named {
			list.ManagedObjectReference = append(list.ManagedObjectReference,
				types.ManagedObjectReference{Type: "VirtualMachine", Value: rest})
		}
		return list, nil
	case named && kind != "" && rest != "":
		return types.ManagedObjectReference{Type: kind, Value: rest}, nil
	}
	return nil, fmt.Errorf("answer is int, string, bool, nil, list, list:id or Type:id, not %q", answer)
}

// replaceResult replaces the result of a successful task if a test requested
// it.
func (s *Simulator) replaceResult(plan *taskPlan, entity types.ManagedObjectReference, result types.AnyType) types.AnyType {
	injected := s.faults.take("answer", plan.method, entity.Value, append(plan.names, s.names.of(entity.Value))...)
	if injected == nil {
		return result
	}
	other, _ := newResult(injected.Answer) // it was checked by add
	return other
}
