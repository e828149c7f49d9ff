// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
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

// A man in the middle has a certificate other than the one that vCenter reports
// for the host.
func TestManInTheMiddle(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	b.untilReady(vm)
	var host mo.HostSystem
	if err := property.DefaultCollector(b.client.Client).RetrieveOne(b.ctx, *b.read(vm, "runtime").Runtime.Host, []string{"config.certificate"}, &host); err != nil {
		t.Fatal(err)
	}
	reported, _ := pem.Decode(host.Config.Certificate)
	var before transferState
	b.control(http.MethodGet, "transfers", nil, &before)
	if want := (transferState{Certificate: "reported", Address: "127.0.0.1", Port: before.Port}); before != want || before.Port == 0 {
		t.Errorf("%+v", before)
	}
	shown := func() []byte { // over the same client, and so a connection that is kept
		address := b.downloadURL(vm)
		if want := fmt.Sprintf("https://%s:%d/", before.Address, before.Port); !strings.HasPrefix(address, want) {
			t.Errorf("the transfer goes to %s, not to %s", address, want)
		}
		response, err := b.raw.http.Get(address)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatal(err, response)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.TLS.PeerCertificates[0].Raw
	}
	for _, step := range []struct {
		certificate string
		right       bool
	}{{"reported", true}, {"another", false}, {"reported", true}} {
		var now transferState
		if status := b.control(http.MethodPut, "transfers", map[string]string{"certificate": step.certificate}, &now); status != http.StatusOK || now.Certificate != step.certificate {
			t.Errorf("%s: %d %+v", step.certificate, status, now)
		}
		if right := bytes.Equal(shown(), reported.Bytes); right != step.right {
			t.Errorf("%s: the certificate is the reported one: %v", step.certificate, right)
		}
	}
	for _, wrong := range []map[string]any{{}, {"certificate": "any"}, {"certificate": true}} {
		if status := b.control(http.MethodPut, "transfers", wrong, nil); status != http.StatusBadRequest {
			t.Errorf("%v: %d", wrong, status)
		}
	}
}

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
