#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# cloud_init.sh: unpack Debian's cloud-init and the Python packages it needs below .build/cloud-init. Nothing is installed:
# on this machine, cloud-init would take it for a new instance at the next boot.
set -eu
target=.build/cloud-init
[ ! -d "$target" ] || exit 0
command -v apt-get >/dev/null || { echo "no apt-get" >&2; exit 1; }
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
cd "$packages"
for name in attr certifi chardet configobj idna jinja2 json-pointer jsonpatch jsonschema markupsafe netifaces oauthlib \
    pyrsistent requests serial six urllib3 yaml; do
    set -- "$@" "python3-$name"
done
apt-get -qq -o APT::Sandbox::User=root download cloud-init "$@"
for package in *.deb; do dpkg -x "$package" unpacked; done
/usr/bin/python3 -m compileall -q unpacked/usr/lib/python3/dist-packages || true # it only takes longer without
cd "$OLDPWD"
mkdir -p .build
mv "$packages/unpacked" "$target"
