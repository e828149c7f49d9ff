# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provide what every module's ``main`` shares: AnsibleModule, the library check, the session, the error handling.

Private to the collection. Nothing below this file knows AnsibleModule; errors
are raised there and become ``fail_json`` here.
"""

from __future__ import annotations

import contextlib
import signal
import traceback
import typing as t
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.vmfork.vsphere.plugins.module_utils import (
    _arguments,
    _encodings,
    _errors,
    _printable,
    _progress,
    _vmomi,
)
from ansible_collections.vmfork.vsphere.plugins.module_utils._deadline import Budget, Deadline
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

try:
    from ansible.module_utils.secrets import register_secrets  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # ansible-core before 2.22
    register_secrets = None

Result = dict[str, t.Any]
Request = t.TypeVar("Request")


@dataclass(frozen=True)
class Task(t.Generic[Request]):
    """The input of a module's work.

    :param request: the options, as returned by the module's ``parse``.
    :param diff_mode: whether differences are displayed.
    """

    request: Request
    check_mode: bool
    warn: t.Callable[[str], None]
    diff_mode: bool = False


class _Module(AnsibleModule):
    """An AnsibleModule that shows neither secrets nor scripts, in whatever form they were given.

    If a dict of secrets was given as text, Ansible masks only that whole text. This class also masks its values, and
    the encodings of all secrets.
    """

    def __init__(self, **arguments: t.Any) -> None:
        self._secrets: set[str] = set()
        self._masked: set[str] = set()
        self.progress_file: t.Any = None
        super().__init__(**arguments)

    def _load_params(self) -> None:
        """Register the secrets before anything is checked, logged or returned."""
        super()._load_params()
        self.progress_file = self.params.pop(_progress.FILE_OPTION, None)
        self.params = _arguments.given(self.argument_spec, self.params)
        self._mask(_arguments.secrets(self.argument_spec, self.params))

    def _log_invocation(self) -> None:
        """Log the options as they may be shown."""
        # Options from the environment and from an alias are only known now.
        self._mask(_arguments.secrets(self.argument_spec, self.params))
        shown = _arguments.shown(self.argument_spec, self.params)
        given, self.params = self.params, _printable.result(shown)
        super()._log_invocation()
        self.params = given

    def _return_formatted(self, kwargs: dict[str, t.Any]) -> None:
        """Return the options as they may be shown, even with an error that Ansible found in them."""
        shown = _arguments.shown(self.argument_spec, self.params)
        if _arguments.has_surrogate(shown):  # ansible-core refuses to read such a result
            shown = _printable.result(shown)
        kwargs.setdefault("invocation", {"module_args": shown})
        texts = {*_texts(shown), *_texts(kwargs)} - {_arguments.HIDDEN}
        if any(secret in text for secret in self._secrets for text in texts):
            self.warn(
                "A password or another secret of this task is also part of other options or of return values. Ansible "
                "masks it there, too, so do not use these values in conditions. Use a longer secret that is not an "
                "ordinary word."
            )
        written = kwargs.pop("invocation")  # the user's own input is returned unchanged
        super()._return_formatted({**_printable.result(kwargs), "invocation": written})

    def hide(self, text: str) -> str:
        """Return a text without secrets, for output that Ansible does not mask."""
        for secret in sorted(self._masked, key=len, reverse=True):
            text = text.replace(secret, _encodings.MASK)
        return text

    def warn(self, warning: str, **arguments: t.Any) -> None:
        """Issue a warning whose text is safe to print."""
        super().warn(_printable.text(warning), **arguments)

    def _mask(self, secrets: set[str]) -> None:
        """Mask secrets and their encodings in all output.

        Up to ansible-core 2.21, the module masks its result; from 2.22 on, the controller masks what it displays.
        """
        self._secrets |= secrets
        texts = secrets.union(*(_encodings.forms(secret) for secret in secrets))
        self._masked |= texts
        if register_secrets is None:
            self.no_log_values.update(texts)
        else:
            register_secrets(texts)


UNCOMPARED = (*_arguments.SCRIPTS, "output", "include_raw_xml", "raw_xml", "exception", "invocation")
"""Names of values that are masked on purpose, and of values that are not part of the result."""


def _texts(value: t.Any, name: str = "") -> t.Iterator[str]:
    """Yield all values that Ansible masks by their text; it does not change booleans and keys."""
    if name in UNCOMPARED:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, key)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value)


MOST_SECONDS = 10**9
"""The longest allowed time, 31 years: more is a typing error, and may be too large for the system."""

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Signals that ask a process to end."""


@contextlib.contextmanager
def _signals(budget: Budget) -> t.Iterator[None]:
    """Raise :class:`_errors.Interrupted` for the first signal that asks the process to end, and ignore further ones.

    Signals that were ignored before, such as SIGHUP with ``nohup``, remain ignored.
    """

    def note(number: int, _frame: object) -> None:
        budget.interrupt(signal.Signals(number).name)

    before = {number: signal.getsignal(number) for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    work: t.Callable[[Task[Request], Session], Result],
    spec: _arguments.Spec,
    parse: t.Callable[[_arguments.Params], Request],
    **constraints: t.Any,
) -> t.NoReturn:
    """Parse the options, log in, do the work, log out, and end the module with its result or with one sentence.

    :param work: returns the module's result; raises :class:`_errors.Error`.
    :param spec: the module's own options and groups; the connection's are added.
    :param parse: turns options into the request for ``work``; called once, before anything is connected. Raises
        :class:`_errors.BadInput`.
    :param constraints: for AnsibleModule (``mutually_exclusive`` …).
    """
    spec = {**_arguments.connection_spec(), **spec}
    module = _Module(argument_spec=spec, supports_check_mode=True, **constraints)
    absent = _vmomi.missing()
    if absent is not None:
        module.fail_json(msg=absent, exception=_vmomi.IMPORT_ERROR)
    timeout = module.params.get("timeout")
    budget = Budget(Deadline(min(timeout, MOST_SECONDS)) if timeout is not None else None)
    with _signals(budget):
        _run(module, work, parse, budget)


def _run(
    module: _Module,
    work: t.Callable[[Task[Request], Session], Result],
    parse: t.Callable[[_arguments.Params], Request],
    budget: Budget,
) -> t.NoReturn:
    """Carry out :func:`run` within the time and with the signals of ``budget``."""
    try:
        _arguments.check_texts(module.params)
        server = _arguments.connection(module.params)
        if module.params.get("timeout") is not None and module.params["timeout"] < 1:
            raise _errors.BadInput(
                f"timeout is {module.params['timeout']} seconds, but must be at least 1. Correct it."
            )
        request = parse(module.params)
        if not server.validate_certs and server.ca_path:
            module.warn("ca_path has no effect, because validate_certs is false and any certificate is accepted.")
        progress = _progress.Progress(module.progress_file, module.hide)
        with Session(server, budget, progress) as session:
            result = work(Task(request, module.check_mode, module.warn, module._diff), session)
    except _errors.Interrupted as interruption:
        module.fail_json(msg=interruption.sentence, **interruption.details)
    except _errors.Error as error:
        # A loop or a thread may have noticed the deadline before the signal was raised.
        sentence = budget.interruption.sentence if budget.interruption is not None else error.sentence
        module.fail_json(msg=sentence, **error.details)
    except Exception as error:  # noqa: BLE001, the user always gets a sentence
        module.fail_json(
            msg=f"Unexpected error ({type(error).__name__}). Please report it with the output of -vvv.",
            exception=traceback.format_exc(),
        )
    module.exit_json(**result)
