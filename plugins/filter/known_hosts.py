# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
name: known_hosts
short_description: Replace the SSH host keys of some hosts in a known_hosts file
version_added: 0.2.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - Returns the content of a known_hosts file in which the given hosts have exactly the given keys. All other lines
    stay.
  - Only lines that this filter has written are replaced. They end with the comment C(vmfork).
  - Fails if a host has a key, and the file has another line for its name. The host could be mistaken for another one
    then. Patterns, hashes, names with a port and the lines of certificate authorities are compared, too; of hashes
    only those of a name without a port.
positional: hosts, file
options:
  _input:
    description: The content of the file; empty if it does not exist.
    type: str
    required: true
  hosts:
    description:
      - The keys of each host by its name, which is what C(ssh) calls C(HostKeyAlias). A host with an empty list gets no
        line. A host with V(null), whose keys are not known yet, keeps its lines, and only other lines for its name are
        searched.
      - A key consists of its type and its base64 text, as in the return value C(children[].identity.ssh_host_keys) of
        M(vmfork.vsphere.vmfork_child).
    type: dict
    required: true
  file:
    description: The path of the file, for error messages.
    type: str
    default: The known_hosts file
"""

EXAMPLES = r"""
- name: Write the host keys of a child
  ansible.builtin.copy:
    content: "{{ before | vmfork.vsphere.known_hosts(keys, file) }}"
    dest: "{{ file }}"
    mode: "0600"
  vars:
    file: "{{ playbook_dir }}/known_hosts"
    before: "{{ lookup('ansible.builtin.file', file, rstrip=false) if file is exists else '' }}"
    keys:
      web-01: "{{ vmfork_result.children[0].identity.ssh_host_keys }}"
"""

RETURN = r"""
_value:
  description: The new content of the file.
  type: str
"""

import base64
import hashlib
import hmac
import re
import typing as t

from ansible.errors import AnsibleFilterError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_KEY = re.compile(r"[a-z0-9-]+ [A-Za-z0-9+/]+={0,2}")


_COMMENT = "vmfork"
"""Marks the lines that this filter has written."""


def known_hosts(text: str, hosts: t.Mapping[str, t.Sequence[str] | None], file: str = "The known_hosts file") -> str:
    """Return the content of a known_hosts file in which these hosts have these keys.

    :raises AnsibleFilterError: a name or a key would be read as something else, such as a pattern, or the name belongs
        to a host that somebody else has put into the file.
    """
    for name, keys in hosts.items():
        if not _NAME.fullmatch(name):
            raise AnsibleFilterError(
                f"{name!r} cannot be the name of a host in a known_hosts file. Use lower-case letters."
            )
        if not all(_KEY.fullmatch(key) for key in keys or []):
            raise AnsibleFilterError(f"A host key of {name} is not a type and base64 text. Check where it comes from.")
    lines = text.removesuffix("\n").split("\n") if text else []  # for ssh, nothing else ends a line
    others = [line for line in lines if not _is_ours(line, hosts)]
    for name in (name for name, keys in hosts.items() if keys != []):
        if any(_names(line, name) for line in others):
            raise AnsibleFilterError(
                f"{file} has a line for {name} that was not written for a child, so the child could be mistaken for "
                "that host. Use another file, give the child another name, or remove the line."
            )
    kept = [line for line in lines if not _is_ours(line, {name for name, keys in hosts.items() if keys is not None})]
    new = [f"{name} {key} {_COMMENT}" for name, keys in hosts.items() for key in keys or []]
    return "".join(f"{line}\n" for line in [*kept, *new])


def _is_ours(line: str, hosts: t.Container[str]) -> bool:
    words = line.rstrip("\r").split(" ")
    return len(words) == 4 and words[0] in hosts and words[3] == _COMMENT


def _names(line: str, name: str) -> bool:
    """Return whether a line of known_hosts is for a host, on any port. A revoked key is no other host's."""
    words = re.split("[ \t]+", line.lstrip(" \t"))
    if words[0] == "@cert-authority":
        words.pop(0)
    hosts = words[0] if words else ""
    if hosts.startswith("|1|"):
        return _has_hash(hosts, name)
    entries = hosts.lower().split(",")
    with_port = [re.sub(r"^(!?)\[(.*)\]:[0-9]+$", r"\1\2", entry) for entry in entries if "[" in entry]
    return _match([entry for entry in entries if "[" not in entry], name) or _match(with_port, name)


def _match(patterns: t.Sequence[str], name: str) -> bool:
    """Return whether ssh finds a name by these patterns: by one of them, and by none that begins with !."""
    found = [pattern for pattern in patterns if _pattern(pattern.removeprefix("!")).fullmatch(name)]
    return bool(found) and not any(pattern.startswith("!") for pattern in found)


def _pattern(pattern: str) -> re.Pattern[str]:
    """Translate a pattern of ssh, where only * and ? have a meaning."""
    return re.compile(re.escape(re.sub("[*]+", "*", pattern)).replace(r"\*", ".*").replace(r"\?", "."))


def _has_hash(entry: str, name: str) -> bool:
    try:
        salt, digest = [base64.b64decode(part) for part in entry.split("|")[2:]]
    except ValueError:  # not base64, or other parts
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filter by its name."""
        return {"known_hosts": known_hosts}
