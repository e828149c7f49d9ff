// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Guest users: their accounts in the guest's own /etc, and work done with their
// rights.

package guest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sudoGroup   = "sudo"
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// user is an account as the guest knows it.
type user struct {
	name, home, shell string
	uid, gid          int
	groups            []int
}

// ErrNoAccount is the error for a login that the guest does not know.
var ErrNoAccount = errors.New("no such account in the guest")

// ErrOnlyRoot is the error for a login other than root if the host allows a
// guest only one user ID.
var ErrOnlyRoot = errors.New("the simulator runs without root on its host, so its guests can have no account but root")

// findUser finds an account, by its name or number, in the texts of /etc/passwd
// and /etc/group.
func findUser(by, passwd, group string) (user, error) {
	for _, line := range strings.Split(passwd, "\n") {
		field := strings.Split(line, ":")
		if len(field) < 7 || (field[0] != by && field[2] != by) {
			continue
		}
		uid, err := strconv.Atoi(field[2])
		if err != nil {
			continue
		}
		gid, err := strconv.Atoi(field[3])
		if err != nil {
			continue
		}
		found := user{name: field[0], uid: uid, gid: gid, home: field[5], shell: field[6], groups: []int{gid}}
		for _, line := range strings.Split(group, "\n") {
			field := strings.Split(line, ":")
			if len(field) < 4 || !slices.Contains(strings.Split(field[3], ","), found.name) {
				continue
			}
			if id, err := strconv.Atoi(field[2]); err == nil && id != gid {
				found.groups = append(found.groups, id)
			}
		}
		return found, nil
	}
	return user{}, fmt.Errorf("%w: %s", ErrNoAccount, by)
}

// lookUp is findUser with the guest's own files.
func lookUp(by string) (user, error) {
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return user{}, err
	}
	group, err := os.ReadFile("/etc/group")
	if err != nil {
		return user{}, err
	}
	return findUser(by, string(passwd), string(group))
}

// groupsOf returns the names of an account's groups.
func groupsOf(of user, group string) []string {
	var names []string
	for _, line := range strings.Split(group, "\n") {
		field := strings.Split(line, ":")
		if len(field) != 4 {
			continue
		}
		if id, err := strconv.Atoi(field[2]); err == nil && id == of.gid || slices.Contains(strings.Split(field[3], ","), of.name) {
			names = append(names, field[0])
		}
	}
	return names
}

// environment is the environment of a program that is started without one.
func (u user) environment() []string {
	return []string{
		"HOME=" + u.home, "USER=" + u.name, "LOGNAME=" + u.name, "SHELL=" + u.shell, "PATH=" + defaultPath, "LANG=C.UTF-8",
	}
}

// as runs a function with a user's rights. Credentials belong to a thread, so a
// thread of its own takes them on and ends with them.
func (u user) as(do func() error) error {
	if u.uid == os.Getuid() {
		return do()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := u.become()
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// become gives the user's credentials to the calling thread only.
func (u user) become() error {
	if singleUser() {
		return ErrOnlyRoot
	}
	groups := make([]uint32, len(u.groups))
	for i, id := range u.groups {
		groups[i] = uint32(id)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	if errno == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_SETRESGID, uintptr(u.gid), uintptr(u.gid), uintptr(u.gid))
	}
	if errno == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, uintptr(u.uid), uintptr(u.uid), uintptr(u.uid))
	}
	if errno != 0 {
		return fmt.Errorf("taking on the rights of %s: %w", u.name, errno)
	}
	return nil
}

// singleUser reports whether only user ID 0 exists here.
func singleUser() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	field := strings.Fields(string(text))
	return len(field) == 3 && field[2] == "1"
}
