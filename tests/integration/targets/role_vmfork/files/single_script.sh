#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# A script that Ansible must not touch: {{ nothing }} {% raw %} and empty lines at its end.
lines=$(wc -l <"$0")
ip address flush dev eth0 scope global
vmtoolsd --cmd 'vmfork-begin -1 -1' || exit
modprobe -r vmxnet3; modprobe vmxnet3
param() { vmtoolsd --cmd "info-get guestinfo.fork.$1"; }
token=$(param token)
echo "color $(param color) shape $(param shape) of $(param hostname), ${#token} secret characters, $lines lines"


