// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"crypto/tls"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

// mobClient is a user with a web browser.
type mobClient struct {
	b        *bed
	http     *http.Client
	user     string
	password string
}

// webPage is a page as shown by the browser.
type webPage struct {
	status int
	header http.Header
	text   string
}

func (b *bed) mob(user, password string) *mobClient {
	jar, _ := cookiejar.New(nil)
	c := &mobClient{b: b, user: user, password: password, http: &http.Client{
		Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}}
	b.Cleanup(c.http.CloseIdleConnections)
	return c
}

func (c *mobClient) do(method, path string, form url.Values) webPage {
	c.b.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, _ := http.NewRequestWithContext(c.b.ctx, method, strings.TrimSuffix(c.b.sim.URL(), "/sdk")+path, body)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if c.user != "" {
		r.SetBasicAuth(c.user, c.password)
	}
	res, err := c.http.Do(r)
	if err != nil {
		c.b.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.b.Fatal(err)
	}
	return webPage{res.StatusCode, res.Header, string(text)}
}

func (c *mobClient) get(path string) webPage { c.b.Helper(); return c.do(http.MethodGet, path, nil) }

var (
	noncePattern  = regexp.MustCompile(`name="vmware-session-nonce" type="hidden" value="?([^\s^"]+)"`)
	resultPattern = regexp.MustCompile(`Method Invocation Result: ([^<]*)</p>`)
	taskPattern   = regexp.MustCompile(`Result: ManagedObjectReference:Task</p>(?s:.*)href="/mob/\?moid=task%2d(\d+)"`)
	msgPattern    = regexp.MustCompile(`>msg</td><td class="c1">string</td><td>&quot;(.*)&quot;</td>`)
)

func (p webPage) nonce() string {
	if match := noncePattern.FindStringSubmatch(p.text); match != nil {
		return match[1]
	}
	return ""
}

// result is the type of a method's result, or of its fault.
func (p webPage) result() string {
	if match := resultPattern.FindStringSubmatch(p.text); match != nil {
		return match[1]
	}
	return ""
}

// message is a fault's text.
func (p webPage) message() string {
	if match := msgPattern.FindStringSubmatch(p.text); match != nil {
		return html.UnescapeString(match[1])
	}
	return ""
}

func methodPath(moid, method string) string {
	return "/mob/?moid=" + url.QueryEscape(moid) + "&method=" + method
}

// invoke opens a method's form and submits it. The fields come in pairs.
func (c *mobClient) invoke(moid, method string, fields ...string) webPage {
	c.b.Helper()
	path := methodPath(moid, method)
	form := c.get(path)
	if form.status != http.StatusOK {
		c.b.Fatalf("%s: %d %s", path, form.status, form.text)
	}
	values := url.Values{}
	if nonce := form.nonce(); nonce != "" {
		values.Set("vmware-session-nonce", nonce)
	}
	for pair := range slices.Chunk(fields, 2) {
		values.Set(pair[0], pair[1])
	}
	return c.do(http.MethodPost, path, values)
}

// task submits a method's form and waits for the task.
func (c *mobClient) task(moid, method string, fields ...string) outcome {
	c.b.Helper()
	page := c.invoke(moid, method, fields...)
	match := taskPattern.FindStringSubmatch(page.text)
	if match == nil {
		return outcome{fault: page.result(), message: page.message()}
	}
	return c.b.ended(types.ManagedObjectReference{Type: "Task", Value: "task-" + match[1]})
}

func (b *bed) sessionsOf(user string) int {
	b.Helper()
	var list []sessionInfo
	b.control(http.MethodGet, "sessions", nil, &list)
	return len(slices.DeleteFunc(list, func(s sessionInfo) bool { return s.User != user }))
}

func (b *bed) calls() callCount {
	b.Helper()
	var count callCount
	b.control(http.MethodGet, "calls", nil, &count)
	return count
}

func TestMOBAsksForALogin(t *testing.T) {
	b := start(t)
	for _, c := range []*mobClient{b.mob("", ""), b.mob("user", "wrong"), b.mob("nobody", "pass")} {
		page := c.get("/mob/")
		if page.status != http.StatusUnauthorized || page.header.Get("WWW-Authenticate") != `Basic realm="VMware HTTP server"` {
			t.Errorf("%s: %d %v", c.user, page.status, page.header)
		}
	}
}

func TestMOBSession(t *testing.T) {
	b := start(t)
	b.control(http.MethodPost, "users", map[string]any{"name": "browser", "password": "b&<\"p"}, nil)
	c := b.mob("browser", "b&<\"p")
	first := c.get(methodPath("SessionManager", "logout"))
	if cookie := first.header.Get("Set-Cookie"); !regexp.MustCompile(`^vmware_soap_session="[^"]+"; Path=/; HttpOnly; Secure`).MatchString(cookie) {
		t.Error(cookie)
	}
	if n := b.sessionsOf("browser"); n != 1 {
		t.Errorf("%d sessions", n)
	}
	c.user = "" // the cookie is enough
	for _, path := range []string{"/mob", "/mob/", "/mob/?moid=group-d1"} {
		if page := c.get(path); page.status != http.StatusOK || page.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d %v", path, page.status, page.header)
		}
	}
	if calls := b.calls(); calls.Methods["mob:Login"] != 1 || calls.HTTP["GET /mob"] != 4 {
		t.Errorf("%+v", calls)
	}
	if page := c.invoke("SessionManager", "logout"); page.result() != "void" {
		t.Error(page.text)
	}
	if n := b.sessionsOf("browser"); n != 0 {
		t.Errorf("%d sessions after the log-out", n)
	}
	if page := c.get("/mob/"); page.status != http.StatusUnauthorized {
		t.Error(page.status)
	}
	c.user = "browser"
	if page := c.get("/mob/logout"); page.status != http.StatusOK || b.sessionsOf("browser") != 0 {
		t.Error(page.status, b.sessionsOf("browser"))
	}
}

func TestMOBSessionEndsBetweenFormAndPost(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	c := b.mob("user", "pass")
	path := methodPath(vm.Value, "powerOff")
	nonce := url.Values{"vmware-session-nonce": {c.get(path).nonce()}}
	b.control(http.MethodDelete, "sessions", nil, nil)
	if page := c.do(http.MethodPost, path, nonce); page.status != http.StatusForbidden {
		t.Errorf("with a new session: %d %s", page.status, page.text)
	}
	b.control(http.MethodDelete, "sessions", nil, nil)
	c.user = ""
	if page := c.do(http.MethodPost, path, nonce); page.status != http.StatusUnauthorized {
		t.Errorf("without a log-in: %d %s", page.status, page.text)
	}
}

func TestMOBObjectPages(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	c := b.mob("user", "pass")
	for path, wanted := range map[string][]string{
		"/mob":                   {"ManagedObjectReference:ServiceInstance", `>content</td>`, `>ServiceContent<`, `href="/mob/?moid=group%2dd1"`, "retrieveContent"},
		"/mob/?moid=" + vm.Value: {"ManagedObjectReference:VirtualMachine", ">name</td>", "&quot;DC0_H0_VM0&quot;", ">Unset<", ">powerOn<"},
		"/mob/?moid=group-d1":    {"ManagedObjectReference:Folder", ">ManagedObjectReference[]<"},
		"/mob/?moid=" + vm.Value + "&doPath=runtime": {">powerState</td>", ">poweredOn<"},
	} {
		page := c.get(path)
		for _, text := range wanted {
			if page.status != http.StatusOK || !strings.Contains(page.text, text) {
				t.Errorf("%s: %d, no %s in %s", path, page.status, text, page.text)
			}
		}
		if strings.Contains(page.text, ">enableForkParent<") || strings.Contains(page.text, ">instantClone<") {
			t.Errorf("%s lists a hidden method, or one of another version", path)
		}
	}
}

func TestMOBForm(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	c := b.mob("user", "pass")
	page := c.get(methodPath(vm.Value, "createForkChild"))
	for _, text := range []string{
		"<INPUT name='name' type='text'", `<textarea name="spec"`, ">VirtualMachineCreateChildSpec<",
		"&lt;spec xsi:type=&#34;VirtualMachineCreateChildSpec&#34;&gt;", `action='/mob/?moid=` + strings.ReplaceAll(vm.Value, "-", "%2d") + `&amp;method=createForkChild'`,
	} {
		if !strings.Contains(page.text, text) {
			t.Errorf("no %s in %s", text, page.text)
		}
	}
	if page.result() != "" {
		t.Error("a form has a result")
	}
	page = c.get(methodPath(vm.Value, "enableForkParent"))
	if !strings.Contains(page.text, `<textarea name="host"`) || !strings.Contains(page.text, "ManagedObjectReference:HostSystem") {
		t.Error(page.text)
	}
	if other := c.get(methodPath(vm.Value, "powerOn")).nonce(); other == "" || other != page.nonce() {
		t.Errorf("nonces %s and %s in one session", page.nonce(), other)
	}
	if other := b.mob("user", "pass").get(methodPath(vm.Value, "powerOn")).nonce(); other == page.nonce() {
		t.Error("two sessions have one nonce")
	}
	if page := c.get(methodPath(vm.Value, "EnableForkParent_Task")); page.status != http.StatusNotFound {
		t.Errorf("by the name in SOAP: %d", page.status)
	}
}

func TestMOBHiddenMethods(t *testing.T) {
	b := start(t, withGuests)
	vm := b.vm("DC0_H0_VM0")
	c := b.mob("user", "pass")
	host := b.read(vm, "runtime").Runtime.Host.Value
	before := b.calls().Total
	b.expect("enable", c.task(vm.Value, "enableForkParent", "host", `<host type="HostSystem">`+host+`</host>`), "")
	b.expect("again", c.task(vm.Value, "enableForkParent"), "InvalidState")
	b.freeze(vm)
	name, value := `<&"'>%2f ü`, `a<b>&"c'`
	spec := `<spec xsi:type="VirtualMachineCreateChildSpec"><location><host type="HostSystem">` + host + `</host></location><persistent>false</persistent>` +
		`<configParams xmlns:xsd="http://www.w3.org/2001/XMLSchema"><key>note</key><value xsi:type="xsd:string">` + html.EscapeString(value) + `</value></configParams>` +
		`<configParams xsi:type="OptionValue"><key>other</key><value xsi:type="xsd:string">2</value></configParams></spec>`
	child := b.expect("create", c.task(vm.Value, "createForkChild", "name", name, "spec", spec), "").result.(types.ManagedObjectReference)
	if made := b.read(child, "name").Name; !strings.HasPrefix(made, `<&"'>`) {
		t.Errorf("the child's name is %q", made)
	}
	extra := b.extra(child)
	if extra["guestinfo.fork.note"] != value || extra["guestinfo.fork.other"] != "2" {
		t.Errorf("%v", extra)
	}
	if children := b.expect("children", c.task(vm.Value, "retrieveForkChildren"), "").result; children == nil {
		t.Error("no children")
	}
	if got := b.expect("parent", c.task(child.Value, "retrieveForkParent"), "").result; got != vm {
		t.Errorf("%v", got)
	}
	b.expect("disable", c.task(vm.Value, "disableForkParent"), "")
	calls := b.calls()
	if calls.Methods["mob:EnableForkParent_Task"] != 2 || calls.Methods["EnableForkParent_Task"] != 0 ||
		calls.Methods["mob:Login"] != 1 || calls.HTTP["POST /mob"] != 6 || calls.HTTP["GET /mob"] != 6 {
		t.Errorf("%+v", calls)
	}
	total := 0
	for _, n := range calls.HTTP {
		total += n
	}
	for method, n := range calls.Methods {
		if !strings.HasPrefix(method, "mob:") {
			total += n
		}
	}
	if calls.Total != total || calls.Total == before {
		t.Errorf("%d requests, %d counted by name", calls.Total, total)
	}
}

func TestMOBPublicMethods(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	c := b.mob("user", "pass")
	b.expect("off", c.task(vm.Value, "powerOff"), "")
	b.expect("on", c.task(vm.Value, "powerOn"), "")
	b.expect("rename", c.task(vm.Value, "rename", "newName", "a<b"), "")
	b.expect("reconfigure", c.task(vm.Value, "reconfigure", "spec", `<spec><annotation>x</annotation></spec>`), "")
	page := c.invoke("SearchIndex", "findByInventoryPath", "inventoryPath", "/DC0/vm/a<b")
	if page.result() != "ManagedObjectReference:ManagedEntity" || !strings.Contains(page.text, `moid=`+strings.ReplaceAll(vm.Value, "-", "%2d")+`">`+vm.Value+`</a>`) {
		t.Error(page.text)
	}
	if page := c.invoke("ServiceInstance", "retrieveContent"); page.result() != "ServiceContent" || !strings.Contains(page.text, ">apiVersion</td><td class=\"c1\">string</td><td>&quot;6.5&quot;<") {
		t.Error(page.text)
	}
	if page := c.invoke("ServiceInstance", "currentTime"); page.result() != "dateTime" {
		t.Error(page.text)
	}
}

func TestMOBFollowsTheVersion(t *testing.T) {
	for _, test := range []struct {
		version, hidden string
		fork, instant   int
	}{
		{"6.0", "auto", http.StatusOK, http.StatusNotFound},
		{"6.5", "off", http.StatusNotFound, http.StatusNotFound},
		{"6.7", "auto", http.StatusNotFound, http.StatusOK},
		{"8.0.3.0", "on", http.StatusOK, http.StatusOK},
	} {
		b := start(t, func(o *Options) { o.APIVersion, o.HiddenMethods = test.version, test.hidden })
		vm, c := b.vm("DC0_H0_VM0"), b.mob("user", "pass")
		for method, want := range map[string]int{"enableForkParent": test.fork, "instantClone": test.instant, "powerOn": http.StatusOK} {
			if got := c.get(methodPath(vm.Value, method)).status; got != want {
				t.Errorf("%s, hidden methods %s, %s: %d", test.version, test.hidden, method, got)
			}
			if got := c.do(http.MethodPost, methodPath(vm.Value, method), url.Values{}).status; want == http.StatusNotFound && got != want {
				t.Errorf("%s, POST %s: %d", test.version, method, got)
			}
		}
		if listed := strings.Contains(c.get("/mob/?moid="+vm.Value).text, ">instantClone<"); listed != (test.instant == http.StatusOK) {
			t.Errorf("%s lists instantClone: %v", test.version, listed)
		}
	}
}

func TestMOBInstantClone(t *testing.T) {
	b := start(t, withGuests, func(o *Options) { o.APIVersion = "8.0.3.0" })
	vm := b.vm("DC0_H0_VM0")
	got := b.mob("user", "pass").task(vm.Value, "instantClone", "spec", `<spec><name>clone</name><location></location>`+
		`<config><key>guestinfo.x</key><value xsi:type="xsd:string">1</value></config></spec>`)
	b.expect("clone", got, "")
	if extra := b.extra(b.vm("clone")); extra["guestinfo.x"] != "1" {
		t.Errorf("%v", extra)
	}
}

func TestMOBRefusesBadParameters(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	c := b.mob("user", "pass")
	for _, test := range []struct{ method, field, value, text string }{
		{"createForkChild", "spec", "", "missing"},
		{"createForkChild", "spec", "<spec><persistent>false</spec>", "syntax"},
		{"createForkChild", "spec", "<spec><persistent>false</persistent></spec></x>", "unexpected end element"},
		{"createForkChild", "spec", "<wrong><persistent>false</persistent></wrong>", "<spec>"},
		{"createForkChild", "spec", "<persistent>false</persistent>", "<spec>"},
		{"createForkChild", "spec", "<spec></spec>", "persistent is missing"},
		{"createForkChild", "spec", "false", "outside of an element"},
		{"createForkChild", "spec", "<spec>x<persistent>false</persistent></spec>", `text "x"`},
		{"createForkChild", "spec", "<spec><persistent>maybe</persistent></spec>", "boolean"},
		{"createForkChild", "spec", "<spec><persistent><b/></persistent></spec>", "has elements"},
		{"createForkChild", "spec", "<spec><persistent>false</persistent><location/></spec>", `"location"`},
		{"createForkChild", "spec", "<spec><persistent>false</persistent><persistent>false</persistent></spec>", `"persistent"`},
		{"createForkChild", "spec", "<spec xsi:type='VirtualMachineCloneSpec'><persistent>false</persistent></spec>", "no VirtualMachineCreateChildSpec"},
		{"createForkChild", "spec", "<spec xsi:type='Wrong'><persistent>false</persistent></spec>", "no type"},
		{"createForkChild", "spec", "<spec><location><pool>resgroup-1</pool></location><persistent>false</persistent></spec>", "refers to an object"},
		{"createForkChild", "spec", "<spec><location><bogus>1</bogus></location><persistent>false</persistent></spec>", `"bogus"`},
		{"createForkChild", "spec", "<spec><persistent>false</persistent></spec><spec><persistent>false</persistent></spec>", "one element"},
		{"createForkChild", "spec", "<?xml version='1.0'?><spec><persistent>false</persistent></spec>", "prolog"},
		{"enableForkParent", "host", "host-12", "outside of an element"},
		{"enableForkParent", "host", "<host>host-12</host>", "refers to an object"},
		{"createSnapshot", "memory", "maybe", "boolean"},
	} {
		fields := []string{"name", "x", test.field, test.value}
		if test.method == "createSnapshot" {
			fields = append(fields, "quiesce", "0")
		}
		page := c.invoke(vm.Value, test.method, fields...)
		if page.result() != "InvalidRequest" || !strings.Contains(page.message(), test.text) {
			t.Errorf("%s %q: %s %q", test.method, test.value, page.result(), page.message())
		}
	}
	for method := range b.calls().Methods {
		if method != "mob:Login" && strings.HasPrefix(method, "mob:") {
			t.Errorf("%s was called", method)
		}
	}
	b.expect("a boolean as 1", c.task(vm.Value, "createSnapshot", "name", "s", "memory", "0", "quiesce", "1"), "")
}

func TestMOBFaults(t *testing.T) {
	b := start(t)
	vm := b.vm("DC0_H0_VM0")
	b.control(http.MethodPost, "users", map[string]any{"name": "limited", "password": "p", "deny": []string{toggleForkParent}}, nil)
	page := b.mob("limited", "p").invoke(vm.Value, "enableForkParent")
	if page.status != http.StatusOK || page.result() != "NoPermission" || !strings.Contains(page.message(), "Permission") ||
		!strings.Contains(page.text, `>privilegeId</td><td class="c1">string</td><td>&quot;VirtualMachine.Config.ToggleForkParent&quot;<`) {
		t.Error(page.status, page.text)
	}
	c := b.mob("user", "pass")
	fault := map[string]any{"method": "EnableForkParent_Task", "fault": "InvalidState", "message": `not <now> & "never"`}
	b.control(http.MethodPost, "faults", fault, nil)
	if page := c.invoke(vm.Value, "enableForkParent"); page.result() != "InvalidState" || page.message() != `not <now> & "never"` {
		t.Error(page.text)
	}
	fault["at"] = "task"
	b.control(http.MethodPost, "faults", fault, nil)
	b.expect("task", c.task(vm.Value, "enableForkParent"), "InvalidState")
	b.control(http.MethodPost, "faults", map[string]any{"method": "EnableForkParent_Task", "fault": "NotAuthenticated"}, nil)
	if page := c.invoke(vm.Value, "enableForkParent"); page.result() != "NotAuthenticated" {
		t.Error(page.text)
	}
	c.user = ""
	if page := c.get("/mob/"); page.status != http.StatusUnauthorized {
		t.Errorf("the session is still there: %d", page.status)
	}
	c.user = "user"
	b.control(http.MethodPost, "faults", map[string]any{"method": "PowerOffVM_Task", "drop": "after"}, nil)
	path := methodPath(vm.Value, "powerOff")
	form := url.Values{"vmware-session-nonce": {c.get(path).nonce()}}
	r, _ := http.NewRequestWithContext(b.ctx, http.MethodPost, strings.TrimSuffix(b.sim.URL(), "/sdk")+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if res, err := c.http.Do(r); err == nil {
		t.Errorf("the answer is not lost: %d", res.StatusCode)
	}
	b.eventually("the power-off", func() bool {
		return b.read(vm, "runtime").Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff
	})
}

func TestMOBIsNotOnESX(t *testing.T) {
	b := start(t, func(o *Options) { o.ESXListen = "127.0.0.1:0" })
	for _, path := range []string{"/mob", "/mob/", "/mob/?moid=ha-host"} {
		res, err := b.raw.http.Get(strings.TrimSuffix(b.sim.ESXURL(), "/sdk") + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}
