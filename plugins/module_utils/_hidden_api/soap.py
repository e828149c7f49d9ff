# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Call the unpublished methods over SOAP, with an unmodified pyVmomi.

Private to the collection. pyVmomi knows neither the methods nor the type of
CreateForkChild's spec. The type is registered with its public
``CreateDataType``; the methods are described to the stub's ``InvokeMethod``.
``_GetStub`` and ``_GetMoId`` are public and supported despite their underscore
(comment in VmomiSupport.py). Nothing in pyVmomi is patched.
"""

from __future__ import annotations

import threading
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._hidden_api import methods
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import API_6_7, Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import VmomiSupport, vim


class SoapCaller:
    """Calls the unpublished methods in an open session.

    :param instead: the ``call_via`` to recommend if SOAP does not work; empty if it is tried next.
    """

    def __init__(self, session: Session, instead: str = "") -> None:
        self._session = session
        self._remedy = f"Use call_via={instead}, or remove call_via." if instead else ""

    def call(self, vm: t.Any, method: methods.Method, **arguments: t.Any) -> t.Any:
        """See :meth:`methods.Caller.call`. Other faults are raised unchanged."""
        info, values = described(method, arguments)
        try:
            return self._session.call(vm._GetStub().InvokeMethod, vm, info, values)
        except _errors.Fault as fault:
            if is_unknown_method(self._session, fault):
                raise method_unknown(self._session, method, "over SOAP", self._remedy, fault) from fault
            raise

    def child_spec(self, **values: t.Any) -> t.Any:
        """See :meth:`methods.Caller.child_spec`."""
        return _child_spec_type()(**values)


def described(method: methods.Method, arguments: dict[str, t.Any]) -> tuple[t.Any, list[t.Any]]:
    """Return a method in pyVmomi's form, and the values of its parameters in order; ``None``: unset.

    :raises TypeError: the method has no such parameter, or a value has the wrong type.
    """
    info = _method_info(method)
    values = [arguments.pop(parameter.name, None) for parameter in info.params]
    if arguments:
        raise TypeError(f"{method.name} has no parameters {', '.join(arguments)}")
    for parameter, value in zip(info.params, values, strict=True):
        VmomiSupport.CheckField(parameter, value)
    return info, values


def method_unknown(
    session: Session, method: methods.Method, where: str, remedy: str, fault: _errors.Error | None = None
) -> _errors.MethodUnknown:
    """Return the error for a server that does not know a method.

    :param where: how it was called: ``over SOAP``.
    :param remedy: what to do if the server should know the method by its version.
    :param fault: the server's answer.
    """
    unknown = f"{session.name} does not have the method {method.wire_name}"
    answer = f"It answered: {fault.text}." if isinstance(fault, _errors.Fault) else ""
    if session.api_version >= API_6_7:
        why = f"{unknown}: {methods.VSPHERE} have it."
        remedy = "Use Instant Clone instead: set api=instant_clone, or remove api."
    else:
        why = f"{unknown} {where}."
    return _errors.MethodUnknown(" ".join(part for part in (why, answer, remedy) if part))


def is_unknown_method(session: Session, fault: _errors.Error) -> bool:
    """Return whether a fault means that the server does not know the method.

    vCenter reports this in one of three ways, depending on its version; pyVmomi
    itself raises MethodNotFound if the connection uses an older API version.
    NotSupported may also refer to the VM. It does on a server that should have the method by its version.
    """
    if not isinstance(fault, _errors.Fault):
        return False
    if fault.is_a("NotSupported") and session.api_version >= API_6_7:
        return True
    if fault.is_a("MethodNotFound"):
        return True
    return fault.is_a("RuntimeFault") and "Unable to resolve WSDL method name" in (fault.cause.msg or "")


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


_registering = threading.Lock()


def _child_spec_type() -> t.Any:
    with _registering:
        try:
            return VmomiSupport.GetVmodlType("vim.vm.CreateChildSpec")
        except KeyError:
            VmomiSupport.CreateDataType(
                "vim.vm.CreateChildSpec",
                "VirtualMachineCreateChildSpec",
                "vmodl.DynamicData",
                methods.VERSION,
                [
                    (parameter.name, parameter.type, methods.VERSION, _flags(parameter))
                    for parameter in methods.CREATE_CHILD_SPEC
                ],
            )
            return VmomiSupport.GetVmodlType("vim.vm.CreateChildSpec")


def _flags(parameter: methods.Parameter) -> int:
    return VmomiSupport.F_OPTIONAL if parameter.optional else 0
