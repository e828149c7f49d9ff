// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// What the host allows: the user IDs that the guests can have, and the setting
// that prevents guests.

package guest

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// idRange maps the guests' IDs 0, 1, … to IDs of the host.
type idRange struct{ inside, size int }

const (
	wantedIDs = 65536   // with nobody, 65534
	leastIDs  = 2000    // system accounts and a thousand others
	firstID   = 1 << 30 // far from the accounts of any host
)

// hostIDs chooses IDs that nobody uses on the host, for a simulator that runs
// as root.
func hostIDs() (idRange, error) {
	uids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return idRange{}, err
	}
	gids, err := os.ReadFile("/proc/self/gid_map")
	if err != nil {
		return idRange{}, err
	}
	chosen, err := chooseIDs(string(uids))
	if err != nil {
		return idRange{}, err
	}
	if other, err := chooseIDs(string(gids)); err != nil || other != chosen {
		return idRange{}, errors.New("this container maps groups otherwise than users (/proc/self/gid_map)")
	}
	return chosen, nil
}

// chooseIDs picks the last of the IDs that a uid_map contains; if there are
// plenty, those from firstID on.
func chooseIDs(idMap string) (idRange, error) {
	best := idRange{}
	for _, line := range strings.Split(strings.TrimSpace(idMap), "\n") {
		field := strings.Fields(line)
		if len(field) != 3 {
			continue
		}
		first, err := strconv.Atoi(field[0])
		if err != nil {
			continue
		}
		count, err := strconv.Atoi(field[2])
		if err != nil {
			continue
		}
		if first <= firstID && first+count >= firstID+wantedIDs {
			return idRange{firstID, wantedIDs}, nil
		}
		// Half of a small map at most: the lower half has the host's accounts.
		size := min(wantedIDs, count/2)
		if size > best.size {
			best = idRange{first + count - size, size}
		}
	}
	if best.size < leastIDs {
		return idRange{}, fmt.Errorf(
			"this container has too few user IDs for guests (/proc/self/uid_map: %q): run the simulator as an unprivileged user, or allow more",
			strings.Join(strings.Fields(idMap), " "))
	}
	return best, nil
}

// settings are the switches of kernels and distributions that forbid
// unprivileged users, or everybody, to create namespaces.
var settings = []struct{ path, forbids string }{
	{"/proc/sys/kernel/unprivileged_userns_clone", "0"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"},
	{"/proc/sys/user/max_user_namespaces", "0"},
	{"/proc/sys/user/max_mnt_namespaces", "0"},
	{"/proc/sys/user/max_pid_namespaces", "0"},
	{"/proc/sys/user/max_net_namespaces", "0"},
	{"/proc/sys/user/max_uts_namespaces", "0"},
	{"/proc/sys/user/max_ipc_namespaces", "0"},
}

// explainRefusal adds the host's reason to an error.
func explainRefusal(err error) error {
	refused := false
	for _, errno := range []error{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS} {
		refused = refused || errors.Is(err, errno)
	}
	if !refused {
		return err
	}
	return fmt.Errorf("guests of kind %q cannot run here: %w; %s", Namespaces, err, blockingSetting(readSetting))
}

func readSetting(path string) string {
	text, _ := os.ReadFile(path)
	return strings.TrimSpace(string(text))
}

// blockingSetting returns the setting that prevents namespaces, if it can be
// determined.
func blockingSetting(read func(path string) string) string {
	for _, setting := range settings {
		if read(setting.path) == setting.forbids {
			name := strings.ReplaceAll(strings.TrimPrefix(setting.path, "/proc/sys/"), "/", ".")
			return fmt.Sprintf("the sysctl %s is %s", name, setting.forbids)
		}
	}
	return "user namespaces, or mounts in them, are forbidden: in a container by its seccomp profile, its masked /proc, or a missing " +
		"CAP_SYS_ADMIN (docker run --privileged, or --security-opt seccomp=unconfined --security-opt systempaths=unconfined)"
}
