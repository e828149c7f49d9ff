# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two engines that fork a VM, Instant Clone and VMFork, behind one interface.

Private to the collection.
"""
