// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The vCenter behind the Managed Object Browser (package mob).

package vsphere

import (
	"net/http"

	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/mob"
)

// mobServer implements mob.Server.
type mobServer struct{ sim *Simulator }

func (m mobServer) Content() types.ServiceContent { return m.sim.content() }

func (m mobServer) User(session string) string { return m.sim.sessions.userOf(session) }

// Find returns an object by its ID alone. VMs that are still being created are
// not found.
func (m mobServer) Find(moid string) (types.ManagedObjectReference, bool) {
	for _, object := range m.sim.registry().AllReference("") {
		if ref := object.Reference(); ref.Value == moid && (ref.Type != "VirtualMachine" || m.sim.names.visible(ref)) {
			return ref, true
		}
	}
	return types.ManagedObjectReference{}, false
}

func (m mobServer) HasMethod(name string) bool { return m.sim.hasMethod(name) }

func (m mobServer) IsHidden(name string) bool { return isHiddenMethod(name) }

func (m mobServer) Call(r *http.Request, body []byte) mob.Response {
	request, err := parseRequest(body)
	if err != nil {
		panic(err) // the browser wrote it
	}
	m.sim.calls.mob(request.Method)
	response := m.sim.handleCall(r, request, body)
	return mob.Response{Header: response.header, Body: response.body.Bytes()}
}

func (m mobServer) Read(r *http.Request, body []byte) mob.Response {
	response := m.sim.callService(m.sim.service, r, body)
	return mob.Response{Header: response.header, Body: response.body.Bytes()}
}

func (m mobServer) Logf(format string, arguments ...any) { m.sim.logError(format, arguments...) }
