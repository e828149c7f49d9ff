# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module of the same name, which has the documentation, and display its progress."""

from __future__ import annotations

from ansible_collections.vmfork.vsphere.plugins.plugin_utils.progress import ProgressAction


class ActionModule(ProgressAction):
    """See DOCUMENTATION of the module."""
