# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and write the files of a backup of vApp options on the controller.

Private to the collection. Only regular files are read. Each file is replaced as a whole, under a lock: backups of
different VMs may go into one directory at the same time. Symbolic links are followed only for a restore, and only
inside the directory, since Kubernetes provides the files of a volume in this way.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import stat
import tempfile
import time
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _printable
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.vapp_backup import INDEX, Unusable, is_name

TEMPORARY = ".vapp_backup."
"""Prefix of files that exist only during a run."""
LOCK = f"{TEMPORARY}lock"
MOST_BYTES = 64 * 2**20
"""The largest file that is read: more than a backup of 100,000 VMs has in its index."""
PATIENCE = 60.0
"""Seconds to wait for another backup that is writing its files, which takes far less."""


class BackupError(Exception):
    """The backup cannot be written; the message is a sentence."""


def check(directory: pathlib.Path) -> str | Unusable | None:
    """Check that a directory can be used for a backup, and return its index.

    :raises BackupError: it cannot be used.
    """
    try:
        above = directory
        while not (above.exists() or above.is_symlink()):
            above = above.parent
        if not above.is_dir():
            raise BackupError(f"{above} is not a directory. Set directory to another path.")
        if not os.access(above, os.R_OK | os.W_OK | os.X_OK):
            raise BackupError(f"{above} is not writable. Check its owner and mode, or choose another directory.")
        return text(directory / INDEX) if os.path.lexists(directory / INDEX) else None
    except (OSError, ValueError) as error:
        raise _unusable(directory, error) from None


def read(directory: pathlib.Path) -> dict[str, str | Unusable]:
    """Return the files of a backup by name; none if the directory does not exist yet.

    :raises BackupError: the directory cannot be used.
    """
    try:
        return {path.name: text(path) for path in sorted(directory.iterdir()) if is_name(path.name)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _unusable(directory, error) from None


def text_within(directory: pathlib.Path, name: str) -> str | Unusable:
    """Return the content of a file as :func:`text` does, but follow symbolic links that stay inside the directory."""
    try:
        real = (directory / name).resolve(strict=True)
        return text(real if real.is_relative_to(directory.resolve()) else directory / name)
    except (OSError, RuntimeError, ValueError):  # RuntimeError: links that form a loop, before Python 3.13
        return text(directory / name)


def text(path: pathlib.Path) -> str | Unusable:
    """Return the content of a file, unless it is not a regular file or not text."""
    try:
        # Opening a pipe would wait for somebody to write into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Unusable("it is not a regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                return Unusable(f"it is larger than {MOST_BYTES // 2**20} MiB")
            return content.decode()
        finally:
            os.close(descriptor)
    except UnicodeDecodeError:
        return Unusable("it is not UTF-8 text")
    except (OSError, ValueError) as error:
        is_link = isinstance(error, OSError) and error.errno == errno.ELOOP
        return Unusable("it is a symbolic link" if is_link else f"it cannot be read: {_reason(error)}")


@contextlib.contextmanager
def locked(directory: pathlib.Path) -> t.Iterator[None]:
    """Create a directory, and let no other backup write into it.

    Files of an earlier run that was killed are removed.

    :raises BackupError: it cannot be used, or another backup is writing for longer than :data:`PATIENCE`.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise BackupError(f"{directory} could not be created: {_reason(error)}. Choose another directory.") from None
    try:
        descriptor = _lock(directory)
    except OSError as error:
        raise _foreign_lock(directory / LOCK) or _unusable(directory, error) from None
    try:
        _remove_leftovers(directory)
        yield
    finally:
        with contextlib.suppress(OSError):  # closing the file ends the lock, too
            (directory / LOCK).unlink()
        os.close(descriptor)


def _lock(directory: pathlib.Path) -> int:
    """Return the descriptor of the file that is locked, and that is removed before it is closed."""
    end = time.monotonic() + PATIENCE
    while True:
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_there(directory, descriptor):
                return descriptor
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(descriptor)
                raise BackupError(f"Another backup is writing to {directory}. Run again when it has ended.") from None
            time.sleep(0.05)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _foreign_lock(path: pathlib.Path) -> BackupError | None:
    """Return the exception for a lock that belongs to another user; ``None``: it does not."""
    try:
        owner = path.lstat().st_uid
    except OSError:
        return None
    if owner == os.geteuid():
        return None
    return BackupError(
        f"{path} belongs to the user with ID {owner}. Only one user can write the backups of a directory: run as that "
        "user, or choose another directory. If no backup is running, remove the file."
    )


def _is_there(directory: pathlib.Path, descriptor: int) -> bool:
    """Return whether the locked file is still the one in the directory: the run before removes its own."""
    try:
        return os.path.samestat(os.fstat(descriptor), (directory / LOCK).lstat())
    except FileNotFoundError:
        return False


def _remove_leftovers(directory: pathlib.Path) -> None:
    for path in directory.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):  # a file of another user stays
            if path.name != LOCK and stat.S_ISREG(path.lstat().st_mode):
                path.unlink()


def write(directory: pathlib.Path, files: t.Mapping[str, str]) -> None:
    """Write files atomically: each has either its old or its new content, whatever happens.

    :raises BackupError: a file cannot be written; the files before it were written.
    """
    for number, (name, content) in enumerate(files.items()):
        try:
            _replace(directory, name, content)
        except OSError as error:
            raise BackupError(
                f"{directory / name} could not be written: {_reason(error)}. Written before it: {number} of "
                f"{_printable.count(len(files), 'file')}. Correct this and run again."
            ) from None


def _replace(directory: pathlib.Path, name: str, content: str) -> None:
    descriptor, path = tempfile.mkstemp(prefix=TEMPORARY, dir=directory)  # mode 0600
    temporary = pathlib.Path(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode())
            file.flush()
            os.fsync(descriptor)
        temporary.replace(directory / name)
    except BaseException:
        temporary.unlink()
        raise


def _unusable(directory: pathlib.Path, error: OSError | ValueError) -> BackupError:
    return BackupError(f"{directory} cannot be used: {_reason(error)}. Choose another directory.")


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
