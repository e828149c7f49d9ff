// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The HTTP handler of vCenter: SOAP requests, injected faults, versions, and
// unknown methods.

package vsphere

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/ovfenv"
	"vmforksim/internal/vimfault"
)

// ServeHTTP handles all requests to vCenter: it counts them, checks what
// govmomi's simulator does not check (SOAPAction, unknown methods), injects the
// requested faults, and forwards the rest.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := strings.TrimSuffix(r.URL.Path, "/"); {
	case strings.HasPrefix(path, "/vmforksim/"):
		s.control.ServeHTTP(w, r)
	case path == "/sdk/vimServiceVersions.xml":
		s.serveHTTP(w, r, path, s.serveVersions)
	case r.Method == http.MethodPost && (path == "/sdk" || path == "/sdk/vimService"):
		r.URL.Path = path
		s.serveSOAP(w, r)
	case s.mob.Serves(path):
		s.serveHTTP(w, r, path, s.mob.ServeHTTP)
	default:
		s.serveHTTP(w, r, path, s.service.ServeMux.ServeHTTP)
	}
}

// serveHTTP counts and answers a request other than SOAP, with the injected
// faults that apply to it.
func (s *Simulator) serveHTTP(w http.ResponseWriter, r *http.Request, path string, serve http.HandlerFunc) {
	name := r.Method + " " + path
	s.calls.http(name)
	rule := s.faults.take("call", name, "")
	if rule == nil {
		serve(w, r)
		return
	}
	s.faults.carryOut(rule, r, func() *responseBuffer {
		answer := newResponseBuffer()
		serve(answer, r)
		return answer
	}).send(w)
}

func (s *Simulator) serveVersions(w http.ResponseWriter, _ *http.Request) {
	var prior strings.Builder
	for _, version := range priorVersions(s.options.APIVersion) {
		fmt.Fprintf(&prior, "   <version>%s</version>\n", version)
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?>
<namespaces version="1.0">
 <namespace>
  <name>urn:vim25</name>
  <version>%s</version>
  <priorVersions>
%s  </priorVersions>
 </namespace>
</namespaces>
`, s.options.APIVersion, prior.String())
}

// readSOAP parses a request, and answers one that is not valid SOAP itself.
func (s *Simulator) readSOAP(w http.ResponseWriter, r *http.Request) (*soapRequest, []byte) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client went away
	}
	request, err := parseRequest(body)
	if err != nil {
		writeFault(w, "ServerFaultCode", "XML document is not well formed: "+err.Error(), &types.InvalidRequest{})
		return nil, nil
	}
	s.calls.soap(request.Method)
	if message := s.versionProblem(r.Header.Get("SOAPAction")); message != "" {
		writeFault(w, "VersionMismatchFaultCode", message, &types.InvalidRequest{})
		return nil, nil
	}
	if request.Namespace != "urn:vim25" {
		writeFault(w, "ServerFaultCode", fmt.Sprintf("Unsupported namespace %q in content of SOAP body", request.Namespace), &types.InvalidRequest{})
		return nil, nil
	}
	return request, body
}

func (s *Simulator) serveSOAP(w http.ResponseWriter, r *http.Request) {
	request, body := s.readSOAP(w, r)
	if request == nil {
		return
	}
	if !s.hasMethod(request.Method) || isHiddenMethod(request.Method) && s.rules.Is("hidden_methods_over_soap", "unknown") {
		s.writeUnknownMethod(w, request)
		return
	}
	s.handleCall(r, request, body).send(w)
}

// handleCall answers a request, with the injected faults that apply to it. A
// dropped connection ends the handler.
func (s *Simulator) handleCall(r *http.Request, request *soapRequest, body []byte) *responseBuffer {
	rule := s.faults.take("call", request.Method, request.VM, s.names.of(request.VM), request.Name)
	return s.faults.carryOut(rule, r, func() *responseBuffer {
		if rule != nil && rule.Drop == "" {
			if fault := rule.fault(); fault != nil {
				if _, dropped := fault.(*types.NotAuthenticated); dropped {
					s.dropSession(r)
				}
				answer := newResponseBuffer()
				writeFault(answer, "ServerFaultCode", vimfault.Text(fault), fault)
				return answer
			}
		}
		if request.Method == "ReconfigVM_Task" {
			body = ovfenv.MarkBlanks(body)
		}
		return s.callService(s.service, r, body)
	})
}

// callService forwards a request to govmomi's simulator.
func (s *Simulator) callService(service *simulator.Service, r *http.Request, body []byte) (answer *responseBuffer) {
	answer = newResponseBuffer()
	defer s.recoverPanic(r, answer)
	r.Body = io.NopCloser(bytes.NewReader(body))
	service.ServeSDK(answer, r)
	answer.completeFault()
	answer.header.Set("Content-Type", "text/xml; charset=utf-8")
	return answer
}

// dropSession ends the session of a request: a server that answers
// NotAuthenticated has no session, and a client logs in again with the old
// cookie.
func (s *Simulator) dropSession(r *http.Request) {
	if cookie, err := r.Cookie(soap.SessionCookieName); err == nil {
		s.sessions.drop(cookie.Value)
	}
}

// versionProblem returns why a SOAPAction is refused. Clients must not depend
// on a version of the internal API, or on an unpublished one.
func (s *Simulator) versionProblem(action string) string {
	action = strings.Trim(action, `"`)
	version, isVim25 := strings.CutPrefix(action, "urn:vim25/")
	accepted := isVim25 && isPublished(version)
	if accepted && s.rules.Is("newer_soap_version", "refused") {
		number := parseVersion(version)
		accepted = s.version.atLeast(number[:]...)
	}
	if accepted {
		return ""
	}
	return fmt.Sprintf("Unsupported version URI %q", action)
}

// hasInstantClone reports whether the server's version has Instant Clone.
func (s *Simulator) hasInstantClone() bool { return s.version.atLeast(6, 7) }

// hasMethod reports whether the server's version has a method.
func (s *Simulator) hasMethod(method string) bool {
	switch {
	case isHiddenMethod(method):
		return s.hidden
	case strings.Contains(method, "InstantClone"):
		return s.hasInstantClone()
	case method == "CheckPowerOn_Task":
		return s.version.atLeast(6, 7)
	case strings.Contains(method, "UserPrivilegeOnEntities"):
		return s.version.atLeast(6, 5)
	}
	request, ok := types.TypeFunc()(method)
	if !ok || request.Kind() != reflect.Struct {
		return false
	}
	_, ok = request.FieldByName("This") // a data type has none
	return ok
}

func (s *Simulator) writeUnknownMethod(w http.ResponseWriter, request *soapRequest) {
	message := fmt.Sprintf("Unable to resolve WSDL method name %s for namespace name urn:vim25", request.Method)
	var fault types.BaseMethodFault
	switch s.rules.Get("unknown_method_fault") {
	case "RuntimeFault":
		fault = &types.RuntimeFault{}
	case "MethodNotFound":
		fault = &types.MethodNotFound{Receiver: request.This, Method: request.Method}
	case "NotSupported":
		fault = &types.NotSupported{}
	default:
		fault = &types.InvalidRequest{}
	}
	writeFault(w, "ServerFaultCode", message, fault)
}

// responseBuffer holds a response back until it is known whether it is sent.
type responseBuffer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newResponseBuffer() *responseBuffer {
	return &responseBuffer{header: http.Header{}, status: http.StatusOK}
}

func (b *responseBuffer) Header() http.Header            { return b.header }
func (b *responseBuffer) WriteHeader(status int)         { b.status = status }
func (b *responseBuffer) Write(text []byte) (int, error) { return b.body.Write(text) }

// send sends the response. If it is shorter than its header announces, the
// HTTP server closes the connection after it.
func (b *responseBuffer) send(w http.ResponseWriter) {
	maps.Copy(w.Header(), b.header)
	w.WriteHeader(b.status)
	_, _ = w.Write(b.body.Bytes())
}

var (
	emptyFaultString = []byte("<faultstring></faultstring>")
	faultType        = regexp.MustCompile(`xsi:type="(\w+)"`)
)

// completeFault adds to the faults of govmomi's simulator the message that
// vCenter sends with them, and the real names of objects.
func (b *responseBuffer) completeFault() {
	if b.status == http.StatusOK {
		return
	}
	body := bytes.ReplaceAll(b.body.Bytes(), []byte(overrideSuffix), nil)
	if match := faultType.FindSubmatch(body); match != nil {
		if fault, err := vimfault.New(string(match[1]), "", ""); err == nil {
			body = bytes.Replace(body, emptyFaultString, []byte("<faultstring>"+vimfault.Text(fault)+"</faultstring>"), 1)
		}
	}
	b.body = *bytes.NewBuffer(body)
}

// writeJSON answers a control request.
func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}
