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
cp -r docs/docsite/rst/images "$sources/rst/docsite"
# The pages refer to sections of Ansible's own documentation. Its index is not downloaded, so that the result is the same
# without a network: they lead to a page with links.
cat >>"$sources/conf.py" <<'EOF'
intersphinx_mapping = {}
nitpick_ignore_regex = [("envvar", "ANSIBLE_.*")]
html_static_path = ["static"]
html_css_files = ["wrap.css"]
EOF
# The theme does not wrap the text of a table or a long word, so that most of it would be outside of a small page.
mkdir "$sources/static"
cat >"$sources/static/wrap.css" <<'EOF'
.wy-table-responsive table.docutils td, .wy-table-responsive table.docutils th { white-space: normal; overflow-wrap: break-word }
h1, h2 { overflow-wrap: anywhere }
@media (max-width: 768px) {
  .wy-table-responsive table.docutils { table-layout: fixed; width: 100% }
  .wy-table-responsive table.docutils col { width: auto !important }
  .wy-table-responsive table.docutils code { white-space: normal; overflow-wrap: anywhere }
}
EOF
cat >"$sources/rst/ansible_documentation.rst" <<'EOF'
:orphan:

.. _common_return_values:
.. _action_plugins:
.. _ansible_configuration_settings:

Ansible's own documentation
===========================

* `Return values <https://docs.ansible.com/ansible/latest/reference_appendices/common_return_values.html>`_ that all modules
  have
* `Action plugins <https://docs.ansible.com/ansible/latest/plugins/action.html>`_
* `Configuration settings <https://docs.ansible.com/ansible/latest/reference_appendices/config.html>`_
EOF
sphinx-build -q -W --keep-going -b html -c "$sources" "$sources/rst" "$pages"
echo "open $pages/index.html"
