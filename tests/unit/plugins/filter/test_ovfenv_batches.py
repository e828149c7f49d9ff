# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test how VMs are split into batches that are power-cycled in parallel."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.parameters import remove_values

from ansible_collections.vmfork.vsphere.plugins.filter.ovfenv_batches import FilterModule, batches


def vm(name: str, *products: tuple[str, str]) -> dict[str, Any]:
    return {"name": name, "configured": {"products": [{"vendor": v, "name": n} for v, n in products]}}


def names(vms: list[dict[str, Any]], size: int) -> list[str]:
    return [" ".join(entry["name"] for entry in batch) for batch in batches(vms, size)]


MAIL, PROXY, TOOLS = ("Acme", "Mail"), ("Acme", "Proxy"), ("Acme", "Agent")
CLUSTERS = [vm("m1", MAIL), vm("m2", MAIL), vm("p1", PROXY), vm("x"), vm("p2", PROXY), vm("y"), vm("m3", MAIL)]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, ["m1", "m2", "p1", "x", "p2", "y", "m3"]),
        (2, ["m1 p1", "m2 x", "p2 y", "m3"]),
        (3, ["m1 p1 x", "m2 p2 y", "m3"]),
        (99, ["m1 p1 x y", "m2 p2", "m3"]),
    ],
)
def test_batch_has_one_vm_per_product_in_the_given_order(size: int, expected: list[str]) -> None:
    assert names(CLUSTERS, size) == expected


@pytest.mark.parametrize(
    ("products", "expected"),
    [
        ([MAIL, ("acme ", "MAIL")], ["0", "1"]),  # one product, spelled in two ways
        ([MAIL, ("Other", "Mail")], ["0 1"]),  # another vendor's
        ([("", "Mail"), ("", "Mail")], ["0", "1"]),
        ([("Acme", ""), ("Acme", "")], ["0", "1"]),
        ([("", ""), ("", "")], ["0 1"]),  # an empty name is not a product
    ],
)
def test_equal_products(products: list[tuple[str, str]], expected: list[str]) -> None:
    assert names([vm(str(number), product) for number, product in enumerate(products)], 9) == expected


def test_vm_with_several_products() -> None:
    assert names([vm("a", MAIL, TOOLS), vm("b", PROXY, TOOLS), vm("c", PROXY)], 9) == ["a c", "b"]


@pytest.mark.parametrize("entry", [{}, {"configured": None}, {"configured": {"products": None}}])
def test_vm_without_vapp_options(entry: dict[str, Any]) -> None:
    assert batches([entry, entry], 2) == [[entry, entry]]


def test_no_vms() -> None:
    assert batches([], 4) == []


@pytest.mark.parametrize("size", [0, -1, True, "5", 1.5, None])
def test_invalid_size(size: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="at least 1"):
        batches(CLUSTERS, size)


@pytest.mark.parametrize("password", ["Mail", "Acme", "M", "il", "mail", "Proxy", "Acm", "e"])
def test_masked_products_are_kept_apart(password: str) -> None:
    """VMs that share a batch when a password is masked would also share it without masking."""
    products = {vm["name"]: {str(product) for product in vm["configured"]["products"]} for vm in CLUSTERS}
    masked = [{**vm, "configured": remove_values(vm["configured"], {password})} for vm in CLUSTERS]
    for batch in batches(masked, 99):
        for first, other in itertools.combinations(batch, 2):
            assert not products[first["name"]] & products[other["name"]]


def test_name_of_the_filter() -> None:
    assert FilterModule().filters() == {"ovfenv_batches": batches}
