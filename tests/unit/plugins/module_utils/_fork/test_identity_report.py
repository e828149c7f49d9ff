# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest may report about its identity, and what counts as renewed."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis.strategies import text

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity_report
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import spec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.identity_report import ITEMS, Report, Wanted
from ansible_collections.vmfork.vsphere.plugins.modules import vmfork_child, vmfork_quiesce

NONCE = "0123456789abcdef"
DIGEST = "ab" * 32
SEEN = identity_report.Seen


def encoded(value: str | bytes) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def blob(*parts: bytes) -> str:
    return encoded(b"".join(len(part).to_bytes(4, "big") + part for part in parts))


def ed25519(byte: int = 1) -> str:
    return f"ssh-ed25519 {blob(b'ssh-ed25519', bytes([byte]) * 32)}"


def rsa(bits: int = 2048, exponent: bytes = b"\1\0\1") -> str:
    return f"ssh-rsa {blob(b'ssh-rsa', exponent, bytes([0, *[255] * (bits // 8)]))}"


def ecdsa(bits: int, curve: bytes = b"") -> str:
    size = (bits + 7) // 8 * 2
    kind = f"ecdsa-sha2-nistp{bits}"
    return f"{kind} {blob(kind.encode(), curve or b'nistp%d' % bits, bytes([4, *[7] * size]))}"


def written(items: str = "clock=ok", machine_id: str = DIGEST, keys: str = "-", why: str = "-") -> str:
    return f"{NONCE} 1 items:{items} machine_id:{machine_id} keys:{keys} why:{why}"


def with_keys(*lines: str) -> str:
    return written(keys=encoded("\n".join(lines)))


VALID = [ed25519(), rsa(1024), rsa(2048), rsa(4096), rsa(16384), ecdsa(256), ecdsa(384), ecdsa(521)]


def test_complete_report() -> None:
    why = encoded("agents: none\nnetwork: no lease:\x1b[31m ever\n")
    seen = identity_report.parse(
        written("clock=ok,agents=absent,network=failed", DIGEST, encoded("\n".join(VALID)), why), NONCE
    )
    assert seen == SEEN(
        True,
        Report(
            items={"clock": "ok", "agents": "absent", "network": "failed"},
            reasons={"agents": "none", "network": r"no lease:\x1b[31m ever"},
            machine_id=DIGEST,
            ssh_host_keys=tuple(VALID),
        ),
    )
    assert seen.report is not None
    assert identity_report.parse(seen.report.text(NONCE), NONCE) == seen, "it is recorded in the same form"


def test_report_of_a_parent() -> None:
    seen = identity_report.parse("parent 1 items:- machine_id:- keys:- why:-", "parent")
    assert seen == SEEN(True, Report())
    assert seen.report is not None
    assert identity_report.parse(seen.report.text("parent"), "parent") == seen


REAL = """\
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP3ODIREelheQtdpSFgGzA95Kl2JpAZJQ+cGNMqN7jhg root@golden
ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBOiZ3B11X+Um3DS3lSJj5vKXJJ5vsRHe7qkyUpoqdeDc/\
ZZbNFEdt6omgdvk7FrVM1yBImv5Md3lCuizqLWHSf0= root@golden
ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQCm3sfhAlaELMBEKGXaQq0qi09leW9WvcwqTCOnL3qQcdIVwD6Q11ZAJ1f3pM6nehEsKU7sGHUMrhzqEYx\
dP5EKoyIGfOMt3OVEjxXq0zAhp+Y86LhTy/lK4sbIn2Ve15YJuO3UK8bANWgeotcJ+1K495gFshwICD/p5a9fx/1tuw== a comment of words
"""


def test_real_keys_are_accepted_without_their_comments() -> None:
    for line in REAL.splitlines():
        assert identity_report.public_key(line) == " ".join(line.split()[:2])


@pytest.mark.parametrize("nonce", [None, "", "other", NONCE[:-1], NONCE + "0", "parent"])
def test_report_of_another_child_does_not_count(nonce: str | None) -> None:
    assert identity_report.parse(written(), nonce) == SEEN()


@pytest.mark.parametrize("missing", ["", " ", "\n", "1 items:-"])
def test_missing_report(missing: str) -> None:
    assert identity_report.parse(missing, NONCE) == SEEN()


KEY = blob(b"ssh-ed25519", b"\1" * 32)
HOSTILE_KEYS = {
    "marker": f"@cert-authority * {ed25519()}",
    "revoked": f"@revoked {ed25519()}",
    "host pattern": f"* {ed25519()}",
    "hosts": f"web-01,192.0.2.1 {ed25519()}",
    "options": f'command="x" {ed25519()}',
    "comment line": "# nothing",
    "empty line": "",
    "type alone": "ssh-ed25519",
    "two spaces": ed25519().replace(" ", "  "),
    "leading space": f" {ed25519()}",
    "tab": ed25519().replace(" ", "\t"),
    "carriage return": f"{ed25519()}\r",
    "NUL": f"{ed25519()}\0",
    "escape in the comment": f"{ed25519()} \x1b[2J",
    "foreign letters": f"{ed25519()} größe",
    "security key": f"sk-ssh-ed25519@openssh.com {blob(b'sk-ssh-ed25519@openssh.com', bytes(32), b'ssh:')}",
    "certificate": f"ssh-ed25519-cert-v01@openssh.com {blob(b'ssh-ed25519-cert-v01@openssh.com', bytes(32))}",
    "DSA": f"ssh-dss {blob(b'ssh-dss', b'p', b'q')}",
    "other type inside": f"ssh-rsa {KEY}",
    "other type outside": f"ssh-ed25519 {blob(b'ssh-rsa', bytes(32))}",
    "upper case": f"SSH-ED25519 {KEY}",
    "short": f"ssh-ed25519 {blob(b'ssh-ed25519', bytes(31))}",
    "more after it": f"ssh-ed25519 {blob(b'ssh-ed25519', bytes(32), b'')}",
    "length beyond the end": f"ssh-ed25519 {encoded(base64.b64decode(KEY)[:15] + bytes([255] * 36))}",
    "cut length": f"ssh-ed25519 {encoded(base64.b64decode(KEY) + bytes(2))}",
    "no base64": "ssh-ed25519 !!!!",
    "base64 with a dash": f"ssh-ed25519 {KEY[:-4]}----",
    "without padding": f"ssh-rsa {rsa(2048).split()[1].rstrip('=')[:-1]}",
    "other ending": f"ssh-ed25519 {KEY}====",
    "empty": "ssh-ed25519 ",
    "small RSA": rsa(512),
    "huge RSA": rsa(32768),
    "RSA without exponent": rsa(2048, b""),
    "other curve": ecdsa(256, b"nistp384"),
    "point of another curve": f"ecdsa-sha2-nistp256 {blob(b'ecdsa-sha2-nistp256', b'nistp256', bytes(97))}",
    "unknown curve": ecdsa(192),
}


@pytest.mark.parametrize("name", HOSTILE_KEYS)
def test_hostile_key(name: str) -> None:
    """Neither a line of known_hosts that means more than a key, nor a text that is no key, and nothing beside it."""
    assert identity_report.public_key(HOSTILE_KEYS[name]) is None
    assert identity_report.parse(with_keys(HOSTILE_KEYS[name]), NONCE) == SEEN(True, None)
    assert identity_report.parse(with_keys(ed25519(), HOSTILE_KEYS[name], ed25519()), NONCE) == SEEN(True, None)


HOSTILE = {
    "nonce alone": NONCE,
    "other version": written().replace(" 1 ", " 2 "),
    "no version": written().replace(" 1 ", " "),
    "more words": written() + " more",
    "fewer words": written().rpartition(" ")[0],
    "other order": f"{NONCE} 1 machine_id:- items:- keys:- why:-",
    "other name": written().replace("why:", "because:"),
    "no name": written().replace("why:", ""),
    "item twice": written("clock=ok,clock=failed"),
    "unknown status": written("clock=fine"),
    "status in capitals": written("clock=OK"),
    "no status": written("clock"),
    "no item": written("=ok"),
    "nothing between commas": written("clock=ok,,random=ok"),
    "comma at the end": written("clock=ok,"),
    "empty items": written(""),
    "item in capitals": written("Clock=ok"),
    "item with a path": written("../x=ok"),
    "item with markup": written("{{x}}=ok"),
    "long item": written("x" * 33 + "=ok"),
    "many items": written(",".join(f"i{number}=ok" for number in range(33))),
    "short digest": written(machine_id=DIGEST[:-1]),
    "digest in capitals": written(machine_id=DIGEST.upper()),
    "digest of other letters": written(machine_id="xy" * 32),
    "digits of another script": written(machine_id="٣" * 64),
    "empty digest": written(machine_id=""),
    "keys without base64": written(keys="ssh-ed25519"),
    "empty keys": written(keys=""),
    "key of NULs": written(keys=encoded(bytes(100))),
    "key that is not text": written(keys=encoded(b"\xff\xfe")),
    "many keys": with_keys(*(ed25519(number) for number in range(17))),
    "reasons without base64": written(why="clock:slow"),
    "many reasons": written(why=encoded("clock: x\n" * 65)),
    "long": written(why=encoded("x" * 30000)),
    "white space without end": written() + " " * 40000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_report(name: str) -> None:
    seen = identity_report.parse(HOSTILE[name], NONCE)
    assert seen == SEEN(True, None)
    for requested in (None, Wanted()):
        assert identity_report.objection(requested, seen, None) == "its guest wrote an unreadable report"


def test_limits() -> None:
    most = with_keys(*(ed25519(number) for number in range(16)))
    assert identity_report.parse(most, NONCE).report is not None
    items = ",".join(f"i{number}=ok" for number in range(32))
    assert identity_report.parse(written(items), NONCE).report is not None
    padded = written() + " " * (identity_report.LONGEST_REPORT - len(written()))
    assert identity_report.parse(padded, NONCE).report is not None
    assert identity_report.parse(padded + " ", NONCE).report is None


def test_reasons_are_harmless_texts_of_items() -> None:
    lines = ["clock: " + "x" * 1000, "coffee: cold", "no colon", "agents: \u202egnp.exe", "random:", "clock: again"]
    seen = identity_report.parse(written("clock=failed,agents=absent,random=ok", why=encoded("\n".join(lines))), NONCE)
    assert seen.report is not None
    assert seen.report.reasons == {"clock": "x" * 200, "agents": r"\u202egnp.exe"}


ACCEPTED = re.compile("(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,2}")


@given(text(), text())
def test_any_text(garbage: str, more: str) -> None:
    for part in (garbage, f"{VALID[0]}{garbage}", f"{garbage}{VALID[0]}", f"{garbage} {VALID[0]} {more}"):
        key = identity_report.public_key(part)
        assert key is None or ACCEPTED.fullmatch(key)
        seen = identity_report.parse(with_keys(part), NONCE)
        assert seen.report is None or all(map(ACCEPTED.fullmatch, seen.report.ssh_host_keys))
    for part in (garbage, f"{NONCE} {garbage}", written(garbage), written(why=encoded(f"clock: {garbage}"))):
        seen = identity_report.parse(part, NONCE)
        assert seen.report is None or set(seen.report.items.values()) <= {"ok", "absent", "failed"}


# --- what counts as renewed -------------------------------------------------------------------------------------------


def report(missing: str = "", **changes: Any) -> Report:
    given = dict.fromkeys(ITEMS, "ok")
    given.pop(missing, None)
    fields = {"items": given, "machine_id": DIGEST, "ssh_host_keys": (ed25519(),), "reasons": {}, **changes}
    fields["items"] = {**given, **changes.get("items", {})}
    return Report(**fields)


OTHER = report(machine_id="cd" * 32, ssh_host_keys=(ed25519(2),))


@pytest.mark.parametrize("requested", [None, Wanted(), Wanted(("clock",)), Wanted(ITEMS)])
def test_renewed_identity(requested: Wanted | None) -> None:
    assert identity_report.objection(requested, SEEN(True, report()), OTHER) is None
    assert identity_report.objection(requested, SEEN(True, report()), None) is None


@pytest.mark.parametrize(
    ("requested", "seen", "why"),
    [
        (Wanted(), SEEN(), "its guest has not reported it"),
        (Wanted(("clock",)), SEEN(), "its guest has not reported it"),
        *[(Wanted(), SEEN(True, report(missing=item)), f"{item} was not reported") for item in ITEMS],
        (Wanted(("clock", "agents")), SEEN(True, report(missing="agents")), "agents was not reported"),
        (None, SEEN(True, report(items={"clock": "failed"})), "clock failed"),
        (Wanted(("random",)), SEEN(True, report(items={"clock": "failed"})), "clock failed"),
        (
            Wanted(),
            SEEN(True, report(items={"clock": "failed", "agents": "failed"}, reasons={"agents": "no x"})),
            "clock failed; agents failed (no x)",
        ),
        (Wanted(("agents",)), SEEN(True, report(items={"agents": "absent"})), "agents is not in its guest"),
        (Wanted(("auto", "cloud_init")), SEEN(True, report()), "cloud_init was not reported"),
        (
            Wanted(("auto", "cloud_init")),
            SEEN(True, report("clock", items={"cloud_init": "absent"})),
            "cloud_init is not in its guest; clock was not reported",
        ),
        (None, SEEN(True, report(machine_id=None)), "machine_id was reported as renewed, but not shown"),
        (Wanted(), SEEN(True, report(ssh_host_keys=())), "ssh_host_keys was reported as renewed, but not shown"),
        (None, SEEN(True, report(machine_id=OTHER.machine_id)), "it has the machine ID of its parent"),
        (
            Wanted(),
            SEEN(True, report(ssh_host_keys=(ed25519(3), ed25519(2)))),
            "it has the SSH host key (ssh-ed25519) of its parent",
        ),
        # Whatever the report says about the item.
        (
            Wanted(),
            SEEN(True, report(items={"machine_id": "absent"}, machine_id=OTHER.machine_id)),
            "it has the machine ID of its parent",
        ),
        (
            None,
            SEEN(True, report(items={"ssh_host_keys": "absent"}, ssh_host_keys=(ed25519(2),))),
            "it has the SSH host key (ssh-ed25519) of its parent",
        ),
        (
            Wanted(),
            SEEN(True, report(items={"machine_id": "failed"}, machine_id=OTHER.machine_id)),
            "machine_id failed; it has the machine ID of its parent",
        ),
    ],
)
def test_identity_that_does_not_count(requested: Wanted | None, seen: identity_report.Seen, why: str) -> None:
    assert identity_report.objection(requested, seen, OTHER) == why


@pytest.mark.parametrize(
    ("requested", "seen"),
    [
        (None, SEEN()),
        (Wanted(), SEEN(True, report(items={"agents": "absent"}))),
        (Wanted(("clock",)), SEEN(True, report(items={"agents": "absent"}))),
        (Wanted(("auto", "cloud_init")), SEEN(True, report(items={"agents": "absent", "cloud_init": "ok"}))),
        # What was not renewed is the parent's.
        (
            Wanted(("clock",)),
            SEEN(True, Report({"clock": "ok"}, machine_id=OTHER.machine_id, ssh_host_keys=OTHER.ssh_host_keys)),
        ),
        (
            Wanted(),
            SEEN(
                True,
                report(items={"ssh_host_keys": "absent", "machine_id": "absent"}, ssh_host_keys=(), machine_id=None),
            ),
        ),
    ],
)
def test_identity_that_counts(requested: Wanted | None, seen: identity_report.Seen) -> None:
    assert identity_report.objection(requested, seen, OTHER) is None


def test_duplicates() -> None:
    reports = {
        "web-01": report(),
        "web-02": report(ssh_host_keys=(ed25519(5),)),
        "web-03": report(machine_id="ef" * 32, ssh_host_keys=(rsa(), ed25519(5))),
        "web-04": OTHER,
        "kept": Report({"clock": "ok"}, machine_id=OTHER.machine_id),
        "absent": Report({"ssh_host_keys": "absent"}, ssh_host_keys=(rsa(),)),
    }
    assert identity_report.duplicates(reports) == {
        "web-01": "it has the same machine ID as web-02",
        "web-02": "it has the same machine ID as web-01; it has the same SSH host key (ssh-ed25519) as web-03",
        "web-03": "it has the same SSH host key (ssh-rsa) as absent; "
        "it has the same SSH host key (ssh-ed25519) as web-02",
        "web-04": "it has the same machine ID as kept",
        "absent": "it has the same SSH host key (ssh-rsa) as web-03",
    }
    many = identity_report.duplicates({f"web-{number}": report() for number in range(9)})
    assert "machine ID as web-1, web-2, web-3 and 5 more" in many["web-0"]


# --- options ----------------------------------------------------------------------------------------------------------


def option(**given: Any) -> dict[str, Any]:
    return {"items": ["auto"], "network": "auto", "agents_remove": None, "agents_restart": None, **given}


def test_option() -> None:
    assert identity_report.wanted(None) is None
    auto = identity_report.wanted(option())
    assert (auto, auto and auto.text) == (Wanted(), "auto")
    made = identity_report.wanted(
        option(items=["random", "clock", "random"], network="none", agents_remove=None, agents_restart=[])
    )
    assert (made, made and made.text) == (Wanted(("clock", "random"), "none"), "clock,random")


@pytest.mark.parametrize(
    ("given", "text", "has_clock"),
    [
        (["cloud_init", "auto"], "auto,cloud_init", True),
        (["cloud_init", "clock"], "clock,cloud_init", True),
        (["cloud_init"], "cloud_init", False),
    ],
)
def test_item_on_request(given: list[str], text: str, has_clock: bool) -> None:
    made = identity_report.wanted(option(items=given))
    assert made is not None
    assert (made.text, made.has("clock"), made.has("cloud_init")) == (text, has_clock, True)
    assert not Wanted().has("cloud_init")


WINDOWS_TOO_GENERAL = (
    r"C:\*\*",
    r"C:\Windows\*",
    r"c:\windows\System32\config",
    r"C:\W?ndows\x",
    r"C:\WINDOW~1\x",
    r"C:\ProgramData\*",
    r"C:\ProgramData\agent\*",
    r"C:\Windows.\x\y",
    r"C:\agent\*",
    r"C:\agent\..\x",
    r"C:\ProgramData\ag*\id",
    r"C:\PROGRA~1\edr",
    r"C:\PROGRA~1\*\id",
    r"C:\Program?Files\*",
    r"C:\Program?Files\edr",
    r"C:\Program?Files?(x86)\edr*\id",
    r"C:\Users\*\id",
    r"C:\a*\id",
    r"C:\a[b]\id",
    r"C:\?????\id\x",
    r"C:\Boot\x",
    r"C:\$Recycle.Bin\x",
    r"C:\System?Volume?Information\x",
)


@pytest.mark.parametrize("path", [*WINDOWS_TOO_GENERAL])
def test_general_paths_are_refused_with_the_sentence_for_linux(path: str) -> None:
    with pytest.raises(_errors.BadInput, match=r"with two components .* before any wildcard"):
        identity_report.wanted(option(agents_remove=[path]))


@pytest.mark.parametrize(
    "path",
    [
        r"C:\ProgramData\agent\id",
        r"C:\ProgramData\agent\data\*",
        r"C:\ProgramData\some?agent\some?data\id*",
        r"C:\Program?Files\edr\host-id",
        r"C:\Program?Files?(x86)\some?agent\data\*.id",
        r"C:\Users\agent\id",
        r"d:\agent\id",
        r"d:\agent\data\*.id",
    ],
)
def test_paths_of_windows_agents(path: str) -> None:
    made = identity_report.wanted(option(agents_remove=[path]))
    assert made is not None
    assert made.agents_remove == (path,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"items": ["auto", "clock"]},
        {"items": ["auto", "clock", "cloud_init"]},
        {"items": ["coffee"]},
        {"items": ["clock,random"]},
        *[
            {"agents_remove": [path]}
            for path in (
                "etc/x",
                "/",
                "/etc",
                "/*",
                "//x",
                "/etc/",
                "/./x",
                "/etc/../x",
                "/etc/a b",
                "/x\ny",
                "",
                "/x\0",
                *WINDOWS_TOO_GENERAL,
            )
        ],
        *[{"agents_restart": [name]} for name in ("-H", "a b", "", "x;y", "x/y", "ü", "x" * 256)],
        {"items": ["clock"], "agents_remove": ["/etc/x"]},
    ],
)
def test_option_that_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(_errors.BadInput):
        identity_report.wanted(option(**wrong))


def test_each_child_gets_its_own_entropy() -> None:
    params = {**dict.fromkeys(spec.PER_CHILD), "children": None, "name": ["a", "b"], "identity": option()}
    first, second = spec.parse(params)
    assert first.entropy != second.entropy
    assert [len(base64.b64decode(child.entropy or "")) for child in (first, second)] == [64, 64]
    assert str(first.entropy) not in repr(first)
    [without] = spec.parse({**params, "name": ["a"], "identity": option(items=["clock"])})
    assert (without.entropy, without.secrets) == (None, {})
    assert (without.clock_params(12.9), first.clock_params(12.9)) == ({"vmfork.clock": "12"}, {"vmfork.clock": "12"})
    [timeless] = spec.parse({**params, "name": ["a"], "identity": option(items=["random"])})
    assert (timeless.clock_params(12.9), set(timeless.secrets)) == ({}, {"vmfork.entropy"})
    [plain] = spec.parse({**params, "name": ["a"], "identity": None})
    assert (plain.identity_params, plain.secrets, plain.clock_params(12.9)) == ({}, {}, {})


# --- what must agree --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("documentation", [vmfork_child.DOCUMENTATION, vmfork_quiesce.DOCUMENTATION])
def test_items_and_networks_are_documented(documentation: str) -> None:
    options = yaml.safe_load(documentation)["options"]
    its = options["identity"]["suboptions"] if "identity" in options else options
    prefix = "" if "identity" in options else "identity_"
    listed = re.findall(r"V\((\w+)\)", " ".join(its[f"{prefix}items"]["description"]))
    assert tuple(name for name in dict.fromkeys(listed) if name != "auto") == (*ITEMS, *identity_report.ON_REQUEST)
    assert tuple(its[f"{prefix}network"]["choices"]) == identity_report.NETWORKS
