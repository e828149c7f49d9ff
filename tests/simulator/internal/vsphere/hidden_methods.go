// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The five unpublished fork methods: requests, responses, and registration.

package vsphere

import (
	"reflect"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// The requests and answers of the methods that vSphere does not publish, as
// lox/govmomi-vmfork sends them. govmomi finds a request's type by the name of
// its element, and names the answer's element after the tag of Res.

type enableForkParentRequest struct {
	This types.ManagedObjectReference  `xml:"_this"`
	Host *types.ManagedObjectReference `xml:"host,omitempty"`
}

type createForkChildRequest struct {
	This types.ManagedObjectReference  `xml:"_this"`
	Name string                        `xml:"name"`
	Spec VirtualMachineCreateChildSpec `xml:"spec"`
}

// VirtualMachineCreateChildSpec is vim.vm.CreateChildSpec of the vSphere API 6.0.
type VirtualMachineCreateChildSpec struct {
	types.DynamicData

	Location     *types.VirtualMachineRelocateSpec `xml:"location,omitempty"`
	Persistent   bool                              `xml:"persistent"`
	ConfigParams []types.BaseOptionValue           `xml:"configParams,omitempty,typeattr"`
}

type forkRequest struct {
	This types.ManagedObjectReference `xml:"_this"`
}

type taskResponse struct {
	Returnval types.ManagedObjectReference `xml:"returnval"`
}

type enableForkParentBody struct {
	Res    *taskResponse `xml:"urn:vim25 EnableForkParent_TaskResponse,omitempty"`
	Fault_ *soap.Fault   `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

type disableForkParentBody struct {
	Res    *taskResponse `xml:"urn:vim25 DisableForkParent_TaskResponse,omitempty"`
	Fault_ *soap.Fault   `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

type createForkChildBody struct {
	Res    *taskResponse `xml:"urn:vim25 CreateForkChild_TaskResponse,omitempty"`
	Fault_ *soap.Fault   `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

type retrieveForkChildrenBody struct {
	Res    *taskResponse `xml:"urn:vim25 RetrieveForkChildren_TaskResponse,omitempty"`
	Fault_ *soap.Fault   `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

type retrieveForkParentBody struct {
	Res    *taskResponse `xml:"urn:vim25 RetrieveForkParent_TaskResponse,omitempty"`
	Fault_ *soap.Fault   `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

func (b *enableForkParentBody) Fault() *soap.Fault     { return b.Fault_ }
func (b *disableForkParentBody) Fault() *soap.Fault    { return b.Fault_ }
func (b *createForkChildBody) Fault() *soap.Fault      { return b.Fault_ }
func (b *retrieveForkChildrenBody) Fault() *soap.Fault { return b.Fault_ }
func (b *retrieveForkParentBody) Fault() *soap.Fault   { return b.Fault_ }

// Two methods without arguments share a request, and so need separate names for
// the dispatch by Go type.
type (
	disableForkParentRequest    forkRequest
	retrieveForkChildrenRequest forkRequest
	retrieveForkParentRequest   forkRequest
)

var hiddenMethods = map[string]reflect.Type{
	"EnableForkParent_Task":     reflect.TypeOf(enableForkParentRequest{}),
	"DisableForkParent_Task":    reflect.TypeOf(disableForkParentRequest{}),
	"CreateForkChild_Task":      reflect.TypeOf(createForkChildRequest{}),
	"RetrieveForkChildren_Task": reflect.TypeOf(retrieveForkChildrenRequest{}),
	"RetrieveForkParent_Task":   reflect.TypeOf(retrieveForkParentRequest{}),
}

func isHiddenMethod(name string) bool {
	_, ok := hiddenMethods[name]
	return ok
}

func init() {
	for name, request := range hiddenMethods {
		types.Add(name, request)
	}
	types.Add("VirtualMachineCreateChildSpec", reflect.TypeOf(VirtualMachineCreateChildSpec{}))
}
