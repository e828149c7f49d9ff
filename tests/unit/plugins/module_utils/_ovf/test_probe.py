# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest probe: the Linux command in a real shell, the text of the Windows script, and every fault."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyVmomi import vim, vmodl
from unit.examples import examples

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _http
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import operations
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.families import LINUX, WINDOWS
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import document, probe
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import GuestView
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import Mask

MOID = "vm-42"
SHELLS = [shell for shell in ("/bin/sh", "/bin/dash", "/bin/bash", "/bin/busybox") if Path(shell).exists()]

XML = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" '
    'xmlns:oe="http://schemas.dmtf.org/ovf/environment/1" xmlns:ve="http://www.vmware.com/schema/ovfenv" oe:id=""{}>'
    '<PropertySection><Property oe:key="note" oe:value="it\'s $HOME `id` vCenterId=&quot;vm-9&quot;"/>'
    "</PropertySection></Environment>"
)
PREFIXED = (
    '<ovfenv:Environment xmlns:ovfenv="http://schemas.dmtf.org/ovf/environment/1" '
    'xmlns:ve="http://www.vmware.com/schema/ovfenv" ve:vCenterId="vm-42"/>'
)
OWN, OTHER, NO_OWNER = (XML.format(owner) for owner in (' ve:vCenterId="vm-42"', ' ve:vCenterId="vm-4"', ""))

# The files next to it decide: a value for standard output, or a text for standard error and an exit code.
TOOL = r"""#!/bin/sh
here=${0%/*}; name=${0##*/}
echo "$name $*" >>"$here/asked"
[ -e "$here/$name.value" ] && { cat "$here/$name.value"; echo; exit 0; }
cat "$here/$name.says" >&2
exit "$(cat "$here/$name.code")"
"""


class Guest:
    """A directory that contains the tools."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.family = replace(LINUX, directories=(str(root / "nothing"), str(root)))

    def install(self, tool: str, value: str | None = None, says: str = "No value found", code: int = 1) -> None:
        (self.root / tool).write_text(TOOL)
        (self.root / tool).chmod(0o755)
        if value is not None:
            (self.root / f"{tool}.value").write_text(value)
        (self.root / f"{tool}.says").write_text(says)
        (self.root / f"{tool}.code").write_text(str(code))

    def run(self, shell: str = "/bin/sh", into: str | None = None, become: str = "none") -> GuestView:
        line = probe.command_line(self.family, MOID, become, into)
        words = [shell, "sh"] if shell.endswith("busybox") else [shell]
        ended = subprocess.run(
            [*words, *shlex.split(line)],
            env={"PATH": f"{self.root / 'bin'}:/usr/bin:/bin", "HOME": "/", "become": "false", "tell": "yes"},
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert (ended.stdout, ended.stderr) == (b"", b""), "nothing but the exit code may come out"
        return probe.read_code(self.family, ended.returncode)

    @property
    def asked(self) -> list[str]:
        return (self.root / "asked").read_text().splitlines()


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("value", "state", "owner"),
    [
        pytest.param(OWN, "xml", "own", id="own"),
        pytest.param(OTHER, "xml", "other", id="other"),
        pytest.param(NO_OWNER, "xml", "none", id="none"),
        pytest.param(OWN.replace('"vm-42"', "'vm-42'"), "xml", "own", id="single quotes"),
        pytest.param(OWN.replace("vm-42", ""), "xml", "none", id="empty ID"),
        pytest.param(OWN.replace("vm-42", "vm-421"), "xml", "other", id="longer ID"),
        pytest.param("\n \t" + OWN, "xml", "own", id="white space before"),
        pytest.param("\ufeff" + OWN, "xml", "own", id="byte order mark"),
        pytest.param("\ufeff\n \t" + OWN, "xml", "own", id="byte order mark, then white space"),
        pytest.param(" \ufeff\ufeff\n" + OWN, "xml", "own", id="byte order marks between white space"),
        pytest.param("\ufeff \n", "cleared", None, id="nothing but a byte order mark"),
        pytest.param("\ufeff NULL\n", "cleared", None, id="NULL between others"),
        pytest.param(OWN.replace('"vm-42"', ' = "vm-42"').replace("= =", "="), "xml", "own", id="white space at ID"),
        pytest.param(
            OWN.replace("<Property ", '<Property oe:key="m" oe:value="a & b"/><Property ', 1),
            "xml",
            "own",
            id="malformed",
        ),
        pytest.param(OWN[OWN.index("<Env") :], "xml", "own", id="no declaration"),
        pytest.param(PREFIXED, "xml", "own", id="prefix"),
        pytest.param(OWN[:300], "xml", None, id="truncated"),
        pytest.param(OWN.replace("</Environment>", "</Env>"), "xml", None, id="no end tag"),
        pytest.param(OWN.replace("</Environment>", "</Environment\n>"), "xml", "own", id="white space in the end tag"),
        pytest.param(
            f'<!-- vCenterId="vm-42" -->{NO_OWNER[NO_OWNER.index("<Env") :]}', "xml", "none", id="ID in a comment"
        ),
        pytest.param("<!-- PropertySection -->" + OWN[OWN.index("<Env") :], "xml", "own", id="comment"),
        pytest.param(
            NO_OWNER.replace("oe:id", "oe:note='vCenterId=\"vm-42\"' oe:id"), "xml", "none", id="ID in a value"
        ),
        pytest.param(OWN.replace("ve:vCenterId", "ve:myvCenterId"), "xml", "none", id="longer attribute"),
        pytest.param(OWN.replace(" ve:vC", ' ve:a="x>y" ve:vC'), "xml", "own", id="bracket in an attribute"),
        pytest.param(OWN.replace(" ve:vC", ' ve:a="x & y" ve:vC'), "xml", None, id="no entity"),
        pytest.param(OWN.replace(" ve:vC", ' ve:a="x<y" ve:vC'), "xml", None, id="other bracket in an attribute"),
        pytest.param(OWN.replace(" ve:vC", ' oe:vCenterId="vm-42" ve:vC'), "xml", "none", id="ID with two prefixes"),
        pytest.param(OWN.replace(" ve:vC", ' ve:vCenterId="vm-42" ve:vC'), "xml", None, id="ID twice"),
        pytest.param(OWN.replace(" ve:vC", "ve:vC"), "xml", None, id="no space between attributes"),
        pytest.param(OWN.replace("schema/ovfenv", "schema/other"), "xml", "none", id="ID in a foreign namespace"),
        pytest.param(OWN.replace("xmlns:ve", "xmlns:vx"), "xml", None, id="ID with an unknown prefix"),
        pytest.param(OWN.replace("environment/1", "environment/2"), "xml", None, id="foreign root element"),
        pytest.param(OWN.replace('"vm-42"', "vm-42"), "xml", None, id="no quotes"),
        pytest.param(OWN.replace('"vm-42"', '" "'), "xml", "other", id="blank ID"),
        pytest.param("<!DOCTYPE a>" + OWN[OWN.index("<Env") :], "non_xml", None, id="document type"),
        pytest.param('<html title="Environment"/>', "non_xml", None, id="the word in other markup"),
        pytest.param("\v" + OWN, "non_xml", None, id="white space that XML does not have"),
        pytest.param("NULL", "cleared", None, id="NULL"),
        pytest.param(" ", "cleared", None, id="blank"),
        pytest.param("", "cleared", None, id="empty"),
        pytest.param("hello", "non_xml", None, id="text"),
        pytest.param("<html/>", "non_xml", None, id="other markup"),
        pytest.param("No value found", "non_xml", None, id="the text as a value"),
        pytest.param("-n $(id) `id` %s \\n * 'x' \"y\"", "non_xml", None, id="shell characters"),
        pytest.param(XML.format("") + "x" * 300_000, "xml", "none", id="long"),
    ],
)
def test_document(guest: Guest, shell: str, value: str, state: str, owner: str | None) -> None:
    guest.install("vmware-rpctool", value)
    view = guest.run(shell)
    assert (view.state, view.bears_id, view.tool) == (state, owner, "vmware-rpctool")
    assert guest.asked == ["vmware-rpctool info-get guestinfo.ovfEnv"]
    if state == "xml":
        assert owner == bearer(document.parse(value)), "guest_probe=full says the same"


def bearer(found: document.Document) -> str | None:
    """Return whose ID a document contains; ``None`` if it cannot be read to its end."""
    return None if found.parse_error else {MOID: "own", None: "none"}.get(found.vcenter_id, "other")


BLANKS = st.text("\ufeff \t\r\n\v\f", max_size=3)
ATTRIBUTES = st.sampled_from(
    [
        *(
            've:vCenterId="vm-42"',
            "ve:vCenterId='vm-42'",
            'vCenterId="vm-42"',
            've:vCenterId = "vm-4"',
            've:vCenterId=""',
        ),
        *(
            'oe:id=""',
            'oe:id="vCenterId"',
            "oe:note='vCenterId=\"vm-42\"'",
            've:vCenterIdX="vm-42"',
            'z:vCenterId="vm-42"',
        ),
        *(
            'xmlns:z="urn:z"',
            'oe:a="a & b"',
            'oe:a="a&amp;b"',
            'oe:a="<"',
            'oe:a="/>"',
            "oe:a=b",
            "oe:a",
            "=",
            "/",
            ">",
        ),
    ]
)
PROLOGS = st.sampled_from(
    [
        "",
        '<?xml version="1.0" encoding="UTF-16"?>',
        '<!-- vCenterId="vm-42" -->',
        "<?x PropertySection?>",
        "<!-- ",
        "<a/>",
    ]
)
NAMES = st.sampled_from(
    ["Environment", "oe:Environment", "ve:Environment", "x:Environment", "EnvironmentX", "Property"]
)
SPACES = st.sampled_from(["", document.NAMESPACE, f"{document.NAMESPACE}/", "http://www.vmware.com/schema/ovfenv"])


@given(
    BLANKS, st.lists(PROLOGS, max_size=3), st.tuples(NAMES, NAMES), SPACES, st.lists(ATTRIBUTES, max_size=4), BLANKS,
    st.sampled_from([0, 1, 5, 20, 60, 200]),
)  # fmt: skip
@examples(100)
def test_both_methods_agree_on_a_document_malformed_outside_its_properties(
    guest_of_all: Guest, before: str, prologs: list[str], names: tuple[str, str], space: str, attributes: list[str],
    after: str, cut: int,
) -> None:  # fmt: skip
    """Blanks, prologs, names, namespaces, attributes, and where it is cut off."""
    declared = f'xmlns="{space}" xmlns:oe="{document.NAMESPACE}" xmlns:ve="{document.VMWARE_NAMESPACE}"'
    start = " ".join([names[0], *attributes[:2], declared, *attributes[2:]])
    content = '<PropertySection><Property oe:key="a" oe:value="b & c"/></PropertySection>'
    text = f"{before}{''.join(prologs)}<{start}{after}>{content}</{names[1]}>{after}"
    guest_of_all.install("vmware-rpctool", text[: len(text) - cut])
    view = guest_of_all.run(into=str(guest_of_all.root / "files"))
    found = document.parse((guest_of_all.root / "files" / "document").read_bytes())
    if view.state == "xml":
        assert view.bears_id == bearer(found)
    else:
        assert found.parse_error


@pytest.fixture(scope="module")
def guest_of_all(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    root = tmp_path_factory.mktemp("guest")
    (root / "files").mkdir()
    return Guest(root)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("rpctool", "vmtoolsd", "state", "tool"),
    [
        pytest.param({}, None, "no_value", "vmware-rpctool", id="no value"),
        pytest.param(None, {}, "no_value", "vmtoolsd", id="no value, the other tool"),
        pytest.param(None, None, "tool_missing", None, id="no tool"),
        pytest.param({}, {"value": OWN}, "no_value", "vmware-rpctool", id="no value is an answer"),
        pytest.param({"says": "Permission denied"}, {"value": OWN}, "xml", "vmtoolsd", id="denied to one"),
        pytest.param({"says": "Permission denied"}, {}, "no_value", "vmtoolsd", id="denied to one, no value"),
        pytest.param(*[{"says": "Permission denied"}] * 2, "permission_denied", "vmtoolsd", id="denied"),
        pytest.param({"says": "Permission denied"}, None, "permission_denied", "vmware-rpctool", id="denied alone"),
        pytest.param(
            {"says": "Permission denied"}, {"says": "oh"}, "permission_denied", "vmtoolsd", id="denied, failed"
        ),
        pytest.param(
            {"says": "oh"}, {"says": "Permission denied"}, "permission_denied", "vmtoolsd", id="failed, denied"
        ),
        pytest.param({"says": "", "code": 255}, {"value": "NULL"}, "cleared", "vmtoolsd", id="one fails"),
        pytest.param({"says": "not in a VMware VM", "code": 255}, None, "error", "vmware-rpctool", id="fails"),
        pytest.param({"says": "Permission denied", "code": 126}, None, "error", "vmware-rpctool", id="cannot be run"),
    ],
)
def test_messages_of_the_tools(
    guest: Guest, shell: str, rpctool: Any, vmtoolsd: Any, state: str, tool: str | None
) -> None:
    for name, answer in (("vmware-rpctool", rpctool), ("vmtoolsd", vmtoolsd)):
        if answer is not None:
            guest.install(name, **answer)
    view = guest.run(shell)
    assert (view.state, view.tool) == (state, tool)


def test_vmtoolsd_is_called_with_its_option(guest: Guest) -> None:
    guest.install("vmtoolsd", OWN)
    assert guest.run().bears_id == "own"
    assert guest.asked == ["vmtoolsd --cmd info-get guestinfo.ovfEnv"]


@pytest.mark.parametrize(("value", "name"), [(OWN, "document"), (" NULL ", "document"), (None, "stderr")])
def test_files(guest: Guest, tmp_path: Path, value: str | None, name: str) -> None:
    into = tmp_path / "it's here"
    into.mkdir()
    guest.install("vmware-rpctool", value)
    guest.run(into=str(into))
    contents = {path.name: path.read_text() for path in into.iterdir()}
    assert contents == {"document": "", "stderr": "", name: "No value found" if value is None else value}
    assert {path.stat().st_mode & 0o777 for path in into.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("uid", "sudo", "state"),
    [
        pytest.param("1000", 'shift; echo as-root >"$0.ran"; exec "$@"', "xml", id="sudo"),
        pytest.param("0", 'shift; echo as-root >"$0.ran"; exec "$@"', "xml", id="root already"),
        pytest.param("1000", 'echo "a password is required" >&2; exit 1', "error", id="refused"),
    ],
)
def test_sudo(guest: Guest, tmp_path: Path, uid: str, sudo: str, state: str) -> None:
    (tmp_path / "bin").mkdir()
    into = tmp_path / "files"
    into.mkdir()
    for name, text in (("id", f"echo {uid}"), ("sudo", f'[ "$1" = -n ] || exit 9; {sudo}')):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    guest.install("vmware-rpctool", OWN)
    assert guest.run(into=str(into), become="sudo").state == state
    assert (tmp_path / "bin" / "sudo.ran").exists() == (state == "xml" and uid != "0")
    assert into.joinpath("document").stat().st_uid == os.getuid()


def test_exit_codes_are_unique_and_not_used_by_shells() -> None:
    codes = [code + more for code in probe.CODES.values() for more in (0, probe.TOOL_CODES)]
    assert len(set(codes)) == len(codes)
    assert all(2 < code < 126 for code in codes)
    assert {probe.read_code(LINUX, code).exit_code for code in codes} == set(codes)
    assert probe.read_code(WINDOWS, probe.CODES["own"] + probe.TOOL_CODES).tool == "vmtoolsd"
    assert [probe.read_code(LINUX, code).state for code in (0, 1, 2, 126, 127, 255)] == ["error"] * 6


# --- Windows --------------------------------------------------------------------------------------------------------


def windows_script(into: str | None = None) -> str:
    line = probe.command_line(WINDOWS, MOID, "sudo", into)
    assert len(line) < 32_000, "longer than Windows takes"
    *options, word, encoded = line.split(" ")
    assert options == ["-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass"]
    assert word == "-EncodedCommand"
    return base64.b64decode(encoded, validate=True).decode("utf-16-le")


def test_windows_script_has_the_same_words_and_codes() -> None:
    script = windows_script()
    for name, code in probe.CODES.items():
        assert f"${name} = {code}\n" in script
        assert script.count(f"${name}") > 1, f"nothing ends with {name}"
    for word in ("'vm-42'", "'rpctool.exe'", "'vmtoolsd.exe'", "'--cmd'", "'info-get guestinfo.ovfEnv'"):
        assert word in script
    assert r"'C:\Program Files\VMware\VMware Tools'" in script
    assert "$into = ''" in script
    assert set(re.findall(r"\$([a-z_]+)\b", script)) <= {
        *probe.CODES,
        *("id", "command", "first", "second", "flag", "into", "more", "directories", "outcome", "add", "said"),
        *("tool", "directory", "program", "words", "text", "name", "false", "null", "_"),
        *("tag", "xml", "root", "prefix", "given", "bearers", "at", "key", "space", "schema", "vmware", "end", "value"),
    }


def test_windows_script_distinguishes_attributes_that_differ_by_case_only() -> None:
    """Unlike XML, a hash table of PowerShell ignores the case of its keys."""
    script = windows_script()
    assert "@{" not in script
    assert "$given = New-Object Collections.Hashtable ([StringComparer]::Ordinal);" in script


def test_windows_script_quotes_its_parameters() -> None:
    assert "$into = 'C:\\it''s $here'\n" in windows_script("C:\\it's $here")


# --- faults ----------------------------------------------------------------------------------------------

LOGIN = GuestLogin("jane", "secret")
UNREACHABLE = _http.Unreachable("Could not download: ESXi host esx-1 port 443 cannot be reached.")


class FakeGuest:
    """Guest operations with given results: exceptions are raised, anything else is returned."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {"make_directory": "/tmp/vmfork.x", "start": 7, "await_exit": probe.CODES["own"], **answers}
        self.calls: list[str] = []
        self.is_cleaning = False
        self.clean_ups: list[str] = []
        """Calls that may be made after the end of the time."""

    @contextlib.contextmanager
    def clean_up(self) -> Iterator[None]:
        before, self.is_cleaning = self.is_cleaning, True
        yield
        self.is_cleaning = before

    def __getattr__(self, name: str) -> Any:
        def call(*_arguments: Any) -> Any:
            self.calls.append(name)
            if self.is_cleaning:
                self.clean_ups.append(name)
            answer = self.answers.get(name)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call


def look(
    monkeypatch: pytest.MonkeyPatch, guest: FakeGuest, method: str, login: GuestLogin = LOGIN, **values: Any
) -> GuestView:
    known = {"guest.toolsRunningStatus": "guestToolsRunning", **values}
    monkeypatch.setattr(operations, "Guest", lambda *_args, **_kw: guest)
    vm = vim.VirtualMachine(MOID)
    return probe.look(None, Deadline(5), vm, "web-03", login, method, known)


@pytest.mark.parametrize("method", ["exit_code", "full"])
@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (_errors.GuestLoginFailed("The guest refused the login of jane."), "login_failed"),
        (_errors.TimedOut("The guest's agent did not answer within 60 seconds."), "ops_not_ready"),
        (_errors.ConnectionLost("The connection broke."), "error"),
        (_errors.GuestFailed("The VM is powered off."), "error"),
        *[
            (_errors.failure("Could not start a program", fault), state)
            for fault, state in [
                (vim.fault.NoPermission(privilegeId="VirtualMachine.GuestOperations.Execute"), "no_permission"),
                (vim.fault.OperationDisabledByGuest(), "ops_not_ready"),
                (vim.fault.OperationNotSupportedByGuest(), "ops_not_ready"),
                (vim.fault.GuestComponentsOutOfDate(), "ops_not_ready"),
                (vim.fault.GuestPermissionDenied(), "error"),
                (vim.fault.InvalidPowerState(), "error"),
                (vim.fault.TaskInProgress(), "error"),
                (vim.fault.FileNotFound(file="/bin/sh"), "tool_missing"),
                (vim.fault.CannotAccessFile(file="/bin/sh"), "tool_missing"),
                (vmodl.fault.SystemError(), "error"),
            ]
        ],
        (_errors.Fault(vmodl.fault.ManagedObjectNotFound(), "vcenter"), "error"),
    ],
)
def test_fault_becomes_a_state(monkeypatch: pytest.MonkeyPatch, fault: Exception, state: str, method: str) -> None:
    view = look(monkeypatch, FakeGuest(start=fault), method)
    assert (view.state, view.method) == (state, method)
    assert view.error
    assert view.error.endswith(".")


@pytest.mark.parametrize(
    "fault", [_errors.LoginFailed("vCenter refused the login."), _errors.ConnectionFailed("Ended twice.")]
)
def test_fault_of_vcenter_itself_is_raised(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    with pytest.raises(type(fault)):
        look(monkeypatch, FakeGuest(start=fault), "exit_code")


def test_guest_that_cannot_be_probed_gets_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = FakeGuest()
    stopped = look(monkeypatch, guest, "full", LOGIN, **{"guest.toolsRunningStatus": "guestToolsNotRunning"})
    assert (stopped.state, guest.calls) == ("tools_not_running", [])


def test_program_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = FakeGuest(await_exit=_errors.TimedOut("It did not end within 60 seconds."))
    view = look(monkeypatch, guest, "full")
    assert (view.state, view.error) == ("error", "It did not end within 60 seconds.")
    assert guest.calls[-2:] == guest.clean_ups == ["terminate", "remove_directory"]


def test_signal_leaves_nothing_in_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = FakeGuest(await_exit=_errors.Interrupted("The module received SIGTERM."))
    with pytest.raises(_errors.Interrupted):
        look(monkeypatch, guest, "full")
    assert guest.calls[-2:] == guest.clean_ups == ["terminate", "remove_directory"]


def test_full(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = FakeGuest(download=OWN.encode())
    view = look(monkeypatch, guest, "full")
    assert (view.state, view.method, view.text, view.error) == ("xml", "full", OWN, None)
    assert view.document is not None
    assert view.document.vcenter_id == MOID
    assert guest.calls == ["make_directory", "start", "await_exit", "download", "remove_directory"]
    assert "note" not in repr(view)
    no_value = look(monkeypatch, FakeGuest(download=b"No value found\n", await_exit=probe.CODES["no_value"]), "full")
    assert (no_value.state, no_value.stderr, no_value.text) == ("no_value", "No value found", "")


@pytest.mark.parametrize(
    "fault",
    [
        UNREACHABLE,
        _http.Untrusted("Another certificate."),
        _errors.OperationFailed("Could not download: it is longer than 4194304 bytes."),
    ],
)
def test_exit_code_is_used_if_the_host_is_unreachable(monkeypatch: pytest.MonkeyPatch, fault: _errors.Error) -> None:
    guest = FakeGuest(download=fault)
    view = look(monkeypatch, guest, "full")
    assert (view.state, view.method, view.bears_id, view.document) == ("xml", "exit_code", "own", None)
    assert view.error == fault.sentence
    assert guest.calls[-1] == "remove_directory"


def test_fault_of_the_transfer_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, the host's certificate may not be read."""
    guest = FakeGuest(download=_errors.Fault(vim.fault.NoPermission(privilegeId="System.Read"), "vcenter"))
    view = look(monkeypatch, guest, "full")
    assert (view.state, view.method, view.bears_id) == ("xml", "exit_code", "own")
    assert re.fullmatch(
        "Could not probe the guest of VM .*: the user lacks the privilege System.Read on .*", view.error
    )


def test_exit_code_is_used_without_write_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = FakeGuest(make_directory=_errors.failure("Could not create a directory", vim.fault.NoPermission()))
    view = look(monkeypatch, guest, "full")
    assert (view.state, view.method, view.bears_id) == ("xml", "exit_code", "own")
    assert view.error
    assert guest.calls == ["make_directory", "start", "await_exit"]


def test_remaining_files_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    view = look(monkeypatch, FakeGuest(download=OWN.encode(), remove_directory=UNREACHABLE), "full")
    assert view.document is not None
    assert view.error == "Remove the directory /tmp/vmfork.x in the guest: it may contain the OVF environment."


def test_refused_sudo_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    view = look(monkeypatch, FakeGuest(await_exit=1), "exit_code", replace(LOGIN, become="sudo"))
    assert view.state == "error"
    assert "exit code 1, which happens if jane may not use sudo without a password" in (view.error or "")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("No value found", "No value found"),
        ("Permission denied\r\n", "Permission denied"),
        ("Failed sending message to VMware.", "Failed sending message to VMware."),
        ("bash: warning: pw=hunter2\n\n No value found", "********\n\n No value found"),
        (OWN, "\n".join(["********"] * len(OWN.strip().splitlines()))),
        ("", ""),
    ],
)
def test_output_of_a_failed_tool_is_shown_if_it_is_known(
    monkeypatch: pytest.MonkeyPatch, message: str, shown: str
) -> None:
    """A wrapper may print the document and fail."""
    view = look(monkeypatch, FakeGuest(download=message.encode(), await_exit=probe.CODES["failed"]), "full")
    assert view.state == "error"
    for level in ("password", "sensitive", "all"):
        assert probe.facts(view, MOID, Mask(level))["stderr"] == shown
    assert probe.facts(view, MOID, Mask("none"))["stderr"] == message.strip()
    assert not message or message not in repr(view)


def test_facts_always_have_the_same_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = probe.facts(look(monkeypatch, FakeGuest(download=OWN.encode()), "full"), MOID, Mask())
    assert shown["document"]["moref_matches"]
    assert set(shown) == set(probe.facts(GuestView(), MOID, Mask()))
