// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// File operations. The init runs them with the user's rights; contents are read
// or written through a file that it opened and passed on.

package guest

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// fileRequest is one operation; the used fields depend on it.
type fileRequest struct {
	Do, User       string
	Path, To       string
	Prefix, Suffix string
	Flag           bool // directory, parents, overwrite
	Mode           os.FileMode
	UID, GID       int
	Size           int64
}

// fileAnswer is the answer besides an open file.
type fileAnswer struct {
	Path string
	Size int64
	Info []FileInfo
}

// machineFiles are the files of one machine as one user sees them.
type machineFiles struct {
	machine *Machine
	user    string
}

func (f machineFiles) ask(asked fileRequest) (fileAnswer, *os.File, error) {
	asked.User = f.user
	var answer fileAnswer
	var opened []*os.File
	err := f.machine.whileRunning(func() (err error) {
		opened, err = f.machine.rpc.call("file", asked, &answer)
		return err
	})
	if err != nil || len(opened) == 0 {
		return answer, nil, err
	}
	return answer, opened[0], nil
}

func (f machineFiles) only(asked fileRequest) error {
	_, _, err := f.ask(asked)
	return err
}

func (f machineFiles) MakeTemporary(directory, prefix, suffix string, isDirectory bool) (string, error) {
	answer, _, err := f.ask(fileRequest{Do: "temporary", Path: directory, Prefix: prefix, Suffix: suffix, Flag: isDirectory})
	return answer.Path, err
}

func (f machineFiles) MakeDirectory(path string, parents bool) error {
	return f.only(fileRequest{Do: "mkdir", Path: path, Flag: parents})
}

func (f machineFiles) Remove(path string) error { return f.only(fileRequest{Do: "remove", Path: path}) }

func (f machineFiles) RemoveAll(path string) error {
	return f.only(fileRequest{Do: "removeAll", Path: path})
}

func (f machineFiles) Move(from, to string, overwrite bool) error {
	return f.only(fileRequest{Do: "move", Path: from, To: to, Flag: overwrite})
}

func (f machineFiles) List(path string) ([]FileInfo, error) {
	answer, _, err := f.ask(fileRequest{Do: "list", Path: path})
	return answer.Info, err
}

func (f machineFiles) Stat(path string) (FileInfo, error) {
	answer, _, err := f.ask(fileRequest{Do: "stat", Path: path})
	if err != nil {
		return FileInfo{}, err
	}
	return answer.Info[0], nil
}

func (f machineFiles) Chmod(path string, mode os.FileMode) error {
	return f.only(fileRequest{Do: "chmod", Path: path, Mode: mode})
}

func (f machineFiles) Chown(path string, uid, gid int) error {
	return f.only(fileRequest{Do: "chown", Path: path, UID: uid, GID: gid})
}

func (f machineFiles) Read(path string) (io.ReadCloser, int64, error) {
	answer, opened, err := f.ask(fileRequest{Do: "read", Path: path})
	if err != nil {
		return nil, 0, err
	}
	return opened, answer.Size, nil
}

// Write writes size bytes of content; a negative size means all of it. A mode
// of 0 keeps the mode of an existing file, or else uses the default.
func (f machineFiles) Write(path string, size int64, mode os.FileMode, overwrite bool, content io.Reader) error {
	_, opened, err := f.ask(fileRequest{Do: "write", Path: path, Mode: mode, Flag: overwrite})
	if err != nil {
		return err
	}
	if size < 0 {
		_, err = io.Copy(opened, content)
	} else {
		_, err = io.CopyN(opened, content, size)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return errors.Join(err, opened.Close())
}

// file is the init's side.
func (i *initProcess) file(_ *net.UnixConn, body json.RawMessage, _ []*os.File) (any, []*os.File, error) {
	var asked fileRequest
	if err := json.Unmarshal(body, &asked); err != nil {
		return nil, nil, err
	}
	account, err := i.sandbox.user(asked.User)
	if err != nil {
		return nil, nil, err
	}
	var answer fileAnswer
	var opened *os.File
	err = account.as(func() (err error) {
		answer, opened, err = i.operate(asked)
		return err
	})
	if opened == nil {
		return answer, nil, err
	}
	return answer, []*os.File{opened}, err
}

func (i *initProcess) operate(asked fileRequest) (answer fileAnswer, opened *os.File, err error) {
	path := i.sandbox.path(asked.Path)
	switch asked.Do {
	case "temporary":
		if asked.Path == "" {
			path = i.sandbox.path("/tmp")
		}
		path, err = makeTemporary(path, asked.Prefix, asked.Suffix, asked.Flag)
		answer.Path = i.sandbox.inGuest(path)
	case "mkdir":
		err = mkdir(path, asked.Flag)
	case "remove":
		err = os.Remove(path)
	case "removeAll":
		if _, err = os.Lstat(path); err == nil {
			err = os.RemoveAll(path)
		}
	case "move":
		err = move(path, i.sandbox.path(asked.To), asked.Flag)
	case "list":
		answer.Info, err = list(path)
	case "stat":
		var info FileInfo
		info, err = describe(path)
		info.Path = asked.Path
		answer.Info = []FileInfo{info}
	case "chmod":
		err = os.Chmod(path, asked.Mode)
	case "chown":
		err = os.Lchown(path, asked.UID, asked.GID)
	case "read":
		opened, answer.Size, err = openToRead(path)
	case "write":
		opened, err = openToWrite(path, asked.Mode, asked.Flag)
	default:
		err = fmt.Errorf("unknown file operation %q", asked.Do)
	}
	return answer, opened, err
}

func makeTemporary(directory, prefix, suffix string, isDirectory bool) (string, error) {
	for {
		random := make([]byte, 4)
		rand.Read(random)
		path := filepath.Join(directory, prefix+hex.EncodeToString(random)+suffix)
		var err error
		if isDirectory {
			err = os.Mkdir(path, 0o700)
		} else {
			var file *os.File
			if file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
				err = file.Close()
			}
		}
		if !errors.Is(err, os.ErrExist) {
			return path, err
		}
	}
}

// mkdir returns an error if the directory exists, also when it creates parents.
func mkdir(path string, parents bool) error {
	if parents {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
	}
	return os.Mkdir(path, 0o777)
}

func move(from, to string, overwrite bool) error {
	flags := uint(unix.RENAME_NOREPLACE)
	if overwrite {
		flags = 0
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags)
	if err == unix.EXDEV { // each part of the disk is a mount of its own
		err = moveAcross(from, to, overwrite)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func moveAcross(from, to string, overwrite bool) error {
	if !overwrite && exists(to) {
		return os.ErrExist
	}
	random := make([]byte, 4)
	rand.Read(random)
	near := to + "." + hex.EncodeToString(random)
	err := copyTree(from, near)
	if err == nil {
		err = os.Rename(near, to)
	}
	if err != nil {
		_ = os.RemoveAll(near)
		return err
	}
	return os.RemoveAll(from)
}

// list describes the contents of a directory by name, or the file at path.
func list(path string) ([]FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		one, err := describe(path)
		return []FileInfo{one}, err
	}
	entries, err := os.ReadDir(path) // sorted
	if err != nil {
		return nil, err
	}
	all := []FileInfo{}
	for _, entry := range entries {
		one, err := describe(filepath.Join(path, entry.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted in the meantime
		}
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// describe does not follow a link.
func describe(path string) (FileInfo, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return FileInfo{}, err
	}
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return FileInfo{}, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return FileInfo{
		Path: filepath.Base(path), Size: info.Size(), Mode: info.Mode(), UID: int(stat.Uid), GID: int(stat.Gid),
		Modified: info.ModTime(), Accessed: timeOf(stat.Atim), Target: linkTarget(path),
	}, nil
}

// openToRead does not wait for the other side of a fifo.
func openToRead(path string) (*os.File, int64, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &os.PathError{Op: "read", Path: path, Err: unix.EISDIR}
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

func openToWrite(path string, mode os.FileMode, overwrite bool) (*os.File, error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC | unix.O_NONBLOCK
	if !overwrite {
		flags |= os.O_EXCL
	}
	create := mode
	if create == 0 {
		create = 0o644
	}
	file, err := os.OpenFile(path, flags, create)
	if err != nil {
		return nil, err
	}
	if mode != 0 {
		if err := file.Chmod(mode); err != nil {
			file.Close()
			return nil, err
		}
	}
	return file, nil
}
