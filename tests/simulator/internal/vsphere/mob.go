// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// mob is the Managed Object Browser: vCenter's web pages of every object and
// method, also of methods that no SDK names. What a page asks for is sent the
// way of SOAP, so that types, privileges and mishaps are the same.
type mob struct {
	sim    *Simulator
	secret uuid.UUID // that nonces are made of
}

func newMOB(sim *Simulator) *mob { return &mob{sim: sim, secret: uuid.New()} }

// serves tells whether a path is the browser's, or that of the log-in page a
// server may have in its place.
func (m *mob) serves(path string) bool {
	return path == "/mob" || strings.HasPrefix(path, "/mob/") || strings.HasPrefix(path, "/websso/")
}

const loginPath = "/websso/SAML2/SSO/vsphere.local"

func (m *mob) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch state := m.sim.rules.get("mob"); {
	case strings.HasPrefix(r.URL.Path, "/websso/"), state == "login-page":
		m.page(w, http.StatusOK, "login", nil)
		return
	case state == "redirect":
		http.Redirect(w, r, loginPath+"?SAMLRequest=zVRNb9swDL3vVxi6O%2F5I", http.StatusFound)
		return
	case state == "off":
		m.refuse(w)
		return
	}
	session := m.session(w, r)
	if session == "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		m.page(w, http.StatusUnauthorized, "status", "401 Unauthorized")
		return
	}
	if strings.TrimSuffix(r.URL.Path, "/") == "/mob/logout" {
		m.call(r, session, "Logout", *m.sim.content().SessionManager, "")
		m.page(w, http.StatusOK, "logged-out", nil)
		return
	}
	query := r.URL.Query()
	moid, name := query.Get("moid"), query.Get("method")
	if moid == "" {
		moid = "ServiceInstance"
	}
	object, known := m.object(moid)
	if !known {
		m.notFound(w, "ManagedObjectNotFound", "The object '"+moid+"' has already been deleted or has not been completely created")
		return
	}
	if name == "" {
		m.objectPage(w, r, session, object, query.Get("doPath"))
		return
	}
	method, known := m.method(object, name)
	if !known {
		m.notFound(w, "MethodNotFound", "The method "+name+" is not found on "+object.Type)
		return
	}
	page := &methodPage{Object: object, Name: name, Returns: method.result, Nonce: m.nonce(session)}
	for _, field := range method.parameters() {
		page.Parameters = append(page.Parameters, newParameter(field))
	}
	if r.Method == http.MethodPost {
		m.invoke(w, r, session, page, method)
		return
	}
	m.page(w, http.StatusOK, "method", page)
}

// refuse answers for a browser that is switched off.
func (m *mob) refuse(w http.ResponseWriter) {
	if m.sim.rules.is("mob_off_answer", "503") {
		m.page(w, http.StatusServiceUnavailable, "status", "503 Service Unavailable (Failed to connect to endpoint: "+
			"[N7Vmacore4Http20NamedPipeServiceSpecE:0x7f858806d350] _serverNamespace = /mob _isRedirect = false _pipeName =/var/run/vmware/vpxd-webserver-pipe)")
		return
	}
	m.page(w, http.StatusNotFound, "status", "404 Not Found")
}

// notFound answers for an object or a method that does not exist.
func (m *mob) notFound(w http.ResponseWriter, fault, message string) {
	if m.sim.rules.is("mob_not_found", "404") {
		m.page(w, http.StatusNotFound, "status", "404 Not Found")
		return
	}
	m.faultPage(w, &methodPage{Fault: &mobFault{Type: fault, Message: message}})
}

// session is the key of the session that a request comes in. A request with
// none, or one that is no more, logs in.
func (m *mob) session(w http.ResponseWriter, r *http.Request) string {
	if cookie, err := r.Cookie(soap.SessionCookieName); err == nil && m.sim.sessions.userOf(cookie.Value) != "" {
		return cookie.Value
	}
	name, password, given := r.BasicAuth()
	if !given {
		return ""
	}
	arguments := "<userName>" + escaped(name) + "</userName><password>" + escaped(password) + "</password>"
	answer := m.call(r, "", "Login", *m.sim.content().SessionManager, arguments)
	for _, cookie := range (&http.Response{Header: answer.header}).Cookies() {
		if cookie.Name == soap.SessionCookieName {
			w.Header().Set("Set-Cookie", fmt.Sprintf(`%s="%s"; Path=/; HttpOnly; Secure; `, cookie.Name, cookie.Value))
			return cookie.Value
		}
	}
	return ""
}

// nonce is what a session's forms hold, so that no other site can send them;
// "" on a server from before that was so.
func (m *mob) nonce(session string) string {
	if m.sim.rules.is("mob_nonce", "absent") {
		return ""
	}
	return uuid.NewSHA1(m.secret, []byte(session)).String()
}

// object finds an object by its id alone.
func (m *mob) object(moid string) (types.ManagedObjectReference, bool) {
	for _, object := range m.sim.registry().AllReference("") {
		if ref := object.Reference(); ref.Value == moid && (ref.Type != "VirtualMachine" || m.sim.names.visible(ref)) {
			return ref, true
		}
	}
	return types.ManagedObjectReference{}, false
}

// invoke calls the method of a form that was sent.
func (m *mob) invoke(w http.ResponseWriter, r *http.Request, session string, page *methodPage, method mobMethod) {
	if page.Nonce != r.PostFormValue("vmware-session-nonce") && page.Nonce != "" {
		if m.sim.rules.is("mob_wrong_nonce", "form") {
			m.page(w, http.StatusOK, "method", page)
		} else {
			m.page(w, http.StatusForbidden, "status", "403 Forbidden")
		}
		return
	}
	arguments := &valueWriter{
		undeclaredXSD: m.sim.rules.is("mob_undeclared_prefixes", "xsi and xsd"),
		untypedString: m.sim.rules.is("mob_untyped_value", "string"),
	}
	for _, field := range method.parameters() {
		if err := arguments.parameter(field, r.PostFormValue(field.Name)); err != nil {
			page.Fault = &mobFault{Type: m.sim.rules.get("mob_bad_parameter"), Message: err.Error()}
			m.faultPage(w, page)
			return
		}
	}
	body := m.call(r, session, method.wire, page.Object, arguments.String()).returned()
	if fault := body.child("Fault"); fault.XMLName.Local != "" {
		page.Fault = newMOBFault(fault)
		m.faultPage(w, page)
		return
	}
	if result := body.child(method.wire + "Response").child("returnval"); result.XMLName.Local != "" {
		page.Value = newMOBValue(result, "", method.resultType())
	}
	page.Result = method.result
	m.page(w, http.StatusOK, "method", page)
}

// call calls a method in a session, as SOAP does, and counts it as the
// browser's.
func (m *mob) call(r *http.Request, session, method string, object types.ManagedObjectReference, arguments string) *responseBuffer {
	m.sim.calls.mob(method)
	return m.send(r, session, method, object, arguments, m.sim.handleCall)
}

// ask reads for a page, uncounted and undisturbed.
func (m *mob) ask(r *http.Request, session, method string, object types.ManagedObjectReference, arguments string) *xmlNode {
	return m.send(r, session, method, object, arguments, func(inner *http.Request, _ *soapRequest, body []byte) *responseBuffer {
		return m.sim.callService(m.sim.service, inner, body)
	}).returned()
}

func (m *mob) send(r *http.Request, session, method string, object types.ManagedObjectReference, arguments string,
	send func(*http.Request, *soapRequest, []byte) *responseBuffer,
) *responseBuffer {
	body := []byte(fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" `+
		`xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="%s"><soapenv:Body><%[2]s xmlns="urn:vim25"><_this type="%[3]s">%[4]s</_this>%[5]s</%[2]s>`+
		`</soapenv:Body></soapenv:Envelope>`, xsi, method, object.Type, escaped(object.Value), arguments))
	inner := r.Clone(r.Context())
	inner.Method, inner.URL.Path = http.MethodPost, "/sdk"
	inner.Header.Del("Cookie")
	if session != "" {
		inner.AddCookie(&http.Cookie{Name: soap.SessionCookieName, Value: session})
	}
	request, err := parseRequest(body)
	if err != nil {
		panic(err) // the values were written by us
	}
	return send(inner, request, body)
}

// returned is the body of a SOAP answer.
func (a *responseBuffer) returned() *xmlNode {
	var envelope xmlNode
	if err := xml.Unmarshal(a.body.Bytes(), &envelope); err != nil {
		panic(err) // govmomi's simulator wrote it
	}
	return envelope.child("Body")
}

// objectPage shows an object, or one of its properties.
func (m *mob) objectPage(w http.ResponseWriter, r *http.Request, session string, object types.ManagedObjectReference, path string) {
	what := "<all>true</all>"
	if path != "" {
		what = "<pathSet>" + escaped(path) + "</pathSet>"
	}
	body := m.ask(r, session, "RetrievePropertiesEx", m.sim.content().PropertyCollector, fmt.Sprintf(
		`<specSet><propSet><type>%[1]s</type>%[3]s</propSet><objectSet><obj type="%[1]s">%[2]s</obj></objectSet></specSet><options/>`,
		object.Type, escaped(object.Value), what))
	if fault := body.child("Fault"); fault.XMLName.Local != "" {
		m.faultPage(w, &methodPage{Fault: newMOBFault(fault)})
		return
	}
	page := &objectPage{Object: object, Path: path, Methods: m.listed(object)}
	for _, node := range body.child("RetrievePropertiesExResponse").child("returnval").child("objects").Children {
		if node.XMLName.Local == "propSet" {
			page.Properties = append(page.Properties, newMOBValue(node.child("val"), node.child("name").Text, nil))
		}
	}
	slices.SortFunc(page.Properties, func(a, b *mobValue) int { return strings.Compare(a.Name, b.Name) })
	m.page(w, http.StatusOK, "object", page)
}
