// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The processes of a guest, as seen by its init.

package guest

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startRequest requests a program. A file for its output may be attached.
type startRequest struct{ Program Program }

// listed is a process found in /proc.
type listed struct {
	PID               int64
	Name, CommandLine string
	Owner             string
	Started           time.Time
}

type terminateRequest struct {
	PID  int64
	User string
}

// child is a process that the init started.
type child struct {
	program int64 // the top-level program it belongs to
	end     chan int
}

type processTable struct {
	mu       *sync.Mutex // held from fork until the child is in the table
	children map[int]child
	wrap     func(*command) // what every program of this guest needs
}

func newProcessTable(wrap func(*command)) processTable {
	return processTable{mu: &sync.Mutex{}, children: map[int]child{}, wrap: wrap}
}

// command describes a process to start.
type command struct {
	path      string
	arguments []string
	directory string
	env       []string
	user      user
	files     []*os.File // stdin, stdout, stderr
	program   int64      // 0: it is a top-level program itself
}

// start starts a top-level program as Tools do on Linux: its path and arguments
// are a command line for the shell.
func (i *initProcess) start(_ *net.UnixConn, body json.RawMessage, files []*os.File) (any, []*os.File, error) {
	var asked startRequest
	if err := json.Unmarshal(body, &asked); err != nil {
		return nil, nil, err
	}
	program := asked.Program
	account, err := i.sandbox.user(program.User)
	if err != nil {
		return nil, nil, err
	}
	if program.Directory == "" {
		program.Directory = account.home
	}
	directory := i.sandbox.path(program.Directory)
	path := i.sandbox.path(pathOfProgram(program.Path))
	if err := account.as(func() error { return startable(path, directory) }); err != nil {
		return nil, nil, err
	}
	if program.Env == nil {
		program.Env = account.environment()
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	output := null
	if len(files) == 1 {
		output = files[0]
	}
	shell := "/bin/bash"
	if !exists(shell) {
		shell = "/bin/sh"
	}
	pid, _, err := i.processes.start(command{
		path: shell, arguments: []string{shell, "-c", commandLine(path, program.Arguments)},
		directory: directory, env: program.Env, user: account, files: []*os.File{null, output, output},
	})
	return int64(pid), nil, err
}

// pathOfProgram returns where a program is. In a guest that claims to be
// Windows, a stand-in is in root's home, and its name is the whole path.
func pathOfProgram(path string) string {
	if len(path) > 2 && path[1:3] == `:\` {
		return "/root/" + path
	}
	return path
}

// commandLine returns the command line that Tools pass to the shell.
func commandLine(path, arguments string) string {
	line := `"` + path + `"`
	if arguments != "" {
		line += " " + arguments
	}
	return line
}

// startable returns the error with which starting a program would fail.
func startable(path, directory string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := unix.Access(path, unix.X_OK); err != nil || info.IsDir() {
		return &os.PathError{Op: "exec", Path: path, Err: os.ErrPermission}
	}
	if info, err = os.Stat(directory); err != nil {
		return err
	}
	if !info.IsDir() {
		return &os.PathError{Op: "chdir", Path: directory, Err: unix.ENOTDIR}
	}
	return nil
}

// start starts a process. The channel gets its exit code.
func (t processTable) start(c command) (int, <-chan int, error) {
	t.wrap(&c)
	attributes := &syscall.ProcAttr{Dir: c.directory, Env: c.env, Sys: &syscall.SysProcAttr{Setsid: true}}
	for _, file := range c.files {
		attributes.Files = append(attributes.Files, file.Fd())
	}
	if c.user.uid != os.Getuid() {
		if singleUser() {
			return 0, nil, ErrOnlyRoot
		}
		credential := &syscall.Credential{Uid: uint32(c.user.uid), Gid: uint32(c.user.gid)}
		for _, group := range c.user.groups {
			credential.Groups = append(credential.Groups, uint32(group))
		}
		attributes.Sys.Credential = credential
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	pid, err := syscall.ForkExec(c.path, c.arguments, attributes)
	if err != nil {
		return 0, nil, &os.PathError{Op: "exec", Path: c.path, Err: err}
	}
	started := child{program: c.program, end: make(chan int, 1)}
	if started.program == 0 {
		started.program = int64(pid)
	}
	t.children[pid] = started
	return pid, started.end, nil
}

// reapProcesses collects every process that ends, including those that the init
// inherited.
func (t processTable) reapProcesses(report func(ended)) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	for range signals {
		for {
			var status unix.WaitStatus
			pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
			if err == unix.EINTR {
				continue
			}
			if err != nil || pid <= 0 {
				break
			}
			t.mu.Lock()
			gone, ours := t.children[pid]
			delete(t.children, pid)
			t.mu.Unlock()
			if !ours {
				continue
			}
			code := exitCode(status)
			gone.end <- code
			if gone.program == int64(pid) {
				report(ended{PID: int64(pid), ExitCode: code, At: time.Now()})
			}
		}
	}
}

// exitCode returns the exit code that a shell reports for a process.
func exitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// programOf finds the top-level program that a process belongs to: by its
// ancestors or, if its parent has ended, by its session. 0 means none.
func (t processTable) programOf(pid int) int64 {
	session := 0
	for pid > 1 {
		t.mu.Lock()
		found, ok := t.children[pid]
		t.mu.Unlock()
		if ok {
			return found.program
		}
		stat, err := readStat(pid)
		if err != nil {
			break
		}
		pid, session = stat.parent, stat.session
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.children[session].program
}

// stat contains the used fields of /proc/PID/stat.
type stat struct {
	name            string
	state           byte
	parent, session int
	start           time.Duration // since the host's boot
}

// parseStat reads the text of a stat file. The name may contain anything.
func parseStat(text string) (stat, error) {
	open, close := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || close < open {
		return stat{}, fmt.Errorf("not a stat line: %q", text)
	}
	field := strings.Fields(text[close+1:])
	if len(field) < 20 {
		return stat{}, fmt.Errorf("not a stat line: %q", text)
	}
	read := stat{name: text[open+1 : close], state: field[0][0]}
	read.parent, _ = strconv.Atoi(field[1])
	read.session, _ = strconv.Atoi(field[3])
	ticks, _ := strconv.ParseInt(field[19], 10, 64)
	read.start = time.Duration(ticks) * (time.Second / 100) // USER_HZ is 100
	return read, nil
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return stat{}, err
	}
	return parseStat(string(text))
}

// processIDs are all processes that this /proc shows.
func processIDs() ([]int, error) {
	entries, err := names("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range entries {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func (t processTable) list() ([]listed, error) {
	pids, err := processIDs()
	if err != nil {
		return nil, err
	}
	var since unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &since); err != nil {
		return nil, err
	}
	booted := time.Now().Add(-time.Duration(since.Nano()))
	var all []listed
	for _, pid := range pids {
		stat, err := readStat(pid)
		if err != nil || stat.state == 'Z' {
			continue
		}
		process := listed{PID: int64(pid), Name: stat.name, Started: booted.Add(stat.start)}
		directory := filepath.Join("/proc", strconv.Itoa(pid))
		if text, err := os.ReadFile(filepath.Join(directory, "cmdline")); err == nil {
			process.CommandLine = strings.TrimSpace(strings.ReplaceAll(string(text), "\x00", " "))
		}
		var status unix.Stat_t
		if unix.Stat(directory, &status) == nil {
			process.Owner = strconv.Itoa(int(status.Uid))
			if owner, err := lookUp(process.Owner); err == nil {
				process.Owner = owner.name
			}
		}
		all = append(all, process)
	}
	return all, nil
}

// terminateGrace is how long a process may take to end by itself.
const terminateGrace = 5 * time.Second

// terminate asks a process to end, with a user's rights, and kills it if it
// does not.
func (i *initProcess) terminate(asked terminateRequest) error {
	account, err := i.sandbox.user(asked.User)
	if err != nil {
		return err
	}
	if _, isSudo := i.sudos.Load(asked.PID); asked.PID <= 1 || isSudo && account.uid != os.Getuid() {
		return &os.PathError{Op: "kill", Path: strconv.FormatInt(asked.PID, 10), Err: os.ErrPermission}
	}
	pidfd, err := unix.PidfdOpen(int(asked.PID), 0)
	if err == unix.ESRCH || err == unix.EINVAL {
		err = os.ErrNotExist
	}
	if err != nil {
		return &os.PathError{Op: "kill", Path: strconv.FormatInt(asked.PID, 10), Err: err}
	}
	signal := func(signal unix.Signal) error {
		return account.as(func() error { return unix.PidfdSendSignal(pidfd, signal, nil, 0) })
	}
	if err := signal(unix.SIGTERM); err != nil {
		unix.Close(pidfd)
		if err == unix.ESRCH {
			err = os.ErrNotExist
		}
		return &os.PathError{Op: "kill", Path: strconv.FormatInt(asked.PID, 10), Err: err}
	}
	go func() {
		defer unix.Close(pidfd)
		gone := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		if n, err := unix.Poll(gone, int(terminateGrace.Milliseconds())); n == 0 && err == nil {
			_ = signal(unix.SIGKILL)
		}
	}()
	return nil
}

// kill kills a program and all its processes.
func (t processTable) kill(program int) error {
	pids, err := processIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if isDescendant(pid) && t.programOf(pid) == int64(program) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return nil
}
