// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package mob

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// The Managed Object Browser shows the types of the API and parses their
// values. The types are those of govmomi and ours.

// fieldInfo is a property of a data object, or a parameter of a method.
type fieldInfo struct {
	Name     string
	Type     reflect.Type
	Many     bool
	Optional bool
}

// xsdTypes are the types of values.
var xsdTypes = map[string]reflect.Type{
	"boolean": reflect.TypeOf(true), "byte": reflect.TypeOf(int8(0)), "short": reflect.TypeOf(int16(0)), "int": reflect.TypeOf(int32(0)),
	"long": reflect.TypeOf(int64(0)), "float": reflect.TypeOf(float32(0)), "double": reflect.TypeOf(float64(0)),
	"string": reflect.TypeOf(""), "dateTime": timeType, "base64Binary": reflect.TypeOf([]byte{}),
}

var (
	morefType = reflect.TypeOf(types.ManagedObjectReference{})
	timeType  = reflect.TypeOf(time.Time{})
)

// fieldsOf lists a type's properties in the order of SOAP.
func fieldsOf(t reflect.Type) []fieldInfo {
	var fields []fieldInfo
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("xml"), ",")
		switch {
		case field.Anonymous:
			fields = append(fields, fieldsOf(field.Type)...)
			continue
		case name == "" || name == "-" || name == "_this" || strings.Contains(options, "attr") && !strings.Contains(options, "typeattr"):
			continue
		}
		optional := strings.Contains(options, "omitempty") || field.Type.Kind() == reflect.Pointer
		kind, many := field.Type, false
		if kind.Kind() == reflect.Slice && kind.Elem().Kind() != reflect.Uint8 {
			kind, many = kind.Elem(), true
		}
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		fields = append(fields, fieldInfo{name, kind, many, optional})
	}
	return fields
}

// typeName returns the name of a type in the API.
func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int8, reflect.Uint8:
		return "byte"
	case reflect.Int16:
		return "short"
	case reflect.Int32:
		return "int"
	case reflect.Int64:
		return "long"
	case reflect.Float32:
		return "float"
	case reflect.Float64:
		return "double"
	case reflect.Slice:
		return "base64Binary"
	case reflect.Interface:
		if t.Name() == "AnyType" || t.Name() == "" {
			return "anyType"
		}
		return strings.TrimPrefix(t.Name(), "Base")
	}
	if t == timeType {
		return "dateTime"
	}
	return t.Name()
}

// typeLabel returns the label of a field's type on a page.
func (f fieldInfo) typeLabel() string {
	label := typeName(f.Type)
	if f.Type == morefType {
		if kind, ok := morefKinds[f.Name]; ok {
			label += ":" + kind
		}
	}
	if f.Many {
		label += "[]"
	}
	return label
}

// morefKinds are the types of the objects that parameters refer to, which
// govmomi's types do not contain.
var morefKinds = map[string]string{
	"datastore": "Datastore", "entity": "ManagedEntity", "folder": "Folder", "host": "HostSystem", "pool": "ResourcePool",
}

// plain reports whether a parameter is entered as text without markup.
func (f fieldInfo) plain() bool {
	return !f.Many && f.Type != morefType && (f.Type == timeType || f.Type.Kind() != reflect.Struct && f.Type.Kind() != reflect.Interface)
}

// xmlNode is an element of XML.
type xmlNode struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []xmlNode  `xml:",any"`
}

const xsi = "http://www.w3.org/2001/XMLSchema-instance"

// attr returns an attribute. An undeclared prefix stands for itself.
func (n *xmlNode) attr(name string, spaces ...string) string {
	for _, attr := range n.Attrs {
		if attr.Name.Local == name && slices.Contains(spaces, attr.Name.Space) {
			return attr.Value
		}
	}
	return ""
}

func (n *xmlNode) xsiType() string { return n.attr("type", xsi, "xsi") }

// child returns the first child of a name.
func (n *xmlNode) child(name string) *xmlNode {
	for i := range n.Children {
		if n.Children[i].XMLName.Local == name {
			return &n.Children[i]
		}
	}
	return &xmlNode{}
}

// parseElements parses a sequence of elements, the text of a parameter that is
// an array.
func parseElements(text string) ([]xmlNode, error) {
	decoder := xml.NewDecoder(strings.NewReader(text))
	var nodes []xmlNode
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return nodes, nil
		}
		if err != nil {
			return nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			var node xmlNode
			if err := decoder.DecodeElement(&node, &token); err != nil {
				return nil, err
			}
			nodes = append(nodes, node)
		case xml.CharData:
			if stray := strings.TrimSpace(string(token)); stray != "" {
				return nil, fmt.Errorf("text %q outside of an element", stray)
			}
		case xml.ProcInst, xml.Directive:
			return nil, fmt.Errorf("a prolog is not part of a value")
		}
	}
}

// valueWriter writes values in the format of a SOAP request, and refuses values
// of other types.
type valueWriter struct {
	strings.Builder
	undeclaredXSD bool // "xsd:" needs no declaration
	untypedString bool // a value of any type without xsi:type is a string
}

// parameter writes what was entered for a parameter.
func (w *valueWriter) parameter(f fieldInfo, entered string) error {
	if strings.TrimSpace(entered) == "" {
		if !f.Optional {
			return fmt.Errorf("Required parameter %s is missing", f.Name)
		}
		return nil
	}
	if f.plain() {
		return w.leaf(f.Name, f.Type, entered)
	}
	nodes, err := parseElements(entered)
	if err != nil {
		return fmt.Errorf("parameter %s: %w", f.Name, err)
	}
	if len(nodes) != 1 && !f.Many {
		return fmt.Errorf("parameter %s is one element <%s>", f.Name, f.Name)
	}
	for i := range nodes {
		if name := nodes[i].XMLName.Local; name != f.Name {
			return fmt.Errorf("Got <%s> tag when expecting <%s> tag", name, f.Name)
		}
		if err := w.element(&nodes[i], f.Type, false); err != nil {
			return err
		}
	}
	return nil
}

func (w *valueWriter) element(n *xmlNode, t reflect.Type, xsdDeclared bool) error {
	xsdDeclared = xsdDeclared || n.attr("xsd", "xmlns") != ""
	name, given := n.XMLName.Local, n.xsiType()
	if given != "" {
		actual, err := w.actual(given, t, xsdDeclared)
		if err != nil {
			return fmt.Errorf("<%s>: %w", name, err)
		}
		t = actual
	} else if t.Kind() == reflect.Interface {
		actual, ok := types.TypeFunc()(typeName(t))
		if typeName(t) == "anyType" {
			actual, ok = reflect.TypeOf(""), w.untypedString
		}
		if !ok {
			return fmt.Errorf("<%s> of type %s needs xsi:type", name, typeName(t))
		}
		t = actual
	}
	if t == morefType {
		return w.reference(n)
	}
	if t == timeType || t.Kind() != reflect.Struct {
		if len(n.Children) > 0 {
			return fmt.Errorf("<%s> is a value of type %s, and has elements", name, typeName(t))
		}
		return w.leaf(name, t, n.Text)
	}
	if stray := strings.TrimSpace(n.Text); stray != "" {
		return fmt.Errorf("text %q in <%s> of type %s", stray, name, typeName(t))
	}
	fmt.Fprintf(w, `<%s xsi:type="%s">`, name, typeName(t))
	if err := w.properties(n.Children, t, xsdDeclared); err != nil {
		return err
	}
	fmt.Fprintf(w, "</%s>", name)
	return nil
}

// properties writes the properties of a data object, which must be in the order
// of its type.
func (w *valueWriter) properties(nodes []xmlNode, t reflect.Type, xsdDeclared bool) error {
	for _, field := range fieldsOf(t) {
		seen := 0
		for ; len(nodes) > 0 && nodes[0].XMLName.Local == field.Name && (seen == 0 || field.Many); seen++ {
			if err := w.element(&nodes[0], field.Type, xsdDeclared); err != nil {
				return err
			}
			nodes = nodes[1:]
		}
		if seen == 0 && !field.Optional && !field.Many {
			return fmt.Errorf("Required property %s is missing from data object of type %s", field.Name, typeName(t))
		}
	}
	if len(nodes) > 0 {
		return fmt.Errorf("Unexpected element tag %q seen while parsing data object of type %s", nodes[0].XMLName.Local, typeName(t))
	}
	return nil
}

// actual returns the type that xsi:type names, which must be a suitable one.
func (w *valueWriter) actual(given string, t reflect.Type, xsdDeclared bool) (reflect.Type, error) {
	if strings.HasPrefix(given, "xsd:") && !xsdDeclared && !w.undeclaredXSD {
		return nil, fmt.Errorf("the prefix of type %s is not declared", given)
	}
	name := given[strings.LastIndex(given, ":")+1:]
	if name == "ManagedObjectReference" && t == morefType {
		return t, nil
	}
	actual, ok := xsdTypes[name]
	if !ok {
		actual, ok = types.TypeFunc()(name)
	}
	switch {
	case !ok:
		return nil, fmt.Errorf("no type %s", given)
	case t.Kind() == reflect.Interface && (typeName(t) == "anyType" || reflect.PointerTo(actual).Implements(t)):
		return actual, nil
	case t.Kind() != reflect.Interface && (actual == t || name == typeName(t)):
		return t, nil
	}
	return nil, fmt.Errorf("type %s is no %s", given, typeName(t))
}

func (w *valueWriter) reference(n *xmlNode) error {
	kind, value := n.attr("type", ""), strings.TrimSpace(n.Text)
	if kind == "" || value == "" || len(n.Children) > 0 {
		return fmt.Errorf(`<%[1]s> refers to an object: <%[1]s type="Type">id</%[1]s>`, n.XMLName.Local)
	}
	fmt.Fprintf(w, `<%[1]s type="%[2]s">%[3]s</%[1]s>`, n.XMLName.Local, escaped(kind), escaped(value))
	return nil
}

func (w *valueWriter) leaf(name string, t reflect.Type, text string) error {
	if t.Kind() != reflect.String {
		text = strings.TrimSpace(text)
	}
	if !isValue(t, text) {
		return fmt.Errorf("%q is no value of type %s for %s", text, typeName(t), name)
	}
	kind := typeName(t)
	if _, basic := xsdTypes[kind]; basic {
		kind = "xsd:" + kind
	}
	fmt.Fprintf(w, `<%[1]s xsi:type="%[2]s">%[3]s</%[1]s>`, name, kind, escaped(text))
	return nil
}

// isValue reports whether a text is a value of a type without properties.
func isValue(t reflect.Type, text string) bool {
	var err error
	switch t.Kind() {
	case reflect.Bool:
		return slices.Contains([]string{"true", "false", "1", "0"}, text)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		_, err = strconv.ParseInt(text, 10, t.Bits())
	case reflect.Float32, reflect.Float64:
		_, err = strconv.ParseFloat(text, t.Bits())
	case reflect.Slice:
		_, err = base64.StdEncoding.DecodeString(text)
	case reflect.Struct:
		_, err = time.Parse(time.RFC3339, text)
	case reflect.String:
		if values := reflect.Zero(t).MethodByName("Values"); values.IsValid() {
			known := values.Call(nil)[0]
			for i := range known.Len() {
				if known.Index(i).String() == text {
					return true
				}
			}
			return false
		}
	}
	return err == nil
}

func escaped(text string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(text))
	return out.String()
}
