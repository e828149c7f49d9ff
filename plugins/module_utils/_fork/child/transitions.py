# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transitions of one child, as a pure reducer: (child, event) → (child, next request).

Private to the collection. The steps are: created, recorded, powered on,
running, script ended, adapters connected, settled, secrets cleared, end noted.
A child that runs from its creation skips the power-on, and the record if it
was created with it.
``executor.py`` sends the requests and passes the events in.
"""

from __future__ import annotations

import enum
import itertools
import re
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _errors,
    _extra_config,
    _inventory,
    _power,
    _printable,
    _tasks,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import (
    facts,
    guestinfo,
    identity,
    identity_report,
    output_mask,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import networks
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

if t.TYPE_CHECKING:
    from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.engine.base import Engine

GOALS = ("created", "powered_on", "tools", "ip_address", "post_clone")
"""The goals to wait for, in the order in which they are reached."""


class Step(enum.Enum):
    """The current step of a child; the value names what it is waiting for."""

    CREATING = "its creation"
    CREATED = "its properties"
    RECORDING = "the record on it"
    FORGETTING = "its preparation for another run"
    STARTING = "its power-on"
    RUNNING = "the goal"
    CONNECTING = "the connection of its network adapters"
    SETTLING = "VMware Tools' report of its address"
    CLEARING = "the removal of its secrets"
    NOTING = "the record of its script's end"
    DONE = "nothing more"
    FAILED = "nothing"


class Request(enum.Enum):
    """The next request to the server."""

    CREATE = "Could not create child"
    RECORD = "Could not record child"
    FORGET = "Could not prepare another run of child"
    POWER_ON = "Could not power on child"
    CONNECT = "Could not connect the network adapters of child"
    CLEAR = "Could not clear the secrets of child"
    NOTE = "Could not record the end of the post-clone script of child"


class Created(t.NamedTuple):
    """The server reports that it created the child as this VM. The VM's properties show whether that is true."""

    vm: t.Any


class Succeeded(t.NamedTuple):
    """The current request succeeded.

    :param by_us: whether this task caused the effect, and not somebody else in the meantime.
    """

    by_us: bool = True


class Failed(t.NamedTuple):
    """The current request failed, or is not waited for any longer.

    :param goes_on: whether vCenter has accepted the request and may still carry it out.
    """

    sentence: str
    fault: str = ""
    goes_on: bool = False


class DeadlinePassed(t.NamedTuple):
    """The deadline has passed: nothing new is started, but what was started must be finished properly.

    :param goes_on: see :class:`Failed`.
    :param early: whether a signal ended the task before its timeout.
    """

    sentence: str
    goes_on: bool = False
    early: bool = False


class PropertyUpdate(t.NamedTuple):
    """Properties of the child changed; ``None``: the VM is gone."""

    values: t.Mapping[str, t.Any] | None


class Settled(t.NamedTuple):
    """VMware Tools had time to report the child's address, and vCenter to show its adapters as connected."""


Event = t.Union[Created, Succeeded, Failed, DeadlinePassed, PropertyUpdate, Settled]


@dataclass(frozen=True)
class Goal:
    """The state that a child must reach.

    :param wait_for: one of :data:`GOALS`.
    :param parent: properties of the parent: an inherited address does not count.
    :param engine: the engine that creates the child; used only for what needs no server.
    :param network: addresses outside of it do not count.
    :param shown_networks: the backings that vCenter may show for adapters on the networks of the children.
    """

    wait_for: str
    parent: t.Mapping[str, t.Any]
    engine: Engine
    network: facts.IPNetwork | None = None
    shown_networks: networks.Shown = field(default_factory=dict)

    @property
    def has_identity_script(self) -> bool:
        """Return whether the parent is known to have been quiesced with an identity script."""
        return guestinfo.identity_script(_extra_config.mapping(self.parent)) is not None


_OWN_PARAM = re.compile(r"vmfork\..*|ethernet\d+\.address")
"""Params that the user did not set: ours, and those that the ESXi host sets itself."""


@dataclass(frozen=True)
class Child:
    """The state of a child.

    :param vm: its VM; ``None`` until the VM that the server names was confirmed to be the child.
    :param bios_uuid: its BIOS UUID, if the creation request sets it together with the record.
    :param new_bios_uuid: the BIOS UUID to set with the record, if the server has chosen another one.
    :param seen_on: whether vCenter has shown it as powered on. Before that, "powered off" is outdated, not an event.
    :param changed: whether vCenter has carried out a request, or may still do so.
    :param warnings: warnings for a child that has not failed.
    :param clash: what another child has, too, although only one may have it, as a clause.
    """

    spec: ChildSpec
    goal: Goal
    step: Step = Step.CREATING
    vm: t.Any = None
    named: t.Any = None
    nonce: str | None = field(default_factory=guestinfo.new_nonce)
    bios_uuid: str | None = None
    new_bios_uuid: str | None = None
    existed: bool = False
    seen_on: bool = False
    recorded: bool = False
    started: bool = False
    forgotten: bool = False
    connected: bool = False
    changed: bool = False
    values: t.Mapping[str, t.Any] = field(default_factory=dict, repr=False)
    error: str | None = None
    warnings: tuple[str, ...] = ()
    secrets_seen: bool = False
    secrets_cleared: bool = False
    clash: str | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_finished(self) -> bool:
        return self.step in (Step.DONE, Step.FAILED)

    @property
    def _raw_report(self) -> guestinfo.Report | None:
        return guestinfo.post_clone(_extra_config.mapping(self.values), self.nonce)

    @property
    def report(self) -> guestinfo.Report | None:
        """The child's report about its post-clone script, if there is one, with secrets masked."""
        raw = self._raw_report
        secrets = self.spec.secrets.values()
        return raw._replace(output=output_mask.mask(raw.output, secrets)) if raw is not None else None

    @property
    def record(self) -> dict[str, str]:
        """The extraConfig keys that record the child as ours."""
        record = identity.Record(
            self.goal.parent["config.instanceUuid"],
            self.new_bios_uuid or self.values.get("config.uuid") or t.cast(str, self.bios_uuid),
            t.cast(str, self.nonce),
        )
        return {identity.RECORD_KEY: str(record), **self.spec.keys}

    def has_mark(self, values: t.Mapping[str, t.Any]) -> bool:
        """Return whether a VM has a value that only the request for this child, or its record, can have set."""
        return identity.has_mark(values, self.nonce, self.bios_uuid or self.new_bios_uuid)

    @property
    def has_record(self) -> bool:
        """Return whether vCenter shows the child's record."""
        return str(identity.own_record(self.values)) == self.record[identity.RECORD_KEY]

    @property
    def impostor(self) -> str | None:
        """Why the VM that the server names is not the child, as a clause; ``None``: it is the child."""
        name = _inventory.unescape(self.values["name"])
        if name != self.name:
            return f"whose name is {name}"
        ours = self.has_mark(self.values)
        if self.bios_uuid is not None and not ours:
            return "which has neither the BIOS UUID nor the nonce of the child"
        if not ours and identity.nonce_given(self.values) is not None:
            return "which has the nonce of another child"
        group, of_parent = identity.child_group(self.values), identity.parent_group(self.goal.parent)
        if group and of_parent and group != of_parent:
            return "which belongs to the fork group of another parent"
        return None

    @property
    def forks_again(self) -> bool:
        """Return whether a power-off takes the child back to the fork point, so that its script runs again."""
        return self.goal.engine.forks_again(self.values, self.spec.persistent)

    @property
    def went_off(self) -> bool:
        """Return whether the child was powered off while it was watched."""
        return self.seen_on and not _power.is_on(self.values)

    @property
    def disconnected(self) -> list[t.Any]:
        """The network adapters that must be connected after the post-clone script, and are not connected."""
        return networks.disconnected(self.values, self.spec.networks)

    @property
    def lacks_connection(self) -> bool:
        """Return whether adapters must be connected after the child's script has succeeded."""
        if self.existed:
            return self.goal.wait_for == "post_clone" and bool(self.disconnected)
        return any(adapter.connect == networks.AFTER_POST_CLONE for adapter in self.spec.networks)

    @property
    def has_old_report(self) -> bool:
        """Return whether vCenter shows a report of this child; if it is off, the report is from an earlier run."""
        return _extra_config.mapping(self.values).get(guestinfo.POST_CLONE, "").split(" ")[0] == self.nonce

    @property
    def preparation(self) -> dict[str, str]:
        """The extraConfig keys to set on a powered-off child whose script runs at its power-on.

        An old report would be mistaken for a new one. Secrets are missing if an interrupted task or an earlier run of
        the child has removed them.
        """
        keys = _extra_config.mapping(self.values)
        result = {guestinfo.POST_CLONE: ""} if self.forks_again and self.has_old_report else {}
        if self.forks_again and keys.get(guestinfo.ACCEPTED, "").strip():
            result[guestinfo.ACCEPTED] = ""  # the new run of the script makes another identity
        has_ended = self.report is not None
        if self.goal.engine.runs_script_at_power_on(self.values, self.spec.persistent, has_ended):
            # A server that does not show config params does not show which of them were secret either.
            given = keys.get(guestinfo.CHILD_SECRETS, "").split() if guestinfo.CHILD_NONCE in keys else self.secret_keys
            lacking = [key for key in given if not keys.get(key, "").strip()]
            for key, value in self.spec.secrets.items():
                result.update({full: value for full in self.goal.engine.param_keys(key) if full in lacking})
        return result

    @property
    def note(self) -> dict[str, str]:
        """The extraConfig keys that preserve what the child reported, and clear what its guest could not clear."""
        ended = self.report
        if ended is None:
            return {}
        keys = dict.fromkeys(guestinfo.left_by_quiesce(_extra_config.mapping(self.values)), "")
        if self.lacks_note:
            keys[guestinfo.DONE] = f"{self.nonce} {guestinfo.code_text(ended)}"
        seen = self.own_identity
        is_new = self.goal.wait_for == "post_clone" and not seen.is_accepted
        if is_new and seen.report is not None and self.objection is None:
            keys[guestinfo.ACCEPTED] = seen.report.text(t.cast(str, self.nonce))
        return keys

    @property
    def own_identity(self) -> identity_report.Seen:
        """The identity of the child, as accepted earlier or else as its guest reports it, with secrets masked."""
        seen = guestinfo.identity(_extra_config.mapping(self.values), self.nonce)
        if seen.report is None or not seen.report.reasons:
            return seen
        secrets = self.spec.secrets.values()
        masked = {item: output_mask.mask(reason, secrets) for item, reason in seen.report.reasons.items()}
        return seen._replace(report=replace(seen.report, reasons=masked))

    @property
    def identity_differs(self) -> bool:
        """Return whether the guest now reports another identity than the accepted one."""
        seen = self.own_identity
        reported = guestinfo.reported_identity(_extra_config.mapping(self.values), self.nonce).report
        if not seen.is_accepted or seen.report is None or reported is None:
            return False
        return reported.values != seen.report.values

    @property
    def objection(self) -> str | None:
        """Why the identity of the child does not count as renewed, as a clause."""
        parents = guestinfo.parents_identity(_extra_config.mapping(self.goal.parent))
        found = self.clash or identity_report.objection(
            self.spec.identity, self.own_identity, parents, must_compare=self.goal.has_identity_script
        )
        return found or ("its identity script failed" if self.identity_script_failed else None)

    @property
    def identity_script_failed(self) -> bool:
        """Return whether the script that failed is the identity script, which runs before the post-clone script."""
        ended, identified = self.report, self.own_identity.report
        if ended is None or not ended.exit_code:
            return False
        if identified is None:
            return self.goal.has_identity_script
        return identified.has_failed or ended.exit_code == guestinfo.IDENTITY_FAILED

    @property
    def lacks_clock(self) -> bool:
        """Return whether no identity script has set the clock of the child, or will do so after the task."""
        identified = self.own_identity.report
        if identified is None:
            return self.goal.wait_for == "post_clone" or not self.goal.has_identity_script
        return not identified.has_renewed("clock")

    @property
    def lacks_note(self) -> bool:
        """Return whether the end of a persistent child's script must be recorded, and is not recorded yet."""
        noted = _extra_config.mapping(self.values).get(guestinfo.DONE, "").split(" ")[0] == self.nonce
        return self.goal.wait_for == "post_clone" and not self.forks_again and not noted

    @property
    def params(self) -> dict[str, str]:
        """All params that the guest can read: the task's and ours."""
        own = {guestinfo.NONCE_PARAM: t.cast(str, self.nonce), **self.spec.identity_params}
        if self.spec.secrets:
            own[guestinfo.SECRETS_PARAM] = " ".join(self.secret_keys)
        return {**self.spec.params, **self.spec.secrets, **own}

    @property
    def shown_params(self) -> dict[str, str]:
        """The config params that are not secret: a new child's from the task, others as vCenter shows them."""
        if not self.existed:
            return dict(self.spec.config_params)
        prefix = guestinfo.PARAMS
        extra_config = _extra_config.mapping(self.values)
        secret = {*self.secret_keys, *extra_config.get(guestinfo.CHILD_SECRETS, "").split()}
        shown = {
            key[len(prefix) :]: value
            for key, value in extra_config.items()
            if key.startswith(prefix) and key not in secret
        }
        return {key: value for key, value in shown.items() if not _OWN_PARAM.fullmatch(key)}

    @property
    def has_reported_clearing(self) -> bool:
        """Return whether the child has reported that it cleared its secrets."""
        return guestinfo.secrets_cleared(_extra_config.mapping(self.values), self.nonce)

    @property
    def secret_keys(self) -> list[str]:
        """The extraConfig keys that hold secrets."""
        return [full for key in self.spec.secrets for full in self.goal.engine.param_keys(key)]

    @property
    def shows_secrets(self) -> bool:
        """Return whether vCenter shows secrets, in config params or in the child's report."""
        keys = _extra_config.mapping(self.values)
        return any(keys.get(key, "").strip() for key in self.secret_keys) or self.report != self._raw_report

    @property
    def without_secrets(self) -> dict[str, str]:
        """The extraConfig keys to set so that vCenter shows no secret."""
        keys = dict.fromkeys(self.secret_keys, "")
        if self.report is not None and self.report != self._raw_report:
            keys[guestinfo.POST_CLONE] = guestinfo.as_post_clone(t.cast(str, self.nonce), self.report)
        return keys


Transition = t.Tuple[Child, t.Optional[Request]]  # noqa: UP006, UP045, ansible-test reads aliases as Python 3.8 would


def begin(spec: ChildSpec, goal: Goal) -> Transition:
    """Return a child that does not exist yet."""
    bios_uuid = goal.engine.uuid_at_creation(spec.bios_uuid)
    new_bios_uuid = spec.bios_uuid if bios_uuid is None else None
    started = goal.engine.starts_children
    return Child(spec, goal, bios_uuid=bios_uuid, new_bios_uuid=new_bios_uuid, started=started), Request.CREATE


def resume(spec: ChildSpec, goal: Goal, vm: t.Any, values: t.Mapping[str, t.Any]) -> Transition:
    """Return a child that exists: recorded, or left without a record by an interrupted task."""
    record = identity.record_of(values)
    child = Child(spec, goal, vm=vm, values=values, existed=True, seen_on=_power.is_on(values))
    if record is None:
        child = replace(child, nonce=identity.nonce_given(values), new_bios_uuid=spec.bios_uuid)
        return replace(child, step=Step.RECORDING), Request.RECORD
    child = replace(child, nonce=record.nonce, recorded=True)
    if not _power.is_on(values):
        return _start(child)
    return _arrive(replace(child, step=Step.RUNNING))


MILESTONES = ("created", "powered_on", "post_clone", "ready")
"""What a child reaches in this order: it exists, it runs, its script has ended, it is at the goal."""


def milestones(child: Child) -> list[str]:
    """Return the milestones that a child has reached."""
    is_ready = child.step is Step.DONE
    # The end of the power-on may be known before the power state.
    is_on = _power.is_on(child.values) or (is_ready and child.goal.wait_for != "created")
    # The report of a child that is off and whose script runs again is from an earlier run.
    has_reported = child.report is not None and (is_on or not child.forks_again)
    reached = (child.vm is not None, is_on, has_reported, is_ready)
    return list(itertools.compress(MILESTONES, reached))


def is_moot(child: Child, request: Request) -> bool:
    """Return whether the effect of a postponed request is already there."""
    return {
        Request.CREATE: False,
        Request.RECORD: child.has_record and not child.new_bios_uuid,
        Request.FORGET: not child.preparation,
        Request.POWER_ON: _power.is_on(child.values),
        Request.CONNECT: not child.disconnected,
        Request.CLEAR: child.secrets_seen and not child.shows_secrets,
        Request.NOTE: not child.note,
    }[request]


def ahead(child: Child, request: Request | None) -> list[Request]:
    """Return the requests that a child still needs, if all goes well.

    :param request: the next request; ``None``: a child that is not finished is running, and is waited for.
    """
    if child.is_finished:
        return []
    is_needed = {
        Request.CREATE: False,
        Request.RECORD: not child.recorded and child.bios_uuid is None,
        Request.FORGET: _may_start(child) and child.existed and bool(child.preparation),
        Request.POWER_ON: _may_start(child),
        Request.CONNECT: child.lacks_connection,
        Request.CLEAR: child.shows_secrets or (not child.existed and bool(child.secret_keys)),
        Request.NOTE: child.lacks_note,
    }
    order = list(is_needed)
    later = order[order.index(request or Request.POWER_ON) + 1 :]
    return [*([request] if request is not None else []), *(follower for follower in later if is_needed[follower])]


def advance(child: Child, event: Event) -> Transition:
    """Return the child after an event, and the next request."""
    if child.is_finished:
        return child, None
    if isinstance(event, Created):
        return replace(child, step=Step.CREATED, named=event.vm, changed=True), None
    if isinstance(event, DeadlinePassed):
        return _overdue(child, event)
    if isinstance(event, Failed):
        return _failed(child, event)
    if isinstance(event, PropertyUpdate):
        return _update(child, event)
    if isinstance(event, Settled):
        return _settled(child) if child.step is Step.SETTLING else (child, None)
    if event.by_us and not (child.step is Step.NOTING and child.existed):  # the record of its end is not a change
        child = replace(child, changed=True)
    if child.step is Step.RECORDING:
        return _start(replace(child, recorded=True))
    if child.step is Step.FORGETTING:
        return _start_afresh(replace(child, forgotten=True))
    if child.step is Step.STARTING:
        child = replace(child, started=True)
        if not child.recorded:
            return replace(child, step=Step.RECORDING), Request.RECORD
        return _arrive(replace(child, step=Step.RUNNING))
    if child.step is Step.CONNECTING:
        child = replace(child, step=Step.RUNNING, connected=True)
        return _powered_off(child) if child.went_off else _arrive(child)
    if child.step in (Step.CLEARING, Step.NOTING):
        return _end(child), None
    return child, None


_NOT_YET = ("InvalidState", "InvalidPowerState")
"""Faults with which a server may refuse to change a VM that has not run yet."""


def _may_start(child: Child) -> bool:
    return child.goal.wait_for != "created" and not child.started and child.error is None


def _start(child: Child) -> Transition:
    """Power a recorded child on, unless it is to stay off or runs already."""
    if _may_start(child):
        if child.existed and child.preparation:
            return replace(child, step=Step.FORGETTING), Request.FORGET
        return replace(child, step=Step.STARTING), Request.POWER_ON
    return _arrive(replace(child, step=Step.RUNNING))


def _overdue(child: Child, event: DeadlinePassed) -> Transition:
    """Handle the deadline. Extra time allows children to be recorded, and their secrets to be removed."""
    if child.step in (Step.CLEARING, Step.NOTING):
        return child, None
    if not child.recorded and (event.goes_on or child.step in (Step.CREATED, Step.RECORDING)):
        return _with_error(child, event.sentence), None
    if event.early and child.step is Step.SETTLING:
        return _fail(child, event.sentence)  # there was not enough time to judge its address
    return _failed(child, Failed(event.sentence, goes_on=event.goes_on))


def _failed(child: Child, event: Failed) -> Transition:
    child = replace(child, changed=child.changed or event.goes_on)
    if child.step is Step.SETTLING:
        return _settled(child)  # it had reached its goal; only its address was still waited for
    if child.step is Step.RECORDING and event.fault in _NOT_YET and _may_start(child):
        # This server allows changes only after the child has run.
        return replace(child, step=Step.STARTING), Request.POWER_ON
    return _fail(child, event.sentence + _remedy(child, event.fault), event.fault)


def _remedy(child: Child, fault: str) -> str:
    """Return the remedy for a refusal that does not name one: InvalidState has a different meaning at each step."""
    if fault != "InvalidState":
        return ""
    if child.step is Step.CREATING and child.goal.engine.needs_snapshot(child.spec):
        return " A persistent child needs a parent with a snapshot. Take one if there is none."
    if child.step is Step.STARTING and child.existed and child.forks_again:
        return " Remove it and create it again."
    return ""


def _start_afresh(child: Child) -> Transition:
    """Power the child on after vCenter shows that the old report is gone: a later report is from the new run."""
    if child.forgotten and not {guestinfo.POST_CLONE, guestinfo.ACCEPTED} & set(child.preparation):
        return replace(child, step=Step.STARTING), Request.POWER_ON
    return child, None


def _update(child: Child, event: PropertyUpdate) -> Transition:
    if event.values is None:
        return replace(
            child,
            step=Step.FAILED,
            error=f"Child {child.name} was removed during the task. Check vCenter's events to see who removed it.",
        ), None
    values = {**child.values, **event.values}
    child = replace(child, values=values, seen_on=child.seen_on or _power.is_on(values))
    if child.step is Step.CREATED and child.values.get("config.uuid") and "name" in child.values:
        why = child.impostor
        if why is not None:
            return _fail(replace(child, values={}), not_the_child(child.name, child.named, why))
        child = _compared(replace(child, vm=child.named))
        if child.has_record:
            return _start(replace(child, recorded=True))
        return replace(child, step=Step.RECORDING), Request.RECORD
    if child.step is Step.FORGETTING:
        return _start_afresh(child)
    if child.step in (Step.RUNNING, Step.SETTLING):
        return _powered_off(child) if child.went_off else _arrive(child)
    return child, None


def not_the_child(name: str, named: t.Any, why: str) -> str:
    """Return the sentence about a creation task that returned something other than the new child.

    :param named: what the task returned.
    :param why: why it is not the child, as a clause, if it is a VM.
    """
    if isinstance(named, vim.VirtualMachine):
        what = f"VM {named._GetMoId()}, {why}"
    elif isinstance(named, vim.ManagedEntity):
        what = f"a {type(named).__name__.rpartition('.')[2]} ({named._GetMoId()}) instead of a VM"
    else:
        what = ("a list" if isinstance(named, list) else f"a value of type {type(named).__name__}") + " instead of a VM"
    remedy = "It was left unchanged. Check in vCenter what was created."
    return _errors.sentence(f"{Request.CREATE.value} {name}", f"vCenter's task names {what}", remedy)


def _compared(child: Child) -> Child:
    """Fail a new child whose adapters are not as requested. The child is recorded anyway."""
    wrong = networks.differences(child.values, child.spec.networks, child.goal.shown_networks)
    if not wrong:
        return child
    what = f"Child {child.name} was not created with the requested networks"
    remedy = "vCenter did not apply them. Disconnect or remove the child, and create the next ones without networks."
    return _with_error(child, _errors.sentence(what, ", ".join(wrong), remedy))


def _powered_off(child: Child) -> Transition:
    what = f"Child {child.name} was powered off during the task"
    return _fail(child, f"{what}. Check vCenter's events to see who did it.")


_RETRY = "Correct the cause, remove the child (state=absent) and create it again."
"""What to do about a failed identity script."""

_RETRY_SCRIPT = (
    f"A post-clone script runs only once in a child. {_RETRY} To change the script, quiesce the parent with the new "
    "script first."
)
"""What to do about a failed post-clone script."""


def _arrive(child: Child) -> Transition:
    """Finish the child if it has reached its goal."""
    if child.error is not None:
        return _finish(child)
    goal = child.goal.wait_for
    values = child.values
    if goal == "tools" and str(values.get("guest.toolsRunningStatus")) != "guestToolsRunning":
        return child, None
    if goal == "ip_address" and not facts.own_addresses(values, child.goal.parent, child.goal.network):
        return child, None
    if goal == "post_clone":
        ended = child.report
        if ended is None:
            return child, None
        if ended.exit_code is None:
            what = f"Could not read how the post-clone script ended in child {child.name}"
            why = f"its guest wrote an unreadable report to {guestinfo.POST_CLONE}"
            remedy = "Check what writes to it in the guest besides the runner of this collection."
            return _fail(child, _errors.sentence(what, why, remedy) + _left_disconnected(child))
        if ended.exit_code != 0:
            return _fail(child, _script_failure(child, ended) + _left_disconnected(child))
        if child.objection is not None:
            return _fail(child, identity_failure(child, child.objection) + _left_disconnected(child))
        if child.identity_differs:
            child = _with_warning(
                child,
                f"Child {child.name} reports another identity than the one that was accepted after its creation, which "
                "is returned. If it was powered off and on, or renewed its identity again, its SSH host keys are not "
                "known. Remove it and create it again.",
            )
        if child.disconnected and not child.connected:
            return replace(child, step=Step.CONNECTING), Request.CONNECT
        # The script has ended, but what vCenter reports about the guest may still be the parent's.
        is_new = child.connected or not child.existed
        inherited = facts.parents_addresses(values, child.goal.parent)
        if child.disconnected or (is_new and (inherited or not facts.own_addresses(values, child.goal.parent))):
            return replace(child, step=Step.SETTLING), None
        if inherited:
            return _finish(
                _with_warning(child, f"Child {child.name} has the address {inherited[0].address} of its parent.")
            )
    return _finish(child)


def _script_failure(child: Child, ended: guestinfo.Report) -> str:
    """Return the sentence about a script that failed after the fork point."""
    identified = child.own_identity.report
    why = f"exit code {ended.exit_code}"
    if not child.identity_script_failed:
        output = " ".join(ended.output.split())
        why += f", output: {output[-300:]}" if output else ""
        return _errors.sentence(f"The post-clone script failed in child {child.name}", why, _RETRY_SCRIPT)
    lines = [" ".join(line.split()) for line in ended.output.splitlines() if line.strip()]
    if identified is not None and identified.has_failed:
        why += f", {child.objection}"  # the output says the same
    elif lines:
        why += f", output: {lines[-1][-300:]}"
    return _errors.sentence(f"The identity script failed in child {child.name}", why, _RETRY)


def identity_failure(child: Child, why: str) -> str:
    """Return the sentence about a child whose identity does not count as renewed.

    :param why: the reason, as a clause.
    """
    remedy = _RETRY
    if not child.own_identity.is_there and not child.goal.has_identity_script:
        remedy = "Quiesce the parent with identity_script, remove the child (state=absent) and create it again."
    elif why == identity_report.UNPROVED:
        remedy = "Power off the parent, quiesce it again, remove the child (state=absent) and create it again."
    return _errors.sentence(f"The identity of child {child.name} was not renewed", why, remedy)


def clashing(child: Child, why: str) -> Child:
    """Return a finished child as a failed one, since it shares with another what only one may have.

    :param why: what it shares and with whom, as a clause.
    """
    child = replace(child, clash=why, step=Step.FAILED)
    return _with_error(child, identity_failure(child, why))


def _settled(child: Child) -> Transition:
    """Judge the child after the settling time. A server may report that it connected an adapter without doing so."""
    if child.disconnected:
        why = "vCenter's task succeeded, but they are still disconnected"
        sentence = _errors.sentence(f"{Request.CONNECT.value} {child.name}", why, "Check the VM in vCenter.")
        return _fail(child, sentence + _left_disconnected(child))
    parent = child.goal.parent
    inherited = facts.parents_addresses(child.values, parent)
    stale = sorted(facts.stale_macs(child.values, parent))
    if inherited:
        return _fail(child, _keeps_address(child.name, inherited[0]))
    if facts.own_addresses(child.values, parent):
        return _finish(child)
    if stale:
        what = f"The guest of child {child.name} probably has no network"
        child = _with_warning(child, _errors.sentence(what, _stale(stale[0]), RELOAD + LATE))
    elif facts.shows_parents_report(child.values, parent):
        shown = ", ".join(dict.fromkeys(address for _mac, address in facts.guest_addresses(child.values)))
        child = _with_warning(
            child,
            f"It is not known whether child {child.name} has an address of its own: VMware Tools reported nothing new "
            f"since the fork, and vCenter still shows {shown}. Check the child, or increase address_timeout.",
        )
    return _finish(child)


RELOAD = "Reload the driver in the post-clone script (modprobe -r and modprobe, or unbind and bind)."
LATE = " If VMware Tools reports late in this guest, increase address_timeout."


def _stale(mac: str) -> str:
    return f"its network driver still uses the MAC address {mac} of the parent"


def _keeps_address(name: str, inherited: facts.Inherited) -> str:
    """Return the sentence about a child with an address of its parent, according to VMware Tools.

    The runner lets VMware Tools report the addresses between the end of the script and its own report.
    """
    what = f"Child {name} still has the address {inherited.address} of its parent after its post-clone script"
    if inherited.stale_mac is not None:
        return _errors.sentence(what, _stale(inherited.stale_mac), RELOAD + LATE)
    why = "VMware Tools reports it on the child's own network adapter"
    return _errors.sentence(what, why, "Remove it in the script." + LATE)


def _with_warning(child: Child, sentence: str) -> Child:
    return replace(child, warnings=(*dict.fromkeys((*child.warnings, sentence)),))


def _left_disconnected(child: Child) -> str:
    """Return which adapters a failure leaves disconnected, as a sentence."""
    left = networks.labels(child.disconnected)
    return f" Left disconnected: {left}." if left else ""


def _fail(child: Child, sentence: str, fault: str = "") -> Transition:
    if child.step is Step.NOTING and (not fault or fault in _tasks.BUSY):
        # The script has ended well, and the next run can write the note.
        return _end(_with_warning(child, sentence)), None
    if child.step in (Step.CLEARING, Step.NOTING):
        return replace(child, step=Step.FAILED, error=child.error or sentence), None
    return _finish(_with_error(child, sentence))


def _with_error(child: Child, sentence: str) -> Child:
    return replace(child, error=" ".join(dict.fromkeys(filter(None, (child.error, sentence)))))


def _finish(child: Child) -> Transition:
    """Clear the child's secrets whether it failed or not, and record its report for later."""
    if child.vm is not None and child.secret_keys:
        seen = child.shows_secrets
        handed_over = not child.existed or child.forgotten or child.step is Step.FORGETTING
        if seen or (handed_over and not child.has_reported_clearing):
            return replace(child, step=Step.CLEARING, secrets_seen=seen), Request.CLEAR
    if child.vm is not None and child.note:
        return replace(child, step=Step.NOTING), Request.NOTE
    return _end(child), None


def _end(child: Child) -> Child:
    cleared = bool(child.secret_keys) and (child.secrets_seen or child.has_reported_clearing)
    return replace(child, step=Step.FAILED if child.error else Step.DONE, secrets_cleared=cleared)


def interrupted(child: Child, signal: str) -> str:
    """Return why a child is not done after a signal, as a sentence."""
    what = f"Child {child.name} is not ready"
    return _errors.sentence(what, f"the module received {signal} before it was", "Run the task again to complete it.")


def unfinished(child: Child, seconds: float, begun: bool = True) -> str:
    """Return why a child is not ready at the timeout, as a sentence."""
    what = f"Child {child.name} is not ready after {_printable.count(seconds, 'second')}"
    if not begun:
        return _errors.sentence(what, "its creation was not started", "Increase timeout or concurrency.")
    if child.step not in (Step.RUNNING, Step.SETTLING):
        return _errors.sentence(what, f"vCenter has not finished {child.step.value}", "Check its tasks in vCenter.")
    stale = sorted(facts.stale_macs(child.values, child.goal.parent))
    if stale and child.goal.wait_for == "ip_address":
        return _errors.sentence(what, _stale(stale[0]), RELOAD)
    why, remedy = {
        "tools": ("VMware Tools is not running in its guest", "Check its console."),
        "ip_address": (
            "no address on its own network adapters was reported",
            "Check what sets the address in its guest (the post-clone script), and ip_network if it is set.",
        ),
        "post_clone": (
            "it has not reported the end of its post-clone script",
            "Check the script, or use another wait_for if the parent was not quiesced with vmfork_quiesce."
            if child.forks_again or not child.existed
            else "If it was powered off after it was created, it never will. Remove it and create it again, or use "
            "another wait_for.",
        ),
    }.get(child.goal.wait_for, ("it is not running", "Check its tasks in vCenter."))
    return _errors.sentence(what, why, remedy) + _left_disconnected(child)
