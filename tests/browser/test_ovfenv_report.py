# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The web page of the playbook ovfenv_report in a real browser."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from browser import samples
from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")  # the names that tests/harness/pytest.sh looks for
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1440, "height": 900}
VARIABLES = yaml.safe_load((HERE.parents[1] / "playbooks/vars/ovfenv.yml").read_text())
VERDICTS, ORIGINS = VARIABLES["__ovfenv_verdicts"], VARIABLES["__ovfenv_origins"]
ACT_WORDS = VARIABLES["__ovfenv_acts"]
ACTS = list(ACT_WORDS)
EARLIER, NOW = 40, 60
"""VMs in the earlier report, and in the one looked at."""


class Unsafe(yaml.SafeLoader):
    """Load extra variables as Ansible does: text marked as unsafe is not templated."""


Unsafe.add_constructor("!unsafe", lambda loader, node: str(node.value))


@pytest.fixture(scope="session")
def result() -> dict[str, Any]:
    return samples.result(NOW)


@pytest.fixture(scope="session")
def listed(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the VMs that the page must list, by managed object ID."""
    hidden = ("not_configured", "not_applicable")
    shown = [vm for vm in result["ovfenv"] if vm["diagnosis"]["status"] not in hidden or vm["configured"]["enabled"]]
    return {vm["moid"]: vm for vm in shown}


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory, result: dict[str, Any]) -> Path:
    """Return the page, compared with that of an earlier report."""
    folder = tmp_path_factory.mktemp("report")
    make(folder, "earlier.html", samples.result(EARLIER))
    return make(
        folder, "now.html", result, ovfenv_earlier_report="earlier.html", ovfenv_report_csv="now.csv",
        ovfenv_guest_become="sudo", vmfork_port="8989", vmfork_validate_certs=False,
    )  # fmt: skip


def make(folder: Path, name: str, result: dict[str, Any], **more: Any) -> Path:
    source = folder / f"{name}.json"
    source.write_text(json.dumps(result))
    given = {"result_file": str(source), "ovfenv_report_file": name, "vmfork_hostname": "vcenter.example.com", **more}
    ended = subprocess.run(
        ["ansible-playbook", str(HERE / "render.yml"), "-e", json.dumps(given)],
        cwd=folder, env={**os.environ, "PWD": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder / name


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, report: Path) -> Iterator[Open]:
    """Open the page; assert at the end that it reported no error, loaded nothing else and ran only its own script."""
    complaints: list[str] = []
    requests: list[str] = []
    contexts = []

    def opened(**settings: Any) -> Page:
        context = browser.new_context(**{"viewport": DESKTOP, **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(report.as_uri())
        assert page.title().startswith("OVF environments of vcenter.example.com, 20")
        return page

    yield opened
    titles = [context.pages[0].title() for context in contexts]
    for context in contexts:
        context.close()
    assert all(title.startswith("OVF environments") for title in titles)
    assert complaints == []
    assert requests == [report.as_uri()] * len(contexts)


def column(page: Page, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(f"tbody tr:not([hidden]) {selector}").all_text_contents()]


COLORS = """rows => rows.every(row => getComputedStyle(row.cells[0]).boxShadow
    .startsWith(getComputedStyle(row.querySelector(".verdict")).color))"""
"""Whether the edge of each row has the color of its verdict."""

TEXTS = """rows => rows.map(row => [row, row.querySelector(".name"), row.querySelector(".verdict")]
    .map(one => one.textContent).concat(row.querySelector("th .small").textContent.match(/vm-[0-9]+(?= on esx)/)[0]))"""
"""The text, the name, the verdict and the managed object ID of each row."""


def test_row_contains_everything_about_its_vm(open_page: Open, listed: dict[str, dict[str, Any]]) -> None:
    page = open_page()
    rows = page.eval_on_selector_all("tbody tr", TEXTS)
    assert len(rows) == len(listed)
    above = page.locator("details.all").text_content() or ""
    for text, name, verdict_shown, moid in rows:
        vm = listed[moid]
        verdict = vm["diagnosis"]
        assert name == vm["name"]
        assert verdict_shown == f"{VERDICTS[verdict['status']]['symbol']} {verdict['status']}"
        expected = [
            verdict["message"],
            verdict["impact"],
            *verdict["evidence"],
            *verdict["warnings"],
            *verdict["remedy_risks"],
        ]
        expected += [", ".join(filter(None, (verdict["cause"], f"{verdict['confidence']} confidence")))]
        expected += [ACT_WORDS[verdict["act"]]]
        expected += [product[part] for product in vm["configured"]["products"] for part in ("name", "full_version")]
        if vm["boot_time"] or vm["power_on"]["time"]:
            expected += [ORIGINS.get(vm["power_on"]["reason"]) or ORIGINS[vm["power_on"]["origin"]]]
        expected += [vm["power_on"]["user"] or "", (vm["boot_time"] or "").replace("T", " ")[:16]]
        expected += [f"vApp options changed by {change['user']}" for change in vm["power_on"]["reconfigured"]]
        assert [part for part in expected if part not in text + above] == []
    assert page.locator("tbody tr").evaluate_all(COLORS)


def test_sorts_by_urgency_by_name_and_by_verdict(open_page: Open, listed: dict[str, dict[str, Any]]) -> None:
    page = open_page()
    urgent = column(page, ".name")
    ranks = list(VERDICTS)
    by_name = {vm["name"]: (ACTS.index(vm["diagnosis"]["act"]), ranks.index(vm["diagnosis"]["status"]), vm["name"])
               for vm in listed.values()}  # fmt: skip
    assert urgent == sorted(urgent, key=by_name.__getitem__)
    assert page.locator("thead [aria-sort]").text_content() == "Urgency"
    page.get_by_role("button", name="Verdict").click()
    verdicts = column(page, ".verdict")
    order = [f"{verdict['symbol']} {name}" for name, verdict in VERDICTS.items()]
    assert verdicts == sorted(verdicts, key=order.index)
    assert len(set(verdicts)) == len(VERDICTS) - 1, "every verdict but not_configured should be there"

    page.get_by_role("button", name="VM", exact=True).click()
    names = column(page, ".name")
    apps = [name for name in names if name.startswith("app-")]
    assert apps == sorted(apps, key=lambda name: int(name[4:]))
    assert names != apps
    assert page.locator("thead [aria-sort]").text_content() == "VM"
    page.get_by_role("button", name="VM", exact=True).click()
    assert column(page, ".name") == names[::-1]

    page.get_by_role("button", name="Verdict").click()
    assert column(page, ".verdict") == verdicts
    page.get_by_role("button", name="Verdict").click()
    assert column(page, ".verdict") == verdicts[::-1]
    assert page.locator("thead [aria-sort=descending]").text_content() == "Verdict"

    page.get_by_role("button", name="Urgency").press("Enter")
    assert column(page, ".name") == urgent


def test_copied_commands_select_their_vm_whatever_its_name(open_page: Open, listed: dict[str, dict[str, Any]]) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    repaired, looks = set(), set()
    commands = page.locator(".command")
    owners = commands.evaluate_all("""all => all.map(one => one.closest("tr"))
        .map(row => row.querySelector("th .small").textContent.match(/vm-[0-9]+(?= on esx)/)[0])""")
    for moid, command in zip(owners, commands.all(), strict=True):
        command.get_by_role("button").click()
        command.get_by_role("button", name="Copied").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        program, playbook, flag, variables = shlex.split(copied)
        vm = listed[moid]
        status, name, found_by = vm["diagnosis"]["status"], vm["name"], vm["guest"]["method"]
        if vm["diagnosis"]["cause"] == "foreign_id":
            found_by = "full"  # only the values show whose document it is
        sure = vm["diagnosis"]["confidence"] == "high" and playbook == "vmfork.vsphere.ovfenv_repair"
        assert (program, flag) == ("ansible-playbook", "-e")
        plain = re.fullmatch("[a-z0-9-]+", name) is not None or playbook == "vmfork.vsphere.ovfenv_report"
        assert plain != variables.startswith("{")
        given = dict(word.split("=", 1) for word in variables.split()) if plain else yaml.load(variables, Unsafe)
        assert not plain or len(copied) < 240
        assert given.pop("vmfork_hostname") == "vcenter.example.com"
        assert given.pop("vmfork_port") == "8989"
        assert given.pop("vmfork_validate_certs") == "False"
        assert given.pop("ovfenv_moids") == (moid if plain else [moid])
        if playbook == "vmfork.vsphere.ovfenv_repair":
            assert ("!unsafe" in variables) == ("{{" in name)
            assert given.pop("ovfenv_repair_confirm") == (name if plain else [name])
            repaired.add(status)
        else:
            assert given.pop("ovfenv_report_file") == ""
        look = given.pop("ovfenv_guest_probe", None)
        looks.add((status, look))
        assert look == found_by or (found_by is None and look == (None if sure else "exit_code"))
        assert given == ({"ovfenv_guest_become": "sudo"} if look else {})
    assert repaired == {"lost", "lost_suspected", "stale", "contradictory"}
    assert looks > {
        ("stale", None),
        ("stale", "exit_code"),
        ("stale", "full"),
        ("lost", "exit_code"),
        ("lost_suspected", "exit_code"),
        ("delivered", "full"),
    }


GONE = 18
"""The kind of samples.entry() whose vApp options are gone."""


def test_command_restores_exactly_the_lost_options_that_the_backup_contains(browser: Browser, tmp_path: Path) -> None:
    names = ["mail-1", "it's {{ 6 * 7 }}, $(touch broken)", "twin", "twin", "not-in-the-backup"]
    vms = [samples.entry(number, name, GONE) for number, name in enumerate(names)]
    kept = samples.entry(10, "still-there", 3)
    backup = tmp_path / "backup"
    backup.mkdir()
    uuids = [vm["instance_uuid"].upper() for vm in vms[:-1]] + [kept["instance_uuid"]]
    entries = [{"name": uuid, "file": f"{uuid}.json", "instance_uuid": uuid} for uuid in uuids]
    (backup / "index.json").write_text(json.dumps({"version": 1, "vms": entries}))
    summary = samples.result(1)["summary"] | {"total": len(vms) + 1}
    path = make(
        tmp_path, "gone.html", {"ovfenv": [*vms, kept], "summary": summary},
        vapp_backup_directory="backup", vmfork_port="8989", vmfork_validate_certs=False,
    )  # fmt: skip
    page = browser.new_page()
    page.goto(path.as_uri())
    shared = {
        "vmfork_hostname": "vcenter.example.com", "vmfork_port": "8989", "vmfork_validate_certs": "False",
        "vapp_backup_directory": str(backup),
    }  # fmt: skip
    confirmed = ["mail-1", "vm-1", "vm-2", "vm-3"]

    def command(text: str) -> dict[str, str]:
        program, playbook, flag, variables = shlex.split(text)
        assert (program, playbook, flag) == ("ansible-playbook", "vmfork.vsphere.vapp_restore", "-e")
        return dict(word.split("=", 1) for word in variables.split())

    (all_of_them,) = page.locator("body > .command code").all_text_contents()
    whole = command(all_of_them)
    assert set(whole.pop("vapp_vms").split(",")) == set(uuids[:-1])
    assert set(whole.pop("vapp_restore_confirm").split(",")) == {"mail-1", "vm-1", "vm-2", "vm-3"}
    assert whole == shared
    for number, value in enumerate(confirmed[:2]):
        (text,) = page.locator(f"#vm-{number} code").all_text_contents()
        assert command(text) == shared | {"vapp_vms": uuids[number], "vapp_restore_confirm": value}
    assert page.locator("#vm-4 code, #vm-10 code").count() == 0
    assert "vApp Options" in (page.locator("#vm-4 td").last.text_content() or "")
    page.close()


def test_counts_one_vm_in_the_singular(browser: Browser, tmp_path: Path, result: dict[str, Any]) -> None:
    lost = next(vm for vm in result["ovfenv"] if vm["diagnosis"]["status"] == "unknown")
    summary = {**result["summary"], "total": 1, "judged_without_guest_evidence": 1}
    one = {"ovfenv": [lost], "summary": summary}
    page = browser.new_page()
    page.goto(make(tmp_path, "one.html", one, ovfenv_vms=lost["name"]).as_uri())
    text = page.locator("body").inner_text()
    for words in ("0 of 1 appliance run", "1 was not judged", "1 VM by name", "1 VM examined. 1 was judged without"):
        assert words in text
    assert re.findall(r"\b1 (?:VMs|were|appliances)", text) == []
    page.close()


def test_header_stays_in_view(open_page: Open) -> None:
    page = open_page()
    page.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
    header = page.locator("thead").bounding_box()
    assert header is not None
    assert header["y"] == 0


def test_says_which_verdict_a_vm_had(browser: Browser, tmp_path: Path, result: dict[str, Any]) -> None:
    vms = [vm for vm in result["ovfenv"] if vm["diagnosis"]["status"] in ("lost", "stale")]
    was_lost = next(vm["diagnosis"] for vm in vms if vm["diagnosis"]["status"] == "lost")
    before = [{**vm, "diagnosis": was_lost} for vm in vms]
    make(tmp_path, "before.html", {**result, "ovfenv": before})
    path = make(tmp_path, "after.html", {**result, "ovfenv": vms}, ovfenv_earlier_report="before.html")
    page = browser.new_page()
    page.goto(path.as_uri())
    badges = "rows => Object.fromEntries(rows.map(row => [row.id, row.querySelector('.badge')?.textContent ?? null]))"
    shown = page.eval_on_selector_all("tbody tr", badges)
    expected = {vm["moid"]: None if vm["diagnosis"]["status"] == "lost" else "was lost" for vm in vms}
    assert set(expected.values()) == {None, "was lost"}
    assert shown == expected
    page.get_by_role("button", name="new since then").click()
    assert set(column(page, ".verdict")) == {"! stale"}
    page.close()


def test_link_in_the_alert_resets_the_chosen_verdicts(open_page: Open, listed: dict[str, dict[str, Any]]) -> None:
    page = open_page()
    chosen = page.get_by_role("button", name="nothing_to_deliver:")
    plain = chosen.evaluate("button => getComputedStyle(button).boxShadow")
    chosen.click()
    assert chosen.evaluate("button => getComputedStyle(button).boxShadow") != plain, "it looks pressed"
    page.locator(".alert a").first.click()
    assert page.locator("tr:target .name").is_visible()
    assert chosen.get_attribute("aria-pressed") == "false"
    assert len(column(page, "th")) == len(listed)


def test_copies_without_the_clipboard_of_a_secure_page(open_page: Open) -> None:
    page = open_page()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.locator(".copy").first.click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("getSelection().toString()") == page.locator(".command code").first.text_content()


def test_report_without_rows(browser: Browser, tmp_path: Path) -> None:
    complaints: list[str] = []
    page = browser.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(make(tmp_path, "empty.html", {**samples.result(0), "ovfenv": []}).as_uri())
    assert page.get_by_role("heading", level=1).text_content() == "0 of 0 appliances run without their settings"
    assert page.locator("table, .tools").count() == 0
    assert page.evaluate("document.documentElement.className") == "scripted"
    assert complaints == []
    page.close()


def test_rows_out_of_view_are_not_laid_out(open_page: Open) -> None:
    """Otherwise a page with thousands of rows is slow."""
    assert open_page().locator("tbody tr").last.evaluate("row => getComputedStyle(row).contentVisibility") == "auto"


def test_hides_empty_cells_on_a_phone(open_page: Open) -> None:
    page = open_page(viewport=PHONE)
    empty = page.locator("tbody td:empty")
    assert empty.count() > 0
    assert all(not cell.is_visible() for cell in empty.all())
    assert page.locator("thead th").last.text_content() == "Next"
    assert not page.locator("thead th").last.is_visible(), "it cannot be sorted"


def test_offers_no_command_without_effect(open_page: Open, listed: dict[str, dict[str, Any]]) -> None:
    """The repair leaves a VM with a delivered document unchanged."""
    rows = open_page().locator("tbody tr")
    texts = {vm["moid"]: rows.filter(has_text=f"{vm['moid']} on").locator("td").last for vm in listed.values()}
    foreign = {moid: vm for moid, vm in listed.items() if vm["diagnosis"]["cause"] == "foreign_id"}
    seen = {moid for moid, vm in foreign.items() if vm["guest"]["document"]}
    assert 0 < len(seen) < len(foreign)
    for moid in foreign:
        text = texts[moid].text_content() or ""
        assert "ovfenv_repair" not in text
        assert ("Power-cycle it through vCenter when convenient, if it is no fork." in text) == (moid in seen)
        assert ("ovfenv_report" in text) == (moid not in seen)


def test_finds_rows(open_page: Open, listed: dict[str, dict[str, Any]]) -> None:
    page = open_page()
    verdicts = [vm["diagnosis"]["status"] for vm in listed.values()]
    counts = {f"{VERDICTS[name]['symbol']} {name}: {verdicts.count(name)}" for name in verdicts}
    assert set(page.locator("[data-show]").all_text_contents()) == {*counts, "new since then"}
    page.get_by_role("button", name="lost:", exact=False).first.click()
    assert set(column(page, ".verdict")) == {"✗ lost"}
    page.get_by_role("button", name="stale:").click()
    assert set(column(page, ".verdict")) == {"✗ lost", "! stale"}
    assert page.get_by_role("status").text_content() == f"{len(column(page, 'th'))} of {len(listed)} shown"
    assert page.locator("tbody tr[hidden]").evaluate_all(
        "rows => rows.length > 0 && rows.every(row => getComputedStyle(row).display === 'none')"
    )
    page.get_by_role("searchbox").fill("app-21 INTEGRATED")
    assert column(page, ".name") == ["app-21"]
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="lost:", exact=False).first.click()
    page.get_by_role("button", name="stale:").click()
    assert len(column(page, "th")) == len(listed)
    assert page.get_by_role("status").text_content() == ""
    page.get_by_role("button", name="new since then").click()
    new = {vm["name"] for vm in listed.values() if int(vm["moid"][3:]) >= 100 + EARLIER}
    assert set(column(page, ".name")) == new
    assert set(column(page, ".badge")) == {"new"}


def data_of(page: Path) -> dict[str, Any]:
    """Return the data that a page contains for the next report."""
    (text,) = re.findall('<script id="ovfenv-data" type="application/json">(.*)</script>', page.read_text())
    found: dict[str, Any] = json.loads(text)
    return found


def uuids(vms: list[dict[str, Any]]) -> set[str]:
    """Return the instance UUIDs of the VMs that have vApp options, or had some."""
    return {
        vm["instance_uuid"] for vm in vms if vm["configured"]["enabled"] or vm["diagnosis"]["status"] == "config_lost"
    }


def test_keeps_for_the_next_report_which_vms_should_have_vapp_options(
    report: Path, result: dict[str, Any], tmp_path: Path
) -> None:
    """This includes VMs that a report in between skips, cannot read, or finds without options."""
    expected = uuids(result["ovfenv"])
    assert "config_lost" in {vm["status"] for vm in data_of(report)["vms"]}
    assert data_of(report)["configured"] == sorted(expected)
    assert len(expected) < len(result["ovfenv"])

    narrow = {**result, "ovfenv": result["ovfenv"][:3]}
    unreadable, bare, _left = narrow["ovfenv"] = [dict(vm) for vm in narrow["ovfenv"]]
    unreadable |= {"instance_uuid": None, "configured": {**unreadable["configured"], "enabled": False}}
    unreadable["diagnosis"] = {**unreadable["diagnosis"], "status": "unknown"}
    bare |= {"configured": {**bare["configured"], "enabled": False}}
    bare["diagnosis"] = {**bare["diagnosis"], "status": "delivered_injected"}
    shutil.copy(report, tmp_path / "same.html")
    page = make(tmp_path, "same.html", narrow, ovfenv_earlier_report="same.html")
    assert data_of(page)["configured"] == sorted(expected)
    assert len(data_of(page)["vms"]) <= 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_on_a_phone(open_page: Open, scheme: str) -> None:
    page = open_page(viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True)
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for part in (".verdict", ".name", ".command code", ".copy"):
        box = page.locator(part).first.bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= PHONE["width"]
    assert page.locator("tbody td").first.evaluate("cell => getComputedStyle(cell, '::before').content") == '"Product"'
    alert, explanations = (page.locator(part).bounding_box() for part in (".alert", "details.all"))
    assert alert is not None
    assert explanations is not None
    assert alert["y"] < explanations["y"]
    assert alert["y"] + alert["height"] < PHONE["height"]
    page.get_by_role("button", name="Verdict").tap()
    page.get_by_role("button", name="Verdict").tap()
    assert column(page, ".verdict")[0].startswith("–")


def levels(listed: dict[str, dict[str, Any]], level: str) -> list[dict[str, Any]]:
    return [vm for vm in listed.values() if VERDICTS[vm["diagnosis"]["status"]]["level"] == level]


def test_starts_with_a_summary(open_page: Open, report: Path, listed: dict[str, dict[str, Any]]) -> None:
    page = open_page()
    quiet = ("nothing_to_deliver", "not_applicable")
    appliances = [vm for vm in listed.values() if vm["diagnosis"]["status"] not in quiet]
    bad = [vm for vm in levels(listed, "bad") if vm["power_state"] == "poweredOn"]
    stopped = len(levels(listed, "bad")) - len(bad)
    assert stopped > 1
    earlier = {vm["instance_uuid"]: vm["status"] for vm in data_of(report.parent / "earlier.html")["vms"]}
    new = [vm for vm in bad if VERDICTS[earlier.get(vm["instance_uuid"], "delivered")]["level"] != "bad"]
    headline = page.get_by_role("heading", level=1).text_content() or ""
    assert headline.startswith(f"{len(bad)} of {len(appliances)} appliances run without their settings; {len(new)} new")
    assert f"since {data_of(report.parent / 'earlier.html')['generated']}" in headline
    text = page.locator("body").text_content() or ""
    assert re.search(r"vCenter vcenter\.example\.com, all VMs, 20\d\d-\d\d-\d\d \d\d:\d\d UTC", text)
    assert f"{stopped} more would start without their settings. " in text
    assert f"{NOW} VMs examined, {NOW - len(listed)} of them without vApp options and not listed. " in text
    assert f"{len(levels(listed, 'warn'))} more may run without their current settings. " in text
    assert f"{len(levels(listed, 'unknown'))} were not judged: " in text
    assert re.search(r"\d+ because vCenter no longer has the events of the power-on", text)


def test_links_from_the_alert_to_the_rows_even_when_they_are_filtered_out(open_page: Open) -> None:
    page = open_page()
    link = page.locator(".alert a").last
    page.get_by_role("searchbox").fill("no row has this text")
    assert column(page, ".name") == []
    link.click()
    assert page.locator("tr:target .name").is_visible()
    name, header = (page.locator(part).bounding_box() for part in ("tr:target .name", "thead"))
    assert name is not None
    assert header is not None
    assert header["y"] + header["height"] <= name["y"] < DESKTOP["height"], "the header does not cover the row"
    assert page.locator("tr:target").evaluate("row => getComputedStyle(row).outlineStyle") == "solid"


def test_counts_by_product_and_by_host(open_page: Open, listed: dict[str, dict[str, Any]]) -> None:
    page = open_page()
    products = [vm["configured"]["products"] for vm in levels(listed, "bad") if vm["power_state"] == "poweredOn"]
    bad = sum(any(product["name"] == "Mail Gateway" for product in of_vm) for of_vm in products)
    lines = page.locator(".groups li").all_text_contents()
    assert any(re.match(rf"Mail Gateway: {bad} of \d+ without", line) for line in lines), (bad, lines)
    assert any(line.startswith("esx-1.example.com: ") for line in lines)
    for group in page.locator(".groups ul").all():
        counts = [re.findall(r": (\d+) of (\d+) without", line)[-1] for line in group.locator("li").all_text_contents()]
        numbers = [(int(without), int(of_all)) for without, of_all in counts]
        assert numbers == sorted(numbers, reverse=True), "the worst first"


def test_csv_contains_the_rows_of_the_page_and_no_formulas(report: Path, listed: dict[str, dict[str, Any]]) -> None:
    encoded = report.with_suffix(".csv").read_bytes()
    assert encoded.startswith(codecs.BOM_UTF8), "Excel takes the file for UTF-8"
    raw = encoded.decode("utf-8-sig")
    assert raw.count("\r\n") >= len(listed)
    rows = list(csv.DictReader(io.StringIO(raw, newline="")))
    assert [row["moid"] for row in rows] == re.findall('<tr role="row" id="([^"]*)"', report.read_text())
    for row in rows:
        vm = listed[row["moid"]]
        assert row["verdict"] == vm["diagnosis"]["status"]
        assert bool(row["powered_on_how"]) == bool(vm["boot_time"] or vm["power_on"]["time"]), "nobody powered it on"
        for cell, text in ((row["name"], vm["name"]), (row["message"], vm["diagnosis"]["message"])):
            guarded = ("'" if text[0] in "=+-@" else "") + text
            assert cell == re.sub(r'([;\t])(?=[\s"]*[=+@-])', r"\1'", guarded)
    assert {'\'=HYPERLINK("http://192.0.2.1",1)', "'@SUM(1)", "'-1+1", "'+1"} <= {row["name"] for row in rows}
    assert re.findall(r'[;\t\r\n][\s"]*[=+@-].*', raw) == [], "a formula where cells are separated by ; or a tab"


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (color, under) => {
    canvas.fillStyle = under; canvas.fillRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((one) => one / 255)
      .map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const page = getComputedStyle(document.body).backgroundColor;
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") return color;
    }
    return page;
  };
  const ratio = (one) => {
    const found = [light(getComputedStyle(one).color, page), light(behind(one), page)].sort((a, b) => b - a);
    return (found[0] + 0.05) / (found[1] + 0.05);
  };
  return Math.min(...Array.from(document.querySelectorAll("body *:not(script, style)"), ratio));
}"""
"""The lowest contrast of a text on the page."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("media", ["screen", "print"])
def test_has_enough_contrast(open_page: Open, scheme: str, media: str) -> None:
    page = open_page(color_scheme=scheme)
    page.emulate_media(media=media, color_scheme=scheme)
    assert page.evaluate(CONTRAST) >= 4.5
    if media == "print":
        look = "one => [getComputedStyle(one).color, getComputedStyle(one).backgroundColor]"
        assert page.locator("body").evaluate(look) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
        assert page.locator(".name").first.evaluate("name => getComputedStyle(name).color") == "rgb(0, 0, 0)"


def test_prints_every_text_and_no_buttons(open_page: Open) -> None:
    page = open_page()
    opened = page.locator("tbody details").first
    opened.locator("summary").click()
    hidden = page.locator("tbody details:not([open]) li").first
    assert not hidden.is_visible()
    page.emulate_media(media="print")
    assert hidden.is_visible(), "even without a script"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("tbody details:not([open])").count() == 0
    assert not page.locator(".copy").first.is_visible()
    assert not page.get_by_role("searchbox").is_visible()
    assert page.locator("thead").evaluate("head => getComputedStyle(head).position") == "static"
    look = "row => { const style = getComputedStyle(row); return [style.contentVisibility, style.breakInside]; }"
    assert page.locator("tbody tr").first.evaluate(look) == ["visible", "avoid"], "each row is printed, on one page"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("tbody details[open]").count() == 1
    assert opened.get_attribute("open") is not None, "what was open before stays open"


def test_shows_values_common_to_all_rows_once(browser: Browser, tmp_path: Path) -> None:
    alike = samples.result(NOW)
    alike["ovfenv"] = [vm for vm in alike["ovfenv"] if vm["diagnosis"]["status"] == "stale"]
    assert len(alike["ovfenv"]) > 1
    for vm in alike["ovfenv"]:
        vm["diagnosis"]["remedy_risks"] = ["Equal in all.", f"Only in {vm['moid']}."]
    page = browser.new_page()
    page.goto(make(tmp_path, "alike.html", alike).as_uri())
    assert (page.locator("body").text_content() or "").count("Equal in all.") == 1
    assert "Equal in all." in (page.locator("details.all").text_content() or "")
    assert page.locator("tbody li", has_text="Only in").count() == len(alike["ovfenv"])
    page.close()


TIMED = """([selector, act]) => new Promise((done) => {
  const one = document.querySelector(selector);
  const begun = performance.now();
  if (act === "click") one.click();
  else { one.value = act; one.dispatchEvent(new Event("input")); }
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun)));
})"""


def test_is_fast_with_two_thousand_vms(browser: Browser, tmp_path: Path) -> None:
    report = make(tmp_path, "large.html", samples.result(2000))
    assert report.stat().st_size < 6_000_000
    page = browser.new_page(viewport=DESKTOP)
    begun = time.monotonic()
    page.goto(report.as_uri())
    loaded = time.monotonic() - begun
    sorted_in = page.evaluate(TIMED, ["thead button", "click"]) / 1000
    found_in = page.evaluate(TIMED, [".tools input", "app-21"]) / 1000
    print(f"{report.stat().st_size} bytes, load {loaded:.2f} s, sort {sorted_in:.2f} s, search {found_in:.2f} s")
    assert column(page, ".name")[0].startswith("app-21")
    assert (loaded < 20, sorted_in < 5, found_in < 5) == (True, True, True)
    page.close()


def test_is_readable_without_scripts(open_page: Open, listed: dict[str, dict[str, Any]]) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator("tbody tr").count() == len(listed)
    assert page.locator(".verdict").first.is_visible()
    assert not page.locator(".copy").first.is_visible()
    assert not page.get_by_role("searchbox").is_visible()


def test_runs_no_injected_script(browser: Browser, report: Path) -> None:
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(report.as_uri())
    title = page.title()
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.locator("h1").evaluate("one => { one.innerHTML = '<img src=x onerror=\"document.title = 1\">'; }")
    assert page.title() == title
    assert refused
    page.close()
