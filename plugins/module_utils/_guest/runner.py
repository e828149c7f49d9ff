# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The script of ours that runs in the guest, from before the fork point to after it.

Private to the collection. Pure functions: scripts in, files out. The runner
does pre-quiesce → fork point → (in each child) post-clone; what it reports,
and where, stands in ``_fork/report.py``, whose keys come in as parameters.

It is POSIX sh and needs of the guest: sh, VMware Tools, for the end of a
script's output tail and base64 (without them the output is left out), and to
end all that a script began setsid (without it the script alone is ended).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import shlex
import tarfile
import typing as t
from dataclasses import dataclass

STAGES = {
    "unpack": 71,
    "tools": 72,
    "not_root": 73,
    "become": 74,
    "pre_quiesce": 75,
    "freeze": 76,
    "script": 77,
    "terminated": 78,
}
"""Where a runner ended before the freeze → its own exit code, for a guest that cannot report.
(Chosen by us; the script's exit code is in the report.)"""

CHUNK = 60_000
"""Bytes of one guestinfo value: VMware Tools carries 64 KB in one answer, some of it its own."""


@dataclass(frozen=True)
class Keys:
    """guestinfo keys that the runner reads and writes."""

    scripts: str
    quiesced_at: str
    quiesce: str
    post_clone: str
    nonce: str
    secret_keys: str
    secrets: str
    payload: str


@dataclass(frozen=True)
class Job:
    """What a runner is to do.

    :param pre_quiesce: script to run before the fork point, or ``None``.
    :param post_clone: script to run in every child, or ``None``.
    :param script: one script that calls the fork point itself, instead of the other two.
    :param interpreter: overrides the first line of the scripts.
    :param tools_path: VMware Tools' program in the guest; ``None`` looks for it.
    """

    pre_quiesce: str | None = None
    post_clone: str | None = None
    script: str | None = None
    interpreter: str | None = None
    tools_path: str | None = None
    become: str = "none"

    def digest(self) -> str:
        """SHA-256 of the scripts and their interpreter, in hexadecimal digits."""
        parts = [self.interpreter, self._text(self.pre_quiesce), self._text(self.post_clone), self._text(self.script)]
        digest = hashlib.sha256()
        for part in parts:
            data = b"-" if part is None else b"+" + part.encode()
            digest.update(b"%d:" % len(data) + data)
        return digest.hexdigest()

    def files(self, nonce: str, freeze_command: str, keys: Keys) -> dict[str, bytes]:
        """The files that must lie in one directory of the guest; ``runner`` is the one to start."""
        scripts = {"pre_quiesce": self.pre_quiesce, "post_clone": self.post_clone, "script": self.script}
        result = {name: t.cast(str, self._text(text)).encode() for name, text in scripts.items() if text is not None}
        result["runner"] = self._runner(nonce, freeze_command, keys).encode()
        return result

    @staticmethod
    def _text(script: str | None) -> str | None:
        # A script that was edited on Windows would fail at its first line.
        return None if script is None else script.replace("\r\n", "\n")

    def _runner(self, nonce: str, freeze_command: str, keys: Keys) -> str:
        values = {
            "nonce": nonce,
            "digest": self.digest(),
            "freeze": freeze_command,
            "become": self.become,
            "tools": self.tools_path or "",
            "key_scripts": keys.scripts,
            "key_quiesced_at": keys.quiesced_at,
            "key_quiesce": keys.quiesce,
            "key_post_clone": keys.post_clone,
            "key_nonce": keys.nonce,
            "key_secret_keys": keys.secret_keys,
            "key_secrets": keys.secrets,
        }
        lines = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
        for name, script in {
            "pre_quiesce": self.pre_quiesce,
            "post_clone": self.post_clone,
            "script": self.script,
        }.items():
            command = ":" if script is None else f'exec $own_group {self._command(script)} "$directory/{name}"'
            lines.append(f"run_{name}() {{ {command}; }}")
        steps = "fork_by_itself" if self.script is not None else "fork_between"
        exits = "\n".join(f"exit_{stage}={code}" for stage, code in STAGES.items())
        return "\n".join([_HEAD, *lines, exits, _BODY, f"main {steps}; exit", ""])

    def _command(self, script: str) -> str:
        """How a script is started: by its interpreter, so that its directory may forbid execution."""
        if self.interpreter:
            return shlex.join(shlex.split(self.interpreter))
        first = script.split("\n", 1)[0].strip()
        words = first[2:].split(None, 1) if first.startswith("#!") else []
        return shlex.join(words or ["/bin/sh"])


def payload(files: t.Mapping[str, bytes]) -> list[str]:
    """Files packed for transport in guestinfo values: base64 text in chunks."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    text = base64.b64encode(packed.getvalue()).decode()
    return [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]


def unpack_command(count: int, nonce: str, tools_path: str | None, directory: str, keys: Keys) -> str:
    """A shell command that fetches a :func:`payload` of ``count`` chunks, clears it, and starts the runner in it.

    :param directory: a path that nobody can guess; it must not exist yet, so nobody can have prepared it.
    """
    values = {
        "tools": tools_path or "",
        "nonce": nonce,
        "key": keys.payload,
        "key_quiesce": keys.quiesce,
        "count": str(count),
        "directory": directory,
    }
    settings = "; ".join(f"{name}={shlex.quote(value)}" for name, value in values.items())
    return f"{settings}; exit_unpack={STAGES['unpack']}; exit_tools={STAGES['tools']}\n{_FIND_TOOLS}\n{_UNPACK}"


_HEAD = """#!/bin/sh
# Made by the Ansible collection vmfork.vsphere: pre-quiesce script, fork point, post-clone script.
umask 077
PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH
directory=$(cd "${0%/*}" && pwd) || exit 70
"""

_FIND_TOOLS = r"""
find_tools() {
  for candidate in "$tools" vmtoolsd vmware-rpctool /usr/lib/vmware-tools/sbin/vmtoolsd; do
    [ -n "$candidate" ] && tools=$(command -v "$candidate" 2>/dev/null) && [ -x "$tools" ] && return 0
  done
  return 1
}
rpc() {
  case ${tools##*/} in
    *rpctool*) "$tools" "$1" ;;
    *) "$tools" --cmd "$1" ;;
  esac
}
""".strip()

_UNPACK = r"""
umask 077
PATH=${PATH:+$PATH:}/usr/sbin:/usr/bin:/sbin:/bin; export PATH
find_tools || exit $exit_tools
mkdir "$directory" || exit $exit_unpack
trap 'rm -rf "$directory"; exit $exit_unpack' 1 2 15
chunk=0
while [ $chunk -lt $count ]; do
  rpc "info-get $key.$chunk" 2>"$directory/output" || break
  rpc "info-set $key.$chunk " >/dev/null 2>&1
  chunk=$((chunk + 1))
done | base64 -d 2>/dev/null | gzip -dc 2>/dev/null | (cd "$directory" && tar -xf - 2>/dev/null)
if [ ! -s "$directory/runner" ]; then
  text=$( (tail -c 2048 "$directory/output" | base64 | tr -d '\n') 2>/dev/null)
  rm -rf "$directory"
  rpc "info-set $key_quiesce $nonce unpack $exit_unpack $text" >/dev/null 2>&1
  exit $exit_unpack
fi
trap - 1 2 15
exec /bin/sh "$directory/runner"
""".strip()

_BODY = (
    _FIND_TOOLS
    + r"""

publish() { rpc "info-set $1 $2" >/dev/null 2>&1; }

# The end of the output so far, and nothing of ours left on the disk.
take_output() {
  output=$( (tail -c 2048 "$directory/output" | base64 | tr -d '\n') 2>/dev/null)
  cd / && rm -rf "$directory"
}

# end_early STAGE EXIT_CODE OWN_EXIT_CODE: there will be no fork.
end_early() {
  take_output
  publish "$key_scripts" ""
  publish "$key_quiesce" "$nonce $1 $2 $output"
  exit "$3"
}

child_nonce() { rpc "info-get $key_nonce" 2>/dev/null; }

# What is secret is not needed any more; tell that it is gone only when it is.
clear_secrets() {
  secret_keys=$(rpc "info-get $key_secret_keys" 2>/dev/null) && [ -n "$secret_keys" ] || return 0
  for secret in $secret_keys; do
    rpc "info-set $secret " >/dev/null 2>&1
    [ -z "$(rpc "info-get $secret" 2>/dev/null)" ] || return 0
  done
  publish "$key_secrets" "$(child_nonce) cleared"
}

# in_child EXIT_CODE: the last act in a child.
in_child() {
  take_output
  vmware-toolbox-cmd info update network >/dev/null 2>&1
  clear_secrets
  publish "$key_post_clone" "$(child_nonce) $1 $output"
  exit "$1"
}

# run COMMAND: in the background, so that a request to end reaches us while it runs, and in a process group of its own.
run() {
  own_group=$(command -v setsid)
  "$1" >"$directory/output" 2>&1 </dev/null &
  running=$!
  wait "$running"
}

# End what runs and all that it began: it might come to the fork point when nobody waits for it any more.
stop() {
  trap '' 1 2 15
  [ -n "$running" ] || return 0
  for signal in TERM KILL; do
    kill -s $signal -- "-$running" 2>/dev/null || kill -s $signal "$running" 2>/dev/null || return 0
    [ $signal = KILL ] || sleep 1
  done
}

announce() {
  publish "$key_quiesced_at" "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
  publish "$key_scripts" "$digest"
}

# Our call of the fork point stands between two scripts.
fork_between() {
  run run_pre_quiesce || end_early pre_quiesce $? $exit_pre_quiesce
  announce
  trap '' 1 2 15 # a request to end that comes now would be met in every child
  rpc "$freeze" >"$directory/output" 2>&1 || end_early freeze $? $exit_freeze
  # A child that was powered off and on is here again; what it reported then is not this run's.
  [ -z "$(rpc "info-get $key_post_clone" 2>/dev/null)" ] || publish "$key_post_clone" ""
  trap 'stop; in_child 143' 1 2 15
  run run_post_clone
  in_child $?
}

# One script calls the fork point itself; who has another nonce after it is a child. Nobody is there to take away what a
# child reported before it was powered off and on: vmfork_child does so before it powers one on, and others do not.
fork_by_itself() {
  before=$(child_nonce)
  trap 'stop
    [ "$(child_nonce)" != "$before" ] && in_child 143
    end_early terminated 143 $exit_terminated' 1 2 15
  announce
  run run_script
  code=$?
  [ "$(child_nonce)" != "$before" ] && in_child $code
  end_early script $code $exit_script
}

main() {
  running=
  : >"$directory/output"
  find_tools || { take_output; exit $exit_tools; }
  if [ "$(id -u)" != 0 ]; then
    [ "$become" = sudo ] || end_early not_root 1 $exit_not_root
    sudo -n true >"$directory/output" 2>&1 </dev/null || end_early become $? $exit_become
    exec sudo -n /bin/sh "$0"
  fi
  trap 'stop; end_early terminated 143 $exit_terminated' 1 2 15
  "$1"
}
"""
)
