# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmfork_quiesce: three methods, two deliveries, and what can go wrong in a guest."""

from __future__ import annotations

import base64
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from functional.engines import both_engines, either_engine, instant_clone_only, vmfork_only
from functional.vcenter import POST_CLONE, PRE_QUIESCE, VCenter, needs_other_accounts

pytestmark = both_engines

PAYLOAD = "vmfork.payload"
SECRET = "kept-out-of-sight-0123456789"


@pytest.fixture
def parent(vcenter: VCenter) -> VCenter:
    """Return an enabled parent whose guest is up."""
    vcenter.in_guest(vcenter.enable()["parent"]["moid"], "true")
    return vcenter


def quiesce(vcenter: VCenter, **given: Any) -> Any:
    return vcenter.run("vmfork_quiesce", **{"name": vcenter.parent, **vcenter.guest_login, **given})


def assert_nothing_left(vcenter: VCenter) -> None:
    """Assert that no file of ours is in the guest, and no script in guestinfo."""
    it = vcenter.moid()
    assert vcenter.in_guest(it, "find / -xdev -name 'vmfork.*' 2>/dev/null; ls -A /tmp").strip() == ""
    assert_no_payload(vcenter, it)


def assert_no_payload(vcenter: VCenter, moid: str) -> None:
    """Assert that no script is in guestinfo. A guest that cannot set an empty value leaves a blank."""
    assert not [key for key, value in vcenter.guest(moid)["guestinfo"].items() if PAYLOAD in key and value.strip()]


@pytest.mark.parametrize("delivery", ["auto", "file_transfer", "guestinfo"])
def test_check_run_run_again(parent: VCenter, delivery: str) -> None:
    given = {"pre_quiesce_script": PRE_QUIESCE, "post_clone_script": POST_CLONE, "script_delivery": delivery}
    with parent.calls() as calls:
        checked = quiesce(parent, check=True, diff=True, **given)
    assert "StartProgramInGuest" not in calls
    done = quiesce(parent, diff=True, **given)
    with parent.calls() as calls:
        again = quiesce(parent, **given)
    assert "StartProgramInGuest" not in calls
    assert [result["changed"] for result in (checked, done, again)] == [True, True, False], done.msg
    assert done["parent"]["quiesced"]
    assert done["parent"]["quiesced_at"]
    assert done["parent"] == again["parent"]
    assert set(checked["parent"]) == set(done["parent"])
    assert set(checked["guest"]) == set(done["guest"]) == set(again["guest"])
    assert done["guest"]["directory"].startswith("/tmp/vmfork.")
    assert (done["diff"]["before"]["quiesced"], done["diff"]["after"]["quiesced"]) == (False, True)
    assert_no_payload(parent, done["parent"]["moid"])


@instant_clone_only("pools need Instant Clone")
@pytest.mark.parametrize("delivery", ["file_transfer", "guestinfo"])
def test_generation(parent: VCenter, delivery: str) -> None:
    """Each fork point has its own, which a task that changes nothing keeps. Children do not inherit it."""

    def generation(name: str) -> str | None:
        lines = parent.govc("vm.info", "-e", name).splitlines()
        return next((line.split()[1] for line in lines if line.split()[:1] == ["vmfork.generation:"]), None)

    given = {"post_clone_script": POST_CLONE, "script_delivery": delivery}
    assert generation(parent.parent) is None
    assert quiesce(parent, check=True, **given)["changed"]
    assert generation(parent.parent) is None
    assert quiesce(parent, **given)["changed"]
    first = generation(parent.parent)
    assert first is not None
    assert len(first) == 32
    assert not quiesce(parent, **given)["changed"]
    assert generation(parent.parent) == first
    parent.fork("web-01", wait_for="powered_on")
    assert generation("web-01") is None
    parent.govc("vm.power", "-off", parent.parent)
    parent.govc("vm.power", "-on", parent.parent)
    parent.in_guest(parent.moid(), "true")
    assert quiesce(parent, **given)["changed"]
    assert generation(parent.parent) not in (first, None)


def test_whole_job_with_an_unreachable_esxi_host(parent: VCenter) -> None:
    parent.control("PUT", "transfers", {"blocked": True})
    done = quiesce(parent, pre_quiesce_script=PRE_QUIESCE, post_clone_script=POST_CLONE)
    assert done["changed"], done.msg
    assert "through vCenter instead of the ESXi host" in done.raw
    child = parent.fork("web-01").child("web-01")
    assert child["post_clone"]["exit_code"] == 0
    assert parent.in_guest(child["moid"], "hostname").strip() == "web-01"


def test_file_transfer_with_an_unreachable_esxi_host(parent: VCenter) -> None:
    parent.control("PUT", "transfers", {"blocked": True})
    refusal = quiesce(parent, post_clone_script=POST_CLONE, script_delivery="file_transfer")
    assert "cannot be reached" in refusal.msg
    assert "script_delivery=guestinfo" in refusal.msg
    assert_nothing_left(parent)


def test_wrong_certificate_at_the_esxi_host(parent: VCenter) -> None:
    parent.control("PUT", "transfers", {"certificate": "another"})
    refusal = quiesce(parent, post_clone_script=POST_CLONE)
    assert "shows a different certificate" in refusal.msg
    assert_nothing_left(parent)
    assert quiesce(parent, post_clone_script=POST_CLONE, guest_transfer_certs="ignore")["changed"]


def test_certificate_of_the_esxi_host_from_another_ca(parent: VCenter) -> None:
    refusal = quiesce(parent, post_clone_script=POST_CLONE, guest_transfer_certs="ca", validate_certs=False)
    assert refusal["failed"]
    assert "the certificate of ESXi host 127.0.0.1 is not trusted (self-signed certificate)" in refusal.msg
    assert_nothing_left(parent)


def test_one_script_that_freezes_by_itself(parent: VCenter) -> None:
    script = PRE_QUIESCE + f"vmware-rpctool '{parent.engine.freeze}'\n" + POST_CLONE.removeprefix("#!/bin/sh\n")
    done = quiesce(parent, method="script", script=script)
    assert done["parent"]["quiesced"], done.msg
    assert quiesce(parent, method="script", script=script)["changed"] is False
    child = parent.fork("web-01").child("web-01")
    assert parent.in_guest(child["moid"], "hostname; cat /root/pre-quiesce-ran").split() == ["web-01", "once"]


def test_guest_that_quiesces_itself(parent: VCenter) -> None:
    it = parent.moid()
    body = {"program": "/bin/sh", "arguments": f"-c \"vmtoolsd --cmd '{parent.engine.freeze}'\"", "user": "root"}
    with parent.at_call("WaitForUpdatesEx", parent.control, "POST", f"guests/{it}/run", {**body, "wait": False}):
        done = parent.ok("vmfork_quiesce", name=parent.parent, method="wait", timeout=30)
    assert (done["changed"], done["parent"]["quiesced"]) == (True, True)
    assert parent.ok("vmfork_quiesce", name=parent.parent, method="wait")["changed"] is False


def test_guest_that_does_not_quiesce_itself(parent: VCenter) -> None:
    refusal = parent.fails("vmfork_quiesce", name=parent.parent, method="wait", timeout=2)
    assert "did not reach the fork point within 2 seconds" in refusal.msg


def test_scripts_that_differ_from_the_record(parent: VCenter) -> None:
    quiesce(parent, post_clone_script=POST_CLONE)
    other = {"post_clone_script": POST_CLONE + "# other\n"}
    refusal = quiesce(parent, **other)
    assert "with different scripts" in refusal.msg
    needs_enabling = parent.engine.enabled is not None
    assert ("power it on, make it a fork parent again, and quiesce" in refusal.msg) is needs_enabling
    assert ("power it on, and quiesce it again" in refusal.msg) is not needs_enabling
    power_cycle(parent)
    assert quiesce(parent, **other)["changed"]


# --- a record of scripts other than those of the fork point -----------------------------------------------------------

UNKNOWN = "It is not known which scripts"


def freeze_alone(vcenter: VCenter, moid: str) -> None:
    """Have the guest reach the fork point by itself."""
    body = {"program": "/bin/sh", "arguments": f"-c \"vmtoolsd --cmd '{vcenter.engine.freeze}'\"", "user": "root"}
    vcenter.control("POST", f"guests/{moid}/run", {**body, "wait": False})
    until = time.monotonic() + 20
    while not vcenter.guest(moid)["frozen"]:
        assert time.monotonic() < until


def power_cycle(vcenter: VCenter) -> None:
    """Power off, power on and enable the parent again, as a refusal advises."""
    vcenter.ok("vmfork_parent", name=vcenter.parent, state="disabled", power_off=True)
    vcenter.govc("vm.power", "-on", vcenter.parent)
    vcenter.enable()


def assert_scripts_unknown(vcenter: VCenter, **given: Any) -> None:
    """Assert that the VM is at its fork point, and that its scripts are unknown."""
    result = quiesce(vcenter, **given)
    assert result["changed"] is False, result.msg
    assert UNKNOWN in result.raw
    assert result["parent"]["quiesced_at"] is None


def test_scripts_of_somebody_else(parent: VCenter) -> None:
    freeze_alone(parent, parent.moid())
    assert_scripts_unknown(parent, post_clone_script=POST_CLONE)


def test_scripts_of_a_runner_that_was_killed(parent: VCenter) -> None:
    given = {"method": "script", "script": "kill -9 $PPID"}
    assert "ended without a report" in quiesce(parent, **given, timeout=30).msg
    freeze_alone(parent, parent.moid())
    assert_scripts_unknown(parent, **given)


@pytest.mark.parametrize("guestinfo", ["cleared", "kept"])
def test_scripts_from_before_a_power_off(parent: VCenter, guestinfo: str) -> None:
    parent.rule("guestinfo_after_power_cycle", guestinfo)
    given = {"post_clone_script": POST_CLONE}
    assert quiesce(parent, **given)["changed"]
    power_cycle(parent)
    freeze_alone(parent, parent.moid())
    assert_scripts_unknown(parent, **given)


def test_scripts_from_before_a_power_off_by_others(parent: VCenter) -> None:
    """They power it on again, and the guest reaches the fork point while the task waits for it."""
    parent.rule("guestinfo_after_power_cycle", "kept")
    given = {"post_clone_script": POST_CLONE}
    assert quiesce(parent, **given)["changed"]
    for state in ("-off", "-on"):
        parent.govc("vm.power", state, parent.parent)
    with parent.at_call("WaitForUpdatesEx", freeze_alone, parent, parent.moid()):
        done = parent.ok("vmfork_quiesce", name=parent.parent, method="wait", timeout=30)
    assert (done["changed"], done["parent"]["quiesced_at"]) == (True, None)
    assert_scripts_unknown(parent, **given)


def test_scripts_of_a_childs_parent(parent: VCenter) -> None:
    parent.rule("child_as_parent", "allowed")
    given = {"post_clone_script": POST_CLONE}
    assert quiesce(parent, **given)["changed"]
    child = parent.fork("web-01").child("web-01")
    parent.enable(name="web-01")
    freeze_alone(parent, child["moid"])
    assert_scripts_unknown(parent, name="web-01", **given)


def test_scripts_from_before_a_power_off_by_a_user_who_may_not_remove_them(parent: VCenter) -> None:
    parent.rule("guestinfo_after_power_cycle", "kept")
    quiesce(parent, post_clone_script=POST_CLONE)
    login = {"username": "junior", "password": "juniors-long-password"}
    lacking = "VirtualMachine.Config.AdvancedConfig"
    parent.control("POST", "users", {"name": "junior", "password": login["password"], "deny": [lacking]})
    done = parent.ok("vmfork_parent", name=parent.parent, state="disabled", power_off=True, **login)
    assert (done["changed"], done["parent"]["power_state"]) == (True, "poweredOff")
    assert (
        f"Could not remove guestinfo.vmfork.scripts from its extraConfig: the user lacks the privilege {lacking}"
        in (str(done["warnings"]))
    )


# --- preconditions ----------------------------------------------------------------------------------------------------


def test_powered_off(parent: VCenter) -> None:
    parent.govc("vm.power", "-off", parent.parent)
    refusal = quiesce(parent, post_clone_script=POST_CLONE)
    assert "is powered off" in refusal.msg
    checked = quiesce(parent, post_clone_script=POST_CLONE, check=True)
    assert checked["changed"]
    assert "is powered off" in checked.raw


@vmfork_only("nothing needs enabling for Instant Clone")
def test_not_enabled(vcenter: VCenter) -> None:
    refusal = quiesce(vcenter, post_clone_script=POST_CLONE)
    assert "is not a fork parent" in refusal.msg
    checked = quiesce(vcenter, post_clone_script=POST_CLONE, check=True)
    assert (checked["changed"], checked["parent"]["enabled"], checked["parent"]["quiesced"]) == (True, True, True)
    assert "is not a fork parent" in checked.raw


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "needs pre_quiesce_script or post_clone_script"),
    ({"method": "script"}, "needs script"),
    ({"method": "script", "post_clone_script": "x"}, "cannot be used with method=script"),
    ({"method": "wait", "post_clone_script": "x"}, "cannot be used with method=wait"),
    ({"post_clone_script": " \n"}, "is not the text of a script"),
    ({"post_clone_script": "\ufeff\n"}, "is not the text of a script"),
    ({"post_clone_script": "files/post_clone.sh\n"}, "post_clone_script looks like a file name"),
    ({"post_clone_script": "x", "interpreter": " "}, "interpreter is empty"),
    ({"post_clone_script": "x", "guest_password": ""}, "VMWARE_GUEST_PASSWORD"),
]


@pytest.mark.flags("-guest", "none")
@either_engine
def test_refused_before_a_login(vcenter: VCenter) -> None:
    with vcenter.calls() as calls:
        for given, message in REFUSED:
            assert message in quiesce(vcenter, **given).msg, given
    assert calls == {}


# --- guests other than Linux ------------------------------------------------------------------------------------------


@pytest.fixture
def windows(parent: VCenter) -> VCenter:
    """Return a parent that VMware Tools report as Windows. It has no PowerShell."""
    parent.control("PATCH", f"guests/{parent.moid()}", {"guest_family": "windowsGuest"})
    return parent


@pytest.mark.parametrize("check", [True, False])
def test_interpreter_that_is_not_a_command(parent: VCenter, check: bool) -> None:
    with parent.calls() as calls:
        refusal = quiesce(parent, check=check, post_clone_script="x", interpreter="sh 'x")
    assert "interpreter sh 'x is not a valid command: No closing quotation." in refusal.msg
    assert {name for name in calls if "Guest" in name or name.endswith("_Task")} == set()


@either_engine
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"guest_become": "sudo", "post_clone_script": "x"}, "guest_become=sudo is not supported for Windows guests"),
        ({"post_clone_script": POST_CLONE}, "begins with #!/bin/sh, and the guest is Windows"),
        ({"identity_script": POST_CLONE}, "identity_script begins with #!/bin/sh, and the guest is Windows"),
        ({"identity_script": "x", "identity_network": "ip"}, "identity_network=ip is not for Windows guests"),
    ],
)
def test_options_that_windows_does_not_support(
    windows: VCenter, given: dict[str, str], message: str, check: bool
) -> None:
    with windows.calls() as calls:
        refusal = quiesce(windows, check=check, **given)
    assert message in refusal.msg
    assert {name for name in calls if "Guest" in name or name.endswith("_Task")} == set()


def test_tools_that_report_the_guest_late(parent: VCenter) -> None:
    it = parent.moid()
    parent.control("PATCH", f"guests/{it}", {"operations_ready": False})
    later = {"operations_ready": True, "guest_family": "windowsGuest"}
    with parent.at_call("WaitForUpdatesEx", parent.control, "PATCH", f"guests/{it}", later):
        refusal = quiesce(parent, post_clone_script="x", guest_become="sudo", timeout=30)
    assert "guest_become=sudo is not supported for Windows guests" in refusal.msg


def test_interpreter_is_parsed_as_on_windows(windows: VCenter) -> None:
    done = quiesce(windows, check=True, post_clone_script="print()", interpreter=r"C:\it's\python.exe")
    assert done["changed"], done.msg


def test_powershell_is_started_on_windows(windows: VCenter) -> None:
    refusal = quiesce(windows, post_clone_script="@echo off", script_delivery="guestinfo", timeout=30)
    assert refusal["guest"]["directory"].startswith("C:\\Windows\\Temp\\vmfork.")
    assert "powershell.exe" in refusal.msg
    assert_nothing_left(windows)


# --- faults in the guest ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delivery", ["file_transfer", "guestinfo"])
def test_pre_quiesce_script_fails(parent: VCenter, delivery: str) -> None:
    script = f"# {SECRET}\necho no such interface; exit 3\n"
    refusal = quiesce(parent, pre_quiesce_script=script, script_delivery=delivery)
    assert "the pre-quiesce script failed (exit code 3, output: no such interface)" in refusal.msg
    assert (refusal["guest"]["exit_code"], refusal["guest"]["output"]) == (3, "no such interface\n")
    assert refusal["parent"]["quiesced"] is False
    assert "may remain" not in refusal.msg
    assert_nothing_left(parent)


def test_tools_are_missing_in_the_guest(parent: VCenter) -> None:
    parent.control("PATCH", f"guests/{parent.moid()}", {"tools_installed": False})
    refusal = quiesce(parent, post_clone_script=POST_CLONE, timeout=30)
    assert "neither vmtoolsd nor vmware-rpctool is in the guest" in refusal.msg
    assert_nothing_left(parent)


def test_guest_may_not_reach_the_fork_point(parent: VCenter) -> None:
    parent.control("PATCH", f"guests/{parent.moid()}", {"refuse_freeze": "vmfork is not supported"})
    refusal = quiesce(parent, post_clone_script=POST_CLONE)
    assert "was not allowed to enter the fork point (exit code 1, output: vmfork is not supported)" in refusal.msg
    assert_nothing_left(parent)


def test_guest_that_may_not_report(parent: VCenter) -> None:
    parent.control("PATCH", f"guests/{parent.moid()}", {"refuse_info": True})
    refusal = quiesce(parent, pre_quiesce_script="exit 3", timeout=30)
    assert "the pre-quiesce script failed" in refusal.msg
    assert_nothing_left(parent)


def test_report_that_the_runner_did_not_write(parent: VCenter) -> None:
    """The runner does not reach the fork point when nobody waits for it any longer."""
    script = (
        'nonce=$(sed -n s/^nonce=//p "${0%/*}/runner")\n'
        f'vmtoolsd --cmd "info-set guestinfo.vmfork.quiesce $nonce \u00b2 x"\n{LATER}'
    )
    refusal = quiesce(parent, pre_quiesce_script=script, timeout=30)
    assert "wrote an unreadable report to guestinfo.vmfork.quiesce" in refusal.msg
    assert refusal["parent"]["quiesced"] is False
    assert_nothing_left(parent)
    assert parent.in_guest(parent.moid(), "pgrep -x sleep; ls /root") == ""


def test_wrong_guest_password(parent: VCenter) -> None:
    for delivery in ("file_transfer", "guestinfo"):
        refusal = quiesce(
            parent, post_clone_script=POST_CLONE, script_delivery=delivery, guest_password="a-wrong-guest-password"
        )
        assert "the guest refused the login of root" in refusal.msg
        assert "a-wrong-guest-password" not in refusal.raw
        assert_nothing_left(parent)


def test_tools_not_running(parent: VCenter) -> None:
    parent.control("PATCH", f"guests/{parent.moid()}", {"tools_running": False})
    refusal = quiesce(parent, post_clone_script=POST_CLONE, timeout=3)
    assert "VMware Tools is not running in the guest" in refusal.msg
    assert_nothing_left(parent)


def test_tools_that_start_later(parent: VCenter) -> None:
    it = parent.moid()
    parent.control("PATCH", f"guests/{it}", {"tools_running": False, "operations_ready": False})
    ready = {"tools_running": True, "operations_ready": True}
    with parent.at_call("WaitForUpdatesEx", parent.control, "PATCH", f"guests/{it}", ready):
        assert quiesce(parent, post_clone_script=POST_CLONE, timeout=30)["parent"]["quiesced"]


@needs_other_accounts
def test_user_who_is_not_root(parent: VCenter) -> None:
    login = {"guest_username": "admin", "post_clone_script": POST_CLONE, "timeout": 30}
    refusal = quiesce(parent, **login)
    assert "the guest user is not root" in refusal.msg
    assert_nothing_left(parent)
    assert quiesce(parent, **login, guest_become="sudo")["parent"]["quiesced"]


@needs_other_accounts
def test_user_who_may_not_use_sudo(parent: VCenter) -> None:
    refusal = quiesce(parent, guest_username="operator", guest_become="sudo", post_clone_script=POST_CLONE, timeout=30)
    assert "may not use sudo without a password" in refusal.msg
    assert "a password is required" in refusal.msg
    assert_nothing_left(parent)


LATER = """
(sleep 1000; touch /root/went-on; vmtoolsd --cmd 'vmfork-begin -1 -1') &
wait
"""


@either_engine
@pytest.mark.parametrize(
    "login", [{}, {"guest_username": "admin", "guest_become": "sudo"}], ids=["root", "sudo, whose programs are root's"]
)
@pytest.mark.parametrize("method", ["scripts", "script"])
@pytest.mark.parametrize("delivery", ["file_transfer", "guestinfo"])
def test_time_out(parent: VCenter, delivery: str, method: str, login: dict[str, str]) -> None:
    given = {"method": method, ("script" if method == "script" else "pre_quiesce_script"): f"# {SECRET}\n{LATER}"}
    refusal = quiesce(parent, script_delivery=delivery, timeout=3, **given, **login)
    assert refusal.msg.endswith(
        "did not reach the fork point within 3 seconds. "
        "Check what the pre-quiesce script waits for, or increase timeout."
    )
    assert_nothing_left(parent)
    assert parent.in_guest(parent.moid(), "pgrep -x sleep; ls /root") == ""


def test_runner_that_cannot_be_ended(parent: VCenter) -> None:
    for method in ("TerminateProcessInGuest", "ListProcessesInGuest"):
        parent.fault(method=method, at="call", fault="GuestPermissionDenied", count=0)
    refusal = quiesce(parent, pre_quiesce_script="sleep 1000", timeout=1)
    assert "did not reach the fork point within 1 second" in refusal.msg
    assert f"The runner in the guest (process {refusal['guest']['pid']}) could not be ended" in refusal.msg
    assert "power off the VM" in refusal.msg
    assert refusal["parent"]["quiesced"] is False
    assert "runner" in parent.in_guest(parent.moid(), f"ls {refusal['guest']['directory']}")


def test_fork_point_reached_at_the_last_moment(parent: VCenter) -> None:
    """The request to end the runner comes too late."""
    parent.fault(method="TerminateProcessInGuest", at="call", delay_ms=10000, count=1)
    done = quiesce(parent, pre_quiesce_script="sleep 3", timeout=1)
    assert done["parent"]["quiesced"], done.msg


def test_fork_point_reached_during_the_search_for_a_runner(parent: VCenter) -> None:
    """The answer to its start was lost, and a VM at its fork point does not answer the search."""
    parent.fault(method="StartProgramInGuest", at="call", drop="after", count=1)
    parent.fault(method="ListProcessesInGuest", at="call", fault="GuestOperationsUnavailable", delay_ms=10000, count=0)
    done = quiesce(parent, pre_quiesce_script="sleep 3", timeout=1)
    assert done.get("parent", {}).get("quiesced"), done.msg
    assert not done.get("failed"), done.msg


@pytest.mark.parametrize(
    ("script", "message", "is_left"),
    [("exit 3", "the pre-quiesce script failed (exit code 3)", False), ("kill -9 $PPID", "without a report", True)],
)
def test_early_end_does_not_wait_for_a_guest_that_cannot_be_cleaned_up(
    parent: VCenter, script: str, message: str, is_left: bool
) -> None:
    """A directory that the runner itself could not remove is named."""
    parent.fault(method="DeleteDirectoryInGuest", at="call", fault="GuestOperationsUnavailable", count=0)
    began = time.monotonic()
    refusal = quiesce(parent, pre_quiesce_script=script, timeout=50)
    assert time.monotonic() - began < 30
    assert message in refusal.msg
    assert (f"The directory {refusal['guest']['directory']} may remain in the guest" in refusal.msg) is is_left


def test_other_delivery_does_not_wait_for_a_guest_that_cannot_be_cleaned_up(parent: VCenter) -> None:
    parent.control("PUT", "transfers", {"blocked": True})
    parent.fault(method="DeleteDirectoryInGuest", at="call", fault="GuestOperationsUnavailable", count=0)
    done = quiesce(parent, post_clone_script=POST_CLONE, timeout=50)
    assert done.get("parent", {}).get("quiesced"), done.msg
    assert "may remain in the guest, with the scripts in it" in str(done["warnings"])


def test_directory_that_was_never_created(parent: VCenter) -> None:
    parent.fault(method="StartProgramInGuest", at="call", fault="GuestPermissionDenied", count=0)
    refusal = quiesce(parent, post_clone_script=POST_CLONE, script_delivery="guestinfo")
    assert "Could not start a program in the guest" in refusal.msg
    assert "may remain" not in refusal.msg
    assert_nothing_left(parent)


def test_directory_that_only_root_can_remove(parent: VCenter) -> None:
    script = 'mkdir -m 700 "${0%/*}/sub"; touch "${0%/*}/sub/file"; kill -9 $PPID; sleep 1000'
    login = {"guest_username": "admin", "guest_become": "sudo"}
    refusal = quiesce(parent, pre_quiesce_script=script, timeout=30, **login)
    assert "ended without a report" in refusal.msg
    parent.in_guest(parent.moid(), f"while [ -e {refusal['guest']['directory']} ]; do sleep 0.1; done")
    assert_nothing_left(parent)


def test_powered_off_meanwhile(parent: VCenter) -> None:
    with parent.at_call("ListProcessesInGuest", parent.govc, "vm.power", "-off", "-force", parent.parent):
        refusal = quiesce(parent, pre_quiesce_script="sleep 60", guest_directory="/var/tmp", timeout=30)
    assert "was powered off before it reached the fork point" in refusal.msg
    directory = refusal["guest"]["directory"]
    assert f"The directory {directory} may remain in the guest, with the scripts in it. Remove it." in refusal.msg
    parent.govc("vm.power", "-on", parent.parent)
    assert "pre_quiesce" in parent.in_guest(parent.moid(), f"ls {directory}")


def test_user_without_the_privilege(parent: VCenter) -> None:
    login = {"username": "junior", "password": "juniors-long-password"}
    for privilege, delivery in {
        "VirtualMachine.GuestOperations.Modify": "file_transfer",
        "VirtualMachine.GuestOperations.Execute": "file_transfer",
        "VirtualMachine.Config.AdvancedConfig": "guestinfo",
    }.items():
        parent.control("POST", "users", {"name": "junior", "password": login["password"], "deny": [privilege]})
        refusal = quiesce(parent, post_clone_script=POST_CLONE, script_delivery=delivery, **login)
        assert f"lacks the privilege {privilege}" in refusal.msg
        assert_nothing_left(parent)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"at": "task", "delay_ms": 4000}, id="the task outlives the deadline"),
        pytest.param({"at": "call", "drop": "after"}, id="answer lost"),
        pytest.param({"at": "call", "drop": "before"}, id="request lost"),
    ],
)
def test_payload_that_is_not_found_in_guestinfo(parent: VCenter, fault: dict[str, Any]) -> None:
    """No script stays in guestinfo, and none appears there later."""
    parent.fault(method="ReconfigVM_Task", count=1, **fault)
    if "drop" in fault:
        parent.fault(method="ReconfigVM_Task", at="task", delay_ms=1000, count=1)
    began = time.monotonic()
    refusal = quiesce(parent, post_clone_script=POST_CLONE, script_delivery="guestinfo", timeout=2)
    assert refusal["failed"]
    assert not refusal.get("warnings")
    while time.monotonic() < began + 6:
        assert_nothing_left(parent)


def test_payload_that_cannot_be_cleared(parent: VCenter) -> None:
    parent.fault(method="ReconfigVM_Task", at="call", drop="after", count=1)
    parent.fault(method="ReconfigVM_Task", at="call", fault="InvalidState", count=0)
    refusal = quiesce(parent, post_clone_script=POST_CLONE, script_delivery="guestinfo")
    assert f"Scripts may remain in the extraConfig of VM {parent.parent}" in str(refusal["warnings"])
    assert f"(guestinfo.{PAYLOAD}.0)" in str(refusal["warnings"])


def test_payload_that_an_earlier_task_left_there(parent: VCenter) -> None:
    parent.govc("vm.change", "-vm", parent.parent, "-e", f"guestinfo.{PAYLOAD}.7=what an earlier task left")
    assert quiesce(parent, post_clone_script=POST_CLONE)["changed"]
    assert f"{PAYLOAD}.7" not in parent.govc("vm.info", "-json", "-e", parent.parent)


def test_data_of_a_killed_task_is_not_in_the_children(parent: VCenter) -> None:
    it = parent.moid()
    mark = "#!/bin/sh\n# Made by the Ansible collection vmfork.vsphere: pre-quiesce script, fork point"
    parent.in_guest(
        it,
        f"mkdir /tmp/vmfork.left /tmp/vmfork.foreign; echo '{mark}' >/tmp/vmfork.left/runner; "
        "echo x >/tmp/vmfork.left/post_clone; echo x >/tmp/vmfork.foreign/post_clone",
    )
    left = f"guestinfo.{PAYLOAD}.0"
    parent.govc("vm.change", "-vm", parent.parent, "-e", f"{left}=what an earlier task left")
    seen = f'{POST_CLONE}\nls /tmp; vmtoolsd --cmd "info-get {left}" 2>&1 || :'
    assert quiesce(parent, post_clone_script=seen)["changed"]
    child = parent.fork("web-01").child("web-01")
    assert "No value found" in child["post_clone"]["output"]
    words = child["post_clone"]["output"].split()
    assert "vmfork.left" not in words
    assert "vmfork.foreign" in words


def test_two_at_once_with_the_same_scripts(parent: VCenter) -> None:
    """Both succeed, whichever is first, and the children contain no runner of the other one."""
    given = {"pre_quiesce_script": PRE_QUIESCE, "post_clone_script": POST_CLONE, "timeout": 50}
    with ThreadPoolExecutor() as both:
        ended = [future.result() for future in [both.submit(quiesce, parent, **given) for _number in range(2)]]
    assert [result["parent"]["quiesced"] for result in ended] == [True, True], [result.msg for result in ended]
    assert not any(result.get("failed") for result in ended), [result.msg for result in ended]
    child = parent.fork("web-01").child("web-01")
    assert parent.in_guest(child["moid"], "hostname; cat /root/pre-quiesce-ran").split() == ["web-01", "once"]


def test_second_task_started_after_the_first_announced_its_scripts(parent: VCenter) -> None:
    """Both succeed, and the VM is at its fork point with the record of its scripts."""
    it = parent.moid()
    script = (
        "touch /root/began; until [ -e /root/go ]; do sleep 0.1; done\n" + f"vmtoolsd --cmd '{parent.engine.freeze}'\n"
    )
    given = {"method": "script", "script": script, "timeout": 50}
    with ThreadPoolExecutor() as both:
        first = both.submit(quiesce, parent, **given)
        parent.in_guest(it, "until [ -e /root/began ]; do sleep 0.1; done")
        second = both.submit(quiesce, parent, **given)
        until = time.monotonic() + 50
        while " busy " not in parent.guest(it)["guestinfo"].get("vmfork.quiesce", ""):
            assert time.monotonic() < until
        parent.in_guest(it, "touch /root/go")
        ended = [first.result(), second.result()]
    assert not any(result.get("failed") for result in ended), [result.msg for result in ended]
    again = quiesce(parent, **given)
    assert again["changed"] is False
    assert again["parent"]["quiesced_at"]
    assert UNKNOWN not in again.raw


@pytest.mark.parametrize(
    ("delivery", "number"),
    [("file_transfer", signal.SIGINT), ("file_transfer", signal.SIGTERM), ("guestinfo", signal.SIGHUP)],
)
def test_signal(parent: VCenter, delivery: str, number: int) -> None:
    """The files of the task do not remain in the guest, and the VM does not freeze later."""
    given = {"pre_quiesce_script": f"# {SECRET}\n{LATER}", "script_delivery": delivery}
    arguments = {"name": parent.parent, **parent.guest_login, **given}
    signal_at = (number, "WaitForUpdatesEx", 2)
    result = parent.run("vmfork_quiesce", signal_at=signal_at, **arguments)
    assert result["failed"]
    assert signal.Signals(number).name in result.msg
    assert_nothing_left(parent)
    assert parent.in_guest(parent.moid(), "pgrep -x sleep; ls /root") == ""
    assert parent.control("GET", "sessions") == []


# --- a guest that may not write to guestinfo, a host that is hidden ---------------------------------------------------

SETINFO = "isolation.tools.setinfo.disable"


def test_guest_that_may_not_write_to_guestinfo(parent: VCenter) -> None:
    """The tasks report what the children cannot do, and what an earlier run left is not in them."""
    left = {"guestinfo.vmfork.scripts": "0123 earlier", f"guestinfo.{PAYLOAD}.0": "what an earlier task left"}
    settings = [word for key, value in {**left, SETINFO: "TRUE"}.items() for word in ("-e", f"{key}={value}")]
    parent.govc("vm.change", "-vm", parent.parent, *settings)
    for check in (True, False):
        with parent.calls() as calls:
            refusal = quiesce(parent, post_clone_script=POST_CLONE, script_delivery="guestinfo", check=check)
        assert f"may not write to guestinfo ({SETINFO}). Use script_delivery=file_transfer" in refusal.msg
        assert {name for name in calls if "Guest" in name or name.endswith("_Task")} == set()
    done = quiesce(parent, post_clone_script=POST_CLONE)
    assert done["parent"]["quiesced"], done.msg
    assert "Its children cannot report the end of their post-clone script" in str(done["warnings"])
    given = {"parent_name": parent.parent, "name": "web-01"}
    with parent.calls() as calls:
        refusal = parent.fails("vmfork_child", wait_for="post_clone", **given)
    assert f"guestinfo ({SETINFO}). Use another wait_for" in refusal.msg
    assert parent.engine.create not in calls
    assert parent.ok("vmfork_child", wait_for="powered_on", **given)["changed"]
    shown = parent.govc("vm.info", "-json", "-e", "web-01") + str(parent.guest(parent.moid("/DC0/vm/web-01")))
    for value in left.values():
        assert value not in shown


def test_host_that_the_user_may_not_read(parent: VCenter) -> None:
    login = {"username": "junior", "password": "juniors-long-password"}
    host = parent.moid("/DC0/host/DC0_H0/DC0_H0")
    hidden = {"deny": ["System.Read"], "deny_on": [host]}
    parent.control("POST", "users", {"name": "junior", "password": login["password"], **hidden})
    given = {"post_clone_script": POST_CLONE, **login}
    refusal = quiesce(parent, script_delivery="file_transfer", **given)
    assert "Give the user read access to the host" in refusal.msg
    assert_nothing_left(parent)
    done = quiesce(parent, **given)
    assert done.get("parent", {}).get("quiesced"), done.msg
    assert "Scripts go through vCenter instead of the ESXi host" in str(done["warnings"])


NOISE = base64.b64encode(random.Random(1).randbytes(150_000)).decode()
"""It cannot be compressed to less than one guestinfo value."""

ODD = (
    "\ufeff"
    + POST_CLONE.replace("\n", "\r\n")
    + """echo 'größe 名前' "it's" '$HOME "`date`"'\r
# 'unbalanced $(\r
printf 'x\\000\\377y\\303' && head -c 3000 /dev/zero | tr '\\000' z && printf end"""
)


@pytest.mark.parametrize("delivery", ["file_transfer", "guestinfo"])
def test_formats_of_scripts(parent: VCenter, delivery: str) -> None:
    """Windows line ends and byte order mark, quotes, no final newline, much text, long output."""
    script = ODD.replace("# ", f"# {NOISE}", 1)
    bad_output = "printf 'a\\000\\377b\\303'; head -c 3000 /dev/zero | tr '\\000' q; exit 3"
    refusal = quiesce(parent, pre_quiesce_script=bad_output, script_delivery=delivery)
    assert refusal["guest"]["output"] == "q" * 2048, refusal.msg
    given = {"pre_quiesce_script": "printf 'a\\000\\377b\\303'", "post_clone_script": script}
    done = quiesce(parent, script_delivery=delivery, **given)
    assert done["changed"], done.msg
    assert quiesce(parent, script_delivery=delivery, **given)["changed"] is False
    child = parent.fork("web-01").child("web-01")
    assert child["post_clone"]["exit_code"] == 0
    assert child["post_clone"]["output"].endswith("zend")
    assert len(child["post_clone"]["output"]) == 2048
    assert parent.in_guest(child["moid"], "hostname").strip() == "web-01"


def test_binary_output(parent: VCenter) -> None:
    script = "printf 'x\\000\\377y\\303'; echo 'größe 名前' \"it's\" '$HOME \"`date`\"'"
    assert quiesce(parent, pre_quiesce_script=PRE_QUIESCE, post_clone_script=script)["changed"]
    output = parent.fork("web-01").child("web-01")["post_clone"]["output"]
    assert 'größe 名前 it\'s $HOME "`date`"\n' in output
    assert "y\ufffd" in output
    assert "\0" not in output


def test_guest_directory_and_interpreter(parent: VCenter) -> None:
    scripts = {"pre_quiesce_script": PRE_QUIESCE, "post_clone_script": "echo $BASH_VERSION"}
    done = quiesce(parent, **scripts, guest_directory="/var/tmp", interpreter="/bin/bash")
    assert done["guest"]["directory"].startswith("/var/tmp/"), done.msg
    assert parent.fork("web-01").child("web-01")["post_clone"]["output"].strip()
