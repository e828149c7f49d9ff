# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests keep between processes of Ansible changes nothing.

A script in the fork server acts, and ends, like one that Python runs itself; an edited file makes new payloads.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import ansible_cache, ansible_fork_server

SECONDS = 30
CLIENT = "import sys; from harness import ansible_cache; ansible_cache.SOCKET = sys.argv[1]; {}"
IS_FORK = "import sys; print('pyVmomi' in sys.modules)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("server") / "socket"
    process = subprocess.Popen([sys.executable, ansible_fork_server.__file__, str(path)])
    try:
        while start(path, IS_FORK).communicate(timeout=SECONDS)[0] != "True\n":
            assert process.poll() is None
        yield path
    finally:
        process.terminate()
        process.wait(SECONDS)


def start(server: Path, script: str, **options: object) -> subprocess.Popen[str]:
    """Start a client as Ansible does, with the script on standard input."""
    code = CLIENT.format("ansible_cache.start_fork_server = sys.exit; ansible_cache.run_in_fork_server()")
    environment = {**os.environ, "PYTHONPATH": str(Path(ansible_cache.__file__).parents[1]), "GREETING": "höflich"}
    client = subprocess.Popen(
        [sys.executable, "-c", code, str(server)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,  # type: ignore[call-overload]
    )
    assert client.stdin is not None
    client.stdin.write(script)
    client.stdin.close()
    client.stdin = None
    return client


def test_environment(server: Path, tmp_path: Path) -> None:
    script = "import os, sys; print(os.getcwd(), os.environ['GREETING'], os.umask(0), __name__, sys.argv)"
    client = start(server, script, cwd=tmp_path, umask=0o027)
    assert client.communicate(timeout=SECONDS) == (f"{tmp_path} höflich {0o027} __main__ ['']\n", "")
    assert client.returncode == 0


@pytest.mark.parametrize(
    ("script", "code", "error"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("raise SystemExit('why')", 1, "why\n"),
        ("import sys; sys.exit()", 0, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
    ],
)
def test_end(server: Path, script: str, code: int, error: str) -> None:
    client = start(server, script)
    assert client.communicate(timeout=SECONDS) == ("", error)
    assert client.returncode == code


def test_exception(server: Path) -> None:
    client = start(server, "import atexit\natexit.register(print, 'at exit')\n1 / 0")
    output, errors = client.communicate(timeout=SECONDS)
    assert output == "at exit\n"
    assert errors.endswith('  File "<stdin>", line 3, in <module>\nZeroDivisionError: division by zero\n')
    assert client.returncode == 1


WAIT = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
print(os.getpid(), flush=True)
signal.pause()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 7), (signal.SIGKILL, -signal.SIGKILL)])
def test_signal_to_the_client(server: Path, number: signal.Signals, code: int) -> None:
    with start(server, WAIT) as client:
        assert client.stdout is not None
        ended = os.pidfd_open(int(client.stdout.readline()))
        client.send_signal(number)
        assert select.select([ended], [], [], SECONDS)[0], "the script was left behind"
        os.close(ended)
        assert client.wait(SECONDS) == code


def test_server_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ansible_fork_server, "load", lambda: None)
    monkeypatch.setattr(ansible_fork_server, "SECONDS_IDLE", 0)
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "socket")])
    ansible_fork_server.main()
    assert not (tmp_path / "socket").exists()


def test_payloads_of_an_edited_collection(tmp_path: Path) -> None:
    file = tmp_path / "ansible_collections" / "a" / "b" / "plugins" / "modules" / "m.py"
    file.parent.mkdir(parents=True)
    file.write_text("old")
    before = ansible_cache.payloads(f"/nowhere:{tmp_path}")
    assert ansible_cache.payloads(f"/nowhere:{tmp_path}") == before
    file.write_text("edited")
    assert ansible_cache.payloads(f"/nowhere:{tmp_path}") != before


def test_kept_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of the source and of its file, and ignores how this file itself is compiled."""
    monkeypatch.setattr(ansible_cache, "CACHE", str(tmp_path))
    source = "def answer(x: int): return x\n"
    files: list[tuple[str | bytes, str]] = [(source, "a.py"), (source, "b.py"), (source.encode() + b"# edited", "a.py")]
    for text, name in files * 2:
        expected = compile(text, name, "exec", dont_inherit=True)
        assert (
            ansible_cache.compile_kept(source=text, filename=name, mode="exec", flags=0, dont_inherit=True) == expected
        )
    assert len(list(tmp_path.iterdir())) == 3
    assert ansible_cache.compile_kept(source, "b.py").co_filename == "b.py"
    with pytest.raises(SyntaxError):
        ansible_cache.compile_kept("1 +", "a.py")
