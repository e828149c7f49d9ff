# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The children that the options request, and options refused before a login."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import text

from ansible_collections.vmfork.vsphere.plugins.module_utils._errors import BadInput
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import host_names, spec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.networks import Network
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.params import secret_config_params

MAC = "00:50:56:01:02:03"


def params(**given: Any) -> dict[str, Any]:
    if isinstance(given.get("name"), str):
        given["name"] = [given["name"]]
    return {"name": None, "children": None, **dict.fromkeys(spec.PER_CHILD), **given}


def test_child_inherits_and_overrides_top_level_options() -> None:
    first, second = spec.parse(
        params(
            persistent=True,
            datastore="slow",
            config_params={"netmask": "255.255.255.0", "gateway": "192.0.2.1"},
            children=[
                {"name": "web-01", "config_params": {"gateway": "192.0.2.254"}},
                {"name": "web-02", "persistent": False, "datastore": "fast"},
            ],
        )
    )
    assert first.config_params == {"netmask": "255.255.255.0", "gateway": "192.0.2.254", "hostname": "web-01"}
    assert (first.persistent, first.datastore) == (True, "slow")
    assert (second.persistent, second.datastore) == (False, "fast")


def test_networks_of_a_child_replace_those_at_the_top_level() -> None:
    children = [{"name": "a"}, {"name": "b", "networks": [{"mac_address": MAC}]}, {"name": "c", "networks": []}]
    first, second, third = spec.parse(params(networks=[{"network": "lab"}], children=children))
    assert first.networks == (Network(1, network="lab"),)
    assert second.networks == (Network(1, mac_address=MAC),)
    assert third.networks == ()


def test_top_level_mac_address_is_used_by_the_only_child_without_one() -> None:
    children = [{"name": "a"}, {"name": "b", "networks": [{}]}]
    first, _second = spec.parse(params(networks=[{"mac_address": MAC}], children=children))
    assert first.networks[0].mac_address == MAC


@pytest.mark.parametrize(
    ("name", "hostname", "fqdn"),
    [
        ("web-01", "web-01", None),
        ("WEB--01", "WEB--01", None),
        ("web_01", "web-01", None),
        ("a/b", "a-b", None),
        ("a%2fb", "a-2fb", None),
        ("web 01", "web-01", None),
        ("-web-", "web", None),
        ("(web)", "web", None),
        ("12345", "12345", None),
        ("w" * 63, "w" * 63, None),
        ("w" * 64, "w" * 63, None),
        ("w" * 62 + "_01", "w" * 62, None),
        ("wéb", "xn--wb-bja", None),
        ("東京_1", "xn---1-l92cn98g", None),
        ("web-01.example.com", "web-01", "web-01.example.com"),
        ("web_01.example.com.", "web-01", "web-01.example.com"),
        ("b" + "ü" * 70 + "cher", "bcher", None),
        ("bücher.example.com", "xn--bcher-kva", "xn--bcher-kva.example.com"),
        (".web.lan", "web", "web.lan"),
        ("10.0.0.5", "10-0-0-5", None),
        ("2001:db8::1", "2001-db8-1", None),
        ("---", None, None),
        ("é" * 70, None, None),
    ],
)
def test_host_name_is_derived_from_the_vm_name(name: str, hostname: str | None, fqdn: str | None) -> None:
    [child] = spec.parse(params(name=name))
    assert (child.config_params.get("hostname"), child.config_params.get("fqdn")) == (hostname, fqdn)
    assert bool(spec.remarks([child])) is (hostname is None)


@given(text(max_size=80))
def test_host_name_of_any_name_is_valid(name: str) -> None:
    made = host_names.host_name(name)
    for label in [] if made is None else [made.hostname, *(made.fqdn.split(".") if made.fqdn else [])]:
        assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", label)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"hostname": "db"}, {"hostname": "db"}),
        ({"fqdn": "db.example.org"}, {"hostname": "db", "fqdn": "db.example.org"}),
        ({"guestinfo.ic.fqdn": "db.example.org"}, {"hostname": "db", "guestinfo.ic.fqdn": "db.example.org"}),
        ({}, {"hostname": "web", "fqdn": "web.example.com"}),
    ],
)
def test_host_name_given_by_the_task(config: dict[str, str], expected: dict[str, str]) -> None:
    [child] = spec.parse(params(name="web.example.com", config_params=config))
    assert child.config_params == expected


@pytest.mark.parametrize(
    ("names", "warned"),
    [(["web_01", "web-01"], True), (["web.a.com", "web.b.com"], False), (["Web.a.com", "WEB_.a.com"], True)],
)
def test_host_name_of_several_children(names: list[str], warned: bool) -> None:
    assert bool(spec.remarks(spec.parse(params(name=names)))) is warned


@pytest.mark.parametrize("key", ["guestinfo.ic.hostname", "guestinfo.fork.hostname"])
def test_hostname_given_by_its_full_key_is_the_only_one(key: str) -> None:
    assert spec.parse(params(name="web-01", config_params={key: "db"}))[0].config_params == {key: "db"}


def test_hostname_given_as_a_secret_is_not_published() -> None:
    child = spec.parse(params(name="web-01", secret_config_params={"hostname": "long-secret-name"}))[0]
    assert child.config_params == {}
    assert "long-secret-name" not in repr(child)


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (False, "false"), (7, "7"), (1.5, "1.5"), ("", ""), ("a\nb \"'<&", "a\nb \"'<&")],
)
def test_values_in_the_guest(value: Any, text: str) -> None:
    assert spec.parse(params(name="a", config_params={"key": value}))[0].config_params["key"] == text


@pytest.mark.parametrize("name", ["n" * 80, "a/b", "50%", "with space", "größe-名", "'\"$(x);`", "\\"])
def test_valid_vm_names(name: str) -> None:
    assert spec.parse(params(name=name))[0].name == name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "n" * 81}, "81 characters"),
        ({"name": " "}, "must not be empty"),
        ({"name": "a\nb"}, "control characters"),
        ({"children": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}, "occurs twice"),
        ({"name": ["a", "a"]}, "occurs twice"),
        ({"name": ["web", "WEB"]}, "The names web and WEB differ only in"),
        ({"name": ["caf\u00e9", "cafe\u0301"]}, "differ only in"),
        ({"name": ["web 01", "web  01"]}, "differ only in"),
        ({"name": ["web-01 "]}, "begins or ends with a space"),
        ({"name": ["\u00a0web-01"]}, "begins or ends with a space"),
        ({"name": ["web\ud800"]}, "characters"),
        ({"name": ["a", "b"], "bios_uuid": "4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11"}, "only one VM"),
        (
            {"children": [{"name": "a"}, {"name": "b"}], "bios_uuid": "4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11"},
            "only one VM",
        ),
        (
            {"children": [{"name": name, "bios_uuid": "4226a1d0-77c4-0d41-6f6b-0f5c2b9e8a11"} for name in "ab"]},
            "occurs twice in children",
        ),
        ({"name": "a", "bios_uuid": "nonsense"}, "is not a UUID"),
        ({"name": "a", "networks": [{"mac_address": "x"}]}, "Child a: networks: x is not a MAC address"),
        ({"children": [{"name": "a"}, {"name": "b"}], "networks": [{"mac_address": MAC}]}, "assigned to two adapters"),
        ({"name": "a", "networks": [{"mac_address": MAC}, {"mac_address": MAC}]}, "assigned to two adapters"),
        ({"name": "a", "config_params": {"k": None}}, "is null"),
        ({"name": "a", "config_params": {"k": ["x"]}}, "is list"),
        ({"name": "a", "config_params": {"k": {"x": 1}}}, "is dict"),
        ({"name": "a", "config_params": {"k": "x" * 65001}}, "more than 65000 bytes"),
        ({"name": "a", "config_params": {"k": "é" * 33000}}, "more than 65000 bytes"),
        ({"name": "a", "config_params": {"k": "\x01"}}, "control characters"),
        ({"name": "a", "config_params": {"k": "\ud800"}}, "control characters"),
        ({"name": "a", "config_params": {"guestinfo.ic.vmfork.nonce": "x"}}, "reserved for the collection"),
        ({"name": "a", "config_params": {"guestinfo.vmfork.post_clone": "x"}}, "reserved for the collection"),
        ({"name": "a", "config_params": {"vmfork.nonce": "x"}}, "reserved for the collection"),
        ({"name": "a", "config_params": {"a b": "x"}}, "cannot be a key"),
        ({"name": "a", "config_params": {"": "x"}}, "cannot be a key"),
        ({"name": "a", "secret_config_params": {"k": "1234567"}}, "fewer than 8 characters"),
        ({"name": "a", "config_params": {"k": "x"}, "secret_config_params": {"k": "12345678"}}, "Keep it in one"),
    ],
)
def test_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as refusal:
        spec.parse(params(**given))
    assert message in refusal.value.sentence
    assert "1234567" not in refusal.value.sentence


def test_possible_parts_of_a_secret_are_not_repeated() -> None:
    """Ansible splits secrets given as text at blanks and commas."""
    with pytest.raises(BadInput, match="cannot be a key") as caught:
        secret_config_params({"password": "correct-horse", "p@rt of it": "battery-staple"})
    assert "p@rt" not in caught.value.sentence
