// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// sudo in a guest. The host's sudo would need the host's root; this one has the
// init, which is the guest's root, start the command with the caller's stdin,
// stdout and stderr. Like a real sudo it forwards a request to end, waits for
// the command's end, and can be ended only by root (through Tools; to the
// kernel it is the caller's process).

package guest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sudoRequest is the request of the sudo program to the init.
type sudoRequest struct {
	User      string
	Arguments []string // the command; empty is the user's shell
	Login     bool     // in the home of the user
	Keep      bool     // the caller's environment
	Set       []string // NAME=value before the command
	Env       []string // of the caller
	Directory string   // of the caller
}

// errUsage asks for sudo's usage message.
var errUsage = errors.New("usage: sudo [-AbEHknPSs] [-u user] [-p prompt] [VAR=value] [-i | -s] [command [argument ...]]")

// parseSudo parses sudo's command line. Options without effect here are
// accepted.
func parseSudo(words []string) (asked sudoRequest, validate bool, err error) {
	asked.User = "root"
	shell := false
	words = words[1:]
	take := func(inline string) string { // an option's argument
		if inline != "" || len(words) == 0 {
			return inline
		}
		next := words[0]
		words = words[1:]
		return next
	}
options:
	for len(words) > 0 && strings.HasPrefix(words[0], "-") && words[0] != "-" {
		word := words[0]
		words = words[1:]
		name, value, _ := strings.Cut(word, "=")
		switch {
		case word == "--":
			break options
		case name == "--user":
			asked.User = take(value)
		case name == "--prompt", name == "--group", name == "--host", name == "--chdir":
			take(value)
		case name == "--login":
			asked.Login = true
		case name == "--shell":
			shell = true
		case name == "--preserve-env":
			asked.Keep = true
		case name == "--validate":
			validate = true
		case slices.Contains([]string{"--non-interactive", "--stdin", "--set-home", "--reset-timestamp", "--background"}, name):
		case strings.HasPrefix(word, "--"):
			return asked, false, errUsage
		default:
			letters := word[1:]
		letters:
			for i, letter := range letters {
				rest := letters[i+1:]
				switch letter {
				case 'u':
					asked.User = take(rest)
					break letters
				case 'p', 'g', 'h', 'C', 'D', 'T':
					take(rest)
					break letters
				case 'i':
					asked.Login = true
				case 's':
					shell = true
				case 'E':
					asked.Keep = true
				case 'v':
					validate = true
				case 'n', 'S', 'H', 'k', 'b', 'A', 'P':
				default:
					return asked, false, errUsage
				}
			}
		}
	}
	for len(words) > 0 && isAssignment(words[0]) {
		asked.Set, words = append(asked.Set, words[0]), words[1:]
	}
	asked.Arguments = words
	if (shell || asked.Login) && len(words) > 0 {
		asked.Arguments = []string{"", "-c", strings.Join(quoted(words), " ")} // "" is the user's shell
	}
	if len(words) == 0 && !shell && !asked.Login && !validate {
		return asked, false, errUsage
	}
	return asked, validate, nil
}

func isAssignment(word string) bool {
	name, _, found := strings.Cut(word, "=")
	return found && name != "" && !strings.ContainsAny(name, "/ -.")
}

// quoted protects words from a second shell, as sudo -i and -s do.
func quoted(words []string) []string {
	safe := make([]string, len(words))
	for i, word := range words {
		safe[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return safe
}

// sudo is the in-guest program.
func sudo(words []string) int {
	if len(words) == 2 && (words[1] == "-V" || words[1] == "--version") {
		fmt.Println("Sudo version 1.9.13p3")
		return 0
	}
	asked, validate, err := parseSudo(words)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if validate {
		asked.Arguments = []string{"true"}
	}
	asked.Env = os.Environ()
	asked.Directory, _ = os.Getwd()
	conn, err := dialInit()
	if err != nil {
		return fail("sudo", err)
	}
	defer conn.Close()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	go func() {
		<-signals
		_ = conn.CloseWrite() // which the init understands
	}()
	var code int
	if _, err := exchange(conn, "sudo", asked, &code, os.Stdin, os.Stdout, os.Stderr); err != nil {
		return fail("sudo", err)
	}
	return code
}

// sudo is the init's side: it returns the command's exit status.
func (i *initProcess) sudo(conn *net.UnixConn, by *unix.Ucred, program int64, asked sudoRequest, files []*os.File) (int, error) {
	if len(files) != 3 {
		return 1, errors.New("stdin, stdout and stderr are needed")
	}
	caller, err := i.sandbox.user(strconv.Itoa(int(by.Uid)))
	if err != nil {
		return 1, err
	}
	group, err := os.ReadFile(i.sandbox.path("/etc/group"))
	if err != nil {
		return 1, err
	}
	target, err := i.sandbox.user(strings.TrimPrefix(asked.User, "#"))
	if err != nil {
		return 1, fmt.Errorf("unknown user: %s", asked.User)
	}
	started := command{
		arguments: asked.Arguments, directory: asked.Directory, env: sudoEnvironment(caller, target, asked),
		user: target, files: files, program: program,
	}
	if len(started.arguments) == 0 {
		started.arguments = []string{target.shell}
	}
	if started.arguments[0] == "" {
		started.arguments[0] = target.shell
	}
	if asked.Login {
		started.directory = target.home
	}
	err = target.as(func() (err error) {
		if unix.Access(started.directory, unix.X_OK) != nil {
			started.directory = "/" // the target may not be where the caller is
		}
		started.path, err = findProgram(started.arguments[0], asked.Directory)
		return err
	})
	call := sudoCall{caller: caller.name, target: target.name, groups: groupsOf(caller, string(group)), path: started.path}
	if i.sandbox.uid(int(by.Uid)) != 0 && !call.allows(readSudoers(i.sandbox.path, "/etc/sudoers")) {
		return 1, errors.New("a password is required")
	}
	if err != nil {
		return 1, fmt.Errorf("%s: command not found", started.arguments[0])
	}
	pid, end, err := i.processes.start(started)
	if err != nil {
		return 1, err
	}
	i.sudos.Store(int64(by.Pid), true)
	defer i.sudos.Delete(int64(by.Pid))
	gone := make(chan struct{})
	go func() { // the program sends nothing more: a read ends with it, or with a request to end
		one := make([]byte, 1)
		_, _ = conn.Read(one)
		close(gone)
	}()
	select {
	case code := <-end:
		return code, nil
	case <-gone:
		_ = unix.Kill(pid, unix.SIGTERM)
		return <-end, nil
	}
}

// sudoEnvironment returns the environment of the command, according to sudo's
// defaults.
func sudoEnvironment(caller, target user, asked sudoRequest) []string {
	env := target.environment()
	if asked.Keep {
		env = append(slices.Clone(asked.Env), env...)
	} else {
		for _, pair := range asked.Env {
			if name, _, _ := strings.Cut(pair, "="); name == "TERM" || name == "LANG" || strings.HasPrefix(name, "LC_") {
				env = append(env, pair)
			}
		}
	}
	env = append(env, "SUDO_USER="+caller.name, fmt.Sprintf("SUDO_UID=%d", caller.uid), fmt.Sprintf("SUDO_GID=%d", caller.gid),
		"SUDO_COMMAND="+strings.Join(asked.Arguments, " "))
	return lastOfEach(append(env, asked.Set...))
}

// lastOfEach keeps the last value of every variable.
func lastOfEach(env []string) []string {
	at := map[string]int{}
	var unique []string
	for _, pair := range env {
		name, _, _ := strings.Cut(pair, "=")
		if i, ok := at[name]; ok {
			unique[i] = pair
			continue
		}
		at[name] = len(unique)
		unique = append(unique, pair)
	}
	return unique
}

// findProgram looks a command up in the path that sudo trusts.
func findProgram(name, directory string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(directory, name)
		}
		return name, unix.Access(name, unix.X_OK)
	}
	for _, directory := range filepath.SplitList(defaultPath) {
		path := filepath.Join(directory, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", os.ErrNotExist
}
