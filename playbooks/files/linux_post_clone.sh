#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs in every child, right after the fork point: gives it a host name and an address of its own. It reads them from the
# child's config params:
#
#   hostname    host name, without a domain: made of the child's name, unless the task gives another
#   fqdn        host name with its domain, where the child's name has one or the task gives one
#   ipaddress   IPv4 or IPv6 address; without one the address is left to DHCP or whatever manages the network
#   netmask     netmask or length of the prefix, 24 by default
#   gateway     router, optional
set -eu

param() { vmtoolsd --cmd "info-get guestinfo.fork.$1" 2>/dev/null || true; }

hostname=$(param hostname)
fqdn=$(param fqdn)
ipaddress=$(param ipaddress)
netmask=$(param netmask)
gateway=$(param gateway)
interface=$(ip -o link show | sed -n 's/^[0-9]*: \([^:@]*\).*/\1/p' | grep -vx lo | head -n 1)

# The memory is the parent's, and so is the MAC address that the driver knows. After a reload, the driver reads the child's.
driver=$(readlink "/sys/class/net/$interface/device/driver" || echo vmxnet3)
modprobe -r "${driver##*/}"
modprobe "${driver##*/}"

# The clock stood still between the fork point and now.
hwclock --hctosys || echo "the clock was not set" >&2

if [ -n "$hostname" ]; then
  hostnamectl set-hostname "$hostname"
  # The guest resolves its own name, which `hostname --fqdn` needs, and no longer the parent's.
  if [ -w /etc/hosts ]; then
    others=$(grep -v '^127\.0\.1\.1[[:space:]]' /etc/hosts || true)
    printf '%s\n' ${others:+"$others"} "127.0.1.1 ${fqdn:+$fqdn }$hostname" >/etc/hosts
  fi
fi

ip link set dev "$interface" up
if [ -n "$ipaddress" ]; then
  ip address replace "$ipaddress/${netmask:-24}" dev "$interface"
fi
if [ -n "$gateway" ]; then
  ip route replace default via "$gateway" dev "$interface"
fi
echo "$(hostname) has ${ipaddress:-no address of ours} on $interface"
