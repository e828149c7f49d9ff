// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"errors"
	"net"
	"regexp"
	"strings"
	"testing"
)

// No part of a transfer's URL may have the digits that a client replaces.
func TestTransferURLsStayIntact(t *testing.T) {
	transfers := &transfers{pending: map[string]*transfer{}}
	ids := regexp.MustCompile(`^id=(\d+)&token=([A-Za-z]{20,})$`)
	seen := map[string]bool{}
	for range 4500 { // past 443, 1443 and 4430 to 4439
		query := transfers.add(&transfer{})
		match := ids.FindStringSubmatch(query)
		if match == nil || strings.Contains(query, damaged) {
			t.Fatalf("%q", query)
		}
		seen[match[1]], seen[match[2]] = true, true
	}
	if len(seen) != 9000 || seen["443"] || !seen["444"] || !seen["4511"] {
		t.Errorf("%d different ids and tokens", len(seen))
	}
}

type portOnly struct {
	net.Listener
	port   int
	closed *[]int
}

func (p portOnly) Addr() net.Addr { return &net.TCPAddr{Port: p.port} }
func (p portOnly) Close() error   { *p.closed = append(*p.closed, p.port); return nil }

func TestListenerPortStaysIntact(t *testing.T) {
	offered, closed := []int{44300, 14439, 34443, 40443, 44430, 43434, 50000}, []int{}
	listen := func() (net.Listener, error) {
		if len(closed) > 0 {
			t.Error("a port was given back that may come again")
		}
		port := offered[0]
		offered = offered[1:]
		return portOnly{port: port, closed: &closed}, nil
	}
	listener, err := listenIntact(listen)
	if err != nil {
		t.Fatal(err)
	}
	if port := listener.Addr().(*net.TCPAddr).Port; port != 43434 || len(closed) != 5 {
		t.Errorf("port %d; closed %v", port, closed)
	}
	broken := errors.New("no more ports")
	if _, err := listenIntact(func() (net.Listener, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}
