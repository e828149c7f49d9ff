# SPDX-FileCopyrightText: vmfork.vsphere contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
name: vapp_secrets
author: vmfork.vsphere contributors (@vmfork)
version_added: 0.2.0
short_description: Decrypt the secrets of a backup of vApp options
description:
  - Decrypts the secrets in a document of vApp options that were encrypted with Ansible Vault, with the vault passwords
    of the run.
  - The result contains secrets. Use it as an argument of a task only, never in a loop or in a registered variable.
options:
  _terms:
    description: Documents of vApp options, as in P(vmfork.vsphere.vapp_backup#lookup).
    required: true
  given:
    description: Additional secrets by full key. They override those of the document.
    type: dict
    default: {}
  keys:
    description: Full keys of the properties whose secrets are returned. All of them if empty.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Restore the vApp options of a VM with their secrets
  vmfork.vsphere.vm_vapp_options:
    name: appliance-01
    restore_from: "{{ lookup('vmfork.vsphere.vapp_secrets', document).document }}"
    secret_values: "{{ lookup('vmfork.vsphere.vapp_secrets', document).secret_values }}"
"""

RETURN = r"""
_raw:
  description:
    - For each document, C(document) and C(secret_values), as M(vmfork.vsphere.vm_vapp_options) accepts them, and
      C(fault), which names what could not be decrypted, or is empty.
    - Decrypted values are in C(secret_values). Decrypted defaults, OVF sections and license agreements are in
      C(document).
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_export
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.vapp_request import full_key
from ansible_collections.vmfork.vsphere.plugins.plugin_utils import containers


def decrypted(
    document: t.Mapping[str, t.Any],
    decrypt: t.Callable[[str], str],
    given: t.Mapping[str, t.Any],
    keys: t.Collection[str] = (),
) -> dict[str, t.Any]:
    """Return a document without encrypted values, and the decrypted values.

    :param decrypt: raises AnsibleError or ValueError.
    :param given: additional secrets by full key, which take precedence.
    :param keys: full keys of the secrets to return; empty: all.
    """
    values: dict[str, t.Any] = {}
    failed: dict[str, None] = {}
    clear = containers.plain(document)

    def opened(sealed: t.Any, name: str) -> t.Any:
        if not isinstance(sealed, dict):
            return sealed
        try:
            return decrypt(str(sealed[vapp_export.VAULT]))
        except (AnsibleError, KeyError, ValueError):  # ValueError: the secret is not text
            failed[name] = None
            return None

    for prop in clear["properties"]:
        key = full_key((prop["class_id"], prop["id"], prop["instance_id"]))
        prop["default"] = opened(prop.get("default"), key)
        if isinstance(prop.get("value"), dict):
            value, prop["value"] = opened(prop["value"], key), None
            values |= {} if value is None else {key: value}
    for section in clear["ovf_sections"]:
        section["contents"] = opened(section["contents"], f"OVF section {section['type']}")
    clear["eula"] = [opened(text, "license agreements") for text in clear["eula"]]
    fault = ""
    if failed:
        fault = (
            f"{', '.join(failed)} cannot be decrypted with the vault passwords of this run. Provide "
            "the vault password of the backup, for example with --vault-id."
        )
    secrets = {key: value for key, value in {**values, **given}.items() if not keys or key in keys}
    return {"document": clear, "secret_values": secrets, "fault": fault}


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: list[t.Any], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[t.Any]:
        """Return the documents and their secrets."""
        self.set_options(var_options=variables, direct=kwargs)
        keys, given = self.get_option("keys"), self.get_option("given")
        return [decrypted(document, self._decrypt, given, keys) for document in terms]

    def _decrypt(self, text: str) -> str:
        # ansible-core offers no other access to the vault passwords of a run.
        vault = self._loader._vault  # type: ignore[union-attr,unused-ignore]
        if not vault.secrets:
            raise AnsibleError("There is no vault password.")
        return vault.decrypt(text.encode()).decode()
