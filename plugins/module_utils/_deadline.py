# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One deadline for a whole task, and what it leaves each call to the server.

Private to the collection.
"""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors

GRACE_SECONDS = 3
"""Seconds by which an answer may come after the deadline; the server itself may hold back an answer until then."""

EXTRA_SECONDS = 120
"""Seconds that clean-up may take after the deadline, for the whole task."""

SILENCE_SECONDS = 4
"""Seconds that a call may take after the deadline."""

UNANSWERED_CALLS = 2
"""Calls without an answer, after the deadline, after which the server counts as silent. One of them may have been a
guest operation, which waits for a guest that stands still while vCenter answers everything else."""

LOGOUT_SECONDS = 3
"""Seconds that all logouts together may take after the deadline."""

LONGEST_LOGOUT_SECONDS = 30
"""Seconds that all logouts together may take before the deadline."""


class Deadline:
    """A point in time after which the task gives up.

    :param seconds: from now, by the monotonic clock.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._started = time.monotonic()
        self._end = self._started + seconds

    @property
    def end(self) -> float:
        """The point in time, by the monotonic clock."""
        return self._end

    @property
    def elapsed(self) -> float:
        """Seconds since the deadline was set."""
        return time.monotonic() - self._started

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        """Return whether the time is over."""
        return self.remaining == 0.0

    def rest(self) -> None:
        """Sleep until the time is over."""
        time.sleep(self.remaining)

    def end_now(self) -> None:
        """Let the time be over, if it is not yet."""
        self._end = min(self._end, time.monotonic())

    def check(self, what: str, why: str, remedy: str = "") -> None:
        """Raise :class:`_errors.TimedOut` when the time is over."""
        if self.passed:
            raise _errors.TimedOut(_errors.sentence(what, f"{why} within {self.seconds:g} seconds", remedy))


class Budget:
    """The time that a task's calls to the server may take, clean-up and logout included.

    * A call gets an answer by the deadline and :data:`GRACE_SECONDS`, or it is given up, and no other call is begun.
    * In :meth:`clean_up` calls may be made after the deadline, too, until :data:`EXTRA_SECONDS` are over. That time is
      granted once for the whole task. When the server does not answer :data:`UNANSWERED_CALLS` of these calls within
      :data:`SILENCE_SECONDS` each, no other call is begun.
    * In :meth:`log_out` calls may be made for some seconds more.

    A signal that asks the process to end is noted by :meth:`interrupt`, and raised as :class:`_errors.Interrupted`
    where it does no harm: before a call, or while the main thread waits for an answer, but not in clean-up.

    :param deadline: the task's; ``None`` never ends.
    """

    def __init__(self, deadline: Deadline | None = None) -> None:
        self.deadline = deadline or Deadline(float("inf"))
        self._unanswered = 0
        self._signal: str | None = None
        self._signalled = 0.0
        self._here = _Here()

    # --- signals ----------------------------------------------------------------------------------------------------

    def interrupt(self, signal: str) -> None:
        """Note the name of the signal that asks the process to end; only the first one counts."""
        if self._signal is None:
            self._signal, self._signalled = signal, time.monotonic()

    @contextlib.contextmanager
    def hold(self) -> t.Iterator[None]:
        """Let a signal interrupt what is done here only after :data:`GRACE_SECONDS`: a login has to be seen to end."""
        before, self._here.is_holding = self._here.is_holding, True
        try:
            yield
        finally:
            self._here.is_holding = before

    @property
    def signal(self) -> str | None:
        """The name of the signal that asks the process to end, if one came."""
        return self._signal

    @property
    def interruption(self) -> _errors.Interrupted | None:
        """The exception for the signal that came, if one came."""
        if self._signal is None:
            return None
        return _errors.Interrupted(
            f"The module received {self._signal} and stopped before it was finished. Run the task again to complete it."
        )

    def _heed(self) -> bool:
        """Raise for a signal that came; whether this thread has to stop for it."""
        if self._signal is None or self._here.is_cleaning or self._here.logout_end is not None:
            return False
        if self._here.is_holding and time.monotonic() < self._signalled + GRACE_SECONDS:
            return False
        if threading.current_thread() is not threading.main_thread():
            return True
        if self._here.is_interrupted:
            return True
        self._here.is_interrupted = True
        self.deadline.end_now()
        raise t.cast(_errors.Interrupted, self.interruption)

    # --- calls ------------------------------------------------------------------------------------------------------

    def may_begin(self) -> bool:
        """Return whether a call may be made now.

        :raises _errors.Interrupted: a signal came.
        """
        if self._heed():
            return False
        if self._here.is_cleaning and self._here.logout_end is None and time.monotonic() >= self.deadline.end:
            return self._unanswered < UNANSWERED_CALLS and time.monotonic() < self._extra_end
        return self._left() > 0

    @contextlib.contextmanager
    def call(self) -> t.Iterator[None]:
        """Set the end of one call that begins now."""
        before, self._here.call_began = self._here.call_began, time.monotonic()
        try:
            yield
        finally:
            self._here.call_began = before

    def left(self) -> float:
        """Seconds that are left for the call under way, more than zero.

        :raises TimeoutError: none.
        :raises _errors.Interrupted: a signal came.
        """
        seconds = 0.0 if self._heed() else self._left()
        if seconds <= 0:
            raise TimeoutError("timed out")
        return seconds

    def cut_off(self) -> bool:
        """Return whether a call that failed just now did so because its time was over; no other is begun then."""
        if self._left() > 0:
            return False
        if self._here.is_cleaning and self._here.logout_end is None:
            self._unanswered += 1
        return True

    def longest_wait(self, seconds: float) -> float:
        """Return how long the server may be asked to hold back an answer, of so many seconds."""
        if self._here.is_cleaning and self.deadline.passed:
            return min(seconds, SILENCE_SECONDS / 2)
        return min(seconds, self.deadline.remaining)

    def _left(self) -> float:
        now = time.monotonic()
        if self._here.logout_end is not None:
            return self._here.logout_end - now
        end = self.deadline.end + GRACE_SECONDS
        if self._here.is_cleaning:
            end = max(end, min(self._here.call_began + SILENCE_SECONDS, self._extra_end))
        return end - now

    @property
    def _extra_end(self) -> float:
        return self.deadline.end + EXTRA_SECONDS

    # --- clean-up ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def clean_up(self, seconds: float = EXTRA_SECONDS) -> t.Iterator[Deadline]:
        """Allow calls after the deadline, and let no signal interrupt them.

        :param seconds: how long this part of it may take at most.
        :returns: the deadline for it, capped by what is left of the task's extra time.
        """
        before, self._here.is_cleaning = self._here.is_cleaning, True
        try:
            yield Deadline(max(0.0, min(seconds, self._extra_end - time.monotonic())))
        finally:
            self._here.is_cleaning = before

    def shared(self) -> t.Callable[[], None]:
        """Return what a thread calls at its begin to be in clean-up as the present one is."""
        is_cleaning = self._here.is_cleaning

        def join() -> None:
            self._here.is_cleaning = is_cleaning

        return join

    @contextlib.contextmanager
    def log_out(self) -> t.Iterator[None]:
        """Allow calls for the time of a logout, and let no signal interrupt them."""
        seconds = min(LONGEST_LOGOUT_SECONDS, max(LOGOUT_SECONDS, self.deadline.remaining))
        before, self._here.logout_end = self._here.logout_end, time.monotonic() + seconds
        try:
            yield
        finally:
            self._here.logout_end = before


class _Here(threading.local):
    """What holds for the present thread."""

    is_cleaning = False
    is_holding = False
    is_interrupted = False
    call_began = 0.0
    logout_end: float | None = None
