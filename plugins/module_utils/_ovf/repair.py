# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Repair a VM's OVF environment: power-cycle it through vCenter, and verify the result.

Private to the collection.
"""

from __future__ import annotations

import contextlib
import socket
import typing as t
from dataclasses import dataclass

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _errors,
    _inventory,
    _power,
    _printable,
    _privileges,
    _properties,
    _tasks,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import (
    configured,
    diagnosis,
    examine,
    ip_pools,
    masking,
    plan,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import API_6_7, Session, UnknownType
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

TRIES = 2
"""Number of power cycles. Before the second power-on, the vApp options are rewritten (vic-product, ts_ovf_error)."""


@dataclass(frozen=True)
class Options:
    """The options of a repair.

    :param shutdown: ``guest`` or ``hard``.
    :param accepted: names of the accepted risks.
    """

    questions: examine.Questions
    shutdown: str = "guest"
    accepted: t.Collection[str] = ()


class RepairTarget:
    """A VM before and after its repair."""

    def __init__(
        self, session: Session, deadline: Deadline, vm: t.Any, options: Options, warn: t.Callable[[str], None]
    ) -> None:
        self._session = session
        self._deadline = deadline
        self._vm = vm
        self._options = options
        self._warn = lambda sentence: warn(self._shown(sentence))
        self.before = self._examine(deadline)
        self.after = self.before
        self.plan = plan.Plan()
        self.is_touched = False
        self._tools_late = ""
        self._vcenter: set[str] = set()

    @property
    def is_delivered(self) -> bool:
        """Return whether the last verdict says that the OVF environment reaches the guest, or that there is none.

        If the guest was to be probed and refused the login, nothing is confirmed.
        """
        is_unseen = (
            self.after.diagnosis.status == "delivered_assumed" and self.after.evidence.guest.state != "not_asked"
        )
        return diagnosis.lacks_nothing(self.after.diagnosis) and not is_unseen

    @property
    def name(self) -> str:
        """The VM's name."""
        return self.before.found.name

    def prepare(self) -> None:
        """Plan the power cycle, and check its risks.

        :raises _errors.Refused: the VM must not be touched, or a risk is not accepted.
        """
        if self.is_delivered:
            return
        with self._masked():
            self._prepare()

    def _prepare(self) -> None:
        self._vcenter = self._names_of_vcenter()
        self._judge()

    def _judge(self) -> None:
        """Plan the power cycle for the VM as it is now; see :meth:`prepare`."""
        case = self._case()
        self.plan = plan.make(case)
        self._ask_server(case.values)
        standing = [risk for risk in self.plan.risks if risk.name not in self._options.accepted]
        if standing:
            why = " ".join(risk.message for risk in standing)
            names = ",".join(risk.name for risk in standing)
            raise _errors.Refused(f"VM {self.name} is left unchanged. {why} To accept this, set accept_risks={names}.")

    def repair(self) -> None:
        """Power-cycle the VM as planned.

        :raises _errors.OperationFailed: the VM could not be powered off or on.
        :raises _errors.VerdictFailed: it was power-cycled, and its OVF environment still does not reach the guest.
        """
        with self._masked():
            self._cycle_until_delivered()

    def _cycle_until_delivered(self) -> None:
        for attempt in range(TRIES):
            if attempt:
                if not self._may_rewrite():
                    break
                self._warn(
                    f"A power cycle did not bring the OVF environment of VM {self.name} back "
                    f"({self.after.diagnosis.status}). It is power-cycled again, and its vApp options are rewritten "
                    "in between."
                )
            self._cycle_when_idle(is_first=attempt == 0)
            if self.is_delivered:
                return
            # A document that arrived with wrong content will be the same after the next power cycle.
            if self.after.evidence.guest.state != "no_value" or self.after.diagnosis.remedy != diagnosis.POWER_CYCLE:
                break
        raise _errors.VerdictFailed(
            f"VM {self.name} was powered on through vCenter, and the verdict is now "
            f"{self.after.diagnosis.status}: {self.after.diagnosis.message} {self._tools_late}".rstrip()
        )

    @contextlib.contextmanager
    def _masked(self) -> t.Iterator[None]:
        """Mask the values of secret properties in errors: vCenter includes a refused value in its message."""
        try:
            yield
        except _errors.Error as error:
            error.sentence = self._shown(error.sentence)
            error.args = (error.sentence,)
            raise

    def _shown(self, sentence: str) -> str:
        known, mask = [look.evidence.configured for look in (self.before, self.after)], self._options.questions.mask
        hidden = [value for vapp_options in known for value in configured.hidden_values(vapp_options, mask)]
        return masking.without(sentence, hidden)

    # --- before -----------------------------------------------------------------------------------------------------

    def _examine(self, deadline: Deadline) -> examine.Examined:
        selection = _inventory.Selection(moid=[self._vm._GetMoId()])
        return examine.examine(self._session, deadline, selection, self._options.questions)[0]

    def _case(self, examined: examine.Examined | None = None) -> plan.Case:
        """Return the VM as it is now.

        :param examined: the VM as it was examined; by default, the last time.
        :raises _errors.Refused: it must not be touched.
        """
        paths = (
            *plan.PATHS,
            *self._options.questions.fork_paths,
            *(plan.PATHS_6_7 if self._session.api_version >= API_6_7 else ()),
        )
        values = self._read([self._vm], paths).get(self._vm, {})
        case = plan.Case(
            examined=examined or self.after,
            values=values,
            is_fork=self._options.questions.forked_from(values) is not None,
            shutdown=self._options.shutdown,
            vcenter=self._vcenter,
            pools=ip_pools.read(self._session, self.before.found.datacenter),
        )
        why = plan.refusal(case)
        if why is not None:
            raise _errors.Refused(why)
        return case

    def _read(self, objects: t.Iterable[t.Any], paths: t.Sequence[str]) -> dict[t.Any, _properties.Values]:
        try:
            return _properties.read(self._session, objects, paths)
        except _errors.Fault as fault:
            raise _errors.failure(f"Could not read what may prevent powering on VM {self.name} again", fault) from fault

    def _names_of_vcenter(self) -> set[str]:
        """Return every name and address of this vCenter: the one we connected to, and those in its settings."""
        found = _addresses_of(self._session.server.hostname)
        with contextlib.suppress(_errors.Fault):
            settings = self._session.ask(self._session.content.setting.QueryOptions, "VirtualCenter.")
            found.update(
                str(setting.value) for setting in settings or [] if setting.key in _NAMES_OF_VCENTER and setting.value
            )
        return found

    def _ask_server(self, values: t.Mapping[str, t.Any]) -> None:
        """Ask the server what prevents a power-on.

        :raises _errors.Refused: a power-on would fail.
        """
        what = f"VM {self.name} is left unchanged, because vCenter could not power it on again"
        ways = ["PowerOnVM_Task", *(["PowerOffVM_Task"] if _power.is_on(values) else [])]
        left = f"VM {self.name} is left unchanged"
        _privileges.check(self._session, [_privileges.Step(left, way, vm=(self._vm,)) for way in ways])
        host = values.get("runtime.host")
        if host is not None:
            # The VM's connection state already shows whether the host is connected.
            state = self._read([host], ["runtime.inMaintenanceMode", "recentTask"]).get(host, {})
            tasks = self._read(state.get("recentTask") or [], ["info.descriptionId", "info.state"])
            if (closed := plan.maintenance(state, tasks.values())) is not None:
                raise _errors.Refused(_errors.sentence(what, closed, "End that, or move the VM to another host."))
        stores = self._read(values.get("datastore") or [], ["name", "summary.accessible"])
        for store in stores.values():
            if not store.get("summary.accessible", True):
                why = f"its datastore {_inventory.unescape(store.get('name', '?'))} cannot be reached"
                raise _errors.Refused(_errors.sentence(what, why, "Check the datastore in the vSphere Client."))
        checker = getattr(self._session.content, "vmCompatibilityChecker", None)
        if checker is None or self._session.api_version < API_6_7:
            return
        try:
            results = _tasks.run(self._session, self._deadline, what, checker.CheckPowerOn_Task, self._vm, host)
        except _errors.OperationFailed as error:
            why = error.fault or error.sentence.rstrip(".")
            self._warn(f"vCenter could not be asked whether VM {self.name} can be powered on ({why}).")
            return
        except _errors.Fault as fault:
            raise _errors.failure(f"Could not ask whether VM {self.name} can be powered on", fault) from fault
        errors = plan.check_errors(results, _power.is_on(values))
        if errors:
            raise _errors.Refused(_errors.sentence(what, "; ".join(_errors.fault_text(error) for error in errors)))

    # --- the power cycle --------------------------------------------------------------------------------------------

    def _cycle_when_idle(self, is_first: bool) -> None:
        """Power-cycle the VM and examine it again, as soon as no other task is running on it.

        While waiting, nothing has been done to the VM, so a signal or the timeout may end the wait.

        :raises _errors.Refused: the VM has changed in the meantime and must not be touched.
        """
        attempt = 0
        while True:
            self._cycle_has_begun = False
            try:
                with self._session.clean_up():  # neither the timeout nor a signal may leave the VM powered off
                    self._power_cycle(rewrite=not is_first)
                    self._look_again()
                return
            except _errors.OperationFailed as error:
                if self._cycle_has_begun or not _tasks.is_busy(error):
                    raise
                _tasks.stand_by(self._session, self._deadline, [error], attempt)
                if self._deadline.passed:
                    raise
                self._look_for_others_work()
                if self.is_delivered:
                    return
                if is_first:
                    self._judge()
                if _power.is_on(self.after.found.values) and self._lacks_time_to_stop:
                    raise
                attempt += 1

    def _look_for_others_work(self) -> None:
        """Examine the VM again: another task may have repaired or changed its OVF environment.

        :raises _errors.Refused: the VM must not be touched.
        """
        earlier, self.after = self.after, self._examine(self._at_least(LOOK_SECONDS))
        if not self.is_delivered:
            self._case(earlier)

    def _power_cycle(self, rewrite: bool) -> None:
        was_on = self._case().is_on  # minutes may have passed since the first check
        if was_on:
            self._stop()
        if rewrite:
            self._rewrite()
        try:
            judge = _power.anyway if was_on else None
            _power.on(self._session, self._at_least(POWER_ON_SECONDS), self._vm, self.name, judge)
        except Exception as trouble:  # whatever the error is, it must report that the VM is off
            now = self._now(trouble, hoped="poweredOn")
            if not _power.is_on(now):
                if not _is_refusal(trouble):
                    self._touch()
                if was_on:
                    raise self._left_off(trouble, now) from trouble
                raise _error(f"Could not power on VM {self.name}", trouble) from trouble
            if not was_on and _is_others_work(trouble):  # somebody else has powered it on
                self._look_for_others_work()
                return
        self._touch()

    def _stop(self) -> None:
        if self._lacks_time_to_stop:
            raise _errors.TimedOut(
                f"VM {self.name} is left unchanged ({self.after.diagnosis.status}): {self._deadline.remaining:.0f} of "
                f"{self._deadline.duration} are left, which is too short for a shutdown. Increase timeout."
            )
        try:
            if self._options.shutdown == "hard":
                _power.off(self._session, self._deadline, self._vm, self.name, None)
            else:
                _power.shut_down(self._session, self._deadline, self._vm, self.name)
        except Exception as trouble:
            now = self._now(trouble, hoped="poweredOff")
            is_on = _power.is_on(now)
            if now and not is_on and _is_others_work(trouble):  # somebody else has powered it off
                self._case()
            if is_on and _is_refusal(trouble):
                raise _error(f"Could not power off VM {self.name}", trouble) from trouble
            self._touch()
            if is_on or not now:
                state = (
                    "was asked to shut down and is still running" if is_on else "WAS ASKED TO SHUT DOWN and may be off"
                )
                raise _errors.TimedOut(
                    f"VM {self.name} {state}. {_why(trouble, now)} If it shuts down later, IT STAYS OFF until "
                    "somebody powers it on. Check it, then run vm_ovfenv for it again, which powers it on."
                ) from trouble
        self._touch()

    @property
    def _lacks_time_to_stop(self) -> bool:
        """Return whether too little time is left for a shutdown."""
        return self._deadline.remaining < min(SHUTDOWN_SECONDS, self._deadline.seconds / 2)

    def _touch(self) -> None:
        """Record that the VM was changed."""
        self.is_touched = self._cycle_has_begun = True

    def _may_rewrite(self) -> bool:
        """Return whether the vApp options may be rewritten; otherwise a second power cycle would be like the first."""
        step = _privileges.Step(f"VM {self.name} is not cycled again", "ReconfigVM_Task vAppConfig", vm=(self._vm,))
        try:
            _privileges.check(self._session, [step])
        except _errors.OperationFailed as lacking:
            self._warn(lacking.sentence)
            return False
        return True

    def _rewrite(self) -> None:
        """Write the vApp options as they are: only the transports, because that cannot damage any value."""
        what = f"Could not rewrite the vApp options of VM {self.name}"

        def write() -> t.Any:
            options = self._read([self._vm], ["config.vAppConfig"]).get(self._vm, {}).get("config.vAppConfig")
            transports = list(getattr(options, "ovfEnvironmentTransport", None) or [])
            spec = vim.vm.ConfigSpec(vAppConfig=vim.vApp.VmConfigSpec(ovfEnvironmentTransport=transports))
            return self._vm.ReconfigVM_Task(spec)

        try:
            _tasks.run(self._session, self._at_least(POWER_ON_SECONDS), what, write)
        except Exception as trouble:  # noqa: BLE001 - the VM is off, and must be powered on whatever this is
            self._warn(_error(what, trouble).sentence)

    def _at_least(self, seconds: float) -> Deadline:
        """Return the task's deadline, or a later one: a VM that was on must not stay off, or be left unexamined."""
        return Deadline(max(seconds, self._deadline.remaining))

    def _now(self, trouble: Exception, hoped: str) -> _properties.Values:
        """Return the VM's state after a failed power operation; empty if the server does not answer.

        :param hoped: the power state to wait for briefly, because the server may still be working on it.
        """
        if isinstance(trouble, _errors.ConnectionLost):
            with contextlib.suppress(Exception):
                _power.reaches(self._session, Deadline(SETTLE_SECONDS), self._vm, hoped)
        with contextlib.suppress(Exception):  # the original error must be reported
            return self._read([self._vm], ["runtime.powerState", "runtime.question"]).get(self._vm, {})
        return {}

    def _left_off(self, trouble: Exception, now: _properties.Values) -> _errors.OperationFailed:
        state = "IS POWERED OFF, and vCenter did not power it on again."
        if not now or not _is_refusal(trouble):
            state = "WAS POWERED OFF, and it is not known whether vCenter powers it on again."
        return _errors.OperationFailed(
            f"VM {self.name} {state} {_why(trouble, now)} Correct this and run vm_ovfenv for this VM again, which "
            "powers it on. Or start it on its ESXi host, without its OVF environment, as before.",
            fault=getattr(trouble, "fault", ""),
        )

    def _look_again(self) -> None:
        try:
            self._await_tools()
            self.after = self._examine(self._at_least(LOOK_SECONDS))
        except _errors.Error as trouble:
            what = f"VM {self.name} was powered on through vCenter, but could not be examined again"
            raise _errors.failure(what, trouble) from trouble

    def _await_tools(self) -> None:
        """Wait for VMware Tools. It is no failure if they do not start: the verdict shows what is known."""
        self._tools_late = ""
        probes = self._options.questions.probe != "none"
        before = self.before
        if not probes and _power.is_on(before.found.values) and not before.evidence.tools_running:
            return  # they did not run before either, and nothing needs them
        left = self._deadline.remaining
        seconds = left - min(LOOK_SECONDS, left / 2)
        if not probes:  # no verdict depends on VMware Tools then
            seconds = min(TOOLS_SECONDS, seconds)
        path = "guest.guestOperationsReady" if probes else "guest.toolsRunningStatus"

        def ready(_vm: t.Any, values: _properties.Values | None) -> bool | None:
            return True if (values or {}).get(path) in (True, "guestToolsRunning") else None

        with _properties.Watch(self._session, {vim.VirtualMachine: [path]}) as watch:
            watch.add([self._vm])
            if not _properties.wait_for(watch, seconds, ready):
                self._tools_late = (
                    f"VMware Tools did not start in VM {self.name} within {_printable.count(round(seconds), 'second')}."
                )
                self._warn(self._tools_late)


POWER_ON_SECONDS = 120
"""How long to wait for a power-on, regardless of the remaining time."""

SHUTDOWN_SECONDS = 120
"""No shutdown begins with less time left than this, or than half the time of a short task, because there would be no
time to power the VM on again."""

SETTLE_SECONDS = 30
"""How long to wait for an operation whose answer was lost."""

TOOLS_SECONDS = 120
"""How long to wait for VMware Tools if the guest is not probed."""

LOOK_SECONDS = 60
"""How long a VM may be examined after its power-on, regardless of the remaining time, and how much time is reserved."""

_NAMES_OF_VCENTER = ("VirtualCenter.FQDN", "VirtualCenter.AutoManagedIPV4", "VirtualCenter.AutoManagedIPV6")
"""Settings with vCenter's own name and addresses; public report scripts use them to find its VM."""


def _addresses_of(hostname: str) -> set[str]:
    """Return the server's name and all its addresses."""
    try:
        return {hostname, *(str(info[4][0]) for info in socket.getaddrinfo(hostname, None))}
    except OSError:
        return {hostname}


def _is_refusal(trouble: Exception) -> bool:
    """Return whether the server itself refused. After any other error, the operation may have been carried out."""
    return isinstance(trouble, _errors.OperationFailed) and not isinstance(trouble, UnknownType)


def _is_others_work(trouble: Exception) -> bool:
    """Return whether the server refused because somebody else has changed or is changing the VM's power state."""
    return isinstance(trouble, _errors.OperationFailed) and trouble.fault in (*_tasks.BUSY, "InvalidPowerState")


def _error(what: str, trouble: Exception) -> _errors.Error:
    error = _errors.explained(what, trouble)
    return error if isinstance(error, _errors.Error) else _errors.failure(what, error)


def _why(trouble: Exception, now: _properties.Values) -> str:
    question = now.get("runtime.question")
    asks = (
        f" It waits for an answer to a question in the vSphere Client: {question.text.rstrip(' .')}."
        if question
        else ""
    )
    return _error("Trouble", trouble).sentence + asks
