// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// PropertyCollector: Fetch, pyVmomi's call to read one property.

package vsphere

import (
	"reflect"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Fetch is how pyVmomi reads one property. govmomi's simulator answers it with
// another method's response if the property is unset; here it has its own.

type fetchRequest struct {
	This types.ManagedObjectReference `xml:"_this"`
	Prop string                       `xml:"prop"`
}

type fetchResponse struct {
	Returnval types.AnyType `xml:"returnval,omitempty,typeattr"`
}

type fetchBody struct {
	Res    *fetchResponse `xml:"urn:vim25 FetchResponse,omitempty"`
	Fault_ *soap.Fault    `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

func (b *fetchBody) Fault() *soap.Fault { return b.Fault_ }

func init() { types.Add("Fetch", reflect.TypeOf(fetchRequest{})) }

// propertyCollector overrides methods of the collector a call is addressed to.
type propertyCollector struct {
	*simulator.PropertyCollector
	sim *Simulator
}

func (c *propertyCollector) Fetch(ctx *simulator.Context, req *fetchRequest) soap.HasFault {
	body := &fetchBody{}
	if req.This == vim25.ServiceInstance && req.Prop == "content" {
		body.Res = &fetchResponse{Returnval: ctx.Map.Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content}
		return body
	}
	ref := req.This
	if ctx.Map.Get(ref) == nil && (ctx.Session == nil || ctx.Session.Get(ref) == nil) {
		ref = byValue(ctx.Map, ref) // clients may name a base type, such as ManagedEntity
	}
	res := c.RetrievePropertiesEx(ctx, &types.RetrievePropertiesEx{
		SpecSet: []types.PropertyFilterSpec{{
			PropSet:   []types.PropertySpec{{Type: ref.Type, PathSet: []string{req.Prop}}},
			ObjectSet: []types.ObjectSpec{{Obj: ref}},
		}},
	})
	if fault := res.Fault(); fault != nil {
		body.Fault_ = fault
		return body
	}
	body.Res = &fetchResponse{}
	for _, object := range res.(*methods.RetrievePropertiesExBody).Res.Returnval.Objects {
		for _, missing := range object.MissingSet {
			body.Res, body.Fault_ = nil, simulator.Fault("", missing.Fault.Fault)
			return body
		}
		for _, property := range object.PropSet {
			body.Res.Returnval = property.Val
		}
	}
	return body
}

func (s *Simulator) content() types.ServiceContent {
	return s.registry().Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content
}

// byValue finds an entity by the value of its reference.
func byValue(registry *simulator.Registry, ref types.ManagedObjectReference) types.ManagedObjectReference {
	for _, entity := range registry.All("") {
		if candidate := entity.Reference(); candidate.Value == ref.Value {
			return candidate
		}
	}
	return ref
}
