// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// GuestProcessManager: programs in guests.

package vsphere

import (
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
	"vmforksim/internal/vimfault"
)

// guestProcessManager starts, lists and ends programs in guests.
type guestProcessManager struct {
	mo.GuestProcessManager
	unlocked
	sim *Simulator
}

func (m *guestProcessManager) StartProgramInGuest(_ *simulator.Context, req *types.StartProgramInGuest) soap.HasFault {
	body := &methods.StartProgramInGuestBody{}
	spec := req.Spec.GetGuestProgramSpec()
	var pid int64
	body.Fault_ = m.sim.inGuest(req.Vm, req.Auth, spec.ProgramPath, func(session guestSession) (err error) {
		pid, err = session.start(guest.Program{
			Path:      spec.ProgramPath,
			Arguments: spec.Arguments,
			Directory: spec.WorkingDirectory,
			Env:       spec.EnvVariables,
			User:      session.user,
		})
		return err
	})
	if body.Fault_ == nil {
		body.Res = &types.StartProgramInGuestResponse{Returnval: pid}
	}
	return body
}

// start starts a program, and stores the guestinfo that it sees: a child that
// runs it again must see the same.
func (g guestSession) start(program guest.Program) (int64, error) {
	started := g.run.starting()
	pid, err := g.machine.Start(program)
	if err == nil {
		started(pid)
	}
	return pid, err
}

// processInfo is GuestProcessInfo with an exit code that is sent even if it is
// 0.
type processInfo struct {
	Name      string     `xml:"name"`
	Pid       int64      `xml:"pid"`
	Owner     string     `xml:"owner"`
	CmdLine   string     `xml:"cmdLine"`
	StartTime time.Time  `xml:"startTime"`
	EndTime   *time.Time `xml:"endTime,omitempty"`
	ExitCode  *int32     `xml:"exitCode,omitempty"`
}

type listProcessesResponse struct {
	Returnval []processInfo `xml:"returnval,omitempty"`
}

type listProcessesBody struct {
	Res    *listProcessesResponse `xml:"urn:vim25 ListProcessesInGuestResponse,omitempty"`
	Fault_ *soap.Fault            `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

func (b *listProcessesBody) Fault() *soap.Fault { return b.Fault_ }

func (m *guestProcessManager) ListProcessesInGuest(_ *simulator.Context, req *types.ListProcessesInGuest) soap.HasFault {
	body := &listProcessesBody{}
	session, fault := m.sim.enter(req.Vm, req.Auth)
	if fault != nil {
		body.Fault_ = soapFaultOf(fault)
		return body
	}
	body.Res = &listProcessesResponse{}
	for _, process := range session.machine.Processes(req.Pids...) {
		info := processInfo{
			Name:      process.Name,
			Pid:       process.PID,
			Owner:     process.Owner,
			CmdLine:   process.CommandLine,
			StartTime: process.Started.UTC(),
		}
		if !process.Ended.IsZero() {
			ended, code := process.Ended.UTC(), int32(process.ExitCode)
			info.EndTime, info.ExitCode = &ended, &code
		}
		body.Res.Returnval = append(body.Res.Returnval, info)
	}
	return body
}

func (m *guestProcessManager) TerminateProcessInGuest(_ *simulator.Context, req *types.TerminateProcessInGuest) soap.HasFault {
	body := &methods.TerminateProcessInGuestBody{}
	session, fault := m.sim.enter(req.Vm, req.Auth)
	if fault != nil {
		body.Fault_ = soapFaultOf(fault)
		return body
	}
	switch err := session.machine.Terminate(req.Pid, session.user); {
	case errors.Is(err, os.ErrNotExist):
		body.Fault_ = soapFaultOf(vimfault.WithText(&types.GuestProcessNotFound{Pid: req.Pid}, "The process was not found in the guest."))
	case err != nil:
		body.Fault_ = soapFaultOf(guestFault(err, ""))
	default:
		body.Res = &types.TerminateProcessInGuestResponse{}
	}
	return body
}

func (m *guestProcessManager) ReadEnvironmentVariableInGuest(_ *simulator.Context, req *types.ReadEnvironmentVariableInGuest) soap.HasFault {
	body := &methods.ReadEnvironmentVariableInGuestBody{}
	const program = "/usr/bin/env"
	var output []byte
	body.Fault_ = m.sim.inGuest(req.Vm, req.Auth, program, func(session guestSession) (err error) {
		_, output, err = session.machine.Run(guest.Program{Path: program, User: session.user})
		return err
	})
	if body.Fault_ != nil {
		return body
	}
	body.Res = &types.ReadEnvironmentVariableInGuestResponse{}
	for line := range strings.Lines(string(output)) {
		variable := strings.TrimSuffix(line, "\n")
		name, _, ok := strings.Cut(variable, "=")
		if ok && (len(req.Names) == 0 || slices.Contains(req.Names, name)) {
			body.Res.Returnval = append(body.Res.Returnval, variable)
		}
	}
	return body
}
