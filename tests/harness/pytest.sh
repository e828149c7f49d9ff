#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# pytest.sh PART DIRECTORY [ARGUMENT ...]: run pytest on a directory, or say that it holds no tests. Python and ansible find
# the collection as it stands in the checkout, not the one that was last built.
set -eu
part=$1 directory=$2
shift 2
if [ -z "$(find "$directory" -name 'test_*.py' 2>/dev/null | head -n 1)" ]; then
    exec tests/harness/not_run.sh "$part" "there is no test in $directory"
fi
export ANSIBLE_COLLECTIONS_PATH="$PWD/.build/live"
exec python -m pytest "$directory" "$@"
