// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
)

func (b *bed) inject(fault map[string]any) {
	b.Helper()
	if status := b.control("POST", "faults", fault, nil); status != http.StatusOK {
		b.Fatalf("%v: %d", fault, status)
	}
}

// request sends an HTTP request; the error is that of reading the answer.
func (b *bed) request(method, path, body string) (int, string, error) {
	b.Helper()
	req, _ := http.NewRequestWithContext(b.ctx, method, strings.TrimSuffix(b.sim.URL(), "/sdk")+path, strings.NewReader(body))
	req.Header.Set("SOAPAction", "urn:vim25/6.0")
	res, err := b.raw.http.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

func TestRepliesOfABrokenProxy(t *testing.T) {
	b := start(t)
	const currentTime = `<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><CurrentTime xmlns="urn:vim25">` +
		`<_this type="ServiceInstance">ServiceInstance</_this></CurrentTime></Body></Envelope>`
	for _, request := range [][3]string{{"CurrentTime", "/sdk", currentTime}, {"GET /sdk/vimServiceVersions.xml", "/sdk/vimServiceVersions.xml", ""}} {
		name, method := request[0], http.MethodPost
		if request[2] == "" {
			method = http.MethodGet
		}
		_, whole, err := b.request(method, request[1], request[2])
		if err != nil || !strings.Contains(whole, "</") {
			t.Fatal(whole, err)
		}
		for reply, want := range map[string]struct {
			status int
			body   string
		}{
			"503": {503, "503 Service Unavailable"}, "502": {502, "502 Bad Gateway"}, "empty": {200, ""},
			"garbage": {200, "<br>"}, "truncated": {200, "<?xml"},
		} {
			b.inject(map[string]any{"method": name, "reply": reply})
			status, got, err := b.request(method, request[1], request[2])
			if status != want.status || !strings.Contains(got, want.body) || strings.Contains(got, whole) {
				t.Errorf("%s %s: %d %q", name, reply, status, got)
			}
			if (err != nil) != (reply == "truncated") {
				t.Errorf("%s %s: %v", name, reply, err)
			}
		}
		if _, got, err := b.request(method, request[1], request[2]); len(got) != len(whole) || err != nil {
			t.Errorf("afterwards: %q %v", got, err)
		}
	}
	var faults []injectedFault
	b.control("GET", "faults", nil, &faults)
	if len(faults) != 10 || faults[0].Fired != 1 {
		t.Errorf("%+v", faults)
	}
	for _, nonsense := range []map[string]any{
		{"method": "GET /mob", "fault": "InvalidState"}, {"method": "CurrentTime", "reply": "418"},
		{"method": "CurrentTime", "hold": "during"}, {"method": "PowerOnVM_Task", "at": "task", "hold": "after"},
	} {
		if status := b.control("POST", "faults", nonsense, nil); status != http.StatusBadRequest {
			t.Errorf("%v: %d", nonsense, status)
		}
	}
}

// Calls wait for each other, whatever the number of calls that other faults
// apply to by default.
func TestGatheredCalls(t *testing.T) {
	b := start(t)
	b.inject(map[string]any{"method": "CurrentTime", "gather": 2})
	const currentTime = `<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><CurrentTime xmlns="urn:vim25">` +
		`<_this type="ServiceInstance">ServiceInstance</_this></CurrentTime></Body></Envelope>`
	began := time.Now()
	answered := make(chan error)
	for range 2 {
		go func() {
			_, _, err := b.request(http.MethodPost, "/sdk", currentTime)
			answered <- err
		}()
	}
	for range 2 {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took > gatherTimeout/2 {
		t.Errorf("the calls waited for %v", took)
	}
	var faults []injectedFault
	if b.control("GET", "faults", nil, &faults); faults[0].Fired != 2 {
		t.Errorf("%+v", faults)
	}
}

// A held call is carried out before or after its release, even if its client
// is gone.
func TestHeldCall(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	for _, moment := range []string{"before", "after"} {
		for _, leaves := range []bool{false, true} {
			name := fmt.Sprintf("held-%s-%v", moment, leaves)
			isRenamed := func(vm mo.VirtualMachine) bool { return vm.Name == name }
			client := *b
			var leave context.CancelFunc
			client.ctx, leave = context.WithCancel(b.ctx)
			raw := client.rawLogin("user", "pass")
			b.inject(map[string]any{"method": "Rename_Task", "hold": moment})
			ended := make(chan error)
			go func() {
				_, _, err := raw.call("Rename_Task", vm.Type, vm.Value, "<newName>"+name+"</newName>")
				ended <- err
			}()
			var held bool
			if b.control("GET", "held", nil, &held); !held {
				t.Fatal("no call is held")
			}
			if leaves {
				leave()
				<-ended
			}
			if moment == "after" {
				b.until(vm, "renamed", isRenamed, "name")
			} else if isRenamed(b.read(vm, "name")) {
				t.Errorf("%s: carried out already", name)
			}
			b.control("DELETE", "held", nil, nil)
			if !leaves {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
			leave()
			b.until(vm, "renamed", isRenamed, "name")
			b.control("DELETE", "faults", nil, nil)
		}
	}
}

func TestWaitForAHeldCallEnds(t *testing.T) {
	faults := newFaultInjector()
	if faults.awaitHeld(context.Background()) {
		t.Error("a call is held although no fault holds calls")
	}
	ctx, leave := context.WithCancel(context.Background())
	for _, end := range []func(){faults.clear, leave} {
		if err := faults.add(injectedFault{Method: "Rename_Task", Hold: "before"}); err != nil {
			t.Fatal(err)
		}
		answer := make(chan bool)
		go func() { answer <- faults.awaitHeld(ctx) }()
		end()
		if <-answer {
			t.Error("a call is held although there was none")
		}
	}
}
