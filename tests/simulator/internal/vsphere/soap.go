// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package vsphere

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// soapRequest is what the front handler looks at before govmomi's simulator
// gets a request.
type soapRequest struct {
	Namespace string
	Method    string
	This      types.ManagedObjectReference
	VM        string // moid of a guest operation's vm, else of _this
	Name      string // the name of what the request makes, where it says one
}

// parseRequest reads the outline of a SOAP request.
func parseRequest(body []byte) (*soapRequest, error) {
	var envelope struct {
		Body struct {
			Request struct {
				XMLName xml.Name
				This    types.ManagedObjectReference `xml:"_this"`
				VM      types.ManagedObjectReference `xml:"vm"`
				Name    string                       `xml:"name"`
				Spec    string                       `xml:"spec>name"`
			} `xml:",any"`
		} `xml:"Body"`
	}
	if err := xml.Unmarshal(body, &envelope); err != nil {
		return nil, err
	}
	element := envelope.Body.Request
	if element.XMLName.Local == "" {
		return nil, fmt.Errorf("the SOAP body is empty")
	}
	request := &soapRequest{
		Namespace: element.XMLName.Space,
		Method:    element.XMLName.Local,
		This:      element.This,
		VM:        element.VM.Value,
		Name:      element.Name,
	}
	if request.Method == "InstantClone_Task" {
		request.Name = element.Spec
	}
	if request.VM == "" && element.This.Type == "VirtualMachine" {
		request.VM = element.This.Value
	}
	return request, nil
}

// soapFault is a fault as vSphere writes it: the detail's element is named
// after the fault's type.
type soapFault struct {
	Code   string `xml:"faultcode"`
	String string `xml:"faultstring"`
	Detail any    `xml:"detail"`
}

type faultDetail struct{ fault types.BaseMethodFault }

func (d faultDetail) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	kind := reflect.TypeOf(d.fault).Elem().Name()
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	element := xml.StartElement{
		Name: xml.Name{Local: kind + "Fault"},
		Attr: []xml.Attr{
			{Name: xml.Name{Local: "xmlns"}, Value: "urn:vim25"},
			{Name: xml.Name{Local: "xsi:type"}, Value: kind},
		},
	}
	if err := e.EncodeElement(d.fault, element); err != nil {
		return err
	}
	return e.EncodeToken(start.End())
}

// writeFault answers a SOAP request with a fault.
func writeFault(w http.ResponseWriter, code, message string, fault types.BaseMethodFault) {
	envelope := struct {
		XMLName xml.Name `xml:"soapenv:Envelope"`
		Env     string   `xml:"xmlns:soapenv,attr"`
		XSI     string   `xml:"xmlns:xsi,attr"`
		XSD     string   `xml:"xmlns:xsd,attr"`
		Body    struct {
			Fault soapFault `xml:"soapenv:Fault"`
		} `xml:"soapenv:Body"`
	}{
		Env: "http://schemas.xmlsoap.org/soap/envelope/",
		XSI: "http://www.w3.org/2001/XMLSchema-instance",
		XSD: "http://www.w3.org/2001/XMLSchema",
	}
	envelope.Body.Fault = soapFault{Code: code, String: message, Detail: faultDetail{fault}}
	var body bytes.Buffer
	body.WriteString(xml.Header)
	if err := xml.NewEncoder(&body).Encode(envelope); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = w.Write(body.Bytes())
}

// newFault makes a fault of a type known by name, about a VM, with a text for
// people.
func newFault(kind, vm, message string) (types.BaseMethodFault, error) {
	goType, ok := types.TypeFunc()(kind)
	if ok {
		if fault, ok := reflect.New(goType).Interface().(types.BaseMethodFault); ok {
			fillRequired(reflect.ValueOf(fault).Elem(), vm)
			return withText(fault, message), nil
		}
	}
	return nil, fmt.Errorf("%q is not the name of a fault", kind)
}

// fillRequired gives a fault what a server never leaves out, and without which
// a client cannot read it: enumerations and references.
func fillRequired(fault reflect.Value, vm string) {
	for i := range fault.NumField() {
		field, kind := fault.Field(i), fault.Type().Field(i)
		if kind.Anonymous {
			fillRequired(field, vm)
			continue
		}
		if strings.Contains(kind.Tag.Get("xml"), ",omitempty") {
			continue
		}
		if field.Type() == reflect.TypeOf(types.ManagedObjectReference{}) {
			ref := types.ManagedObjectReference{Type: "VirtualMachine", Value: vm}
			if kind.Name == "Task" {
				ref = types.ManagedObjectReference{Type: "Task", Value: "task-0"}
			}
			field.Set(reflect.ValueOf(ref))
		} else if values := field.MethodByName("Values"); field.Kind() == reflect.String && values.IsValid() {
			field.Set(values.Call(nil)[0].Index(0))
		}
	}
}

// withText gives a fault the text that its task or call reports.
func withText(fault types.BaseMethodFault, message string) types.BaseMethodFault {
	if message != "" {
		fault.GetMethodFault().FaultMessage = []types.LocalizableMessage{{Key: "vmforksim", Message: message}}
	}
	return fault
}

// textOf is the sentence vCenter shows for a fault.
func textOf(fault types.BaseMethodFault) string {
	if messages := fault.GetMethodFault().FaultMessage; len(messages) > 0 && messages[0].Message != "" {
		return messages[0].Message
	}
	switch fault := fault.(type) {
	case *types.InvalidState:
		return "The operation is not allowed in the current state."
	case *types.NotSupported:
		return "The operation is not supported on the object."
	case *types.NoPermission:
		return "Permission to perform this operation was denied."
	case *types.DuplicateName:
		return fmt.Sprintf("The name '%s' already exists.", fault.Name)
	case *types.InvalidName:
		return fmt.Sprintf("The name '%s' is invalid.", fault.Name)
	case *types.InvalidPowerState:
		return fmt.Sprintf("The attempted operation cannot be performed in the current state (%s).", fault.ExistingState)
	case *types.InvalidArgument:
		return "A specified parameter was not correct: " + fault.InvalidProperty
	case *types.ToolsUnavailable:
		return "Cannot complete operation because VMware Tools is not running in this virtual machine."
	case *types.GuestOperationsUnavailable:
		return "The guest operations agent could not be contacted."
	case *types.InvalidGuestLogin:
		return "Failed to authenticate with the guest operating system using the supplied credentials."
	case *types.NotAuthenticated:
		return "The session is not authenticated."
	}
	return "A general system error occurred: " + reflect.TypeOf(fault).Elem().Name()
}
