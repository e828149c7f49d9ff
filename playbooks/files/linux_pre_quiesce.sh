#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs in the parent, right before it stops at the fork point. Every child begins with what the parent has here, so take
# away what only one VM may have: its address. A child sets its own in linux_post_clone.sh.
set -eu

interface=$(ip -o link show | sed -n 's/^[0-9]*: \([^:@]*\).*/\1/p' | grep -vx lo | head -n 1)
[ -n "$interface" ] || { echo "no network interface but lo" >&2; exit 1; }

# Not only taken down: an address that is still there would be back as soon as the interface is.
ip address flush dev "$interface" scope global
ip link set dev "$interface" down

# What is in memory only is forked as it is; what the disk has yet to get is better written once, here.
sync
