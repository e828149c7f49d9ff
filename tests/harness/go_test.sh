#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# go_test.sh MODULE [ARGUMENT ...]: run the tests of a Go module, under the race detector where a C compiler can link it.
set -eu
cd "$1"
shift
race=-race
compiler=$(go env CC)
if ! command -v "${compiler%% *}" >/dev/null; then
    race=
    "$OLDPWD"/tests/harness/not_run.sh "race detector" "no C compiler ($compiler) is installed"
fi
CGO_ENABLED=${race:+1} exec go test $race -timeout 20m "$@" ./...
