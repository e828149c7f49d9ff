// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The programs of VMware Tools in a guest.

package guest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// program is an in-guest program: it receives argv and returns its exit status.
type program func(words []string) int

var toolsPrograms = map[string]program{
	"vmtoolsd":           vmtoolsd,
	"vmware-rpctool":     rpctool,
	"vmware-toolbox-cmd": toolbox,
}

// toolsVersion is the version of a release of open-vm-tools.
const toolsVersion = "12.3.5.46049 (build-22544099)"

// socketVariable contains the address of the init in guests that share the
// host's network namespace.
const socketVariable = "VMFORKSIM_SOCKET"

// onHostNetwork reports whether this guest has no network of its own.
func onHostNetwork() bool { return os.Getenv(socketVariable) != "" }

// dialInit connects an in-guest program with its init.
func dialInit() (*net.UnixConn, error) {
	address := toolsSocket
	if elsewhere := os.Getenv(socketVariable); elsewhere != "" {
		address = elsewhere
	}
	conn, err := net.Dial("unix", address)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// ask puts a request to the init.
func ask(do string, words []string, out any) error {
	conn, err := dialInit()
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = exchange(conn, do, words, out)
	return err
}

// backdoor sends a tools command and prints the answer, as vmtoolsd --cmd and
// vmware-rpctool do.
func backdoor(command string) int {
	var answer Answer
	if err := ask("tools", []string{command}, &answer); err != nil {
		fmt.Fprintln(os.Stderr, "Failed sending message to VMware.")
		return 1
	}
	if !answer.OK {
		fmt.Fprintln(os.Stderr, answer.Text)
		return 1
	}
	if _, err := fmt.Println(answer.Text); err != nil {
		return 1
	}
	return 0
}

func vmtoolsd(words []string) int {
	for i, word := range words[1:] {
		switch {
		case word == "--cmd" && i+2 < len(words):
			return backdoor(words[i+2])
		case strings.HasPrefix(word, "--cmd="):
			return backdoor(strings.TrimPrefix(word, "--cmd="))
		case word == "--version" || word == "-v":
			fmt.Println("VMware Tools daemon, version " + toolsVersion)
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, "usage: vmtoolsd --cmd COMMAND | --version")
	return 1
}

func rpctool(words []string) int {
	if len(words) < 2 {
		fmt.Fprintln(os.Stderr, "usage: vmware-rpctool COMMAND")
		return 1
	}
	return backdoor(strings.Join(words[1:], " "))
}

func toolbox(words []string) int {
	switch arguments := words[1:]; {
	case slices.Contains(arguments, "-v") || slices.Contains(arguments, "--version"):
		fmt.Println(toolsVersion)
	case slices.Equal(arguments, []string{"info", "update", "network"}):
		for _, do := range []string{"record", "report"} {
			if err := ask(do, words, nil); err != nil {
				return fail(words[0], err)
			}
		}
	case slices.Equal(arguments, []string{"stat", "hosttime"}):
		fmt.Println(time.Now().Format("02 Jan 2006 15:04:05"))
	case slices.Equal(arguments, []string{"stat", "speed"}):
		fmt.Println("2000 MHz")
	case len(arguments) == 1 && (arguments[0] == "help" || arguments[0] == "-h" || arguments[0] == "--help"):
		fmt.Println("usage: vmware-toolbox-cmd info update network | stat hosttime | stat speed | -v")
	default:
		fmt.Fprintln(os.Stderr, "vmware-toolbox-cmd: unknown command. Try 'help'.")
		return 64 // EX_USAGE, as the real one
	}
	return 0
}

// isRoot reports whether the caller is root; if not, it prints the given
// message.
func isRoot(refusal string) bool {
	if os.Geteuid() == 0 || onHostNetwork() {
		return true
	}
	fmt.Fprintln(os.Stderr, refusal)
	return false
}

// fail prints an error as programs do and returns their exit status.
func fail(name string, err error) int {
	var plain *os.PathError
	if errors.As(err, &plain) {
		err = plain.Err
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	return 1
}
