// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// GuestAuthManager: guest logins, and the checks that all guest operations
// share.

package vsphere

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"syscall"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
	"vmforksim/internal/vimfault"
)

// hangTime is how long a call waits for a frozen guest if the rule says that
// guest operations hang.
const hangTime = time.Minute

// registerGuestManagers replaces the managers of govmomi's simulator, which
// require containers, and adds the missing one.
func (s *Simulator) registerGuestManagers() {
	manager := s.registry().Get(*s.content().GuestOperationsManager).(*simulator.GuestOperationsManager)
	if manager.AuthManager == nil {
		manager.AuthManager = &types.ManagedObjectReference{Type: "GuestAuthManager", Value: "guestOperationsAuthManager"}
	}
	auth := &guestAuthManager{sim: s}
	auth.Self = *manager.AuthManager
	files := &guestFileManager{sim: s}
	files.Self = *manager.FileManager
	processes := &guestProcessManager{sim: s}
	processes.Self = *manager.ProcessManager
	for _, object := range []mo.Reference{auth, files, processes} {
		s.registry().Put(object)
	}
}

// unlocked lets the calls of a manager run in parallel.
type unlocked struct{}

func (unlocked) Lock()   {}
func (unlocked) Unlock() {}

// guestAccounts are the users of every guest: root, one who may use sudo, one
// who may not, and the one given on the command line. All have the same
// password.
func (s *Simulator) guestAccounts() []guest.Account {
	accounts := []guest.Account{{Name: "root", Sudo: true}, {Name: "admin", Sudo: true}, {Name: "operator"}}
	for _, account := range accounts {
		if account.Name == s.options.GuestUsername {
			return accounts
		}
	}
	return append(accounts, guest.Account{Name: s.options.GuestUsername, Sudo: true})
}

// guestSession is a guest operation's access to a guest.
type guestSession struct {
	run     *vmRun
	machine *guest.Machine
	user    string
}

func (g guestSession) files() guest.Files { return g.machine.Files(g.user) }

// enter checks, as every guest operation does, that the guest is reachable and
// that the login is valid.
func (s *Simulator) enter(ref types.ManagedObjectReference, auth types.BaseGuestAuthentication) (guestSession, types.BaseMethodFault) {
	vm := s.instances.get(ref.Value)
	object, ok := s.registry().Get(ref).(*simulator.VirtualMachine)
	if !ok {
		return guestSession{}, &types.ManagedObjectNotFound{Obj: ref}
	}
	if vm == nil {
		vm = s.instances.of(ref)
	}
	vm.mu.Lock()
	c := vm.run
	var machine *guest.Machine
	var isFrozen bool
	if c != nil {
		machine, isFrozen = c.machine, c.forkPoint != nil
	}
	stopped, unready := vm.tools.Stopped, vm.tools.Unready
	vm.mu.Unlock()
	switch {
	case c == nil:
		ctx := s.background()
		var state types.VirtualMachinePowerState
		ctx.WithLock(object, func() { state = object.Runtime.PowerState })
		if state != types.VirtualMachinePowerStatePoweredOn {
			return guestSession{}, &types.InvalidPowerState{
				RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: state,
			}
		}
		return guestSession{}, &types.GuestOperationsUnavailable{}
	case isFrozen && s.rules.Is("frozen_guest_operations", "hang"):
		select {
		case <-c.over:
		case <-time.After(hangTime):
		}
		return guestSession{}, &types.GuestOperationsUnavailable{}
	case isFrozen:
		return guestSession{}, s.guestOperationFault("frozen_guest_operations")
	case stopped, s.platform == nil:
		return guestSession{}, &types.GuestOperationsUnavailable{}
	case unready, machine == nil:
		return guestSession{}, s.guestOperationFault("unready_guest_operations")
	}
	login, ok := auth.(*types.NamePasswordAuthentication)
	if !ok {
		return guestSession{}, vimfault.WithText(&types.InvalidGuestLogin{}, "The authentication type is not supported.")
	}
	for _, account := range s.guestAccounts() {
		if account.Name == login.Username && login.Password == s.options.GuestPassword {
			if err := s.platform.CanBe(account.Name); err != nil {
				return guestSession{}, vimfault.WithText(&types.InvalidGuestLogin{}, err.Error())
			}
			return guestSession{run: c, machine: machine, user: login.Username}, nil
		}
	}
	return guestSession{}, &types.InvalidGuestLogin{}
}

// guestOperationFault is the fault of a guest operation that Tools do not
// answer.
func (s *Simulator) guestOperationFault(rule string) types.BaseMethodFault {
	if s.rules.Is(rule, "SystemError") {
		const reason = "vix error codes = (3016, 0).\n"
		return vimfault.WithText(&types.SystemError{Reason: reason}, "A general system error occurred: "+reason)
	}
	return &types.GuestOperationsUnavailable{}
}

// inGuest runs a function in a guest with a user's rights. The name is that of
// the file that a fault is about.
func (s *Simulator) inGuest(vm types.ManagedObjectReference, auth types.BaseGuestAuthentication, name string, do func(guestSession) error) *soap.Fault {
	session, fault := s.enter(vm, auth)
	if fault != nil {
		return soapFaultOf(fault)
	}
	if err := do(session); err != nil {
		return soapFaultOf(guestFault(err, name))
	}
	return nil
}

// guestVM returns the VM of a guest operation.
func guestVM(request any) types.ManagedObjectReference {
	if field := reflect.ValueOf(request).Elem().FieldByName("Vm"); field.IsValid() {
		if ref, ok := field.Interface().(types.ManagedObjectReference); ok {
			return ref
		}
	}
	return types.ManagedObjectReference{}
}

// guestFault returns the fault for an error of a guest's files and programs.
func guestFault(err error, path string) types.BaseMethodFault {
	file := types.FileFault{File: path}
	switch {
	case errors.Is(err, syscall.ENOTEMPTY):
		return vimfault.WithText(&types.DirectoryNotEmpty{FileFault: file}, fmt.Sprintf("Directory not empty: %s", path))
	case errors.Is(err, syscall.ENOTDIR):
		return vimfault.WithText(&types.NotADirectory{FileFault: file}, fmt.Sprintf("Not a directory: %s", path))
	case errors.Is(err, syscall.EISDIR):
		return vimfault.WithText(&types.NotAFile{FileFault: file}, fmt.Sprintf("Not a file: %s", path))
	case errors.Is(err, os.ErrNotExist):
		return vimfault.WithText(&types.FileNotFound{FileFault: file}, fmt.Sprintf("File %s was not found.", path))
	case errors.Is(err, os.ErrExist):
		return vimfault.WithText(&types.FileAlreadyExists{FileFault: file}, fmt.Sprintf("File %s already exists.", path))
	case errors.Is(err, os.ErrPermission):
		return vimfault.WithText(&types.GuestPermissionDenied{}, "Permission to perform this operation was denied in the guest.")
	}
	return vimfault.WithText(&types.SystemError{Reason: err.Error()}, "A general system error occurred: "+err.Error())
}

// soapFaultOf is a fault as the answer to a call.
func soapFaultOf(fault types.BaseMethodFault) *soap.Fault {
	return simulator.Fault(vimfault.Text(fault), fault)
}

// guestAuthManager checks guest logins.
type guestAuthManager struct {
	mo.GuestAuthManager
	unlocked
	sim *Simulator
}

func (m *guestAuthManager) ValidateCredentialsInGuest(_ *simulator.Context, req *types.ValidateCredentialsInGuest) soap.HasFault {
	if _, fault := m.sim.enter(req.Vm, req.Auth); fault != nil {
		return &methods.ValidateCredentialsInGuestBody{Fault_: soapFaultOf(fault)}
	}
	return &methods.ValidateCredentialsInGuestBody{Res: &types.ValidateCredentialsInGuestResponse{}}
}

func (m *guestAuthManager) AcquireCredentialsInGuest(_ *simulator.Context, _ *types.AcquireCredentialsInGuest) soap.HasFault {
	return &methods.AcquireCredentialsInGuestBody{Fault_: soapFaultOf(&types.OperationNotSupportedByGuest{})}
}

func (m *guestAuthManager) ReleaseCredentialsInGuest(_ *simulator.Context, _ *types.ReleaseCredentialsInGuest) soap.HasFault {
	return &methods.ReleaseCredentialsInGuestBody{Fault_: soapFaultOf(&types.OperationNotSupportedByGuest{})}
}
