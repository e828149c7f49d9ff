# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create what modules return about a change of vApp options, with secrets masked.

Private to the collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._encodings import MASK
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import configured, diagnosis, masking, vapp_export
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.examine import Examined
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.vapp_request import Request
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.vapp_write import VappWriter


def carry_out(act: t.Callable[[], None], writer: VappWriter, examined: Examined) -> dict[str, t.Any]:
    """Carry out the change of a VM, if there is one, and return the result.

    :param act: makes the change, or checks whether it could be made.
    :raises _errors.Error: its details contain what is known about the VM.
    """
    shown = _Shown(writer.request, examined)
    try:
        if writer.change.changes:
            act()
    except (_errors.Error, _errors.Interrupted) as error:
        after = shown.facts(writer.after)
        error.details.update(
            changed=writer.is_written, before=shown.facts(writer.before), after=after, export=_export(writer, examined)
        )
        error.sentence = shown.sentence(error.sentence, [writer.before, writer.change.after])
        error.args = (error.sentence,)
        raise
    changed = writer.change.changes
    before = shown.facts(writer.before)
    after = shown.facts(writer.change.after if changed and not writer.is_written else writer.after)
    reason = _reason(writer, examined)
    return {
        "changed": changed,
        "before": before,
        "after": after,
        "needs_power_cycle": bool(reason),
        "power_cycle_reason": reason,
        "skipped": writer.change.skipped,
        "secrets_written": writer.change.secrets_written,
        "secrets_kept": writer.change.secrets_kept,
        "not_restored": writer.change.not_restored,
        "export": _export(writer, examined),
        "diff": {
            "before": _comparable(before, []),
            "after": _comparable(after, [*writer.change.secrets_written, *writer.change.values_written]),
        },
    }


class _Shown:
    """Create the return values of vApp options, with secrets masked."""

    def __init__(self, request: Request, examined: Examined) -> None:
        self._request = request
        self._mask = masking.Mask()
        self._around = [(vapp.get("name", ""), vapp.get("vAppConfig")) for vapp in examined.found.vapps]
        self._is_on = examined.evidence.power_state == "poweredOn"

    def facts(self, info: t.Any) -> dict[str, t.Any]:
        """Return vApp options as C(configured) of vm_ovfenv_info."""
        return configured.facts(self._read(info), self._mask)

    def sentence(self, text: str, options: t.Iterable[t.Any]) -> str:
        """Return an error without secrets: vCenter may repeat refused values, including those that an edit carries."""
        secret = [prop for info in options for prop in self._read(info).properties if prop.secret]
        keys = {prop.key for prop in secret}
        values = [value for prop in secret for value in (prop.value, prop.default)]
        values += [
            value for prop in self._request.properties if prop.key in keys for value in (prop.value, prop.default)
        ]
        return masking.without(text, [str(value) for value in values if value])

    def _read(self, info: t.Any) -> configured.Configured:
        options = configured.read(info, self._around, running=self._is_on, mask=self._mask)
        properties = tuple(
            dataclasses.replace(prop, secret=True) if prop.key in self._request.secret_keys else prop
            for prop in options.properties
        )
        return dataclasses.replace(options, properties=properties)


def _export(writer: VappWriter, examined: Examined) -> dict[str, t.Any] | None:
    """Return the vApp options that are removed as a document; ``None`` when none are."""
    if not writer.change.removes_all:
        return None
    return vapp_export.document(examined.found.name, examined.found.values, writer.before)


def _reason(writer: VappWriter, examined: Examined) -> str:
    """Return why the guest needs a power cycle to have these vApp options; empty: it does not."""
    name = examined.found.name
    if examined.evidence.power_state == "suspended" and writer.change.delivered and writer.change.changes:
        return (
            f"VM {name} is suspended. After it is resumed, its guest has the vApp options of the last power-on until "
            "vCenter powers the VM off and on."
        )
    if not writer.is_on:
        return ""
    verdict = examined.diagnosis
    if writer.change.delivered and writer.change.changes:
        reason = (
            f"VM {name} is powered on. Its guest has the vApp options of the last power-on until vCenter powers the "
            "VM off and on."
        )
        if examined.evidence.forked_from is not None:
            reason += " It is a fork or an Instant Clone. A power cycle destroys its memory state."
        return reason
    return verdict.message if diagnosis.needs_power_cycle(verdict) else ""


def _comparable(facts: dict[str, t.Any], written: t.Collection[str]) -> dict[str, t.Any]:
    """Return vApp options for a diff, with properties by key; written secrets differ from those before."""
    properties = {}
    for entry in facts["properties"]:
        names = ("value", "default", "type", "category", "label", "user_configurable")
        properties[entry["key"]] = {name: entry[name] for name in names}
        if entry["key"] in written and entry["value"] in (None, MASK):
            properties[entry["key"]]["value"] = f"{MASK} (written)"
    return {**facts, "properties": properties}
