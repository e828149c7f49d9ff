# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a VM's OVF environment back: power-cycle it through vCenter, and look whether that helped.

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
    _properties,
    _tasks,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import examine, plan
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim, vmodl

TRIES = 2
"""Power cycles; in the second one, while the VM is off, its vApp options are written once more (vic-product,
ts_ovf_error)."""


@dataclass(frozen=True)
class Cure:
    """How to go about it.

    :param shutdown: ``guest`` or ``hard``.
    :param accepted: names of risks that are accepted.
    """

    questions: examine.Questions
    shutdown: str = "guest"
    accepted: t.Collection[str] = ()


class Patient:
    """One VM, before and after."""

    def __init__(
        self, session: Session, deadline: Deadline, vm: t.Any, cure: Cure, warn: t.Callable[[str], None]
    ) -> None:
        self._session = session
        self._deadline = deadline
        self._vm = vm
        self._cure = cure
        self._warn = warn
        self.before = self._examine()
        self.after = self.before
        self.plan = plan.Plan()
        self.is_touched = False
        self._vcenter: set[str] = set()

    @property
    def is_cured(self) -> bool:
        """Whether the OVF environment reaches the guest, by the last verdict."""
        return self.after.diagnosis.status.startswith("delivered")

    @property
    def name(self) -> str:
        """The VM's name."""
        return self.before.found.name

    def prepare(self) -> None:
        """Make the plan: what will be done, and with what risks.

        :raises _errors.Refused: the VM must not be touched, or a risk is not accepted.
        """
        if self.is_cured:
            return
        values = self._read()
        self._vcenter = self._names_of_vcenter()
        self._refuse(values)
        pools = self._pools() if self.before.found.datacenter is not None else None
        risks, notes = plan.risks(self.before, values, pools)
        self.plan = plan.Plan(plan.steps(self.before, self._cure.shutdown), risks, notes)
        self._ask_server(values)
        standing = [risk for risk in risks if risk.name not in self._cure.accepted]
        if standing:
            why = " ".join(risk.message for risk in standing)
            names = ", ".join(risk.name for risk in standing)
            raise _errors.Refused(
                f"VM {self.name} is left as it is. {why} If that is right, accept it with accept_risks={names}."
            )

    def cure(self) -> None:
        """Carry the plan out.

        :raises _errors.OperationFailed: the VM could not be powered off or on.
        :raises _errors.VerdictFailed: it was power-cycled, and its OVF environment still does not arrive.
        """
        for attempt in range(TRIES):
            if attempt:
                self._warn(
                    f"A power cycle did not bring the OVF environment of VM {self.name} back "
                    f"({self.after.diagnosis.status}). It is cycled again, and its vApp options are written once more "
                    "in between."
                )
            self._power_cycle(rewrite=attempt > 0)
            self._look_again()
            if self.is_cured:
                return
            if self.after.diagnosis.remedy != "power_cycle_via_vcenter":
                break
        raise _errors.VerdictFailed(
            f"VM {self.name} was powered on through vCenter, and the verdict is now "
            f"{self.after.diagnosis.status}: {self.after.diagnosis.message}"
        )

    # --- before -----------------------------------------------------------------------------------------------------

    def _examine(self) -> examine.Examined:
        selection = _inventory.Selection(moid=[self._vm._GetMoId()])
        return examine.examine(self._session, self._deadline, selection, self._cure.questions)[0]

    def _read(self) -> _properties.Values:
        return _properties.read(self._session, [self._vm], [*plan.PATHS, *examine.PATHS]).get(self._vm, {})

    def _refuse(self, values: _properties.Values) -> None:
        why = plan.refusal(self.after, values, self._vcenter)
        if why is not None:
            raise _errors.Refused(why)

    def _names_of_vcenter(self) -> set[str]:
        """Every name and address that this vCenter is known by: the one we use, and those that it tells itself."""
        found = _addresses_of(self._session.server.hostname)
        with contextlib.suppress(vmodl.MethodFault):
            told = self._session.ask(self._session.content.setting.QueryOptions, "VirtualCenter.")
            found.update(str(one.value) for one in told or [] if one.key in _NAMES_OF_VCENTER and one.value)
        return found

    def _pools(self) -> list[t.Any] | None:
        try:
            return list(
                self._session.ask(self._session.content.ipPoolManager.QueryIpPools, dc=self.before.found.datacenter)
                or []
            )
        except vmodl.MethodFault:
            return None

    def _ask_server(self, values: _properties.Values) -> None:
        """What the server itself holds against a power-on.

        :raises _errors.Refused: it would fail.
        """
        what = f"VM {self.name} is left as it is, since vCenter could not power it on again"
        host = values.get("runtime.host")
        if host is not None:
            state = _properties.read(self._session, [host], ["runtime.connectionState"]).get(host, {})
            if str(state.get("runtime.connectionState")) != "connected":
                raise _errors.Refused(
                    _errors.sentence(what, f"its ESXi host is {state.get('runtime.connectionState')}", "Reconnect it.")
                )
        stores = _properties.read(self._session, values.get("datastore") or [], ["name", "summary.accessible"])
        for store in stores.values():
            if not store.get("summary.accessible", True):
                why = f"its datastore {_inventory.unescape(store.get('name', '?'))} cannot be reached"
                raise _errors.Refused(_errors.sentence(what, why, "Look at it in the vSphere Client."))
        checker = getattr(self._session.content, "vmCompatibilityChecker", None)
        if checker is None or self._session.api_version < (6, 7):
            return
        try:
            results = _tasks.run(self._session, self._deadline, what, checker.CheckPowerOn_Task, self._vm, host)
        except _errors.OperationFailed as error:
            self._warn(f"vCenter could not be asked whether VM {self.name} can be powered on ({error.fault}).")
            return
        errors = plan.check_errors(results)
        if errors:
            raise _errors.Refused(_errors.sentence(what, "; ".join(_errors.fault_text(error) for error in errors)))

    # --- the power cycle --------------------------------------------------------------------------------------------

    def _power_cycle(self, rewrite: bool) -> None:
        values = self._read()
        self._refuse(values)  # minutes may have passed since it was asked first
        was_on = _power.is_on(values)
        if was_on:
            self._stop()
        # The time of the task must not be a reason to leave a VM off that was on.
        deadline = Deadline(max(POWER_ON_SECONDS, self._deadline.remaining))
        try:
            if rewrite:
                self._rewrite(deadline)
            _power.on(self._session, deadline, self._vm, self.name)
        except (_errors.Error, vmodl.MethodFault) as trouble:
            is_on = self._is_on()
            if not is_on and was_on:
                raise self._left_off(trouble, is_known=is_on is False) from trouble
            if not is_on:
                raise
        self.is_touched = True

    def _stop(self) -> None:
        try:
            if self._cure.shutdown == "hard":
                _power.off(self._session, self._deadline, self._vm, self.name)
            else:
                _power.shut_down(self._session, self._deadline, self._vm, self.name)
        except (_errors.Error, vmodl.MethodFault) as trouble:
            is_off = self._is_on() is False
            # What was refused has not touched the VM; of anything else that is not known.
            self.is_touched = is_off or not isinstance(trouble, _errors.OperationFailed)
            if not is_off:
                raise
        self.is_touched = True

    def _is_on(self) -> bool | None:
        """Whether the VM runs; ``None`` when the server does not tell."""
        with contextlib.suppress(_errors.Error, vmodl.MethodFault):
            return _power.is_on(self._read())
        return None

    def _left_off(self, trouble: Exception, is_known: bool) -> _errors.OperationFailed:
        why = trouble.sentence if isinstance(trouble, _errors.Error) else f"{_errors.fault_text(trouble)}."
        state = "IS POWERED OFF, and vCenter did not power it on again."
        if not is_known:
            state = "WAS POWERED OFF, and whether vCenter powered it on again is not known."
        return _errors.OperationFailed(
            f"VM {self.name} {state} {why} Mend that and run vm_ovfenv for this VM once more, which powers it on; or "
            "start it on its ESXi host, where it comes up without its OVF environment, as before.",
            fault=getattr(trouble, "fault", ""),
        )

    def _rewrite(self, deadline: Deadline) -> None:
        """Write the vApp options as they are: the transports, which hold no value that could be spoilt by that."""
        transports = list(self.after.evidence.configured.transports)
        try:
            _tasks.run(
                self._session,
                deadline,
                f"Could not write the vApp options of VM {self.name} once more",
                self._vm.ReconfigVM_Task,
                vim.vm.ConfigSpec(vAppConfig=vim.vApp.VmConfigSpec(ovfEnvironmentTransport=transports)),
            )
        except _errors.OperationFailed as error:
            self._warn(error.sentence)

    def _look_again(self) -> None:
        try:
            self._await_tools()
            self.after = self._examine()
        except (_errors.Error, vmodl.MethodFault) as trouble:
            what = f"VM {self.name} was powered on through vCenter, and could not be looked at again"
            raise _errors.failure(what, trouble) from trouble

    def _await_tools(self) -> None:
        """Tools that do not come up are no failure here: the verdict says what is known."""
        probes = self._cure.questions.probe != "none"
        path = "guest.guestOperationsReady" if probes else "guest.toolsRunningStatus"

        def ready(_vm: t.Any, values: _properties.Values | None) -> bool | None:
            return True if (values or {}).get(path) in (True, "guestToolsRunning") else None

        with _properties.Watch(self._session, {vim.VirtualMachine: [path]}) as watch:
            watch.add([self._vm])
            if not _properties.wait_for(watch, self._deadline.remaining, ready):
                self._warn(f"VMware Tools did not come up in VM {self.name} in time.")


POWER_ON_SECONDS = 120

_NAMES_OF_VCENTER = ("VirtualCenter.FQDN", "VirtualCenter.AutoManagedIPV4", "VirtualCenter.AutoManagedIPV6")
"""Settings in which vCenter tells its own name and addresses; public report scripts find its VM by them."""


def _addresses_of(hostname: str) -> set[str]:
    """The server's name and every address that it stands for."""
    try:
        return {hostname, *(str(one[4][0]) for one in socket.getaddrinfo(hostname, None))}
    except OSError:
        return {hostname}
