// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The init of a guest: process 1 of its namespaces. It holds them open, runs
// the simulator's requests in them, forwards the calls of in-guest tools, and
// reports changes. It ends when the simulator has ended, and the kernel then
// ends everything else in the guest.

package guest

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// toolsSocket is the address at which in-guest tools reach the init: an
// abstract one, which belongs to the network namespace and so to one guest
// only.
const toolsSocket = "@vmci"

// bringUp is the first request to an init.
type bringUp struct {
	NICs []NIC
	Net  *netState // the initial network; nil means that of the disk
}

// event is a report that an init sends unrequested.
type event struct {
	State *State
	Ended *ended
}

// ended is the end of a top-level program.
type ended struct {
	PID      int64
	ExitCode int
	At       time.Time
}

type initProcess struct {
	rpc       *rpcEndpoint
	events    *net.UnixConn
	mu        sync.Mutex // of what events are sent
	reported  State
	processes processTable
	sandbox   sandbox
	sudos     sync.Map // process IDs of the sudo programs that run something
}

func initMain() {
	rpc, err := inheritedEndpoint(3)
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest init:", err)
		os.Exit(1)
	}
	unix.Umask(0o022)
	sandbox, entered := enterSandbox(Kind(os.Args[1]), os.Args[2], os.Args[3])
	i := &initProcess{rpc: rpc, sandbox: sandbox, processes: newProcessTable(sandbox.wrap)}
	rpc.serve(map[string]handler{
		"up": jsonHandler(func(asked bringUp) (State, error) {
			if entered != nil {
				return State{}, entered
			}
			return i.up(asked)
		}),
		"state":     jsonHandler(func(struct{}) (netState, error) { return i.sandbox.network() }),
		"setState":  jsonHandler(i.setState),
		"start":     i.start,
		"list":      jsonHandler(func(struct{}) ([]listed, error) { return i.processes.list() }),
		"terminate": jsonHandler(func(asked terminateRequest) (struct{}, error) { return struct{}{}, i.terminate(asked) }),
		"kill":      jsonHandler(func(pid int64) (struct{}, error) { return struct{}{}, i.processes.kill(int(pid)) }),
		"stop":      jsonHandler(func(struct{}) (struct{}, error) { return struct{}{}, i.processes.stopAll() }),
		"killAll":   jsonHandler(func(struct{}) (struct{}, error) { return struct{}{}, i.processes.killAll() }),
		"continue":  jsonHandler(func(struct{}) (struct{}, error) { return struct{}{}, i.processes.continueAll() }),
		"file":      i.file,
		"dial":      dial,
	})
	_ = i.processes.killAll() // matters where no namespace does it
	os.Exit(0)
}

// dial connects to an address of the guest from within it, and passes the
// connection on: the guest's network has no other way out.
func dial(_ *net.UnixConn, body json.RawMessage, _ []*os.File) (any, []*os.File, error) {
	var address string
	if err := json.Unmarshal(body, &address); err != nil {
		return nil, nil, err
	}
	conn, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	file, err := conn.(*net.TCPConn).File()
	return struct{}{}, []*os.File{file}, err
}

const dialTimeout = 10 * time.Second

func (i *initProcess) up(asked bringUp) (State, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var err error
	if i.events, err = i.rpc.open(); err != nil {
		return State{}, err
	}
	if err := send(i.events, request{Do: "events"}); err != nil {
		return State{}, err
	}
	if err := i.sandbox.adapters(asked.NICs, i.hardware); err != nil {
		return State{}, err
	}
	if asked.Net != nil {
		err = i.sandbox.setNetwork(*asked.Net)
	} else {
		err = i.sandbox.startNetwork(asked.NICs)
	}
	if err != nil {
		return State{}, err
	}
	go i.processes.reapProcesses(func(end ended) { i.sendEvent(event{Ended: &end}) })
	listener, err := net.Listen("unix", i.sandbox.socket())
	if err != nil {
		return State{}, err
	}
	go i.listen(listener)
	if err := i.sandbox.watch(i.changed); err != nil {
		return State{}, err
	}
	i.reported, err = i.sandbox.report()
	return i.reported, err
}

// setState sets the network. The kernel's reports of single steps are held back
// until all are done.
func (i *initProcess) setState(state netState) (struct{}, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return struct{}{}, i.sandbox.setNetwork(state)
}

// hardware are the adapters that the VM has.
func (i *initProcess) hardware() ([]NIC, error) {
	var nics []NIC
	_, err := i.rpc.call("hardware", toolRequest{}, &nics)
	return nics, err
}

// driver loads or removes a kernel module with all its adapters.
func (i *initProcess) driver(load bool, module string) error {
	nics, err := i.hardware()
	if err != nil {
		return err
	}
	var all []int
	for at, nic := range nics {
		if nic.driver() == module {
			all = append(all, at+1)
		}
	}
	return i.sandbox.setDriver(all, load)
}

// changed reports the state of the network if it has changed.
func (i *initProcess) changed() {
	i.mu.Lock()
	defer i.mu.Unlock()
	report, err := i.sandbox.report()
	if err != nil {
		return
	}
	if !reflect.DeepEqual(report, i.reported) {
		i.reported = report
		_ = send(i.events, event{State: &report}) // fails when the simulator is gone
	}
}

func (i *initProcess) sendEvent(event event) {
	i.mu.Lock()
	defer i.mu.Unlock()
	_ = send(i.events, event)
}

// listen serves the tools programs of the guest.
func (i *initProcess) listen(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			i.tool(conn.(*net.UnixConn))
		}()
	}
}

// toolRequest is the request of a tools program or a simulated command, and its
// caller.
type toolRequest struct {
	UID     int
	Program int64
	Words   []string
}

// tool answers an in-guest program. The simulator handles most requests;
// starting something as another user is up to the init.
func (i *initProcess) tool(conn *net.UnixConn) {
	caller, err := peer(conn)
	if err != nil {
		return
	}
	program := i.processes.programOf(int(caller.Pid))
	pass := func(do string) handler {
		return func(_ *net.UnixConn, body json.RawMessage, _ []*os.File) (any, []*os.File, error) {
			asked := toolRequest{UID: i.sandbox.uid(int(caller.Uid)), Program: program}
			if err := json.Unmarshal(body, &asked.Words); err != nil {
				return nil, nil, err
			}
			var result json.RawMessage
			_, err := i.rpc.call(do, asked, &result)
			return result, nil, err
		}
	}
	forRoot := func(do handler) handler {
		return func(conn *net.UnixConn, body json.RawMessage, files []*os.File) (any, []*os.File, error) {
			if i.sandbox.uid(int(caller.Uid)) != 0 {
				return nil, nil, os.ErrPermission
			}
			return do(conn, body, files)
		}
	}
	answer(conn, map[string]handler{
		"tools":    pass("tools"),
		"record":   pass("record"),
		"report":   pass("report"),
		"reboot":   forRoot(pass("reboot")),
		"poweroff": forRoot(pass("poweroff")),
		"hardware": jsonHandler(func([]string) ([]NIC, error) {
			nics, err := i.hardware()
			if err != nil {
				return nil, err
			}
			return i.sandbox.withInterfaceNames(nics)
		}),
		"driver": jsonHandler(func(words []string) (struct{}, error) {
			if i.sandbox.uid(int(caller.Uid)) != 0 || len(words) != 2 {
				return struct{}{}, os.ErrPermission
			}
			return struct{}{}, i.driver(words[0] == "load", words[1])
		}),
		"hostname": jsonHandler(func(words []string) (struct{}, error) {
			if i.sandbox.uid(int(caller.Uid)) != 0 || len(words) != 1 {
				return struct{}{}, os.ErrPermission
			}
			return struct{}{}, i.sandbox.setHostname(words[0])
		}),
		"sudo": func(conn *net.UnixConn, body json.RawMessage, files []*os.File) (any, []*os.File, error) {
			var asked sudoRequest
			if err := json.Unmarshal(body, &asked); err != nil {
				return nil, nil, err
			}
			code, err := i.sudo(conn, caller, program, asked, files)
			return code, nil, err
		},
	})
}

// peer returns the process, as numbered in this namespace, at the other end of
// a connection.
func peer(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var who *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		who, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if controlErr != nil {
		err = controlErr
	}
	return who, err
}
