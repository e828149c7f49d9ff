# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
name: vapp_backup
author: vmfork.vsphere contributors (@vmfork)
version_added: 0.2.0
short_description: Read a backup of vApp options
description:
  - Reads the files that the playbook C(vmfork.vsphere.vapp_backup) has written, C(index.json) and one file for each VM.
  - Symbolic links are followed only inside the directory, as in a volume that Kubernetes mounts from a ConfigMap or a
    Secret. C(vmfork.vsphere.vapp_backup) does not write to such a directory.
  - Encrypted secrets stay encrypted. P(vmfork.vsphere.vapp_secrets#lookup) decrypts them.
options:
  _terms:
    description: Directory of the backup, absolute or relative to the current directory.
    required: true
  documents:
    description: Whether to read the files of the VMs. If not, C(documents) is empty.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: List the VMs of a backup
  ansible.builtin.debug:
    msg: "{{ lookup('vmfork.vsphere.vapp_backup', '/srv/vapp_backup').index.vms | map(attribute='name') }}"
"""

RETURN = r"""
_raw:
  description:
    - For each directory, C(index), the content of C(index.json), and C(documents), the document of each VM by its file.
    - For a file that cannot be read, C(documents) has a text with the reason.
    - C(secret_patterns) has regular expressions for O(vmfork.vsphere.vm_ovfenv_info#module:mask_patterns). They match
      each full key that every document with this key marks as a secret.
  type: list
  elements: dict
"""

import pathlib
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.vmfork.vsphere.plugins.module_utils import _printable
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_files
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.vapp_backup import (
    INDEX,
    parsed,
    secret_patterns,
    wrong_index,
)


def read(directory: pathlib.Path, documents: bool = True) -> dict[str, t.Any]:
    """Return the backup in a directory.

    :param documents: whether to read more than the index.
    :raises AnsibleError: it has no readable index, or one that vapp_backup has not written.
    """
    index = parsed(vapp_files.text_within(directory, INDEX))
    if not isinstance(index, dict):
        raise AnsibleError(
            f"There is no backup of vApp options in {directory}: {INDEX} cannot be used, {_printable.text(index)}. Set "
            "vapp_backup_directory to the directory of the backup."
        )
    wrong = wrong_index(index)
    if wrong:
        raise AnsibleError(f"The backup of vApp options in {directory} cannot be used: {_printable.text(wrong)}.")
    files = [entry["file"] for entry in index["vms"]] if documents else []
    read_files = {name: _document(directory, name) for name in files}
    return {"index": index, "documents": read_files, "secret_patterns": secret_patterns(read_files.values())}


def _document(directory: pathlib.Path, name: str) -> t.Any:
    if pathlib.PurePath(name).name != name:
        return "it is not in the directory of the backup"
    return parsed(vapp_files.text_within(directory, name))


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[t.Any]:
        """Return the backups."""
        self.set_options(var_options=variables, direct=kwargs)
        documents = self.get_option("documents")
        return [read(pathlib.Path(str(term)).expanduser(), documents) for term in terms]
