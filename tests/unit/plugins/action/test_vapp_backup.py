# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a backup are read and written as a whole, or not at all."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.vmfork.vsphere.plugins.action import vapp_backup as action
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.vapp_backup import Unusable

NAME = "50050d8f-0000-0000-0000-000000000001.json"
SECRET = "vmforktest-a-secret-of-its-own"


def test_write_and_read(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "a" / "b"
    assert action.read(directory) == {}
    action.write(directory, {NAME: "größe\n", "index.json": "{}\n"})
    assert action.read(directory) == {NAME: "größe\n", "index.json": "{}\n"}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / NAME).stat().st_mode) == 0o600
    assert len(list(directory.iterdir())) == 2


def test_other_files_are_not_read(tmp_path: pathlib.Path) -> None:
    for name in (".git", "README.md", "package.json", NAME.upper(), f"x{NAME}", f"{NAME}.bak"):
        (tmp_path / name).touch()
    assert action.read(tmp_path) == {}


def test_unusable_files(tmp_path: pathlib.Path) -> None:
    names = [NAME[:-6] + f"{number}.json" for number in range(4)]
    (tmp_path / names[0]).symlink_to(tmp_path / "nowhere")
    (tmp_path / names[1]).mkdir()
    os.mkfifo(tmp_path / names[2])
    (tmp_path / names[3]).write_bytes(b"\xff")
    assert action.read(tmp_path) == {
        names[0]: Unusable("it is a symbolic link"),
        names[1]: Unusable("it is not a regular file"),
        names[2]: Unusable("it is not a regular file"),
        names[3]: Unusable("it is not UTF-8 text"),
    }


def test_disk_full(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    action.write(tmp_path, {NAME: "old"})
    left = [1]

    def fsync(_descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(action.BackupError, match=r"No space left on device\. 1 of 3 files were written\."):
        action.write(tmp_path, {"a.json": "new", NAME: "new", "index.json": "new"})
    assert (tmp_path / NAME).read_text() == "old"
    assert sorted(one.name for one in tmp_path.iterdir()) == [NAME, "a.json"], "no half of a file is left"


def test_directory_that_nobody_may_look_at(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_more: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    sentence = r"backup cannot be used: Permission denied\. Choose another directory\."
    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "exists", refuse)
        with pytest.raises(action.BackupError, match=sentence):
            action.read(tmp_path / "backup")


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_directory_that_cannot_be(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(action.BackupError, match="Choose another directory"):
        action.write(tmp_path / name, {NAME: "{}", **action.read(tmp_path / name)})


@pytest.mark.parametrize("kind", ["file", "link", "below a file", "read-only"])
def test_directory_that_cannot_be_used(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    directory = tmp_path / "backup"
    if kind == "link":
        directory.symlink_to(tmp_path / "nowhere")
    elif kind == "read-only":
        directory.mkdir()
        monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    else:
        directory.touch()
    sentence = "is not writable" if kind == "read-only" else "is not a directory"
    with pytest.raises(action.BackupError, match=rf"{directory} {sentence}\. "):
        action.read(directory / "below" if kind == "below a file" else directory)


def with_vault(*secrets: tuple[str, str]) -> Any:
    """Return an action plugin in a run that has these vault passwords."""
    loader = SimpleNamespace(_vault=VaultLib([(name, VaultSecret(text.encode())) for name, text in secrets]))
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
