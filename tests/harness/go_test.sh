#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# go_test.sh MODULE [ARGUMENT ...]: run the tests of a Go module, under the race detector where a C compiler can link it.
# Without arguments, the race detector, which multiplies the CPU time, watches the tests that are about concurrency: those
# of the guests and of the program, and those in files that start goroutines. The other tests send one request at a time.
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
# Each rule has a test: more than half of all. They differ only in the simulator's answers, and run in parallel.
tests=$(grep -lE '\bgo func|\bsync\.' internal/vsphere/*_test.go | xargs sed -n 's/^func \(Test[A-Za-z0-9_]*\)(t .*/\1/p' |
    grep -vx TestEveryRuleBothWays | paste -sd '|' -)
CGO_ENABLED=1 go test -race -vet=off -timeout 20m . ./internal/guest
CGO_ENABLED=1 go test -race -vet=off -timeout 20m -run "^($tests)\$" ./internal/vsphere
CGO_ENABLED=0 go test -vet=off -timeout 20m -skip "^($tests)\$" ./internal/vsphere
# shellcheck disable=SC2046 # one word for each package
CGO_ENABLED=0 exec go test -vet=off -timeout 20m $(go list ./... | grep -vE '^[^/]+$|/internal/(guest|vsphere)$')
