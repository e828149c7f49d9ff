# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Define the shared option groups: the argument spec of each, and the typed value it becomes.

Private to the collection. Each group has a doc fragment of the same name.
Nothing here needs AnsibleModule, so other plugin types can use it too.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import typing as t
from urllib.parse import unquote

from ansible.module_utils.common.validation import check_type_dict, check_type_list
from ansible.module_utils.errors import AnsibleFallbackNotFound

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _printable, _text_lists
from ansible_collections.vmfork.vsphere.plugins.module_utils._connection import Server
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._inventory import Selection, Selector

Params = t.Mapping[str, t.Any]
Spec = dict[str, dict[str, t.Any]]


def secrets(spec: Spec, params: Params) -> set[str]:
    """Return the values of all options that are marked ``no_log``, including those in dicts and suboptions.

    :param params: the parameters as given: a dict, or the elements of a list, may be text.
    """
    found: set[str] = set()
    for name, option in spec.items():
        value = params.get(name)
        if option.get("no_log"):
            values = _read(check_type_dict, value, {}).values() if option.get("type") == "dict" else [value]
            found.update(str(secret) for secret in values if secret is not None and not isinstance(secret, bool))
        elif option.get("options"):
            for entry in _read(check_type_list, value, []):
                found |= secrets(option["options"], _read(check_type_dict, entry, {}))
        elif name in HOSTS:
            found |= _login_in(value)
    return found - {""}


HOSTS = ("hostname", "proxy_host")
"""Options that name a host. Users often give a URL, which may contain a login."""


def _may_hold_login(host: t.Any) -> bool:
    """Return whether a host may contain a password, so that it must not be repeated."""
    return re.search(r"[@?#]", str(host)) is not None


def _login_in(host: t.Any) -> set[str]:
    """Return the secrets in the login of a URL: the login, the password, and the password without URL escapes."""
    login = str(host or "").rpartition("@")[0].rpartition("//")[2]
    password = login.partition(":")[2]
    return {login, password, unquote(password)} if password else {login}


HIDDEN = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
"""Ansible's replacement for a secret."""

SCRIPTS = ("identity_script", "pre_quiesce_script", "post_clone_script", "script")
"""Options with the text of a script, which may contain secrets that are not marked."""


VALUES = ("values", "value", "default", "restore_from")
"""Options with values of vApp properties. Which of them are passwords is only known after the VM was read."""

BLANKABLE = ("value", "default", "label", "category", "description")
"""Suboptions of a vApp property that an empty string blanks."""


def _is_blankable(spec: Spec, name: str) -> bool:
    """Return whether an empty string is a value of this option; other options also have a ``label`` suboption."""
    return name in BLANKABLE and "user_configurable" in spec


def shown(spec: Spec, params: Params) -> dict[str, t.Any]:
    """Return the parameters as they may be logged: no secrets, no scripts, and no values of unknown options.

    An unknown option may be a secret with a typing error in its name. Text that Ansible will refuse as a value may
    contain a secret anywhere.

    :param params: the parameters as given, or as Ansible has converted them.
    """
    options = {name: option for main, option in spec.items() for name in (main, *option.get("aliases", []))}
    return {name: value if value is None else _shown(name, value, options.get(name)) for name, value in params.items()}


def _shown(name: str, value: t.Any, option: dict[str, t.Any] | None) -> t.Any:
    """Return one value as it may be logged."""
    if option is None or option.get("no_log") or name in VALUES or (name in HOSTS and _may_hold_login(value)):
        return HIDDEN
    if name in SCRIPTS:
        content = str(value).encode("utf-8", "surrogatepass")
        return f"{_printable.count(len(content), 'byte')}, SHA-256 {hashlib.sha256(content).hexdigest()}"
    if not option.get("options"):
        return value
    entries = _read(check_type_list, value, None) if option.get("type") == "list" else [value]
    read = [_read(check_type_dict, entry, None) for entry in entries or []]
    return [HIDDEN if entry is None else shown(option["options"], entry) for entry in read]


def given(spec: Spec, params: Params) -> dict[str, t.Any]:
    """Return the parameters without empty ones: an option with an empty string counts as not set.

    Surveys and templates produce such strings. Empty strings in a list are dropped. A list with nothing else counts as
    not set, but a list without entries is kept, since a filter may have removed all names. The values of a dict without
    suboptions belong to the user and are kept, and so are options that an empty string blanks.

    :param params: the parameters as given, before Ansible has converted them.
    """
    options = {name: option for main, option in spec.items() for name in (main, *option.get("aliases", []))}
    result = dict(params)
    for name, value in params.items():
        if name in options and value is not None and not _is_blankable(spec, name):
            result[name] = _refusable(options[name], _without_empty(options[name], value))
            if result[name] == "":
                del result[name]
    return result


def _refusable(option: dict[str, t.Any], value: t.Any) -> t.Any:
    """Return the value as a text that ansible-core refuses, if it would otherwise raise an exception."""
    if option.get("type") == "int" and _INFINITE.fullmatch(str(value)):
        return f"{value} (infinite)"
    if option.get("type") == "dict" and "options" in option and not isinstance(value, (dict, str)):
        return str(value)
    return value


_INFINITE = re.compile(r"\s*[+-]?inf(inity)?\s*", re.IGNORECASE)
"""Infinite numbers, as Python formats and parses them; in YAML ``.inf``."""


def _without_empty(option: dict[str, t.Any], value: t.Any) -> t.Any:
    """Return an option's value without empty strings; an empty string if nothing remains."""
    if option.get("type") != "list" or value == "":
        return value
    suboptions = option.get("options")
    if isinstance(value, str):
        value = _elements(value) if suboptions is None else _entries(suboptions, value)
    if not isinstance(value, list) or not value:
        return value
    entries = [entry for entry in value if entry != ""]
    if suboptions is not None:
        entries = [_entry(suboptions, entry) for entry in entries]
    return entries or ""


def _elements(text: str) -> list[t.Any]:
    """Return the elements of a list that is given as text. A text without any becomes a space, which is refused later.

    Ansible keeps the spaces around them and reads JSON as a single text, so it would look for VMs with such names.
    """
    found = _text_lists.elements(text)
    return found if found or text.lstrip().startswith("[") else [" "]


def _has_names(suboptions: Spec) -> bool:
    """Return whether every entry of a list requires a name, so that an entry may be just the name."""
    return bool(suboptions.get("name", {}).get("required"))


def _entries(suboptions: Spec, text: str) -> t.Any:
    """Return the entries of a list that is given as text: JSON, or names separated by commas or newlines.

    Anything else is left to Ansible, which accepts ``key=value``.
    """
    if text.lstrip().startswith("["):
        return _read(json.loads, text, text)
    if not _has_names(suboptions) or "=" in text or text.lstrip().startswith("{"):
        return text
    return _text_lists.elements(text) or ""


def _entry(suboptions: Spec, entry: t.Any) -> t.Any:
    """Return a list's entry, which may be text or just a name, without its empty suboptions."""
    if _has_names(suboptions):
        if isinstance(entry, int) and not isinstance(entry, bool):
            entry = str(entry)
        if isinstance(entry, str) and "=" not in entry and not entry.lstrip().startswith("{"):
            return {"name": entry}
    values = _read(check_type_dict, entry, None)
    return entry if values is None else given(suboptions, values)


def _read(convert: t.Callable[[t.Any], t.Any], given: t.Any, otherwise: t.Any) -> t.Any:
    """Return a value as Ansible reads it; the alternative if Ansible will refuse it."""
    try:
        return convert(given)
    except (TypeError, ValueError, RecursionError):
        return otherwise


def check_texts(params: Params) -> None:
    """Refuse texts that cannot be encoded: those with half of a surrogate pair, such as ``\\ud800``.

    :raises _errors.BadInput: there is one; the text is not repeated.
    """
    for name, value in params.items():
        if has_surrogate(value):
            raise _errors.BadInput(
                f"{name} contains half of a surrogate pair (U+D800 to U+DFFF), which is not valid Unicode. Correct it."
            )


def has_surrogate(value: t.Any) -> bool:
    """Return whether any text in a value, including its keys, has half of a surrogate pair."""
    if isinstance(value, str):
        return re.search("[\ud800-\udfff]", value) is not None
    if isinstance(value, dict):
        return any(has_surrogate(part) for pair in value.items() for part in pair)
    return isinstance(value, (list, tuple)) and any(map(has_surrogate, value))


# --- progress -------------------------------------------------------------------------------------------------------


def _environment(name: str) -> str:
    """Return an environment variable as the fallback of an option.

    An empty one counts as not set: a credential of AWX sets the variables of all its fields.

    :raises AnsibleFallbackNotFound: the variable is not set.
    """
    value = os.environ.get(name)
    if not value:
        raise AnsibleFallbackNotFound
    return value


def progress_spec() -> Spec:
    """Return the options for the display of the progress, which the action plugin reads."""
    return {"progress": {"type": "bool", "default": True, "fallback": (_environment, ["VMFORK_PROGRESS"])}}


# --- connection -----------------------------------------------------------------------------------------------------


def connection_spec() -> Spec:
    """Return the options of the connection, with the names of vmware.vmware; only ``ca_path`` is ours."""
    return {
        "hostname": {"type": "str", "fallback": (_environment, ["VMWARE_HOST"])},
        "username": {"type": "str", "aliases": ["user", "admin"], "fallback": (_environment, ["VMWARE_USER"])},
        "password": {
            "type": "str",
            "aliases": ["pass", "pwd"],
            "no_log": True,
            "fallback": (_environment, ["VMWARE_PASSWORD"]),
        },
        "port": {"type": "int", "default": 443, "fallback": (_environment, ["VMWARE_PORT"])},
        "validate_certs": {"type": "bool", "default": True, "fallback": (_environment, ["VMWARE_VALIDATE_CERTS"])},
        "ca_path": {"type": "path", "fallback": (_environment, ["VMWARE_CA_PATH"])},
        "proxy_host": {"type": "str", "fallback": (_environment, ["VMWARE_PROXY_HOST"])},
        "proxy_port": {"type": "int", "fallback": (_environment, ["VMWARE_PROXY_PORT"])},
        "proxy_username": {"type": "str", "fallback": (_environment, ["VMWARE_PROXY_USERNAME"])},
        "proxy_password": {
            "type": "str",
            "no_log": True,
            "fallback": (_environment, ["VMWARE_PROXY_PASSWORD"]),
        },
    }


def connection(params: Params) -> Server:
    """Return the server and the login from the options.

    :raises _errors.BadInput: an option is missing, or options contradict each other.
    """
    for name, variable in {"hostname": "HOST", "username": "USER", "password": "PASSWORD"}.items():
        if not params[name]:
            raise _errors.BadInput(
                f"{name} is missing. Set it in the task, or in the environment variable VMWARE_{variable}."
            )
    for name in ("port", "proxy_port"):
        if params[name] is not None and not 0 < params[name] < 65536:
            raise _errors.BadInput(f"{name} is {params[name]}, but ports range from 1 to 65535. Correct it.")
    given = {name: params[name] for name in connection_spec()}
    given["hostname"] = _host("hostname", given["hostname"], "port")
    if given["proxy_host"]:
        given["proxy_host"] = _host("proxy_host", given["proxy_host"], "proxy_port")
    elif idle := [name for name in _PROXY if given[name] and not _is_of_environment(name, given[name])]:
        raise _errors.BadInput(f"{idle[0]} is set without proxy_host, so no proxy is used. Set both, or neither.")
    if given["proxy_host"] and given["proxy_password"] and not given["proxy_username"]:
        raise _errors.BadInput("proxy_password is set without proxy_username. Set both.")
    return Server(**given)


_PROXY = ("proxy_port", "proxy_username", "proxy_password")
"""Options that need ``proxy_host``."""


def _is_of_environment(name: str, value: t.Any) -> bool:
    """Return whether an option of the connection may be left over from the environment."""
    return str(value) == os.environ.get(f"VMWARE_{name.upper()}")


def _host(option: str, value: str, port: str) -> str:
    """Return a host name or address, an IPv6 address without its brackets.

    :raises _errors.BadInput: it is something else; it is not repeated if it may contain a password.
    """
    if _may_hold_login(value):
        raise _errors.BadInput(
            f"{option} contains an @, a question mark or a #, so it is not a host name, and may contain a password. "
            "Set it to a host name or an IP address, and use the other options for the login."
        )
    host = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    try:
        is_address = ipaddress.ip_address(host.partition("%")[0]).version > 0
    except ValueError:
        is_address = False
    if not is_address and re.search(r"[^\w.-]", host):
        raise _errors.BadInput(
            f"{option} {value} is neither a host name nor an IP address. Remove https://, port and path, and set the "
            f"port in {port}."
        )
    return host


# --- vm -------------------------------------------------------------------------------------------------------------

_SELECTORS = ("name", "moid", "uuid", "inventory_path")


def vm_spec(prefix: str = "") -> Spec:
    """Return the options that select a VM; with a prefix, those for another VM (``parent_name`` …)."""
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
    """Return the constraints with which AnsibleModule checks that exactly one VM is selected."""
    names = [f"{prefix}{name}" for name in _SELECTORS]
    constraints: dict[str, t.Any] = {"mutually_exclusive": [names]}
    if required:
        constraints["required_one_of"] = [names]
    return constraints


def vm(params: Params, prefix: str = "") -> Selector:
    """Return the selected VM. The constraints guarantee that there is one."""
    selector = optional_vm(params, prefix)
    if selector is None:
        raise _errors.BadInput(f"No VM is named. Set {', '.join(prefix + name for name in _SELECTORS)}.")
    return selector


def optional_vm(params: Params, prefix: str = "") -> Selector | None:
    """Return the selected VM; ``None``: none is selected."""
    values = {name.removeprefix(prefix): params[name] for name in vm_spec(prefix)}
    for name in _SELECTORS:
        if values[name] is not None and not values[name].strip():
            raise _errors.BadInput(f"{prefix}{name} is empty. Set a value, or remove it.")
    if all(values[name] is None for name in _SELECTORS):
        return None
    return Selector(**values, prefix=prefix)


# --- vms ------------------------------------------------------------------------------------------------------------


def vms_spec() -> Spec:
    """Return the options that select VMs: lists of names and IDs, or a scope."""
    return {
        **{name: {"type": "list", "elements": "str"} for name in _SELECTORS},
        "use_instance_uuid": {"type": "bool", "default": False},
        "folder": {"type": "str"},
        "datacenter": {"type": "str"},
    }


def vms(params: Params) -> Selection:
    """Return the selected VMs.

    :raises _errors.BadInput: a list is empty, or has an empty entry.
    """
    for name in _SELECTORS:
        if params[name] is not None and not all(entry.strip() for entry in params[name] or [""]):
            raise _errors.BadInput(
                f"{name} is empty, or has an empty entry. List VMs there, or remove it to select all VMs."
            )
    named: dict[str, t.Any] = {name: params[name] or () for name in _SELECTORS}
    return Selection(**named, **{name: params[name] for name in ("use_instance_uuid", "folder", "datacenter")})


# --- engine ---------------------------------------------------------------------------------------------------------


def engine_spec() -> Spec:
    """Return the options for the generation of the API and how it is called."""
    return {
        "api": {"type": "str", "choices": ["auto", "vmfork", "instant_clone"], "default": "auto"},
        "call_via": {"type": "str", "choices": ["auto", "soap", "mob"], "default": "auto"},
    }


class EngineChoice(t.NamedTuple):
    """The generation of the API that a task requests, and how it is called."""

    api: str
    call_via: str


def engine(params: Params) -> EngineChoice:
    """Return the generation of the API, and how it is called."""
    return EngineChoice(params["api"], params["call_via"])


# --- guest ----------------------------------------------------------------------------------------------------------


def guest_spec() -> Spec:
    """Return the options of the guest's login."""
    return {
        "guest_username": {"type": "str", "fallback": (_environment, ["VMWARE_GUEST_USER"])},
        "guest_password": {"type": "str", "no_log": True, "fallback": (_environment, ["VMWARE_GUEST_PASSWORD"])},
        "guest_become": {"type": "str", "choices": ["none", "sudo"], "default": "none"},
        "guest_transfer_certs": {"type": "str", "choices": ["pinned", "ca", "ignore"], "default": "pinned"},
    }


def guest(params: Params) -> GuestLogin:
    """Return the guest's login.

    :raises _errors.BadInput: user name or password are missing.
    """
    for name, variable in {"guest_username": "USER", "guest_password": "PASSWORD"}.items():
        if not params[name]:
            raise _errors.BadInput(
                f"{name} is missing. Set it in the task, or in the environment variable VMWARE_GUEST_{variable}."
            )
    return GuestLogin(
        params["guest_username"], params["guest_password"], params["guest_become"], params["guest_transfer_certs"]
    )
