# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a parent to its fork point, with the scripts in its guest.

Private to the collection.
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _errors,
    _extra_config,
    _http,
    _power,
    _privileges,
    _properties,
    _tasks,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import guestinfo, output_mask
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent import payload
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent, forget_scripts
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest import families, operations, runner
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.family import Family
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.login import GuestLogin
from ansible_collections.vmfork.vsphere.plugins.module_utils._guest.operations import Guest
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

KEYS = runner.Keys(
    scripts=guestinfo.SCRIPTS,
    quiesced_at=guestinfo.QUIESCED_AT,
    quiesce=guestinfo.QUIESCE,
    post_clone=guestinfo.POST_CLONE,
    identity=guestinfo.IDENTITY,
    nonce=guestinfo.CHILD_NONCE,
    secret_keys=guestinfo.CHILD_SECRETS,
    secrets=guestinfo.SECRETS,
    payload=payload.KEY,
)
"""The guestinfo keys that the runner reads and writes."""

SLOW_LOOK = 5
"""Seconds without updates after which the guest's process list is checked for the runner."""

MOST_LOOKS = 3
"""How often the process list is checked after a lost answer until the runner counts as not started."""

END_SECONDS = 15
"""Time for a runner to end after it was asked to. It takes a second; VMware Tools kills a process after five."""

RECORD_SECONDS = 5
"""Time for vCenter to show the record of the scripts after it has shown that the VM is at its fork point."""

TIDY_SECONDS = 10
"""Time to remove our directory after a failure; short, because the guest may not answer."""


JUST_ANNOUNCED = datetime.timedelta(minutes=10)
"""Maximum difference between vCenter's time and the guest's time in a record of scripts, if the record belongs to a
runner that is about to reach the fork point."""


WAITING = "waiting for the fork point"
"""Progress of a task."""


@dataclass(frozen=True)
class Plan:
    """The options of a quiesce.

    :param job: the runner's job; ``None``: wait for a guest that quiesces itself.
    :param delivery: ``auto``, ``file_transfer`` or ``guestinfo``.
    :param directory: parent of the runner's directory in the guest; ``None``: the directory for temporary files.
    """

    job: runner.Job | None
    login: GuestLogin | None = None
    delivery: str = "auto"
    directory: str | None = None


GuestResult = dict[str, t.Any]
"""The ``guest`` return value."""


def no_result() -> GuestResult:
    """Return the initial ``guest`` return value."""
    return {"directory": None, "pid": None, "exit_code": None, "output": None}


def is_done(parent: Parent, job: runner.Job | None, warn: t.Callable[[str], None]) -> bool:
    """Return whether the parent is already at the fork point with these scripts.

    :raises _errors.Refused: it was quiesced with other scripts.
    """
    if not parent.is_quiesced:
        return False
    recorded = guestinfo.scripts(_extra_config.mapping(parent.values))
    if job is None:
        return True
    if recorded == job.digest():
        _compare_identity(parent, job.identity, warn)
        return True
    if recorded is not None:
        again = "" if parent.engine.registry is None else ", make it a fork parent again"
        raise _errors.Refused(
            f"VM {parent.name} is already at the fork point, but with different scripts, which its children would "
            f"run. Power it off (vmfork_parent with state=disabled and power_off=true), power it on{again}, and "
            "quiesce it again.",
            parent=parent.facts(),
        )
    warn(f"VM {parent.name} is already at the fork point. It is not known which scripts it was quiesced with.")
    return True


def has_identity_script(parent: Parent) -> bool:
    """Return whether the parent is at its fork point with an identity script, according to its record."""
    return parent.is_quiesced and guestinfo.identity_script(_extra_config.mapping(parent.values)) is not None


def _compare_identity(parent: Parent, identity: runner.Identity | None, warn: t.Callable[[str], None]) -> None:
    """Warn if the parent was quiesced with another identity script than the task has."""
    recorded = guestinfo.identity_script(_extra_config.mapping(parent.values))
    if recorded is None or (identity is not None and recorded == identity.digest()):
        return
    what = "another version of the identity script, or with other identity_items or another identity_network"
    if identity is None:
        what = "an identity script, which this task does not have"
    warn(f"VM {parent.name} was quiesced with {what}. Its children use what it was quiesced with.")


def obstacle(parent: Parent) -> str | None:
    """Return why the parent cannot be quiesced in its current state, as a sentence."""
    if not parent.is_on:
        return f"VM {parent.name} is powered off, and only a running VM can be quiesced. Power it on."
    if not parent.is_enabled:
        return f"VM {parent.name} is not a fork parent. Make it one with vmfork_parent."
    return None


def check_guest(parent: Parent, plan: Plan) -> None:
    """Refuse a plan that a guest of this family cannot carry out.

    :raises _errors.BadInput: it cannot.
    """
    refusal = plan.job and _family(parent, plan.job).language.refusal(plan.job)
    if plan.delivery == "guestinfo" and not refusal:
        refusal = _no_guestinfo(parent)
    if refusal:
        raise _errors.BadInput(f"Could not quiesce VM {parent.name}: {refusal}")


def _no_guestinfo(parent: Parent) -> str | None:
    """Return why scripts cannot be passed through guestinfo: the guest could not clear them for its children."""
    key = guestinfo.obstacle(_extra_config.mapping(parent.values))
    if key is None:
        return None
    return f"its guest may not write to guestinfo ({key}). Use script_delivery=file_transfer, or remove that setting."


def warn_of_no_report(parent: Parent, plan: Plan, warn: t.Callable[[str], None]) -> None:
    """Warn about what children of this VM will not be able to report."""
    key = guestinfo.obstacle(_extra_config.mapping(parent.values))
    if plan.job is not None and key is not None:
        warn(
            f"The guest of VM {parent.name} may not write to guestinfo ({key}). Its children cannot report the end of "
            "their post-clone script: use another wait_for with vmfork_child. They cannot clear secrets, either, and "
            "the VM does not record the scripts it was quiesced with."
        )


def _family(parent: Parent, job: runner.Job) -> Family:
    return families.of(parent.values, job.tools_path)


def check_privileges(parent: Parent, plan: Plan) -> None:
    """Refuse what the server would refuse because of missing privileges; for check mode.

    :raises _errors.OperationFailed: the user lacks a privilege.
    """
    if plan.job is None:
        return
    methods = (
        ("ValidateCredentialsInGuest", "ReconfigVM_Task extraConfig", "StartProgramInGuest")
        if plan.delivery == "guestinfo"
        else ("CreateTemporaryDirectoryInGuest", "InitiateFileTransferToGuest", "StartProgramInGuest")
    )
    what = f"Could not quiesce VM {parent.name}"
    _privileges.check(parent.session, [_privileges.Step(what, method, vm=(parent.vm,)) for method in methods])


def quiesce(parent: Parent, deadline: Deadline, plan: Plan, warn: t.Callable[[str], None]) -> GuestResult:
    """Quiesce the parent, and return the ``guest`` return value.

    :raises _errors.GuestFailed: the runner ended before the fork point.
    :raises _errors.TimedOut: the fork point was not reached.
    """
    result = no_result()
    nonce = guestinfo.new_nonce()
    generation = _generation(parent)
    if guestinfo.obstacle(_extra_config.mapping(parent.values)) is not None:
        forget_scripts(parent, warn)
    elif plan.job is None:  # otherwise the runner does this, once no other runner is about to freeze the VM
        _forget_earlier_scripts(parent, warn)
    payload.Payload(parent).clear_earlier(warn)
    try:
        if plan.job is None or plan.delivery != "guestinfo":  # otherwise it is written together with the scripts
            _mark_generation(parent, deadline, warn)
        if plan.job is None:
            parent.session.progress.show(WAITING)
            _await_fork_point(parent, deadline, result, None, None)
        else:
            _run(parent, deadline, plan, nonce, result, warn)
    except _Busy as busy:
        warn(f"{busy.sentence} Waiting for it to end.")
        result = no_result()
        _await_other(parent, deadline, plan, result, warn)
    except BaseException as trouble:  # a signal may have ended the task
        error = _errors.explained(f"Could not quiesce VM {parent.name}", trouble)
        with contextlib.suppress(_errors.Error), parent.session.clean_up():
            parent.refresh()
            if guestinfo.is_recorded_by(_extra_config.mapping(parent.values), nonce):
                forget_scripts(parent, warn)
        if isinstance(error, _errors.Error) and _has_these_scripts(parent, plan):
            warn(f"Another run brought VM {parent.name} to its fork point with the same scripts. {error.sentence}")
            return no_result()
        details = getattr(error, "details", {})
        details.setdefault("guest", result)
        details.setdefault("parent", parent.facts())
        details.setdefault("changed", parent.is_quiesced or _generation(parent) != generation)
        if error is trouble:
            raise
        raise error from trouble
    _refresh(parent)
    _check_record(parent, plan, result, warn)
    return result


def _generation(parent: Parent) -> str | None:
    return _extra_config.mapping(parent.values).get(guestinfo.GENERATION)


def _next_generation(parent: Parent) -> dict[str, str]:
    """Return the extraConfig keys of a new generation; none on servers without pools, which need Instant Clone."""
    return {} if parent.engine.registry is not None else {guestinfo.GENERATION: guestinfo.new_nonce()}


def _mark_generation(parent: Parent, deadline: Deadline, warn: t.Callable[[str], None]) -> None:
    """Write the random mark of the next fork point, by which pools find children of an earlier one.

    It is written before the freeze, because a later reconfigure would leave children without it in between. Without the
    privilege the VM can still be quiesced, since only pools read the mark.
    """
    mark = _next_generation(parent)
    if not mark:
        return
    what = f"Could not write {guestinfo.GENERATION} to the extraConfig of VM {parent.name}"
    spec = _extra_config.spec(mark)
    try:
        _tasks.run_idempotent(parent.session, deadline, what, parent.vm.ReconfigVM_Task, spec)
    except _errors.OperationFailed as error:
        if error.fault != "NoPermission":
            raise
        warn(f"{error.sentence} Without it, its children cannot be told from those of an earlier fork point.")
    except BaseException:  # a signal, for example: vCenter may still write it, and the caller returns whether it did
        with contextlib.suppress(_errors.Error), parent.session.clean_up() as rest:
            _tasks.await_recent(parent.session, rest, [parent.vm])
        raise


def _forget_earlier_scripts(parent: Parent, warn: t.Callable[[str], None]) -> None:
    """Remove the record of the scripts, unless another task's runner seems to have just written it."""
    if not guestinfo.scripts(_extra_config.mapping(parent.values)):
        return
    parent.refresh()
    extra_config = _extra_config.mapping(parent.values)
    announced = guestinfo.announced_at(extra_config)
    if guestinfo.scripts(extra_config) and announced is not None:
        now = parent.session.current_time()
        booted = _properties.read(parent.session, [parent.vm], ["runtime.bootTime"])[parent.vm].get("runtime.bootTime")
        if abs(now - announced) <= JUST_ANNOUNCED and (booted is None or booted <= announced):
            warn(
                f"Another task may be quiescing VM {parent.name}: it recorded its scripts there at "
                f"{guestinfo.quiesced_at(extra_config)}. The fork point is assumed to be the one with these scripts."
            )
            return
    forget_scripts(parent, warn)


def _refresh(parent: Parent) -> None:
    """Read the parent again after it reached its fork point, even if the timeout has passed."""
    with parent.session.clean_up():
        parent.refresh()


def _check_record(parent: Parent, plan: Plan, result: GuestResult, warn: t.Callable[[str], None]) -> None:
    """Check that the VM was frozen with the scripts of this task, because another run may have frozen it.

    :raises _errors.Refused: it has other scripts.
    """
    if plan.job is None or guestinfo.obstacle(_extra_config.mapping(parent.values)) is not None:
        return
    if not _has_these_scripts(parent, plan):
        digest = plan.job.digest()

        def is_there(_vm: t.Any, values: _properties.Values | None) -> bool | None:
            return True if guestinfo.scripts(_extra_config.mapping(values or {})) == digest else None

        watching = _properties.Watch(parent.session, {vim.VirtualMachine: (_extra_config.PATH,)})
        with parent.session.clean_up(RECORD_SECONDS) as rest, watching as watch:
            watch.add([parent.vm])
            _properties.wait_for(watch, rest.remaining, is_there)
        _refresh(parent)
        try:
            is_done(parent, plan.job, warn)
        except _errors.Refused as error:
            error.details.setdefault("guest", result)
            raise


def _await_other(
    parent: Parent, deadline: Deadline, plan: Plan, result: GuestResult, warn: t.Callable[[str], None]
) -> None:
    """Wait until another run has brought the parent to its fork point.

    :raises _errors.Refused: that run has other scripts.
    """
    try:
        parent.session.progress.show(WAITING)
        _await_fork_point(parent, deadline, result, None, None)
    except _errors.Error as error:
        error.details.setdefault("guest", result)
        error.details.setdefault("parent", parent.facts())
        raise
    _refresh(parent)
    is_done(parent, plan.job, warn)


def _has_these_scripts(parent: Parent, plan: Plan) -> bool:
    """Return whether the parent is at its fork point with the scripts of this task."""
    recorded = guestinfo.scripts(_extra_config.mapping(parent.values))
    return parent.is_quiesced and plan.job is not None and recorded == plan.job.digest()


def _run(
    parent: Parent, deadline: Deadline, plan: Plan, nonce: str, result: GuestResult, warn: t.Callable[[str], None]
) -> None:
    progress = parent.session.progress
    if not parent.values.get("guest.guestOperationsReady"):
        progress.show("waiting for VMware Tools")
        _guest(parent, deadline, plan).await_ready()
        parent.refresh()
    check_guest(parent, plan)  # the guest's family may have been unknown before
    guest = _guest(parent, deadline, plan)
    job = t.cast(runner.Job, plan.job)
    family = _family(parent, job)
    language = family.language
    files = language.files(job, family, nonce, parent.engine.freeze_command, KEYS)
    in_guestinfo = payload.Payload(parent)
    started = False
    progress.show("copying the scripts to the guest")
    try:
        program = None
        if plan.delivery != "guestinfo":
            try:
                program = _upload(parent, guest, plan, files, result, warn)
            except _errors.OperationFailed:
                if _is_displaced(guest, result):
                    raise _early_end(parent, family, guestinfo.Report("busy", runner.STAGES["busy"], "")) from None
                raise
        if program is None:
            refusal = _no_guestinfo(parent)
            if refusal:
                raise _errors.BadInput(f"Could not quiesce VM {parent.name}: {refusal}")
            guest.check_login()
            directory = family.join(plan.directory or family.temporary, f"vmfork.{guestinfo.new_nonce()}")
            package = runner.Package(language.pack(files), directory)
            mark = _next_generation(parent) if plan.delivery == "guestinfo" else {}
            in_guestinfo.hand_over(deadline, package.chunks, mark)
            result["directory"] = directory
            program = language.unpack(package, job, family, nonce, KEYS)
        started = True  # unless the guest reports that it was not started; it is never started twice
        try:
            result["pid"] = guest.start(*program)
        except _errors.Error as trouble:
            started = isinstance(trouble, _errors.ConnectionLost)
            if not started:
                raise
        try:
            parent.session.progress.show(WAITING)
            _await_fork_point(parent, deadline, result, nonce, guest)
        except _NotUnpacked:
            if _is_displaced(guest, result):
                raise _early_end(parent, family, guestinfo.Report("busy", runner.STAGES["busy"], "")) from None
            raise
    except BaseException as trouble:  # a signal may have ended the task
        outcome = _RunnerOutcome.TIDIED if isinstance(trouble, _RunnerEnded) else _RunnerOutcome.ENDED
        if started and (isinstance(trouble, _Unreadable) or not isinstance(trouble, _errors.GuestFailed)):
            outcome = _end_runner(parent, guest, result, None if isinstance(trouble, _Unreadable) else nonce)
        if outcome is _RunnerOutcome.FROZEN and isinstance(trouble, _errors.Error):
            return  # it reached the fork point at the last moment
        remark = ""
        # A runner that continues must still find its stop request, and its children must find their script.
        if result["directory"] is not None and outcome not in (_RunnerOutcome.UNKNOWN, _RunnerOutcome.FROZEN):
            left = _tidy(parent, plan, result["directory"])
            remark = left if outcome is _RunnerOutcome.ENDED else ""
        if outcome is _RunnerOutcome.UNKNOWN:
            which = f"process {result['pid']}" if result["pid"] is not None else f"started from {result['directory']}"
            remark = (
                f" The runner in the guest ({which}) could not be ended and may bring the VM to the fork point later. "
                "End it in the guest, or power off the VM."
            )
        error = _errors.explained(f"Could not quiesce VM {parent.name}", trouble)
        if outcome is _RunnerOutcome.UNKNOWN and isinstance(error, (_errors.Error, _errors.Interrupted)):
            error.details["changed"] = True  # the VM may be frozen later
        if remark and isinstance(error, _errors.Error):
            raise _errors.GuestFailed(error.sentence + remark, **error.details) from trouble
        if remark:
            warn(f"VM {parent.name} was not quiesced.{remark}")
        raise
    finally:
        in_guestinfo.clear(warn)


def _guest(parent: Parent, deadline: Deadline, plan: Plan) -> Guest:
    family = _family(parent, t.cast(runner.Job, plan.job))
    frozen = operations.Frozen(tuple(parent.engine.paths), parent.engine.is_quiesced)
    login = t.cast(GuestLogin, plan.login)
    return Guest(parent.session, deadline, parent.vm, parent.name, login, family, frozen=frozen)


def _is_displaced(guest: Guest, result: GuestResult) -> bool:
    """Return whether a runner of another task is running, which removes the files of this task."""
    if result["directory"] is None:
        return False
    try:
        return guest.has_other_runner(result["directory"])
    except _errors.Error:
        return False  # the VM may be frozen by now, which is checked next


def _tidy(parent: Parent, plan: Plan, directory: str) -> str:
    """Remove a directory from the guest if that is possible quickly; otherwise, return a remark about it."""
    try:
        with parent.session.clean_up(TIDY_SECONDS) as deadline:
            _guest(parent, deadline, plan).remove_directory(directory)
    except _errors.Error as trouble:
        if getattr(trouble, "fault", "") != "FileNotFound":
            return f" The directory {directory} may remain in the guest, with the scripts in it. Remove it."
    return ""


def _upload(
    parent: Parent,
    guest: Guest,
    plan: Plan,
    files: t.Mapping[str, bytes],
    result: GuestResult,
    warn: t.Callable[[str], None],
) -> runner.Program | None:
    """Upload the files, and return the program to start; ``None``: the host is not reachable, and the scripts can be
    passed through guestinfo.
    """
    directory = guest.make_directory(plan.directory)
    result["directory"] = directory
    try:
        if plan.directory is not None:
            _privatize(parent, guest, directory)
        for name, content in files.items():
            guest.upload(directory, name, content)
    except (_http.Unreachable, operations.HostHidden) as error:
        if plan.delivery != "auto":
            raise
        remark = _tidy(parent, plan, directory)
        result["directory"] = None
        warn(f"Scripts go through vCenter instead of the ESXi host. {error.sentence}{remark}")
        return None
    return guest.family.language.start(guest.family, directory)


def _privatize(parent: Parent, guest: Guest, directory: str) -> None:
    """Protect a directory that the user chose from other users of the guest."""
    program = guest.family.language.privatize(directory)
    if program is not None and guest.await_exit(guest.start(*program)) != 0:
        raise _errors.GuestFailed(
            _errors.sentence(
                f"Could not quiesce VM {parent.name}",
                f"the directory {directory} in its guest cannot be protected from other users",
                "Use another guest_directory, or remove it.",
            )
        )


class _RunnerEnded(_errors.GuestFailed):
    """The runner ended before the fork point, and removed its directory."""


class _Busy(_RunnerEnded):
    """The runner ended because another one is running in the guest."""


class _NotUnpacked(_RunnerEnded):
    """The runner did not find its files in guestinfo."""


class _Unreadable(_errors.GuestFailed):
    """The report in guestinfo is not valid, so the state of the runner is not known."""


class _RunnerOutcome(enum.Enum):
    """The state of the runner."""

    TIDIED = "ended, and removed its directory"
    ENDED = "ended"
    FROZEN = "frozen"
    UNKNOWN = "unknown"


def _end_runner(parent: Parent, guest: Guest, result: GuestResult, nonce: str | None) -> _RunnerOutcome:
    """Keep a runner that may be running from reaching the fork point after this task has ended.

    :param nonce: nonce of its report; ``None``: only the guest's process list counts.
    """
    with parent.session.clean_up(END_SECONDS) as deadline:
        try:
            if result["pid"] is None:
                result["pid"] = guest.find(result["directory"])
                if result["pid"] is None:
                    return _RunnerOutcome.ENDED  # it was not started, and would no longer find its files
            parent.session.progress.show("stopping the runner in the guest")
            guest.ask_to_stop(result["directory"], result["pid"])
            _await_fork_point(parent, deadline, result, nonce, guest)
        except _RunnerEnded:
            return _RunnerOutcome.TIDIED
        except _errors.GuestFailed:
            return _RunnerOutcome.ENDED
        except _errors.Error:
            # A frozen VM does not answer either.
            with contextlib.suppress(_errors.Error):
                parent.refresh()
            return _RunnerOutcome.FROZEN if parent.is_quiesced else _RunnerOutcome.UNKNOWN
        return _RunnerOutcome.FROZEN


def _await_fork_point(
    parent: Parent, deadline: Deadline, result: GuestResult, nonce: str | None, guest: Guest | None
) -> None:
    """Wait for the fork point and, at the same time, for the runner's end before it."""
    what = f"Could not quiesce VM {parent.name}"
    known: dict[str, t.Any] = {}
    looks = 0
    paths = (*parent.engine.paths, _extra_config.PATH, "runtime.powerState")
    with _properties.Watch(parent.session, {vim.VirtualMachine: paths}) as watch:
        watch.add([parent.vm])
        while not deadline.passed:
            news = watch.updates(min(SLOW_LOOK, deadline.remaining) if guest else deadline.remaining)
            for _vm, values in news:
                known.update(values or {"runtime.powerState": "gone"})
            if not known:
                continue
            if parent.engine.is_quiesced(known):
                return
            ended = guestinfo.early_end(_extra_config.mapping(known), nonce) if nonce else None
            if guest is not None and ended is not None:
                # Ansible masks only whole passwords, and the output is cut before Ansible masks it.
                ended = ended._replace(output=output_mask.mask(ended.output, guest.passwords))
                result.update(exit_code=ended.exit_code, output=ended.output)
                raise _early_end(parent, guest.family, ended)
            if not _power.is_on(known):
                raise _errors.GuestFailed(
                    _errors.sentence(what, "it was powered off before it reached the fork point", "Power it on.")
                )
            if guest is not None and not news and _is_not_started(parent, guest, result):
                looks += 1
                if looks == MOST_LOOKS:
                    why = "the answer to the start of the runner in its guest was lost, and it was not started"
                    raise _errors.GuestFailed(_errors.sentence(what, why, "Run the task again."))
    why = "it did not reach the fork point"
    remedy = "Check what the pre-quiesce script waits for, or increase timeout."
    if guest is None:
        remedy = f"Check in the guest what calls {parent.engine.freeze_command}, or increase timeout."
    elif result["pid"] is None:
        why = "the answer to the start of the runner in its guest was lost, and the VM did not reach the fork point"
        remedy = "Check the network connection to vCenter, then run again."
    deadline.check(what, why, remedy)


def _is_not_started(parent: Parent, guest: Guest, result: GuestResult) -> bool:
    """Return whether the guest has no such process. This slow check finds a runner that ended without a report.

    :raises _errors.GuestFailed: the runner ended.
    """
    if result["pid"] is None:
        with contextlib.suppress(*operations.NOT_REPORTED):
            result["pid"] = guest.find(result["directory"])  # only this task knows the directory's name
            return result["pid"] is None and guest.reports_commands()
        return False
    code = guest.exit_code(result["pid"])
    if code is None:
        return False
    stage = {own: name for name, own in runner.STAGES.items()}.get(code, "killed")
    result.update(exit_code=code, output="")
    raise _early_end(parent, guest.family, guestinfo.Report(stage, code, ""))


_WHY = {
    "unpack": ("the guest could not read the scripts from guestinfo", "Use script_delivery=file_transfer."),
    "tools": ("neither {tools} is in the guest", "Install VMware Tools in the guest, or set tools_path."),
    "not_root": ("the guest user is not {superuser}", "{login}"),
    "become": ("the guest user may not use sudo without a password", "Add a NOPASSWD rule, or log in as root."),
    "prepare": ("the identity script failed before the fork point", "Correct what it reports, then run again."),
    "pre_quiesce": ("the pre-quiesce script failed", "Correct it, then run again."),
    "freeze": ("the guest was not allowed to enter the fork point", "Check that {current}."),
    "script": ("the script ended without reaching the fork point", "It must call {command} and then continue."),
    "terminated": ("the runner in the guest was killed from outside", "Run again."),
    "busy": ("another task is quiescing it", "Wait until that task has ended, then run again."),
    guestinfo.UNREADABLE: (
        f"the guest wrote an unreadable report to {guestinfo.QUIESCE}",
        "Check what writes to it in the guest besides the runner of this collection.",
    ),
    "killed": (
        "the runner in the guest ended without a report",
        "Check the guest's log for what ended it, and with SELinux what was denied (ausearch -m avc).",
    ),
}


def _early_end(parent: Parent, family: Family, ended: guestinfo.Report) -> _errors.GuestFailed:
    words = {
        "command": parent.engine.freeze_command,
        "tools": " nor ".join(family.tool_names),
        "superuser": family.superuser,
        "login": family.login_advice,
        "current": "VMware Tools is current"
        + ("" if parent.engine.registry is None else " and the VM is a fork parent"),
    }
    why, remedy = (text.format_map(words) for text in _WHY.get(ended.stage, _WHY["killed"]))
    what = f"Could not quiesce VM {parent.name}"
    if ended.exit_code is None:
        return _Unreadable(_errors.sentence(what, why, remedy))
    output = " ".join(ended.output.split())
    detail = f"exit code {ended.exit_code}" + (f", output: {output[-300:]}" if output else "")
    kind = {"killed": _errors.GuestFailed, "busy": _Busy, "unpack": _NotUnpacked}.get(ended.stage, _RunnerEnded)
    return kind(_errors.sentence(what, f"{why} ({detail})", remedy))
