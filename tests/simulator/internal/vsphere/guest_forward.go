// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Forwarded ports: no packet of a guest leaves the simulator, but a client can
// connect to a server in a guest, such as an SSH server.

package vsphere

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"

	"vmforksim/internal/guest"
)

// controlForward opens a port for a port of a guest at one of its addresses,
// until the simulator ends. The guest must have that address on a connected
// adapter at each connection, as a client of the real network needs it.
func (s *Simulator) controlForward(r *http.Request) (any, error) {
	vm, err := s.vmOf(r)
	if err != nil {
		return nil, err
	}
	var request struct {
		Address string `json:"address"`
		Port    uint16 `json:"port"`
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	address, err := netip.ParseAddr(request.Address)
	if err != nil || request.Port == 0 {
		return nil, errors.New("address and port are needed")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if !s.keep(listener) {
		listener.Close()
		return nil, errors.New("the simulator is ending")
	}
	go s.forward(listener, vm, netip.AddrPortFrom(address, request.Port))
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	return map[string]any{"host": host, "port": number}, err
}

// keep closes a listener when the simulator ends; false: it ends now.
func (s *Simulator) keep(listener net.Listener) bool {
	s.workMu.Lock()
	defer s.workMu.Unlock()
	if !s.closing {
		s.forwards = append(s.forwards, listener)
	}
	return !s.closing
}

func (s *Simulator) forward(listener net.Listener, vm *instance, to netip.AddrPort) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer client.Close()
			server, err := dialGuest(vm, to)
			if err != nil {
				s.log.Printf("forwarded port: %v", err)
				return
			}
			defer server.Close()
			splice(client, server)
		}()
	}
}

func dialGuest(vm *instance, to netip.AddrPort) (net.Conn, error) {
	machine, frozen := vm.machine()
	if machine == nil || frozen {
		return nil, errors.New("the guest does not run")
	}
	if !hasAddress(machine.State(), to.Addr()) {
		return nil, fmt.Errorf("the guest does not have the address %v on a connected adapter", to.Addr())
	}
	return machine.Dial(to.String())
}

func hasAddress(state guest.State, address netip.Addr) bool {
	return slices.ContainsFunc(state.Interfaces, func(shown guest.Interface) bool {
		return shown.Up && shown.Connected && slices.ContainsFunc(shown.Addresses, func(text string) bool {
			prefix, err := netip.ParsePrefix(text)
			return err == nil && prefix.Addr() == address
		})
	})
}

// splice copies both ways until one side ends.
func splice(client, server net.Conn) {
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			done <- struct{}{}
		}()
	}
	<-done
}
