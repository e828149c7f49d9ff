// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The contents of a machine's disk. A disk contains only what guests may write;
// the programs come from the host's /usr. New disks are copies of a template
// that is created once, and small enough to be copied for every machine and
// every fork.

package guest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A part is a directory of the disk and its path in the guest.
type part struct {
	name, path string
	mode       os.FileMode
	volatile   bool // empty again after a power-off
}

var parts = []part{
	{name: "etc", path: "etc", mode: 0o755},
	{name: "var", path: "var", mode: 0o755},
	{name: "root", path: "root", mode: 0o700},
	{name: "home", path: "home", mode: 0o755},
	{name: "run", path: "run", mode: 0o755, volatile: true},
	{name: "tmp", path: "tmp", mode: 0o777 | os.ModeSticky, volatile: true},
	{name: "shm", path: "dev/shm", mode: 0o777 | os.ModeSticky, volatile: true},
}

// hostRoot is the guest's path of the few files of the host outside /usr.
const hostRoot = "/.host"

// fromHost are directories of the host's /etc that guests only read. They are
// links, not copies, because they contain hundreds of small files.
var fromHost = []string{"alternatives", "ssl/certs", "pki/ca-trust/extracted", "pki/tls/certs"}

// copiedFromHost are the files of the host's /etc that programs require.
var copiedFromHost = []string{
	"ld.so.cache", "ld.so.conf", "ld.so.conf.d", "os-release", "debian_version", "redhat-release", "lsb-release",
	"localtime", "timezone", "services", "protocols", "shells", "login.defs", "host.conf", "inputrc", "ssl/openssl.cnf",
}

// emptyDirectories are expected by scripts that configure a guest.
var emptyDirectories = []string{
	"etc/network/interfaces.d", "etc/systemd/network", "etc/systemd/system", "etc/sysconfig/network-scripts", "etc/netplan",
	"etc/default", "etc/udev/rules.d", "etc/sudoers.d", "etc/ssh", "etc/cron.d", "etc/profile.d", "etc/modprobe.d", "etc/dhcp", "etc/init.d",
	"var/cache", "var/lib/dhcp", "var/lib/misc", "var/log", "var/spool", "var/mail", "var/opt", "var/empty",
}

// initScripts are the scripts of /etc/init.d that public scripts call.
var initScripts = []string{"networking", "network"}

// firstAccount is the uid of the first account that is not root.
const firstAccount = 1000

// makeTemplate fills an empty directory with the disk of a new machine.
func makeTemplate(disk string, accounts []Account, numbered bool) error {
	for _, part := range parts {
		if err := makeDirectory(filepath.Join(disk, part.name), part.mode); err != nil {
			return err
		}
	}
	for _, directory := range emptyDirectories {
		if err := makeDirectory(filepath.Join(disk, directory), 0o755); err != nil {
			return err
		}
	}
	if err := makeDirectory(filepath.Join(disk, "var/tmp"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	for path, content := range ownFiles(accounts) {
		if err := writeFile(filepath.Join(disk, path), content, 0o644); err != nil {
			return err
		}
	}
	for _, name := range initScripts {
		if err := writeFile(filepath.Join(disk, "etc/init.d", name), "#!/bin/sh\nexec service "+name+" \"$@\"\n", 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(disk, "etc/sudoers"), 0o440); err != nil {
		return err
	}
	links := map[string]string{"etc/mtab": "/proc/self/mounts", "var/run": "/run", "var/lock": "/run/lock"}
	for _, directory := range fromHost {
		if info, err := os.Stat(filepath.Join("/etc", directory)); err == nil && info.IsDir() {
			links[filepath.Join("etc", directory)] = filepath.Join(hostRoot, "etc", directory)
		}
	}
	for path, target := range links {
		if err := makeDirectory(filepath.Dir(filepath.Join(disk, path)), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, filepath.Join(disk, path)); err != nil {
			return err
		}
	}
	for _, name := range copiedFromHost {
		if err := copyFromHost(filepath.Join("/etc", name), filepath.Join(disk, "etc", name)); err != nil {
			return err
		}
	}
	return makeHomes(disk, accounts, numbered)
}

// copyFromHost copies those of the host's files that exist and may be read.
// Links remain links if they lead into /usr.
func copyFromHost(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return nil
	}
	if target := linkTarget(from); target != "" && strings.HasPrefix(target, "/usr/") {
		return os.Symlink(target, to)
	}
	if info, err = os.Stat(from); err != nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if info.IsDir() {
		entries, err := os.ReadDir(from)
		if err != nil {
			return nil
		}
		for _, entry := range entries {
			if err := copyFromHost(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
				return err
			}
		}
		return nil
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return nil
	}
	return writeFile(to, string(content), 0o644)
}

// ownFiles are the files of /etc that are ours.
func ownFiles(accounts []Account) map[string]string {
	passwd := []string{
		"root:x:0:0:root:/root:/bin/bash",
		"daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin",
		"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
	}
	group := []string{"root:x:0:", "daemon:x:1:", "adm:x:4:", "tty:x:5:", "disk:x:6:", "nogroup:x:65534:"}
	var sudoers []string
	for i, account := range users(accounts) {
		id := firstAccount + i
		passwd = append(passwd, fmt.Sprintf("%s:x:%d:%d::/home/%s:/bin/bash", account.Name, id, id, account.Name))
		group = append(group, fmt.Sprintf("%s:x:%d:", account.Name, id))
		if account.Sudo {
			sudoers = append(sudoers, account.Name)
		}
	}
	group = append(group, sudoGroup+":x:27:"+strings.Join(sudoers, ","))
	return map[string]string{
		"etc/sudoers": "Defaults env_reset\nroot ALL=(ALL:ALL) ALL\n%" + sudoGroup + " ALL=(ALL:ALL) NOPASSWD: ALL\n" +
			"%wheel ALL=(ALL:ALL) NOPASSWD: ALL\n@includedir /etc/sudoers.d\n",
		"etc/passwd":             strings.Join(passwd, "\n") + "\n",
		"etc/group":              strings.Join(group, "\n") + "\n",
		"etc/nsswitch.conf":      "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nservices: files\nprotocols: files\n",
		"etc/resolv.conf":        "",
		"etc/fstab":              "",
		"etc/environment":        "",
		"etc/motd":               "",
		"etc/network/interfaces": "auto lo\niface lo inet loopback\n",
		"etc/profile": "PATH=" + defaultPath + "\nexport PATH\n" +
			"for script in /etc/profile.d/*.sh; do\n  [ -r \"$script\" ] && . \"$script\"\ndone\nunset script\n",
	}
}

// users are the accounts besides root.
func users(accounts []Account) []Account {
	var others []Account
	for _, account := range accounts {
		if account.Name != "root" {
			others = append(others, account)
		}
	}
	return others
}

// makeHomes creates a home directory for each account; numbered means that
// guests have more user IDs than root's, so each home can have its owner.
func makeHomes(disk string, accounts []Account, numbered bool) error {
	for i, account := range users(accounts) {
		home := filepath.Join(disk, "home", account.Name)
		if err := makeDirectory(home, 0o700); err != nil {
			return err
		}
		if numbered {
			if err := os.Chown(home, firstAccount+i, firstAccount+i); err != nil {
				return err
			}
		}
	}
	return nil
}

// personalize sets what is different on each machine's disk.
func personalize(disk, hostname string) error {
	id := make([]byte, 16)
	rand.Read(id)
	for name, content := range map[string]string{
		"etc/hostname":   hostname + "\n",
		"etc/hosts":      "127.0.0.1\tlocalhost\n127.0.1.1\t" + hostname + "\n::1\tlocalhost ip6-localhost ip6-loopback\n",
		"etc/machine-id": hex.EncodeToString(id) + "\n",
	} {
		if err := writeFile(filepath.Join(disk, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// emptyVolatile does to a disk what a power cycle does.
func emptyVolatile(disk string) error {
	for _, part := range parts {
		if !part.volatile {
			continue
		}
		directory := filepath.Join(disk, part.name)
		if err := os.RemoveAll(directory); err != nil {
			return err
		}
		if err := makeDirectory(directory, part.mode); err != nil {
			return err
		}
	}
	return makeDirectory(filepath.Join(disk, "run/lock"), 0o777|os.ModeSticky)
}

// exists reports whether a path exists.
func exists(path string) bool {
	err := unix.Access(path, unix.F_OK)
	return err == nil || !errors.Is(err, os.ErrNotExist)
}
