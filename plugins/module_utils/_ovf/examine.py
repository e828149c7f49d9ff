# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collect what is known about the OVF environments of VMs, and judge it.

Private to the collection. Costs, for any number of VMs: two paged reads of
properties, one paged read of events, and one ExtractOvfEnvironment for each
running VM with vApp options. Guests are probed only on request. VMs that are
off and need an IP pool cost one read of the pools for each datacenter.
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
    _printable,
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
    masking,
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
"""Properties read from every VM."""


RPC_DENIED = "guest_rpc.rpci.auth.cmd.info-get"
"""extraConfig key that keeps info-get from users who are not root (documentation of cloud-init's OVF datasource)."""

DETAILS = (_extra_config.path(RPC_DENIED), _devices.PATH)
"""Read only from VMs that have vApp options or are probed, because these are most of a VM's properties."""

AT_ONCE = 8
"""How many VMs are queried in parallel."""

TIME_OVER = "the timeout of the task was reached"


Given = t.TypeVar("Given")
LoginKey = tuple[str, str]
"""The VM that a guest login was given for: ``name`` or ``moid``, and its name or managed object ID."""


@dataclass(frozen=True)
class Questions:
    """What to find out, and how.

    :param forked_from: returns the instance UUID of the VM that a VM was forked from, given its properties;
        empty: not known, ``None``: it is no fork.
    :param fork_paths: the properties it needs beside :data:`PATHS`.
    :param probe: ``none``, ``exit_code`` or ``full``.
    :param login: the guest login for all VMs that have none of their own.
    :param logins: guest logins of single VMs.
    :param lookback: how far back events are read.
    :param listed_before: instance UUIDs of VMs with vApp options in an earlier report or a backup.
    :param expected_names: VMs whose last run is also examined if they are off.
    """

    forked_from: t.Callable[[t.Mapping[str, t.Any]], str | None]
    mask: Mask
    fork_paths: t.Sequence[str] = ()
    probe: str = "none"
    login: GuestLogin | None = None
    logins: t.Mapping[LoginKey, GuestLogin] = field(default_factory=dict)
    lookback: datetime.timedelta = datetime.timedelta(days=30)
    listed_before: t.Collection[str] = ()
    expected_names: t.Collection[str] = ()


@dataclass(frozen=True)
class Examined:
    """One VM, what is known of it, and the verdict.

    :ivar needs_power_on: whether the VM is off, ran without its OVF environment before, and has an expected name: a
        repair leaves it so if its power-on failed. A VM that ran with its OVF environment was powered off on purpose.
    """

    found: _inventory.Found
    host: str | None
    evidence: Evidence
    diagnosis: diagnosis.Diagnosis
    needs_power_on: bool = False


def choices(
    examined: t.Sequence[Examined], expected_names: t.Collection[str] | None, logins: t.Sequence[LoginKey]
) -> list[dict[str, t.Any]]:
    """Return what a playbook needs to decide, per VM, as numbers and booleans, which Ansible does not mask.

    Ansible masks a password that is part of a VM's name, so that the name can no longer be compared.

    :param expected_names: names to compare the VMs' names with; ``None``: none were given.
    :param logins: the VMs for which a guest login was given.
    """
    repairable = [diagnosis.needs_power_cycle(vm.diagnosis) or vm.needs_power_on for vm in examined]
    to_repair = [vm.found for vm, is_repairable in zip(examined, repairable, strict=True) if is_repairable]
    names = Counter(found.name for found in to_repair)
    moids = {found.moid for found in to_repair}
    entries = {key: position for position, key in enumerate(logins)}
    shared = shared_names([vm.found for vm in examined])
    return [
        {
            "name_expected": None if expected_names is None else vm.found.name in expected_names,
            "name_unique": names[vm.found.name] <= is_repairable and vm.found.name not in moids - {vm.found.moid},
            "needs_power_on": vm.needs_power_on,
            "guests_entry": _of_vm(entries, vm.found, shared),
        }
        for vm, is_repairable in zip(examined, repairable, strict=True)
    ]


def shared_names(vms: t.Iterable[_inventory.Found]) -> set[str]:
    """Return the names that several VMs have."""
    return {name for name, count in Counter(vm.name for vm in vms).items() if count > 1}


def _of_vm(given: t.Mapping[LoginKey, Given], vm: _inventory.Found, shared: t.Collection[str]) -> Given | None:
    """Return what was given for a VM by managed object ID or by name.

    :param shared: names that several VMs have. They select no VM, since a guest learns the password of a login.
    """
    by_name = None if vm.name in shared else given.get(("name", vm.name))
    return given.get(("moid", vm.moid), by_name)


def examine(
    session: Session,
    deadline: Deadline,
    selection: _inventory.Selection,
    questions: Questions,
    absent: list[str] | None = None,
) -> list[Examined]:
    """Examine every VM of a selection, and return them sorted by name.

    :param absent: receives the named VMs that do not exist, as of :func:`_inventory.find_vms`.
    """
    session.progress.show("reading VMs and events")
    found = _inventory.find_vms(session, selection, PATHS, absent)
    hosts = _hosts(session, found)
    shared = shared_names(found)
    logins = {entry.moid: _login(entry, questions, shared, named=not selection.is_scope) for entry in found}
    # The details also show which VM was forked from which. Otherwise a parent's document seems to be the child's own.
    interesting = [entry for entry in found if _has_vapp_options(entry) or logins[entry.moid] is not None]
    detail_paths = [*DETAILS, *bypassed.paths(session.api_version), *questions.fork_paths]
    details = _properties.read(session, [entry.vm for entry in interesting], detail_paths)
    found = [replace(entry, values={**entry.values, **details.get(entry.vm, {})}) for entry in found]
    by_uuid = {entry.values.get("config.instanceUuid", "").lower(): entry.moid for entry in found}
    power_ons, lost_runs = _power_ons(session, deadline, found, questions)

    def ask(entry: _inventory.Found) -> Evidence:
        known = _what_is_known(session, entry, questions, by_uuid, power_ons)
        known = replace(known, in_cluster=hosts.get(entry.values.get("runtime.host"), UNKNOWN_HOST).in_cluster)
        known = _ask_vm(session, deadline, entry, known, questions.probe, logins[entry.moid])
        return _masked(known, questions.mask)

    with ThreadPoolExecutor(AT_ONCE, initializer=session.budget.shared()) as pool:
        evidence = []
        for known in pool.map(ask, found):
            evidence.append(known)
            session.progress.show(
                f"{len(evidence)} of {_printable.count(len(found), 'VM')} examined", len(evidence), len(found)
            )
    evidence = _with_pools(session, found, _with_owners(session, found, evidence))
    result = [
        _examined(entry, hosts.get(entry.values.get("runtime.host"), UNKNOWN_HOST).name, known, lost_runs)
        for entry, known in zip(found, evidence, strict=True)
    ]
    return sorted(result, key=lambda entry: (entry.found.name, entry.found.moid))


def _examined(entry: _inventory.Found, host: str | None, known: Evidence, lost_runs: t.Collection[str]) -> Examined:
    verdict = diagnosis.judge(known)
    delivers = verdict.status == "not_running" and verdict.cause in ("powered_off", "no_ip_pool")
    return Examined(entry, host, known, verdict, needs_power_on=delivers and entry.moid in lost_runs)


def _what_is_known(
    session: Session,
    entry: _inventory.Found,
    questions: Questions,
    by_uuid: t.Mapping[str, str],
    power_ons: t.Mapping[str, origin.PowerOn],
) -> Evidence:
    """Return the evidence that was read from all VMs at once."""
    values = entry.values
    running = _power.is_on(values)
    parent = questions.forked_from(values)
    power_on = power_ons.get(entry.moid, origin.PowerOn(reason=None if running else "not_running"))
    fault_tolerance = values.get("config.ftInfo")
    return Evidence(
        name=entry.name,
        moid=entry.moid,
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
        listed_before=_listed_before(entry, questions),
        configured=configured.read(
            values.get("config.vAppConfig"),
            [(around.get("name", ""), around.get("vAppConfig")) for around in entry.vapps],
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
    """Read the names and clusters of the VMs' ESXi hosts in one call."""
    hosts = {entry.values["runtime.host"] for entry in found if entry.values.get("runtime.host") is not None}
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
    entry: _inventory.Found,
    known: Evidence,
    method: str,
    login: GuestLogin | None,
) -> Evidence:
    """Ask vCenter and the guest for what only this VM can answer."""
    if not (known.is_vcenter and _power.is_on(entry.values)) or known.connection_state != "connected":
        return known
    if known.configured.enabled:
        known = replace(known, extracted=_extract(session, deadline, entry.vm))
    if login is not None and deadline.passed:
        known = replace(known, guest=GuestView(error=f"The guest of VM {entry.name} was not probed: {TIME_OVER}."))
    elif login is not None:
        known = replace(
            known,
            guest=probe.look(session, deadline, entry.vm, entry.name, login, method, entry.values),
        )
    extracted = known.extracted.document
    return replace(known, differences=differences.compare(known.configured, extracted, known.guest.document))


def _masked(known: Evidence, mask: Mask) -> Evidence:
    """Mask values in what vCenter and the guest refused: vCenter names the value that it does not accept."""
    hidden = configured.hidden_values(known.configured, mask)
    texts = known.extracted.error, known.guest.error
    extracted, guest = (text and masking.without(text, hidden) for text in texts)
    return replace(known, extracted=replace(known.extracted, error=extracted), guest=replace(known.guest, error=guest))


def _with_owners(session: Session, found: t.Sequence[_inventory.Found], evidence: list[Evidence]) -> list[Evidence]:
    """Note which documents in guests were created for another VM of this vCenter.

    The managed object ID in a document is no proof: if it is from another vCenter, any VM here may have that ID.
    """
    named = {entry.moid: other for entry, known in zip(found, evidence, strict=True) if (other := _named(entry, known))}
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
    """Add what vCenter cannot compute for VMs that are off, with one call for each datacenter that has such a VM."""
    datacenters = {
        known.moid: entry.datacenter
        for entry, known in zip(found, evidence, strict=True)
        if _may_be_powered_on(known) and ip_pools.needed_by(known.configured)
    }
    pools = {datacenter: ip_pools.read(session, datacenter) for datacenter in dict.fromkeys(datacenters.values())}
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


def _named(entry: _inventory.Found, known: Evidence) -> str | None:
    """Return another VM's ID from a guest's document if that lists network adapters, and none of this VM's."""
    found = known.guest.document
    if (
        found is None
        or found.vcenter_id == entry.moid
        or known.forked_from is not None
        or _devices.PATH not in entry.values
    ):
        return None
    listed = _listed_macs(found)
    # The guest may have written anything there. Only what may be the ID of a VM is sent to the server.
    is_id = re.fullmatch(r"vm-\d{1,20}", found.vcenter_id or "", re.ASCII) is not None
    return (
        found.vcenter_id if is_id and listed and not listed.intersection(_devices.mac_addresses(entry.values)) else None
    )


def _listed_macs(found: document.Document | None) -> set[str]:
    return {mac.lower() for adapter in (found.adapters if found else ()) if (mac := adapter["mac"])}


def _login(entry: _inventory.Found, questions: Questions, shared: t.Collection[str], named: bool) -> GuestLogin | None:
    """Return the guest login to probe a VM with; ``None``: it is not probed.

    :param shared: names that several VMs have.
    :param named: the task names this VM. Other VMs that never had vApp options are not probed.
    """
    if questions.probe == "none" or not (named or _has_vapp_options(entry) or _listed_before(entry, questions)):
        return None
    return _of_vm(questions.logins, entry, shared) or questions.login


def _has_vapp_options(entry: _inventory.Found) -> bool:
    return entry.values.get("config.vAppConfig") is not None


def _listed_before(entry: _inventory.Found, questions: Questions) -> bool:
    return entry.values.get("config.instanceUuid", "").lower() in questions.listed_before


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
    """Return who powered on each running VM with vApp options, by managed object ID, and the VMs whose last run was
    without an OVF environment.

    The latter are VMs that are off and have an expected name.
    """
    running = [entry for entry in found if _power.is_on(entry.values) and _has_vapp_options(entry)]
    off = [
        entry
        for entry in found
        if entry.values.get("runtime.powerState") == "poweredOff"
        and entry.name in questions.expected_names
        and _has_vapp_options(entry)
    ]
    asked = [*running, *off]
    if not asked or not session.is_vcenter:
        return {}, set()
    boot_times = [when for entry in running if (when := entry.values.get("runtime.bootTime")) is not None]
    begin = session.current_time() - questions.lookback  # the controller's clock may be off
    if len(boot_times) == len(asked):
        begin = max(begin, min(boot_times) - origin.NEAR)
    try:
        read = history.read(session, deadline, _around(session, asked), begin, {entry.moid for entry in asked})
    except (_errors.OperationFailed, _errors.TimedOut, _errors.ConnectionLost) as error:
        reason = "no_permission" if getattr(error, "fault", "") == "NoPermission" else "events_unreadable"
        return {entry.moid: origin.PowerOn(reason=reason) for entry in running}, set()
    power_ons = {
        entry.moid: origin.classify(
            read.events.get(entry.moid, []),
            entry.values.get("runtime.bootTime"),
            str(entry.values.get("runtime.powerState")),
            read.unread,
            begin,
        )
        for entry in running
    }
    return power_ons, {entry.moid for entry in off if origin.began_without_vcenter(read.events.get(entry.moid, []))}


def _around(session: Session, found: t.Sequence[_inventory.Found]) -> t.Any:
    """Return the smallest container of all these VMs: the fewer VMs it has, the fewer events are read."""
    if len(found) == 1:
        return found[0].vm
    for place in ("folder", "datacenter"):
        places = {getattr(entry, place) for entry in found}
        if len(places) == 1 and None not in places:
            return places.pop()
    return session.content.rootFolder


# --- return values --------------------------------------------------------------------------------------------------


def facts(vm: Examined, mask: Mask, raw: bool = False) -> dict[str, t.Any]:
    """Return the entry of one VM in the ``ovfenv`` return value.

    :param raw: whether to return the documents as they are, with secrets masked.
    """
    known, values = vm.evidence, vm.found.values
    # A VM's document has the properties of the vApps around it as well.
    around = [configured.read(vapp.get("vAppConfig"), mask=mask).properties for vapp in vm.found.vapps]
    mask = mask.knowing((prop.key, prop.secret) for prop in itertools.chain(known.configured.properties, *around))
    boot_time = values.get("runtime.bootTime")
    return {
        "name": known.name,
        "moid": known.moid,
        "instance_uuid": values.get("config.instanceUuid"),
        "inventory_path": vm.found.inventory_path,
        "host": vm.host,
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
        "differences": [differences.facts(difference, mask) for difference in known.differences],
        "diagnosis": diagnosis.facts(vm.diagnosis),
    }


def summary(examined: t.Sequence[Examined]) -> dict[str, t.Any]:
    """Return the ``summary`` return value."""
    by_status: dict[str, int] = {}
    for vm in examined:
        by_status[vm.diagnosis.status] = by_status.get(vm.diagnosis.status, 0) + 1
    return {
        "total": len(examined),
        "by_status": dict(sorted(by_status.items())),
        "act_now": [vm.found.moid for vm in examined if vm.diagnosis.act == "now"],
        "judged_without_guest_evidence": sum(_is_judged_unseen(vm) for vm in examined),
    }


def _is_judged_unseen(vm: Examined) -> bool:
    """Return whether the guest has something to probe, and it was not probed."""
    if vm.diagnosis.status in ("not_applicable", "not_configured", "not_running", "nothing_to_deliver"):
        return False
    return vm.evidence.guest.state not in ("xml", "no_value", "cleared", "non_xml", "permission_denied")


def _document(read: document.Document | None, moid: str, mask: Mask) -> dict[str, t.Any] | None:
    return None if read is None else document.facts(read, moid, mask)
