# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the variables of the playbooks: connection, misspelled names, and numbers."""

from __future__ import annotations

import contextlib
import itertools
import json
import pathlib
import re
import subprocess

import pytest
import yaml
from ansible.errors import AnsibleError
from harness import playbook_pages
from unit import templates

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import configured, diagnosis, evidence
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.origin import PowerOn

ROOT = pathlib.Path(__file__).resolve().parents[2]
NUMBERS_OF_THE_REPAIR = ["__ovfenv_batch_size", "__ovfenv_max_failures"]
RIGHT = {"rank": diagnosis.URGENCY.index("delivered") + 1, "act_now": False, "needs_power_cycle": False}


@pytest.mark.parametrize("playbook", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_connection_options_have_variables(playbook: pathlib.Path) -> None:
    (play,) = yaml.safe_load(playbook.read_text())
    known = {"omit": "not given"}
    for name in play["vars_files"]:
        known |= yaml.safe_load((playbook.parent / name).read_text())
    given = {f"vmfork_{option}": f"{option} of the user" for option in _arguments.connection_spec()}
    defaults = play["module_defaults"]["group/vmfork.vsphere.all"]
    found = templates.evaluate(defaults, {**known, **given})
    assert {f"vmfork_{option}": found.get(option) for option in _arguments.connection_spec()} == given
    assert set(templates.evaluate(defaults, known).values()) == {"not given"}


def test_variables_of_ovf_playbooks_are_known() -> None:
    """Only those that their comments list and those that they use are not reported as misspelled."""
    files = [path for path in (ROOT / "playbooks").rglob("*ovfenv*") if path.is_file()]
    found = {name for path in files for name in re.findall(r"(?<![\w.])ovfenv_\w+", path.read_text())}
    variables = yaml.safe_load((ROOT / "playbooks" / "vars" / "ovfenv.yml").read_text())["__ovfenv_known_variables"]
    known = {name for name in variables if name.startswith("ovfenv_")}
    assert found - {path.name.partition(".")[0] for path in files} == known
    connection = {f"vmfork_{option}" for option in _arguments.connection_spec()} - {"vmfork_timeout"}
    assert connection <= set(variables)


@pytest.mark.parametrize("name", ["vapp_backup", "vapp_restore"])
def test_variables_of_vapp_playbooks_are_known(name: str) -> None:
    text = (ROOT / "playbooks" / f"{name}.yml").read_text()
    values = yaml.safe_load((ROOT / "playbooks" / "vars" / "vapp.yml").read_text())
    shared: set[str] = set()
    while more := {variable for variable in values if re.search(rf"{variable}(?!\w)", text)} - shared:
        shared |= more
        text += "".join(values[variable] for variable in more)
    plugins = {path.stem for kind in ("filter", "lookup") for path in (ROOT / "plugins" / kind).glob("*.py")}
    playbooks = {path.stem for path in (ROOT / "playbooks").glob("*.yml")} | {"vapp_backup_result"}
    listed = text.partition("- name:")[0]
    variables = yaml.safe_load((ROOT / "playbooks" / "vars" / "ovfenv.yml").read_text())["__ovfenv_known_variables"]
    for names in (set(re.findall(r"(?<!\w)vapp_\w+", text)), set(re.findall(r"^#   (vapp_\w+)", listed, re.MULTILINE))):
        assert names - plugins - playbooks <= set(variables)
    used = set(re.findall(r"(?<!\w)vapp_\w+", text.partition("- name:")[2])) - plugins - playbooks
    assert used <= set(re.findall(r"vapp_\w+", listed)), "the comment lists what is used"


def test_misspelled_variables_are_reported() -> None:
    """Only they are reported, and without their values."""
    for path in [*(ROOT / "playbooks").glob("ovfenv_*.yml"), *(ROOT / "playbooks").glob("vapp_*.yml")]:
        (play,) = yaml.safe_load(path.read_text())
        assert play["tasks"][0]["ansible.builtin.import_tasks"] == "tasks/ovfenv_variables.yml"
    given = {
        "ovfenv_guest_pasword": "not-to-be-displayed",
        "vmfork_hostnam": "vcenter.example.com",
        "vmfork_child_count": 2,
        "ovfenv_guest_username": "root",
        "ovfenv_registered": {"failed": False},
        "ovfenv_fail_on": "losst",
    }
    ended = subprocess.run(
        ["ansible-playbook", str(ROOT / "playbooks" / "ovfenv_report.yml"), "-e", json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "The playbook has no variable ovfenv_guest_pasword, vmfork_hostnam. Check" in ended.stdout, ended.stderr
    assert "not-to-be-displayed" not in ended.stdout + ended.stderr
    assert ended.returncode == 2, "something else is refused before vCenter is contacted"
    assert "There is no verdict losst. Use these in ovfenv_fail_on: lost, " in " ".join(ended.stdout.split())


@pytest.mark.parametrize(
    "name",
    ["vapp_vms", "vapp_moids", "vapp_keys", "ovfenv_vms", "ovfenv_moids", "ovfenv_fail_on", "ovfenv_accept_risks"],
)
@pytest.mark.parametrize(
    ("value", "is_refused"),
    [
        *[(value, True) for value in (",", " ", " ,\n", [" "], [""], [",", "\n"], False, {"a": 1})],
        *[(value, False) for value in ("", None, [], "a,", ["a", ""], 5, "[1]")],
    ],
)
def test_lists_without_a_name(name: str, value: object, is_refused: bool) -> None:
    """They would select everything."""
    file, _underscore, rest = name.partition("_")
    variables = yaml.safe_load((ROOT / "playbooks" / "vars" / f"{file}.yml").read_text())
    with pytest.raises(AnsibleError, match=name) if is_refused else contextlib.nullcontext():
        found = templates.evaluate(f"{{{{ __{file}_{rest} }}}}", {**variables, name: value})
        assert found == ([] if not value else [str(value).strip("[],'\" ")])


def test_pages_of_playbooks_are_up_to_date() -> None:
    assert playbook_pages.outdated() == [], "run python tests/harness/playbook_pages.py"


def test_page_of_a_playbook_has_its_variables() -> None:
    """Those of the comment, with continued lines, and those of the entry point of the role."""
    text = (ROOT / "playbooks" / "vapp_restore.yml").read_text()
    before, rows, after = playbook_pages.comment(text)
    assert before[0].startswith("Restore the vApp options of VMs from a backup")
    assert (
        dict(rows)["``vapp_folder``, ``vapp_datacenter``"] == "where to look for the VMs; default: the entire vCenter"
    )
    assert after[0].startswith("Secrets that the backup has encrypted")
    pages = {path.stem: page for path, page in playbook_pages.pages().items()}
    for name, entry in (("fork", "main"), ("remove_children", "remove"), ("thaw_parent", "thaw")):
        spec = yaml.safe_load((ROOT / "roles/vmfork/meta/argument_specs.yml").read_text())["argument_specs"][entry]
        assert set(re.findall(r"^   \* - ``(\w+)``$", pages[f"playbook_{name}"], re.MULTILINE)) == set(spec["options"])


def test_markup_of_options_becomes_links() -> None:
    given = (
        "As O(a.b.c#module:d), O(e=f), V(true), M(a.b.c), P(a.b.r#role), R(the guide, x.y) and RV(a.b.c#module:z[])."
    )
    assert playbook_pages.markup(given) == (
        "As :ansopt:`a.b.c#module:d`, ``e=f``, ``true``, :ansplugin:`a.b.c#module`, :ansplugin:`a.b.r#role`, "
        ":ref:`the guide <x.y>` and :ansretval:`a.b.c#module:z[]`."
    )


@pytest.mark.parametrize("name", ["ovfenv_repair_batch", "ovfenv_repair_max_failures"])
@pytest.mark.parametrize(
    "value", ["-1", -1, "many", True, False, "yes", "1.5", 1.5, "5 6", [], [2], "١", "1\n2", "99999"]
)
def test_numbers_of_the_repair_are_refused(name: str, value: object) -> None:
    assert not are_numbers({name: value})


def test_empty_batch_is_refused() -> None:
    assert not are_numbers({"ovfenv_repair_batch": 0})
    assert not are_numbers({"ovfenv_repair_batch": "0"})


@pytest.mark.parametrize("value", [None, "", "5", 5, " 5 ", "5\n"])
def test_numbers_of_the_repair_from_a_survey(value: object) -> None:
    assert are_numbers({"ovfenv_repair_batch": value, "ovfenv_repair_max_failures": value})
    assert are_numbers({"ovfenv_repair_max_failures": 0})


def test_repair_stops_at_the_first_failure_of_single_vms() -> None:
    """Unless the numbers are given."""
    variables = yaml.safe_load((ROOT / "playbooks" / "vars" / "ovfenv.yml").read_text())
    defaults = {name: templates.evaluate(variables[name], variables) for name in NUMBERS_OF_THE_REPAIR}
    assert [int(value) for value in defaults.values()] == [1, 0]


def are_numbers(given: dict[str, object]) -> bool:
    """Return whether the repair accepts the variables instead of ending before it contacts vCenter."""
    (play,) = yaml.safe_load((ROOT / "playbooks" / "ovfenv_repair.yml").read_text())
    (check,) = [task for task in play["tasks"] if task["name"] == "Check the numbers"]
    names = [task["name"] for task in play["tasks"]]
    assert names.index("Check the numbers") < names.index("Examine the VMs")
    variables = yaml.safe_load((ROOT / "playbooks" / "vars" / "ovfenv.yml").read_text())
    known = {**variables, **given}
    conditions = check["ansible.builtin.assert"]["that"]
    return all(templates.evaluate("{{ " + condition + " }}", known) for condition in conditions)


@pytest.mark.parametrize("playbook", ["ovfenv_repair", "vapp_restore"])
@pytest.mark.parametrize(
    ("value", "is_taken"),
    [
        *itertools.product((None, "", [], True, False, "yes", "No", "TRUE"), (False,)),
        *itertools.product(("db", "db, web", ["db"], "yes-01"), (True,)),
    ],
)
def test_names_are_confirmed_not_a_boolean(playbook: str, value: object, is_taken: bool) -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks" / f"{playbook}.yml").read_text())
    names = [task["name"] for task in play["tasks"]]
    (check,) = [task for task in play["tasks"] if task["name"].startswith("Check that the VMs that may be ")]
    reads_vcenter = next(name for name in names if name in ("Examine the VMs", "Read the VMs"))
    assert names.index(check["name"]) < names.index(reads_vcenter)
    confirmed = "vapp_restore_confirm" if playbook == "vapp_restore" else "ovfenv_repair_confirm"
    known = {**play.get("vars", {}), confirmed: value}
    assert templates.evaluate("{{ " + check["ansible.builtin.assert"]["that"] + " }}", known) is is_taken


@pytest.mark.parametrize(
    ("names", "confirmed", "refused_by"),
    [
        pytest.param("db", "db", "", id="name"),
        pytest.param("db", "vm-0", "", id="managed object ID"),
        pytest.param("db,web", "vm-0", "confirmed", id="another VM"),
        pytest.param("db", "vm-00,vm-,vm,VM-0", "confirmed", id="similar IDs"),
        pytest.param("web,web", "web", "unique", id="a name of two VMs"),
        pytest.param("web,web", "web,vm-0", "unique", id="one of two VMs"),
        pytest.param("web,web,db", "vm-0,vm-1,db", "", id="both of two VMs"),
    ],
)
def test_repair_of_confirmed_vms_only(names: str, confirmed: str, refused_by: str) -> None:
    """A managed object ID confirms exactly one VM, and suffices if several VMs have the same name."""
    listed = names.split(",")
    vms = [
        {
            "name": name,
            "moid": f"vm-{number}",
            "name_expected": name in confirmed.split(","),
            "name_unique": listed.count(name) == 1,
            "needs_power_on": False,
            "inventory_path": f"/DC/vm/{name}",
            "diagnosis": {"rank": 1, "act_now": False, "needs_power_cycle": True},
        }
        for number, name in enumerate(listed)
    ]
    given = {"ovfenv_repair_confirm": confirmed, "ovfenv_result": {"ovfenv": vms, "summary": {"total": len(vms)}}}
    variables = yaml.safe_load((ROOT / "playbooks" / "vars" / "ovfenv.yml").read_text())
    (play,) = yaml.safe_load((ROOT / "playbooks" / "ovfenv_repair.yml").read_text())
    checks = {
        "unique": "Check that their names are unique",
        "confirmed": "Check that each VM that would be power-cycled is confirmed",
    }
    refused = []
    for word, name in checks.items():
        (task,) = [task for task in play["tasks"] if task["name"] == name]
        known = {**variables, **task.get("vars", {}), **given}
        if not templates.evaluate("{{ " + task["ansible.builtin.assert"]["that"] + " }}", known):
            refused.append(word)
    assert refused[:1] == [refused_by] * bool(refused_by)


@pytest.mark.parametrize("playbook", ["ovfenv_report", "ovfenv_repair"])
@pytest.mark.parametrize(("vms", "is_accepted"), [([], False), ([{"name": "web"}], True)])
def test_fails_if_no_vm_was_found(playbook: str, vms: list[dict[str, str]], is_accepted: bool) -> None:
    """A user who no longer sees the VMs must notice that."""
    (play,) = yaml.safe_load((ROOT / "playbooks" / f"{playbook}.yml").read_text())
    (check,) = [
        task["ansible.builtin.assert"]
        for task in play["tasks"]
        if str(task.get("ansible.builtin.assert", {}).get("fail_msg")).startswith("No VM was found")
    ]
    assert templates.evaluate("{{ " + check["that"] + " }}", {"ovfenv_result": {"ovfenv": vms}}) is is_accepted


@pytest.mark.parametrize("origin", ["ha_restart", "esxi_direct"])
@pytest.mark.parametrize("image", [evidence.Iso(True), evidence.Iso(True, "[ds] a/_ovfenv-a.iso", True)])
def test_fails_for_a_vm_that_lost_its_cdrom_and_names_the_cause(origin: str, image: evidence.Iso) -> None:
    lost = evidence.Evidence(
        "web",
        "vm-1",
        configured=configured.Configured(enabled=True, transports=("iso",), vapp_properties=1),
        power_on=PowerOn(origin, "high"),
        iso=image,
    )
    seen = diagnosis.facts(diagnosis.judge(lost))
    vms = [{"name": "web", "moid": "vm-1", "diagnosis": seen}, {"name": "x", "moid": "vm-2", "diagnosis": RIGHT}]
    (play,) = yaml.safe_load((ROOT / "playbooks" / "ovfenv_report.yml").read_text())
    task = play["tasks"][-1]["ansible.builtin.assert"]
    variables = yaml.safe_load((ROOT / "playbooks" / "vars" / "ovfenv.yml").read_text())
    given = {"ovfenv_fail_on": "lost", "ovfenv_result": {"ovfenv": vms, "summary": {"total": 2}}}
    known = {**variables, **given}
    assert not templates.evaluate("{{ " + task["that"] + " }}", known)
    cause = {"ha_restart": "ha_restart", "esxi_direct": "powered_on_from_esxi"}[origin]
    assert templates.evaluate(task["fail_msg"], known) == f"1 of 2 VMs: web (lost, {cause})"


@pytest.mark.parametrize(
    ("text", "is_accepted"),
    [
        pytest.param(None, False, id="missing"),
        pytest.param("", False, id="empty"),
        pytest.param("<html></html>", False, id="another page"),
        pytest.param('<script id="ovfenv-data" type="application/json">{}</script>', True, id="report"),
    ],
)
def test_earlier_report(tmp_path: pathlib.Path, text: str | None, is_accepted: bool) -> None:
    if text is not None:
        (tmp_path / "page.html").write_text(text)
    (play,) = yaml.safe_load((ROOT / "playbooks" / "ovfenv_report.yml").read_text())
    names = [task["name"] for task in play["tasks"]]
    (check,) = [task for task in play["tasks"] if task["name"] == "Check the earlier report"]
    assert names.index(check["name"]) < names.index("Examine the VMs")
    variables = yaml.safe_load((ROOT / "playbooks" / "vars" / "ovfenv.yml").read_text())
    known = {**variables, "ovfenv_earlier_report": str(tmp_path / "page.html")}
    assert templates.evaluate("{{ " + check["ansible.builtin.assert"]["that"] + " }}", known) is is_accepted
