// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package mob is the Managed Object Browser: vCenter's web pages for every
// object and method, including methods that no SDK names.
//
// A page calls a method through the Server as a SOAP request, so that types,
// privileges and injected faults are the same as over SOAP.
package mob

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vmforksim/internal/rules"
)

// Server is the vCenter behind the browser.
type Server interface {
	// Content returns the service content.
	Content() types.ServiceContent
	// User returns the user of a session, or "" if there is no such session.
	User(session string) string
	// Find returns the object with a managed object ID.
	Find(moid string) (types.ManagedObjectReference, bool)
	// HasMethod reports whether the server's version has a method.
	HasMethod(name string) bool
	// IsHidden reports whether a method is one that vSphere does not publish.
	IsHidden(name string) bool
	// Call answers a SOAP request, and counts it as a call of the browser.
	// Injected faults apply.
	Call(r *http.Request, body []byte) Response
	// Read answers a SOAP request for a page. It is not counted, and no
	// injected fault applies.
	Read(r *http.Request, body []byte) Response
	// Logf reports an error of the browser itself.
	Logf(format string, arguments ...any)
}

// Response is the answer to a SOAP request.
type Response struct {
	Header http.Header
	Body   []byte
}

// Browser serves the pages.
type Browser struct {
	server Server
	rules  *rules.Rules
	secret uuid.UUID // nonces are derived from it
}

// New returns a browser for a server.
func New(server Server, rules *rules.Rules) *Browser {
	return &Browser{server: server, rules: rules, secret: uuid.New()}
}

// Serves reports whether a path belongs to the browser, or to the login page
// that a server may have instead.
func (b *Browser) Serves(path string) bool {
	return path == "/mob" || strings.HasPrefix(path, "/mob/") || strings.HasPrefix(path, "/websso/")
}

const loginPath = "/websso/SAML2/SSO/vsphere.local"

func (b *Browser) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch state := b.rules.Get("mob"); {
	case strings.HasPrefix(r.URL.Path, "/websso/"), state == "login-page":
		b.page(w, http.StatusOK, "login", nil)
		return
	case state == "redirect":
		http.Redirect(w, r, loginPath+"?SAMLRequest=zVRNb9swDL3vVxi6O%2F5I", http.StatusFound)
		return
	case state == "off":
		b.refuse(w)
		return
	}
	session := b.session(w, r)
	if session == "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		b.page(w, http.StatusUnauthorized, "status", "401 Unauthorized")
		return
	}
	if strings.TrimSuffix(r.URL.Path, "/") == "/mob/logout" {
		answer := b.call(r, session, "Logout", *b.server.Content().SessionManager, "").soapBody()
		if fault := answer.child("Fault"); fault.XMLName.Local != "" {
			b.faultPage(w, &methodPage{Fault: newPageFault(fault)})
			return
		}
		b.page(w, http.StatusOK, "logged-out", nil)
		return
	}
	query := r.URL.Query()
	moid, name := query.Get("moid"), query.Get("method")
	if moid == "" {
		moid = "ServiceInstance"
	}
	object, known := b.server.Find(moid)
	if !known {
		b.notFound(w, "ManagedObjectNotFound", "The object '"+moid+"' has already been deleted or has not been completely created")
		return
	}
	if name == "" {
		b.objectPage(w, r, session, object, query.Get("doPath"))
		return
	}
	method, known := b.method(object, name)
	if !known {
		b.notFound(w, "MethodNotFound", "The method "+name+" is not found on "+object.Type)
		return
	}
	page := &methodPage{Object: object, Name: name, Returns: method.result, Nonce: b.nonce(session)}
	for _, field := range method.parameters() {
		page.Parameters = append(page.Parameters, newParameter(field))
	}
	if r.Method == http.MethodPost {
		b.invoke(w, r, session, page, method)
		return
	}
	b.page(w, http.StatusOK, "method", page)
}

// refuse answers for a browser that is switched off.
func (b *Browser) refuse(w http.ResponseWriter) {
	if b.rules.Is("mob_off_answer", "503") {
		b.page(w, http.StatusServiceUnavailable, "status", "503 Service Unavailable (Failed to connect to endpoint: "+
			"[N7Vmacore4Http20NamedPipeServiceSpecE:0x7f858806d350] _serverNamespace = /mob _isRedirect = false _pipeName =/var/run/vmware/vpxd-webserver-pipe)")
		return
	}
	b.page(w, http.StatusNotFound, "status", "404 Not Found")
}

// notFound answers for an object or a method that does not exist.
func (b *Browser) notFound(w http.ResponseWriter, fault, message string) {
	if b.rules.Is("mob_not_found", "404") {
		b.page(w, http.StatusNotFound, "status", "404 Not Found")
		return
	}
	b.faultPage(w, &methodPage{Fault: &pageFault{Type: fault, Message: message}})
}

// session returns the key of the session of a request. A request without a
// session, or in one that has ended, logs in.
func (b *Browser) session(w http.ResponseWriter, r *http.Request) string {
	if cookie, err := r.Cookie(soap.SessionCookieName); err == nil && b.server.User(cookie.Value) != "" {
		return cookie.Value
	}
	name, password, given := r.BasicAuth()
	if !given {
		return ""
	}
	arguments := "<userName>" + escaped(name) + "</userName><password>" + escaped(password) + "</password>"
	answer := b.call(r, "", "Login", *b.server.Content().SessionManager, arguments)
	for _, cookie := range (&http.Response{Header: answer.Header}).Cookies() {
		if cookie.Name == soap.SessionCookieName {
			w.Header().Set("Set-Cookie", fmt.Sprintf(`%s="%s"; Path=/; HttpOnly; Secure; `, cookie.Name, cookie.Value))
			return cookie.Value
		}
	}
	return ""
}

// nonce returns the value that a session's forms contain so that no other site
// can send them; "" on servers that do not have it yet.
func (b *Browser) nonce(session string) string {
	if b.rules.Is("mob_nonce", "absent") {
		return ""
	}
	return uuid.NewSHA1(b.secret, []byte(session)).String()
}

// invoke calls the method of a form that was sent.
func (b *Browser) invoke(w http.ResponseWriter, r *http.Request, session string, page *methodPage, method methodInfo) {
	if page.Nonce != r.PostFormValue("vmware-session-nonce") && page.Nonce != "" {
		if b.rules.Is("mob_wrong_nonce", "form") {
			b.page(w, http.StatusOK, "method", page)
		} else {
			b.page(w, http.StatusForbidden, "status", "403 Forbidden")
		}
		return
	}
	arguments := &valueWriter{
		undeclaredXSD: b.rules.Is("mob_undeclared_prefixes", "xsi and xsd"),
		untypedString: b.rules.Is("mob_untyped_value", "string"),
	}
	for _, field := range method.parameters() {
		if err := arguments.parameter(field, r.PostFormValue(field.Name)); err != nil {
			page.Fault = &pageFault{Type: b.rules.Get("mob_bad_parameter"), Message: err.Error()}
			b.faultPage(w, page)
			return
		}
	}
	body := b.call(r, session, method.soapName, page.Object, arguments.String()).soapBody()
	if fault := body.child("Fault"); fault.XMLName.Local != "" {
		page.Fault = newPageFault(fault)
		b.faultPage(w, page)
		return
	}
	if result := body.child(method.soapName + "Response").child("returnval"); result.XMLName.Local != "" {
		page.Value = newPageValue(result, "", method.resultType())
	}
	page.Result = method.result
	b.page(w, http.StatusOK, "method", page)
}

// call calls a method in a session, as SOAP does, and counts it as the
// browser's.
func (b *Browser) call(r *http.Request, session, method string, object types.ManagedObjectReference, arguments string) Response {
	inner, body := soapCall(r, session, method, object, arguments)
	return b.server.Call(inner, body)
}

// read sends the SOAP request that reads the content of a page.
func (b *Browser) read(r *http.Request, session, method string, object types.ManagedObjectReference, arguments string) *xmlNode {
	inner, body := soapCall(r, session, method, object, arguments)
	return b.server.Read(inner, body).soapBody()
}

// soapCall turns the request for a page into the SOAP request for a method.
func soapCall(r *http.Request, session, method string, object types.ManagedObjectReference, arguments string) (*http.Request, []byte) {
	body := []byte(fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" `+
		`xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="%s"><soapenv:Body><%[2]s xmlns="urn:vim25"><_this type="%[3]s">%[4]s</_this>%[5]s</%[2]s>`+
		`</soapenv:Body></soapenv:Envelope>`, xsi, method, object.Type, escaped(object.Value), arguments))
	inner := r.Clone(r.Context())
	inner.Method, inner.URL.Path = http.MethodPost, "/sdk"
	inner.Header.Del("Cookie")
	if session != "" {
		inner.AddCookie(&http.Cookie{Name: soap.SessionCookieName, Value: session})
	}
	return inner, body
}

// soapBody returns the body of a SOAP response.
func (r Response) soapBody() *xmlNode {
	var envelope xmlNode
	if err := xml.Unmarshal(r.Body, &envelope); err != nil {
		panic(err) // govmomi's simulator wrote it
	}
	return envelope.child("Body")
}

// objectPage shows an object, or one of its properties.
func (b *Browser) objectPage(w http.ResponseWriter, r *http.Request, session string, object types.ManagedObjectReference, path string) {
	what := "<all>true</all>"
	if path != "" {
		what = "<pathSet>" + escaped(path) + "</pathSet>"
	}
	body := b.read(r, session, "RetrievePropertiesEx", b.server.Content().PropertyCollector, fmt.Sprintf(
		`<specSet><propSet><type>%[1]s</type>%[3]s</propSet><objectSet><obj type="%[1]s">%[2]s</obj></objectSet></specSet><options/>`,
		object.Type, escaped(object.Value), what))
	if fault := body.child("Fault"); fault.XMLName.Local != "" {
		b.faultPage(w, &methodPage{Fault: newPageFault(fault)})
		return
	}
	page := &objectPage{Object: object, Path: path, Methods: b.listed(object)}
	for _, node := range body.child("RetrievePropertiesExResponse").child("returnval").child("objects").Children {
		if node.XMLName.Local == "propSet" {
			page.Properties = append(page.Properties, newPageValue(node.child("val"), node.child("name").Text, nil))
		}
	}
	slices.SortFunc(page.Properties, func(a, b *pageValue) int { return strings.Compare(a.Name, b.Name) })
	b.page(w, http.StatusOK, "object", page)
}
