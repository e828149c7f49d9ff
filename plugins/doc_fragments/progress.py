# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  progress:
    description:
      - >-
        Whether to display the progress of a task that takes longer than 2 seconds, in lines such as
        C(vmfork_child: 18 of 60 ready, 31 created, 12 s).
      - After that, a line is displayed when something has changed, at the earliest after 5 seconds (later in long
        tasks), or as soon as another tenth of the work is done. A task displays at most 60 lines. They are written to
        the standard error stream.
      - Nothing is displayed in check mode, with C(no_log) or C(async), with a connection other than C(local), or with
        C(become) to a user other than root.
      - If not set, the value of the environment variable E(VMFORK_PROGRESS) on the controller is used.
    type: bool
    default: true
    version_added: 0.2.0
"""
