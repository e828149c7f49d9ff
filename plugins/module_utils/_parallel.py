# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make several calls to the server at a time, and pass their answers to the thread that started them.

Private to the collection. Only the calls run in other threads. Everything that
they cause is decided by the thread that takes the answers.
"""

from __future__ import annotations

import queue
import threading
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils._connection import SLICE_SECONDS
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import Session

Key = t.TypeVar("Key", bound=t.Hashable)


class Answer(t.NamedTuple):
    """The end of a call: its result or its exception."""

    result: t.Any
    error: BaseException | None

    def get(self) -> t.Any:
        """Return the result, or raise the exception, as the call itself would have done."""
        if self.error is not None:
            raise self.error
        return self.result


class ParallelCalls(t.Generic[Key]):
    """The calls that are under way.

    Each call has a daemon thread of its own, so it does not keep the process alive. Its connection waits no longer than
    the budget of the session allows: a signal and the deadline end the call without an answer.

    :param limit: the maximum number of calls at a time.
    """

    def __init__(self, session: Session, limit: int) -> None:
        self._budget = session.budget
        self._limit = limit
        self._answers: queue.SimpleQueue[tuple[Key, Answer]] = queue.SimpleQueue()
        self.pending: set[Key] = set()
        """The keys of the calls whose answers were not taken yet."""

    @property
    def has_room(self) -> bool:
        """Return whether another call may be started."""
        return len(self.pending) < self._limit

    def start(self, key: Key, call: t.Callable[[], t.Any]) -> None:
        """Start a call, in clean-up if the current thread is."""
        join = self._budget.shared()

        def run() -> None:
            join()
            try:
                answer = Answer(call(), None)
            except BaseException as error:  # noqa: BLE001, the thread that takes the answer raises it
                answer = Answer(None, error)
            self._answers.put((key, answer))

        self.pending.add(key)
        threading.Thread(target=run, daemon=True).start()

    def take(self) -> tuple[Key, Answer]:
        """Wait for the next answer of any call, and return it with the key of the call.

        :raises _errors.Interrupted: a signal was received. The answers can still be taken.
        """
        while True:
            self._budget.may_begin()  # raises it
            try:
                key, answer = self._answers.get(timeout=SLICE_SECONDS)
            except queue.Empty:
                continue
            self.pending.remove(key)
            return key, answer
