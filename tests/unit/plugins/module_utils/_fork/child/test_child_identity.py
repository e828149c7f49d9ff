# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transitions of a child whose identity must be renewed: it fails in any other case."""

from __future__ import annotations

import base64
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import vim

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, identity_report
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import executor, result, transitions
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.networks import Network
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.transitions import (
    Child,
    Created,
    PropertyUpdate,
    Request,
    Step,
    Succeeded,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.instant_clone import InstantCloneEngine
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.vmfork import VmforkEngine
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.identity_report import ITEMS, Report, Wanted

NO_SESSION: Any = None
ENGINES = [VmforkEngine(NO_SESSION), InstantCloneEngine(NO_SESSION)]
VM = object()
ENTROPY = base64.b64encode(b"e" * 64).decode()
MAC = "00:50:56:00:00:02"
CONNECTED = vim.vm.device.VirtualDevice.ConnectInfo
CARD = vim.vm.device.VirtualVmxnet3(key=4000, macAddress=MAC, connectable=CONNECTED(connected=True))
OFF_LINE = vim.vm.device.VirtualVmxnet3(key=4000, macAddress=MAC, connectable=CONNECTED(connected=False))
ADDRESS = {
    "config.hardware.device": [CARD],
    "guest.net": [SimpleNamespace(macAddress=MAC, ipAddress=["192.0.2.2"], deviceConfigId=4000)],
}


def key(byte: int) -> str:
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes([byte]) * 32
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


RENEWED = Report(dict.fromkeys(ITEMS, "ok"), machine_id="ab" * 32, ssh_host_keys=(key(1),))
PARENTS = Report(machine_id="cd" * 32, ssh_host_keys=(key(2),))


def extra(keys: dict[str, str]) -> list[Any]:
    return [SimpleNamespace(key=key, value=value) for key, value in keys.items()]


def parent(**keys: str) -> dict[str, Any]:
    scripts = {guestinfo.SCRIPTS: "digest nonce identity=digest", guestinfo.IDENTITY: PARENTS.text("parent")}
    return {"config.instanceUuid": "parent-uuid", "config.extraConfig": extra({**scripts, **keys})}


def goal(engine: Any, wait_for: str = "post_clone", **keys: str) -> transitions.Goal:
    return transitions.Goal(wait_for, parent(**keys), engine)


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Any:
    return request.param


EVERYTHING = Wanted()


def wanted(requested: Wanted | None = EVERYTHING, **given: Any) -> ChildSpec:
    entropy = ENTROPY if requested is not None and requested.has("random") else None
    return ChildSpec("web-01", identity=requested, entropy=entropy, **given)


def update(child: Child, keys: dict[str, str]) -> PropertyUpdate:
    values = {
        "name": "web-01",
        "config.uuid": child.bios_uuid or "child-uuid",
        "runtime.powerState": "poweredOn",
        "config.extraConfig": extra(keys),
        **ADDRESS,
    }
    if child.spec.networks:
        values["config.hardware.device"] = [OFF_LINE]
    return PropertyUpdate(values)


def keys_of(child: Child, identity: str | None, code: int = 0, output: str = "") -> dict[str, str]:
    """Return what a child shows after its scripts."""
    encoded = base64.b64encode(output.encode()).decode()
    its = {
        guestinfo.POST_CLONE: f"{child.nonce} {code} {encoded}",
        guestinfo.CHILD_NONCE: str(child.nonce),
        **child.record,
    }
    return its if identity is None else {**its, guestinfo.IDENTITY: identity}


def running(engine: Any, spec: ChildSpec) -> Child:
    """Return a child that runs, and has not reported yet."""
    child, request = transitions.begin(spec, goal(engine))
    assert request is Request.CREATE
    child, request = transitions.advance(child, Created(VM))
    child, request = transitions.advance(child, update(child, child.record if child.bios_uuid else {}))
    while request is not None:
        child, request = transitions.advance(child, Succeeded())
    assert child.step is Step.RUNNING
    return child


def ended(child: Child, identity: str | None, code: int = 0, output: str = "") -> tuple[Child, list[Request | None]]:
    """Return a child after its report, and the requests after it."""
    requests: list[Request | None] = []
    child, request = transitions.advance(child, update(child, keys_of(child, identity, code, output)))
    while request is not None:
        requests.append(request)
        child, request = transitions.advance(child, Succeeded())
    return child, requests


def test_renewed_identity_is_accepted_and_recorded(engine: Any) -> None:
    """The record and the removal of the entropy are one request."""
    child, requests = ended(running(engine, wanted()), RENEWED.text("NONCE"))
    assert child.error, "the nonce is another"
    before = running(engine, wanted())
    child, requests = ended(before, RENEWED.text(str(before.nonce)))
    assert (child.step, child.error, requests) == (Step.DONE, None, [Request.CLEAR])
    assert child.note[guestinfo.ACCEPTED] == RENEWED.text(str(child.nonce))
    assert set(child.without_secrets) == {"guestinfo.fork.vmfork.entropy"}
    shown = result.Result("web-01", result.State.CREATED, child=child).as_dict()["identity"]
    assert shown == RENEWED.as_dict(True)
    assert shown["ssh_host_keys"] == [key(1)]


def test_without_entropy_the_record_is_the_note_of_the_end(engine: Any) -> None:
    child = running(engine, wanted(Wanted(("machine_id",))))
    child, requests = ended(child, RENEWED.text(str(child.nonce)))
    assert (child.error, requests) == (None, [Request.NOTE])


@pytest.mark.parametrize("requested", [None, Wanted(), Wanted(("clock", "agents"))])
def test_params(engine: Any, requested: Wanted | None) -> None:
    spec = wanted(requested, config_params={"hostname": "web-01"})
    child, _request = transitions.begin(spec, goal(engine))
    placement: Any = SimpleNamespace(location=lambda _: {}, device_changes=lambda _: [])
    params = executor.creation(child, placement).params
    own = {name: value for name, value in params.items() if name.startswith("vmfork.")}
    assert own.pop("vmfork.nonce") == child.nonce
    if requested is None:
        assert own == {}
        return
    assert int(own.pop("vmfork.clock")) > 1_700_000_000
    items = {"vmfork.identity": requested.text, "vmfork.network": "auto"}
    secret = {"vmfork.entropy": ENTROPY, "vmfork.secrets": "guestinfo.fork.vmfork.entropy"}
    assert own == {**items, **(secret if requested.has("random") else {})}
    assert child.shown_params == {"hostname": "web-01"}
    assert ENTROPY not in repr(child)


def test_agents_are_params() -> None:
    spec = wanted(Wanted(agents_remove=("/etc/a", "/b/*"), agents_restart=("x", "y")))
    assert spec.identity_params["vmfork.agents_remove"] == "/etc/a /b/*"
    assert spec.identity_params["vmfork.agents_restart"] == "x y"


def without(item: str) -> Report:
    return replace(RENEWED, items={name: "ok" for name in ITEMS if name != item})


def status(item: str, text: str, **reasons: str) -> Report:
    return replace(RENEWED, items={**RENEWED.items, item: text}, reasons=reasons)


UNCONFIRMED: dict[str, tuple[Any, Any, str]] = {
    "missing": (Wanted(), None, "its guest has not reported it"),
    "parent's": (Wanted(), PARENTS.text("parent"), "its guest has not reported it"),
    "another child's": (Wanted(), RENEWED.text("other"), "its guest has not reported it"),
    "blank": (Wanted(), " ", "its guest has not reported it"),
    "malformed": (Wanted(), "NONCE 1 items:clock=ok", "its guest wrote an unreadable report"),
    "malformed, not required": (None, "NONCE 1 items:clock=ok", "its guest wrote an unreadable report"),
    "item missing": (Wanted(), without("leases"), "leases was not reported"),
    "named item missing": (Wanted(("leases",)), without("leases"), "leases was not reported"),
    "item failed": (Wanted(), status("leases", "failed", leases="busy"), "leases failed (busy)"),
    "item failed, not required": (None, status("leases", "failed"), "leases failed"),
    "named item absent": (Wanted(("agents",)), status("agents", "absent"), "agents is not in its guest"),
    "machine ID of the parent": (Wanted(), replace(RENEWED, machine_id="cd" * 32), "the machine ID of its parent"),
    "key of the parent": (None, replace(RENEWED, ssh_host_keys=(key(1), key(2))), "the SSH host key (ssh-ed25519)"),
    "no key": (Wanted(), replace(RENEWED, ssh_host_keys=()), "ssh_host_keys was reported as renewed, but not shown"),
}


def text_of(identity: Any, child: Child) -> str | None:
    if isinstance(identity, Report):
        return identity.text(str(child.nonce))
    return identity and str(identity).replace("NONCE", str(child.nonce))


@pytest.mark.parametrize("name", UNCONFIRMED)
def test_child_fails_unless_its_identity_is_confirmed(engine: Any, name: str) -> None:
    """Its adapters stay disconnected, nothing is recorded as accepted, and a later task fails, too."""
    requested, identity, why = UNCONFIRMED[name]
    networks = (Network(1, connect="after_post_clone"),)
    before = running(engine, wanted(requested, networks=networks))
    child, requests = ended(before, text_of(identity, before))
    assert child.step is Step.FAILED
    assert f"The identity of child web-01 was not renewed: {why}" in str(child.error) or why in str(child.error)
    assert Request.CONNECT not in requests
    assert guestinfo.ACCEPTED not in child.note
    shown = result.Result("web-01", result.State.FAILED, child=child).as_dict()["identity"]
    assert shown is None or shown["renewed"] is False
    again, _request = transitions.resume(child.spec, child.goal, VM, child.values)
    assert why in str(again.error)


@pytest.mark.parametrize("identity", [None, RENEWED, status("agents", "absent"), without("clock")])
def test_child_without_a_requirement(engine: Any, identity: Any) -> None:
    before = running(engine, wanted(None))
    child, requests = ended(before, text_of(identity, before))
    assert (child.step, child.error) == (Step.DONE, None)
    assert (guestinfo.ACCEPTED in child.note) is (identity is not None)
    if identity is None:
        assert requests == ([Request.NOTE] if engine.starts_children else [])


LEASES = status("leases", "failed", leases="busy")
IDENTITY_FAILED = "The identity script failed in child web-01: exit code"
AGAIN = "Correct the cause, remove the child (state=absent) and create it again."


@pytest.mark.parametrize(
    ("identity", "code", "output", "start"),
    [
        (LEASES, 90, "leases: failed: busy", f"{IDENTITY_FAILED} 90, leases failed (busy). {AGAIN}"),
        (None, 90, "", f"{IDENTITY_FAILED} 90. {AGAIN}"),
        (None, 2, "some\nno such device\n", f"{IDENTITY_FAILED} 2, output: no such device. {AGAIN}"),
        (
            RENEWED,
            90,
            "clock: no hwclock\nnetwork: failed: networkd did not start\n\n",
            f"{IDENTITY_FAILED} 90, output: network: failed: networkd did not start. {AGAIN}",
        ),
        (
            RENEWED,
            3,
            "no such host",
            "The post-clone script failed in child web-01: exit code 3, output: no such host. ",
        ),
    ],
)
def test_script_that_failed_is_named(engine: Any, identity: Any, code: int, output: str, start: str) -> None:
    before = running(engine, wanted())
    child, _requests = ended(before, text_of(identity, before), code, output)
    assert str(child.error).startswith(start)
    assert "state=absent" in str(child.error)
    assert ("To change the script" in str(child.error)) is (code == 3)


@pytest.mark.parametrize("requested", [None, EVERYTHING])
@pytest.mark.parametrize(("code", "is_renewed"), [(0, True), (3, True), (90, False)])
def test_identity_counts_only_if_its_script_succeeded(
    engine: Any, requested: Wanted | None, code: int, is_renewed: bool
) -> None:
    """The post-clone script runs only after it, so the identity stays valid if that one fails."""
    before = running(engine, wanted(requested))
    child, _requests = ended(before, RENEWED.text(str(before.nonce)), code)
    assert (guestinfo.ACCEPTED in child.note) is is_renewed
    shown = result.Result("web-01", result.State.FAILED, child=child).as_dict()["identity"]
    assert shown["renewed"] is is_renewed
    again, _request = transitions.resume(child.spec, child.goal, VM, child.values)
    assert (guestinfo.ACCEPTED in again.note) is is_renewed


def test_exit_code_90_of_a_parent_without_an_identity_script(engine: Any) -> None:
    child = replace(running(engine, wanted()), goal=goal(engine, **{guestinfo.SCRIPTS: "digest nonce"}))
    failed, _requests = ended(child, None, 90)
    assert str(failed.error).startswith("The post-clone script failed")


def test_remedy_if_the_parent_has_no_identity_script(engine: Any) -> None:
    child = running(engine, wanted())
    child = replace(child, goal=goal(engine, **{guestinfo.SCRIPTS: "digest nonce"}))
    failed, _requests = ended(child, None)
    assert "Quiesce the parent with identity_script" in str(failed.error)
    assert "Quiesce the parent" not in str(ended(running(engine, wanted()), None)[0].error)
    assert str(ended(child, None, 3)[0].error).startswith("The post-clone script failed")


SHORT = replace(RENEWED, items={"clock": "ok"})
UNPROVED = "its parent has not reported an identity that it can be compared with"


@pytest.mark.parametrize("lost", ["", " ", "parent 1 items:-", RENEWED.text("other")])
@pytest.mark.parametrize("requested", [None, EVERYTHING])
def test_parent_whose_report_is_lost(engine: Any, requested: Wanted | None, lost: str) -> None:
    """Its identity script has reported it before the fork point, so a child may have the same."""
    before = replace(running(engine, wanted(requested)), goal=goal(engine, **{guestinfo.IDENTITY: lost}))
    child, _requests = ended(before, RENEWED.text(str(before.nonce)))
    assert str(child.error) == (
        f"The identity of child web-01 was not renewed: {UNPROVED}. Power off the parent, quiesce it again, remove the "
        "child (state=absent) and create it again."
    )
    assert guestinfo.ACCEPTED not in child.note
    accepted = {**keys_of(before, lost), guestinfo.ACCEPTED: RENEWED.text(str(before.nonce))}
    again, _request = transitions.resume(child.spec, child.goal, VM, update(before, accepted).values or {})
    assert again.error is None, "it was compared when it was accepted"


def test_parent_without_a_report(engine: Any) -> None:
    """It has no identity script, or the child shows nothing that must differ."""
    plain = goal(engine, **{guestinfo.SCRIPTS: "digest nonce", guestinfo.IDENTITY: ""})
    before = replace(running(engine, wanted()), goal=plain)
    assert ended(before, RENEWED.text(str(before.nonce)))[0].error is None
    before = replace(running(engine, wanted(None)), goal=goal(engine, **{guestinfo.IDENTITY: ""}))
    assert ended(before, SHORT.text(str(before.nonce)))[0].error is None


def test_secrets_are_masked_in_reasons(engine: Any) -> None:
    before = running(engine, wanted(secret_config_params={"token": "kept-out-of-sight"}))
    reason = f"{ENTROPY[:40]}{ENTROPY[40:]} kept-out-of-sight"
    child, _requests = ended(before, text_of(status("random", "failed", random=reason), before), 90)
    shown = str(result.Result("web-01", result.State.FAILED, child=child).as_dict()) + str(child.error)
    assert "random failed" in shown
    assert ENTROPY not in shown
    assert "kept-out-of-sight" not in shown


# --- later tasks ------------------------------------------------------------------------------------------------------


def later(engine: Any, keys: dict[str, str], spec: ChildSpec | None = None, state: str = "poweredOn") -> Any:
    """Return the first transition of a later task, with what a finished child shows changed by these keys."""
    before = running(engine, wanted())
    its = {**keys_of(before, RENEWED.text(str(before.nonce))), **before.note}
    its = {key: value.replace("NONCE", str(before.nonce)) for key, value in {**its, **keys}.items()}
    values = {**(update(before, its).values or {}), "runtime.powerState": state}
    return transitions.resume(spec or wanted(), before.goal, VM, values)


FORGED = replace(RENEWED, ssh_host_keys=(key(9),))


def test_accepted_identity_cannot_be_changed_by_the_guest(engine: Any) -> None:
    child, request = later(
        engine, {guestinfo.ACCEPTED: RENEWED.text("NONCE"), guestinfo.IDENTITY: FORGED.text("NONCE")}
    )
    assert child.error is None
    assert child.own_identity.report == RENEWED
    assert "reports another identity than the one that was accepted" in child.warnings[0]
    assert guestinfo.ACCEPTED not in child.note
    assert request in (None, Request.NOTE)


@pytest.mark.parametrize("lost", ["", " "])
def test_accepted_identity_remains_without_guestinfo(engine: Any, lost: str) -> None:
    child, _request = later(engine, {guestinfo.ACCEPTED: RENEWED.text("NONCE"), guestinfo.IDENTITY: lost})
    assert child.error is None
    assert child.own_identity == identity_report.Seen(True, RENEWED, True)
    assert child.warnings == ()
    rejected, _request = later(engine, {guestinfo.IDENTITY: lost})
    assert "its guest has not reported it" in str(rejected.error)


@pytest.mark.parametrize("reported", ["", RENEWED.text("NONCE")])
@pytest.mark.parametrize("requested", [None, EVERYTHING])
def test_refused_identity_stays_refused(engine: Any, requested: Wanted | None, reported: str) -> None:
    refused = {**guestinfo.refusal("NONCE"), guestinfo.IDENTITY: reported}
    child, request = later(engine, refused, wanted(requested))
    assert "an earlier task found that another child has its machine ID or SSH host key" in str(child.error)
    assert "state=absent" in str(child.error)
    assert guestinfo.ACCEPTED not in child.note
    assert request in (None, Request.NOTE)
    assert later(engine, guestinfo.refusal("other"), wanted(requested))[0].error is None, "a clone inherits the record"


def test_record_of_another_vm_does_not_count(engine: Any) -> None:
    """A clone inherits the record."""
    child, _request = later(engine, {guestinfo.ACCEPTED: FORGED.text("other"), guestinfo.IDENTITY: ""})
    assert "its guest has not reported it" in str(child.error)


def test_accepted_identity_is_judged_by_the_task(engine: Any) -> None:
    accepted = {guestinfo.ACCEPTED: status("agents", "absent").text("NONCE")}
    assert later(engine, accepted)[0].error is None
    child, _request = later(engine, accepted, wanted(Wanted(("agents",))))
    assert "agents is not in its guest" in str(child.error)


def test_entropy_is_only_removed_from_an_existing_child_that_shows_it(engine: Any) -> None:
    entropy = {f"guestinfo.fork.{guestinfo.ENTROPY_PARAM}": ENTROPY}
    accepted = {guestinfo.ACCEPTED: RENEWED.text("NONCE"), guestinfo.DONE: "NONCE 0"}
    assert later(engine, accepted)[1] is None
    assert later(engine, accepted)[0].warnings == (), "it reports the same"
    assert later(engine, {**accepted, **entropy})[1] is Request.CLEAR


def test_child_that_forks_again_gets_new_entropy_and_loses_its_record() -> None:
    """It is not powered on before vCenter shows that the record is gone: the next identity is another one."""
    accepted = {guestinfo.ACCEPTED: RENEWED.text("NONCE"), guestinfo.POST_CLONE: "NONCE 0 "}
    entropy = f"guestinfo.fork.{guestinfo.ENTROPY_PARAM}"
    given = {guestinfo.CHILD_SECRETS: entropy, entropy: ""}
    child, request = later(ENGINES[0], {**accepted, **given}, state="poweredOff")
    assert request is Request.FORGET
    assert child.preparation == {guestinfo.POST_CLONE: "", guestinfo.ACCEPTED: "", entropy: ENTROPY}
    prepared = executor._prepared(child)
    assert int(prepared.pop("guestinfo.fork.vmfork.clock")) > 1_700_000_000
    assert prepared == child.preparation
    child, request = transitions.advance(child, Succeeded())
    assert request is None
    shown = {item.key: item.value for item in child.values["config.extraConfig"]}
    half = {**shown, guestinfo.POST_CLONE: "", entropy: ENTROPY}
    off = {"runtime.powerState": "poweredOff"}
    child, request = transitions.advance(child, PropertyUpdate({"config.extraConfig": extra(half), **off}))
    assert request is None
    gone = {**half, guestinfo.ACCEPTED: ""}
    child, request = transitions.advance(child, PropertyUpdate({"config.extraConfig": extra(gone), **off}))
    assert request is Request.POWER_ON


def test_persistent_child_keeps_its_record() -> None:
    accepted = {guestinfo.ACCEPTED: RENEWED.text("NONCE"), guestinfo.DONE: "NONCE 0"}
    child, request = later(ENGINES[1], accepted, state="poweredOff")
    assert (request, child.preparation) == (Request.POWER_ON, {})


def test_adapters_are_connected_after_the_identity_is_confirmed(engine: Any) -> None:
    child = running(engine, wanted(networks=(Network(1, connect="after_post_clone"),)))
    child, request = transitions.advance(child, update(child, keys_of(child, RENEWED.text(str(child.nonce)))))
    assert request is Request.CONNECT


def test_clashing_children() -> None:
    before = running(ENGINES[1], wanted())
    child, _requests = ended(before, RENEWED.text(str(before.nonce)))
    failed = transitions.clashing(child, "it has the same machine ID as web-02")
    assert failed.step is Step.FAILED
    assert failed.error == (
        "The identity of child web-01 was not renewed: it has the same machine ID as web-02. Correct the cause, remove "
        "the child (state=absent) and create it again."
    )
    shown = result.Result("web-01", result.State.FAILED, child=failed).as_dict()["identity"]
    assert shown["renewed"] is False
