// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// A powered-on machine, as seen by the simulator.

package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrFrozen is the error of operations that are impossible at the fork point.
var ErrFrozen = errors.New("the machine is frozen at its fork point")

// ErrOff is the error of operations on a machine that was stopped.
var ErrOff = errors.New("the machine is powered off")

// keepEnded is how long Tools report a process after its end.
const keepEnded = 5 * time.Minute

// Machine is a VM that is powered on.
type Machine struct {
	platform *Platform
	spec     Spec
	backdoor Backdoor
	rpc      *rpcEndpoint
	off      chan struct{} // closed when it is powered off
	turnOff  sync.Once
	frozen   chan struct{} // closed when it is frozen, for ever

	gate  sync.RWMutex // held for writing while the guest is frozen
	start sync.Mutex   // held until a program that was started is in the table

	reportMu sync.Mutex // keeps reports in the order in which they were read

	mu       sync.Mutex
	nics     []NIC // as they are now
	programs map[int64]*runningProgram
	reported State   // what the backdoor knows
	replay   *replay // while a fork's program is run again
	forkable bool
}

// runningProgram is a top-level program of a machine, also after its end.
type runningProgram struct {
	process Process
	program Program
	begin   machineState // what the machine was before it, if it is forkable
	ended   chan struct{}
}

// powerOn starts the machine's init; if a state is given, with its network.
func (m *Machine) powerOn(asked bootRequest, with *netState) error {
	near, far, err := newEndpoint()
	if err != nil {
		return err
	}
	m.rpc = near
	_, err = m.platform.supervisor.call("boot", asked, nil, far)
	far.Close()
	if err != nil {
		return err
	}
	go m.rpc.serve(map[string]handler{
		"events":   m.events,
		"tools":    jsonHandler(m.tools),
		"record":   jsonHandler(m.record),
		"report":   jsonHandler(m.report),
		"reboot":   jsonHandler(m.endGuest(m.backdoor.Rebooted)),
		"poweroff": jsonHandler(m.endGuest(m.backdoor.PoweredOff)),
		"hardware": jsonHandler(func(toolRequest) ([]NIC, error) { return m.adapters(), nil }),
	})
	var state State
	if _, err := m.rpc.call("up", bringUp{NICs: m.spec.NICs, Net: with}, &state); err != nil {
		return err
	}
	m.mu.Lock()
	m.reported = state.on(m.nics)
	m.mu.Unlock()
	return nil
}

// adapters are the machine's, as they are now.
func (m *Machine) adapters() []NIC {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nics
}

// Plug changes the connections of the machine's adapters, and has Tools report
// them. Adapters are added and removed at the next power-on.
func (m *Machine) Plug(nics []NIC) error {
	if m.isOff() {
		return ErrOff
	}
	if _, err := m.platform.supervisor.call("connect", connectRequest{m.spec.ID, nics}, nil); err != nil {
		return err
	}
	m.mu.Lock()
	m.nics = nics
	m.mu.Unlock()
	select {
	case <-m.frozen:
		return nil
	default:
		return m.reportState(true)
	}
}

// whileRunning runs a function that needs a running guest.
func (m *Machine) whileRunning(do func() error) error {
	m.gate.RLock()
	defer m.gate.RUnlock()
	select {
	case <-m.off:
		return ErrOff
	case <-m.frozen:
		return ErrFrozen
	default:
	}
	err := do()
	if m.isOff() {
		return ErrOff
	}
	return err
}

func (m *Machine) isOff() bool {
	select {
	case <-m.off:
		return true
	default:
		return false
	}
}

// Forkable sets whether a program may freeze this machine. Only then does the
// machine keep, from each program's start, what is needed to run the program
// again.
func (m *Machine) Forkable(forkable bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forkable = forkable
}

// Start starts a program and returns its process ID. Errors: os.ErrNotExist for
// a missing program or directory, os.ErrPermission for one that cannot be
// executed, ErrNoAccount, ErrOnlyRoot, ErrFrozen, ErrOff.
func (m *Machine) Start(program Program) (int64, error) {
	started, err := m.startProgram(program, nil)
	if err != nil {
		return 0, err
	}
	return started.process.PID, nil
}

func (m *Machine) startProgram(program Program, output *os.File) (*runningProgram, error) {
	var started *runningProgram
	err := m.whileRunning(func() error {
		m.mu.Lock()
		forkable := m.forkable
		m.mu.Unlock()
		var begin machineState
		if forkable {
			var err error
			if begin, err = m.captureState(); err != nil {
				return err
			}
		}
		var files []*os.File
		if output != nil {
			files = []*os.File{output}
		}
		m.start.Lock()
		defer m.start.Unlock()
		var pid int64
		if _, err := m.rpc.call("start", startRequest{Program: program}, &pid, files...); err != nil {
			return errors.Join(err, m.deleteState(begin))
		}
		started = &runningProgram{
			program: program, begin: begin, ended: make(chan struct{}),
			process: Process{
				PID: pid, Name: filepath.Base(program.Path), CommandLine: commandLine(program.Path, program.Arguments),
				Owner: program.User, Started: time.Now(),
			},
		}
		m.mu.Lock()
		m.programs[pid] = started
		m.mu.Unlock()
		return nil
	})
	return started, err
}

// Run runs a program as the guest itself would, waits for its end, and returns
// what it wrote to stdout and stderr. If the machine is frozen or stopped in
// the meantime, the error is ErrFrozen or ErrOff.
func (m *Machine) Run(program Program) (Process, []byte, error) {
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return Process{}, nil, os.NewSyscallError("memfd_create", err)
	}
	output := os.NewFile(uintptr(fd), "output")
	defer output.Close()
	started, err := m.startProgram(program, output)
	if err != nil {
		return Process{}, nil, err
	}
	select {
	case <-started.ended:
	case <-m.frozen:
		err = ErrFrozen
	case <-m.off:
		err = ErrOff
	}
	m.mu.Lock()
	process := started.process
	m.mu.Unlock()
	text, readErr := io.ReadAll(io.NewSectionReader(output, 0, 1<<40))
	return process, text, errors.Join(err, readErr)
}

// Processes returns the given processes, or all. Processes that Start or Run
// started stay listed for five minutes after their end.
func (m *Machine) Processes(pids ...int64) []Process {
	var found []listed
	if !m.isOff() {
		_, _ = m.rpc.call("list", struct{}{}, &found) // none when the machine goes off meanwhile
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Process
	for pid, program := range m.programs {
		if ended := program.process.Ended; !ended.IsZero() && time.Since(ended) > keepEnded {
			delete(m.programs, pid)
			continue
		}
		all = append(all, program.process)
	}
	for _, process := range found {
		if m.programs[process.PID] == nil {
			all = append(all, Process{
				PID: process.PID, Name: process.Name, CommandLine: process.CommandLine, Owner: process.Owner, Started: process.Started,
			})
		}
	}
	if len(pids) > 0 {
		all = slices.DeleteFunc(all, func(p Process) bool { return !slices.Contains(pids, p.PID) })
	}
	slices.SortFunc(all, func(a, b Process) int { return int(a.PID - b.PID) })
	return all
}

// Terminate ends a process with the rights of a user. Errors:
// os.ErrNotExist, os.ErrPermission.
func (m *Machine) Terminate(pid int64, user string) error {
	return m.whileRunning(func() error {
		_, err := m.rpc.call("terminate", terminateRequest{PID: pid, User: user}, nil)
		return err
	})
}

// Files are the machine's files with the rights of a user.
func (m *Machine) Files(user string) Files { return machineFiles{m, user} }

// State is the current report of Tools.
func (m *Machine) State() State {
	if state, err := m.network(); err == nil {
		return state.report().on(m.adapters())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reported
}

func (m *Machine) network() (netState, error) {
	var state netState
	if m.isOff() {
		return state, ErrOff
	}
	_, err := m.rpc.call("state", struct{}{}, &state)
	return state, err
}

// Dial connects to a TCP port at one of the guest's own addresses.
func (m *Machine) Dial(address string) (conn net.Conn, err error) {
	if m.platform.options.Kind == Plain {
		return nil, errors.New("a guest of this kind has no network of its own")
	}
	return conn, m.whileRunning(func() error {
		files, err := m.rpc.call("dial", address, nil)
		if err != nil {
			return err
		}
		defer closeAll(files)
		conn, err = net.FileConn(files[0])
		return err
	})
}

// SetTools installs or removes the programs of VMware Tools in the guest.
func (m *Machine) SetTools(installed bool) {
	if _, err := m.platform.supervisor.call("tools", toolsRequest{m.spec.ID, installed}, nil); err != nil {
		m.platform.logf("%s: the programs of Tools: %v", m.spec.ID, err)
	}
}

// Stop powers the machine off at once. Its disk is kept.
func (m *Machine) Stop() error {
	m.turnedOff()
	if m.platform.isClosed() {
		return nil // and with it this machine
	}
	_, err := m.platform.supervisor.call("halt", m.spec.ID, nil)
	if m.rpc != nil {
		m.rpc.close()
	}
	m.mu.Lock()
	programs := m.programs
	m.programs = map[int64]*runningProgram{}
	m.mu.Unlock()
	for _, program := range programs {
		err = errors.Join(err, m.deleteState(program.begin))
	}
	m.platform.mu.Lock()
	if m.platform.machines[m.spec.ID] == m {
		delete(m.platform.machines, m.spec.ID)
	}
	m.platform.mu.Unlock()
	return err
}

func (m *Machine) turnedOff() { m.turnOff.Do(func() { close(m.off) }) }

// events receives the events of the init, until it is gone.
func (m *Machine) events(conn *net.UnixConn, _ json.RawMessage, _ []*os.File) (any, []*os.File, error) {
	for {
		var received event
		if _, err := receive(conn, &received); err != nil {
			break
		}
		if received.Ended != nil {
			m.programEnded(*received.Ended)
		}
		if received.State != nil {
			m.stateChanged()
		}
	}
	if !m.isOff() {
		m.platform.logf("%s: the guest's init ended unasked", m.spec.ID)
		m.turnedOff()
	}
	return nil, nil, nil
}

// stateChanged reports a new state of the guest.
func (m *Machine) stateChanged() {
	_ = m.reportState(false) // the guest is gone, and cannot be asked
}

// report reports the state at the guest's request, changed or not.
func (m *Machine) report(toolRequest) (struct{}, error) {
	return struct{}{}, m.reportState(true)
}

// endGuest has the hypervisor end the guest. A program that is run again in a
// child does not reach this, because its first run did not.
func (m *Machine) endGuest(end func()) func(toolRequest) (struct{}, error) {
	return func(toolRequest) (struct{}, error) {
		if !m.replaying() {
			end()
		}
		return struct{}{}, nil
	}
}

// reportState reads the state again: the init's report may be from before a
// fork point.
func (m *Machine) reportState(always bool) error {
	m.reportMu.Lock()
	defer m.reportMu.Unlock()
	network, err := m.network()
	if err != nil {
		return err
	}
	m.mu.Lock()
	state := network.report().on(m.nics)
	changed := m.replay == nil && (always || !reflect.DeepEqual(state, m.reported))
	if changed {
		m.reported = state
	}
	m.mu.Unlock()
	if changed {
		m.backdoor.Changed(state, always)
	}
	return nil
}

func (m *Machine) programEnded(end ended) {
	m.start.Lock() // it may be about to be entered into the table
	m.start.Unlock()
	m.mu.Lock()
	program := m.programs[end.PID]
	if program == nil {
		m.mu.Unlock()
		return
	}
	program.process.Ended, program.process.ExitCode = end.At, end.ExitCode
	process, begin := program.process, program.begin
	program.begin = machineState{}
	m.mu.Unlock()
	close(program.ended)
	if err := m.deleteState(begin); err != nil {
		m.platform.logf("%s: %v", m.spec.ID, err)
	}
	if !m.replaying() && !m.isOff() {
		m.backdoor.Ended(process)
	}
}

func (m *Machine) replaying() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.replay != nil
}

// record forwards the call of a simulated command, unless it was recorded
// before in the parent.
func (m *Machine) record(asked toolRequest) (struct{}, error) {
	if !m.replaying() {
		m.backdoor.Recorded(asked.Words)
	}
	return struct{}{}, nil
}

// tools answers a command given to vmtoolsd or vmware-rpctool.
func (m *Machine) tools(asked toolRequest) (Answer, error) {
	if len(asked.Words) != 1 {
		return Answer{}, fmt.Errorf("one command, not %d", len(asked.Words))
	}
	m.start.Lock() // as in programEnded
	m.start.Unlock()
	command := asked.Words[0]
	m.mu.Lock()
	replay := m.replay
	m.mu.Unlock()
	if replay != nil && command == replay.snapshot.Command {
		return m.reachForkPoint(replay)
	}
	answer := m.backdoor.Call(Call{Command: command, UID: asked.UID, Program: asked.Program, Replay: replay != nil})
	if !answer.Freeze || replay != nil {
		return answer, nil
	}
	if err := m.freeze(asked.Program, command); err != nil {
		return Answer{Text: err.Error()}, nil
	}
	<-m.off // the caller waits for ever
	return Answer{}, ErrOff
}
