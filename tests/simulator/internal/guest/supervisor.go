// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The supervisor is a process next to the simulator that owns what all machines
// share: the outer user namespace, the mounts, the disks, the far ends of the
// network cables. It starts each machine's init, which is this program again.
// When the simulator ends for any reason, the supervisor stops everything,
// deletes the disks, and ends.

package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// supervisorConfig is the configuration that the simulator passes to its
// supervisor.
type supervisorConfig struct {
	Kind     Kind
	Accounts []Account
	IDs      int  // number of user IDs of a guest
	Links    bool // put our programs over the host's with links, not with an overlay
}

// bootRequest requests a machine's init. The init's end of the connection is
// attached.
type bootRequest struct {
	Spec Spec
	Keep bool // do not empty what a power cycle empties
}

// copyRequest requests an image of a directory of the supervisor's.
type copyRequest struct{ From, To string }

type supervisor struct {
	config     supervisorConfig
	mu         sync.Mutex
	inits      map[string]*runningInit
	farEnds    map[string][]string // far ends of a machine's adapters, in their order
	lastFarEnd int                 // numbers them
	closed     bool

	starting sync.RWMutex // held for reading while an init is started
}

// runningInit is a machine's init. A request and the end of the platform may
// halt it at the same time.
type runningInit struct {
	*exec.Cmd
	once sync.Once
}

// end kills the init, and returns when it has ended.
func (i *runningInit) end() {
	i.once.Do(func() {
		_ = i.Process.Kill()
		_ = i.Wait()
	})
}

// supervisorMain runs in the new namespaces and in the directory that it owns.
// Descriptor 3 is the connection to the simulator.
func supervisorMain() {
	rpc, err := inheritedEndpoint(3)
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest supervisor:", err)
		os.Exit(1)
	}
	s := &supervisor{inits: map[string]*runningInit{}, farEnds: map[string][]string{}}
	unix.Umask(0o022)
	rpc.serve(map[string]handler{
		"prepare":  jsonHandler(s.prepare),
		"boot":     s.boot,
		"halt":     jsonHandler(s.halt),
		"connect":  jsonHandler(s.connect),
		"tools":    jsonHandler(s.tools),
		"copy":     jsonHandler(func(c copyRequest) (struct{}, error) { return struct{}{}, s.copy(c) }),
		"restore":  jsonHandler(func(c copyRequest) (struct{}, error) { return struct{}{}, restoreTree(c.From, c.To) }),
		"copyDisk": jsonHandler(s.copyDisk),
		"remove":   jsonHandler(func(path string) (struct{}, error) { return struct{}{}, removeTree(path) }),
	})
	s.close()
}

// machinePath returns the directory of a machine, for any ID.
func machinePath(id string) string { return filepath.Join(machineDirectory, "m-"+url.PathEscape(id)) }

func diskPath(id string) string { return filepath.Join(machinePath(id), "disk") }

func (s *supervisor) prepare(config supervisorConfig) (struct{}, error) {
	s.config = config
	if err := makeDirectory(diskDirectory, 0o700); err != nil {
		return struct{}{}, err
	}
	if config.Kind == Namespaces {
		if err := mountDisks(); err != nil {
			return struct{}{}, err
		}
	}
	for _, directory := range []string{rootDirectory, shimDirectory, templateDirectory, machineDirectory, snapshotDirectory} {
		if err := makeDirectory(directory, 0o755); err != nil {
			return struct{}{}, err
		}
	}
	if err := makeCommandLinks(config.Kind); err != nil {
		return struct{}{}, err
	}
	if err := makeTemplate(templateDirectory, config.Accounts, config.IDs > 1); err != nil {
		return struct{}{}, err
	}
	if config.Kind == Plain {
		return struct{}{}, nil
	}
	return struct{}{}, mountRoot(config.Links)
}

func (s *supervisor) boot(_ *net.UnixConn, body json.RawMessage, files []*os.File) (any, []*os.File, error) {
	var asked bootRequest
	if err := json.Unmarshal(body, &asked); err != nil {
		return nil, nil, err
	}
	if len(files) != 1 {
		return nil, nil, errors.New("a boot request without a connection")
	}
	return struct{}{}, nil, s.startInit(asked, files[0])
}

func (s *supervisor) startInit(asked bootRequest, channel *os.File) error {
	id, disk := asked.Spec.ID, diskPath(asked.Spec.ID)
	if !exists(disk) {
		if err := s.copy(copyRequest{templateDirectory, disk}); err != nil {
			return err
		}
		if err := personalize(disk, asked.Spec.Hostname); err != nil {
			return err
		}
	}
	if !asked.Keep {
		if err := emptyVolatile(disk); err != nil {
			return err
		}
	}
	if _, err := s.tools(toolsRequest{id, true}); err != nil {
		return err
	}
	init := &runningInit{Cmd: exec.Command(programInStore(), string(s.config.Kind), disk, filepath.Join(machinePath(id), "tools"))}
	init.Args[0] = initName
	init.ExtraFiles = []*os.File{channel}
	init.Stderr = os.Stderr
	// A low priority is enough: an init waits nearly all the time.
	init.Env = []string{"PATH=" + defaultPath, "GOMAXPROCS=1", "GOGC=50"}
	start := init.Start
	if s.config.Kind == Namespaces {
		ids := []syscall.SysProcIDMap{{Size: s.config.IDs}}
		init.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
				unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP,
			UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: s.config.IDs > 1,
		}
		start = func() error { return withMachineMounts(machinePath(id), init.Start) }
	}
	s.starting.RLock()
	defer s.starting.RUnlock()
	s.mu.Lock()
	if s.inits[id] != nil || s.closed {
		s.mu.Unlock()
		return fmt.Errorf("machine %s runs already, or the platform is closed", id)
	}
	s.inits[id] = init
	s.mu.Unlock()
	if err := start(); err != nil {
		s.mu.Lock()
		delete(s.inits, id)
		s.mu.Unlock()
		return err
	}
	if s.config.Kind == Plain {
		return nil
	}
	if err := s.plug(id, init.Process.Pid, asked.Spec.NICs); err != nil {
		s.halt(id)
		return err
	}
	return nil
}

// plug connects a machine's network adapters, each one end of a veth pair. The
// far ends stay in the supervisor's network namespace, hidden from the guest.
func (s *supervisor) plug(id string, pid int, nics []NIC) error {
	var farEnds []string
	for _, nic := range nics {
		mac, err := net.ParseMAC(nic.MAC)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.lastFarEnd++
		far := fmt.Sprintf("cable%d", s.lastFarEnd)
		s.mu.Unlock()
		farEnds = append(farEnds, far)
		veth := netlink.NewVeth(netlink.LinkAttrs{Name: far, TxQLen: -1})
		veth.PeerName, veth.PeerHardwareAddr, veth.PeerNamespace = nic.Name, mac, netlink.NsPid(pid)
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("adapter %s (a pair of veth interfaces): %w", nic.Name, err)
		}
		if nic.Unplugged {
			continue // an end that is down gives the other no carrier
		}
		if err := netlink.LinkSetUp(veth); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.farEnds[id] = farEnds
	s.mu.Unlock()
	return nil
}

// connectRequest says which of a machine's adapters are connected.
type connectRequest struct {
	ID   string
	NICs []NIC
}

func (s *supervisor) connect(asked connectRequest) (struct{}, error) {
	s.mu.Lock()
	farEnds := s.farEnds[asked.ID] // none where the network is not real
	s.mu.Unlock()
	for i, nic := range asked.NICs {
		if i >= len(farEnds) {
			break // comes at the next power-on
		}
		far, err := netlink.LinkByName(farEnds[i])
		if err != nil {
			return struct{}{}, err
		}
		set := netlink.LinkSetUp
		if nic.Unplugged {
			set = netlink.LinkSetDown
		}
		if err := set(far); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

// halt ends a machine's init, and with it all that runs in the machine.
func (s *supervisor) halt(id string) (struct{}, error) {
	s.mu.Lock()
	init := s.inits[id]
	s.mu.Unlock()
	if init == nil {
		return struct{}{}, nil
	}
	init.end()
	s.mu.Lock()
	delete(s.inits, id)
	delete(s.farEnds, id)
	s.mu.Unlock()
	return struct{}{}, nil
}

// toolsRequest installs or removes the programs of VMware Tools in a machine.
type toolsRequest struct {
	ID        string
	Installed bool
}

func (s *supervisor) tools(asked toolsRequest) (struct{}, error) {
	directory := filepath.Join(machinePath(asked.ID), "tools")
	if err := makeDirectory(directory, 0o755); err != nil {
		return struct{}{}, err
	}
	for name := range toolsPrograms {
		path := filepath.Join(directory, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return struct{}{}, err
		}
		if !asked.Installed {
			continue
		}
		if err := os.Symlink(programFor(s.config.Kind), path); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

// copy creates the image under a temporary name first, so that an incomplete
// copy is never mistaken for a disk.
func (s *supervisor) copy(asked copyRequest) error {
	if err := os.MkdirAll(filepath.Dir(asked.To), 0o755); err != nil {
		return err
	}
	half := asked.To + ".part"
	if err := removeTree(half); err != nil {
		return err
	}
	if err := copyTree(asked.From, half); err != nil {
		removeTree(half)
		return err
	}
	return os.Rename(half, asked.To)
}

// copyDisk copies a disk from one machine to another.
func (s *supervisor) copyDisk(ids [2]string) (struct{}, error) {
	if !exists(diskPath(ids[0])) { // never powered on: neither has anything yet
		return struct{}{}, removeTree(machinePath(ids[1]))
	}
	if err := removeTree(diskPath(ids[1])); err != nil {
		return struct{}{}, err
	}
	return struct{}{}, s.copy(copyRequest{diskPath(ids[0]), diskPath(ids[1])})
}

// removeTree deletes a tree, including directories that their owner made
// inaccessible.
func removeTree(path string) error {
	err := os.RemoveAll(path)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(path, func(path string, entry os.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}

// close stops every machine and leaves the directory empty.
func (s *supervisor) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.starting.Lock() // what is being started can be stopped then
	defer s.starting.Unlock()
	s.mu.Lock()
	ids := make([]string, 0, len(s.inits))
	for id := range s.inits {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	var all sync.WaitGroup
	for _, id := range ids {
		all.Go(func() { s.halt(id) })
	}
	all.Wait()
	for _, directory := range []string{rootDirectory, diskDirectory} {
		_ = unix.Unmount(directory, unix.MNT_DETACH) // is no mount for the other kind
	}
	for _, name := range []string{rootDirectory, diskDirectory, shimDirectory, programFile} {
		if err := removeTree(name); err != nil {
			fmt.Fprintln(os.Stderr, "guest supervisor:", err)
		}
	}
}

// makeCommandLinks creates links for our in-guest programs. Those of Tools lead
// to a directory for each machine, which contains them or not.
func makeCommandLinks(kind Kind) error {
	for name := range toolsPrograms {
		if kind == Plain {
			break // found through the machine's own directory
		}
		if err := os.Symlink(filepath.Join(toolsInGuest, name), filepath.Join(shimDirectory, name)); err != nil {
			return err
		}
	}
	for name := range simulatedCommands {
		if optionalCommands[name] && hostHasProgram(name) {
			continue
		}
		if err := os.Symlink(programFor(kind), filepath.Join(shimDirectory, name)); err != nil {
			return err
		}
	}
	return nil
}

// hostHasProgram reports whether the guest finds such a program among the host's.
func hostHasProgram(name string) bool {
	for _, directory := range programDirectories {
		if exists(filepath.Join("/", directory, name)) {
			return true
		}
	}
	return false
}

// programInStore returns the path of this program's file for the supervisor and
// the inits.
func programInStore() string { return "./" + programFile }

// programFor returns the path of this program's file for guests.
func programFor(kind Kind) string {
	if kind == Plain {
		here, err := os.Getwd()
		if err != nil {
			here = "."
		}
		return filepath.Join(here, programFile)
	}
	return programInGuest
}

// smallProgram returns the program for guests: vmforksim-guest, if it is next
// to this one, or else this one.
func smallProgram() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if small := self + "-guest"; exists(small) {
		return small, nil
	}
	return self, nil
}

// placeProgram puts the program for guests into a directory, as a link if
// possible.
func placeProgram(directory string) error {
	self, err := smallProgram()
	if err != nil {
		return err
	}
	target := filepath.Join(directory, programFile)
	if info, err := os.Stat(self); err == nil && info.Mode()&0o005 == 0o005 && os.Link(self, target) == nil {
		return nil
	}
	source, err := os.Open(self)
	if err != nil {
		return err
	}
	defer source.Close()
	copied, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(copied, source)
	return errors.Join(err, copied.Close(), os.Chmod(target, 0o755))
}
