# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools of ready children, and leases on them.

Private to the collection.
"""
