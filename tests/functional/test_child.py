# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmfork_child: children are created, found again and removed."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest
from functional.engines import CHANGING, both_engines, either_engine, every_transport, vmfork_only
from functional.vcenter import POST_CLONE, VCenter

pytestmark = both_engines

SECRET = "kept-out-of-sight-0123456789"
ADVANCED_CONFIG = "VirtualMachine.Config.AdvancedConfig"


def children(*names: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "config_params": {"ipaddress": f"192.0.2.{number + 11}"}} for number, name in enumerate(names)
    ]


def states(result: dict[str, Any]) -> dict[str, str]:
    return {child["name"]: child["state"] for child in result["children"]}


@every_transport
def test_check_run_run_again(quiesced: VCenter) -> None:
    given = {"parent_name": quiesced.parent, "children": children("web-01", "web-02")}
    with quiesced.calls() as calls:
        checked = quiesced.ok("vmfork_child", check=True, diff=True, **given)
    assert not CHANGING & set(calls)
    done = quiesced.ok("vmfork_child", diff=True, **given)
    with quiesced.calls() as calls:
        again = quiesced.ok("vmfork_child", **given)
    assert not CHANGING & set(calls)
    assert [result["changed"] for result in (checked, done, again)] == [True, True, False]
    assert (done["parent"]["api"], done["parent"]["enabled"]) == (quiesced.engine.api, quiesced.engine.enabled)
    assert states(checked) == states(done) == {"web-01": "created", "web-02": "created"}
    assert states(again) == {"web-01": "existing", "web-02": "existing"}
    assert set(checked) == set(done)
    assert {frozenset(child) for result in (checked, done, again) for child in result["children"]} == {
        frozenset(done["children"][0])
    }
    for result in (checked, done):
        assert result["diff"]["before"] == {"web-01": "absent", "web-02": "absent"}
        assert result["diff"]["after"] == {"web-01": "poweredOn", "web-02": "poweredOn"}
    for number, name in enumerate(("web-01", "web-02")):
        child = done.child(name)
        assert child["ip_addresses"] == [f"192.0.2.{number + 11}"]
        assert child["guest_hostname"] == name
        assert child["post_clone"] == {"done": True, "exit_code": 0, "output": ""}
        assert child["folder"] == "/DC0/vm"
        assert child["child_type"] == quiesced.engine.child_type
        assert child["survives_power_off"] is quiesced.engine.starts_running
        seen = quiesced.in_guest(child["moid"], "hostname; ip -o -4 addr show eth0; cat /root/pre-quiesce-ran; ls /tmp")
        assert seen.split()[0] == name
        assert f"192.0.2.{number + 11}/24" in seen
        assert seen.count("once") == 1
        assert "vmfork." not in seen
    assert done.child("web-01")["mac_addresses"] != done.child("web-02")["mac_addresses"]


def test_config_params_of_a_child_that_exists(quiesced: VCenter) -> None:
    """They are those it was created with, not those the task gives it."""
    made = quiesced.fork("web-01", config_params={"role": "db"}, secret_config_params={"token": SECRET})
    again = quiesced.fork("web-01", config_params={"role": "web"}, secret_config_params={"token": SECRET})
    assert again["changed"] is False
    assert again.child("web-01")["config_params"] == made.child("web-01")["config_params"]
    assert made.child("web-01")["config_params"]["role"] == "db"


def test_two_more_names_create_two_more_children(quiesced: VCenter) -> None:
    quiesced.fork("web-01", "web-02")
    with quiesced.calls() as calls:
        result = quiesced.fork("web-01", "web-02", "web-03", "web-04")
    assert calls[quiesced.engine.create] == 2
    assert result["summary"]["created"] == 2
    assert result["summary"]["existing"] == 2


@every_transport
def test_absent_check_run_run_again(quiesced: VCenter) -> None:
    quiesced.fork("web-01", "web-02", "web-03")
    given = {"parent_name": quiesced.parent, "state": "absent", "children": [{"name": "web-01"}, {"name": "web-02"}]}
    with quiesced.calls() as calls:
        checked = quiesced.ok("vmfork_child", check=True, diff=True, **given)
    assert not CHANGING & set(calls)
    done = quiesced.ok("vmfork_child", diff=True, **given)
    again = quiesced.ok("vmfork_child", **given)
    assert [result["changed"] for result in (checked, done, again)] == [True, True, False]
    assert states(checked) == states(done) == {"web-01": "removed", "web-02": "removed"}
    assert states(again) == {"web-01": "absent", "web-02": "absent"}
    assert done["diff"]["before"] == {"web-01": "poweredOn", "web-02": "poweredOn"}
    assert done["diff"]["after"] == {"web-01": "absent", "web-02": "absent"}
    assert quiesced.exists("/DC0/vm/web-03")
    assert not quiesced.exists("/DC0/vm/web-01")


def test_absent_all(quiesced: VCenter) -> None:
    quiesced.fork("web-01", "web-02")
    given = {"parent_name": quiesced.parent, "state": "absent", "all": True}
    assert states(quiesced.ok("vmfork_child", check=True, **given)) == {"web-01": "removed", "web-02": "removed"}
    assert states(quiesced.ok("vmfork_child", **given)) == {"web-01": "removed", "web-02": "removed"}
    assert quiesced.ok("vmfork_child", **given)["changed"] is False
    assert quiesced.exists(f"/DC0/vm/{quiesced.parent}")


def test_empty_list_does_nothing(quiesced: VCenter) -> None:
    for state in ("present", "absent"):
        result = quiesced.ok("vmfork_child", parent_name=quiesced.parent, children=[], state=state)
        assert result["changed"] is False
        assert "there is nothing to do" in result.raw


@every_transport
def test_placement(quiesced: VCenter) -> None:
    quiesced.control("POST", "inventory", {"folders": ["/DC0/vm/web"]})
    result = quiesced.fork("web-01", folder="web", datastore="LocalDS_0", resource_pool="/DC0/host/DC0_H0/Resources")
    child = result.child("web-01")
    assert (child["folder"], child["datastore"]) == ("/DC0/vm/web", "LocalDS_0")
    assert quiesced.fork("web-01", folder="/DC0/vm/web")["changed"] is False
    for option in ("folder", "datastore", "resource_pool"):
        refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, name="web-02", **{option: "nowhere"})
        assert "nowhere was not found" in refusal.msg


def test_bios_uuid(quiesced: VCenter) -> None:
    wanted = "4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11"
    assert quiesced.fork("web-01", bios_uuid=wanted).child("web-01")["uuid"] == wanted
    assert quiesced.fork("web-01", bios_uuid=wanted)["changed"] is False


def test_shipped_scripts_set_the_host_name_to_the_vm_name(vcenter: VCenter) -> None:
    vcenter.enable()
    files = Path(__file__).parents[2] / "playbooks" / "files"
    scripts = {f"{step}_script": (files / f"linux_{step}.sh").read_text() for step in ("pre_quiesce", "post_clone")}
    vcenter.quiesce(**scripts)
    names = {
        "web-01.example.com": "web-01\nweb-01.example.com\n127.0.1.1 web-01.example.com web-01\n",
        "web_02": "web-02\nweb-02\n127.0.1.1 web-02\n",
    }
    done = vcenter.fork(*names)
    command = "hostname; hostname --fqdn; grep ^127.0.1.1 /etc/hosts"
    assert {child["name"]: vcenter.in_guest(child["moid"], command) for child in done["children"]} == names


@vmfork_only("every instant clone is persistent, and needs no snapshot", mob=True)
def test_persistent(quiesced: VCenter) -> None:
    given = {"parent_name": quiesced.parent, "name": "web-01", "persistent": True}
    checked = quiesced.ok("vmfork_child", check=True, **given)
    assert checked["changed"]
    assert f"VM {quiesced.parent} has no snapshot" in str(checked["warnings"])
    refusal = quiesced.fails("vmfork_child", **given)
    assert "Could not create child web-01" in refusal.msg
    assert "needs a parent with a snapshot. Take one" in refusal.msg
    assert refusal["changed"] is False


@vmfork_only("instant clones have no fork group", mob=True)
@pytest.mark.parametrize("group", ["kept", "removed"])
def test_persistent_child_is_found_again(vcenter: VCenter, group: str) -> None:
    vcenter.rule("persistent_child_group", group)
    vcenter.govc("snapshot.create", "-vm", vcenter.parent, "base")
    vcenter.enable()
    vcenter.quiesce()
    checked = vcenter.ok("vmfork_child", parent_name=vcenter.parent, name="web-01", persistent=True, check=True)
    assert "no snapshot" not in checked.raw
    child = vcenter.fork("web-01", persistent=True).child("web-01")
    assert (child["child_type"], child["survives_power_off"]) == ("none", True)
    assert vcenter.fork("web-01", persistent=True)["changed"] is False
    listed = vcenter.ok("vmfork_info", name=vcenter.parent)["parents"][0]["children"]
    assert [child["name"] for child in listed] == ["web-01"]
    assert vcenter.ok("vmfork_child", parent_name=vcenter.parent, state="absent", all=True)["summary"]["removed"] == 1


# --- after a power cycle ----------------------------------------------------------------------------------------------

AGAIN = ["cleared", "kept"]
"""The state of guestinfo after a power cycle."""


def power_cycle(vcenter: VCenter, *states: str) -> None:
    for state in states or ("off", "on"):
        vcenter.govc("vm.power", f"-{state}", "web-01")


@pytest.fixture
def persistent(vcenter: VCenter) -> VCenter:
    """Return a parent that can have persistent children."""
    vcenter.govc("snapshot.create", "-vm", vcenter.parent, "base")
    vcenter.enable()
    return vcenter


@pytest.mark.parametrize("guestinfo", AGAIN)
def test_persistent_child_does_not_run_its_script_again(persistent: VCenter, guestinfo: str) -> None:
    """Its script has run and does not run again."""
    persistent.rule("guestinfo_after_power_cycle", guestinfo)
    persistent.quiesce()
    given: dict[str, Any] = {"persistent": True, "secret_config_params": {"token": SECRET}, "timeout": 20}
    with persistent.calls() as calls:
        persistent.fork("web-01", **given)
    # One for its record, which an instant clone has from the start; one for its secrets and the end of the script.
    assert calls["ReconfigVM_Task"] == (1 if persistent.engine.starts_running else 2)
    power_cycle(persistent)
    with persistent.calls() as calls:
        again = persistent.fork("web-01", **given)
    assert not CHANGING & set(calls)
    assert (again["changed"], states(again)) == (False, {"web-01": "existing"})
    assert (again.child("web-01")["post_clone"]["done"], again.child("web-01")["post_clone"]["exit_code"]) == (True, 0)
    power_cycle(persistent, "off")
    later = persistent.fork("web-01", **given)
    assert (later["changed"], later.child("web-01")["power_state"]) == (True, "poweredOn")
    assert persistent.fork("web-01", **given)["changed"] is False


@pytest.mark.parametrize("guestinfo", AGAIN)
def test_persistent_child_stays_failed(persistent: VCenter, guestinfo: str) -> None:
    persistent.rule("guestinfo_after_power_cycle", guestinfo)
    persistent.quiesce(post_clone_script="exit 7")
    given = {"parent_name": persistent.parent, "name": "web-01", "persistent": True, "timeout": 20}
    persistent.fails("vmfork_child", **given)
    power_cycle(persistent)
    refusal = persistent.fails("vmfork_child", **given)
    assert "exit code 7" in refusal.msg
    assert refusal["changed"] is False


def test_persistent_child_without_a_record_of_its_end(persistent: VCenter) -> None:
    """It is not known whether its script has run."""
    persistent.quiesce()
    persistent.fork("web-01", persistent=True, wait_for="tools")
    power_cycle(persistent)
    given = {"parent_name": persistent.parent, "name": "web-01", "persistent": True, "timeout": 5}
    refusal = persistent.fails("vmfork_child", **given)
    assert "has not reported the end of its post-clone script" in refusal.msg
    assert "Remove it and create it again" in refusal.msg


def test_report_of_another_run_is_ignored(vcenter: VCenter) -> None:
    vcenter.enable()
    forged = 'vmtoolsd --cmd "info-set guestinfo.vmfork.post_clone $(printf %032d 1) 0"'
    vcenter.quiesce(post_clone_script=f"{forged}\nsleep 4\ntouch /root/finished\nexit 5\n")
    child = vcenter.fails("vmfork_child", parent_name=vcenter.parent, name="web-01").child("web-01")
    assert child["post_clone"]["exit_code"] == 5
    assert "finished" in vcenter.in_guest(child["moid"], "ls /root")


COUNTED = """#!/bin/sh
sleep 3
cat /proc/sys/kernel/random/uuid
modprobe -r vmxnet3; modprobe vmxnet3
"""


ONE_SCRIPT = {"method": "script", "script": "vmware-rpctool 'vmfork-begin -1 -1'\n" + COUNTED}
TWO_SCRIPTS = {"post_clone_script": COUNTED}
OFF = ("off",)
OFF_AND_ON = ("off", "on")


@vmfork_only("an instant clone keeps its disks, and boots")
@pytest.mark.parametrize(
    ("scripts", "guestinfo", "states"),
    [
        pytest.param(TWO_SCRIPTS, "cleared", OFF, id="off"),
        pytest.param(TWO_SCRIPTS, "cleared", OFF_AND_ON, id="off and on"),
        pytest.param(TWO_SCRIPTS, "kept", OFF, id="off, kept"),
        pytest.param(TWO_SCRIPTS, "kept", OFF_AND_ON, id="off and on, kept"),
        pytest.param(ONE_SCRIPT, "cleared", OFF_AND_ON, id="one script, off and on"),
        pytest.param(ONE_SCRIPT, "kept", OFF, id="one script, off, kept"),  # the last case is a limit of vmfork_quiesce
    ],
)
def test_child_that_forks_again_is_ready_when_its_script_has_run_again(
    vcenter: VCenter, scripts: dict[str, str], guestinfo: str, states: tuple[str, ...]
) -> None:
    vcenter.rule("guestinfo_after_power_cycle", guestinfo)
    vcenter.enable()
    vcenter.ok("vmfork_quiesce", name=vcenter.parent, **vcenter.guest_login, **scripts)
    child = vcenter.fork("web-01").child("web-01")
    moid, first = child["moid"], child["post_clone"]
    report = vcenter.guest(moid)["guestinfo"]["vmfork.post_clone"]
    power_cycle(vcenter, *states)
    if guestinfo == "kept" and "on" in states:  # the report stays until the runner removes it
        report_exists = f"""[ "$(vmtoolsd --cmd 'info-get guestinfo.vmfork.post_clone')" = '{report}' ]"""
        vcenter.in_guest(moid, f"while {report_exists}; do sleep 0.1; done")
    again = vcenter.fork("web-01")
    second = again.child("web-01")["post_clone"]
    assert again["changed"] is ("on" not in states)
    assert (first["done"], second["done"], second["exit_code"]) == (True, True, 0)
    assert first["output"] != second["output"]
    assert vcenter.fork("web-01")["changed"] is False


@vmfork_only("an instant clone keeps its disks, and boots")
def test_child_that_cannot_be_powered_on_again(quiesced: VCenter) -> None:
    quiesced.rule("nonpersistent_power_on_again", "InvalidState")
    quiesced.fork("web-01")
    power_cycle(quiesced, "off")
    refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, name="web-01")
    assert refusal["changed"] is False
    assert "Could not power on child web-01" in refusal.msg
    assert "Remove it and create it again." in refusal.msg


@pytest.mark.parametrize("wait_for", ["created", "powered_on", "tools", "ip_address"])
def test_wait_for(quiesced: VCenter, wait_for: str) -> None:
    params = {"ipaddress": "192.0.2.11"}
    given: dict[str, Any] = {"config_params": params, "wait_for": wait_for, "timeout": 30}
    if wait_for == "ip_address":
        given["ip_network"] = "192.0.2.0/24"
    child = quiesced.fork("web-01", **given).child("web-01")
    stays_off = wait_for == "created" and not quiesced.engine.starts_running
    assert child["power_state"] == ("poweredOff" if stays_off else "poweredOn")
    if wait_for == "ip_address":
        assert child["ip_addresses"] == ["192.0.2.11"]
    assert quiesced.fork("web-01", **given)["changed"] is False


def test_diff_of_a_child_that_is_only_created(quiesced: VCenter) -> None:
    given = {"parent_name": quiesced.parent, "name": "web-01", "wait_for": "created", "diff": True}
    after = "poweredOn" if quiesced.engine.starts_running else "poweredOff"
    for check in (True, False):
        assert quiesced.ok("vmfork_child", check=check, **given)["diff"]["after"] == {"web-01": after}


def test_refused_child_is_no_change(quiesced: VCenter) -> None:
    quiesced.fault(method=quiesced.engine.create, at="call", fault="InvalidState", message="No", count=1)
    refusal = quiesced.fails("vmfork_child", parent_name=quiesced.parent, name="web-01")
    assert refusal["changed"] is False


def test_child_that_was_only_created_is_finished_later(quiesced: VCenter) -> None:
    quiesced.fork("web-01", wait_for="created")
    later = quiesced.fork("web-01")
    assert later["changed"] is not quiesced.engine.starts_running
    assert states(later) == {"web-01": "existing"}
    assert later.child("web-01")["post_clone"]["exit_code"] == 0


def test_check_mode_of_a_child_whose_script_still_runs(vcenter: VCenter) -> None:
    """After a killed task, check mode predicts what happens once the script has ended."""
    vcenter.enable()
    vcenter.quiesce(post_clone_script="#!/bin/sh\nuntil test -e /root/go; do sleep 0.1; done\n")
    secret = {"token": "a-long-secret-token"}
    moid = vcenter.fork("web-01", config_params=secret, wait_for="powered_on").child("web-01")["moid"]
    given = {"parent_name": vcenter.parent, "name": "web-01"}
    with vcenter.calls() as calls:
        assert vcenter.ok("vmfork_child", check=True, **given)["changed"] is False
        predicted = vcenter.ok("vmfork_child", check=True, **given, secret_config_params=secret)
    assert not CHANGING & set(calls)
    vcenter.control("POST", "users", {"name": "low", "password": "lows-long-password", "deny": [ADVANCED_CONFIG]})
    low = {"username": "low", "password": "lows-long-password", "secret_config_params": secret}
    refusal = vcenter.fails("vmfork_child", check=True, **given, **low)
    assert f"Could not clear the secrets of child web-01: the user lacks the privilege {ADVANCED_CONFIG}" in refusal.msg
    vcenter.in_guest(moid, "touch /root/go")
    done = vcenter.ok("vmfork_child", **given, secret_config_params=secret)
    assert (predicted["changed"], done["changed"]) == (True, True)
    assert (predicted.child("web-01")["state"], done.child("web-01")["state"]) == ("existing", "existing")


def test_time_out(quiesced: VCenter) -> None:
    given = {"parent_name": quiesced.parent, "name": "web-01", "wait_for": "ip_address", "timeout": 6}
    refusal = quiesced.fails("vmfork_child", **given, ip_network="198.51.100.0/24")
    assert "Child web-01 is not ready after 6 seconds" in refusal.msg
    assert states(refusal) == {"web-01": "failed"}
    assert refusal.child("web-01")["moid"]


def test_parent_that_is_not_quiesced(vcenter: VCenter) -> None:
    vcenter.enable()
    refusal = vcenter.fails("vmfork_child", parent_name=vcenter.parent, name="web-01")
    assert "is not at its fork point" in refusal.msg
    checked = vcenter.ok("vmfork_child", parent_name=vcenter.parent, name="web-01", check=True)
    assert (checked["changed"], checked["parent"]["quiesced"], checked.get("warnings")) == (True, False, None)


def test_parent_that_is_off(vcenter: VCenter) -> None:
    vcenter.enable()
    vcenter.govc("vm.power", "-off", vcenter.parent)
    checked = vcenter.ok("vmfork_child", parent_name=vcenter.parent, name="web-01", check=True)
    assert checked["changed"]
    assert "is not at its fork point" in str(checked["warnings"])


# --- post-clone script and config params ------------------------------------------------------------------------------

FAIL_IN_SECOND = """#!/bin/sh
[ "$(hostname; vmtoolsd --cmd 'info-get guestinfo.fork.hostname' | tail -n 1)" ]
case $(vmtoolsd --cmd 'info-get guestinfo.fork.hostname') in web-02) echo disk is full >&2; exit 7 ;; esac
"""


def test_failing_script_fails_that_child_only(vcenter: VCenter) -> None:
    vcenter.enable()
    vcenter.quiesce(post_clone_script=FAIL_IN_SECOND)
    given = {"parent_name": vcenter.parent, "children": children("web-01", "web-02", "web-03")}
    refusal = vcenter.fails("vmfork_child", **given)
    assert states(refusal) == {"web-01": "created", "web-02": "failed", "web-03": "created"}
    assert refusal["changed"]
    assert "1 of 3 children failed" in refusal.msg
    failed = refusal.child("web-02")
    assert failed["post_clone"] == {"done": True, "exit_code": 7, "output": "disk is full\n"}
    assert "exit code 7, output: disk is full" in failed["error"]
    again = vcenter.fails("vmfork_child", **given)
    assert states(again) == {"web-01": "existing", "web-02": "failed", "web-03": "existing"}
    assert again["changed"] is False


def test_failed_children_are_removed_on_request(vcenter: VCenter) -> None:
    vcenter.enable()
    vcenter.quiesce(post_clone_script=FAIL_IN_SECOND)
    given = {"parent_name": vcenter.parent, "children": children("web-01", "web-02"), "on_failure": "remove"}
    refusal = vcenter.fails("vmfork_child", **given)
    assert "The child was removed." in refusal.child("web-02")["error"]
    assert vcenter.exists("/DC0/vm/web-01")
    assert not vcenter.exists("/DC0/vm/web-02")


ECHO = """#!/bin/sh
printf '[%s]' "$(vmtoolsd --cmd 'info-get guestinfo.fork.key' 2>/dev/null)"
"""


def test_config_params_arrive_unchanged(vcenter: VCenter) -> None:
    values = {
        "newline": "two\nlines",
        "quotes": "\"double\" 'single'",
        "xml": "<a href='x'>&amp;</a> ]]>",
        "shell-and-non-ascii": "größe 名前 $(id) `id` \\ ; | *",
        "empty": "",
    }
    vcenter.enable()
    vcenter.quiesce(post_clone_script=ECHO)
    children = [{"name": name, "config_params": {"key": value}} for name, value in values.items()]
    made = vcenter.fork(children=children)
    assert {name: made.child(name)["config_params"]["key"] for name in values} == values
    outputs = {name: made.child(name)["post_clone"]["output"] for name in values}
    assert outputs == {name: f"[{value}]" for name, value in values.items()}


@every_transport
def test_large_config_param(vcenter: VCenter) -> None:
    vcenter.enable()
    vcenter.quiesce(post_clone_script="vmtoolsd --cmd 'info-get guestinfo.fork.key' | wc -c")
    child = vcenter.fork("web-01", config_params={"key": "x" * 60_000}).child("web-01")
    assert child["post_clone"]["output"].strip() == "60001"


@every_transport
def test_names(quiesced: VCenter) -> None:
    names = ["n" * 80, "a/b", "50%", "with space", "größe-名前", "'\"$(id);`x`", "back\\slash", "<&\"'>", "%2f"]
    assert states(quiesced.fork(*names)) == dict.fromkeys(names, "created")
    assert quiesced.fork(*names)["changed"] is False
    children = [{"name": name} for name in names]
    gone = quiesced.ok("vmfork_child", parent_name=quiesced.parent, children=children, state="absent")
    assert states(gone) == dict.fromkeys(names, "removed")


def test_secrets(vcenter: VCenter) -> None:
    vcenter.enable()
    vcenter.quiesce(post_clone_script="vmtoolsd --cmd 'info-get guestinfo.fork.token' >/root/token")
    result = vcenter.fork("web-01", secret_config_params={"token": SECRET})
    child = result.child("web-01")
    assert child["secrets_cleared"]
    assert "token" not in child["config_params"]
    assert SECRET not in result.raw
    assert vcenter.in_guest(child["moid"], "cat /root/token").strip() == SECRET
    assert SECRET not in str(vcenter.guest(child["moid"])["guestinfo"])
    assert SECRET not in visible_in_vcenter(vcenter, "web-01")


READ = "token=$(vmtoolsd --cmd 'info-get guestinfo.fork.token')\n"


def visible_in_vcenter(vcenter: VCenter, name: str) -> str:
    """Return everything that vCenter shows of a VM, also with base64 decoded."""
    text = vcenter.govc("vm.info", "-json", "-e", name)
    words = [word for word in re.findall(r"[\w+/]{4,}={0,2}", text) if len(word) % 4 == 0]
    return text + b" ".join(base64.b64decode(word) for word in words).decode(errors="replace")


def test_secrets_of_a_child_that_fails(vcenter: VCenter) -> None:
    """Its script printed them, but neither this run nor a later one shows them, nor does vCenter."""
    vcenter.enable()
    vcenter.quiesce(post_clone_script=f"{READ}set -x\n: $token\nset +x\necho seen-in-clear; exit 1")
    given: dict[str, Any] = {"parent_name": vcenter.parent, "name": "web-01"}
    with vcenter.calls() as calls:
        refusal = vcenter.fails("vmfork_child", **given, secret_config_params={"token": SECRET})
    child = refusal.child("web-01")
    assert child["secrets_cleared"]
    assert "********" in child["post_clone"]["output"]
    assert SECRET not in refusal.raw
    assert "seen-in-clear" in visible_in_vcenter(vcenter, "web-01")
    assert SECRET not in visible_in_vcenter(vcenter, "web-01")
    # The runner has masked them: the only reconfigurations are VMFork's record and the end of the script.
    assert calls["ReconfigVM_Task"] == 1
    with vcenter.calls() as calls:
        again = vcenter.fails("vmfork_child", **given)
    assert again.child("web-01")["post_clone"] == child["post_clone"]
    assert SECRET not in again.raw
    assert (again["changed"], CHANGING & set(calls)) == (False, set())


@pytest.mark.parametrize("method", ["scripts", "script"])
def test_script_that_prints_secrets_when_the_task_is_over(vcenter: VCenter, method: str) -> None:
    """The task has removed the secrets from the VM. A runner that has not read them by then reports no output."""
    vcenter.enable()
    script = f"{READ}until [ -e /root/go ]; do sleep 0.1; done\necho $token\n"
    if method == "script":
        scripts = {"script": f"vmware-rpctool '{vcenter.engine.freeze}'\n{script}"}
    else:
        scripts = {"post_clone_script": script}
    vcenter.ok("vmfork_quiesce", name=vcenter.parent, **vcenter.guest_login, method=method, **scripts)
    given: dict[str, Any] = {"parent_name": vcenter.parent, "name": "web-01"}
    refusal = vcenter.fails("vmfork_child", **given, secret_config_params={"token": SECRET}, timeout=5)
    assert "has not reported the end of its post-clone script" in refusal.msg
    moid = refusal.child("web-01")["moid"]
    assert "until" in vcenter.in_guest(moid, "cat /tmp/vmfork*/*"), "the script is still there"
    vcenter.in_guest(moid, "touch /root/go")
    reported = vcenter.ok("vmfork_child", **given).child("web-01")["post_clone"]
    assert reported == {"done": True, "exit_code": 0, "output": "********" if method == "scripts" else ""}
    assert SECRET not in visible_in_vcenter(vcenter, "web-01")


def test_report_that_shows_secrets_is_written_back_without_them(quiesced: VCenter) -> None:
    """The report is that of a runner that could not mask them."""
    given: dict[str, Any] = {"parent_name": quiesced.parent, "name": "web-01"}
    secret = {"secret_config_params": {"token": SECRET}}
    child = quiesced.ok("vmfork_child", **given, **secret).child("web-01")
    output = base64.b64encode(f"token is {SECRET}\n".encode()).decode()
    report = f"$(vmtoolsd --cmd 'info-get guestinfo.fork.vmfork.nonce') 0 {output}"
    quiesced.in_guest(child["moid"], f'vmtoolsd --cmd "info-set guestinfo.vmfork.post_clone {report}"')
    assert SECRET in visible_in_vcenter(quiesced, "web-01")
    with quiesced.calls() as calls:
        checked = quiesced.ok("vmfork_child", check=True, **given, **secret)
    assert not CHANGING & set(calls)
    with quiesced.calls() as calls:
        done = quiesced.ok("vmfork_child", **given, **secret)
    assert calls["ReconfigVM_Task"] == 1
    again = quiesced.ok("vmfork_child", **given, **secret)
    later = quiesced.ok("vmfork_child", **given)
    assert [result["changed"] for result in (checked, done, again, later)] == [True, True, False, False]
    assert SECRET not in visible_in_vcenter(quiesced, "web-01")
    for result in (checked, done, again, later):
        assert result.child("web-01")["post_clone"] == {"done": True, "exit_code": 0, "output": "token is ********"}


# --- refused ----------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"children": [{"name": "a"}, {"name": "a"}]}, "occurs twice"),
    ({"name": "n" * 81}, "81 characters"),
    ({}, "No child is named"),
    ({"all": True}, "requires state=absent"),
    ({"all": True, "state": "absent", "name": "a"}, "Remove name and children"),
    ({"name": "a", "config_params": {"k": None}}, "is null"),
    (
        {"name": "a", "config_params": {"k": "x"}, "secret_config_params": {"k": SECRET}},
        "k is in both config_params and secret_config_params",
    ),
    (
        {"children": [{"name": "a"}, {"name": "b"}], "bios_uuid": "564d0000-0000-4000-8000-000000000001"},
        "bios_uuid can be the BIOS UUID of only one VM",
    ),
    ({"name": "a", "secret_config_params": {"k": SECRET}, "wait_for": "tools"}, "need wait_for=post_clone"),
    ({"name": "a", "ip_network": "nonsense"}, "is not a network"),
    ({"name": "a", "concurrency": 0}, "concurrency is 0"),
    ({"name": "a", "timeout": -1}, "timeout is -1"),
]


@pytest.mark.flags("-guest", "none")
@either_engine
def test_refused_before_a_login(vcenter: VCenter) -> None:
    with vcenter.calls() as calls:
        for given, message in REFUSED:
            assert message in vcenter.fails("vmfork_child", parent_name=vcenter.parent, **given).msg, given
    assert calls == {}


def test_unknown_parent(vcenter: VCenter) -> None:
    assert "VM nobody was not found" in vcenter.fails("vmfork_child", parent_name="nobody", name="a").msg


@every_transport
def test_user_without_the_privilege(quiesced: VCenter) -> None:
    login = {"username": "junior", "password": "juniors-long-password"}
    for privilege in (quiesced.engine.create_privilege, "VirtualMachine.Interact.PowerOn"):
        quiesced.control("POST", "users", {"name": "junior", "password": login["password"], "deny": [privilege]})
        given = {"parent_name": quiesced.parent, "name": f"web-{privilege[-3:].lower()}"}
        refusal = quiesced.fails("vmfork_child", **given, **login)
        assert f"lacks the privilege {privilege}" in refusal.msg


def test_post_clone_script_is_not_run_in_the_parent(quiesced: VCenter) -> None:
    quiesced.fork("web-01")
    assert quiesced.guest(quiesced.ok("vmfork_info")["parents"][0]["moid"])["state"]["hostname"] != "web-01"


def test_children_of_a_parent_quiesced_with_one_script(vcenter: VCenter) -> None:
    vcenter.enable()
    script = f"vmware-rpctool '{vcenter.engine.freeze}'\n" + POST_CLONE.removeprefix("#!/bin/sh\n")
    vcenter.ok("vmfork_quiesce", name=vcenter.parent, **vcenter.guest_login, method="script", script=script)
    assert states(vcenter.fork("web-01", "web-02")) == {"web-01": "created", "web-02": "created"}


@either_engine
@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"name": "web-01", "secret_config_params": f"token={SECRET}"}, id="key=value text"),
        pytest.param({"name": "web-01", "secret_config_params": f'{{"token": "{SECRET}"}}'}, id="JSON text"),
        pytest.param(
            {"children": [{"name": "web-01", "secret_config_params": f"token={SECRET}"}]}, id="text in children"
        ),
        pytest.param(
            {"children": f'[{{"name": "web-01", "secret_config_params": {{"t": "{SECRET}"}}}}]'}, id="all text"
        ),
    ],
)
def test_secrets_given_as_text_are_not_shown(quiesced: VCenter, given: dict[str, Any]) -> None:
    """They are given as text on the command line: `-a "secret_config_params='token=...'"`."""
    result = quiesced.run("vmfork_child", parent_name=quiesced.parent, check=True, diff=True, **given)
    assert SECRET not in result.raw
