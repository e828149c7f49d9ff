# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity of children: passed to the script in the guest, reported by it, judged and recorded."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from functional.engines import both_engines, vmfork_only
from functional.vcenter import PRE_QUIESCE, Result, VCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import identity_report

pytestmark = both_engines

# Reports what the config param "act" says, and notes in the guest how it was called.
TEMPLATE = r"""#!/bin/sh
rpc() { case $VMFORK_TOOLS in *rpctool*) "$VMFORK_TOOLS" "$1" ;; *) "$VMFORK_TOOLS" --cmd "$1" ;; esac; }
param() { rpc "info-get guestinfo.fork.$1" 2>/dev/null; }
hex() { head -c 32 "$1" | od -An -v -tx1 | tr -d ' \n'; }
encode() { base64 | tr -d '\n'; }
key() {
  blob=$({ printf '\000\000\000\013ssh-ed25519\000\000\000\040'; head -c 32 "$1"; } | encode)
  echo "ssh-ed25519 $blob" | encode
}
report() { rpc "info-set guestinfo.vmfork.identity $1 1 items:$2 machine_id:$3 keys:$4 why:$5"; }
echo "$* $(param vmfork.identity) $(param vmfork.network) $(param vmfork.clock)" \
  "$(param vmfork.entropy | base64 -d | wc -c) $(param vmfork.agents_remove) $(param vmfork.agents_restart)" \
  >>/root/identity-ran
printf 'the parent of all, and of no other' >/root/parents
if [ "$1" = prepare ]; then
  case $2 in agents) echo cannot prepare; exit 7 ;; esac
  ip address flush dev eth0 scope global
  report parent - "$(hex /root/parents)" "$(key /root/parents)" -
  exit 0
fi
nonce=$(param vmfork.nonce)
names=$2
asked=$(param vmfork.identity) && names=$asked
[ "$names" = auto ] && names=@ITEMS@
items=$(echo "$names" | sed 's/,/=ok,/g; s/$/=ok/')
printf 'a value that two children share, alas' >/root/shared
case $(param act) in
  missing) exit 0 ;;
  manager)
    report "$nonce" "$items" "$(hex /dev/urandom)" "$(key /dev/urandom)" -
    echo 'clock: set'; echo 'network: failed: networkd did not start'; exit 90 ;;
  crash) echo no such device; exit 2 ;;
  malformed) report "$nonce" "$items" not-a-digest - - ;;
  certificate)
    line=$(printf '@cert-authority * %s' "$(key /dev/urandom | base64 -d)" | encode)
    report "$nonce" "$items" "$(hex /dev/urandom)" "$line" - ;;
  failed)
    report "$nonce" "$(echo "$items" | sed 's/hostname=ok/hostname=failed/')" "$(hex /dev/urandom)" \
      "$(key /dev/urandom)" "$(printf 'hostname: read-only\nclock: x' | encode)"
    echo 'hostname: read-only'; exit 90 ;;
  absent) report "$nonce" "$(echo "$items" | sed 's/agents=ok/agents=absent/')" "$(hex /dev/urandom)" \
    "$(key /dev/urandom)" - ;;
  parents) report "$nonce" "$items" "$(hex /root/parents)" "$(key /dev/urandom)" - ;;
  shared) report "$nonce" "$items" "$(hex /dev/urandom)" "$(key /root/shared)" - ;;
  *) report "$nonce" "$items" "$(hex /dev/urandom)" "$(key /dev/urandom)" - ;;
esac
"""
EVERYTHING = ",".join(identity_report.ITEMS)
SCRIPT = TEMPLATE.replace("@ITEMS@", EVERYTHING)
AFTER = "#!/bin/sh\necho after >>/root/identity-ran\n"


@pytest.fixture
def parent(vcenter: VCenter) -> VCenter:
    vcenter.enable()
    return vcenter


def quiesce(vcenter: VCenter, **given: Any) -> Result:
    script = {"post_clone_script": AFTER, "identity_script": SCRIPT}
    return vcenter.run("vmfork_quiesce", **{"name": vcenter.parent, **vcenter.guest_login, **script, **given})


def fork(vcenter: VCenter, *acts: str, **given: Any) -> Result:
    children = [{"name": f"{act}-{at}", "config_params": {"act": act}} for at, act in enumerate(acts)]
    given = {"identity": {}, "parent_name": vcenter.parent, "children": children, "address_timeout": 0, **given}
    return vcenter.run("vmfork_child", **given)


def ran(vcenter: VCenter, moid: str) -> list[list[str]]:
    return [line.split() for line in vcenter.in_guest(moid, "cat /root/identity-ran").splitlines()]


@pytest.mark.parametrize("delivery", ["file_transfer", "guestinfo"])
def test_identity_is_renewed_before_the_post_clone_script(parent: VCenter, delivery: str) -> None:
    assert quiesce(parent, script_delivery=delivery, interpreter="/bin/cat").get("changed")  # not for this script
    assert quiesce(parent, script_delivery=delivery, interpreter="/bin/cat")["changed"] is False
    agents = {"agents_remove": ["/etc/agent/*.id"], "agents_restart": ["agent", "other"]}
    result = fork(parent, "ok", "ok", identity={"network": "networkd", **agents})
    assert not result.get("failed"), result.msg
    for child in result["children"]:
        assert child["identity"]["items"] == dict.fromkeys(EVERYTHING.split(","), "ok")
        assert child["identity"]["renewed"] is True
        assert child["identity"]["ssh_host_keys"][0].startswith("ssh-ed25519 AAAA")
        assert child["post_clone"]["output"].strip() == AFTER.splitlines()[-1], "cat prints the script"
        assert child["secrets_cleared"] is True
        prepared, renewed = ran(parent, child["moid"])
        assert prepared == ["prepare", "auto", "auto", "0"]
        assert renewed[:5] == ["renew", "auto", "auto", "auto", "networkd"]
        assert abs(int(renewed[5]) - time.time()) < 60
        assert renewed[6:] == ["64", "/etc/agent/*.id", "agent", "other"]
    first, second = [child["identity"]["ssh_host_keys"] for child in result["children"]]
    assert first != second


FAILURES = {
    "missing": "its guest has not reported it",
    "malformed": "its guest wrote an unreadable report",
    "certificate": "its guest wrote an unreadable report",
    "failed": "The identity script failed in child failed-1: exit code 90, hostname failed (read-only). Correct",
    "crash": "The identity script failed in child crash-1: exit code 2, output: no such device.",
    "manager": "The identity script failed in child manager-1: exit code 90, output: network: failed: networkd did not",
    "parents": "it has the machine ID of its parent",
}


@pytest.mark.parametrize("failure", FAILURES)
def test_child_without_a_renewed_identity_fails(parent: VCenter, failure: str) -> None:
    """So does a later task, and also one after a power-off that has lost guestinfo."""
    assert quiesce(parent)["changed"]
    for attempt in range(2):
        result = fork(parent, "ok", failure)
        assert result["failed"]
        good, bad = result["children"]
        assert (good["state"], bad["state"]) == ("existing" if attempt else "created", "failed")
        assert FAILURES[failure] in bad["error"]
        assert f"{failure}-1" in bad["error"]
        assert good["identity"]["renewed"] is True
        assert bad["identity"] is None or bad["identity"]["renewed"] is False
    lines = ran(parent, bad["moid"])
    assert (["after"] in lines) is (failure not in ("failed", "crash", "manager"))


def test_children_with_the_same_key_fail_both(parent: VCenter) -> None:
    assert quiesce(parent)["changed"]
    for _attempt in range(2):
        result = fork(parent, "shared", "ok", "shared")
        first, second, third = result["children"]
        assert "it has the same SSH host key (ssh-ed25519) as shared-2" in first["error"]
        assert "it has the same SSH host key (ssh-ed25519) as shared-0" in third["error"]
        assert second["error"] is None
        assert [child["identity"]["renewed"] for child in result["children"]] == [False, True, False]
        assert result["summary"]["failed"] == 2
    shown = parent.ok("vmfork_info", name=parent.parent)["parents"][0]["children"]
    assert {child["name"]: child["identity"]["renewed"] for child in shown} == {
        "shared-0": False,
        "ok-1": True,
        "shared-2": False,
    }


def test_clash_is_remembered(parent: VCenter) -> None:
    """A later task that names only one of the children does not accept it, whether it requires an identity or not."""
    assert quiesce(parent)["changed"]
    assert fork(parent, "shared", "shared")["summary"]["failed"] == 2
    for requested in ({"items": ["auto"]}, None):
        [child] = fork(parent, "shared", identity=requested)["children"]
        assert "an earlier task found that another child has its machine ID or SSH host key" in child["error"]
        assert child["identity"]["renewed"] is False
    parent.govc("vm.destroy", "shared-1")
    [shown] = parent.ok("vmfork_info", name=parent.parent)["parents"][0]["children"]
    assert shown["identity"]["renewed"] is False


@vmfork_only("children of Instant Clone start their operating system at a power-on")
def test_clash_ends_with_another_run_of_the_child(parent: VCenter) -> None:
    assert quiesce(parent)["changed"]
    assert fork(parent, "shared", "shared")["summary"]["failed"] == 2
    parent.govc("vm.destroy", "shared-1")
    parent.govc("vm.power", "-off", "shared-0")
    [child] = fork(parent, "shared")["children"]
    assert child["error"] is None
    assert child["identity"]["renewed"] is True


def test_failed_children_are_removed_on_request(parent: VCenter) -> None:
    assert quiesce(parent)["changed"]
    result = fork(parent, "ok", "shared", "shared", on_failure="remove")
    assert result["summary"]["failed"] == 2
    assert not parent.exists("/DC0/vm/shared-1")
    assert parent.exists("/DC0/vm/ok-0")


def test_absent_item_fails_only_if_it_was_named(parent: VCenter) -> None:
    assert quiesce(parent)["changed"]
    result = fork(parent, "absent")
    assert not result.get("failed"), result.msg
    assert result["children"][0]["identity"]["items"]["agents"] == "absent"
    named = fork(parent, "absent", identity={"items": ["hostname", "agents"]})
    assert "agents is not in its guest" in named["children"][0]["error"]


def test_items_that_were_not_renewed_at_all(parent: VCenter) -> None:
    assert quiesce(parent, identity_items=["hostname"])["changed"]
    without = fork(parent, "ok", identity=None)
    assert not without.get("failed"), without.msg
    assert without["children"][0]["identity"]["items"] == {"hostname": "ok"}
    assert "machine_id was not reported" in fork(parent, "ok", identity={})["children"][0]["error"]
    fewer = fork(parent, "ok", "ok", identity={"items": ["hostname", "leases"]})["children"][1]
    assert fewer["identity"]["items"] == {"leases": "ok", "hostname": "ok"}
    assert ran(parent, fewer["moid"])[1] == ["renew", "hostname", "auto", "leases,hostname", "auto", "0"]


@pytest.mark.parametrize("check", [True, False])
def test_parent_without_an_identity_script(parent: VCenter, check: bool) -> None:
    """Its children would all fail, so none is created; those that exist do not need it."""
    assert quiesce(parent, identity_script=None, pre_quiesce_script=PRE_QUIESCE)["changed"]
    with parent.calls() as calls:
        result = fork(parent, "ok", "ok", check=check)
    assert result["failed"]
    assert "cannot renew the identity that is required of ok-0, ok-1: it was quiesced without" in result.msg
    assert parent.engine.create not in calls
    assert parent.ok("vmfork_info", name=parent.parent)["parents"][0]["children"] == []
    plain = fork(parent, "other", identity=None)
    assert not plain.get("failed"), plain.msg
    again = fork(parent, "other")
    assert "its guest has not reported it. Quiesce the parent with identity_script" in again.msg


@pytest.mark.parametrize("check", [True, False])
def test_parent_whose_report_is_lost(parent: VCenter, check: bool) -> None:
    """No child is created to fail, and one that need not renew its identity is not accepted without a comparison."""
    assert quiesce(parent)["changed"]
    parent.govc("vm.change", "-vm", parent.parent, "-e", "guestinfo.vmfork.identity=lost")
    with parent.calls() as calls:
        result = fork(parent, "ok", check=check)
    assert "its identity script has reported no valid identity of the VM itself" in result.msg
    assert parent.engine.create not in calls
    assert fork(parent, "clock", identity={"items": ["clock"]})["children"][0]["error"] is None
    [child] = fork(parent, "other", identity=None)["children"]
    assert "other-0 was not renewed: its parent has not reported an identity" in child["error"]
    assert child["identity"]["renewed"] is False


def test_script_that_fails_before_the_fork_point(parent: VCenter) -> None:
    refusal = quiesce(parent, identity_items=["agents"])
    assert "the identity script failed before the fork point (exit code 7, output: cannot prepare)" in refusal.msg
    assert refusal["guest"]["exit_code"] == 7
    assert parent.in_guest(parent.moid(), "ls -A /tmp").strip() == ""
    assert quiesce(parent, identity_items=["hostname"])["changed"]


def test_other_version_of_the_identity_script_is_a_warning(parent: VCenter) -> None:
    assert quiesce(parent)["changed"]
    newer = quiesce(parent, identity_script=SCRIPT + "# newer\n")
    assert newer["changed"] is False
    assert "another version of the identity script" in newer.raw
    assert "an identity script, which this task does not have" in quiesce(parent, identity_script=None).raw
    assert "different scripts" in quiesce(parent, post_clone_script=AFTER + "# other\n").msg
    assert "version of the identity" not in quiesce(parent).raw


def test_parent_of_an_earlier_version_has_no_record_of_the_identity_script(parent: VCenter) -> None:
    assert quiesce(parent, identity_script=None)["changed"]
    again = quiesce(parent)
    assert again["changed"] is False
    assert "identity" not in str(again.get("warnings"))


def entropy(vcenter: VCenter, moid: str) -> str:
    return vcenter.in_guest(moid, "cat /root/entropy").strip()


@pytest.mark.parametrize("end", ["", "exit 3\n"])
def test_entropy_is_never_shown(parent: VCenter, end: str) -> None:
    script = AFTER + "vmtoolsd --cmd 'info-get guestinfo.fork.vmfork.entropy' | tee /root/entropy\n" + end
    assert quiesce(parent, post_clone_script=script)["changed"]
    result = fork(parent, "ok", diff=True, return_output=True)
    assert bool(result.get("failed")) is bool(end)
    moid = result["children"][0]["moid"]
    secret = entropy(parent, moid)
    assert len(base64.b64decode(secret)) == 64
    assert secret not in result.raw
    shown = parent.govc("object.collect", "-json", f"VirtualMachine:{moid}", "config") + str(parent.guest(moid))
    assert secret not in shown
    assert base64.b64encode(secret.encode()).decode()[:-4] not in shown
    assert fork(parent, "ok")["children"][0]["changed"] is False


def test_calls(parent: VCenter) -> None:
    """The record of the identity is one request more for a child that has no record of its end otherwise."""
    assert quiesce(parent)["changed"]
    for acts, identity in ((("a", "b"), None), (("c", "d"), {})):
        with parent.calls() as calls:
            assert not fork(parent, *acts, identity=identity).get("failed")
        assert calls["ReconfigVM_Task"] == len(acts) * (1 if parent.engine.starts_running else 2)
    with parent.calls() as calls:
        assert fork(parent, "c", "d")["changed"] is False
    assert "ReconfigVM_Task" not in calls


def test_info_returns_what_was_accepted(parent: VCenter) -> None:
    assert quiesce(parent)["changed"]
    result = fork(parent, "ok")
    moid, accepted = result["children"][0]["moid"], result["children"][0]["identity"]
    assert accepted["renewed"] is True
    nonce = parent.in_guest(moid, "vmtoolsd --cmd 'info-get guestinfo.fork.vmfork.nonce'").strip()
    forged = f"{nonce} 1 items:- machine_id:- keys:- why:-"
    parent.in_guest(moid, f"vmtoolsd --cmd 'info-set guestinfo.vmfork.identity {forged}'")
    [child] = parent.ok("vmfork_info", name=parent.parent)["parents"][0]["children"]
    assert child["identity"] == accepted
    again = fork(parent, "ok")
    assert again["children"][0]["identity"] == accepted
    assert "reports another identity than the one that was accepted" in again.raw


@vmfork_only("children of Instant Clone start their operating system at a power-on")
def test_child_that_forks_again_gets_another_identity(parent: VCenter) -> None:
    assert quiesce(parent)["changed"]
    first = fork(parent, "ok")["children"][0]
    parent.govc("vm.power", "-off", "ok-0")
    second = fork(parent, "ok")["children"][0]
    assert second["error"] is None, second["error"]
    assert second["identity"]["renewed"] is True
    assert second["identity"]["machine_id"] != first["identity"]["machine_id"]
    assert ran(parent, second["moid"])[-2][6] == "64"
    shown = parent.ok("vmfork_info", name=parent.parent)["parents"][0]["children"][0]
    assert shown["identity"] == second["identity"]


def test_persistent_child_keeps_its_identity_over_a_power_cycle(parent: VCenter) -> None:
    if not parent.engine.starts_running:
        parent.govc("snapshot.create", "-vm", parent.parent, "-m=false", "before")
    assert quiesce(parent)["changed"]
    first = fork(parent, "ok", persistent=True)["children"][0]
    assert first["error"] is None, first["error"]
    parent.govc("vm.power", "-off", "ok-0")
    for key in ("guestinfo.vmfork.identity", "guestinfo.vmfork.post_clone"):
        parent.govc("vm.change", "-vm", "ok-0", "-e", f"{key}=")
    second = fork(parent, "ok", persistent=True)["children"][0]
    assert second["error"] is None, second["error"]
    assert second["identity"] == first["identity"]


@pytest.mark.parametrize("stopped", ["2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z"])
def test_clock_of_a_parent_that_has_been_frozen_for_long(parent: VCenter, stopped: str) -> None:
    """The clock of a child begins there, so it is wrong also if the guest's clock was ahead of time."""
    assert quiesce(parent)["changed"]
    parent.govc("vm.change", "-vm", parent.parent, "-e", f"guestinfo.vmfork.quiesced_at={stopped}")
    remark = f"The clock of VM {parent.parent} was at {stopped} when it reached its fork point"
    with parent.calls() as calls:
        assert remark not in fork(parent, "ok").raw
    assert "CurrentTime" not in calls
    named = fork(parent, "other", identity={"items": ["hostname"]})
    assert "and no identity script has set the clock of other-0. Set it in the post-clone script" in named.raw
    for result in (named, fork(parent, "other", "missing", identity=None), fork(parent, "a", "b", "crash")):
        assert remark in result.raw
    assert "the clock of crash-2." in result.raw
    assert remark not in fork(parent, "other", identity={"items": ["hostname"]}).raw, "it exists"


@pytest.mark.parametrize("script", [SCRIPT, None])
def test_clock_of_children_whose_script_is_not_awaited(parent: VCenter, script: str | None) -> None:
    """Without an identity script, nothing can set it; with one, it may still do so."""
    assert quiesce(parent, identity_script=script, pre_quiesce_script=PRE_QUIESCE)["changed"]
    parent.govc("vm.change", "-vm", parent.parent, "-e", "guestinfo.vmfork.quiesced_at=2026-01-01T00:00:00Z")
    result = fork(parent, "ok", "ok", identity=None, wait_for="powered_on")
    assert ("no identity script has set the clock of ok-0, ok-1." in result.raw) is (script is None)


def test_clock_of_a_parent_that_was_frozen_just_now(parent: VCenter) -> None:
    assert quiesce(parent, identity_script=None, pre_quiesce_script=PRE_QUIESCE)["changed"]
    assert "reached its fork point" not in fork(parent, "ok", identity=None).raw


REFUSED = {
    "items": ({"items": ["clock", "coffee"]}, "coffee is not an item"),
    "auto": ({"items": ["auto", "clock"]}, "must be either auto or the items"),
    "path": ({"agents_remove": ["etc/agent"]}, "'etc/agent' is not an absolute path"),
    "service": ({"agents_restart": ["-H x"]}, "'-H x' is not the name of a service"),
    "agents": ({"items": ["clock"], "agents_restart": ["x"]}, "needs the item agents"),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_options_that_are_refused(vcenter: VCenter, refused: str) -> None:
    identity, why = REFUSED[refused]
    with vcenter.calls() as calls:
        assert why in fork(vcenter, "ok", identity=identity).msg
        assert "needs wait_for=post_clone" in fork(vcenter, "ok", wait_for="tools").msg
    assert not calls
