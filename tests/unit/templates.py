# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests that evaluate the templates of playbooks share."""

from __future__ import annotations

from typing import Any


def trusted(value: Any) -> Any:
    """Return the value as Ansible reads it from a playbook: from ansible-core 2.19 on, other texts are no templates."""
    try:
        from ansible.template import trust_as_template
    except ImportError:
        return value
    return trust_as_template(value) if isinstance(value, str) else value
