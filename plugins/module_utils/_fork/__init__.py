# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fork VMs: the engines, the fork parent, its children, and how they are identified.

Private to the collection.
"""
