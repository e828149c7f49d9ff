#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs in the parent, right before it stops at the fork point. Every child starts with the parent's state, so remove what
# only one VM may have: its address. A child sets its own address in linux_post_clone.sh.
set -eu

interface=$(ip -o link show | sed -n 's/^[0-9]*: \([^:@]*\).*/\1/p' | grep -vx lo | head -n 1)
[ -n "$interface" ] || { echo "no network interface but lo" >&2; exit 1; }

# Remove the address too. Otherwise it would return as soon as the interface is up.
ip address flush dev "$interface" scope global
ip link set dev "$interface" down

# Write data that is only in memory to the disk. Otherwise every child would have to write it.
sync
