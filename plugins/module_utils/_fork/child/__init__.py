# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One child, from its specification to its result: existing VMs, placement, transitions, requests.

Private to the collection.
"""
