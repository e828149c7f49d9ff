// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Copying a directory tree, and making one tree equal to another without
// giving its files new inodes.

package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// inode identifies a file independently of its path.
type inode struct{ device, number uint64 }

// treeCopy is a copy in progress; links identifies hard links.
type treeCopy struct{ links map[inode]string }

// copyTree makes to, which must not exist, equal to from: contents, modes,
// owners, times, hard links, sockets and fifos. Files that disappear during the
// copy are left out.
func copyTree(from, to string) error {
	return (&treeCopy{links: map[inode]string{}}).entry(from, to)
}

func (c *treeCopy) entry(from, to string) error {
	var stat unix.Stat_t
	if err := unix.Lstat(from, &stat); err != nil {
		return &os.PathError{Op: "lstat", Path: from, Err: err}
	}
	if stat.Nlink > 1 && stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		id := inode{uint64(stat.Dev), stat.Ino}
		if first, ok := c.links[id]; ok {
			return os.Link(first, to)
		}
		c.links[id] = to
	}
	var err error
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = c.directory(from, to)
	case unix.S_IFREG:
		err = copyFile(from, to)
	case unix.S_IFLNK:
		err = copyLink(from, to)
	default:
		err = unix.Mknod(to, stat.Mode&unix.S_IFMT|0o600, int(stat.Rdev))
	}
	if err != nil {
		return err
	}
	return setAttributes(to, &stat)
}

func (c *treeCopy) directory(from, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	names, err := names(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := c.entry(filepath.Join(from, name), filepath.Join(to, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func names(directory string) ([]string, error) {
	opened, err := os.Open(directory)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	return opened.Readdirnames(-1)
}

func copyFile(from, to string) error {
	source, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if unix.IoctlFileClone(int(target.Fd()), int(source.Fd())) != nil { // not on every file system
		_, err = io.Copy(target, source)
	}
	return errors.Join(err, target.Close())
}

func copyLink(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	return os.Symlink(target, to)
}

// setAttributes sets owner, mode and times in an order in which none undoes
// another.
func setAttributes(path string, want *unix.Stat_t) error {
	if err := os.Lchown(path, int(want.Uid), int(want.Gid)); err != nil {
		return err
	}
	if want.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(path, want.Mode&0o7777); err != nil {
			return &os.PathError{Op: "chmod", Path: path, Err: err}
		}
	}
	times := []unix.Timespec{want.Atim, want.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: path, Err: err}
	}
	return nil
}

// restoreTree makes have equal to want in place: a file of the right kind keeps
// its inode, so that programs can continue with their open files.
func restoreTree(want, have string) error {
	return (&treeCopy{links: map[inode]string{}}).restore(want, have)
}

func (c *treeCopy) restore(want, have string) error {
	var wanted, found unix.Stat_t
	if err := unix.Lstat(want, &wanted); err != nil {
		return &os.PathError{Op: "lstat", Path: want, Err: err}
	}
	err := unix.Lstat(have, &found)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return &os.PathError{Op: "lstat", Path: have, Err: err}
	}
	if err != nil || wanted.Mode&unix.S_IFMT != found.Mode&unix.S_IFMT {
		return c.replace(want, have)
	}
	switch wanted.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = c.restoreDirectory(want, have)
	case unix.S_IFREG:
		err = restoreFile(want, have)
		if errors.Is(err, unix.ETXTBSY) { // a program that runs: leave it its inode
			return c.replace(want, have)
		}
	case unix.S_IFLNK:
		if target, _ := os.Readlink(want); target != linkTarget(have) {
			return c.replace(want, have)
		}
	}
	if err != nil {
		return err
	}
	return setAttributes(have, &wanted)
}

func linkTarget(path string) string {
	target, _ := os.Readlink(path)
	return target
}

func (c *treeCopy) replace(want, have string) error {
	if err := os.RemoveAll(have); err != nil {
		return err
	}
	return c.entry(want, have)
}

func (c *treeCopy) restoreDirectory(want, have string) error {
	wanted, err := names(want)
	if err != nil {
		return err
	}
	found, err := names(have)
	if err != nil {
		return err
	}
	keep := make(map[string]bool, len(wanted))
	for _, name := range wanted {
		keep[name] = true
	}
	for _, name := range found {
		if !keep[name] {
			if err := os.RemoveAll(filepath.Join(have, name)); err != nil {
				return err
			}
		}
	}
	for _, name := range wanted {
		if err := c.restore(filepath.Join(want, name), filepath.Join(have, name)); err != nil {
			return err
		}
	}
	return nil
}

// restoreFile rewrites have if its content differs. Equal times prove nothing,
// because scripts set them.
func restoreFile(want, have string) error {
	equal, err := sameContent(want, have)
	if err != nil || equal {
		return err
	}
	source, err := os.Open(want)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(have, os.O_WRONLY|os.O_TRUNC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

func sameContent(one, other string) (bool, error) {
	a, err := os.Open(one)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := os.OpenFile(other, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false, err
	}
	defer b.Close()
	first, second := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, first)
		m, errB := io.ReadFull(b, second)
		if !bytes.Equal(first[:n], second[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			ended := func(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }
			if ended(errA) && ended(errB) {
				return true, nil
			}
			return false, fmt.Errorf("comparing %s and %s: %w", one, other, errors.Join(errA, errB))
		}
	}
}

// writeFile writes a file of the given mode whatever the umask.
func writeFile(path, content string, mode os.FileMode) error {
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// makeDirectory makes a directory of the given mode whatever the umask.
func makeDirectory(path string, mode os.FileMode) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func timeOf(t unix.Timespec) time.Time { return time.Unix(t.Unix()) }
