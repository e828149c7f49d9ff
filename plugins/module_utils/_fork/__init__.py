# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fork VMs: the engines, the fork parent, its children, and what identifies them.

Private to the collection.
"""
