# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module's ``main`` shares: AnsibleModule, the library check, the session, the one catch.

Private to the collection. Nothing below this file knows AnsibleModule; errors
are raised there and become ``fail_json`` here.
"""

from __future__ import annotations

import traceback
import typing as t
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import remove_values

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _vmomi
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

Result = dict[str, t.Any]


@dataclass(frozen=True)
class Task:
    """What a module's work is given."""

    params: t.Mapping[str, t.Any]
    check_mode: bool
    warn: t.Callable[[str], None]


class _Module(AnsibleModule):
    """Ansible hides a secret dict that was given as text only as that whole text: here its values are hidden, too."""

    def _load_params(self) -> None:
        """Before anything is checked, logged or told."""
        super()._load_params()
        self.params = _arguments.given(self.argument_spec, self.params)
        self.no_log_values.update(_arguments.secrets(self.argument_spec, self.params))

    def _log_invocation(self) -> None:
        """Ansible makes a text of each option first, in which it does not recognize every secret."""
        given, self.params = self.params, remove_values(self.params, self.no_log_values)
        super()._log_invocation()
        self.params = given


def run(work: t.Callable[[Task, Session], Result], spec: _arguments.Spec, **constraints: t.Any) -> t.NoReturn:
    """Log in, do the work, log out, and end the module with its result or with one sentence.

    :param work: returns the module's result; raises :class:`_errors.Error`.
        Bad input that needs no server is best refused by a ``check`` given in ``constraints``.
    :param spec: the module's own options and groups; the connection's are added.
    :param constraints: for AnsibleModule (``mutually_exclusive`` …), and ``check``, called with the
        parameters before anything is connected.
    """
    check = constraints.pop("check", None)
    spec = {**_arguments.connection_spec(), **spec}
    module = _Module(argument_spec=spec, supports_check_mode=True, **constraints)
    absent = _vmomi.missing()
    if absent is not None:
        module.fail_json(msg=absent, exception=_vmomi.IMPORT_ERROR)
    try:
        server = _arguments.connection(module.params)
        if module.params.get("timeout") is not None and module.params["timeout"] < 1:
            raise _errors.BadInput(
                f"timeout is {module.params['timeout']} seconds, and at least 1 is needed. Correct it."
            )
        if check is not None:
            check(module.params)
        if not server.validate_certs and server.ca_path:
            module.warn("ca_path has no effect, since validate_certs is false: any certificate is accepted.")
        with Session(server) as session:
            result = work(Task(module.params, module.check_mode, module.warn), session)
    except _errors.Error as error:
        module.fail_json(msg=error.sentence, **error.details)
    except _vmomi.vmodl.MethodFault as fault:
        module.fail_json(
            msg=str(_errors.failure(f"{server.hostname} refused a request", fault)), exception=traceback.format_exc()
        )
    except Exception as error:  # noqa: BLE001, whatever it is, the user gets a sentence
        module.fail_json(
            msg=f"The module met something it was not written for ({type(error).__name__}). "
            "Please report it with the output of -vvv.",
            exception=traceback.format_exc(),
        )
    module.exit_json(**result)
