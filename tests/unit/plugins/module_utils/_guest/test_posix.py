# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner in real shells, with a small script in place of VMware Tools."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tarfile
import time
import urllib.parse
import xml.sax.saxutils
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, output_mask
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import posix, runner
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.families import ESXI, LINUX, MACOS

KEYS = runner.Keys(
    scripts=guestinfo.SCRIPTS,
    quiesced_at=guestinfo.QUIESCED_AT,
    quiesce=guestinfo.QUIESCE,
    post_clone=guestinfo.POST_CLONE,
    identity=guestinfo.IDENTITY,
    nonce=guestinfo.CHILD_NONCE,
    secret_keys=guestinfo.CHILD_SECRETS,
    secrets=guestinfo.SECRETS,
    payload=guestinfo.PAYLOAD,
)

# info-get and info-set on files; the fork point passes a nonce to the child, or refuses. It works for every user
# as it would for root.
TOOLS = r"""#!/bin/sh
[ "$1" = --cmd ] && shift
set -- $1
case $1 in
  info-get) [ -s "STORE/$2" ] && cat "STORE/$2" && exit 0; echo "No value found" >&2; exit 1 ;;
  info-set) name=$2; shift 2; printf '%s' "$*" >"STORE/$name" ;;
  vmfork-begin)
    [ -e STORE/refuse ] && { cat STORE/refuse >&2; exit 1; }
    cp -r "DIRECTORY" STORE/at-freeze 2>/dev/null
    cat STORE/guestinfo.vmfork.scripts >STORE/scripts-at-freeze 2>/dev/null
    printf 'child-nonce' >"STORE/guestinfo.fork.vmfork.nonce" ;;
esac
"""


FREEZE = "vmfork-begin -1 -1"
BUSYBOX = shutil.which("busybox")


class Guest:
    """A directory that stands for a guest.

    :param shell: the program used as /bin/sh; busybox contains programs and gets no others.
    """

    def __init__(self, root: Path, shell: str = "sh") -> None:
        self.root = root
        self.family = replace(LINUX, temporary=str(root))
        self.shell, self.path = ["/bin/sh"], "/usr/bin:/bin"
        self.store = root / "store"
        self.directory = root / "run"
        self.bin = root / "bin"
        for directory in (self.store, self.directory, self.bin):
            directory.mkdir()
        if shell == "busybox":
            assert BUSYBOX is not None
            subprocess.run([BUSYBOX, "--install", "-s", self.bin], check=True)
            self.shell, self.path = [str(self.bin / "sh")], ""
            # The fallback must not be what another kind of shell would find there.
            self.family = replace(self.family, directories=(str(self.bin),))
        self.install("vmtoolsd", TOOLS.replace("STORE", str(self.store)).replace("DIRECTORY", str(self.directory)))
        self.install("id", "#!/bin/sh\necho ${FAKE_UID:-0}\n")

    def install(self, name: str, text: str) -> None:
        (self.bin / name).unlink(missing_ok=True)  # it may be a link to a program of this machine
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.bin}:{self.path}", "OUT": str(self.root)}

    def value(self, key: str) -> str | None:
        path = self.store / key
        return path.read_text() if path.exists() else None

    def files(self, job: runner.Job) -> dict[str, bytes]:
        return posix.files(job, self.family, "run-nonce", FREEZE, KEYS)

    def run(self, job: runner.Job, **environment: str) -> int:
        for name, content in self.files(job).items():
            (self.directory / name).write_bytes(content)
        return subprocess.run(
            [*self.shell, f"{self.directory}/runner"], env={**self.environment, **environment}, timeout=30, check=False
        ).returncode

    def early_end(self) -> guestinfo.Report | None:
        return guestinfo.early_end({guestinfo.QUIESCE: self.value(guestinfo.QUIESCE) or ""}, "run-nonce")

    def post_clone(self) -> guestinfo.Report | None:
        return guestinfo.post_clone({guestinfo.POST_CLONE: self.value(guestinfo.POST_CLONE) or ""}, "child-nonce")


@pytest.fixture(
    params=["sh", pytest.param("busybox", marks=pytest.mark.skipif(not BUSYBOX, reason="busybox is not installed"))]
)
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Guest:
    if request.param == "busybox" and os.getuid() != 0:
        pytest.skip("the tests with busybox need root")  # it runs its own id, which the runner calls
    return Guest(tmp_path, request.param)


WITH_PROGRAMS_OF_OUR_OWN = pytest.mark.parametrize("guest", ["sh"], indirect=True)
"""Not in busybox, which runs its own programs whatever lies on PATH."""


def test_complete_run(guest: Guest) -> None:
    job = runner.Job(pre_quiesce='echo pre >"$OUT/pre"', post_clone="echo out; echo err >&2; cat $OUT/pre")
    assert guest.run(job) == 0
    assert guest.value("scripts-at-freeze") == f"{job.digest()} run-nonce"
    assert guest.value(guestinfo.SCRIPTS) == "", "a child is not at the fork point"
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "out\nerr\npre\n")
    assert guest.early_end() is None
    assert not guest.directory.exists()


@WITH_PROGRAMS_OF_OUR_OWN
def test_state_before_the_freeze_is_reported_before_it(guest: Guest) -> None:
    job = runner.Job(post_clone="true")
    guest.install("date", f"#!/bin/sh\n[ -e {guest.store}/at-freeze ] && echo late || echo 2026-01-31T08:15:02Z\n")
    guest.run(job)
    assert guest.value(guestinfo.QUIESCED_AT) == "2026-01-31T08:15:02Z"
    assert (guest.store / "at-freeze").is_dir()


@pytest.mark.parametrize(
    ("job", "stage", "code", "output", "own"),
    [
        (
            runner.Job(pre_quiesce="echo why; exit 3", post_clone="touch $OUT/post"),
            "pre_quiesce",
            3,
            "why\n",
            "pre_quiesce",
        ),
        (runner.Job(script="echo half; exit 0"), "script", 0, "half\n", "script"),
        (runner.Job(script="exit 9"), "script", 9, "", "script"),
        (runner.Job(pre_quiesce="kill -9 $$"), "pre_quiesce", 137, None, "pre_quiesce"),
    ],
)
def test_early_end(guest: Guest, job: runner.Job, stage: str, code: int, output: str | None, own: str) -> None:
    assert guest.run(job) == runner.STAGES[own]
    ended = guest.early_end()
    assert ended is not None
    assert (ended.stage, ended.exit_code) == (stage, code)
    assert output is None or ended.output == output
    assert guest.post_clone() is None
    assert not guest.value(guestinfo.SCRIPTS)
    assert not guest.directory.exists()
    assert not (guest.root / "post").exists()


def test_refused_fork_point(guest: Guest) -> None:
    (guest.store / "refuse").write_text("Permission denied")
    assert guest.run(runner.Job(post_clone="touch $OUT/post")) == runner.STAGES["freeze"]
    assert guest.early_end() == guestinfo.Report("freeze", 1, "Permission denied")
    assert not guest.value(guestinfo.SCRIPTS)
    assert not (guest.root / "post").exists()


def test_failing_post_clone_script(guest: Guest) -> None:
    guest.run(runner.Job(post_clone="echo broken; exit 4"))
    assert guest.post_clone() == guestinfo.Report("post_clone", 4, "broken\n")
    assert not guest.directory.exists()


def test_one_script_that_freezes_by_itself(guest: Guest) -> None:
    job = runner.Job(script="vmtoolsd --cmd 'vmfork-begin -1 -1'; echo child")
    guest.run(job)
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "child\n")
    assert (guest.value("scripts-at-freeze"), guest.value(guestinfo.SCRIPTS)) == (f"{job.digest()} run-nonce", "")


def test_report_of_an_earlier_run_is_removed_before_the_script_starts(guest: Guest) -> None:
    (guest.store / guestinfo.POST_CLONE).write_text("child-nonce 0 ")
    guest.run(runner.Job(post_clone=f"vmtoolsd --cmd 'info-get {guestinfo.POST_CLONE}' || exit 5"))
    assert guest.post_clone() == guestinfo.Report("post_clone", 5, "No value found\n")


def test_secrets_are_removed_in_the_child(guest: Guest) -> None:
    secrets = {"guestinfo.fork.token": "s1", "guestinfo.ic.token": "s1", "guestinfo.metadata": "s2"}
    for key, value in {**secrets, guestinfo.CHILD_SECRETS: " ".join(secrets), "guestinfo.fork.plain": "p"}.items():
        (guest.store / key).write_text(value)
    guest.run(runner.Job(post_clone="vmtoolsd --cmd 'info-get guestinfo.fork.token'"))
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "s1")
    assert [guest.value(key) for key in (*secrets, "guestinfo.fork.plain")] == ["", "", "", "p"]
    assert guestinfo.secrets_cleared({guestinfo.SECRETS: guest.value(guestinfo.SECRETS) or ""}, "child-nonce")


def test_remaining_secrets_are_not_reported_as_removed(guest: Guest) -> None:
    for key, value in {guestinfo.CHILD_SECRETS: "guestinfo.fork.token", "guestinfo.fork.token": "s1"}.items():
        (guest.store / key).write_text(value)
    guest.install(
        "vmtoolsd",
        (guest.bin / "vmtoolsd")
        .read_text()
        .replace("set -- $1", 'set -- $1\ncase "$1 $2" in "info-set guestinfo.fork.token") exit 0 ;; esac'),
    )
    guest.run(runner.Job(post_clone="true"))
    assert guest.post_clone() is not None
    assert not guestinfo.secrets_cleared({guestinfo.SECRETS: guest.value(guestinfo.SECRETS) or ""}, "child-nonce")


TOKEN = "guestinfo.fork.token"
READ = f"token=$(vmtoolsd --cmd 'info-get {TOKEN}')\n"
FREEZE_ITSELF = "vmtoolsd --cmd 'vmfork-begin -1 -1'\n"
HARD = [
    "plain-s3cret",
    """ 'it's' C:\\new "s3cret" $(id) `id` * %s \\c -n & ; | """,
    "s3cret-1st\n2nd\n\n3rd-s3cret, größe 名前",
    "s3cret-" * 500,
]


def set_secrets(guest: Guest, *secrets: str) -> None:
    """Set secrets as vmfork_child does."""
    keys = [f"{TOKEN}{number or ''}" for number in range(len(secrets))]
    for key, value in {guestinfo.CHILD_SECRETS: " ".join(keys), **dict(zip(keys, secrets, strict=True))}.items():
        (guest.store / key).write_text(value)


def one_or_two(job: str, script: str) -> runner.Job:
    return runner.Job(post_clone=script) if job == "two" else runner.Job(script=FREEZE_ITSELF + script)


@pytest.mark.parametrize("job", ["one", "two"])
@pytest.mark.parametrize("secret", HARD)
@pytest.mark.parametrize(
    "prints",
    [
        pytest.param('printf "%s" "($token)"; exit 3', id="as it is"),
        pytest.param('set -x; : "($token)"; exit 3', id="trace"),
        pytest.param('LC_ALL=C.UTF-8 /bin/bash -xc \': "($1)"; exit 3\' - "$token"', id="bash's trace"),
        pytest.param('printf "%s" "$token"; printf "%2040s" ")"; exit 3', id="cut"),
    ],
)
def test_secrets_are_masked_in_the_output(guest: Guest, job: str, secret: str, prints: str) -> None:
    set_secrets(guest, secret)
    guest.run(one_or_two(job, READ + prints))
    ended = guest.post_clone()
    assert ended is not None
    assert ended.exit_code == 3
    assert output_mask.MASK in ended.output
    assert ")" in ended.output
    assert "s3cret" not in ended.output
    assert output_mask.mask(ended.output, [secret]) == ended.output, "nothing is left to do for vmfork_child"
    assert guest.value(TOKEN) == ""


KEY = "kept/out of+sight: 'größe' <\"&>, C:\\new\n2nd line of the secret\n" + "and-more-of-it-" * 4


@pytest.mark.parametrize(
    "printed",
    [
        base64.b64encode(KEY.encode()).decode(),
        base64.encodebytes(KEY.encode()).decode(),
        base64.urlsafe_b64encode(f"ab{KEY}".encode()).decode(),
        base64.b64encode(f"user:{KEY}@host".encode()).decode(),
        urllib.parse.quote(KEY),
        urllib.parse.quote_plus(KEY),
        re.sub("%..", lambda escape: escape.group().lower(), urllib.parse.quote(KEY, safe="")),
        json.dumps({"token": KEY}, ensure_ascii=False),
        xml.sax.saxutils.escape(KEY),
        xml.sax.saxutils.escape(KEY, {'"': "&quot;"}),
        shlex.quote(KEY),
    ],
)
def test_encoded_secrets_are_masked_in_the_output(guest: Guest, printed: str) -> None:
    set_secrets(guest, KEY)
    guest.run(runner.Job(post_clone=f"printf '%s' {shlex.quote(printed)}"))
    ended = guest.post_clone()
    assert ended is not None
    assert output_mask.mask(printed, [KEY]) == ended.output
    assert output_mask.mask(ended.output, [KEY]) == ended.output, "nothing is left to do for vmfork_child"


def test_consecutive_lines_of_a_secret(guest: Guest) -> None:
    set_secrets(guest, "s3cret-1st\n2nd\r\n3rd-s3cret\r\n")
    guest.run(runner.Job(post_clone=f"{READ}echo $token | tr -d '\\r'"))
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "******** 2nd ********\n")


def test_secret_within_another_does_not_uncover_it(guest: Guest) -> None:
    set_secrets(guest, "password", "password-and-more", "my-password")
    guest.run(runner.Job(post_clone="echo password-and-more, my-password, my-pass"))
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "********, ********, my-pass\n")


@pytest.mark.parametrize("output", ["", "\\n", "\\n\\n", "\\377\\000\\001 plain \\303"])
def test_other_output_is_unchanged(guest: Guest, output: str) -> None:
    set_secrets(guest, "plain-s3cret")
    guest.run(runner.Job(post_clone=f"printf '{output}'"))
    command = f"printf '{output}' | tr -d '\\000\\001'"
    expected = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True).stdout.decode(
        errors="replace"
    )
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, expected)


@pytest.mark.parametrize(("job", "output"), [("two", "********\n"), ("one", "")])
def test_secrets_that_were_removed_before_the_script_ended(guest: Guest, job: str, output: str) -> None:
    """The script or vmfork_child at its timeout removed them. Output that cannot be masked is not reported."""
    set_secrets(guest, "plain-s3cret")
    guest.run(one_or_two(job, f"{READ}vmtoolsd --cmd 'info-set {TOKEN} '\necho $token"))
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, output)


@pytest.mark.parametrize(("inherited", "code"), [("", 1), (TOKEN, 0)])
def test_secrets_removed_before_the_script_starts(guest: Guest, inherited: str, code: int) -> None:
    """For example, vmfork_child was ended by a signal: the script would run without them unnoticed.

    Values of a parent that is a child itself do not belong to the child.
    """
    (guest.store / guestinfo.CHILD_SECRETS).write_text(inherited)
    tools = (guest.bin / "vmtoolsd").read_text()
    keys = f"printf '{TOKEN}' >\"{guest.store}/{guestinfo.CHILD_SECRETS}\"; "
    guest.install("vmtoolsd", tools.replace("printf 'child-nonce'", f"{keys}printf 'child-nonce'"))
    guest.run(runner.Job(post_clone="echo it runs"))
    ended = guest.post_clone()
    assert ended is not None
    assert ended.exit_code == code
    assert ("it runs" in ended.output, f"{TOKEN} was removed before" in ended.output) == (not code, bool(code))


@WITH_PROGRAMS_OF_OUR_OWN
def test_guest_that_cannot_mask_secrets_does_not_report_the_output(guest: Guest) -> None:
    guest.install("awk", "#!/bin/sh\nexit 127\n")
    set_secrets(guest, "plain-s3cret")
    guest.run(runner.Job(post_clone=f"{READ}echo $token; exit 3"))
    assert guest.post_clone() == guestinfo.Report("post_clone", 3, "")


def test_only_the_end_of_the_output_is_reported(guest: Guest) -> None:
    guest.run(runner.Job(post_clone="seq 1 5000"))
    ended = guest.post_clone()
    assert ended is not None
    assert ended.output.endswith("4999\n5000\n")
    assert len(ended.output) == 2048


def test_no_tools(guest: Guest) -> None:
    (guest.bin / "vmtoolsd").unlink()
    assert guest.run(runner.Job(pre_quiesce="touch $OUT/pre")) == runner.STAGES["tools"]
    assert not (guest.root / "pre").exists()
    assert not guest.directory.exists()


@pytest.mark.parametrize("delivery", ["file_transfer", "guestinfo"])
def test_tools_path_that_is_a_directory(guest: Guest, delivery: str) -> None:
    job = runner.Job(post_clone="echo there", tools_path=str(guest.bin))
    assert (guest.run(job) if delivery == "file_transfer" else deliver(guest, job)) == 0
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "there\n")


def test_tools_path_and_rpctool(guest: Guest) -> None:
    other = guest.root / "my tools; $(ours)" / "vmware-rpctool"
    other.parent.mkdir()
    (guest.bin / "vmtoolsd").rename(other)
    guest.run(runner.Job(post_clone="echo there", tools_path=str(other)))
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "there\n")


@pytest.mark.parametrize("delivery", ["file_transfer", "guestinfo"])
def test_nested_esxi(guest: Guest, delivery: str) -> None:
    """VMware Tools are not on a PATH and need the path of their libraries."""
    bin_, lib = guest.root / "vmtools" / "bin", guest.root / "vmtools" / "lib"
    bin_.mkdir(parents=True)
    needs_libraries = f"#!/bin/sh\ncase :$LD_LIBRARY_PATH: in *:{lib}:*) ;; *) exit 127 ;; esac\n"
    tools = (guest.bin / "vmtoolsd").read_text().replace("#!/bin/sh\n", needs_libraries)
    (guest.bin / "vmtoolsd").unlink()
    (bin_ / "vmtoolsd").write_text(tools)
    (bin_ / "vmtoolsd").chmod(0o755)
    directories = (str(bin_), *guest.family.directories)
    guest.family = replace(ESXI, directories=directories, libraries=str(lib))
    # A script finds VMware Tools the same way.
    job = runner.Job(post_clone="vmtoolsd --cmd 'info-get guestinfo.fork.vmfork.nonce'")
    ended = guest.run(job) if delivery == "file_transfer" else deliver(guest, job)
    assert ended == 0
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "child-nonce")


@WITH_PROGRAMS_OF_OUR_OWN
@pytest.mark.parametrize("delivery", ["file_transfer", "guestinfo"])
def test_macos(guest: Guest, delivery: str) -> None:
    """VMware Tools with another name in a directory with a space; no setsid, and a base64 with other options."""
    tools = guest.root / "Application Support"
    tools.mkdir()
    (guest.bin / "vmtoolsd").rename(tools / "vmware-tools-daemon")
    programs = ["sh", "cat", "cp", "rm", "mkdir", "tail", "tr", "date", "printf", "gzip", "tar", "touch"]
    for name in programs:
        (guest.bin / name).symlink_to(str(shutil.which(name)))
    real = shutil.which("base64")
    guest.install("base64", f'#!/bin/sh\ncase $* in "") exec {real} ;; -D) exec {real} -d ;; esac; exit 64\n')
    guest.path = ""
    guest.family = replace(MACOS, directories=(str(tools),))
    job = runner.Job(post_clone="command -v setsid; echo there")
    ended = guest.run(job) if delivery == "file_transfer" else deliver(guest, job)
    assert ended == 0
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "there\n")


@WITH_PROGRAMS_OF_OUR_OWN
def test_not_root(guest: Guest) -> None:
    assert guest.run(runner.Job(pre_quiesce="touch $OUT/pre"), FAKE_UID="1000") == runner.STAGES["not_root"]
    assert not (guest.root / "pre").exists()
    assert not guest.directory.exists()


@WITH_PROGRAMS_OF_OUR_OWN
def test_sudo_refused(guest: Guest) -> None:
    guest.install("sudo", "#!/bin/sh\necho 'sudo: a password is required' >&2; exit 1\n")
    job = runner.Job(pre_quiesce="touch $OUT/pre", become="sudo")
    assert guest.run(job, FAKE_UID="1000") == runner.STAGES["become"]
    assert guest.early_end() == guestinfo.Report("become", 1, "sudo: a password is required\n")


@WITH_PROGRAMS_OF_OUR_OWN
def test_sudo(guest: Guest) -> None:
    guest.install("sudo", '#!/bin/sh\n[ "$1" = -n ] && shift; FAKE_UID=0 exec "$@"\n')
    guest.run(runner.Job(post_clone="echo as root", become="sudo"), FAKE_UID="1000")
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "as root\n")


def test_terminated(guest: Guest) -> None:
    job = runner.Job(pre_quiesce='touch "$OUT/running"; kill -TERM $PPID; sleep 20; touch "$OUT/went-on"')
    guest.run(job)
    assert guest.early_end() == guestinfo.Report("terminated", 143, "")
    assert not (guest.root / "went-on").exists()
    assert not guest.directory.exists()


def runs(status: Path) -> bool:
    """Return whether a process is running, according to its file in /proc."""
    try:
        return "zombie" not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("which", ["pre_quiesce", "script"])
def test_processes_of_a_script_end_with_it(guest: Guest, which: str) -> None:
    script = """
    sh -c 'trap "" TERM; echo $$ >"$OUT/pid"; while :; do sleep 0.1; done' &
    until [ -s "$OUT/pid" ]; do sleep 0.1; done
    kill -TERM $PPID
    wait
    """
    guest.run(runner.Job(**{which: script}))
    assert guest.early_end() == guestinfo.Report("terminated", 143, "")
    status = Path("/proc", (guest.root / "pid").read_text().strip(), "status")
    until = time.monotonic() + 10
    while runs(status):  # a killed process disappears soon, but not immediately
        assert time.monotonic() < until


def test_request_to_end_at_the_fork_point_is_ignored_in_the_children(guest: Guest) -> None:
    guest.install(
        "vmtoolsd", (guest.bin / "vmtoolsd").read_text().replace("vmfork-begin)", "vmfork-begin) kill $PPID;")
    )
    guest.run(runner.Job(post_clone="echo child"))
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "child\n")
    assert guest.early_end() is None


def leave_behind(directory: Path, pid: str | None = None, mark: str = runner.MARK) -> Path:
    """Create a directory as left by a killed runner."""
    directory.mkdir()
    (directory / "runner").write_text(f"#!/bin/sh\n# {mark}: pre-quiesce script\n")
    (directory / "post_clone").write_text("echo of an earlier run")
    if pid is not None:
        (directory / runner.ALIVE).write_text(f"{pid}\n")
    return directory


@pytest.mark.parametrize("pid", [None, "4194305", "", "no number", "another program's"])
def test_leftovers_of_a_killed_runner_are_removed_before_the_fork_point(guest: Guest, pid: str | None) -> None:
    """Its process ID may belong to another program by now."""
    pid = str(os.getpid()) if pid == "another program's" else pid
    left = leave_behind(guest.root / "vmfork.1a2b", pid)
    guest.run(runner.Job(pre_quiesce=f"[ ! -e {left} ]", post_clone="echo child"))
    assert guest.early_end() is None
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "child\n")


def test_directory_without_files_is_removed(guest: Guest) -> None:
    """The task that created it was ended before its first upload."""
    (guest.root / "vmfork.1a2b").mkdir()
    guest.run(runner.Job(post_clone="true"))
    assert list(guest.root.glob("vmfork.*")) == []


def test_other_files_are_kept(guest: Guest) -> None:
    foreign = leave_behind(guest.root / "vmfork.foreign", mark="Made by somebody")
    elsewhere = leave_behind(guest.root / "other.1a2b")
    (guest.root / "vmfork.link").symlink_to(elsewhere)
    (guest.root / "vmfork.file").write_text("")
    alive = leave_behind(guest.root / "vmfork.alive")
    (alive / "runner").write_text((alive / "runner").read_text() + "read line\n")
    with subprocess.Popen([*guest.shell, f"{alive}/runner"], stdin=subprocess.PIPE) as lives:
        (alive / runner.ALIVE).write_text(f"{lives.pid}\n")
        try:
            guest.run(runner.Job(post_clone="true"))
            assert all(path.exists() for path in (foreign, elsewhere, alive))
            assert sorted(path.name for path in guest.root.glob("vmfork.[fl]*")) == [
                "vmfork.file",
                "vmfork.foreign",
                "vmfork.link",
            ]
        finally:
            lives.kill()


@pytest.mark.parametrize("leads", [True, False])
def test_second_runner_leaves_the_guest_to_the_first(guest: Guest, leads: bool) -> None:
    """Otherwise it would go on in every child. The runner that started earlier, or leads, goes on; its record stays."""
    first = leave_behind(guest.root / "vmfork.first")
    (first / "runner").write_text((first / "runner").read_text() + "read line\n")
    with subprocess.Popen([*guest.shell, f"{first}/runner"], stdin=subprocess.PIPE) as lives:
        (first / runner.ALIVE).write_text(f"{lives.pid}\n")
        if leads:
            (first / runner.LEADS).touch()
        (guest.store / guestinfo.SCRIPTS).write_text("of the first")
        try:
            assert guest.run(runner.Job(pre_quiesce='touch "$OUT/ran"')) == runner.STAGES["busy"]
        finally:
            lives.kill()
    assert guest.early_end() == guestinfo.Report("busy", 1, "")
    assert guest.value(guestinfo.SCRIPTS) == "of the first"
    assert not (guest.root / "ran").exists()
    assert not guest.directory.exists()


def test_runner_leaves_the_guest_to_one_that_is_unpacked(guest: Guest) -> None:
    unpacked = leave_behind(guest.root / "vmfork.unpacked")
    command = f"directory={unpacked}; read line; exit"
    with subprocess.Popen([*guest.shell, "-c", command], stdin=subprocess.PIPE) as lives:
        (unpacked / runner.ALIVE).write_text(f"{lives.pid}\n")
        try:
            assert guest.run(runner.Job(pre_quiesce="true")) == runner.STAGES["busy"]
            assert unpacked.exists()
        finally:
            lives.kill()


def test_record_of_an_earlier_runner_is_removed_by_the_one_that_leads(guest: Guest) -> None:
    (guest.store / guestinfo.SCRIPTS).write_text("of a runner that was killed")
    guest.run(runner.Job(pre_quiesce=f'cat "$OUT/store/{guestinfo.SCRIPTS}" >"$OUT/seen"; exit 3'))
    assert (guest.root / "seen").read_text().strip() == ""


@WITH_PROGRAMS_OF_OUR_OWN
def test_record_of_another_runner_stays_at_an_early_end(guest: Guest) -> None:
    """The other runner may be about to reach the fork point."""
    (guest.store / guestinfo.SCRIPTS).write_text("0123 another-nonce")
    assert guest.run(runner.Job(post_clone="true"), FAKE_UID="1000") == runner.STAGES["not_root"]
    assert guest.value(guestinfo.SCRIPTS) == "0123 another-nonce"


@pytest.mark.parametrize("which", ["pre_quiesce", "post_clone", "script"])
def test_files_of_a_script_are_readable_only_by_the_user(guest: Guest, which: str) -> None:
    """VMware Tools may use any umask."""
    guest.run(runner.Job(**{which: 'umask; touch "$OUT/written"'}))
    assert (guest.root / "written").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("which", ["post_clone", "script"])
def test_terminated_in_a_child(guest: Guest, which: str) -> None:
    """Restarting VMware Tools there may end the runner: the child must report that, unlike the parent."""
    end = "kill -TERM $PPID; sleep 20; touch $OUT/went-on"
    job = (
        runner.Job(post_clone=end)
        if which == "post_clone"
        else runner.Job(script=f"vmtoolsd --cmd 'vmfork-begin'; {end}")
    )
    guest.run(job)
    ended = guest.post_clone()
    assert ended is not None
    assert ended.exit_code == 143
    assert guest.early_end() is None
    assert not (guest.root / "went-on").exists()


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("#!/bin/sh\r\necho a\r\necho b\r\n", "a\nb\n"),
        ("\ufeff#!/usr/bin/env -S sh -e\r\necho a\nfalse\necho no", "a\n"),
        ("\ufeffecho no interpreter", "no interpreter\n"),
        ("echo größe 名前", "größe 名前\n"),
        ("#!/usr/bin/env -S sh -e\nfalse\necho no", ""),
        ("#! /bin/sh\necho no newline at the end", "no newline at the end\n"),
        ("# " + "x" * 1_000_000 + "\necho long", "long\n"),
    ],
)
def test_formats_of_scripts(guest: Guest, script: str, output: str) -> None:
    guest.run(runner.Job(post_clone=script))
    ended = guest.post_clone()
    assert ended is not None
    assert ended.output == output


def test_interpreter(guest: Guest) -> None:
    guest.run(runner.Job(post_clone="#!/bin/false\necho $-", interpreter="/bin/sh -e"))
    ended = guest.post_clone()
    assert ended is not None
    assert "e" in ended.output


def test_digest_differs_between_scripts() -> None:
    jobs = [
        runner.Job(pre_quiesce="a"),
        runner.Job(post_clone="a"),
        runner.Job(script="a"),
        runner.Job(pre_quiesce="a", post_clone="a"),
        runner.Job(pre_quiesce="a", interpreter="a"),
        runner.Job(pre_quiesce="-"),
    ]
    assert len({job.digest() for job in jobs}) == len(jobs)
    assert runner.Job(pre_quiesce="\ufeffa\r\n").digest() == runner.Job(pre_quiesce="a\n").digest()


def test_digest_is_compatible_with_vms_at_their_fork_point() -> None:
    job = runner.Job(pre_quiesce="a\n", post_clone="b\r\n", interpreter="/bin/sh -e")
    assert job.digest() == "e56ea5e21a2dbfa9ff9a98cab99447652c705b1684c80dfd583cb9820af97f03"


@pytest.mark.parametrize(
    ("interpreter", "message"),
    [
        ("sh 'x", "interpreter sh 'x is not a valid command: No closing quotation"),
        ("sh x\\", "is not a valid command: No escaped character"),
        ("/bin/bash -e", None),
        (None, None),
    ],
)
def test_refused(interpreter: str | None, message: str | None) -> None:
    refusal = posix.refusal(runner.Job(post_clone="x", interpreter=interpreter))
    assert (message or "") in (refusal or "")
    assert (message is None) == (refusal is None)


# --- VMware Tools that refuse empty values or all values --------------------------------------------------------------


def restrict(guest: Guest, how: str) -> None:
    """Have info-set keep the old value if the new one is empty, with or without an error, or refuse every value."""
    test = {"refused": "exit 1", "ignored": "exit 0", "all refused": "exit 1"}[how]
    when = "*" if how == "all refused" else "''"
    text = (guest.bin / "vmtoolsd").read_text()
    tools = text.replace(
        "info-set) name=$2; shift 2;",
        f"info-set) name=$2; shift 2; case $rest in {when}) {test} ;; esac;",
    )
    tools = tools.replace(
        "set -- $1\n", 'rest=${1#info-set }; [ "$rest" = "$1" ] && rest= || rest=${rest#* }\nset -- $1\n'
    )
    tools = tools.replace("printf '%s' \"$*\"", "printf '%s' \"$rest\"")
    guest.install("vmtoolsd", tools)


@pytest.mark.parametrize("how", ["refused", "ignored"])
def test_values_are_blanked_where_empty_values_are_refused(guest: Guest, how: str) -> None:
    """A blank removes scripts, their digest, secrets and an old report as well."""
    restrict(guest, how)
    (guest.store / guestinfo.CHILD_SECRETS).write_text("guestinfo.fork.token")
    (guest.store / "guestinfo.fork.token").write_text("a-long-secret")
    assert deliver(guest, runner.Job(post_clone="echo child")) == 0
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "child\n")
    values = {path.name: path.read_text() for path in guest.store.glob("guestinfo.*")}
    assert guestinfo.scripts(values) is None
    assert guestinfo.secrets_cleared(values, "child-nonce")
    blank = {
        key for key in values if key.startswith(KEYS.payload) or key in (guestinfo.SCRIPTS, "guestinfo.fork.token")
    }
    assert {values[key] for key in blank} == {" "}
    assert len(blank) >= 3


def test_scripts_that_cannot_be_removed_are_not_run(guest: Guest) -> None:
    restrict(guest, "all refused")
    assert deliver(guest, runner.Job(pre_quiesce='touch "$OUT/ran"')) == runner.STAGES["unpack"]
    assert not (guest.root / "ran").exists()
    assert not guest.directory.exists()
    assert not (guest.store / "at-freeze").exists()


# --- delivery through guestinfo ---------------------------------------------------------------------------------------


def unpack(guest: Guest, packed: list[str], job: runner.Job) -> runner.Program:
    return posix.unpack(runner.Package(packed, str(guest.directory)), job, guest.family, "run-nonce", KEYS)


def deliver(guest: Guest, job: runner.Job, chunks: list[str] | None = None) -> int:
    packed = posix.pack(guest.files(job)) if chunks is None else chunks
    for number, chunk in enumerate(packed):
        (guest.store / f"{KEYS.payload}.{number}").write_text(chunk)
    shell, arguments = unpack(guest, packed, job)
    guest.directory.rmdir()
    # VMware Tools start a program in this way: a shell gets the path and the arguments.
    line = f"{shlex.join(guest.shell)} {arguments}"
    assert shell == "/bin/sh"
    return subprocess.run(["/bin/bash", "-c", line], env=guest.environment, timeout=30, check=False).returncode


def test_delivery_through_guestinfo(guest: Guest) -> None:
    noise = base64.b64encode(os.urandom(150_000)).decode()
    job = runner.Job(pre_quiesce='touch "$OUT/pre"', post_clone=f"# {noise}\necho delivered")
    assert len(posix.pack(guest.files(job))) > 2
    assert deliver(guest, job) == 0
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "delivered\n")
    assert (guest.root / "pre").exists()
    assert not guest.directory.exists()
    left = [path.name for path in guest.store.iterdir() if path.name.startswith(KEYS.payload) and path.read_text()]
    assert left == []


def test_delivery_that_arrives_damaged(guest: Guest) -> None:
    assert deliver(guest, runner.Job(post_clone="touch $OUT/post"), ["bm9uc2Vuc2U="]) == runner.STAGES["unpack"]
    ended = guest.early_end()
    assert ended is not None
    assert ended.stage == "unpack"
    assert not guest.directory.exists()
    assert not (guest.root / "post").exists()


@pytest.mark.parametrize("chunk", [0, 1])
def test_killed_unpacking_leaves_nothing_for_the_children(guest: Guest, chunk: int) -> None:
    """Its directory is recognized as ours, before and after the runner is in it."""
    noise = base64.b64encode(os.urandom(90_000)).decode()
    packed = posix.pack(guest.files(runner.Job(post_clone=f"# {noise}\ntrue")))
    for number, content in enumerate(packed):
        (guest.store / f"{KEYS.payload}.{number}").write_text(content)
    left = guest.root / "vmfork.killed"
    tools = (guest.bin / "vmtoolsd").read_text()
    hang = f'[ "$2" = {KEYS.payload}.{chunk} ] && {{ touch "$OUT/hangs"; sleep 60; }}'
    guest.install("vmtoolsd", tools.replace("info-get)", f"info-get) {hang};"))
    _shell, arguments = posix.unpack(runner.Package(packed, str(left)), runner.Job(), guest.family, "killed", KEYS)
    began = [*guest.shell, *shlex.split(arguments)]
    with subprocess.Popen(began, env=guest.environment, start_new_session=True) as unpacking:
        until = time.monotonic() + 60
        while not (guest.root / "hangs").exists():
            assert time.monotonic() < until
        os.killpg(unpacking.pid, signal.SIGKILL)
    assert left.exists()
    guest.install("vmtoolsd", tools)
    guest.run(runner.Job(post_clone="true"))
    assert not left.exists()


def test_prepared_directory_is_not_used(guest: Guest) -> None:
    (guest.directory / "trap").touch()
    _shell, arguments = unpack(guest, [], runner.Job())
    ended = subprocess.run([*guest.shell, *shlex.split(arguments)], env=guest.environment, timeout=30, check=False)
    assert ended.returncode == runner.STAGES["unpack"]
    assert (guest.directory / "trap").exists()


def test_payload_contains_the_files() -> None:
    files = {"runner": b"one", "post_clone": b"two"}
    packed = base64.b64decode("".join(posix.pack(files)))
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        assert {member.name: archive.extractfile(member).read() for member in archive} == files  # type: ignore[union-attr]
        assert {member.mode for member in archive} == {0o600}
        assert archive.getnames() == list(files), "the runner is first: by it the directory is known to be ours"


def test_scripts_from_guestinfo_are_readable_only_by_the_user(guest: Guest) -> None:
    """VMware Tools may use any umask."""
    job = runner.Job(pre_quiesce='stat -c %a "${0%/*}" "$0" >"$OUT/modes"')
    packed = posix.pack(guest.files(job))
    assert deliver(guest, job, packed) == 0
    assert (guest.root / "modes").read_text().split() == ["700", "600"]


# --- the identity script ----------------------------------------------------------------------------------------------

LOGGING = """#!/bin/sh
echo "identity $*" >>"$OUT/order"
case $VMFORK_TOOLS in */vmtoolsd) ;; *) echo "no tools: $VMFORK_TOOLS"; exit 9 ;; esac
"""
ORDER = {"pre_quiesce": 'echo pre >>"$OUT/order"', "post_clone": 'echo post >>"$OUT/order"'}


def with_identity(script: str = LOGGING, **given: str) -> runner.Job:
    return runner.Job(identity=runner.Identity(script, "clock,random", "networkd"), **given)


def order(guest: Guest) -> list[str]:
    path = guest.root / "order"
    return path.read_text().splitlines() if path.exists() else []


PREPARE, RENEW, UNDO = (f"identity {step} clock,random networkd" for step in ("prepare", "renew", "undo"))


def test_identity_script_is_the_first_on_both_sides(guest: Guest) -> None:
    """The interpreter is that of the user's scripts."""
    assert guest.run(with_identity(interpreter="sh -x", **ORDER)) == 0
    assert order(guest) == [PREPARE, "pre", RENEW, "post"]
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "+ echo post\n")
    assert not guest.directory.exists()


@WITH_PROGRAMS_OF_OUR_OWN
def test_identity_script_with_sudo(guest: Guest) -> None:
    """It clears the environment."""
    guest.install("sudo", '#!/bin/sh\n[ "$1" = -n ] && shift; exec env -i PATH="$PATH" OUT="$OUT" FAKE_UID=0 "$@"\n')
    guest.run(replace(with_identity(**ORDER), become="sudo"), FAKE_UID="1000")
    assert order(guest) == [PREPARE, "pre", RENEW, "post"]


def test_identity_script_without_others(guest: Guest) -> None:
    guest.run(with_identity(LOGGING.replace("\n", "\r\n")))
    assert order(guest) == [PREPARE, RENEW]
    assert guest.post_clone() == guestinfo.Report("post_clone", 0, "")


def test_identity_script_that_fails_before_the_fork_point(guest: Guest) -> None:
    job = with_identity(LOGGING + '[ "$1" = undo ] || { echo no entropy; exit 5; }', **ORDER)
    assert guest.run(job) == runner.STAGES["prepare"]
    assert guest.early_end() == guestinfo.Report("prepare", 5, "no entropy\n")
    assert order(guest) == [PREPARE, UNDO]
    assert not (guest.store / "at-freeze").exists()
    assert not guest.directory.exists()


def test_preparation_is_undone_if_the_script_of_the_user_fails(guest: Guest) -> None:
    """Otherwise the parent has no network, and the task cannot be repaired."""
    guest.run(with_identity(pre_quiesce="echo reason; exit 4"))
    assert guest.early_end() == guestinfo.Report("pre_quiesce", 4, "reason\n")
    assert order(guest) == [PREPARE, UNDO]


def test_preparation_is_undone_if_the_fork_point_is_refused(guest: Guest) -> None:
    (guest.store / "refuse").write_text("no fork")
    fails = '[ "$1" != undo ] || { echo undo: failed: no address; exit 90; }'
    assert guest.run(with_identity(LOGGING + fails, **ORDER)) == runner.STAGES["freeze"]
    ended = guest.early_end()
    assert ended is not None
    assert (ended.stage, ended.output) == ("freeze", "no fork" + "undo: failed: no address\n")
    assert order(guest) == [PREPARE, "pre", UNDO]


def test_processes_of_the_identity_script_end_with_it(guest: Guest) -> None:
    """It is the leader of its process group. What it starts when it undoes the preparation, a DHCP client, stays."""
    script = """
    echo "$1 $$ $(cut -d ' ' -f 5 /proc/$$/stat)" >>"$OUT/groups"
    if [ "$1" = undo ]; then sleep 1000 >/dev/null 2>&1 </dev/null & echo $! >"$OUT/client"; exit 0; fi
    sh -c 'trap "" TERM; echo $$ >"$OUT/pid"; while :; do sleep 0.1; done' &
    until [ -s "$OUT/pid" ]; do sleep 0.1; done
    kill -TERM $PPID
    wait
    """
    guest.run(with_identity(script))
    ended = guest.early_end()
    assert ended is not None
    assert (ended.stage, ended.exit_code) == ("terminated", 143)
    steps = [line.split() for line in (guest.root / "groups").read_text().splitlines()]
    assert [(step, process == group) for step, process, group in steps] == [("prepare", True), ("undo", True)]
    until = time.monotonic() + 10
    while runs(Path("/proc", (guest.root / "pid").read_text().strip(), "status")):
        assert time.monotonic() < until
    client = (guest.root / "client").read_text().strip()
    assert runs(Path("/proc", client, "status"))
    os.kill(int(client), signal.SIGKILL)


def test_preparation_is_undone_although_a_signal_arrives(guest: Guest) -> None:
    """Once, and to its end."""
    slow = '[ "$1" != undo ] || { kill -TERM $PPID; echo undone >>"$OUT/order"; }'
    guest.run(with_identity(LOGGING + slow, pre_quiesce="exit 4"))
    assert order(guest) == [PREPARE, UNDO, "undone"]
    assert guest.early_end() == guestinfo.Report("pre_quiesce", 4, "")


def test_nothing_is_undone_before_the_preparation(guest: Guest) -> None:
    assert guest.run(with_identity(**ORDER), FAKE_UID="1000") == runner.STAGES["not_root"]
    assert order(guest) == []


def test_identity_script_that_fails_in_a_child(guest: Guest) -> None:
    """The user's script would run in a child that is still its parent."""
    fails = '[ "$1" = prepare ] || { echo clock: refused; exit 90; }'
    guest.run(with_identity(LOGGING + fails, **ORDER))
    assert order(guest) == [PREPARE, "pre", RENEW]
    assert guest.post_clone() == guestinfo.Report("post_clone", 90, "clock: refused\n")


@pytest.mark.parametrize("step", ["prepare", "renew"])
def test_identity_script_is_ended_with_its_runner(guest: Guest, step: str) -> None:
    slow = f'[ "$1" != {step} ] || {{ kill -TERM $PPID; sleep 20; touch "$OUT/went-on"; }}'
    guest.run(with_identity(LOGGING + slow, **ORDER))
    ended = guest.post_clone() if step == "renew" else guest.early_end()
    assert ended is not None
    assert ended.exit_code == 143
    assert "post" not in order(guest)
    assert not (guest.root / "went-on").exists()


def test_secrets_are_masked_in_the_output_of_the_identity_script(guest: Guest) -> None:
    for key, value in {guestinfo.CHILD_SECRETS: TOKEN, TOKEN: "plain-s3cret"}.items():
        (guest.store / key).write_text(value)
    guest.run(with_identity(f'[ "$1" = prepare ] || {{ vmtoolsd --cmd "info-get {TOKEN}"; exit 3; }}'))
    ended = guest.post_clone()
    assert ended is not None
    assert (ended.exit_code, ended.output) == (3, output_mask.mask("plain-s3cret", ["plain-s3cret"]))
    assert guest.value(TOKEN) == ""


def test_identity_script_does_not_run_without_its_entropy(guest: Guest) -> None:
    key = "guestinfo.fork.vmfork.entropy"
    freeze = f"printf {key} >STORE/{guestinfo.CHILD_SECRETS}; printf child-nonce"
    guest.install(
        "vmtoolsd",
        TOOLS.replace("printf 'child-nonce'", freeze)
        .replace("STORE", str(guest.store))
        .replace("DIRECTORY", str(guest.directory)),
    )
    guest.run(with_identity(**ORDER))
    ended = guest.post_clone()
    assert ended is not None
    assert (ended.exit_code, order(guest)) == (1, [PREPARE, "pre"])
    assert f"{key} was removed before the script began" in ended.output


def test_report_of_the_parent_or_an_earlier_run_is_removed_before_the_identity_script(guest: Guest) -> None:
    (guest.store / guestinfo.IDENTITY).write_text("child-nonce 1 of an earlier run")
    guest.run(with_identity(f'[ "$1" = prepare ] || vmtoolsd --cmd "info-get {guestinfo.IDENTITY}" && exit 0; exit 4'))
    ended = guest.post_clone()
    assert ended is not None
    assert ended.exit_code == 4


def test_record_of_the_identity_script(guest: Guest) -> None:
    """It is no part of the digest of the user's scripts."""
    job = with_identity(**ORDER)
    assert job.digest() == runner.Job(**ORDER).digest()
    guest.run(job)
    recorded = {guestinfo.SCRIPTS: guest.value("scripts-at-freeze") or ""}
    assert guestinfo.scripts(recorded) == job.digest()
    assert guestinfo.is_recorded_by(recorded, "run-nonce")
    identity = runner.Identity(LOGGING, "clock,random", "networkd")
    assert guestinfo.identity_script(recorded) == identity.digest()
    others = [
        replace(identity, script=LOGGING + "#"),
        replace(identity, items="clock"),
        replace(identity, network="none"),
        replace(identity, items="clock,random\0networkd", network=""),
    ]
    assert len({other.digest() for other in (identity, *others)}) == 5
    assert guestinfo.identity_script({guestinfo.SCRIPTS: f"{job.digest()} run-nonce"}) is None


def test_packed_identity_script() -> None:
    job = with_identity(**ORDER)
    files = posix.files(job, LINUX, "run-nonce", FREEZE, KEYS)
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode("".join(posix.pack(files))))) as archive:
        packed = archive.extractfile("identity")
        assert packed is not None
        assert packed.read() == LOGGING.encode()
