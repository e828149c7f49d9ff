# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a backup are read and written as a whole, or not at all."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_files
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.vapp_backup import Unusable

NAME = "50050d8f-0000-0000-0000-000000000001.json"


def write(directory: pathlib.Path, files: dict[str, str]) -> None:
    """Write files as a backup does."""
    with vapp_files.locked(directory):
        vapp_files.write(directory, files)


def test_write_and_read(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "a" / "b"
    assert vapp_files.read(directory) == {}
    write(directory, {NAME: "größe\n", "index.json": "{}\n"})
    assert vapp_files.read(directory) == {NAME: "größe\n", "index.json": "{}\n"}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / NAME).stat().st_mode) == 0o600
    assert len(list(directory.iterdir())) == 2


def test_other_files_are_not_read(tmp_path: pathlib.Path) -> None:
    for name in (".git", "README.md", "package.json", NAME.upper(), f"x{NAME}", f"{NAME}.bak"):
        (tmp_path / name).touch()
    assert vapp_files.read(tmp_path) == {}


def test_unusable_files(tmp_path: pathlib.Path) -> None:
    names = [NAME[:-6] + f"{number}.json" for number in range(5)]
    (tmp_path / names[0]).symlink_to(tmp_path / "nowhere")
    (tmp_path / names[1]).mkdir()
    os.mkfifo(tmp_path / names[2])
    (tmp_path / names[3]).write_bytes(b"\xff")
    with (tmp_path / names[4]).open("wb") as file:
        file.truncate(vapp_files.MOST_BYTES + 1)  # without any blocks on the disk
    assert vapp_files.read(tmp_path) == {
        names[0]: Unusable("it is a symbolic link"),
        names[1]: Unusable("it is not a regular file"),
        names[2]: Unusable("it is not a regular file"),
        names[3]: Unusable("it is not UTF-8 text"),
        names[4]: Unusable("it is larger than 64 MiB"),
    }


def test_links_inside_the_directory_are_read_for_a_restore_only(tmp_path: pathlib.Path) -> None:
    """Kubernetes mounts a ConfigMap or a Secret in this way, and replaces the link to the current directory."""
    volume = tmp_path / "volume"
    current = volume / "..2026_11_29"
    current.mkdir(parents=True)
    (current / NAME).write_text("{}")
    (volume / "..data").symlink_to(current.name)
    (volume / NAME).symlink_to(f"..data/{NAME}")
    mounted = tmp_path / "mounted"
    mounted.symlink_to(volume)
    for directory in (volume, mounted):
        assert vapp_files.text_within(directory, NAME) == "{}"
        assert vapp_files.read(directory) == {NAME: Unusable("it is a symbolic link")}


def test_links_out_of_the_directory_are_not_read(tmp_path: pathlib.Path) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "backup.other").mkdir()
    (tmp_path / "backup.other" / NAME).write_text("{}")
    (backup / "data").symlink_to(tmp_path)
    (backup / "self").symlink_to("self")
    (backup / "twice").symlink_to("data/secret")
    for name, target in (("up", "../secret"), ("whole", tmp_path / "secret"), ("beside", f"../backup.other/{NAME}")):
        (backup / name).symlink_to(target)
    for name in ("up", "whole", "beside", "twice", "self"):
        assert vapp_files.text_within(backup, name) == Unusable("it is a symbolic link")
    (backup / "pipe").symlink_to("fifo")
    os.mkfifo(backup / "fifo")
    assert vapp_files.text_within(backup, "pipe") == Unusable("it is not a regular file")
    missing = vapp_files.text_within(backup, "missing")
    assert isinstance(missing, Unusable)
    assert missing.reason == "it cannot be read: No such file or directory"


def test_disk_full(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {NAME: "old"})
    left = [1]

    def fsync(_descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(vapp_files.BackupError, match=r"No space left on device\. Written before it: 1 of 3 files\."):
        write(tmp_path, {"a.json": "new", NAME: "new", "index.json": "new"})
    assert (tmp_path / NAME).read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "a.json"], "no half of a file is left"


def test_directory_that_nobody_may_look_at(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_more: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    sentence = r"backup cannot be used: Permission denied\. Choose another directory\."
    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "exists", refuse)
        with pytest.raises(vapp_files.BackupError, match=sentence):
            vapp_files.check(tmp_path / "backup")


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_directory_that_cannot_be(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(vapp_files.BackupError, match="Choose another directory"):
        write(tmp_path / name, {NAME: "{}"})


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
    with pytest.raises(vapp_files.BackupError, match=rf"{directory} {sentence}\. "):
        vapp_files.check(directory / "below" if kind == "below a file" else directory)


def test_index_that_is_there(tmp_path: pathlib.Path) -> None:
    assert vapp_files.check(tmp_path / "a" / "b") is None
    assert vapp_files.check(tmp_path) is None
    write(tmp_path, {"index.json": "{}"})
    assert vapp_files.check(tmp_path) == "{}"


def test_leftovers_of_a_killed_run_are_removed(tmp_path: pathlib.Path) -> None:
    for name in (".vapp_backup.abc123", ".vapp_backup.lock", ".vapp_backup", "x.vapp_backup.y", NAME):
        (tmp_path / name).write_text("old")
    (tmp_path / ".vapp_backup.directory").mkdir()
    (tmp_path / ".vapp_backup.link").symlink_to(tmp_path / NAME)
    with vapp_files.locked(tmp_path):
        assert not (tmp_path / ".vapp_backup.abc123").exists()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".vapp_backup", "x.vapp_backup.y", NAME, ".vapp_backup.directory", ".vapp_backup.link"}


def test_files_that_cannot_be_removed_are_left(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory with the sticky bit, those of another user, for example. The lock ends anyway."""

    def refuse(_path: pathlib.Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    (tmp_path / f"{vapp_files.TEMPORARY}left").touch()
    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "unlink", refuse)
        with vapp_files.locked(tmp_path):
            pass
    with vapp_files.locked(tmp_path):
        assert not (tmp_path / f"{vapp_files.TEMPORARY}left").exists()


def test_another_backup_is_writing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vapp_files, "PATIENCE", 0.0)
    with vapp_files.locked(tmp_path):
        with pytest.raises(
            vapp_files.BackupError, match=r"^Another backup is writing to .*\. Run again when it has ended"
        ):
            write(tmp_path, {NAME: "{}"})
        assert [path.name for path in tmp_path.iterdir()] == [vapp_files.LOCK]
    write(tmp_path, {NAME: "{}"})


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_lock_that_cannot_be_used(tmp_path: pathlib.Path, kind: str) -> None:
    if kind == "link":
        (tmp_path / vapp_files.LOCK).symlink_to(tmp_path / "nowhere")
    else:
        (tmp_path / vapp_files.LOCK).mkdir()
    with pytest.raises(vapp_files.BackupError, match="cannot be used"):
        write(tmp_path, {NAME: "{}"})


def test_lock_of_another_user(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / vapp_files.LOCK
    lock.touch()
    real = os.open

    def refuse(path: object, *arguments: int) -> int:
        if path == lock:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(str(path), *arguments)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(vapp_files.BackupError, match=r"cannot be used: Permission denied\."):
        write(tmp_path, {NAME: "{}"})
    monkeypatch.setattr(os, "geteuid", lambda: lock.stat().st_uid + 1)
    with pytest.raises(
        vapp_files.BackupError, match=rf"lock belongs to the user with ID {lock.stat().st_uid}\. Only one"
    ):
        write(tmp_path, {NAME: "{}"})


def test_backups_into_one_directory_at_the_same_time(tmp_path: pathlib.Path) -> None:
    """Each adds its VMs to the index that the one before it has written."""

    def add(vm: int) -> None:
        for number in range(20):
            with vapp_files.locked(tmp_path):
                there = vapp_files.read(tmp_path).get("index.json", "[]")
                vapp_files.write(tmp_path, {"index.json": json.dumps([*json.loads(str(there)), [vm, number]])})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    assert len(json.loads((tmp_path / "index.json").read_text())) == 80
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]
