# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fork parent: find it, enable and disable it, pass scripts to it, and quiesce it.

Private to the collection.
"""
