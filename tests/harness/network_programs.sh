#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# network_programs.sh: unpack Debian's ifupdown, netplan, nmcli, and both programs called arping below
# .build/network-programs. Nothing is installed: on this machine, they would take over its network.
set -eu
target=.build/network-programs
[ ! -d "$target" ] || exit 0
command -v apt-get >/dev/null || { echo "no apt-get" >&2; exit 1; }
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
cd "$packages"
apt-get -qq -o APT::Sandbox::User=root download ifupdown netplan.io libnetplan0 network-manager libnm0 \
    iputils-arping arping libnet1 libpcap0.8
for package in *.deb; do dpkg -x "$package" unpacked; done
mv unpacked/sbin/* unpacked/usr/sbin # as in a system where /sbin is a link
cd "$OLDPWD"
mkdir -p .build
mv "$packages/unpacked" "$target"
