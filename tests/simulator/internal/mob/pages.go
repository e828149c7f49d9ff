// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package mob

import (
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

//go:embed pages.html
var pagesHTML string

var templates = template.Must(template.New("mob").Funcs(template.FuncMap{"link": pageLink}).Parse(pagesHTML))

// pageLink returns the address of an object's page, or of a method's. The
// browser escapes everything except letters and digits (rule mob_pages).
func pageLink(moid string, method ...string) template.URL {
	link := "/mob/?moid=" + escapedForLink(moid)
	if len(method) > 0 {
		link += "&method=" + escapedForLink(method[0])
	}
	return template.URL(link)
}

func escapedForLink(text string) string {
	var out strings.Builder
	for _, c := range []byte(text) {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02x", c)
		}
	}
	return out.String()
}

// objectPage shows an object.
type objectPage struct {
	Object     types.ManagedObjectReference
	Path       string
	Properties []*pageValue
	Methods    []string
}

// methodPage is the form of a method with the result of the last call.
type methodPage struct {
	Object     types.ManagedObjectReference
	Name       string
	Nonce      string
	Parameters []parameter
	Returns    string // the type
	Result     string // the type of the result; "" if nothing was sent
	Value      *pageValue
	Fault      *pageFault
}

// parameter is a field of a form.
type parameter struct {
	fieldInfo
	Type    string
	Example string // the initial content of the field
	Plain   bool
}

func newParameter(field fieldInfo) parameter {
	p := parameter{fieldInfo: field, Type: field.typeLabel(), Plain: field.plain()}
	switch {
	case p.Plain:
	case field.Type == morefType:
		kind := morefKinds[field.Name]
		p.Example = fmt.Sprintf("<%[1]s type=%[2]q xsi:type=\"ManagedObjectReference\"></%[1]s>\r\n", field.Name, kind)
	default:
		p.Example = fmt.Sprintf("<%[1]s xsi:type=%[2]q>\r\n</%[1]s>\r\n", field.Name, typeName(field.Type))
	}
	if field.Optional {
		p.Example = ""
	}
	return p
}

// pageValue is a value as a row of a table.
type pageValue struct {
	Name, Type string
	Text       string
	Quoted     bool // a string, shown in quotation marks
	Unset      bool
	Moid       string // of the object a value refers to
	Rows       []*pageValue
}

// newPageValue makes a row from an element of an answer. The type is that of
// its position, or nil if the element contains it.
func newPageValue(n *xmlNode, name string, t reflect.Type) *pageValue {
	value := &pageValue{Name: name, Type: n.xsiType()[strings.LastIndex(n.xsiType(), ":")+1:]}
	if value.Type != "" {
		if actual, ok := xsdTypes[value.Type]; ok {
			t = actual
		} else if actual, ok := types.TypeFunc()(value.Type); ok {
			t = actual
		}
	} else if t != nil {
		value.Type = typeName(t)
	}
	switch kind := n.attr("type", ""); {
	case kind != "":
		value.Type, value.Moid, value.Text = "ManagedObjectReference:"+kind, n.Text, n.Text
	case strings.HasPrefix(value.Type, "ArrayOf"):
		element := fieldsOf(t)[0].Type
		value.Type = typeName(element) + "[]"
		for i := range n.Children {
			value.Rows = append(value.Rows, newPageValue(&n.Children[i], fmt.Sprintf("[%d]", i), element))
		}
	case t != nil && t != timeType && t.Kind() == reflect.Struct:
		for _, field := range fieldsOf(t) {
			value.Rows = append(value.Rows, propertyRow(n, field))
		}
	default:
		value.Text, value.Quoted = n.Text, value.Type == "string"
	}
	return value
}

// propertyRow is the row of one property of a data object.
func propertyRow(n *xmlNode, field fieldInfo) *pageValue {
	row := &pageValue{Name: field.Name, Type: field.typeLabel(), Unset: true}
	for i := range n.Children {
		if n.Children[i].XMLName.Local != field.Name {
			continue
		}
		value := newPageValue(&n.Children[i], field.Name, field.Type)
		if !field.Many {
			return value
		}
		value.Name = fmt.Sprintf("%s[%d]", field.Name, len(row.Rows))
		row.Unset, row.Rows = false, append(row.Rows, value)
	}
	return row
}

// pageFault is a fault as a page shows it.
type pageFault struct {
	Type    string
	Message string
	Rows    []*pageValue
}

func newPageFault(n *xmlNode) *pageFault {
	fault := &pageFault{Message: n.child("faultstring").Text}
	for _, detail := range n.child("detail").Children {
		value := newPageValue(&detail, "", nil)
		fault.Type, fault.Rows = value.Type, value.Rows
	}
	return fault
}

// faultPage shows a fault, as the result of a method or instead of a page.
func (b *Browser) faultPage(w http.ResponseWriter, page *methodPage) {
	if page.Name != "" && b.rules.Is("mob_fault_page", "result") {
		page.Result = page.Fault.Type
		b.page(w, http.StatusOK, "method", page)
		return
	}
	b.page(w, http.StatusInternalServerError, "fault", page.Fault)
}

func (b *Browser) page(w http.ResponseWriter, status int, name string, content any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(status)
	if err := templates.ExecuteTemplate(w, name, content); err != nil {
		b.server.Logf("page %s: %v", name, err)
	}
}
