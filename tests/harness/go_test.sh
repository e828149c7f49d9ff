#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# go_test.sh MODULE [ARGUMENT ...]: run the tests of a Go module, under the race detector where a C compiler can link it.
# Without arguments, the tests of single rules run without it, to save time: they are more than half of all tests, and
# differ only in the simulator's answers. The other tests cover its concurrent code.
# `make lint` runs all of go vet.
set -eu
cd "$1"
shift
compiler=$(go env CC)
if ! command -v "${compiler%% *}" >/dev/null; then
    "$OLDPWD"/tests/harness/not_run.sh "race detector" "no C compiler ($compiler) is installed"
    CGO_ENABLED=0 exec go test -timeout 20m "$@" ./...
fi
if [ $# -gt 0 ]; then
    CGO_ENABLED=1 exec go test -race -timeout 20m "$@" ./...
fi
CGO_ENABLED=1 go test -race -vet=off -timeout 20m -skip '^TestEveryRuleBothWays$' ./...
CGO_ENABLED=0 exec go test -vet=off -timeout 20m -run '^TestEveryRuleBothWays$' ./internal/vsphere
