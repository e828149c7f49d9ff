# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Returns details on what has changed, or would change in C(check_mode), when in diff mode.
  idempotent:
    description: When run twice in a row with the same arguments, outside check mode, the second run changes nothing.
  platform:
    description: Platform the module works with.
    support: full
    platforms: vSphere
"""

    # Modules that belong to the action group, which is all of them.
    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/vmfork.vsphere.all) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - vmfork.vsphere.all
"""

    # Modules that only read.
    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: This module does not change anything.
  diff_mode:
    support: N/A
    details: This module does not change anything.
  idempotent:
    support: full
    details: This module does not change anything.
"""
