// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"net"
	"net/http"

	"github.com/vmware/govmomi/simulator"
)

// esxHost is an ESXi host that clients connect to past vCenter: govmomi's, with
// VMs and an inventory of its own. It shows what such a client must notice.
type esxHost struct {
	model    *simulator.Model
	listener net.Listener
	server   *http.Server
}

// startESX starts the ESXi endpoint, if one is asked for. Its users are those
// of vCenter, its certificate is that of the hosts.
func (s *Simulator) startESX() (err error) {
	if s.options.ESXListen == "" {
		return nil
	}
	s.esx = &esxHost{model: simulator.ESX()}
	if err := s.create(s.esx.model, "VMware ESXi"); err != nil {
		return err
	}
	if s.esx.listener, err = net.Listen("tcp", s.options.ESXListen); err != nil {
		return err
	}
	service := s.esx.model.Service
	service.ServeMux = http.NewServeMux()
	service.ServeMux.HandleFunc("/sdk/vimServiceVersions.xml", func(w http.ResponseWriter, _ *http.Request) { s.serveVersions(w) })
	s.connect(service, s.esx.listener.Addr().String(), s.hosts)
	s.esx.server = s.serve(s.esx.listener, s.hosts, service.ServeMux)
	return nil
}

// close ends the endpoint, also one that did not start.
func (e *esxHost) close() {
	if e.server != nil {
		_ = e.server.Close()
	} else if e.listener != nil {
		_ = e.listener.Close()
	}
	if e.model.Service != nil {
		e.model.Remove()
	}
}
