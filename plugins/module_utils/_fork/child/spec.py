# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Children as a task requests them: from options to :class:`ChildSpec`. Pure; needs no server.

Private to the collection.
"""

from __future__ import annotations

import base64
import secrets
import typing as t
import uuid
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _inventory
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, identity_report
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import host_names
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import networks as adapters
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.params import (
    config_params,
    secret_config_params,
)

NETWORK: dict[str, dict[str, t.Any]] = {
    "label": {"type": "str"},
    "network": {"type": "str"},
    "mac_address": {"type": "str"},
    "connect": {"type": "str", "choices": list(adapters.CONNECT), "default": adapters.AT_CLONE},
}

PER_CHILD: dict[str, dict[str, t.Any]] = {
    "config_params": {"type": "dict"},
    "secret_config_params": {"type": "dict", "no_log": True},
    "persistent": {"type": "bool"},
    "folder": {"type": "str"},
    "datastore": {"type": "str"},
    "resource_pool": {"type": "str"},
    "networks": {"type": "list", "elements": "dict", "options": NETWORK},
    "bios_uuid": {"type": "str"},
}
"""Options that are allowed at the top of the task and in ``children[]``, as Ansible's argument specs."""

IDENTITY: dict[str, dict[str, t.Any]] = {
    "items": {"type": "list", "elements": "str", "default": [identity_report.AUTO]},
    "network": {"type": "str", "choices": list(identity_report.NETWORKS), "default": identity_report.AUTO},
    "agents_remove": {"type": "list", "elements": "str"},
    "agents_restart": {"type": "list", "elements": "str"},
}
"""The suboptions of ``identity``."""

PREFIXES = ("", "guestinfo.fork.", "guestinfo.ic.")
"""Prefixes of a config param's key; a guest reads the same value with each."""


@dataclass(frozen=True)
class ChildSpec:
    """A requested child. Places are names or paths as the user gave them."""

    name: str
    config_params: dict[str, str] = field(default_factory=dict)
    secret_config_params: dict[str, str] = field(default_factory=dict, repr=False)
    persistent: bool = False
    folder: str | None = None
    datastore: str | None = None
    resource_pool: str | None = None
    networks: tuple[adapters.Network, ...] = ()
    bios_uuid: str | None = None
    identity: identity_report.Wanted | None = None
    entropy: str | None = field(default=None, repr=False)
    """Random bytes for the guest, in base64."""
    keys: t.Mapping[str, str] = field(default_factory=dict)
    """Further extraConfig keys, which are set together with the record that the VM is our child."""

    @property
    def host_name(self) -> str | None:
        """The host name of the guest, unless it is a secret."""
        return _value_of(self.config_params, "hostname")

    @property
    def params(self) -> dict[str, str]:
        """All params of the task that the guest can read."""
        return {**self.config_params, **self.secret_config_params}

    @property
    def secrets(self) -> dict[str, str]:
        """All params that are removed after the post-clone script."""
        entropy = {guestinfo.ENTROPY_PARAM: self.entropy} if self.entropy is not None else {}
        return {**self.secret_config_params, **entropy}

    @property
    def identity_params(self) -> dict[str, str]:
        """The params that the identity script reads, apart from the entropy and the clock."""
        if self.identity is None:
            return {}
        agents = {
            guestinfo.REMOVE_PARAM: " ".join(self.identity.agents_remove),
            guestinfo.RESTART_PARAM: " ".join(self.identity.agents_restart),
        }
        wanted = {guestinfo.IDENTITY_PARAM: self.identity.text, guestinfo.NETWORK_PARAM: self.identity.network}
        return {**wanted, **{key: value for key, value in agents.items() if value}}

    def clock_params(self, now: float) -> dict[str, str]:
        """The param with the time, if the identity script sets the clock.

        :param now: seconds since the epoch.
        """
        sets_clock = self.identity is not None and self.identity.has("clock")
        return {guestinfo.CLOCK_PARAM: str(int(now))} if sets_clock else {}


def parse(params: t.Mapping[str, t.Any]) -> list[ChildSpec]:
    """Return the children that a task requests, by ``name`` or by ``children[]``.

    :raises _errors.BadInput: a name or a value is not valid.
    """
    entries: list[t.Mapping[str, t.Any]] = list(params["children"] or [])
    entries += [{"name": name} for name in params["name"] or []]
    if params["bios_uuid"] is not None and len(entries) > 1:
        raise _errors.BadInput("bios_uuid can be the BIOS UUID of only one VM. Set it in each entry of children.")
    identity = identity_report.wanted(params.get("identity"))  # not an option of the preflight
    result = [_child(entry, params, identity) for entry in entries]
    seen: set[str | None] = set()
    spelled: dict[str, str] = {}
    for child in result:
        if child.name in seen:
            raise _errors.BadInput(f"The name {child.name} occurs twice in children. Give each child a unique name.")
        other = spelled.setdefault(_inventory.folded(child.name), child.name)
        if other != child.name:
            raise _errors.BadInput(
                f"The names {other} and {child.name} differ {_inventory.ALIKE}, and vCenter may treat them as the "
                "same name. Give each child a unique name."
            )
        if child.bios_uuid is not None and child.bios_uuid in seen:
            raise _errors.BadInput(
                f"The bios_uuid {child.bios_uuid} occurs twice in children. Give each child its own."
            )
        seen |= {child.name, child.bios_uuid}
    adapters.check_mac_addresses({child.name: child.networks for child in result})
    return result


def _child(
    entry: t.Mapping[str, t.Any], top: t.Mapping[str, t.Any], identity: identity_report.Wanted | None
) -> ChildSpec:
    name = entry["name"]
    _inventory.check_name(name)
    if name != name.strip():
        raise _errors.BadInput(f"The name {name!r} begins or ends with a space. Remove it.")
    given = {option: top[option] if entry.get(option) is None else entry[option] for option in PER_CHILD}
    # Each of these is a set of values: a child's values are merged with the top-level ones, and override them.
    for option in ("config_params", "secret_config_params"):
        given[option] = {**(top[option] or {}), **(entry.get(option) or {})}
    try:
        public = config_params(given["config_params"])
        secret = secret_config_params(given["secret_config_params"])
        networks = adapters.wanted(given["networks"])
    except _errors.BadInput as error:
        raise _errors.BadInput(f"Child {name}: {error.sentence}") from None
    both = sorted(set(public) & set(secret))
    if both:
        raise _errors.BadInput(
            f"Child {name}: {both[0]} is in both config_params and secret_config_params. Keep it in one of them."
        )
    _add_host_name(name, public, {*public, *secret})
    return ChildSpec(
        name=name,
        config_params=public,
        secret_config_params=secret,
        persistent=bool(given["persistent"]),
        folder=given["folder"],
        datastore=given["datastore"],
        resource_pool=given["resource_pool"],
        networks=networks,
        bios_uuid=_uuid(name, given["bios_uuid"]),
        identity=identity,
        entropy=_entropy() if identity is not None and identity.has("random") else None,
    )


def _entropy() -> str:
    """Return 64 random bytes in base64: as much as the kernel's generator takes in at once."""
    return base64.b64encode(secrets.token_bytes(64)).decode()


def _add_host_name(name: str, public: dict[str, str], given: t.Container[str]) -> None:
    """Add the guest's host name unless the task sets it.

    A domain name that is derived from the child's name is only added together with its host name.
    """
    fqdn_key = next((prefix + "fqdn" for prefix in PREFIXES if prefix + "fqdn" in given), None)
    if any(prefix + "hostname" in given for prefix in PREFIXES):
        return
    made = host_names.host_name(public.get(fqdn_key, name) if fqdn_key is not None else name)
    if made is not None:
        public["hostname"] = made.hostname
        if made.fqdn is not None and fqdn_key is None:
            public["fqdn"] = made.fqdn


def _value_of(params: t.Mapping[str, str], key: str) -> str | None:
    """Return the value of a key, with any of the prefixes."""
    return next((params[prefix + key] for prefix in PREFIXES if prefix + key in params), None)


def remarks(children: t.Sequence[ChildSpec]) -> list[str]:
    """Return warnings about children that would be hard to distinguish in the network, as sentences."""
    result: list[str] = []
    nameless = [
        child.name
        for child in children
        if not any(prefix + key in child.params for prefix in PREFIXES for key in ("hostname", "fqdn"))
    ]
    if nameless:
        result.append(
            f"No host name can be derived from the name of child {', '.join(nameless)}, so its guest keeps the host "
            "name of the parent. Set hostname in config_params."
        )
    owners: dict[str, list[str]] = {}
    for child in children:
        full = _value_of(child.config_params, "fqdn") or child.host_name
        if full:
            owners.setdefault(full.lower(), []).append(child.name)
    result += [
        f"Children {', '.join(names)} would all get the host name {full}. Set a different hostname in the "
        "config_params of each."
        for full, names in owners.items()
        if len(names) > 1
    ]
    return result


def _uuid(name: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise _errors.BadInput(
            f"Child {name}: bios_uuid {text} is not a UUID. Use 32 hexadecimal digits in the form 8-4-4-4-12."
        ) from None
