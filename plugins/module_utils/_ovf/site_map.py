# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Translate values of vApp properties for another site: values given by VM and key, and addresses by subnet.

Private to the collection. Pure functions. An address keeps its host part. Only values that are addresses, or lists of
them, are translated: an address inside of other text may be part of a URL, a version or an encoded file.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass, field

Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

_SEPARATORS = (r"(\s*[,;]\s*)", r"(\s+)")
_HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_EMBEDDED = re.compile(
    r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w)|(?<![\w.:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])"
)
"""Text that may be an address inside of other text."""

VMS, SUBNETS = "vms", "subnets"


@dataclass(frozen=True)
class SiteMap:
    """The differences of another site.

    :param vms: name or instance UUID of a VM in the backup → full key → value.
    :param subnets: pairs of source and target subnet, the longest prefix first.
    """

    vms: t.Mapping[str, t.Mapping[str, t.Any]] = field(default_factory=dict)
    subnets: tuple[tuple[Network, Network], ...] = ()

    def translate(self, text: str) -> str:
        """Return a value with its addresses translated; a value that is not an address or list of them is not changed.

        The entries of a list are separated by commas, semicolons or white space. With commas or semicolons, it may
        also contain host names.
        """
        if not self.subnets or not text:
            return text
        parts = _entries(text)
        return "".join(self._item(part) if number % 2 == 0 else part for number, part in enumerate(parts)) or text

    def moves(self, text: str) -> t.Iterator[tuple[str, str]]:
        """Yield each address of a value that is translated, with its translation, except addresses of networks."""
        for entry in _entries(text)[::2]:
            address = _address(entry)
            target = None if address is None or _is_network(entry) else self._target(address)
            if target is not None:
                yield str(address), str(target)

    def mentions(self, text: str) -> bool:
        """Return whether a value contains an address of one of the subnets inside of other text."""
        return self.translate(text) == text and any(
            self._target(address) is not None
            for found in _EMBEDDED.findall(text)
            if (address := _address(found)) is not None
        )

    def _item(self, text: str) -> str:
        address = _address(text)
        target = None if address is None else self._target(address)
        return text if target is None else f"{target}{text[text.index('/') :] if '/' in text else ''}"

    def _target(self, address: t.Any) -> t.Any:
        for source, target in self.subnets:
            if address.version == source.version and address in source:
                host = int(address) - int(source.network_address)
                return target.network_address + host
        return None


def _entries(text: str) -> list[str]:
    """Return the entries of an address or a list of them, with the separators in between; empty for other text."""
    for separator, allowed in zip(_SEPARATORS, (_HOST_NAME, None), strict=True):
        parts = re.split(separator, text)
        if all(_address(part) or (allowed and allowed.fullmatch(part)) or not part for part in parts[::2]):
            return parts
    return []


def _address(text: str) -> t.Any:
    """Return the address in a text that is an address, an interface or a network; ``None`` for other text."""
    if "%" in text:
        return None
    try:
        return ipaddress.ip_interface(text).ip
    except ValueError:
        return None


def _is_network(text: str) -> bool:
    found = ipaddress.ip_interface(text)
    return "/" in text and found.network.num_addresses > 1 and found.ip == found.network.network_address


def read(given: t.Any) -> tuple[SiteMap, list[str]]:
    """Return the map that a user gave, and its faults as clauses without values."""
    if given in (None, "", {}):
        return SiteMap(), []
    if not isinstance(given, dict):
        return SiteMap(), ["vapp_restore_map is not a dictionary with vms and subnets"]
    faults = [
        f"vapp_restore_map has the unknown entry {name!s:.40}; only vms and subnets are supported"
        for name in given
        if name not in (VMS, SUBNETS)
    ]
    vms, subnets = given.get(VMS) or {}, given.get(SUBNETS) or {}
    if not isinstance(vms, dict) or not all(isinstance(values, dict) for values in vms.values()):
        faults.append("vms of vapp_restore_map needs a dictionary of full keys and values for each VM")
        vms = {}
    if not isinstance(subnets, dict):
        faults.append("subnets of vapp_restore_map is not a dictionary of subnets")
        subnets = {}
    pairs: list[tuple[Network, Network]] = []
    for source, target in subnets.items():
        fault = _read_pair(str(source), str(target), pairs)
        if fault:
            faults.append(f"vapp_restore_map {fault}")
    pairs.sort(key=lambda pair: -pair[0].prefixlen)
    return SiteMap({str(name): values for name, values in vms.items()}, tuple(pairs)), faults


def _read_pair(source: str, target: str, pairs: list[tuple[Network, Network]]) -> str:
    """Add a pair of subnets; return what is wrong with it, or an empty string."""
    networks: list[Network] = []
    for text in (source, target):
        if "/" not in text:
            return f"has {text}, which is not a subnet with its prefix length, such as 10.1.0.0/16"
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            return f"has {text}, which is not a subnet ({error})"
    left, right = networks
    if left.version != right.version:
        return f"translates {left} to {right}, which has a different IP version"
    if left.prefixlen != right.prefixlen:
        return f"translates {left} to {right}, which has a different size, so addresses cannot keep their host part"
    if any(left == other for other, _target in pairs):
        return f"translates {left} more than once"
    if any(right == other for _source, other in pairs):
        return f"translates two subnets to {right}, so that two VMs could get the same address"
    pairs.append((left, right))
    return ""
