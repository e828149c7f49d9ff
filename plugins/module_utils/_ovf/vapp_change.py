# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the vApp options of a VM with the requested ones, and build the reconfigure that is needed.

Private to the collection. Pure functions over ``config.vAppConfig``. All faults are found before anything is sent.
Rules: vSphere API reference, VmConfigSpec and VAppPropertyInfo.

An edit contains the whole property as it was read, because it is not published what vCenter does with fields that an
edit leaves out. Only the value of a password, which vCenter never returns, cannot be repeated. So a password property
is edited only if its value is given.
"""

from __future__ import annotations

import copy
import difflib
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _printable
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_export, vapp_types
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.vapp_request import (
    IpAllocation,
    Request,
    Triple,
    WantedProperty,
    full_key,
    parse_key,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

STRUCTURE = "ReconfigVM_Task vAppConfig"
VALUES = "ReconfigVM_Task vAppConfig values"
"""Keys of :data:`_privileges.NEEDS`: the privileges that a change needs."""

LARGEST_KEY = 2**31 - 1
"""Integer keys are 32 bits wide."""

_FIELDS = {
    "type": "type",
    "label": "label",
    "category": "category",
    "description": "description",
    "user_configurable": "userConfigurable",
}
"""Attribute of a requested property → field of PropertyInfo."""


@dataclass
class Change:
    """A change of vApp options.

    :ivar spec: ``vim.vApp.VmConfigSpec``; ``None``: no change, or the removal of all vApp options.
    :ivar removes_all: whether all vApp options are removed.
    :ivar after: the resulting ``config.vAppConfig``; ``None`` without vApp options.
    :ivar needs: :data:`STRUCTURE` and :data:`VALUES`, if the change needs those privileges.
    :ivar delivered: whether the change affects what vCenter delivers to the guest.
    :ivar changed: keys of properties that are added, edited or removed.
    :ivar skipped: keys of properties whose values are left unchanged because they are not user-configurable.
    :ivar secrets_kept: keys of existing passwords, which cannot be compared.
    :ivar secrets_written: keys of secrets that are written.
    :ivar values_written: keys of properties whose own value or default changes.
    :ivar opened: keys of properties that this change makes user-configurable although they are not to be so: a second
        change corrects this (see :attr:`Request.closing`).
    :ivar added_fixed: keys of added properties with a value that are not user-configurable, without passwords.
    :ivar not_restored: keys of added properties whose secret is missing, because the document does not have it, and
        names of other parts that are missing for the same reason.
    :ivar cautions: sentences about later consequences.
    """

    spec: t.Any = None
    removes_all: bool = False
    after: t.Any = None
    needs: set[str] = field(default_factory=set)
    delivered: bool = False
    changed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    secrets_kept: list[str] = field(default_factory=list)
    secrets_written: list[str] = field(default_factory=list)
    values_written: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    added_fixed: list[str] = field(default_factory=list)
    not_restored: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)

    @property
    def changes(self) -> bool:
        """Return whether there is anything to do."""
        return self.removes_all or self.spec is not None

    @property
    def differences(self) -> list[str]:
        """Return the differences, for a sentence: full keys of properties, and names of other fields."""
        if self.spec is None:
            return ["whether there are any"] if self.removes_all else []
        names = {
            "ovfEnvironmentTransport": "transport",
            "ipAssignment": "ip_allocation",
            "product": "products",
            "eula": "license agreements",
            "ovfSection": "OVF sections",
            "installBootRequired": "the first boot",
        }
        return [*self.changed, *(text for field_name, text in names.items() if getattr(self.spec, field_name))]


def plan(name: str, info: t.Any, request: Request) -> Change:
    """Return the change that makes the vApp options of a VM as requested.

    :param name: the VM's name, for sentences.
    :param info: ``config.vAppConfig``; ``None``: the VM has no vApp options.
    :raises _errors.Refused: something in the request is not possible; the sentence lists all of it, without values.
    """
    if request.enabled is False:
        return _removal(name, info, request.force)
    if request.part is not None and info is not None:
        request = replace(request.part, fixed_as_default=request.fixed_as_default)
    planner = _Planner(info, request)
    if info is None and request.enabled is not True:
        planner.faults.append("it has no vApp options (set enabled=true to add them)")
    else:
        planner.properties()
        planner.transport()
        planner.ip_allocation()
        planner.rest(request.rest)
    if planner.faults:
        raise _errors.Refused(
            f"The vApp options of VM {name} are left unchanged: {'; '.join(dict.fromkeys(planner.faults))}."
        )
    change = planner.change(name)
    if change.changes and not request.overwrite and planner.named:
        raise _errors.Refused(
            f"The vApp options of VM {name} are left unchanged: it already has properties of the document, such as "
            f"{planner.named[0]}, and differs from it in {', '.join(change.differences)}. Set overwrite=true to "
            "overwrite it."
        )
    return change


def lost(info: t.Any) -> str:
    """Return what the removal of vApp options destroys, as a clause."""
    passwords = [_key(prop) for prop in info.property or [] if vapp_types.is_password(prop.type)]
    parts = (
        (info.property, "property", "properties"),
        (info.product, "product", "products"),
        (info.eula, "license agreement", "license agreements"),
        (info.ovfSection, "OVF section", "OVF sections"),
    )
    counts = [_printable.count(len(part), singular, plural) for part, singular, plural in parts if part]
    text = ", ".join(counts) or "no properties"
    if passwords:
        text += f"; the passwords {', '.join(passwords)} cannot be read, so they cannot be restored"
    return text


def _removal(name: str, info: t.Any, force: bool) -> Change:
    if info is None:
        return Change()
    if not force:
        raise _errors.Refused(
            f"The vApp options of VM {name} are left unchanged: enabled=false would remove all of them "
            f"({lost(info)}). Set force=true to remove them."
        )
    return Change(
        removes_all=True,
        needs={STRUCTURE},
        delivered=True,
        cautions=[f"All vApp options of VM {name} will be removed: {lost(info)}."],
    )


class _Planner:
    """Collects the parts of a change, and the faults of the request.

    :ivar named: full keys of the requested properties that exist.
    """

    def __init__(self, info: t.Any, request: Request) -> None:
        self._request = request
        self._info = info
        self._old: list[t.Any] = list(info.property or []) if info is not None else []
        self._new = {prop.key: prop for prop in self._old}
        # Those of removed properties are not used again.
        self._used_keys = set(self._new)
        self._highest_key = max((-1, *self._used_keys))
        # There may be thousands of properties, so they are indexed.
        self._by_name: dict[str | Triple, list[t.Any]] = {}
        for prop in self._old:
            for name in (_key(prop), _parts(prop)):
                self._by_name.setdefault(name, []).append(prop)
        self._wanted_names = {_name(wanted) for wanted in request.properties}
        self._sections = self._known_sections()
        self._operations: dict[str, list[t.Any]] = {"remove": [], "edit": [], "add": []}
        self._spec: dict[str, t.Any] = {}
        self._after: dict[str, t.Any] = {}
        self._result = Change()
        self.faults: list[str] = []
        self.named: list[str] = []

    def change(self, name: str) -> Change:
        """Return the change. The request must have no faults."""
        operations = [operation for kind in ("remove", "edit", "add") for operation in self._operations[kind]]
        if operations:
            self._spec["property"] = operations
        result = self._result
        if self._spec or self._info is None:
            result.spec = vim.vApp.VmConfigSpec(**self._spec)
        if self._info is None:
            result.needs.add(STRUCTURE)
            result.delivered = True
        result.after = self._as_it_will_be()
        for prop in result.after.property:
            kind = vapp_types.parse(prop.type or "string")
            is_empty = not (prop.value or prop.defaultValue)
            if is_empty and kind is not None and kind.needs_value and self._is_named(prop):
                result.cautions.append(
                    f"vCenter may refuse to power on VM {name}: property {_key(prop)} of type {kind.text} has no value."
                )
        if result.added_fixed and self._request.fixed_as_default:
            result.cautions.append(
                f"On VM {name}, these values were written as defaults, because the properties are not "
                f"user-configurable and vCenter does not accept values for them: {', '.join(result.added_fixed)}. The "
                "guest receives the same values."
            )
        if result.delivered and not [
            transport for transport in result.after.ovfEnvironmentTransport or [] if transport
        ]:
            result.cautions.append(
                f"VM {name} has no transport, so its vApp options do not reach the guest. Set transport."
            )
        return result

    def _as_it_will_be(self) -> t.Any:
        after = copy.copy(self._info) if self._info is not None else vim.vApp.VmConfigInfo()
        if self._info is None:
            after.ipAssignment = vim.vApp.IPAssignmentInfo()
        for name, value in self._after.items():
            setattr(after, name, value)
        shown = []
        for prop in self._new.values():
            seen = _copy(prop)
            if vapp_types.is_password(seen.type):  # write-only
                seen.value = seen.defaultValue = ""
            shown.append(seen)
        after.property = shown
        return after

    def _is_named(self, prop: t.Any) -> bool:
        return _key(prop) in self._wanted_names or _parts(prop) in self._wanted_names

    # --- properties -------------------------------------------------------------------------------------------------

    def properties(self) -> None:
        """Compare the properties."""
        named: set[int] = set()
        for wanted in self._request.properties:
            found = self._by_name.get(_name(wanted), [])
            named.update(prop.key for prop in found)
            self.named += map(_key, found)
            if len(found) > 1:
                self.faults.append(
                    f"{len(found)} properties have the key {wanted.key} (identify it by id, class_id and instance_id)"
                )
            elif found and wanted.state == "absent":
                self._remove(found[0])
            elif found:
                self._edit(found[0], wanted)
            elif wanted.state == "reset" or (wanted.state == "present" and self._request.unknown == "fail"):
                self.faults.append(self._unknown(wanted))
            elif wanted.state == "present":
                named.add(self._add(wanted))
        if self._request.exact:
            for prop in self._old:
                if prop.key not in named:
                    self._remove(prop)

    def _unknown(self, wanted: WantedProperty) -> str:
        keys = [_key(prop) for prop in self._old]
        # If an appliance has classes or instances, users often know only the ID.
        similar = [_key(prop) for prop in self._old if prop.id == wanted.key]
        folded = {key.casefold(): key for key in keys}
        similar += [folded[key] for key in difflib.get_close_matches(wanted.key.casefold(), folded, 3)]
        hint = f", did you mean {' or '.join(dict.fromkeys(similar))}?" if similar else ""
        how = "" if wanted.state == "reset" else " (unknown=create adds it)"
        return f"it has no property {wanted.key}{how}{hint}"

    def _remove(self, prop: t.Any) -> None:
        del self._new[prop.key]
        self._result.changed.append(_key(prop))
        self._operations["remove"].append(vim.vApp.PropertySpec(operation="remove", removeKey=prop.key))
        self._touch(STRUCTURE)

    def _touch(self, need: str, delivered: bool = True) -> None:
        self._result.needs.add(need)
        self._result.delivered |= delivered

    def _add(self, wanted: WantedProperty) -> int:
        """Add a property, and return its integer key, which must be unused."""
        parts = wanted.parts or parse_key(wanted.key, self._sections)
        kind_text = wanted.type or ("password" if wanted.secret else "string")
        prop = vim.vApp.PropertyInfo(
            key=self._free_key(),
            classId=parts[0],
            id=parts[1],
            instanceId=parts[2],
            type=kind_text,
            category=wanted.category or "",
            label=wanted.label or "",
            description=wanted.description or "",
            userConfigurable=wanted.user_configurable is not False,
            defaultValue="",
            value="",
        )
        twins = [prop for prop in self._by_name.get(full_key(parts), []) if prop.key in self._new]
        if not all(self._may_share(wanted, prop) for prop in twins):
            self.faults.append(f"property {full_key(parts)} would exist twice")
        kind = vapp_types.parse(kind_text)
        prop.defaultValue = self._text(wanted, kind, wanted.default, "default") or ""
        prop.value = self._text(wanted, kind, wanted.value, "value") or ""
        self._check_secrecy(wanted, kind_text)
        if prop.value or prop.defaultValue:
            self._result.values_written.append(_key(prop))
        self._result.changed.append(_key(prop))
        self._submit_add(prop)
        if wanted.secret:
            self._result.secrets_written.append(_key(prop))
        if any(getattr(wanted, name) is None for name in wanted.lacks):
            self._result.not_restored.append(_key(prop))
        return int(prop.key)

    def _may_share(self, wanted: WantedProperty, other: t.Any) -> bool:
        """Return whether two properties may have the same full key: the task or document names both by parts."""
        return wanted.parts not in (None, _parts(other)) and _parts(other) in self._wanted_names

    def _free_key(self) -> int:
        """Return an integer key that neither a current nor a removed property has."""
        key = self._highest_key + 1
        if key > LARGEST_KEY:
            key = next(key for key in range(LARGEST_KEY) if key not in self._used_keys)
        self._used_keys.add(key)
        self._highest_key = max(self._highest_key, key)
        return key

    def _submit_add(self, prop: t.Any) -> None:
        # Everyone who may read the VM can read a default, so a password is never written as one.
        if prop.value and not prop.userConfigurable and not vapp_types.is_password(prop.type):
            self._result.added_fixed.append(_key(prop))
            if self._request.fixed_as_default:
                prop.defaultValue, prop.value = prop.value, ""
        self._new[prop.key] = prop
        self._by_name.setdefault(_key(prop), []).append(prop)
        self._operations["add"].append(vim.vApp.PropertySpec(operation="add", info=prop))
        self._touch(STRUCTURE)
        if prop.value:
            self._touch(VALUES)

    def _submit_edit(self, old: t.Any, new: t.Any) -> None:
        """Edit a property.

        No edit may change the value of a property that is not user-configurable. So the edit that writes the value
        makes the property user-configurable, and another edit changes that back.
        """
        self._result.changed.append(_key(old))
        self._new[old.key] = sent = new
        is_value = vapp_types.is_password(new.type) or not _is_same_text(old.value, new.value)
        if is_value and not new.userConfigurable and new.type != "expression" and not self._request.closing:
            sent = _copy(new)
            sent.userConfigurable = True
            self._result.opened.append(_key(new))
            self._touch(STRUCTURE)
        self._operations["edit"].append(vim.vApp.PropertySpec(operation="edit", info=sent))

    def _known_sections(self) -> list[tuple[str, str]]:
        products = list(self._info.product or []) if self._info is not None else []
        return list(dict.fromkeys((entry.classId or "", entry.instanceId or "") for entry in [*products, *self._old]))

    def _edit(self, old: t.Any, wanted: WantedProperty) -> None:
        new = _copy(old)
        for attribute, name in _FIELDS.items():
            value = getattr(wanted, attribute)
            is_same = attribute == "type" and vapp_types.same(value, old.type or "string")
            if value is not None and not is_same:
                setattr(new, name, value)
        kind = vapp_types.parse(new.type or "string")
        is_password = vapp_types.is_password(new.type)
        self._check_secrecy(wanted, new.type)
        default = self._text(wanted, kind, wanted.default, "default")
        value = "" if wanted.state == "reset" else self._text(wanted, kind, wanted.value, "value")
        is_fixed = wanted.user_configurable is False and not old.userConfigurable
        if is_fixed and value and not old.value and vapp_types.equal(kind, value, old.defaultValue or ""):
            value = default = None  # the value was written as the default; see Request.fixed_as_default
        if default is not None and not vapp_types.equal(kind, default, old.defaultValue or ""):
            new.defaultValue = default
        if kind is not None and kind.name == "expression":
            value = None
            new.value = None  # vCenter computes it, so it is never sent
        elif is_password or vapp_types.is_password(old.type):
            self._edit_password(old, new, value, wanted)
            return
        elif value is not None:
            new = self._with_value(old, new, value, kind, wanted)
        if new.type != old.type:
            for what, text in (("default", new.defaultValue), ("value", new.value)):
                why = None if kind is None or kind.name == "expression" else vapp_types.wrong(kind, text or "")
                if why is not None and getattr(wanted, what) is None:
                    self.faults.append(f"property {wanted.key} has a {what} that its new type does not allow: {why}")
        self._note_edit(old, new, wanted, compare_value=not (kind is not None and kind.name == "expression"))

    def _with_value(
        self, old: t.Any, new: t.Any, value: str, kind: vapp_types.ValueType | None, wanted: WantedProperty
    ) -> t.Any:
        """Return a property with another value, if it must and may be changed."""
        result = _copy(new)
        if not value and wanted.state == "present" and not wanted.restored:
            result.defaultValue = ""  # otherwise the default would be delivered
        # A value that equals the default is delivered anyway, but a document is restored exactly.
        is_default = not wanted.restored and bool(value) and not old.value
        is_default = is_default and vapp_types.equal(kind, value, result.defaultValue or "")
        if not is_default and not vapp_types.equal(kind, value, old.value or ""):
            result.value = value
        if not _differs(new, result, compare_value=True) or new.userConfigurable:
            return result
        return new if self._is_protected(wanted, result) else result

    def _is_protected(self, wanted: WantedProperty, result: t.Any) -> bool:
        """Return whether a value is left unchanged because the property is not user-configurable."""
        if self._request.not_user_configurable == "skip":
            self._result.skipped.append(wanted.key)
            return True
        if self._request.not_user_configurable == "force":
            result.userConfigurable = wanted.user_configurable is not False
            return False
        self.faults.append(
            f"property {wanted.key} is not user-configurable (not_user_configurable=force makes it user-configurable "
            "and writes the value, skip leaves it unchanged)"
        )
        return True

    def _edit_password(self, old: t.Any, new: t.Any, value: str | None, wanted: WantedProperty) -> None:
        differs = _differs(old, new, compare_value=False)
        if value is None:
            if differs:
                self.faults.append(
                    f"property {wanted.key} is a password, and editing it without its value may clear it (set the "
                    f"value in {_secrets(wanted.restored)})"
                )
            return
        if wanted.state == "reset" and self._request.update_secrets == "on_create":
            self.faults.append(
                f"property {wanted.key} is a password, so it is not visible whether it is already reset "
                "(update_secrets=always resets it in every run)"
            )
            return
        if not differs and self._request.update_secrets != "always":
            self._result.secrets_kept.append(_key(old))
            return
        result = _copy(new)
        result.value = value
        if not new.userConfigurable and self._is_protected(wanted, result):
            return
        self._result.secrets_written.append(_key(old))
        self._result.values_written.append(_key(old))
        self._submit_edit(old, result)
        self._touch(VALUES)
        if _differs(old, result, compare_value=False):
            self._touch(STRUCTURE)

    def _note_edit(self, old: t.Any, new: t.Any, wanted: WantedProperty, compare_value: bool) -> None:
        if not _differs(old, new, compare_value):
            return
        is_value = compare_value and not _is_same_text(old.value, new.value)
        if is_value or not _is_same_text(old.defaultValue, new.defaultValue):
            self._result.values_written.append(_key(old))
        is_delivered = (old.value or old.defaultValue or "") != (new.value or new.defaultValue or "")
        self._submit_edit(old, new)
        self._touch(VALUES, is_delivered)  # an edit always contains the value, even if it does not change
        if is_value and wanted.secret:
            self._result.secrets_written.append(_key(old))
        if _differs(old, new, compare_value=False):
            self._touch(STRUCTURE, is_delivered)

    def _text(self, wanted: WantedProperty, kind: vapp_types.ValueType | None, value: t.Any, what: str) -> str | None:
        """Return a value as vCenter stores it, and add what is wrong with it to the faults."""
        if value is None:
            return None
        if wanted.restored and isinstance(value, str) and vapp_types.is_sendable(value):
            return value  # vCenter has stored it before, regardless of the type
        try:
            text = vapp_types.written(kind, value)
        except ValueError as error:
            self.faults.append(f"property {wanted.key}: {str(error).replace('the value', f'the {what}', 1)}")
            return None
        if kind is not None and kind.name == "expression" and what == "default":
            return text
        why = vapp_types.wrong(kind, text)
        if why is not None:
            self.faults.append(f"property {wanted.key}: {why.replace('the value', f'the {what}', 1)}")
        return text

    def _check_secrecy(self, wanted: WantedProperty, kind: str | None) -> None:
        """Require that passwords are given in secret_values."""
        if not vapp_types.is_password(kind):
            return
        if wanted.value is not None and not wanted.secret:
            self.faults.append(f"property {wanted.key} is a password (set its value in {_secrets(wanted.restored)})")
        if wanted.default not in (None, ""):
            where = _secrets(wanted.restored)
            self.faults.append(f"property {wanted.key} is a password (set its value in {where}, and no default)")

    # --- the rest ---------------------------------------------------------------------------------------------------

    def transport(self) -> None:
        """Compare the transports."""
        wanted = self._request.transport
        now = list((self._info.ovfEnvironmentTransport if self._info is not None else None) or [])
        if wanted is None or sorted(wanted) == sorted(transport for transport in now if transport):
            return
        # An empty list would mean no change; a list with one empty text clears (VmConfigSpec.ovfEnvironmentTransport).
        self._spec["ovfEnvironmentTransport"] = list(wanted) or [""]
        self._after["ovfEnvironmentTransport"] = list(wanted)
        self._touch(STRUCTURE)

    def ip_allocation(self) -> None:
        """Compare the IP allocation."""
        wanted = self._request.ip_allocation
        if wanted is None:
            return
        now = self._info.ipAssignment if self._info is not None else None
        after = _copy(now) if now is not None else vim.vApp.IPAssignmentInfo()
        changed: dict[str, t.Any] = {}
        for name, value, need in _ip_fields(wanted):
            old = getattr(after, name)
            if value is None or value == (list(old or []) if isinstance(value, list) else old):
                continue
            changed[name] = [""] if value == [] else value
            setattr(after, name, value)
            self._touch(need)
        supported = list(after.supportedIpProtocol or [])
        if "ipProtocol" in changed and supported and after.ipProtocol not in supported:
            self.faults.append(
                f"the IP protocol {after.ipProtocol} is not one of its supported protocols ({', '.join(supported)})"
            )
        if changed:
            self._spec["ipAssignment"] = vim.vApp.IPAssignmentInfo(**changed)
            self._after["ipAssignment"] = after

    def rest(self, wanted: vapp_export.Restored | None) -> None:
        """Compare the parts that only a document has: products, license agreements, OVF sections, the first boot."""
        if wanted is None:
            return
        self._products(wanted.products)
        self._sections_of_the_descriptor(wanted)
        eula = list((self._info.eula if self._info is not None else None) or [])
        if wanted.eula is None:
            self._result.not_restored += [] if eula else ["license agreements"]
        elif list(wanted.eula) != [vapp_types.plain(text) for text in eula]:
            self._spec["eula"] = list(wanted.eula) or [""]
            self._after["eula"] = list(wanted.eula)
        boot = (wanted.install_boot_required, wanted.install_boot_stop_delay)
        now = (False, 0) if self._info is None else (self._info.installBootRequired, self._info.installBootStopDelay)
        if boot != (bool(now[0]), now[1] or 0):
            self._spec.update(installBootRequired=boot[0], installBootStopDelay=boot[1])
        self._after.update(installBootRequired=boot[0], installBootStopDelay=boot[1])
        if set(self._spec) & {"product", "ovfSection", "eula", "installBootRequired"}:
            self._touch(STRUCTURE, delivered=False)

    def _products(self, wanted: t.Sequence[t.Mapping[str, str]]) -> None:
        now = list((self._info.product if self._info is not None else None) or [])
        left, operations, after = list(now), [], list(now)
        for product in wanted:
            section = (product["classId"], product["instanceId"])
            old = next((info for info in left if (info.classId or "", info.instanceId or "") == section), None)
            if old is None:
                new = vim.vApp.ProductInfo(key=max((info.key for info in after), default=-1) + 1, **product)
                operations.append(vim.vApp.ProductSpec(operation="add", info=new))
                after.append(new)
                continue
            left.remove(old)
            differing = [name for name, value in product.items() if not _is_same_text(getattr(old, name), value)]
            if {"name", "vendor", "version", "fullVersion"} & set(differing) and not self._request.force:
                there = f"{old.name or '?'} {old.fullVersion or old.version or ''}".rstrip()
                kept = f"{product['name'] or '?'} {product['fullVersion'] or product['version']}".rstrip()
                self.faults.append(
                    f"it has the product {there}, and the document is for {kept} (force=true restores it anyway)"
                )
            elif differing:
                new = _copy(old)
                for name in differing:
                    setattr(new, name, product[name])
                operations.append(vim.vApp.ProductSpec(operation="edit", info=new))
                after[after.index(old)] = new
        if self._request.exact:
            for old in left:
                operations.insert(0, vim.vApp.ProductSpec(operation="remove", removeKey=old.key))
                after.remove(old)
        if operations:
            self._spec["product"] = operations
            self._after["product"] = after

    def _sections_of_the_descriptor(self, wanted: vapp_export.Restored) -> None:
        now = list((self._info.ovfSection if self._info is not None else None) or [])
        left, operations, after = list(now), [], list(now)
        for section in wanted.sections:
            old = next((info for info in left if _has(info, section)), None)
            if old is not None:
                left.remove(old)
                continue
            new = vim.vApp.OvfSectionInfo(key=max((info.key or 0 for info in after), default=-1) + 1, **section)
            operations.append(vim.vApp.OvfSectionSpec(operation="add", info=new))
            after.append(new)
        for namespace, kind in dict.fromkeys(wanted.hidden_sections):
            others = [info for info in left if (info.namespace or "", info.type or "") != (namespace, kind)]
            if len(others) == len(left):
                self._result.not_restored.append(f"OVF section {kind}")
            left = others
        if self._request.exact:
            for old in left:
                operations.insert(0, vim.vApp.OvfSectionSpec(operation="remove", removeKey=old.key))
                after.remove(old)
        if operations:
            self._spec["ovfSection"] = operations
            self._after["ovfSection"] = after


def _secrets(restored: bool) -> str:
    """Return the option for secrets. A document is often restored by a playbook, which has a variable instead."""
    return "secret_values, or in vapp_restore_secrets of the playbook vapp_restore" if restored else "secret_values"


def _ip_fields(wanted: IpAllocation) -> list[tuple[str, t.Any, str]]:
    """Return the fields of IPAssignmentInfo with their requested values and the privileges that they need."""
    schemes, protocols = wanted.supported_schemes, wanted.supported_protocols
    return [
        ("supportedAllocationScheme", None if schemes is None else list(schemes), STRUCTURE),
        ("supportedIpProtocol", None if protocols is None else list(protocols), STRUCTURE),
        ("ipAllocationPolicy", wanted.policy, VALUES),
        ("ipProtocol", wanted.protocol, VALUES),
    ]


def _has(info: t.Any, fields: t.Mapping[str, t.Any]) -> bool:
    """Return whether an object of the vSphere API has these fields; an empty field may be unset."""
    return all(
        _is_same_text(getattr(info, name), value) if isinstance(value, str) else bool(getattr(info, name)) == value
        for name, value in fields.items()
    )


def _copy(source: t.Any) -> t.Any:
    result = type(source)()
    for prop in source._GetPropertyList():
        setattr(result, prop.name, getattr(source, prop.name))
    return result


def _parts(prop: t.Any) -> Triple:
    return (prop.classId or "", prop.id or "", prop.instanceId or "")


def _key(prop: t.Any) -> str:
    return full_key(_parts(prop))


def _name(wanted: WantedProperty) -> str | Triple:
    """Return the name to find a property by: its parts, or else its full key."""
    return wanted.parts if wanted.parts is not None else wanted.key


def _is_same_text(left: str | None, right: str | None) -> bool:
    return vapp_types.plain(left) == vapp_types.plain(right)


def _differs(old: t.Any, new: t.Any, compare_value: bool) -> bool:
    names = ["type", "label", "category", "description", "defaultValue", *(["value"] if compare_value else [])]
    return bool(old.userConfigurable) != bool(new.userConfigurable) or any(
        not _is_same_text(getattr(old, name), getattr(new, name)) for name in names
    )
