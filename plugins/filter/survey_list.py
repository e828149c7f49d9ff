# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
name: survey_list
short_description: Parse the list in a survey answer
version_added: 0.2.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - Returns the entries of a list, which can be a list, a JSON list as a string, or a string with commas or line breaks
    between the entries.
  - White space around the entries is removed, and so are empty entries. Without an answer the list is empty.
  - Any other value is an error, and so is a list of nothing but separators, since an empty list often means all VMs.
positional: variable, commas
options:
  _input:
    description: The value of a variable.
    type: raw
    required: true
  variable:
    description: The name of the variable, for error messages.
    type: str
    required: true
  commas:
    description: Whether commas separate entries. Line breaks always do.
    type: bool
    default: true
seealso:
  - plugin: vmfork.vsphere.from_survey
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the VMs that a survey names
  ansible.builtin.debug:
    msg: "{{ ovfenv_vms | default([]) | vmfork.vsphere.survey_list('ovfenv_vms') }}"
"""

RETURN = r"""
_value:
  description: The entries.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.vmfork.vsphere.plugins.module_utils import _text_lists


def survey_list(value: t.Any, variable: str, commas: bool = True) -> list[str]:
    """Return the entries of a list, which may be given as text.

    :raises AnsibleFilterError: the value is no such list, or has no entry. The message does not contain the value.
    """
    if value is None or value in ("", []):
        return []
    separators = "commas or line breaks" if commas else "line breaks"
    if isinstance(value, str):
        value = _text_lists.elements(value, ",\n" if commas else "\n")
    elif _is_number(value):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(entry, str) or _is_number(entry) for entry in value):
        raise AnsibleFilterError(
            f"{variable} must be a list of strings, or a string with {separators} between the entries. "
            "Put entries such as no and null in quotes."
        )
    entries = [text for entry in value if (text := str(entry).strip())]
    if not "".join(entries).strip(", "):
        raise AnsibleFilterError(f"{variable} has no entries. Set at least one, or leave the variable empty.")
    return entries


def _is_number(value: t.Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filter by its name."""
        return {"survey_list": survey_list}
