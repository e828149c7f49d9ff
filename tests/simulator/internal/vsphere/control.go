// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The control endpoint (/vmforksim/…): routes, rules, users, transfers, guests
// and inventory.

package vsphere

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/vmware/govmomi/simulator"

	"vmforksim/internal/guest"
	"vmforksim/internal/rules"
)

// errAbsent is answered with 404.
var errAbsent = errors.New("not found")

// newControl creates the control endpoint, with which tests read and change the
// simulator outside of the API. It needs no login and is not counted.
func (s *Simulator) newControl() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			result, err := f(r)
			switch {
			case errors.Is(err, errAbsent):
				writeJSON(w, http.StatusNotFound, map[string]string{"error": err.Error()})
			case err != nil:
				writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			default:
				writeJSON(w, http.StatusOK, result)
			}
		})
	}
	handle("GET /vmforksim/calls", func(*http.Request) (any, error) { return s.calls.read(), nil })
	handle("DELETE /vmforksim/calls", func(*http.Request) (any, error) { return s.calls.reset(), nil })
	handle("GET /vmforksim/sessions", func(*http.Request) (any, error) { return s.sessions.list(), nil })
	handle("DELETE /vmforksim/sessions", func(r *http.Request) (any, error) {
		return s.sessions.kill(r.URL.Query().Get("user")), nil
	})
	handle("POST /vmforksim/users", s.controlUsers)
	handle("GET /vmforksim/faults", func(*http.Request) (any, error) { return s.faults.list(), nil })
	handle("POST /vmforksim/faults", func(r *http.Request) (any, error) {
		rule := injectedFault{Count: 1}
		if err := decode(r, &rule); err != nil {
			return nil, err
		}
		err := s.faults.add(rule)
		return s.faults.list(), err
	})
	handle("DELETE /vmforksim/faults", func(*http.Request) (any, error) {
		s.faults.clear()
		return s.faults.list(), nil
	})
	handle("GET /vmforksim/held", func(r *http.Request) (any, error) { return s.faults.awaitHeld(r.Context()), nil })
	handle("DELETE /vmforksim/held", func(*http.Request) (any, error) {
		s.faults.release()
		return s.faults.list(), nil
	})
	handle("GET /vmforksim/rules", func(*http.Request) (any, error) { return s.rules.List(), nil })
	handle("PUT /vmforksim/rules/{name}", s.controlRule)
	handle("DELETE /vmforksim/rules", func(*http.Request) (any, error) {
		s.rules.Reset()
		s.applyRules()
		return s.rules.List(), nil
	})
	handle("DELETE /vmforksim/events", s.controlEvents)
	handle("DELETE /vmforksim/tasks", s.controlTasks)
	handle("GET /vmforksim/transfers", func(*http.Request) (any, error) { return s.transfer.state(), nil })
	handle("PUT /vmforksim/transfers", s.controlTransfers)
	handle("GET /vmforksim/guests/{moid}", s.controlGuest)
	handle("PATCH /vmforksim/guests/{moid}", s.controlTools)
	handle("POST /vmforksim/guests/{moid}/run", s.controlRun)
	handle("POST /vmforksim/guests/{moid}/forward", s.controlForward)
	handle("POST /vmforksim/guests/{moid}/power-on", s.controlPowerOn)
	handle("PATCH /vmforksim/vms/{moid}", s.controlVM)
	handle("PATCH /vmforksim/datastores/{name}", s.controlDatastore)
	handle("POST /vmforksim/inventory", s.controlInventory)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusNotFound, map[string]string{"error": fmt.Sprintf("%s %s is not part of the control endpoint", r.Method, r.URL.Path)})
	})
	return mux
}

// decode parses a request's body; unknown fields are an error.
func decode(r *http.Request, request any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(request); err != nil {
		return fmt.Errorf("the request is not understood: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("the request has more than one value")
	}
	return nil
}

func (s *Simulator) controlTransfers(r *http.Request) (any, error) {
	var request struct {
		Blocked     *bool   `json:"blocked"`
		Certificate *string `json:"certificate"`
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	if request.Blocked == nil && request.Certificate == nil {
		return nil, errors.New("one of blocked and certificate is needed")
	}
	if request.Certificate != nil {
		switch certificate := *request.Certificate; certificate {
		case reportedCertificate, anotherCertificate:
			s.transfer.showAnother(certificate == anotherCertificate)
		default:
			return nil, fmt.Errorf("certificate is %q or %q, not %q", reportedCertificate, anotherCertificate, certificate)
		}
	}
	if request.Blocked != nil {
		s.transfer.listener.block(*request.Blocked)
	}
	return s.transfer.state(), nil
}

func (s *Simulator) controlUsers(r *http.Request) (any, error) {
	var added user
	if err := decode(r, &added); err != nil {
		return nil, err
	}
	if added.Name == "" || added.Password == "" {
		return nil, errors.New("name and password are needed")
	}
	s.users.put(added)
	return map[string]any{"name": added.Name, "deny": added.Deny, "deny_on": added.DenyOn}, nil
}

func (s *Simulator) controlRule(r *http.Request) (any, error) {
	var request struct {
		Value string `json:"value"`
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	if _, ok := rules.Find(name); !ok {
		return nil, fmt.Errorf("there is no rule %q: %w", name, errAbsent)
	}
	if err := s.rules.Set(name, request.Value); err != nil {
		return nil, err
	}
	s.applyRules()
	return s.rules.List(), nil
}

// applyRules publishes again the properties that depend on rules.
func (s *Simulator) applyRules() {
	for _, entity := range s.registry().All("VirtualMachine") {
		s.instances.of(entity.Reference()).update(func(ctx *simulator.Context, object *simulator.VirtualMachine) {
			if s.names.visible(object.Self) {
				s.showRuntime(ctx, object)
				s.showFork(ctx, object)
			}
		})
	}
}

// guestView is what the control endpoint reports about a guest.
type guestView struct {
	State struct {
		Hostname   string          `json:"hostname"`
		Interfaces []interfaceView `json:"interfaces"`
	} `json:"state"`
	Tools struct {
		Running      bool   `json:"running"`
		Ready        bool   `json:"ready"`
		Installed    bool   `json:"installed"`
		RefuseFreeze string `json:"refuse_freeze"`
		RefuseInfo   bool   `json:"refuse_info"`
		StaysUp      bool   `json:"stays_up"`
	} `json:"tools"`
	Processes  []processView     `json:"processes"`
	Recorded   [][]string        `json:"recorded"`
	Guestinfo  map[string]string `json:"guestinfo"`
	Frozen     bool              `json:"frozen"`
	ForkedFrom *string           `json:"forked_from"`
	PoweredOn  powerOrigin       `json:"powered_on_from,omitempty"`
	OVFEnv     *ovfEnvView       `json:"ovf_environment"`
	Failure    string            `json:"replay_failed,omitempty"`
}

// ovfEnvView is how a running VM got its OVF environment, if it has one.
type ovfEnvView struct {
	MadeByVCenter bool `json:"made_by_vcenter"` // for this run
	Inherited     bool `json:"inherited"`       // with the memory of the fork parent
	ISO           bool `json:"iso"`
	GuestInfo     bool `json:"guestinfo"` // the guest finds something under guestinfo.ovfEnv
}

type interfaceView struct {
	Name      string   `json:"name"`
	MAC       string   `json:"mac"`
	Up        bool     `json:"up"`        // the guest has it so
	Connected bool     `json:"connected"` // the adapter is
	Addresses []string `json:"addresses"`
}

type processView struct {
	PID         int64  `json:"pid"`
	Name        string `json:"name"`
	CommandLine string `json:"command_line"`
	Owner       string `json:"owner"`
	Ended       bool   `json:"ended"`
	ExitCode    int    `json:"exit_code"`
}

// vmOf finds the VM that a control request names.
func (s *Simulator) vmOf(r *http.Request) (*instance, error) {
	moid := r.PathValue("moid")
	for _, entity := range s.registry().All("VirtualMachine") {
		if ref := entity.Reference(); ref.Value == moid {
			return s.instances.of(ref), nil
		}
	}
	return nil, fmt.Errorf("there is no VM %q: %w", moid, errAbsent)
}

func (s *Simulator) controlGuest(r *http.Request) (any, error) {
	vm, err := s.vmOf(r)
	if err != nil {
		return nil, err
	}
	return s.view(vm), nil
}

func (s *Simulator) view(vm *instance) guestView {
	view := guestView{Recorded: [][]string{}, Processes: []processView{}}
	view.State.Interfaces = []interfaceView{}
	vm.update(func(_ *simulator.Context, object *simulator.VirtualMachine) {
		view.Guestinfo = vm.guestinfo(&object.VirtualMachine)
		view.Tools.Running = object.Guest.ToolsRunningStatus == "guestToolsRunning"
		view.Tools.Ready = object.Guest.GuestOperationsReady != nil && *object.Guest.GuestOperationsReady
	})
	machine, frozen := vm.machine()
	vm.mu.Lock()
	view.Tools.Installed = !vm.tools.Uninstalled
	view.Tools.RefuseFreeze, view.Tools.RefuseInfo = vm.tools.RefuseFreeze, vm.tools.RefuseInfo
	view.Tools.StaysUp = vm.tools.StaysUp
	view.Frozen = frozen
	if vm.origin != nil {
		view.ForkedFrom = &vm.origin.parent.Value
	}
	if vm.run != nil {
		view.PoweredOn = vm.run.from
		d := vm.run.delivery
		view.OVFEnv = &ovfEnvView{MadeByVCenter: d.env != nil, Inherited: d.inherited, ISO: d.iso, GuestInfo: d.guest != ""}
		view.Recorded = append(view.Recorded, vm.run.recorded...)
		if vm.run.replayError != nil {
			view.Failure = vm.run.replayError.Error()
		}
	}
	vm.mu.Unlock()
	if machine == nil {
		return view
	}
	state := machine.State()
	view.State.Hostname = state.Hostname
	for _, nic := range state.Interfaces {
		view.State.Interfaces = append(view.State.Interfaces, interfaceView{nic.Name, nic.MAC, nic.Up, nic.Connected, append([]string{}, nic.Addresses...)})
	}
	if !frozen {
		for _, process := range machine.Processes() {
			view.Processes = append(view.Processes, processView{
				process.PID, process.Name, process.CommandLine, process.Owner, !process.Ended.IsZero(), process.ExitCode,
			})
		}
	}
	return view
}

func (s *Simulator) controlTools(r *http.Request) (any, error) {
	vm, err := s.vmOf(r)
	if err != nil {
		return nil, err
	}
	var request struct {
		Running      *bool    `json:"tools_running"`
		Ready        *bool    `json:"operations_ready"`
		Installed    *bool    `json:"tools_installed"`
		RefuseFreeze *string  `json:"refuse_freeze"`
		RefuseInfo   *bool    `json:"refuse_info"`
		StaysUp      *bool    `json:"stays_up"` // when asked to shut down
		Family       *string  `json:"guest_family"`
		Interfaces   []string `json:"interfaces"` // names, from the next power-on on
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	vm.mu.Lock()
	tools := &vm.tools
	if request.Running != nil {
		tools.Stopped = !*request.Running
	}
	if request.Ready != nil {
		tools.Unready = !*request.Ready
	}
	if request.Installed != nil {
		tools.Uninstalled = !*request.Installed
	}
	if request.RefuseFreeze != nil {
		tools.RefuseFreeze = *request.RefuseFreeze
	}
	if request.RefuseInfo != nil {
		tools.RefuseInfo = *request.RefuseInfo
	}
	if request.StaysUp != nil {
		tools.StaysUp = *request.StaysUp
	}
	if request.Family != nil {
		tools.Family = *request.Family
	}
	if request.Interfaces != nil {
		tools.Interfaces = request.Interfaces
	}
	vm.mu.Unlock()
	if machine, frozen := vm.machine(); machine != nil && !frozen && request.Installed != nil {
		machine.SetTools(*request.Installed)
	}
	vm.update(func(ctx *simulator.Context, object *simulator.VirtualMachine) { s.showRuntime(ctx, object) })
	return s.view(vm), nil
}

// controlRun runs a program as the guest itself would, without a login.
func (s *Simulator) controlRun(r *http.Request) (any, error) {
	vm, err := s.vmOf(r)
	if err != nil {
		return nil, err
	}
	request := struct {
		Program   string `json:"program"`
		Arguments string `json:"arguments"`
		User      string `json:"user"`
		Wait      bool   `json:"wait"`
	}{User: "root", Wait: true}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	vm.waitQueue()
	vm.mu.Lock()
	c := vm.run
	vm.mu.Unlock()
	machine, frozen := vm.machine()
	if machine == nil || frozen {
		return nil, errors.New("the guest does not run")
	}
	session := guestSession{run: c, machine: machine, user: request.User}
	program := guest.Program{Path: request.Program, Arguments: request.Arguments, User: request.User}
	if !request.Wait {
		pid, err := session.start(program)
		return map[string]any{"pid": pid}, err
	}
	started := c.starting()
	process, output, err := machine.Run(program)
	if err != nil {
		return nil, err
	}
	started(process.PID)
	return map[string]any{"pid": process.PID, "exit_code": process.ExitCode, "output": string(output)}, nil
}

func (s *Simulator) controlInventory(r *http.Request) (any, error) {
	request := struct {
		VMs     int      `json:"vms"`
		Name    string   `json:"name"`
		Folder  string   `json:"folder"`
		PowerOn bool     `json:"power_on"`
		Folders []string `json:"folders"`

		Networks   []string       `json:"networks"` // of standard switches
		PortGroups []newPortGroup `json:"port_groups"`
	}{Name: "bulk-%04d", Folder: "/DC0/vm"}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	for _, path := range request.Folders {
		if _, err := s.makeFolder(path); err != nil {
			return nil, err
		}
	}
	for _, name := range request.Networks {
		if err := s.addNetwork(name); err != nil {
			return nil, err
		}
	}
	for _, group := range request.PortGroups {
		if err := s.addPortGroup(group); err != nil {
			return nil, err
		}
	}
	moids, err := s.addBulk(request.VMs, request.Name, request.Folder, request.PowerOn)
	if err != nil {
		return nil, err
	}
	return map[string]any{"moids": moids}, nil
}
