// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// SOAP: the outline of a request, and faults as vSphere writes them.

package vsphere

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"

	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// soapRequest is the part of a request that the HTTP handler reads before
// govmomi's simulator gets it.
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
