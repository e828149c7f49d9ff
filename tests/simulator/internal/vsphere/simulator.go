// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package vsphere is the outside of the simulator: a vCenter based on govmomi's
// simulator, with the additional methods, guests and injected faults that tests
// of forks require.
package vsphere

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/guest"
	"vmforksim/internal/mob"
	"vmforksim/internal/rules"
)

// Options are the options of the command line.
type Options struct {
	Listen        string // address of the vCenter side
	ESXListen     string // address of the ESXi endpoint; "" is none
	ESXHost       string // whose endpoint that is
	VMs           int    // per resource pool
	Hosts         int    // in the cluster
	Datacenters   int    // 0 is one
	Opaque        int    // opaque networks per datacenter
	APIVersion    string
	HiddenMethods string // auto, on or off
	Delay         time.Duration
	TaskDelay     time.Duration
	ClockOffset   time.Duration // of vCenter's clock
	Username      string
	Password      string
	Guest         string // ns, plain, or none for VMs without a guest
	GuestUsername string
	GuestPassword string
	Log           io.Writer
}

// Simulator is a running vCenter.
type Simulator struct {
	options   Options
	version   apiVersion
	hidden    bool // the hidden methods exist
	model     *simulator.Model
	service   *simulator.Service
	platform  *guest.Platform // nil without guests
	directory string          // of the guests
	ctx       *simulator.Context
	control   http.Handler
	server    *http.Server
	listener  net.Listener
	transfer  *transfers
	hosts     tls.Certificate // of the ESXi side
	esx       *esxHost        // nil without an ESXi endpoint

	calls       *calls
	rules       *rules.Rules
	faults      *faultInjector
	names       *nameIndex
	tasks       *tasks
	users       *users
	sessions    *sessions
	instances   *instances
	vApps       *vApps
	collectors  *collectors
	pages       *readPages
	events      *eventLog
	mob         *mob.Browser
	ports       *ports
	activeCalls activeCalls
	lastMAC     uint32
	files       sync.Mutex // because govmomi's simulator reads datastores without their locks
	log         *log.Logger

	work     sync.WaitGroup // work on guests, and on VMs outside of calls
	workMu   sync.Mutex     // guards what follows
	closing  bool
	forwards []net.Listener
}

// Start starts a simulator with its inventory.
func Start(options Options) (*Simulator, error) {
	if !isPublished(options.APIVersion) {
		return nil, fmt.Errorf("-api-version %s: the published versions are %s", options.APIVersion, strings.Join(publishedVersions, ", "))
	}
	if options.Log == nil {
		options.Log = io.Discard
	}
	s := &Simulator{
		options: options,
		version: parseVersion(options.APIVersion),
		calls:   newCalls(),
		rules:   rules.New(),
		faults:  newFaultInjector(),
		tasks: &tasks{
			plans:   map[types.ManagedObjectReference]*taskPlan{},
			unknown: map[types.ManagedObjectReference]bool{},
		},
		pages: &readPages{rest: map[string]readPage{}},
		log:   log.New(options.Log, "vmforksim: ", log.LstdFlags|log.Lmsgprefix),
	}
	switch options.HiddenMethods {
	case "auto":
		s.hidden = !s.version.atLeast(6, 7)
	case "on", "off":
		s.hidden = options.HiddenMethods == "on"
	default:
		return nil, fmt.Errorf("-hidden-methods is auto, on or off, not %q", options.HiddenMethods)
	}
	s.names = newNameIndex(s.rules)
	s.users = newUsers(options.Username, options.Password)
	s.sessions = &sessions{sim: s, seen: map[string]*simulator.Session{}, dead: map[string]bool{}}
	s.instances = &instances{sim: s, byMoid: map[string]*instance{}}
	s.vApps = &vApps{options: map[types.ManagedObjectReference]types.VmConfigInfo{}}
	s.collectors = &collectors{all: map[*simulator.PropertyCollector]*collectorState{}}
	s.events = newEventLog()
	s.mob = mob.New(mobServer{s}, s.rules)
	s.ports = newPorts(s)
	s.control = s.newControl()
	if err := s.start(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Simulator) start() error {
	if err := s.startPlatform(); err != nil {
		return err
	}
	certificate, err := newCertificate("vcenter.vmforksim.test")
	if err != nil {
		return err
	}
	if s.hosts, err = newCertificate(hostsName); err != nil {
		return err
	}
	if s.transfer, err = s.startTransfers(); err != nil {
		return err
	}
	if err := s.build(); err != nil {
		return err
	}
	if s.listener, err = net.Listen("tcp", s.options.Listen); err != nil {
		return err
	}
	s.connect(s.service, s.listener.Addr().String(), certificate)
	s.server = s.serve(s.listener, certificate, s)
	return nil
}

// serve serves HTTPS.
func (s *Simulator) serve(listener net.Listener, certificate tls.Certificate, handler http.Handler) *http.Server {
	server := &http.Server{
		Handler:   handler,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}},
		ErrorLog:  s.serverLog(),
	}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	return server
}

// startPlatform prepares the guests.
func (s *Simulator) startPlatform() error {
	switch s.options.Guest {
	case "", "none":
		return nil
	case string(guest.Namespaces):
	case string(guest.Plain):
		if os.Geteuid() == 0 {
			return errors.New("-guest plain runs guest programs on the host itself and is refused for root: use -guest ns")
		}
	default:
		return fmt.Errorf("-guest is ns, plain or none, not %q", s.options.Guest)
	}
	var err error
	if s.directory, err = os.MkdirTemp("", "vmforksim-"); err != nil {
		return err
	}
	s.platform, err = guest.NewPlatform(guest.Options{
		Kind:      guest.Kind(s.options.Guest),
		Directory: s.directory,
		Accounts:  s.guestAccounts(),
		Log:       s.options.Log,
	})
	if err != nil {
		return err
	}
	if err := s.platform.CanBe(s.options.GuestUsername); err != nil {
		return fmt.Errorf("-guest-username %s: %w", s.options.GuestUsername, err)
	}
	return nil
}

// connect configures in govmomi's simulator its address and how users log in.
func (s *Simulator) connect(service *simulator.Service, address string, certificate tls.Certificate) {
	service.Listen = &url.URL{Scheme: "https", Host: address, Path: "/sdk", User: url.UserPassword(s.options.Username, s.options.Password)}
	service.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	service.RegisterSDK(service.Context.Map, "/sdk/vimService")
	service.ServeMux.HandleFunc("/folder/", service.ServeDatastore)
	service.ServeMux.HandleFunc("/nfc/", simulator.ServeNFC)
	service.ServeMux.HandleFunc("/about", service.About)
	settings := service.Context.Map.OptionManager() // where uploads of an OVF import go
	settings.Setting = append(settings.Setting, &types.OptionValue{Key: "vcsim.server.url", Value: "https://" + address})
	manager := service.Context.Map.SessionManager()
	manager.ServiceHostName = address
	manager.TLS = func() *tls.Config { return service.TLS }
	manager.ValidLogin = func(req *types.Login) bool { return s.users.valid(req.UserName, req.Password) }
}

func (s *Simulator) registry() *simulator.Registry { return s.service.Context.Map }

// background returns a context for work outside of clients' calls. Locks are
// held per context, so each piece of work has its own.
func (s *Simulator) background() *simulator.Context {
	ctx := *s.ctx
	return &ctx
}

// URL is where clients connect.
func (s *Simulator) URL() string { return "https://" + s.listener.Addr().String() + "/sdk" }

// ESXURL is where clients connect to the ESXi endpoint; "" when there is none.
func (s *Simulator) ESXURL() string {
	if s.esx == nil {
		return ""
	}
	return "https://" + s.esx.listener.Addr().String() + "/sdk"
}

// serverLog receives the log of HTTP servers: errors in a call are logged,
// untrusted certificates are not.
func (s *Simulator) serverLog() *log.Logger {
	return log.New(handshakeFilter{s.options.Log}, "vmforksim: ", 0)
}

type handshakeFilter struct{ io.Writer }

func (f handshakeFilter) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("TLS handshake error")) {
		return len(line), nil
	}
	return f.Writer.Write(line)
}

// spawn runs a function beside the calls of clients. It reports whether it
// does: a simulator that is closing starts nothing new.
func (s *Simulator) spawn(f func()) bool {
	s.workMu.Lock()
	defer s.workMu.Unlock()
	if s.closing {
		return false
	}
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		f()
	}()
	return true
}

// logError logs an error of a guest, unless the simulator is closing: then
// errors are expected.
func (s *Simulator) logError(format string, arguments ...any) {
	s.workMu.Lock()
	closing := s.closing
	s.workMu.Unlock()
	if !closing {
		s.log.Printf(format, arguments...)
	}
}

// Close ends the guests and servers and removes every temporary file.
func (s *Simulator) Close() {
	s.workMu.Lock()
	closing, forwards := s.closing, s.forwards
	s.closing = true
	s.workMu.Unlock()
	if closing {
		return
	}
	for _, listener := range forwards {
		_ = listener.Close()
	}
	if s.server != nil {
		timeout, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		if s.server.Shutdown(timeout) != nil {
			_ = s.server.Close()
		}
		cancel()
	}
	if s.transfer != nil {
		s.transfer.close()
	}
	if s.esx != nil {
		s.esx.close()
	}
	if s.platform != nil { // before what waits for a guest is waited for
		if err := s.platform.Close(); err != nil {
			s.log.Print(err)
		}
	}
	s.work.Wait()
	if s.directory != "" {
		if err := os.RemoveAll(s.directory); err != nil {
			s.log.Print(err)
		}
	}
	if s.model != nil && s.model.Service != nil {
		s.model.Remove()
	}
}
