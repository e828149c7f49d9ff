#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# not_run.sh WHAT REASON: say that a test did not run, now and in the closing lines of `make test`.
echo "NOT RUN: $1: $2"
[ -z "$VMFORK_NOT_RUN" ] || echo "$1: $2" >>"$VMFORK_NOT_RUN"
