// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Forking a machine. A live process cannot be copied, so the program that froze
// the parent is run again in each child, from the state that the machine had
// when the program was started, up to the command that froze the parent. The
// effects of this second run are then undone: files, host name and network are
// set to those of the parent at that point, and the program continues.
//
// Of the parent's processes, a child has only that program and the processes it
// started. Process IDs may differ. A child of a running machine has none of
// them: it starts with the parent's current files, host name and network.

package guest

import (
	"errors"
	"fmt"
	"time"
)

// machineState is a machine at one moment: its disk and its network.
type machineState struct {
	directory string // in the supervisor's directory; "" means no state
	network   netState
}

// Snapshot is a machine at the fork point, and what is needed to reach that
// point again.
type Snapshot struct {
	Command  string  // the tools command that froze the machine; "" if it runs
	Program  Program // the program that gave it; its Path is "" if none did
	freeze   machineState
	start    machineState
	duration time.Duration // from the start of the program to the fork point
}

// replay is the second run of a program in a child.
type replay struct {
	snapshot *Snapshot
	done     chan error // gets nil at the fork point
}

// captureState returns the machine's current state.
func (m *Machine) captureState() (machineState, error) {
	network, err := m.network()
	if err != nil {
		return machineState{}, err
	}
	directory, err := m.platform.image(m.spec.ID)
	return machineState{directory, network}, err
}

// deleteState deletes the disk image of a state.
func (m *Machine) deleteState(state machineState) error {
	if state.directory == "" {
		return nil
	}
	return m.platform.remove(state.directory)
}

// freeze stops the machine permanently and returns its snapshot.
func (m *Machine) freeze(pid int64, command string) error {
	m.gate.Lock()
	defer m.gate.Unlock()
	select {
	case <-m.frozen:
		return ErrFrozen
	default:
	}
	if _, err := m.rpc.call("stop", struct{}{}, nil); err != nil {
		return err
	}
	snapshot := &Snapshot{Command: command}
	var err error
	if snapshot.freeze, err = m.captureState(); err != nil {
		_, again := m.rpc.call("continue", struct{}{}, nil)
		return errors.Join(err, again)
	}
	m.mu.Lock()
	if program := m.programs[pid]; program != nil {
		snapshot.Program, snapshot.start = program.program, program.begin
		snapshot.duration = time.Since(program.process.Started)
		program.begin = machineState{} // the snapshot's now
	}
	m.mu.Unlock()
	close(m.frozen)
	m.backdoor.Frozen(snapshot)
	return nil
}

// Snapshot copies the machine as it is, and lets it continue.
func (m *Machine) Snapshot() (*Snapshot, error) {
	m.gate.Lock()
	defer m.gate.Unlock()
	select {
	case <-m.off:
		return nil, ErrOff
	case <-m.frozen:
		return nil, ErrFrozen
	default:
	}
	_, err := m.rpc.call("stop", struct{}{}, nil)
	if err != nil {
		return nil, err
	}
	snapshot := &Snapshot{}
	snapshot.freeze, err = m.captureState()
	_, again := m.rpc.call("continue", struct{}{}, nil)
	return snapshot, errors.Join(err, again)
}

// Fork powers a child on. It returns when the child has passed the fork point,
// or when the program did not reach it again: the child is then a copy of the
// parent without a program, and ReplayFailed has been called.
func (p *Platform) Fork(spec Spec, snapshot *Snapshot, backdoor Backdoor) (*Machine, error) {
	var again *replay
	if snapshot.Command != "" {
		again = &replay{snapshot: snapshot, done: make(chan error, 1)}
	}
	m, err := p.newMachine(spec, backdoor, again)
	if err != nil {
		return nil, err
	}
	if err := m.fork(snapshot, again); err != nil {
		return nil, errors.Join(err, m.Stop(), p.RemoveDisk(spec.ID))
	}
	return m, nil
}

func (m *Machine) fork(snapshot *Snapshot, replay *replay) error {
	begin := snapshot.start
	if begin.directory == "" {
		begin = snapshot.freeze
	}
	if err := m.platform.remove(machinePath(m.spec.ID)); err != nil {
		return err
	}
	image := copyRequest{From: begin.directory, To: diskPath(m.spec.ID)}
	if _, err := m.platform.supervisor.call("copy", image, nil); err != nil {
		return err
	}
	network := m.afterFork(begin.network)
	if err := m.powerOn(bootRequest{Spec: m.spec, Keep: true}, &network); err != nil || replay == nil {
		return err
	}
	failed := m.runAgain(replay)
	if failed == nil {
		return nil
	}
	if m.isOff() {
		return ErrOff
	}
	// The child is still a copy of the parent.
	m.gate.Lock()
	_, err := m.rpc.call("killAll", struct{}{}, nil)
	if err == nil {
		err = m.restoreState(snapshot.freeze)
	}
	m.gate.Unlock()
	if err != nil {
		return err
	}
	m.backdoor.ReplayFailed(failed)
	return nil
}

// afterFork returns the parent's network as seen by the child's drivers. They
// know the parent's MACs until they are reloaded.
func (m *Machine) afterFork(network netState) netState {
	if m.spec.FreshMAC {
		return network.withMACs(m.adapters())
	}
	return network
}

// runAgain runs the program that froze the parent and waits until it reaches
// the fork point.
func (m *Machine) runAgain(replay *replay) error {
	snapshot := replay.snapshot
	if snapshot.start.directory == "" {
		return errors.New("the program that froze the parent cannot be run again: " +
			"it was started before the parent was made a fork parent, or by the guest itself, or came through a fork itself")
	}
	program, err := m.startProgram(snapshot.Program, nil)
	if err != nil {
		return fmt.Errorf("the program that froze the parent cannot be started: %w", err)
	}
	limit := 2*snapshot.duration + 30*time.Second
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case err := <-replay.done:
		return err
	case <-program.ended:
		select { // it may have ended right after the fork point
		case err := <-replay.done:
			return err
		default:
		}
		return fmt.Errorf("the program that froze the parent ended before the fork point, with exit code %d", program.process.ExitCode)
	case <-timeout.C:
		return fmt.Errorf("the program that froze the parent did not come to the fork point again within %s", limit)
	case <-m.off:
		return ErrOff
	}
}

// reachForkPoint handles the fork point in the child.
func (m *Machine) reachForkPoint(replay *replay) (Answer, error) {
	m.gate.Lock()
	defer m.gate.Unlock()
	if !m.replaying() {
		return Answer{}, errors.New("past the fork point")
	}
	_, err := m.rpc.call("stop", struct{}{}, nil)
	if err == nil {
		err = m.restoreState(replay.snapshot.freeze)
	}
	if err == nil {
		_, err = m.rpc.call("continue", struct{}{}, nil)
	}
	replay.done <- err
	if err != nil {
		return Answer{Text: err.Error()}, nil
	}
	return Answer{OK: true}, nil
}

// restoreState sets a stopped machine to another state, on its own adapters,
// and ends the replay.
func (m *Machine) restoreState(state machineState) error {
	restore := copyRequest{From: state.directory, To: diskPath(m.spec.ID)}
	if _, err := m.platform.supervisor.call("restore", restore, nil); err != nil {
		return err
	}
	network := m.afterFork(state.network)
	if _, err := m.rpc.call("setState", network, nil); err != nil {
		return err
	}
	now, err := m.network()
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.reported, m.replay = now.report().on(m.nics), nil
	m.mu.Unlock()
	return nil
}
