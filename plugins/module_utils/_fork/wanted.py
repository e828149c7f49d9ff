# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Children as a task asks for them: options → :class:`Wanted`. Pure; needs no server.

Private to the collection.
"""

from __future__ import annotations

import re
import typing as t
import uuid
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import networks as adapters
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.params import config_params, secret_config_params

PER_CHILD = (
    "config_params",
    "secret_config_params",
    "persistent",
    "folder",
    "datastore",
    "resource_pool",
    "networks",
    "bios_uuid",
)
"""Options that may stand at the top of the task and in ``children[]``."""

_HOST_NAMES = {"hostname", "guestinfo.fork.hostname", "guestinfo.ic.hostname"}
"""Config params that give a child its host name."""

_HOST_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Wanted:
    """One child. Places are names or paths as the user gave them."""

    name: str
    config_params: dict[str, str] = field(default_factory=dict)
    secret_config_params: dict[str, str] = field(default_factory=dict, repr=False)
    persistent: bool = False
    folder: str | None = None
    datastore: str | None = None
    resource_pool: str | None = None
    networks: tuple[adapters.Network, ...] = ()
    bios_uuid: str | None = None

    @property
    def params(self) -> dict[str, str]:
        """Everything the guest gets to read."""
        return {**self.config_params, **self.secret_config_params}


def children(params: t.Mapping[str, t.Any]) -> list[Wanted]:
    """The children a task names, by ``name`` or by ``children[]``.

    :raises _errors.BadInput: a name or a value cannot be right.
    """
    entries: list[t.Mapping[str, t.Any]] = list(params["children"] or [])
    if params["name"] is not None:
        entries.append({"name": params["name"]})
    elif params["bios_uuid"] is not None and len(entries) > 1:
        raise _errors.BadInput("bios_uuid can be the BIOS UUID of one VM only. Give each of the children its own.")
    result = [_child(entry, params) for entry in entries]
    seen: set[str | None] = set()
    for one in result:
        if one.name in seen:
            raise _errors.BadInput(f"The name {one.name} stands twice in children. Give each child a name of its own.")
        if one.bios_uuid is not None and one.bios_uuid in seen:
            raise _errors.BadInput(f"The bios_uuid {one.bios_uuid} stands twice in children. Give each child its own.")
        seen |= {one.name, one.bios_uuid}
    adapters.check_mac_addresses({one.name: one.networks for one in result})
    return result


def _child(entry: t.Mapping[str, t.Any], top: t.Mapping[str, t.Any]) -> Wanted:
    name = entry["name"]
    _inventory.check_name(name)
    given = {option: top[option] if entry.get(option) is None else entry[option] for option in PER_CHILD}
    # Each of these is a set of values: a child adds to what stands at the top, or overrides it.
    for option in ("config_params", "secret_config_params"):
        given[option] = {**(top[option] or {}), **(entry.get(option) or {})}
    try:
        public = config_params(given["config_params"])
        secrets = secret_config_params(given["secret_config_params"])
        networks = adapters.wanted(given["networks"])
    except _errors.BadInput as error:
        raise _errors.BadInput(f"Child {name}: {error.sentence}") from None
    both = sorted(set(public) & set(secrets))
    if both:
        raise _errors.BadInput(
            f"Child {name}: {both[0]} stands in config_params and in secret_config_params. Leave it in one of them."
        )
    if not _HOST_NAMES & {*public, *secrets} and _HOST_LABEL.fullmatch(name):
        public["hostname"] = name
    return Wanted(
        name=name,
        config_params=public,
        secret_config_params=secrets,
        persistent=bool(given["persistent"]),
        folder=given["folder"],
        datastore=given["datastore"],
        resource_pool=given["resource_pool"],
        networks=networks,
        bios_uuid=_uuid(name, given["bios_uuid"]),
    )


def _uuid(name: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise _errors.BadInput(
            f"Child {name}: bios_uuid {text} is not a UUID. Give 32 hexadecimal digits, as 8-4-4-4-12."
        ) from None
