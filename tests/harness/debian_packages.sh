#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# debian_packages.sh: unpack Debian packages for simulated guests below .build. Nothing is installed: cloud-init would run
# when this machine starts, and the other programs would set up its network.
set -eu

# unpack TARGET PACKAGE ...
unpack() {
    target=.build/$1
    shift
    [ ! -d "$target" ] || return 0
    packages=$(mktemp -d)
    trap 'rm -rf "$packages"' EXIT
    (cd "$packages" && apt-get -qq -o APT::Sandbox::User=root download "$@")
    for package in "$packages"/*.deb; do dpkg -x "$package" "$packages/unpacked"; done
    if [ -d "$packages/unpacked/sbin" ]; then mv "$packages"/unpacked/sbin/* "$packages/unpacked/usr/sbin"; fi # a link
    if [ -d "$packages/unpacked/usr/lib/python3" ]; then
        /usr/bin/python3 -m compileall -q "$packages/unpacked/usr/lib/python3" || true # it only takes longer without
    fi
    mkdir -p .build
    mv "$packages/unpacked" "$target"
    rm -r "$packages"
}

command -v apt-get >/dev/null || { echo "no apt-get" >&2; exit 1; }
set --
for name in attr certifi chardet configobj idna jinja2 json-pointer jsonpatch jsonschema markupsafe netifaces oauthlib \
    pyrsistent requests serial six urllib3 yaml; do
    set -- "$@" "python3-$name"
done
unpack cloud-init cloud-init "$@"
unpack network-programs ifupdown netplan.io libnetplan0 network-manager libnm0 iputils-arping arping libnet1 libpcap0.8
