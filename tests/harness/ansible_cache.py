# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep what each process of Ansible makes for itself: payloads of modules, compiled code, parsed settings, and plugins.

Ansible sends each module and its libraries as source in a zip file. Each ansible-playbook makes that payload from the
imports of a hundred files, and each task compiles it: most of the CPU time of a task of ours. Each task also loads all
filters and compiles its templates, in a process of its own. The Makefile copies this file into the environment of the
tests, where a .pth file loads it at each start of Python; so it imports little. The measurements do without it, as
users do.
"""

from __future__ import annotations

import _imp
import _signal  # type: ignore[import-not-found]
import _socket
import atexit
import gc
import marshal
import os
import stat
import sys
import zipimport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CACHE = os.path.join(sys.prefix, "ansible_cache")
LARGE = 50_000
SOCKET = os.path.join(CACHE, "fork_server")
compile_source = zipimport._compile_source  # type: ignore[attr-defined]


def kept(content: bytes, kind: str, make: Callable[[], Any]) -> Any:
    """Return what is made of a content, now or by an earlier process."""
    digest = int.from_bytes(_imp.source_hash(sys.hexversion, content), "little")
    file = f"{CACHE}/{kind}-{digest:016x}-{len(content)}"
    try:
        with open(file, "rb") as stream:
            return marshal.load(stream)
    except OSError:
        pass
    made = make()
    try:
        os.makedirs(CACHE, exist_ok=True)
        with open(f"{file}.{os.getpid()}", "wb") as new:
            marshal.dump(made, new)
        os.replace(new.name, file)
    except OSError:  # another user's environment, or a full disk
        pass
    return made


def compile_once(path: str, source: bytes) -> Any:
    """Return the code of a module. Its tracebacks name the zip file of the process that compiled it."""
    return kept(source, "code", lambda: compile_source(path, source))


def parse_once() -> None:
    """Keep the content of the two large files that each process of Ansible parses."""
    import yaml

    load = yaml.load

    def load_once(stream: Any, Loader: Any) -> Any:  # noqa: N803
        if os.path.basename(os.fsdecode(getattr(stream, "name", b""))) == "base.yml":
            stream = stream.read()
        if isinstance(stream, bytes) and len(stream) > LARGE and Loader in (yaml.CSafeLoader, yaml.CBaseLoader):
            return kept(stream, Loader.__name__, lambda: load(stream, Loader))
        return load(stream, Loader)

    yaml.load = load_once


def payloads(collections: str) -> str:
    """Return the directory for payloads of these collections; it is another one after a change of files."""
    import glob

    roots = glob.glob(os.path.join(os.path.dirname(__file__), "ansible_core-*.dist-info"))
    for root in collections.split(os.pathsep):
        roots += glob.glob(f"{root}/ansible_collections/*/*/plugins")
    files = [
        (file.path, file.stat().st_mtime_ns, file.stat().st_size)
        for root in roots
        for directory, _directories, _files in os.walk(root)
        for file in os.scandir(directory)
        if file.name.endswith((".py", "METADATA"))
    ]
    digest = int.from_bytes(_imp.source_hash(sys.hexversion, repr(sorted(files)).encode()), "little")
    return f"{CACHE}/payloads-{digest:016x}"


def share_payloads() -> None:
    """Put the shared payloads where Ansible keeps those of one process: into its own temporary directory.

    The processes exclude each other by a lock beside each payload.
    """
    import tempfile

    make = tempfile.mkdtemp

    def mkdtemp(suffix: Any = None, prefix: Any = None, dir: Any = None) -> str:
        made: str = make(suffix, prefix, dir)
        collections = os.environ.get("ANSIBLE_COLLECTIONS_PATH")
        if collections and str(prefix).startswith("ansible-local-"):
            shared = payloads(collections)
            os.makedirs(shared, exist_ok=True)
            os.symlink(shared, f"{made}/ansiballz_cache")
        return made

    tempfile.mkdtemp = mkdtemp  # type: ignore[assignment]


def compile_kept(source: str | bytes, filename: str, mode: str = "exec", **_options: Any) -> Any:
    """Return what ``compile`` returns, now or in an earlier process."""
    content = source.encode() if isinstance(source, str) else source
    named = b"%s\0%s" % (filename.encode(), content)
    return kept(named, "code", lambda: compile(source, filename, mode, dont_inherit=True))


def compile_templates_once() -> None:
    """Keep the code of templates, which each process of a task compiles for itself."""
    from jinja2 import Environment

    Environment._compile = staticmethod(compile_kept)  # type: ignore[assignment]


def load_plugins_once() -> None:
    """Load the usual plugins before the first task, so that the processes of tasks, which are forks, have them."""
    from multiprocessing.process import BaseProcess

    start = BaseProcess.start

    def load_and_start(self: Any) -> None:
        BaseProcess.start = start  # type: ignore[method-assign]
        load_plugins()
        start(self)

    BaseProcess.start = load_and_start  # type: ignore[method-assign]


def load_plugins() -> None:
    """Load what nearly every task uses: filters, tests, lookups, and how it runs a module on this machine."""
    import contextlib

    from ansible.plugins import loader
    from ansible.utils.collection_loader import _collection_finder

    # It compiles the plugins of collections at each start.
    _collection_finder.compile = compile_kept  # type: ignore[attr-defined]
    loader.filter_loader.get("ansible.builtin.combine")  # with one of them come all those of Ansible
    loader.test_loader.get("ansible.builtin.search")
    with contextlib.suppress(KeyError):  # a test may set another path of collections
        loader.filter_loader.get("vmfork.vsphere.from_survey")
    for action in ("assert", "command", "copy", "include_vars", "normal", "set_fact", "uri"):
        loader.action_loader.get(f"ansible.builtin.{action}", class_only=True)
    for lookup in ("env", "file"):
        loader.lookup_loader.get(f"ansible.builtin.{lookup}", class_only=True)
    loader.connection_loader.get("ansible.builtin.local", class_only=True)
    loader.shell_loader.get("ansible.builtin.sh", class_only=True)


def is_piped_script() -> bool:
    """Return whether this is Python without arguments with a pipe as standard input, as Ansible starts modules."""
    return len(sys.orig_argv) == 1 and stat.S_ISFIFO(os.fstat(0).st_mode)


def run_in_fork_server() -> None:
    """Let the server run the script on standard input and end this process like it; return if there is no server."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(SOCKET)
    except OSError:
        start_fork_server()
        return
    settings = marshal.dumps(
        {
            "command": sys.orig_argv,
            "environment": dict(os.environ),
            "path": ["", *sys.path],
            "pycache_prefix": sys.pycache_prefix,
            "umask": (mask := os.umask(0o077)),
        }
    )
    os.umask(mask)
    descriptors = [0, 1, 2, os.open(".", os.O_RDONLY)]
    rights = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in descriptors)
    connection.sendmsg([len(settings).to_bytes(4, "little")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    connection.sendall(settings)
    for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGUSR1, _signal.SIGUSR2):
        _signal.signal(number, lambda number, _frame: connection.send(bytes([number])))
    answer = connection.recv(16)
    if not answer:
        os.write(2, b"the fork server has ended before the script\n")
        os._exit(1)
    code = os.waitstatus_to_exitcode(int(answer))
    if code < 0:
        if -code not in (_signal.SIGKILL, _signal.SIGSTOP):
            _signal.signal(-code, _signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def start_fork_server() -> None:
    """Start the server for later processes; if there is one already, the new one ends."""
    program = os.path.join(os.path.dirname(__file__), "ansible_fork_server.py")
    if os.fork() == 0:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        os.execv(sys.executable, [sys.executable, program, SOCKET])


if "VMFORK_WITHOUT_ANSIBLE_CACHE" not in os.environ:
    zipimport._compile_source = compile_once  # type: ignore[attr-defined]
    if os.path.basename("".join(sys.orig_argv[1:2])) in ("ansible", "ansible-playbook"):
        gc.set_threshold(100_000)  # such a process is short; it would spend an eighth of its time on this
        atexit.register(gc.freeze)  # and as much again at its end
        parse_once()
        share_payloads()
        load_plugins_once()
        compile_templates_once()
    elif is_piped_script():
        run_in_fork_server()
