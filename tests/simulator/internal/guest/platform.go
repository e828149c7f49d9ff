// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// A platform is what machines run on: the hypervisor without its API.

package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Platform runs machines.
type Platform struct {
	options    Options
	ids        idRange
	store      string // the directory of the supervisor
	supervisor *rpcEndpoint
	process    *exec.Cmd
	closing    sync.Once

	mu       sync.Mutex
	machines map[string]*Machine
	images   int // numbers the snapshots' directories
}

// NewPlatform prepares the platform. If the host forbids something that this
// kind of guest requires, the error names the setting.
func NewPlatform(options Options) (*Platform, error) {
	if options.Log == nil {
		options.Log = io.Discard
	}
	ids := idRange{size: 1, inside: os.Geteuid()}
	switch {
	case options.Kind != Namespaces && options.Kind != Plain:
		return nil, fmt.Errorf("unknown kind of guest %q: %q or %q", options.Kind, Namespaces, Plain)
	case options.Kind == Plain && os.Geteuid() == 0:
		return nil, fmt.Errorf("guests of kind %q would run as the host's root: use another user, or the kind %q", Plain, Namespaces)
	case options.Kind == Namespaces && os.Geteuid() == 0:
		var err error
		if ids, err = hostIDs(); err != nil {
			return nil, err
		}
	}
	p := &Platform{options: options, ids: ids, machines: map[string]*Machine{}}
	if err := p.open(); err != nil {
		p.Close()
		if options.Kind == Namespaces {
			err = explainRefusal(err)
		}
		return nil, err
	}
	return p, nil
}

// CanBe returns ErrOnlyRoot for an account that guests cannot have on this host.
func (p *Platform) CanBe(account string) error {
	if p.options.Kind == Namespaces && p.ids.size == 1 && account != "root" {
		return ErrOnlyRoot
	}
	return nil
}

// open creates the directory, starts the supervisor, and tries a machine once.
func (p *Platform) open() error {
	if err := os.MkdirAll(p.options.Directory, 0o700); err != nil {
		return err
	}
	var err error
	if p.store, err = os.MkdirTemp(p.options.Directory, "guests-"); err != nil {
		return err
	}
	if err := placeProgram(p.store); err != nil {
		return err
	}
	if p.options.Kind == Namespaces && p.ids.inside != os.Geteuid() {
		// From here on the directory belongs to the guests' root.
		if err := os.Chown(p.store, p.ids.inside, p.ids.inside); err != nil {
			return err
		}
	}
	if err := p.startSupervisor(); err != nil {
		return err
	}
	config := supervisorConfig{Kind: p.options.Kind, Accounts: p.options.Accounts, IDs: p.ids.size, Links: p.options.noOverlay}
	if _, err := p.supervisor.call("prepare", config, nil); err != nil {
		return err
	}
	trial, err := p.Boot(Spec{ID: "trial", Hostname: "trial"}, nil)
	if err != nil {
		return err
	}
	if err := trial.Stop(); err != nil {
		return err
	}
	return p.RemoveDisk("trial")
}

func (p *Platform) startSupervisor() error {
	near, far, err := newEndpoint()
	if err != nil {
		return err
	}
	defer far.Close()
	supervisor := exec.Command(programInStore())
	supervisor.Args[0] = supervisorName
	supervisor.Env = []string{"PATH=" + defaultPath}
	supervisor.ExtraFiles = []*os.File{far}
	supervisor.Stderr = p.options.Log
	supervisor.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a terminal's ^C is the simulator's business
	if p.options.Kind == Namespaces {
		many := p.ids.size > 1
		mapping := []syscall.SysProcIDMap{{HostID: p.ids.inside, Size: p.ids.size}}
		groups := mapping
		if !many {
			groups = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
		}
		supervisor.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET
		supervisor.SysProcAttr.UidMappings, supervisor.SysProcAttr.GidMappings = mapping, groups
		supervisor.SysProcAttr.GidMappingsEnableSetgroups = many
		supervisor.SysProcAttr.Credential = &syscall.Credential{NoSetGroups: !many}
	}
	if err := inDirectory(p.store, supervisor.Start); err != nil {
		near.close()
		return err
	}
	p.supervisor, p.process = near, supervisor
	return nil
}

// inDirectory runs a function in a thread with another working directory, which
// the processes it starts inherit. The supervisor must start in its directory,
// because its user on the host may have no access to the path.
func inDirectory(directory string, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS)
		if err != nil {
			err = os.NewSyscallError("unshare", err)
		} else if err = unix.Chdir(directory); err != nil {
			err = &os.PathError{Op: "chdir", Path: directory, Err: err}
		} else {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// Boot powers a machine on, and creates its disk if there is none.
func (p *Platform) Boot(spec Spec, backdoor Backdoor) (*Machine, error) {
	m, err := p.newMachine(spec, backdoor, nil)
	if err != nil {
		return nil, err
	}
	if err := m.powerOn(bootRequest{Spec: spec}, nil); err != nil {
		return nil, errors.Join(err, m.Stop())
	}
	return m, nil
}

// newMachine reserves the ID.
func (p *Platform) newMachine(spec Spec, backdoor Backdoor, replay *replay) (*Machine, error) {
	if backdoor == nil {
		backdoor = noBackdoor{}
	}
	m := &Machine{
		platform: p, spec: spec, nics: spec.NICs, backdoor: backdoor, replay: replay,
		programs: map[int64]*runningProgram{}, off: make(chan struct{}), frozen: make(chan struct{}),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.machines == nil {
		return nil, errors.New("the platform is closed")
	}
	if p.machines[spec.ID] != nil {
		return nil, fmt.Errorf("machine %s runs already", spec.ID)
	}
	p.machines[spec.ID] = m
	return m, nil
}

// CopyDisk gives the machine toID a copy of the disk of fromID.
func (p *Platform) CopyDisk(fromID, toID string) error {
	if p.runs(toID) {
		return fmt.Errorf("machine %s runs", toID)
	}
	_, err := p.supervisor.call("copyDisk", [2]string{fromID, toID}, nil)
	return err
}

// RemoveDisk deletes a disk; a missing disk is no error.
func (p *Platform) RemoveDisk(id string) error {
	if p.runs(id) {
		return fmt.Errorf("machine %s runs", id)
	}
	return p.remove(machinePath(id))
}

func (p *Platform) runs(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.machines[id] != nil
}

func (p *Platform) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.machines == nil
}

// Release deletes the contents of a snapshot; no child can start from it any
// longer.
func (p *Platform) Release(snapshot *Snapshot) {
	if p.isClosed() {
		return // and with it all images
	}
	for _, image := range []string{snapshot.start.directory, snapshot.freeze.directory} {
		if image == "" {
			continue
		}
		if err := p.remove(image); err != nil {
			p.logf("deleting a snapshot: %v", err)
		}
	}
}

func (p *Platform) remove(path string) error {
	_, err := p.supervisor.call("remove", path, nil)
	return err
}

// image copies a machine's disk in its current state and returns the path of
// the copy.
func (p *Platform) image(id string) (string, error) {
	p.mu.Lock()
	p.images++
	directory := filepath.Join(snapshotDirectory, strconv.Itoa(p.images))
	p.mu.Unlock()
	_, err := p.supervisor.call("copy", copyRequest{From: diskPath(id), To: directory}, nil)
	return directory, err
}

func (p *Platform) logf(format string, arguments ...any) {
	fmt.Fprintf(p.options.Log, "guests: "+format+"\n", arguments...)
}

// Close stops every machine and deletes the disks.
func (p *Platform) Close() error {
	var err error
	p.closing.Do(func() {
		p.mu.Lock()
		machines := p.machines
		p.machines = nil
		p.mu.Unlock()
		for _, m := range machines {
			m.turnedOff()
		}
		if p.process != nil {
			p.supervisor.close() // ends the supervisor, once it has cleaned up
			err = p.process.Wait()
		}
		if p.store != "" {
			err = errors.Join(err, os.RemoveAll(p.store))
		}
	})
	return err
}

// noBackdoor is the backdoor of an unobserved machine.
type noBackdoor struct{}

func (noBackdoor) Call(Call) Answer    { return Answer{Text: "No hypervisor"} }
func (noBackdoor) Frozen(*Snapshot)    {}
func (noBackdoor) Changed(State, bool) {}
func (noBackdoor) Ended(Process)       {}
func (noBackdoor) Recorded([]string)   {}
func (noBackdoor) Rebooted()           {}
func (noBackdoor) PoweredOff()         {}
func (noBackdoor) ReplayFailed(error)  {}
