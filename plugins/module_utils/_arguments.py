# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared option groups: the argument spec of each, and the typed value it becomes.

Private to the collection. Each group has a doc fragment of the same name.
Nothing here needs AnsibleModule, so other plugin kinds can use it too.
"""

from __future__ import annotations

import re
import typing as t

from ansible.module_utils.basic import env_fallback

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._inventory import Selector
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Server

Params = t.Mapping[str, t.Any]
Spec = dict[str, dict[str, t.Any]]


def secrets(spec: Spec, params: Params) -> set[str]:
    """The values of all options that are marked ``no_log``, those inside of dicts and of suboptions too."""
    found: set[str] = set()
    for name, option in spec.items():
        value = params.get(name)
        if value is None:
            continue
        if option.get("no_log"):
            found.update(str(one) for one in (value.values() if isinstance(value, dict) else [value]))
        elif option.get("options"):
            for entry in value if isinstance(value, list) else [value]:
                found |= secrets(option["options"], entry)
    return found - {""}


# --- connection -----------------------------------------------------------------------------------------------------


def connection_spec() -> Spec:
    """Names, aliases and environment variables are those of vmware.vmware; ``ca_path`` is ours."""
    return {
        "hostname": {"type": "str", "fallback": (env_fallback, ["VMWARE_HOST"])},
        "username": {"type": "str", "aliases": ["user", "admin"], "fallback": (env_fallback, ["VMWARE_USER"])},
        "password": {
            "type": "str",
            "aliases": ["pass", "pwd"],
            "no_log": True,
            "fallback": (env_fallback, ["VMWARE_PASSWORD"]),
        },
        "port": {"type": "int", "default": 443, "fallback": (env_fallback, ["VMWARE_PORT"])},
        "validate_certs": {"type": "bool", "default": True, "fallback": (env_fallback, ["VMWARE_VALIDATE_CERTS"])},
        "ca_path": {"type": "path", "fallback": (env_fallback, ["VMWARE_CA_PATH"])},
        "proxy_host": {"type": "str", "fallback": (env_fallback, ["VMWARE_PROXY_HOST"])},
        "proxy_port": {"type": "int", "fallback": (env_fallback, ["VMWARE_PROXY_PORT"])},
    }


def connection(params: Params) -> Server:
    """How to reach the server.

    :raises _errors.BadInput: something is missing or contradicts itself.
    """
    for name, variable in {"hostname": "HOST", "username": "USER", "password": "PASSWORD"}.items():
        if not params[name]:
            raise _errors.BadInput(f"{name} is missing. Give it in the task, or in the variable VMWARE_{variable}.")
    for name in ("port", "proxy_port"):
        if params[name] is not None and not 0 < params[name] < 65536:
            raise _errors.BadInput(f"{name} is {params[name]}, and ports go from 1 to 65535. Correct it.")
    return Server(**{name: params[name] for name in connection_spec()})


# --- vm -------------------------------------------------------------------------------------------------------------

_SELECTORS = ("name", "moid", "uuid", "inventory_path")


def vm_spec(prefix: str = "") -> Spec:
    """Which VM; with a prefix the same for another VM (``parent_name`` …)."""
    return {
        f"{prefix}name": {"type": "str"},
        f"{prefix}moid": {"type": "str"},
        f"{prefix}uuid": {"type": "str"},
        f"{prefix}use_instance_uuid": {"type": "bool", "default": False},
        f"{prefix}inventory_path": {"type": "str"},
        f"{prefix}folder": {"type": "str"},
        f"{prefix}datacenter": {"type": "str"},
    }


def vm_constraints(prefix: str = "", required: bool = True) -> dict[str, t.Any]:
    """What AnsibleModule needs to know so that exactly one VM is named."""
    names = [f"{prefix}{name}" for name in _SELECTORS]
    constraints: dict[str, t.Any] = {"mutually_exclusive": [names]}
    if required:
        constraints["required_one_of"] = [names]
    return constraints


def vm(params: Params, prefix: str = "") -> Selector:
    """Which VM, where the constraints make sure that one is named."""
    selector = optional_vm(params, prefix)
    if selector is None:
        raise _errors.BadInput(f"No VM is named. Give {', '.join(prefix + name for name in _SELECTORS)}.")
    return selector


def optional_vm(params: Params, prefix: str = "") -> Selector | None:
    """Which VM; ``None`` when none is named."""
    values = {name.removeprefix(prefix): params[name] for name in vm_spec(prefix)}
    for name in _SELECTORS:
        if values[name] is not None and not values[name].strip():
            raise _errors.BadInput(f"{prefix}{name} is empty. Give it a value, or leave it out.")
    if all(values[name] is None for name in _SELECTORS):
        return None
    return Selector(**values)


# --- engine ---------------------------------------------------------------------------------------------------------


def engine_spec() -> Spec:
    """Which generation of the API, and how it is called."""
    return {
        "api": {"type": "str", "choices": ["auto", "vmfork", "instant_clone"], "default": "auto"},
        "call_via": {"type": "str", "choices": ["auto", "soap", "mob"], "default": "auto"},
    }


# --- guest ----------------------------------------------------------------------------------------------------------


def guest_spec() -> Spec:
    """The guest's login."""
    return {
        "guest_username": {"type": "str", "fallback": (env_fallback, ["VMWARE_GUEST_USER"])},
        "guest_password": {"type": "str", "no_log": True, "fallback": (env_fallback, ["VMWARE_GUEST_PASSWORD"])},
        "guest_become": {"type": "str", "choices": ["none", "sudo"], "default": "none"},
        "guest_transfer_certs": {"type": "str", "choices": ["pinned", "ca", "ignore"], "default": "pinned"},
    }


def guest(params: Params) -> GuestLogin:
    """The guest's login.

    :raises _errors.BadInput: user or password are missing.
    """
    for name, variable in {"guest_username": "USER", "guest_password": "PASSWORD"}.items():
        if not params[name]:
            raise _errors.BadInput(
                f"{name} is missing. Give it in the task, or in the variable VMWARE_GUEST_{variable}."
            )
    return GuestLogin(
        params["guest_username"], params["guest_password"], params["guest_become"], params["guest_transfer_certs"]
    )


# --- config params --------------------------------------------------------------------------------------------------

OWN_PREFIX = "vmfork."
"""Config params below this prefix are ours."""

SHORTEST_SECRET = 8
"""Characters; Ansible masks a secret wherever its text occurs, and a short one would mangle all output."""

LONGEST_VALUE = 65000
"""Bytes of one value; VMware Tools carries no more than 64 KB in one answer."""

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")


def config_params(values: t.Mapping[str, t.Any] | None, option: str = "config_params") -> dict[str, str]:
    """Config params as the strings the guest will read.

    :raises _errors.BadInput: a key or a value cannot be handed to a guest.
    """
    result: dict[str, str] = {}
    for key, value in (values or {}).items():
        result[_config_key(str(key), option)] = _config_value(str(key), value, option)
    return result


def secret_config_params(values: t.Mapping[str, t.Any] | None) -> dict[str, str]:
    """As :func:`config_params`, for values that must not be seen."""
    result = config_params(values, "secret_config_params")
    for key, value in result.items():
        if len(value) < SHORTEST_SECRET:
            raise _errors.BadInput(
                f"secret_config_params: the value of {key} has fewer than {SHORTEST_SECRET} characters. "
                "Ansible cannot mask so short a secret without mangling other output; use a longer one."
            )
    return result


def _config_key(key: str, option: str) -> str:
    if key.startswith("guestinfo."):
        raise _errors.BadInput(
            f"{option}: the key {key} starts with guestinfo., and VMFork adds guestinfo.fork. itself. "
            "Leave the prefix out."
        )
    if key.startswith(OWN_PREFIX):
        raise _errors.BadInput(f"{option}: keys that start with {OWN_PREFIX} are the collection's own. Rename {key}.")
    if not _KEY.fullmatch(key):
        raise _errors.BadInput(
            f"{option}: {key!r} cannot be a key. Use letters, digits and the characters _ . : - without spaces."
        )
    return key


def _config_value(key: str, value: t.Any, option: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        raise _errors.BadInput(
            f"{option}: the value of {key} is {kind}, and a guest can read only text. Give a string, number or boolean."
        )
    # XML 1.0, section 2.2: other control characters, surrogates and two non-characters cannot be sent at all.
    if re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", value):
        raise _errors.BadInput(
            f"{option}: the value of {key} has control characters that vSphere cannot carry. Encode it, as base64 say."
        )
    if len(value.encode()) > LONGEST_VALUE:
        raise _errors.BadInput(
            f"{option}: the value of {key} has more than {LONGEST_VALUE} bytes, more than a guest can read. Shorten it."
        )
    return value
