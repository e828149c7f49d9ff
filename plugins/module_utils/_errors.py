# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Define the collection's exceptions, and translate vSphere's faults into sentences.

Private to the collection. Every exception's text is the sentence the user
reads: what failed, on which VM, why, and what to do. Everything raised below
the module is one of these; ``_module.run`` catches them in one place.

.. code-block:: text

    Error                               base of what is raised on purpose
    ├── BadInput                        the task requests something that is not possible
    ├── NotFound                        a named object does not exist, or is not visible
    ├── Ambiguous                       a name matches several objects
    ├── ConnectionFailed                the server cannot be reached
    │   └── ConnectionLost              the connection broke during a call
    │       └── Unanswered              … because the deadline passed (also a TimedOut)
    ├── TimedOut                        the deadline of the task has passed
    │   └── NotEnded                    a request was accepted, and its task is still running
    ├── LoginFailed                     vCenter refused the user name or password
    │   └── GuestLoginFailed            the guest refused them
    ├── MethodUnknown                   the server does not know a method
    ├── Fault                           vSphere answered a call with a fault
    ├── OperationFailed                 the operation failed, usually with a fault of a call or a task
    │   ├── _session.UnknownType        the answer has a type that pyVmomi does not know
    │   └── operations.HostHidden       the user may not see the ESXi host or its certificate
    ├── Refused                         continuing could harm something that is not ours
    ├── GuestFailed                     something in the guest failed
    └── VerdictFailed                   a VM has a verdict that the task must fail on
    Interrupted                         a signal was received; a BaseException, not handled like an error

Every fault takes the same path. pyVmomi raises a ``vmodl.MethodFault``; the
session (and the MOB's page reader) turns it into a :class:`Fault`; the caller,
which knows the purpose of the call, turns that into an :class:`OperationFailed`
with :func:`failure`. The fault of a task is a value of the task, and
:func:`failure` accepts it as well.
"""

from __future__ import annotations

import typing as t

Trouble = t.TypeVar("Trouble", bound=BaseException)


class Error(Exception):
    """Base of everything the collection raises on purpose.

    :param sentence: the text the user reads.
    :param details: further return values for the module's failure, JSON types only.
    """

    def __init__(self, sentence: str, **details: t.Any) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.details = details


class BadInput(Error):
    """The task requests something that is not possible; nothing was changed."""


class NotFound(Error):
    """A named object is not in the inventory, or not visible to this user."""


class Ambiguous(Error):
    """A name matches several objects."""


class ConnectionFailed(Error):
    """The server cannot be reached, or it is not a vSphere server."""


class ConnectionLost(ConnectionFailed):
    """The connection broke during a call: it is not known whether the call was carried out."""


class TimedOut(Error):
    """The deadline of the task has passed."""


class Unanswered(ConnectionLost, TimedOut):
    """The deadline passed before a call was answered: it is not known whether the call was carried out."""


class Interrupted(BaseException):
    """A signal asked the process to end. Clean-up belongs in ``finally`` or ``except BaseException``.

    :param sentence: the text the user reads.
    :param details: further return values for the module's failure, JSON types only.
    """

    def __init__(self, sentence: str, **details: t.Any) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.details = details


class LoginFailed(Error):
    """The server refused the user name or password."""


class GuestLoginFailed(LoginFailed):
    """The guest refused the user name or password."""


class MethodUnknown(Error):
    """The server does not know the method that was called."""


class Fault(Error):
    """vSphere answered a call with a fault.

    :param cause: pyVmomi's ``vmodl.MethodFault``.
    :param server: host name of the server that raised it.
    """

    def __init__(self, cause: t.Any, server: str) -> None:
        super().__init__(sentence(f"{server} refused a request", fault_text(cause), fault_remedy(cause)))
        self.cause = cause

    @property
    def fault(self) -> str:
        """The fault's type name, for example ``InvalidState``."""
        return fault_name(self.cause)

    @property
    def text(self) -> str:
        """The fault's own text; see :func:`fault_text`."""
        return fault_text(self.cause)

    def is_a(self, *names: str) -> bool:
        """Return whether the fault has one of these types, or a type derived from one."""
        return any(kind.__name__.rpartition(".")[2] in names for kind in type(self.cause).__mro__)


class OperationFailed(Error):
    """vSphere refused a request, or its task ended with a fault.

    :param fault: the fault's type name, for example ``InvalidState``.
    :param task: the task that a ``TaskInProgress`` fault names.
    """

    def __init__(self, sentence: str, fault: str = "", task: t.Any = None, **details: t.Any) -> None:
        super().__init__(sentence, **details)
        self.fault = fault
        self.task = task


class Refused(Error):
    """The module refuses: continuing could harm something that is not ours."""


class GuestFailed(Error):
    """Something in the guest failed; details carry its exit code and output."""


class VerdictFailed(Error):
    """A VM has a verdict that the task must fail on (``fail_on``)."""


class NotEnded(TimedOut):
    """vCenter has accepted a request, but the end of its task was not observed: it may still be carried out."""


# Remedies for faults whose own text does not contain one. The names are those
# of the vSphere Web Services API reference.
_REMEDIES = {
    "CannotAccessFile": "Check the guest user's rights on it, and with SELinux what was denied (ausearch -m avc).",
    "CannotAccessVmDevice": "Disconnect the device of the parent, or give its ESXi host access to the image.",
    "DeviceNotSupported": "Remove the device from the parent. A port may be backed by a file.",
    "DuplicateName": "Choose another name, or find the object that has it.",
    "GuestComponentsOutOfDate": "Update VMware Tools in the guest.",
    "GuestPermissionDenied": (
        "Use a guest user with the required rights, or guest_become=sudo. With SELinux, check what VMware Tools was "
        "denied (ausearch -m avc)."
    ),
    "GuestOperationsUnavailable": "Wait until VMware Tools is ready in the guest, or start it.",
    "HostNotConnected": "Reconnect the ESXi host in vCenter.",
    "InsufficientFailoverResourcesFault": "Change the admission control of vSphere HA, or create fewer children.",
    "InsufficientMemoryResourcesFault": (
        "Reserve less memory for the parent, or give the children a resource pool with more unreserved memory."
    ),
    "InsufficientResourcesFault": "Free memory or CPU on the VM's ESXi host.",
    "InvalidGuestLogin": "Check guest_username and guest_password.",
    "NoDiskSpace": "Free space on the datastore, or choose another one.",
    "NoPermission": "Assign the user a role with this privilege on that object.",
    "NotEnoughLicenses": "Assign a license that covers this to vCenter and the ESXi host.",
    "NotUserConfigurableProperty": (
        "Make the property user-configurable in a separate task (user_configurable=true), then run again."
    ),
    "OperationDisabledByGuest": "Enable guest operations in the guest's configuration of VMware Tools (tools.conf).",
    "OperationNotSupportedByGuest": "Use a guest whose VMware Tools supports this.",
    "TaskInProgress": "Wait until the other task on this VM has ended, then run again.",
}


def fault_name(fault: t.Any) -> str:
    """Return the type name of a fault without its package: ``InvalidState``."""
    return type(fault).__name__.rpartition(".")[2]


def fault_text(fault: t.Any) -> str:
    """Return the message of a fault as one clause without a period.

    Understands pyVmomi's fault objects and ``LocalizedMethodFault`` without
    importing pyVmomi. The text never contains what was sent to the server.
    """
    localized = getattr(fault, "localizedMessage", None)
    inner = getattr(fault, "fault", None)
    if inner is not None:
        fault = inner
    name = fault_name(fault)
    if name == "NoPermission":
        return _lacks(getattr(fault, "privilegeId", None) or "unknown", getattr(fault, "object", None))
    message = localized or getattr(fault, "msg", None) or ""
    messages = [m.message for m in getattr(fault, "faultMessage", None) or [] if getattr(m, "message", None)]
    parts = dict.fromkeys(" ".join(str(part).split()) for part in [message, *messages] if part)
    text = " ".join(parts).rstrip(".")
    if not text or text == name:
        return name
    return text if name in text else f"{text} ({name})"


_REMEDIES_BY_TEXT = {
    "Instant Clone is not supported when VM with vTPM": "Remove the vTPM from the parent.",
    "use a device that prevents the operation": "Remove the device from the parent. A port may be backed by a file.",
    "Unable to prepare migration": (
        "The parent may have the maximum of 255 delta disks in a chain. Quiesce it with vmfork_quiesce, so that "
        "children add none, or copy it to a new VM."
    ),
    "more than 100 redo logs": "Quiesce the parent with vmfork_quiesce, so that children add no delta disks.",
    "No free port is available": "Add ports to the port group, or enable its automatic expansion.",
    "conflicts with VMware reserved MACs": "Use a MAC address outside of the ranges that vSphere assigns.",
}
"""Part of a fault's text → remedy, for faults whose type can mean anything, such as ``SystemError``.

The texts are those of real servers: vmware/ansible-vsphere-gos-validation (issue 416), Broadcom KB 320221 and
community.vmware (issue 1159).
"""


def fault_remedy(fault: t.Any) -> str:
    """Return a sentence about what to do about a fault; empty if there is none."""
    name = fault_name(getattr(fault, "fault", None) or fault)
    if name in _REMEDIES:
        return _REMEDIES[name]
    text = fault_text(fault)
    return next((remedy for part, remedy in _REMEDIES_BY_TEXT.items() if part in text), "")


def failure(what: str, fault: t.Any) -> OperationFailed:
    """Return the exception for a fault, or an error of ours, during ``what`` ("Could not power on VM web-01")."""
    if isinstance(fault, Fault):
        fault = fault.cause
    if isinstance(fault, Error):
        known = fault if isinstance(fault, OperationFailed) else OperationFailed("")
        return OperationFailed(sentence(what, fault.sentence.rstrip(".")), known.fault, known.task)
    real = getattr(fault, "fault", None) or fault
    return OperationFailed(
        sentence(what, fault_text(fault), fault_remedy(fault)), fault_name(real), getattr(real, "task", None)
    )


def explained(what: str, trouble: Trouble) -> Trouble | OperationFailed:
    """Return a fault of a call as the exception for ``what``, and other exceptions unchanged."""
    return failure(what, trouble) if isinstance(trouble, Fault) else trouble


def lacking(what: str, privilege: str, entity: t.Any) -> OperationFailed:
    """Return the exception for a call that the server would refuse with ``NoPermission``."""
    return OperationFailed(sentence(what, _lacks(privilege, entity), _REMEDIES["NoPermission"]), "NoPermission")


def _lacks(privilege: str, entity: t.Any) -> str:
    return f"the user lacks the privilege {privilege} on {described(entity)}"


def sentence(what: str, why: str, remedy: str = "") -> str:
    """Return an error sentence from its parts, in the form that all errors share."""
    return f"{what}: {why.rstrip(' .')}." + (f" {remedy}" if remedy else "")


_KINDS = {
    "Datastore": "datastore",
    "Datacenter": "datacenter",
    "DistributedVirtualPortgroup": "port group",
    "Folder": "folder",
    "HostSystem": "ESXi host",
    "Network": "network",
    "ResourcePool": "resource pool",
    "VirtualApp": "vApp",
    "VirtualMachine": "VM",
}
"""Managed object type → its name for users."""

_names: dict[str, str] = {}
"""Managed object ID → plain name of the objects whose names this task has read."""


def remember_name(moid: str, name: str) -> None:
    """Store the name of a managed object, for faults that contain only its ID."""
    _names[moid] = name


def described(entity: t.Any) -> str:
    """Return a managed object for a sentence: type, name and ID."""
    if entity is None:
        return "this object"
    kind, _colon, moid = str(entity).strip("'").rpartition(":")
    kind = kind.rpartition(".")[2]
    kind = _KINDS.get(kind, kind)
    return f"{kind} {_names[moid]} ({moid})" if moid in _names else f"{kind} {moid}".strip()
