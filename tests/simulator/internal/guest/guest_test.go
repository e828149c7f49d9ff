// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if Main() {
		return
	}
	if directory := os.Getenv(killedVariable); directory != "" {
		simulatorToBeKilled(directory)
	}
	os.Exit(m.Run())
}

// newPlatform starts a platform for one test.
func newPlatform(t testing.TB, kind Kind) *Platform {
	t.Helper()
	p, err := NewPlatform(Options{
		Kind: kind, Directory: t.TempDir(), Log: logger{t},
		Accounts: []Account{{Name: "root"}, {Name: "ann", Sudo: true}, {Name: "bob"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("closing the platform: %v", err)
		}
	})
	return p
}

// inStore returns the path of a supervisor's file in this process.
func (p *Platform) inStore(path string) string {
	return filepath.Join("/proc", strconv.Itoa(p.process.Process.Pid), "cwd", path)
}

// logger turns what a platform logs into a failure of the test.
type logger struct{ t testing.TB }

func (l logger) Write(text []byte) (int, error) {
	l.t.Errorf("log: %s", text)
	return len(text), nil
}

// hypervisor is a backdoor that records its calls.
type hypervisor struct {
	answer func(Call) Answer

	mu       sync.Mutex
	calls    []Call
	recorded []string
	frozen   chan *Snapshot
	changed  chan State
	ended    chan Process
	failed   chan error
	rebooted chan struct{}
	off      chan struct{}
}

// freezeCommand freezes a machine whose hypervisor has no answers of its own.
const freezeCommand = "vmfork-begin -1 -1"

func newHypervisor() *hypervisor {
	return &hypervisor{
		frozen: make(chan *Snapshot, 1), changed: make(chan State, 100), ended: make(chan Process, 100), rebooted: make(chan struct{}, 1), off: make(chan struct{}, 1), failed: make(chan error, 1),
	}
}

func (h *hypervisor) Call(call Call) Answer {
	h.mu.Lock()
	h.calls = append(h.calls, call)
	h.mu.Unlock()
	if h.answer != nil {
		return h.answer(call)
	}
	if call.Command == freezeCommand {
		return Answer{Freeze: true}
	}
	return Answer{Text: "No value found"}
}

func (h *hypervisor) Frozen(snapshot *Snapshot)   { h.frozen <- snapshot }
func (h *hypervisor) Changed(state State, _ bool) { h.changed <- state }
func (h *hypervisor) Ended(process Process)       { h.ended <- process }
func (h *hypervisor) ReplayFailed(err error)      { h.failed <- err }

func (h *hypervisor) Rebooted()   { h.rebooted <- struct{}{} }
func (h *hypervisor) PoweredOff() { h.off <- struct{}{} }

func (h *hypervisor) Recorded(command []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.recorded = append(h.recorded, strings.Join(command, " "))
}

func (h *hypervisor) record() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string{}, h.recorded...)
}

// patience limits every wait for something that must happen.
const patience = 30 * time.Second

func receiveFrom[T any](t testing.TB, channel <-chan T, what string) T {
	t.Helper()
	select {
	case value := <-channel:
		return value
	case <-time.After(patience):
		t.Fatalf("%s did not happen in time", what)
		panic("unreachable")
	}
}

func boot(t testing.TB, p *Platform, spec Spec, backdoor Backdoor) *Machine {
	t.Helper()
	m, err := p.Boot(spec, backdoor)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Errorf("stopping %s: %v", spec.ID, err)
		}
	})
	return m
}

// parentSpec is the machine of most tests.
func parentSpec() Spec {
	return Spec{ID: "vm-1", Hostname: "golden", NICs: []NIC{{Name: "eth0", MAC: "00:50:56:00:00:01", Address: "192.0.2.7/24"}}}
}

// shell runs a script as a user and returns its exit code and output.
func shell(t testing.TB, m *Machine, user, script string) (int, string) {
	t.Helper()
	process, output, err := m.Run(Program{Path: "/bin/sh", Arguments: "-c " + quoted([]string{script})[0], User: user})
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return process.ExitCode, strings.TrimSpace(string(output))
}

// must runs a script as root; it has to succeed.
func must(t testing.TB, m *Machine, script string) string {
	t.Helper()
	code, output := shell(t, m, "root", script)
	if code != 0 {
		t.Fatalf("%s: exit code %d: %s", script, code, output)
	}
	return output
}
