// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// GuestFileManager: files in guests.

package vsphere

import (
	"errors"
	"os"
	"path"
	"regexp"
	"syscall"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
)

// guestFileManager handles guests' files.
type guestFileManager struct {
	mo.GuestFileManager
	unlocked
	sim *Simulator
}

// do runs an operation on a guest's files with a user's rights.
func (m *guestFileManager) do(vm types.ManagedObjectReference, auth types.BaseGuestAuthentication, name string, operation func(guest.Files) error) *soap.Fault {
	return m.sim.inGuest(vm, auth, name, func(session guestSession) error { return operation(session.files()) })
}

func (m *guestFileManager) CreateTemporaryFileInGuest(_ *simulator.Context, req *types.CreateTemporaryFileInGuest) soap.HasFault {
	body := &methods.CreateTemporaryFileInGuestBody{}
	var name string
	body.Fault_ = m.do(req.Vm, req.Auth, req.DirectoryPath, func(files guest.Files) (err error) {
		name, err = files.MakeTemporary(temporary(req.DirectoryPath), req.Prefix, req.Suffix, false)
		return err
	})
	if body.Fault_ == nil {
		body.Res = &types.CreateTemporaryFileInGuestResponse{Returnval: name}
	}
	return body
}

func (m *guestFileManager) CreateTemporaryDirectoryInGuest(_ *simulator.Context, req *types.CreateTemporaryDirectoryInGuest) soap.HasFault {
	body := &methods.CreateTemporaryDirectoryInGuestBody{}
	var name string
	body.Fault_ = m.do(req.Vm, req.Auth, req.DirectoryPath, func(files guest.Files) (err error) {
		name, err = files.MakeTemporary(temporary(req.DirectoryPath), req.Prefix, req.Suffix, true)
		return err
	})
	if body.Fault_ == nil {
		body.Res = &types.CreateTemporaryDirectoryInGuestResponse{Returnval: name}
	}
	return body
}

// temporary is the default directory for temporary files.
func temporary(directory string) string {
	if directory == "" {
		return "/tmp"
	}
	return directory
}

func (m *guestFileManager) MakeDirectoryInGuest(_ *simulator.Context, req *types.MakeDirectoryInGuest) soap.HasFault {
	body := &methods.MakeDirectoryInGuestBody{}
	body.Fault_ = m.do(req.Vm, req.Auth, req.DirectoryPath, func(files guest.Files) error {
		return files.MakeDirectory(req.DirectoryPath, req.CreateParentDirectories)
	})
	if body.Fault_ == nil {
		body.Res = &types.MakeDirectoryInGuestResponse{}
	}
	return body
}

func (m *guestFileManager) DeleteFileInGuest(_ *simulator.Context, req *types.DeleteFileInGuest) soap.HasFault {
	body := &methods.DeleteFileInGuestBody{}
	body.Fault_ = m.do(req.Vm, req.Auth, req.FilePath, func(files guest.Files) error {
		info, err := files.Stat(req.FilePath)
		switch {
		case err != nil:
			return err
		case info.Mode.IsDir():
			return syscall.EISDIR
		}
		return files.Remove(req.FilePath)
	})
	if body.Fault_ == nil {
		body.Res = &types.DeleteFileInGuestResponse{}
	}
	return body
}

func (m *guestFileManager) DeleteDirectoryInGuest(_ *simulator.Context, req *types.DeleteDirectoryInGuest) soap.HasFault {
	body := &methods.DeleteDirectoryInGuestBody{}
	body.Fault_ = m.do(req.Vm, req.Auth, req.DirectoryPath, func(files guest.Files) error {
		info, err := files.Stat(req.DirectoryPath)
		switch {
		case err != nil:
			return err
		case !info.Mode.IsDir():
			return syscall.ENOTDIR
		case req.Recursive:
			return files.RemoveAll(req.DirectoryPath)
		}
		return files.Remove(req.DirectoryPath)
	})
	if body.Fault_ == nil {
		body.Res = &types.DeleteDirectoryInGuestResponse{}
	}
	return body
}

func (m *guestFileManager) MoveFileInGuest(_ *simulator.Context, req *types.MoveFileInGuest) soap.HasFault {
	body := &methods.MoveFileInGuestBody{}
	body.Fault_ = m.do(req.Vm, req.Auth, req.SrcFilePath, func(files guest.Files) error {
		return files.Move(req.SrcFilePath, req.DstFilePath, req.Overwrite)
	})
	if body.Fault_ == nil {
		body.Res = &types.MoveFileInGuestResponse{}
	}
	return body
}

func (m *guestFileManager) MoveDirectoryInGuest(_ *simulator.Context, req *types.MoveDirectoryInGuest) soap.HasFault {
	body := &methods.MoveDirectoryInGuestBody{}
	body.Fault_ = m.do(req.Vm, req.Auth, req.SrcDirectoryPath, func(files guest.Files) error {
		return files.Move(req.SrcDirectoryPath, req.DstDirectoryPath, false)
	})
	if body.Fault_ == nil {
		body.Res = &types.MoveDirectoryInGuestResponse{}
	}
	return body
}

// defaultMaxResults is the number of files that are listed if the client sets
// no limit.
const defaultMaxResults = 50

func (m *guestFileManager) ListFilesInGuest(_ *simulator.Context, req *types.ListFilesInGuest) soap.HasFault {
	body := &methods.ListFilesInGuestBody{}
	pattern, err := regexp.Compile(req.MatchPattern)
	if err != nil || req.FilePath == "" {
		body.Fault_ = soapFaultOf(&types.InvalidArgument{InvalidProperty: "matchPattern"})
		return body
	}
	var found []types.GuestFileInfo
	body.Fault_ = m.do(req.Vm, req.Auth, req.FilePath, func(files guest.Files) error {
		info, err := files.Stat(req.FilePath)
		if err != nil {
			return err
		}
		if !info.Mode.IsDir() {
			found = []types.GuestFileInfo{fileInfo(info, req.FilePath)}
			return nil
		}
		list, err := files.List(req.FilePath)
		for _, info := range list {
			if name := path.Base(info.Path); pattern.MatchString(name) {
				found = append(found, fileInfo(info, name))
			}
		}
		return err
	})
	if body.Fault_ != nil {
		return body
	}
	limit := int(req.MaxResults)
	if limit <= 0 {
		limit = defaultMaxResults
	}
	first := min(max(int(req.Index), 0), len(found))
	last := min(first+limit, len(found))
	body.Res = &types.ListFilesInGuestResponse{Returnval: types.GuestListFileInfo{
		Files: found[first:last], Remaining: int32(len(found) - last),
	}}
	return body
}

func fileInfo(info guest.FileInfo, name string) types.GuestFileInfo {
	kind := types.GuestFileTypeFile
	switch {
	case info.Mode.IsDir():
		kind = types.GuestFileTypeDirectory
	case info.Mode&os.ModeSymlink != 0:
		kind = types.GuestFileTypeSymlink
	}
	return types.GuestFileInfo{Path: name, Type: string(kind), Size: info.Size, Attributes: posixAttributes(info)}
}

func posixAttributes(info guest.FileInfo) *types.GuestPosixFileAttributes {
	modified, accessed := info.Modified.UTC(), info.Accessed.UTC()
	return &types.GuestPosixFileAttributes{
		GuestFileAttributes: types.GuestFileAttributes{
			ModificationTime: &modified, AccessTime: &accessed, SymlinkTarget: info.Target,
		},
		OwnerId:     types.NewInt32(int32(info.UID)),
		GroupId:     types.NewInt32(int32(info.GID)),
		Permissions: permissions(info.Mode),
	}
}

// permissions returns the bits of chmod, including those above 0777.
func permissions(mode os.FileMode) int64 {
	bits := int64(mode.Perm())
	for flag, bit := range map[os.FileMode]int64{os.ModeSetuid: 0o4000, os.ModeSetgid: 0o2000, os.ModeSticky: 0o1000} {
		if mode&flag != 0 {
			bits |= bit
		}
	}
	return bits
}

// fileMode is the reverse of permissions.
func fileMode(bits int64) os.FileMode {
	mode := os.FileMode(bits & 0o777)
	for flag, bit := range map[os.FileMode]int64{os.ModeSetuid: 0o4000, os.ModeSetgid: 0o2000, os.ModeSticky: 0o1000} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode
}

func (m *guestFileManager) ChangeFileAttributesInGuest(_ *simulator.Context, req *types.ChangeFileAttributesInGuest) soap.HasFault {
	body := &methods.ChangeFileAttributesInGuestBody{}
	attributes, ok := req.FileAttributes.(*types.GuestPosixFileAttributes)
	if !ok {
		body.Fault_ = soapFaultOf(&types.OperationNotSupportedByGuest{})
		return body
	}
	body.Fault_ = m.do(req.Vm, req.Auth, req.GuestFilePath, func(files guest.Files) error {
		return applyAttributes(files, req.GuestFilePath, attributes)
	})
	if body.Fault_ == nil {
		body.Res = &types.ChangeFileAttributesInGuestResponse{}
	}
	return body
}

// applyAttributes sets the owner first: a change of owner may clear bits.
func applyAttributes(files guest.Files, name string, attributes *types.GuestPosixFileAttributes) error {
	uid, gid := -1, -1
	if attributes.OwnerId != nil {
		uid = int(*attributes.OwnerId)
	}
	if attributes.GroupId != nil {
		gid = int(*attributes.GroupId)
	}
	if uid >= 0 || gid >= 0 {
		if err := files.Chown(name, uid, gid); err != nil {
			return err
		}
	}
	if attributes.Permissions != 0 {
		return files.Chmod(name, fileMode(attributes.Permissions))
	}
	return nil
}

func (m *guestFileManager) InitiateFileTransferFromGuest(_ *simulator.Context, req *types.InitiateFileTransferFromGuest) soap.HasFault {
	body := &methods.InitiateFileTransferFromGuestBody{}
	var source guestSession
	var info guest.FileInfo
	body.Fault_ = m.sim.inGuest(req.Vm, req.Auth, req.GuestFilePath, func(session guestSession) (err error) {
		source = session
		if info, err = session.files().Stat(req.GuestFilePath); err == nil && info.Mode.IsDir() {
			return syscall.EISDIR
		}
		return err
	})
	if body.Fault_ != nil {
		return body
	}
	ticket := m.sim.transfer.add(&transfer{session: source, path: req.GuestFilePath})
	body.Res = &types.InitiateFileTransferFromGuestResponse{Returnval: types.FileTransferInformation{
		Attributes: posixAttributes(info), Size: info.Size, Url: m.sim.transferURL(req.Vm, ticket),
	}}
	return body
}

func (m *guestFileManager) InitiateFileTransferToGuest(_ *simulator.Context, req *types.InitiateFileTransferToGuest) soap.HasFault {
	body := &methods.InitiateFileTransferToGuestBody{}
	var target guestSession
	body.Fault_ = m.sim.inGuest(req.Vm, req.Auth, req.GuestFilePath, func(session guestSession) error {
		target = session
		info, err := session.files().Stat(req.GuestFilePath)
		switch {
		case errors.Is(err, os.ErrNotExist):
			_, err = session.files().Stat(path.Dir(req.GuestFilePath))
		case err == nil && info.Mode.IsDir():
			return syscall.EISDIR
		case err == nil && !req.Overwrite:
			return os.ErrExist
		}
		return err
	})
	if body.Fault_ != nil {
		return body
	}
	attributes, _ := req.FileAttributes.(*types.GuestPosixFileAttributes)
	ticket := m.sim.transfer.add(&transfer{
		session: target, path: req.GuestFilePath, upload: true,
		size: req.FileSize, overwrite: req.Overwrite, attributes: attributes,
	})
	body.Res = &types.InitiateFileTransferToGuestResponse{Returnval: m.sim.transferURL(req.Vm, ticket)}
	return body
}
