#!/bin/sh
# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# docs.sh SOURCES PAGES: write the collection's documentation as web pages. SOURCES is where antsibull-docs puts what it
# makes of the installed collection.
set -eu
sources=$1 pages=$2
rm -rf "$sources" "$pages"
mkdir -p "$sources"
antsibull-docs sphinx-init --use-current --squash-hierarchy --fail-on-error --dest-dir "$sources" vmfork.vsphere
antsibull-docs collection --use-current --squash-hierarchy --fail-on-error --dest-dir "$sources/rst" vmfork.vsphere
# The pages refer to a section of Ansible's own documentation.
cat >"$sources/rst/common_return_values.rst" <<'EOF'
:orphan:

.. _common_return_values:

Common return values
====================

Return values that all modules have are described in
`Ansible's documentation <https://docs.ansible.com/ansible/latest/reference_appendices/common_return_values.html>`_.
EOF
sphinx-build -q -b html -c "$sources" "$sources/rst" "$pages"
echo "open $pages/index.html"
