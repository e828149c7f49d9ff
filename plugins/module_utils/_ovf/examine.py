# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put together what is known of VMs' OVF environments, and have it judged.

Private to the collection. Costs, for any number of VMs: two paged reads of
properties, one paged read of events, and one ExtractOvfEnvironment for each
running VM with vApp options. Guests are looked into only when asked. VMs that
are off and need an IP pool cost one read of the pools for each datacenter.
"""

from __future__ import annotations

import datetime
import itertools
import re
import typing as t
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _devices,
    _errors,
    _extra_config,
    _inventory,
    _power,
    _properties,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import (
    bypassed,
    configured,
    diagnosis,
    differences,
    document,
    history,
    ip_pools,
    origin,
    probe,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.evidence import Evidence, Extracted, GuestView, Iso
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.masking import Mask
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session, UnknownType
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

PATHS = (
    "config.forkConfigInfo",
    "config.ftInfo",
    "config.instanceUuid",
    "config.template",
    "config.uuid",
    "config.vAppConfig",
    *probe.PATHS,
    "runtime.bootTime",
    "runtime.connectionState",
    "runtime.host",
    "runtime.powerState",
)
"""What is read of every VM."""


RPC_DENIED = "guest_rpc.rpci.auth.cmd.info-get"
"""extraConfig key that keeps info-get from users who are not root (documentation of cloud-init's OVF datasource)."""

DETAILS = (_extra_config.path(RPC_DENIED), _devices.PATH)
"""What is read only of VMs that have vApp options or are looked into: of a VM it is the larger part."""

AT_ONCE = 8
"""How many VMs are asked side by side."""

TIME_OVER = "the timeout of the task was reached"


@dataclass(frozen=True)
class Questions:
    """What is to be found out, and how.

    :param forked_from: tells from a VM's properties the instance UUID of the VM it was forked from;
        empty: not known, ``None``: it is no fork.
    :param fork_paths: the properties it needs beside :data:`PATHS`.
    :param probe: ``none``, ``exit_code`` or ``full``.
    :param login: the guest login of all VMs that have none of their own.
    :param logins: guest logins by the VM's name or managed object ID.
    :param lookback: how far back events are read.
    :param listed_before: instance UUIDs of VMs that an earlier report or a backup has with vApp options.
    :param expected_names: VMs whose last run is looked at, too, if they are off.
    """

    forked_from: t.Callable[[t.Mapping[str, t.Any]], str | None]
    mask: Mask
    fork_paths: t.Sequence[str] = ()
    probe: str = "none"
    login: GuestLogin | None = None
    logins: t.Mapping[str, GuestLogin] = field(default_factory=dict)
    lookback: datetime.timedelta = datetime.timedelta(days=30)
    listed_before: t.Collection[str] = ()
    expected_names: t.Collection[str] = ()


@dataclass(frozen=True)
class Examined:
    """One VM, what is known of it, and the verdict.

    :ivar needs_power_on: whether it is off, ran without its OVF environment before, and has an expected name: what a
        repair leaves whose power-on failed. A VM that ran with its OVF environment was switched off by somebody else.
    """

    found: _inventory.Found
    host: str | None
    evidence: Evidence
    diagnosis: diagnosis.Diagnosis
    needs_power_on: bool = False


def choices(
    examined: t.Sequence[Examined], expected_names: t.Collection[str] | None, logins: t.Sequence[str]
) -> list[dict[str, t.Any]]:
    """Return for each VM what a playbook decides by, as numbers and booleans, which Ansible does not mask.

    A password that occurs in a VM's name is masked there, so that the name can no longer be compared.

    :param expected_names: names to compare the VMs' names with; ``None``: none were given.
    :param logins: the names and managed object IDs for which a guest login was given.
    """
    repairable = [diagnosis.needs_power_cycle(one.diagnosis) or one.needs_power_on for one in examined]
    names = Counter(one.found.name for one, is_repairable in zip(examined, repairable, strict=True) if is_repairable)
    entries = {key: position for position, key in enumerate(logins)}
    return [
        {
            "name_expected": None if expected_names is None else one.found.name in expected_names,
            "name_unique": names[one.found.name] <= is_repairable,
            "needs_power_on": one.needs_power_on,
            "guests_entry": entries.get(one.found.moid, entries.get(one.found.name)),
        }
        for one, is_repairable in zip(examined, repairable, strict=True)
    ]


def examine(
    session: Session, deadline: Deadline, selection: _inventory.Selection, questions: Questions
) -> list[Examined]:
    """Examine every VM of a selection; they are returned sorted by name."""
    found = _inventory.find_vms(session, selection, PATHS)
    hosts = _hosts(session, found)
    logins = {one.moid: _login(one, questions, named=not selection.is_scope) for one in found}
    # The details tell also what was forked from what, without which the document of a parent seems to be a VM's own.
    interesting = [one for one in found if _has_vapp_options(one) or logins[one.moid] is not None]
    detail_paths = [*DETAILS, *bypassed.paths(session.api_version), *questions.fork_paths]
    details = _properties.read(session, [one.vm for one in interesting], detail_paths)
    found = [replace(one, values={**one.values, **details.get(one.vm, {})}) for one in found]
    by_uuid = {one.values.get("config.instanceUuid", "").lower(): one.moid for one in found}
    power_ons, lost_runs = _power_ons(session, deadline, found, questions)

    def ask(one: _inventory.Found) -> Evidence:
        known = _what_is_known(session, one, questions, by_uuid, power_ons)
        known = replace(known, in_cluster=hosts.get(one.values.get("runtime.host"), UNKNOWN_HOST).in_cluster)
        return _ask_vm(session, deadline, one, known, questions.probe, logins[one.moid])

    with ThreadPoolExecutor(AT_ONCE, initializer=session.budget.shared()) as pool:
        evidence = list(pool.map(ask, found))
    evidence = _with_pools(session, found, _with_owners(session, found, evidence))
    result = [
        _examined(one, hosts.get(one.values.get("runtime.host"), UNKNOWN_HOST).name, known, lost_runs)
        for one, known in zip(found, evidence, strict=True)
    ]
    return sorted(result, key=lambda one: (one.found.name, one.found.moid))


def _examined(one: _inventory.Found, host: str | None, known: Evidence, lost_runs: t.Collection[str]) -> Examined:
    verdict = diagnosis.judge(known)
    delivers = verdict.status == "not_running" and verdict.cause in ("powered_off", "no_ip_pool")
    return Examined(one, host, known, verdict, needs_power_on=delivers and one.moid in lost_runs)


def _what_is_known(
    session: Session,
    one: _inventory.Found,
    questions: Questions,
    by_uuid: t.Mapping[str, str],
    power_ons: t.Mapping[str, origin.PowerOn],
) -> Evidence:
    """Return the evidence that was read for all VMs at once."""
    values = one.values
    running = _power.is_on(values)
    parent = questions.forked_from(values)
    power_on = power_ons.get(one.moid, origin.PowerOn(reason=None if running else "not_running"))
    fault_tolerance = values.get("config.ftInfo")
    return Evidence(
        name=one.name,
        moid=one.moid,
        is_vcenter=session.is_vcenter,
        config_read=any(path.startswith("config.") for path in values),
        is_template=bool(values.get("config.template")),
        connection_state=str(values.get("runtime.connectionState", "")),
        # Role 1 is the primary (vSphere API reference, FaultToleranceConfigInfo.role).
        is_ft_secondary=fault_tolerance is not None and fault_tolerance.role != 1,
        power_state=str(values.get("runtime.powerState", "")),
        forked_from=power_on.cloned_from if parent is None else by_uuid.get(parent, ""),
        tools_running=values.get("guest.toolsRunningStatus") == "guestToolsRunning",
        rpc_denied=_extra_config.mapping(values).get(RPC_DENIED, "").upper() == "TRUE",
        listed_before=_listed_before(one, questions),
        configured=configured.read(
            values.get("config.vAppConfig"),
            [(around.get("name", ""), around.get("vAppConfig")) for around in one.vapps],
            running=running,
            mask=questions.mask,
        ),
        iso=_iso(values),
        power_on=power_on,
        **bypassed.known(values),
    )


class Host(t.NamedTuple):
    """An ESXi host; ``None``: not known."""

    name: str | None = None
    in_cluster: bool | None = None


UNKNOWN_HOST = Host()


def _hosts(session: Session, found: t.Sequence[_inventory.Found]) -> dict[t.Any, Host]:
    """Read what must be known of the VMs' ESXi hosts, of all in one request."""
    hosts = {one.values["runtime.host"] for one in found if one.values.get("runtime.host") is not None}
    return {
        host: Host(
            _inventory.unescape(values["name"]) if "name" in values else None,
            isinstance(values["parent"], vim.ClusterComputeResource) if "parent" in values else None,
        )
        for host, values in _properties.read(session, hosts, ["name", "parent"]).items()
    }


def _ask_vm(
    session: Session,
    deadline: Deadline,
    one: _inventory.Found,
    known: Evidence,
    method: str,
    login: GuestLogin | None,
) -> Evidence:
    """Ask what only the VM itself can tell."""
    if not (known.is_vcenter and _power.is_on(one.values)) or known.connection_state != "connected":
        return known
    if known.configured.enabled:
        known = replace(known, extracted=_extract(session, deadline, one.vm))
    if login is not None and deadline.passed:
        known = replace(known, guest=GuestView(error=f"The guest of VM {one.name} was not probed: {TIME_OVER}."))
    elif login is not None:
        known = replace(
            known,
            guest=probe.look(session, deadline, one.vm, one.name, login, method, one.values),
        )
    extracted = known.extracted.document
    return replace(known, differences=differences.compare(known.configured, extracted, known.guest.document))


def _with_owners(session: Session, found: t.Sequence[_inventory.Found], evidence: list[Evidence]) -> list[Evidence]:
    """Tell of documents in guests that they were made for another VM of this vCenter.

    The managed object ID in a document alone does not say so: of another vCenter, it may be any VM's here.
    """
    named = {one.moid: other for one, known in zip(found, evidence, strict=True) if (other := _named(one, known))}
    others = [session.object(vim.VirtualMachine, moid) for moid in sorted(set(named.values()))]
    macs = {
        vm._GetMoId(): set(_devices.mac_addresses(values))
        for vm, values in _properties.read(session, others, [_devices.PATH]).items()
    }
    return [
        replace(known, document_of=other)
        if (other := named.get(known.moid)) and _listed_macs(known.guest.document) & macs.get(other, set())
        else known
        for known in evidence
    ]


def _with_pools(session: Session, found: t.Sequence[_inventory.Found], evidence: list[Evidence]) -> list[Evidence]:
    """Add what vCenter cannot compute for VMs that are off: one request for each datacenter with such a VM."""
    datacenters = {
        known.moid: one.datacenter
        for one, known in zip(found, evidence, strict=True)
        if _may_be_powered_on(known) and ip_pools.needed_by(known.configured)
    }
    pools = {each: ip_pools.read(session, each) for each in dict.fromkeys(datacenters.values())}
    return [
        replace(known, lacking_pools=_lacking(known, pools[datacenters[known.moid]]))
        if known.moid in datacenters
        else known
        for known in evidence
    ]


def _may_be_powered_on(known: Evidence) -> bool:
    is_off = known.power_state == "poweredOff" and known.connection_state == "connected"
    return is_off and known.is_vcenter and not known.is_template


def _lacking(known: Evidence, pools: list[t.Any] | None) -> tuple[str, ...] | None:
    return None if pools is None else tuple(ip_pools.lacking(known.configured, pools))


def _named(one: _inventory.Found, known: Evidence) -> str | None:
    """Return the ID of another VM in a guest's document, when that lists network adapters, and none of this VM's."""
    found = known.guest.document
    if (
        found is None
        or found.vcenter_id == one.moid
        or known.forked_from is not None
        or _devices.PATH not in one.values
    ):
        return None
    listed = _listed_macs(found)
    # The guest may have written it; the server is asked for what may be a VM there.
    is_id = re.fullmatch(r"vm-\d{1,20}", found.vcenter_id or "", re.ASCII) is not None
    return (
        found.vcenter_id if is_id and listed and not listed.intersection(_devices.mac_addresses(one.values)) else None
    )


def _listed_macs(found: document.Document | None) -> set[str]:
    return {mac.lower() for each in (found.adapters if found else ()) if (mac := each["mac"])}


def _login(one: _inventory.Found, questions: Questions, named: bool) -> GuestLogin | None:
    """Return the guest login with which a VM is looked into; ``None``: it is not.

    :param named: the task names this VM. No program is started in other VMs that never had vApp options.
    """
    if questions.probe == "none" or not (named or _has_vapp_options(one) or _listed_before(one, questions)):
        return None
    return questions.logins.get(one.moid) or questions.logins.get(one.name) or questions.login


def _has_vapp_options(one: _inventory.Found) -> bool:
    return one.values.get("config.vAppConfig") is not None


def _listed_before(one: _inventory.Found, questions: Questions) -> bool:
    return one.values.get("config.instanceUuid", "").lower() in questions.listed_before


def _extract(session: Session, deadline: Deadline, vm: t.Any) -> Extracted:
    if deadline.passed:
        return Extracted(error=TIME_OVER)
    try:
        text = session.ask(vm.ExtractOvfEnvironment)
    except _errors.Fault as fault:
        return _not_extracted(fault)
    except (UnknownType, _errors.ConnectionLost, _errors.TimedOut) as error:
        return Extracted("error", error=error.sentence.rstrip("."))
    if not text:
        return Extracted("empty")
    return Extracted("ok", document.parse(text), text)


def _not_extracted(fault: _errors.Fault) -> Extracted:
    if fault.is_a("InvalidState"):
        return Extracted("not_running")
    if fault.is_a("NoPermission"):
        return Extracted("no_permission", error=fault.text)
    if fault.is_a("NotSupported", "MethodNotFound", "InvalidRequest"):
        return Extracted("unsupported", error=fault.text)
    return Extracted("error", error=fault.text)


def _iso(values: t.Mapping[str, t.Any]) -> Iso:
    drives = _devices.of_kind(values, vim.vm.device.VirtualCdrom)
    for drive in drives:
        path = getattr(drive.backing, "fileName", None) or ""
        # vCenter puts "[datastore] <VM>/_ovfenv-<VM>.iso" into the drive (terraform-provider-vsphere, cdrom).
        if path.rpartition("/")[2].startswith("_ovfenv-"):
            connected = drive.connectable is not None and drive.connectable.connected
            return Iso(cdrom_present=True, backing=path, connected=bool(connected))
    return Iso(cdrom_present=bool(drives))


def _power_ons(
    session: Session, deadline: Deadline, found: t.Sequence[_inventory.Found], questions: Questions
) -> tuple[dict[str, origin.PowerOn], set[str]]:
    """Return who powered on each running VM with vApp options, by managed object ID, and VMs whose last run was without
    an OVF environment.

    Those are VMs that are off and have an expected name.
    """
    running = [one for one in found if _power.is_on(one.values) and _has_vapp_options(one)]
    off = [
        one
        for one in found
        if one.values.get("runtime.powerState") == "poweredOff"
        and one.name in questions.expected_names
        and _has_vapp_options(one)
    ]
    asked = [*running, *off]
    if not asked or not session.is_vcenter:
        return {}, set()
    boot_times = [when for one in running if (when := one.values.get("runtime.bootTime")) is not None]
    begin = session.current_time() - questions.lookback  # the controller's clock may be off
    if len(boot_times) == len(asked):
        begin = max(begin, min(boot_times) - origin.NEAR)
    try:
        read = history.read(session, deadline, _around(session, asked), begin, {one.moid for one in asked})
    except (_errors.OperationFailed, _errors.TimedOut, _errors.ConnectionLost) as error:
        reason = "no_permission" if getattr(error, "fault", "") == "NoPermission" else "events_unreadable"
        return {one.moid: origin.PowerOn(reason=reason) for one in running}, set()
    power_ons = {
        one.moid: origin.classify(
            read.events.get(one.moid, []),
            one.values.get("runtime.bootTime"),
            str(one.values.get("runtime.powerState")),
            read.unread,
            begin,
        )
        for one in running
    }
    return power_ons, {one.moid for one in off if origin.began_without_vcenter(read.events.get(one.moid, []))}


def _around(session: Session, found: t.Sequence[_inventory.Found]) -> t.Any:
    """Return the nearest thing that has all these VMs in it: the fewer VMs, the fewer events are read."""
    if len(found) == 1:
        return found[0].vm
    for place in ("folder", "datacenter"):
        places = {getattr(one, place) for one in found}
        if len(places) == 1 and None not in places:
            return places.pop()
    return session.content.rootFolder


# --- return values --------------------------------------------------------------------------------------------------


def facts(one: Examined, mask: Mask, raw: bool = False) -> dict[str, t.Any]:
    """Return the entry of one VM in the ``ovfenv`` return value.

    :param raw: whether to show the documents as they are, secrets apart.
    """
    known, values = one.evidence, one.found.values
    # A VM's document has the properties of the vApps around it as well.
    around = [configured.read(vapp.get("vAppConfig"), mask=mask).properties for vapp in one.found.vapps]
    mask = mask.knowing((each.key, each.secret) for each in itertools.chain(known.configured.properties, *around))
    boot_time = values.get("runtime.bootTime")
    return {
        "name": known.name,
        "moid": known.moid,
        "instance_uuid": values.get("config.instanceUuid"),
        "inventory_path": one.found.inventory_path,
        "host": one.host,
        "power_state": known.power_state or None,
        "boot_time": None if boot_time is None else origin.iso_time(boot_time),
        "parent_vapp": next(iter(known.configured.parent_vapps), None),
        "configured": configured.facts(known.configured, mask),
        "extracted": {
            "state": known.extracted.state,
            "error": known.extracted.error,
            "document": _document(known.extracted.document, known.moid, mask),
            "raw_xml": mask.xml(known.extracted.text) if raw and known.extracted.text else None,
        },
        "iso": {
            "cdrom_present": known.iso.cdrom_present,
            "backing": known.iso.backing,
            "connected": known.iso.connected,
        },
        "guest": {
            **probe.facts(known.guest, known.moid, mask),
            "raw_xml": mask.xml(known.guest.text) if raw and known.guest.text else None,
        },
        "power_on": origin.facts(known.power_on),
        "differences": [differences.facts(each, mask) for each in known.differences],
        "diagnosis": diagnosis.facts(one.diagnosis),
    }


def summary(examined: t.Sequence[Examined]) -> dict[str, t.Any]:
    """Return the ``summary`` return value."""
    by_status: dict[str, int] = {}
    for one in examined:
        by_status[one.diagnosis.status] = by_status.get(one.diagnosis.status, 0) + 1
    return {
        "total": len(examined),
        "by_status": dict(sorted(by_status.items())),
        "act_now": [one.found.moid for one in examined if one.diagnosis.act == "now"],
        "judged_without_guest_evidence": sum(_is_judged_unseen(one) for one in examined),
    }


def _is_judged_unseen(one: Examined) -> bool:
    """Return whether there was something to see in the guest, and nobody saw it."""
    if one.diagnosis.status in ("not_applicable", "not_configured", "not_running", "nothing_to_deliver"):
        return False
    return one.evidence.guest.state not in ("xml", "no_value", "cleared", "non_xml", "permission_denied")


def _document(read: document.Document | None, moid: str, mask: Mask) -> dict[str, t.Any] | None:
    return None if read is None else document.facts(read, moid, mask)
