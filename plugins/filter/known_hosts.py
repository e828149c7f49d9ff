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
  - Only lines that begin with the name of one of the hosts alone are replaced, not those with hashed names, patterns,
    or several names.
positional: hosts
options:
  _input:
    description: The content of the file; empty if it does not exist.
    type: str
    required: true
  hosts:
    description:
      - The keys of each host by its name, which is what C(ssh) calls C(HostKeyAlias). A host with an empty list gets no
        line.
      - A key consists of its type and its base64 text, as in the return value C(children[].identity.ssh_host_keys) of
        M(vmfork.vsphere.vmfork_child).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Write the host keys of a child
  ansible.builtin.copy:
    content: "{{ before | default('', true) | vmfork.vsphere.known_hosts(keys) }}"
    dest: "{{ file }}"
    mode: "0600"
  vars:
    file: "{{ playbook_dir }}/known_hosts"
    before: "{{ lookup('ansible.builtin.file', file, errors='ignore') }}"
    keys:
      web-01: "{{ vmfork_result.children[0].identity.ssh_host_keys }}"
"""

RETURN = r"""
_value:
  description: The new content of the file.
  type: str
"""

import re
import typing as t

from ansible.errors import AnsibleFilterError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_KEY = re.compile(r"[a-z0-9-]+ [A-Za-z0-9+/]+={0,2}")


def known_hosts(text: str, hosts: t.Mapping[str, t.Sequence[str]]) -> str:
    """Return the content of a known_hosts file in which these hosts have these keys.

    :raises AnsibleFilterError: a name or a key would be read as something else, such as a pattern.
    """
    for name, keys in hosts.items():
        if not _NAME.fullmatch(name):
            raise AnsibleFilterError(
                f"{name!r} cannot be the name of a host in a known_hosts file. Use lower-case letters."
            )
        if not all(_KEY.fullmatch(key) for key in keys):
            raise AnsibleFilterError(f"A host key of {name} is not a type and base64 text. Check where it comes from.")
    kept = [line for line in text.splitlines() if line.split(" ", 1)[0] not in hosts]
    new = [f"{name} {key}" for name, keys in hosts.items() for key in keys]
    return "".join(f"{line}\n" for line in [*kept, *new])


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filter by its name."""
        return {"known_hosts": known_hosts}
