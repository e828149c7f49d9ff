# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vCenter would deliver: a VM's vApp options, read by the rules of the vSphere API.

Private to the collection. Pure functions over ``config.vAppConfig``. Rules:
vSphere API reference, VAppPropertyInfo and VmConfigInfo.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_types
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.words import in_words

if t.TYPE_CHECKING:
    from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import Mask


GUESTINFO = "com.vmware.guestinfo"
ISO = "iso"
KNOWN_TRANSPORTS = frozenset((GUESTINFO, ISO))


@dataclass(frozen=True)
class Product:
    """A product that the vApp options describe."""

    key: int
    class_id: str
    instance_id: str
    name: str
    vendor: str
    version: str
    full_version: str


@dataclass(frozen=True)
class Property:
    """A vApp property.

    :param key: the key under which it is delivered: ``[classId.]id[.instanceId]``.
    :param value: ``None`` where vCenter does not return it (passwords).
    :param effective: what would be delivered; ``None`` when that is unknown until power-on.
    :param source: ``value``, ``default``, ``computed`` or ``unknown``.
    :param secret: a password, something whose name, text or value looks like a secret, or an expression that may quote
        a password.
    :param comparable: whether it means anything that a delivered value differs from ``effective``.
    """

    key: str
    id: str
    class_id: str
    instance_id: str
    type: str
    category: str
    label: str
    user_configurable: bool
    value: str | None = field(repr=False)
    default: str | None = field(repr=False)
    effective: str | None = field(repr=False)
    source: str
    secret: bool
    comparable: bool


@dataclass(frozen=True)
class Configured:
    """A VM's vApp options; ``enabled`` is false when there are none.

    :param transports: ``com.vmware.guestInfo``, ``iso``; if there are none, nothing is delivered.
    :param ip_assignment: ``policy``, ``protocol``, ``supported_schemes``, ``effective_from`` (``vm`` or ``vapp``).
    :param parent_vapps: names of the vApps around the VM, nearest first.
    :param vapp_properties: the number of properties of the vApps around it, which its document contains as well;
        ``None``: their configuration is not visible.
    :param computed_around: vApp and property, for those properties of the vApps that vCenter computes at a power-on
        and that have no value yet.
    :param values_computed: whether a running VM's expressions have their values. vCenter computes them when it
        starts the VM and clears them when it stops: true proves that vCenter started it, false suggests that it
        did not (an expression may come out empty). ``None``: not running, or no expressions.
    """

    enabled: bool = False
    transports: tuple[str, ...] = ()
    ip_assignment: dict[str, object] | None = None
    install_boot_required: bool = False
    products: tuple[Product, ...] = ()
    properties: tuple[Property, ...] = ()
    ovf_sections: tuple[dict[str, object], ...] = ()
    eula_count: int = 0
    parent_vapps: tuple[str, ...] = ()
    values_computed: bool | None = None
    vapp_properties: int | None = 0
    computed_around: tuple[tuple[str, Property], ...] = ()

    @property
    def delivers_by(self) -> frozenset[str]:
        """The transports that vCenter knows: :data:`GUESTINFO`, :data:`ISO`.

        Published descriptors also write them in a different case, both in one entry, or as JSON.
        """
        return (
            frozenset(name.lower() for entry in self.transports for name in transport_names(entry)) & KNOWN_TRANSPORTS
        )

    @property
    def foreign_transports(self) -> tuple[str, ...]:
        """The transports that vCenter does not know, as they are written."""
        names = dict.fromkeys(name for entry in self.transports for name in transport_names(entry))
        return tuple(name for name in names if name.lower() not in KNOWN_TRANSPORTS)

    @property
    def required_empty(self) -> tuple[Property, ...]:
        """Properties that must have a value and have none, so that vCenter refuses to power the VM on."""
        return tuple(prop for prop in self.properties if is_required(prop.type) and prop.effective == "")


def is_required(type: str) -> bool:
    """Return whether a property of this type needs a value, without which vCenter refuses to power the VM on."""
    kind = vapp_types.parse(type)
    return kind is not None and kind.needs_value


_BUILD_METADATA = re.compile(
    r"\b(?:build|image|ib|git|commit|sha\d*|checksum|created|timestamp|versions?|release|distro\w*|os|kernel|"
    r"kubernetes|containerd|cni|custom role)\b",
    re.IGNORECASE,
)


def is_build_metadata(prop: Property) -> bool:
    """Return whether a property is the same in every deployment of an image: no user is asked for it or has set it."""
    if prop.effective == "" and is_required(prop.type):
        return False  # without it, the VM cannot be powered on
    if prop.user_configurable or prop.secret or prop.source not in ("value", "default") or prop.type.startswith("ip:"):
        return False
    return prop.source == "default" or _BUILD_METADATA.search(in_words(prop.id)) is not None


def transport_names(text: str) -> list[str]:
    """Return the names in one entry of the transports: ``iso com.vmware.guestInfo``, or JSON such as ``["iso"]``."""
    return re.findall(r"""[^\s,;\[\]"']+""", text)


def read(
    config: t.Any,
    around: t.Sequence[tuple[str, t.Any]] = (),
    running: bool = False,
    mask: Mask | None = None,
) -> Configured:
    """Return a VM's vApp options.

    :param config: ``config.vAppConfig``, a ``vim.vApp.VmConfigInfo``; unset when vApp options are disabled.
    :param around: name and ``vAppConfig`` of the vApps around the VM, nearest first.
    :param running: whether the VM is powered on.
    :param mask: decides which values look secret.
    """
    parents = tuple(name for name, _config in around)
    if config is None:
        return Configured(parent_vapps=parents)
    of_vapps = [prop for _name, of_vapp in around for prop in getattr(of_vapp, "property", None) or []]
    quotable = {_key(prop) for prop in of_vapps} - {
        _key(prop) for prop in of_vapps if vapp_types.is_password(prop.type)
    }
    properties = tuple(_property(prop, running, mask, quotable) for prop in config.property or [])
    expressions = [prop for prop in properties if prop.source == "computed"]
    return Configured(
        enabled=True,
        transports=tuple(transport for transport in config.ovfEnvironmentTransport or [] if transport),
        ip_assignment=_ip_assignment(config, [of_vapp for _name, of_vapp in around]),
        install_boot_required=bool(config.installBootRequired),
        products=tuple(_product(product) for product in config.product or []),
        properties=properties,
        ovf_sections=tuple(
            {"namespace": section.namespace, "type": section.type, "at_envelope_level": section.atEnvelopeLevel}
            for section in config.ovfSection or []
        ),
        eula_count=len(config.eula or []),
        parent_vapps=parents,
        vapp_properties=None if any(of_vapp is None for _name, of_vapp in around) else len(of_vapps),
        computed_around=tuple(
            (name, _property(prop, running, mask, ()))
            for name, of_vapp in around
            for prop in getattr(of_vapp, "property", None) or []
            if not prop.value and (prop.type or "").startswith(("expression", "ip:"))
        ),
        values_computed=any(prop.effective for prop in expressions) if running and expressions else None,
    )


def facts(configured: Configured, mask: Mask) -> dict[str, t.Any]:
    """Return the ``configured`` return value."""
    return {
        "enabled": configured.enabled,
        "transports": list(configured.transports),
        "ip_assignment": configured.ip_assignment,
        "install_boot_required": configured.install_boot_required,
        "products": [dataclasses.asdict(product) for product in configured.products],
        "properties": [_property_facts(prop, mask) for prop in configured.properties],
        "ovf_sections": [dict(section) for section in configured.ovf_sections],
        "eula_count": configured.eula_count,
        "parent_vapps": list(configured.parent_vapps),
        "values_computed": configured.values_computed,
    }


def hidden_values(configured: Configured, mask: Mask) -> list[str]:
    """Return the values that are masked wherever they are shown, such as in a fault that names them."""
    given = ((prop, value) for prop in configured.properties for value in (prop.value, prop.default, prop.effective))
    return [value for prop, value in given if value and mask.value(prop.key, value, prop.type, prop.secret) != value]


def listed(names: t.Sequence[str], shown: int = 3) -> str:
    """Return names for a sentence: ``a, b, c and 2 more``."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _key(info: t.Any) -> str:
    return ".".join(part for part in (info.classId, info.id, info.instanceId) if part)


def _quotes_only(expression: str, quotable: t.Collection[str]) -> bool:
    """Return whether an expression quotes only these properties, as ``${name}``; ``${ip:…}`` does not quote one."""
    return all(name in quotable for name in re.findall(r"\$\{([^}:]*)\}", expression))


def _property(info: t.Any, running: bool, mask: Mask | None, quotable: t.Collection[str]) -> Property:
    kind = info.type or "string"
    is_password = vapp_types.is_password(info.type)
    is_expression = kind.startswith("expression")
    key = _key(info)
    value, default = info.value, info.defaultValue or ""
    if is_password:
        # vCenter always returns passwords empty; what it would deliver is unknown, not empty.
        value = default = effective = None
        source = "unknown"
    elif is_expression:
        effective, source = (value or None) if running else None, "computed"
    elif value:
        effective, source = value, "value"
    else:
        # vCenter may return an empty value, or none.
        value, effective, source = "", default, "default"
    return Property(
        key=key,
        id=info.id or "",
        class_id=info.classId or "",
        instance_id=info.instanceId or "",
        type=kind,
        category=info.category or "",
        label=info.label or "",
        user_configurable=bool(info.userConfigurable),
        value=value,
        default=default,
        effective=effective,
        source=source,
        secret=is_password
        or (is_expression and not _quotes_only(info.defaultValue or "", quotable))
        or (mask is not None and _is_masked(info, key, kind, mask)),
        # "ip:<network>" changes at power-on, and with DHCP whenever the guest reports another address.
        comparable=not (is_password or is_expression or kind.startswith("ip:")),
    )


def _is_masked(info: t.Any, key: str, kind: str, mask: Mask) -> bool:
    """Return whether the name, texts or values of a property look like a secret."""
    return mask.is_secret(key, kind, info.label or "", info.category or "", info.description or "") or any(
        mask.holds_secret(value, key, info.label or "") for value in (info.value, info.defaultValue)
    )


def _product(info: t.Any) -> Product:
    return Product(
        key=info.key,
        class_id=info.classId or "",
        instance_id=info.instanceId or "",
        name=info.name or "",
        vendor=info.vendor or "",
        version=info.version or "",
        full_version=info.fullVersion or "",
    )


def _ip_assignment(config: t.Any, around: t.Sequence[t.Any]) -> dict[str, object] | None:
    """Return the IP assignment that applies: the top-most vApp's, or outside of a vApp the VM's own."""
    source = around[-1] if around else config
    assignment = getattr(source, "ipAssignment", None)  # unknown if the user may not see the vApp
    if assignment is None and not around:
        return None
    return {
        "policy": getattr(assignment, "ipAllocationPolicy", None),
        "protocol": getattr(assignment, "ipProtocol", None),
        "supported_schemes": list(getattr(assignment, "supportedAllocationScheme", None) or []),
        "effective_from": "vapp" if around else "vm",
    }


def _property_facts(prop: Property, mask: Mask) -> dict[str, t.Any]:
    result = dataclasses.asdict(prop)
    for name in ("value", "default", "effective"):
        result[name] = mask.value(prop.key, result[name], prop.type, prop.secret)
    return result
