// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// File transfers to and from guests, over a listener with the ESXi hosts'
// certificate.

package vsphere

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// transfers is the ESXi side: a listener of its own, with the hosts'
// certificate, for uploads and downloads of guest files.
type transfers struct {
	sim              *Simulator
	server           *http.Server
	listener         *gate
	otherCertificate tls.Certificate // not the one that vCenter reports for the hosts

	mu           sync.Mutex
	number       int
	showsAnother bool                 // whether the listener uses the other certificate
	pending      map[string]*transfer // by token
}

// transfer is a file to transfer, valid for one use.
type transfer struct {
	number     int
	session    guestSession
	path       string
	upload     bool
	size       int64
	overwrite  bool
	attributes *types.GuestPosixFileAttributes
}

func (s *Simulator) startTransfers() (*transfers, error) {
	listener, err := listenIntact(func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") })
	if err != nil {
		return nil, err
	}
	t := &transfers{sim: s, pending: map[string]*transfer{}, listener: &gate{Listener: listener, open: map[net.Conn]bool{}}}
	if t.otherCertificate, err = newCertificate(hostsName); err != nil {
		listener.Close()
		return nil, err
	}
	t.server = &http.Server{
		Handler: t,
		// No session tickets: with one, a client would see no certificate at all.
		TLSConfig: &tls.Config{GetCertificate: t.certificate, NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true},
		ErrorLog:  s.serverLog(),
	}
	go func() { _ = t.server.ServeTLS(t.listener, "", "") }()
	return t, nil
}

func (t *transfers) close() { _ = t.server.Close() }

// certificate returns the listener's current certificate.
func (t *transfers) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.showsAnother {
		return &t.otherCertificate, nil
	}
	return &t.sim.hosts, nil
}

// showAnother has the listener use a certificate other than the one that
// vCenter reports for the hosts, like a man in the middle; or the right one.
func (t *transfers) showAnother(another bool) {
	t.mu.Lock()
	t.showsAnother = another
	t.mu.Unlock()
	t.listener.cut()
}

// transferState is the report of the control endpoint about the ESXi side.
type transferState struct {
	Blocked     bool   `json:"blocked"`
	Certificate string `json:"certificate"`
	Address     string `json:"address"`
	Port        int    `json:"port"`
}

// The certificates that the listener can use.
const (
	reportedCertificate = "reported"
	anotherCertificate  = "another"
)

func (t *transfers) state() transferState {
	address := t.listener.Addr().(*net.TCPAddr)
	state := transferState{Blocked: t.listener.blocked(), Certificate: reportedCertificate, Address: address.IP.String(), Port: address.Port}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.showsAnother {
		state.Certificate = anotherCertificate
	}
	return state
}

// add creates a token for a transfer.
func (t *transfers) add(transfer *transfer) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.number = intactAfter(t.number)
	transfer.number = t.number
	token := newToken()
	t.pending[token] = transfer
	return url.Values{"id": {strconv.Itoa(transfer.number)}, "token": {token}}.Encode()
}

// community.vmware's vmware_tools connection replaces "443" with vCenter's port
// anywhere in a transfer's URL. No part of a URL contains these digits, so that
// its transfers arrive.
const damaged = "443"

func intact(number int) bool { return !strings.Contains(strconv.Itoa(number), damaged) }

// intactAfter returns the next number that is not changed by that.
func intactAfter(number int) int {
	for number++; !intact(number); number++ {
	}
	return number
}

// listenIntact listens on a port whose number is not changed by that.
func listenIntact(listen func() (net.Listener, error)) (net.Listener, error) {
	for {
		listener, err := listen()
		if err != nil || intact(listener.Addr().(*net.TCPAddr).Port) {
			return listener, err
		}
		defer listener.Close() // not before, or the port may come again
	}
}

// newToken returns a secret word of letters only: of the 32 characters that
// rand.Text uses, six are digits.
func newToken() string {
	return strings.Map(func(r rune) rune {
		if r >= '2' && r <= '7' {
			return r - '2' + 'a'
		}
		return r
	}, rand.Text())
}

// transferURL returns the URL of the file for the client, on the VM's host.
func (s *Simulator) transferURL(vm types.ManagedObjectReference, query string) string {
	address := s.transfer.listener.Addr().(*net.TCPAddr)
	host := address.IP.String()
	switch s.rules.Get("transfer_url_host") {
	case "inventory-name":
		ctx := s.background()
		if object, ok := ctx.Map.Get(vm).(*simulator.VirtualMachine); ok {
			ctx.WithLock(object, func() { host = ctx.Map.Get(*object.Runtime.Host).(*simulator.HostSystem).Name })
		}
	case "asterisk":
		host = "*"
	}
	return fmt.Sprintf("https://%s:%d/guestFile?%s", host, address.Port, query)
}

func (t *transfers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.sim.serveHTTP(w, r, r.URL.Path, t.serve)
}

func (t *transfers) serve(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	t.mu.Lock()
	transfer, ok := t.pending[query.Get("token")]
	if ok = ok && r.URL.Path == "/guestFile" && strconv.Itoa(transfer.number) == query.Get("id"); ok {
		delete(t.pending, query.Get("token"))
	}
	t.mu.Unlock()
	switch {
	case !ok:
		http.Error(w, "no such transfer", http.StatusNotFound)
	case transfer.session.run.isOver():
		http.Error(w, "the guest is gone", http.StatusInternalServerError)
	case transfer.upload && r.Method == http.MethodPut:
		transfer.put(w, r)
	case !transfer.upload && r.Method == http.MethodGet:
		transfer.get(w)
	default:
		http.Error(w, "not what the URL is for", http.StatusMethodNotAllowed)
	}
}

func (t *transfer) get(w http.ResponseWriter) {
	content, size, err := t.session.files().Read(t.path)
	if err != nil {
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	defer content.Close()
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.Copy(w, content)
}

func (t *transfer) put(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength >= 0 && r.ContentLength != t.size {
		http.Error(w, fmt.Sprintf("%d bytes were announced, %d sent", t.size, r.ContentLength), http.StatusBadRequest)
		return
	}
	files := t.session.files()
	mode := os.FileMode(0o644)
	if t.attributes != nil && t.attributes.Permissions != 0 {
		mode = fileMode(t.attributes.Permissions)
	}
	err := files.Write(t.path, t.size, mode, t.overwrite, r.Body)
	if err == nil && t.attributes != nil {
		err = applyAttributes(files, t.path, t.attributes)
	}
	if err != nil {
		http.Error(w, err.Error(), statusOf(err))
	}
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return http.StatusNotFound
	case errors.Is(err, os.ErrPermission):
		return http.StatusForbidden
	}
	return http.StatusInternalServerError
}

// gate is a listener that can be shut: it then closes open connections and
// every new one.
type gate struct {
	net.Listener
	mu   sync.Mutex
	shut bool
	open map[net.Conn]bool
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		shut := g.shut
		if !shut {
			g.open[conn] = true
		}
		g.mu.Unlock()
		if !shut {
			return &gatedConn{Conn: conn, gate: g}, nil
		}
		_ = conn.Close()
	}
}

func (g *gate) block(shut bool) {
	g.mu.Lock()
	g.shut = shut
	g.mu.Unlock()
	if shut {
		g.cut()
	}
}

// cut closes the open connections.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for conn := range g.open {
		_ = conn.Close()
	}
}

func (g *gate) blocked() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
}

type gatedConn struct {
	net.Conn
	gate *gate
}

func (c *gatedConn) Close() error {
	c.gate.mu.Lock()
	delete(c.gate.open, c.Conn)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}
