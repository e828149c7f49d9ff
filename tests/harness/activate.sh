# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
#
# To be read by a shell (`. .build/activate`): ansible, pyVmomi, vmforksim and govc on PATH, and this checkout's collection,
# built and installed, where Ansible looks for collections. Notes and caches of these programs stay under .build.
# `deactivate` takes the Python part back; a new shell takes back all.
. '@BUILD@/venv/bin/activate'
export PATH='@BUILD@':"$PATH"
export ANSIBLE_COLLECTIONS_PATH='@BUILD@/collections'
export ANSIBLE_HOME='@BUILD@/home/.ansible'
export GOVMOMI_HOME='@BUILD@/home/.govmomi'
