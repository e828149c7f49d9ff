#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs in every child, right after the fork point: sets the host name and the address of the child. It reads them from
# the child's config params:
#
#   hostname    host name without a domain; derived from the child's name unless the task sets it
#   fqdn        host name with its domain, if the child's name has one or the task sets it
#   ipaddress   IPv4 or IPv6 address; without it, DHCP or whatever manages the network sets the address
#   netmask     netmask or prefix length, 24 by default
#   gateway     router, optional
set -eu

param() { vmtoolsd --cmd "info-get guestinfo.fork.$1" 2>/dev/null || true; }

hostname=$(param hostname)
fqdn=$(param fqdn)
ipaddress=$(param ipaddress)
netmask=$(param netmask)
gateway=$(param gateway)
interface=$(ip -o link show | sed -n 's/^[0-9]*: \([^:@]*\).*/\1/p' | grep -vx lo | head -n 1)

# The memory, and the MAC address that the driver knows, are the parent's. After a reload, the driver reads the child's.
driver=$(readlink "/sys/class/net/$interface/device/driver" || echo vmxnet3)
modprobe -r "${driver##*/}"
modprobe "${driver##*/}"

# The clock stood still between the fork point and now.
hwclock --hctosys || echo "the clock was not set" >&2

if [ -n "$hostname" ]; then
  hostnamectl set-hostname "$hostname"
  # Let the guest resolve its own name, which `hostname --fqdn` needs, instead of the parent's.
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
