// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The file system that a guest sees. It is set up in two stages. The
// supervisor, root of an outer user namespace, mounts everything; each guest
// gets a user namespace of its own below it. The kernel then locks what the
// guest inherits: its root cannot unmount anything or make a mount writable.

package guest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Paths in the supervisor's directory.
const (
	rootDirectory     = "root"                       // where the guests' root is mounted
	programFile       = "guest"                      // this program
	shimDirectory     = "shims"                      // our in-guest programs by name
	diskDirectory     = "disks"                      // all that follows
	templateDirectory = diskDirectory + "/template"  // the disk of a new machine
	machineDirectory  = diskDirectory + "/machines"  // per machine: disk, tools
	snapshotDirectory = diskDirectory + "/snapshots" // images of disks
)

// Paths in the guest.
const (
	programInGuest = hostRoot + "/guest"
	toolsInGuest   = hostRoot + "/tools"
)

// programDirectories may hold programs; those that are links on the host are
// links in the guest.
var programDirectories = []string{"usr/bin", "usr/sbin", "bin", "sbin"}

// libraryDirectories are next to /usr or, mostly, are links into it.
var libraryDirectories = []string{"lib", "lib32", "lib64", "libx32"}

const (
	locked   = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	writable = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
)

// mountDisks puts the disks into memory: they end with the simulator in any
// case, many are created and copied, and nothing of them can be left behind.
func mountDisks() error {
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return mount("disks", diskDirectory, "tmpfs", 0, "mode=700")
}

// mountRoot builds, in the supervisor, the root directory that all guests
// share.
func mountRoot(links bool) error {
	if err := mount("root", rootDirectory, "tmpfs", 0, "mode=755,size=16m"); err != nil {
		return err
	}
	for _, directory := range []string{
		"boot", "mnt", "media", "opt", "srv", "proc", "sys", "usr", "dev/pts", hostRoot + "/tools", "dev/shm",
		"etc", "var", "root", "home", "run", "tmp",
	} {
		if err := makeDirectory(inRoot(directory), 0o755); err != nil {
			return err
		}
	}
	if err := mountPrograms(links); err != nil {
		return err
	}
	if err := mountDevices(); err != nil {
		return err
	}
	if err := mountExtras(); err != nil {
		return err
	}
	return setMount(inRoot("/"), locked&^unix.MOUNT_ATTR_NODEV, false)
}

func inRoot(path string) string { return filepath.Join(rootDirectory, path) }

// mountPrograms mounts the host's programs, with ours over them.
func mountPrograms(links bool) error {
	if err := bind("/usr", inRoot("usr"), locked); err != nil {
		return err
	}
	for _, directory := range append(programDirectories[2:], libraryDirectories...) {
		target, info := linkTarget("/"+directory), os.FileInfo(nil)
		if target != "" {
			if err := os.Symlink(target, inRoot(directory)); err != nil {
				return err
			}
			continue
		}
		if info, _ = os.Stat("/" + directory); info == nil || !info.IsDir() {
			continue
		}
		if err := os.Mkdir(inRoot(directory), 0o755); err != nil {
			return err
		}
		if err := bind("/"+directory, inRoot(directory), locked); err != nil {
			return err
		}
	}
	for _, directory := range programDirectories {
		if info, err := os.Lstat("/" + directory); err != nil || !info.IsDir() {
			continue
		}
		if err := mountCommands("/"+directory, inRoot(directory), links); err != nil {
			return err
		}
	}
	return nil
}

// mountCommands puts our programs over a directory of the host's: by an overlay
// or, if the kernel refuses one, by links to each program.
func mountCommands(host, target string, links bool) error {
	if links {
		return linkPrograms(host, target)
	}
	err := mount("shims", target, "overlay", unix.MS_RDONLY, "lowerdir="+shimDirectory+":"+host)
	if err != nil {
		return linkPrograms(host, target)
	}
	return setMount(target, locked, false)
}

func linkPrograms(host, target string) error {
	behind := filepath.Join(hostRoot, "programs", host)
	if err := makeDirectory(inRoot(behind), 0o755); err != nil {
		return err
	}
	if err := bind(host, inRoot(behind), locked); err != nil {
		return err
	}
	if err := mount("shims", target, "tmpfs", 0, "mode=755,size=16m"); err != nil {
		return err
	}
	if err := linkAll(host, behind, target, nil); err != nil {
		return err
	}
	err := linkAll(shimDirectory, "", target, func(name string) string { return linkTarget(filepath.Join(shimDirectory, name)) })
	if err != nil {
		return err
	}
	return setMount(target, locked, false)
}

// linkAll creates a link for each entry of a directory; a later link replaces
// an earlier one.
func linkAll(list, behind, target string, to func(string) string) error {
	entries, err := names(list)
	if err != nil {
		return err
	}
	for _, name := range entries {
		aim := filepath.Join(behind, name)
		if to != nil {
			aim = to(name)
		}
		path := filepath.Join(target, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Symlink(aim, path); err != nil {
			return err
		}
	}
	return nil
}

// mountDevices shows the few devices that every program may use.
func mountDevices() error {
	for _, device := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		target := inRoot(filepath.Join("dev", device))
		if err := writeFile(target, "", 0o666); err != nil {
			return err
		}
		if err := bind("/dev/"+device, target, unix.MOUNT_ATTR_NOSUID); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
		"ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(target, inRoot(filepath.Join("dev", name))); err != nil {
			return err
		}
	}
	return nil
}

// mountExtras shows this program and the read-only parts of the host's /etc.
func mountExtras() error {
	program := inRoot(programInGuest)
	if err := writeFile(program, "", 0o755); err != nil {
		return err
	}
	if err := bind(programFile, program, locked); err != nil {
		return err
	}
	for _, directory := range fromHost {
		host := filepath.Join("/etc", directory)
		if info, err := os.Stat(host); err != nil || !info.IsDir() {
			continue
		}
		target := inRoot(filepath.Join(hostRoot, host))
		if err := makeDirectory(target, 0o755); err != nil {
			return err
		}
		if err := bind(host, target, locked); err != nil {
			return err
		}
	}
	return nil
}

// withMachineMounts runs a function in a thread whose mount namespace contains
// one machine's disk in the guests' root. Processes started there inherit it.
func withMachineMounts(machine string, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the namespace ends with the thread
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err != nil {
			err = os.NewSyscallError("unshare", err)
		}
		for _, part := range parts {
			if err == nil {
				err = bind(filepath.Join(machine, "disk", part.name), inRoot(part.path), writable)
			}
		}
		if err == nil {
			err = bind(filepath.Join(machine, "tools"), inRoot(toolsInGuest), locked)
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// enterRoot makes the guest's root the root of its init, and so of everything
// that runs in it. No file of the host can be reached from there.
func enterRoot() error {
	for _, err := range []error{
		mount("proc", inRoot("proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""),
		mount("sysfs", inRoot("sys"), "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, ""),
		mount("devpts", inRoot("dev/pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620"),
		mount(rootDirectory, rootDirectory, "", unix.MS_BIND|unix.MS_REC, ""),
	} {
		if err != nil {
			return err
		}
	}
	if err := os.Chdir(rootDirectory); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return mountBootID()
}

// bootID is on a part of the disk that a power-off and a reboot empty, and a
// fork does not.
const bootID = "/run/.boot_id"

// mountBootID shows a boot ID that is the guest's own.
func mountBootID() error {
	if !exists(bootID) {
		id := make([]byte, 16)
		_, _ = rand.Read(id) // never fails
		id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
		if err := writeFile(bootID, fmt.Sprintf("%x-%x-%x-%x-%x\n", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), 0o444); err != nil {
			return err
		}
	}
	return bind(bootID, "/proc/sys/kernel/random/boot_id", locked)
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return &os.PathError{Op: "mount " + kind, Path: target, Err: err}
	}
	return nil
}

// bind mounts a file or directory, with the mounts below it, at another path.
func bind(source, target string, attributes uint64) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return &os.LinkError{Op: "bind", Old: source, New: target, Err: err}
	}
	return setMount(target, attributes, true)
}

// setMount adds attributes to a mount; recursive includes the mounts below it.
func setMount(target string, attributes uint64, recursive bool) error {
	flags := uint(0)
	if recursive {
		flags = unix.AT_RECURSIVE
	}
	err := unix.MountSetattr(unix.AT_FDCWD, target, flags, &unix.MountAttr{Attr_set: attributes})
	if errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("guests of kind %q need Linux 5.12 or newer (mount_setattr): %w", Namespaces, err)
	}
	if err != nil {
		return &os.PathError{Op: "mount_setattr", Path: target, Err: err}
	}
	return nil
}
