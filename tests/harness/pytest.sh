#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# pytest.sh PART DIRECTORY [ARGUMENT ...]: run pytest on a directory, or say that it holds no tests. Arguments that begin
# with DIRECTORY/ replace it, so give an option its path with "=" (--deselect=DIRECTORY/test_x.py).
set -eu
part=$1 directory=$2
shift 2
if [ -z "$(find "$directory" -name 'test_*.py' 2>/dev/null | head -n 1)" ]; then
    exec tests/harness/not_run.sh "$part" "there is no test in $directory"
fi
if [ "$part" = browser ]; then
    command -v chromium || command -v chromium-browser || command -v google-chrome ||
        exec tests/harness/not_run.sh browser "no Chromium or Chrome is installed"
fi
# Tests of modules as programs wait for a server or a process half of the time, so more of them run than there are cores;
# unit tests do not wait. Each process loads Ansible, pyVmomi and all tests, so more processes cost more CPU: beside the
# other parts of `make test`, unit tests run in one. With worksteal a process gets tests that follow each other, so the
# server that some of a file share does not start in every process.
case $part in
unit) [ -n "${VMFORK_NOT_RUN:-}" ] || set -- --numprocesses "$(nproc)" --dist worksteal "$@" ;;
faults) set -- --numprocesses "$(nproc)" --dist worksteal "$@" ;;
functional | sweep) set -- --numprocesses "$(($(nproc) * 2))" --dist worksteal "$@" ;;
esac
for argument in "$@"; do
    case $argument in "$directory"/*) exec python -m pytest "$@" ;; esac
done
exec python -m pytest "$directory" "$@"
