# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare a server's answers with the types that vSphere declares.

Private to the collection. pyVmomi builds whatever type an answer names. It
checks neither the value of a property, nor the items of an array, nor the
result of a method.
"""

from __future__ import annotations

import functools
import re
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import VmomiSupport

_SEGMENT = re.compile(r'(\w+)(\["[^"]*"\])?(?:\.|$)')
"""A segment of a property path, optionally with the key of an array's element: ``extraConfig["key"]``."""


class Declaration(t.NamedTuple):
    """vSphere's declaration of a property.

    :param type: pyVmomi's class; ``object`` if any type is allowed.
    :param is_optional: whether the property may be unset.
    """

    type: t.Any
    is_optional: bool


UNKNOWN = Declaration(object, is_optional=True)
"""A property that this pyVmomi does not know."""


@functools.cache  # the code uses a limited number of paths
def declaration(kind: t.Any, path: str) -> Declaration | None:
    """Return the declaration of a property of a managed object type; ``None``: there is no such property.

    :param path: ``config.hardware.device``, ``config.extraConfig["key"].value``.
    """
    if "".join(match[0] for match in _SEGMENT.finditer(path)) != path:
        return None
    declared = Declaration(kind, is_optional=False)
    for name, key in _SEGMENT.findall(path):
        try:
            info = declared.type._GetPropertyInfo(name)
        except AttributeError:
            return None
        is_optional = declared.is_optional or bool(info.flags & VmomiSupport.F_OPTIONAL)
        # An array may have no element with that key, and may itself be empty.
        declared = Declaration(info.type, is_optional or issubclass(info.type, list))
        if key:
            if not issubclass(info.type, list):
                return None
            declared = Declaration(info.type.Item, is_optional=True)
    return declared


def misfit(value: t.Any, declared: Declaration) -> str | None:
    """Return the wrong and the expected type of a value, as :func:`mismatch` does; a value may be ``None`` (unset)."""
    if declared.type in (object, type(None)):
        return None
    if value is not None:
        return mismatch(value, declared.type)
    is_right = declared.is_optional or issubclass(declared.type, list)
    return None if is_right else f"nothing instead of {declared.type.__name__}"


def mismatch(value: t.Any, declared: t.Any) -> str | None:
    """Return the wrong and the expected type of a value: "int instead of str"; ``None``: the type is right.

    :param declared: pyVmomi's class. ``None`` is not a value of any class.
    """
    if declared is object:
        return None
    if issubclass(declared, list):
        if isinstance(value, list):
            return next((found for item in value if (found := mismatch(item, declared.Item)) is not None), None)
        is_right = isinstance(value, bytes) and declared.Item is VmomiSupport.byte
    elif issubclass(declared, VmomiSupport.Enum):
        is_right = isinstance(value, declared) or (isinstance(value, str) and value in declared.values)
    elif declared is type:
        is_right = isinstance(value, (str, type))
    else:
        basic = next((basic_type for basic_type in _BASIC if issubclass(declared, basic_type)), declared)
        is_right = isinstance(value, basic) and isinstance(value, bool) is (basic is bool)
    if not is_right:
        return f"{_name(value)} instead of {declared.__name__}"
    return _mismatch_within(value) if isinstance(value, VmomiSupport.DataObject) else None


_BASIC = (bool, int, float, str, bytes)
"""Python types from which pyVmomi derives its own: ``long`` and ``short``, ``URI``, ``binary``."""


def _mismatch_within(value: t.Any) -> str | None:
    """Return the first mismatch in arrays within a data object: pyVmomi has checked everything else."""
    for name, declared in _nested(value.__class__):
        inner = getattr(value, name)
        found = None if inner is None else mismatch(inner, declared)
        if found is not None:
            return f"{found} in {name}"
    return None


@functools.cache  # the code reads a limited number of types
def _nested(kind: t.Any) -> tuple[tuple[str, t.Any], ...]:
    """Return the properties of a data object type that may contain arrays, each with its type."""
    return tuple(
        (info.name, info.type)
        for info in kind._GetPropertyList()
        if issubclass(info.type, (list, VmomiSupport.DataObject))
    )


def _name(value: t.Any) -> str:
    return "nothing" if value is None else type(value).__name__
