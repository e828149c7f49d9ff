# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of a backup are encrypted with the vault passwords of the run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.vmfork.vsphere.plugins.action import vapp_backup as action

SECRET = "vmforktest-a-secret-of-its-own"


def with_vault(*secrets: tuple[str, str]) -> Any:
    """Return an action plugin in a run that has these vault passwords."""
    loader: Any = SimpleNamespace(_vault=VaultLib([(name, VaultSecret(text.encode())) for name, text in secrets]))
    made = object.__new__(action.ActionModule)
    made._loader = loader
    return made


@pytest.mark.parametrize("text", [SECRET, "größe\n\n", " ", "$ANSIBLE_VAULT;1.1;AES256\n3031"])
def test_seal(text: str) -> None:
    seal = with_vault(("other", "y"), ("vapp", "x"))._seal("vapp")
    sealed = seal(text, None)
    assert sealed.startswith("$ANSIBLE_VAULT;1.2;AES256;vapp\n")
    assert VaultLib([("vapp", VaultSecret(b"x"))]).decrypt(sealed.encode()).decode() == text
    assert seal(text, sealed) == sealed, "it is not encrypted again"
    assert seal(text + "x", sealed) != sealed
    by_another = with_vault(("vapp", "y"))._seal("vapp")(text, None)
    for before in (by_another, "", "$ANSIBLE_VAULT;1.1;AES256\nzz", "no vault", sealed[:-9]):
        assert VaultLib([("vapp", VaultSecret(b"x"))]).decrypt(seal(text, before).encode()).decode() == text


def test_no_vault_password() -> None:
    with pytest.raises(action.BackupError, match=r"with the ID vapp, which this run does not have \(it has: a, b\)"):
        with_vault(("b", "x"), ("a", "y"))._seal("vapp")
    with pytest.raises(action.BackupError, match=r"\(it has: none\)"):
        with_vault()._seal("default")
