# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
name: from_survey
short_description: Parse the YAML of a survey answer
version_added: 0.2.0
author: vmfork.vsphere contributors (@vmfork)
description:
  - Parses text as YAML, like the filter C(from_yaml). Returns any other value unchanged.
  - Error messages contain the position of an error and never the text, which may contain secrets. A password such as
    C(!word) without quotes is a tag in YAML, and C(from_yaml) shows it.
positional: variable
options:
  _input:
    description: The value of a variable.
    type: raw
    required: true
  variable:
    description: The name of the variable, for error messages.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show for which VMs secrets are set
  ansible.builtin.debug:
    msg: "{{ vapp_restore_secrets | vmfork.vsphere.from_survey('vapp_restore_secrets') | list }}"
"""

RETURN = r"""
_value:
  description: The value.
  type: raw
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible.plugins.filter.core import from_yaml


def from_survey(value: t.Any, variable: str) -> t.Any:
    """Parse text as YAML, and return any other value unchanged.

    :raises AnsibleFilterError: the text is not YAML. Neither the message nor a chained exception contains the text.
    """
    if not isinstance(value, str):
        return value
    try:
        return from_yaml(value)
    except Exception as error:  # noqa: BLE001 - constructors of YAML raise errors of many types, with the value
        mark = getattr(error, "problem_mark", None)
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
    raise AnsibleFilterError(
        f"{variable} is not valid YAML{place}. Put values that contain special characters in quotes."
    )


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filter by its name."""
        return {"from_survey": from_survey}
