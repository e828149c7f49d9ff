# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Call the unpublished methods over SOAP, through pyVmomi as it is.

Private to the collection. pyVmomi knows neither the methods nor the type of
CreateForkChild's spec. The type is registered with its public
``CreateDataType``; the methods are described to the stub's ``InvokeMethod``.
``_GetStub`` and ``_GetMoId`` are public and supported, whatever their
underscore suggests (comment in VmomiSupport.py). Nothing of pyVmomi is
patched.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api import methods
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import VmomiSupport, vim, vmodl


class SoapCaller:
    """Calls the unpublished methods in an open session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def call(self, vm: t.Any, method: methods.Method, **arguments: t.Any) -> t.Any:
        """See :meth:`methods.Caller.call`. Other faults are raised as they are."""
        info, values = described(method, arguments)
        try:
            return self._session.call(vm._GetStub().InvokeMethod, vm, info, values)
        except vmodl.MethodFault as fault:
            if is_unknown_method(fault):
                raise method_unknown(self._session, method) from fault
            raise

    def child_spec(self, **values: t.Any) -> t.Any:
        """See :meth:`methods.Caller.child_spec`."""
        return _child_spec_type()(**values)


def described(method: methods.Method, arguments: dict[str, t.Any]) -> tuple[t.Any, list[t.Any]]:
    """A method as pyVmomi describes its own, and the values of its parameters in their order; ``None`` is unset.

    :raises TypeError: the arguments are not the method's.
    """
    info = _method_info(method)
    values = [arguments.pop(parameter.name, None) for parameter in info.params]
    if arguments:
        raise TypeError(f"{method.name} has no parameters {', '.join(arguments)}")
    for parameter, value in zip(info.params, values, strict=True):
        VmomiSupport.CheckField(parameter, value)
    return info, values


def method_unknown(session: Session, method: methods.Method) -> _errors.MethodUnknown:
    """The sentence for a server that does not know a method."""
    return _errors.MethodUnknown(
        f"{session.name} does not know the method {method.wire_name}: "
        f"{methods.VSPHERE} have it. On vSphere 6.7 and newer, Instant Clone does this job."
    )


def is_unknown_method(fault: t.Any) -> bool:
    """Whether a fault says that the server does not know the method.

    A vCenter says so in one of three ways, by its version; pyVmomi itself
    raises MethodNotFound when the connection speaks an older API version.
    """
    if isinstance(fault, (vmodl.fault.MethodNotFound, vmodl.fault.NotSupported)):
        return True
    return isinstance(fault, vmodl.RuntimeFault) and "Unable to resolve WSDL method name" in (fault.msg or "")


def _method_info(method: methods.Method) -> t.Any:
    for parameter in method.parameters:
        if parameter.type == "vim.vm.CreateChildSpec":
            _child_spec_type()
    return VmomiSupport.Object(
        name=method.name,
        wsdlName=method.wire_name,
        version=methods.VERSION,
        params=tuple(
            VmomiSupport.Object(
                name=parameter.name,
                type=VmomiSupport.GetVmodlType(parameter.type),
                version=methods.VERSION,
                flags=_flags(parameter),
            )
            for parameter in method.parameters
        ),
        isTask=True,
        resultFlags=0,
        result=vim.Task,
        methodResult=None,
    )


def _child_spec_type() -> t.Any:
    try:
        return VmomiSupport.GetVmodlType("vim.vm.CreateChildSpec")
    except KeyError:
        VmomiSupport.CreateDataType(
            "vim.vm.CreateChildSpec",
            "VirtualMachineCreateChildSpec",
            "vmodl.DynamicData",
            methods.VERSION,
            [(one.name, one.type, methods.VERSION, _flags(one)) for one in methods.CREATE_CHILD_SPEC],
        )
        return VmomiSupport.GetVmodlType("vim.vm.CreateChildSpec")


def _flags(parameter: methods.Parameter) -> int:
    return VmomiSupport.F_OPTIONAL if parameter.optional else 0
