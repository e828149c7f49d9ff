// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
)

// helloServer goes into the background once it listens.
const helloServer = `-c 'import os, socket
with socket.create_server(("", 7777)) as server:
    if os.fork(): os._exit(0)
    for stream in range(3): os.close(stream)
    while True:
        connection, _peer = server.accept()
        with connection: connection.sendall(b"hello")'`

// A client reaches a server in a guest at an address that the guest has, and
// nothing else.
func TestForwardedPort(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	guest := "guests/" + vm.Value
	b.untilReady(vm)
	var view guestView
	b.control("GET", guest, nil, &view)
	own := view.State.Interfaces[0].Addresses[0]
	address, _, _ := net.ParseCIDR(own)
	if status := b.control("POST", guest+"/run", map[string]any{"program": "/usr/bin/python3", "arguments": helloServer}, nil); status != http.StatusOK {
		t.Fatal(status)
	}
	connect := func(to string, port int) string {
		t.Helper()
		var answer struct {
			Host string
			Port int
		}
		if status := b.control("POST", guest+"/forward", map[string]any{"address": to, "port": port}, &answer); status != http.StatusOK {
			t.Fatal(status)
		}
		conn, err := net.Dial("tcp", net.JoinHostPort(answer.Host, strconv.Itoa(answer.Port)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		text, _ := io.ReadAll(conn)
		return string(text)
	}
	if got := connect(address.String(), 7777); got != "hello" {
		t.Errorf("the guest answers %q", got)
	}
	for to, port := range map[string]int{"127.0.0.1": 7777, "192.0.2.1": 7777, address.String(): 7778} {
		if got := connect(to, port); got != "" {
			t.Errorf("%s:%d answers %q", to, port, got)
		}
	}
	for _, nonsense := range []map[string]any{{"address": "web-01", "port": 22}, {"address": "192.0.2.1"}} {
		if status := b.control("POST", guest+"/forward", nonsense, nil); status != http.StatusBadRequest {
			t.Errorf("%v: %d", nonsense, status)
		}
	}
}
