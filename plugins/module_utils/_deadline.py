# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage one deadline for a whole task, and the time that it leaves for each call to the server.

Private to the collection.
"""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _printable

GRACE_SECONDS = 3
"""Seconds after the deadline in which an answer may still arrive; the server may hold an answer back until the
deadline."""

EXTRA_SECONDS = 120
"""Seconds that clean-up may take after the deadline, in total for the task."""

SILENCE_SECONDS = 4
"""Seconds that a call may take after the deadline."""

UNANSWERED_CALLS = 2
"""Number of unanswered calls after the deadline after which the server counts as silent. One of them may have been a
guest operation, which waits for a frozen guest while vCenter still answers everything else."""

LOGOUT_SECONDS = 3
"""Time limit for all logouts together after the deadline, in seconds."""

LONGEST_LOGOUT_SECONDS = 30
"""Time limit for all logouts together before the deadline, in seconds, even if the task has more time left."""


class Deadline:
    """A point in time after which the task gives up.

    :param seconds: seconds from now, by the monotonic clock.
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
        """Return whether the deadline has passed."""
        return self.remaining == 0.0

    def rest(self) -> None:
        """Sleep until the deadline."""
        time.sleep(self.remaining)

    def end_now(self) -> None:
        """Move the deadline to now, unless it has passed."""
        self._end = min(self._end, time.monotonic())

    @property
    def duration(self) -> str:
        """The time of the whole task with its unit, such as ``60 seconds``."""
        return _printable.count(self.seconds, "second")

    def check(self, what: str, why: str, remedy: str = "") -> None:
        """Raise :class:`_errors.TimedOut` if the deadline has passed."""
        if self.passed:
            raise _errors.TimedOut(_errors.sentence(what, f"{why} within {self.duration}", remedy))


class Budget:
    """The time that a task's calls to the server may take, including clean-up and logout.

    * A call must be answered by the deadline plus :data:`GRACE_SECONDS`. Otherwise it is given up, and no other call is
      started.
    * In :meth:`clean_up`, calls are also allowed after the deadline, for :data:`EXTRA_SECONDS`. That time is granted
      once for the whole task. If the server does not answer :data:`UNANSWERED_CALLS` of these calls within
      :data:`SILENCE_SECONDS` each, no other call is started.
    * In :meth:`log_out`, calls are allowed for some more seconds.

    A signal that asks the process to end is recorded by :meth:`interrupt`, and raised as :class:`_errors.Interrupted`
    where that does no harm: before a call, or while the main thread waits for an answer, but not in clean-up.

    :param deadline: the task's deadline; ``None``: no limit.
    """

    def __init__(self, deadline: Deadline | None = None) -> None:
        self.deadline = deadline or Deadline(float("inf"))
        self._unanswered = 0
        self._counting = threading.Lock()
        self._signal: str | None = None
        self._signalled = 0.0
        self._here = _Here()

    # --- signals ----------------------------------------------------------------------------------------------------

    def interrupt(self, signal: str) -> None:
        """Record the name of the signal that asks the process to end; only the first one counts."""
        if self._signal is None:
            self._signal, self._signalled = signal, time.monotonic()

    @contextlib.contextmanager
    def hold(self) -> t.Iterator[None]:
        """Delay an interruption by a signal by :data:`GRACE_SECONDS`: the end of a login must be observed."""
        before, self._here.is_holding = self._here.is_holding, True
        try:
            yield
        finally:
            self._here.is_holding = before

    @property
    def signal(self) -> str | None:
        """The name of the signal that asks the process to end; ``None``: there was none."""
        return self._signal

    @property
    def interruption(self) -> _errors.Interrupted | None:
        """The exception for the received signal; ``None``: there was none."""
        if self._signal is None:
            return None
        return _errors.Interrupted(
            f"The module received {self._signal} and stopped before it was finished. Run the task again to complete it."
        )

    def _check_signal(self) -> bool:
        """Raise an exception for a received signal, and return whether this thread must stop because of it."""
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
        """Return whether a call may be started now.

        :raises _errors.Interrupted: a signal was received.
        """
        if self._check_signal():
            return False
        if self._here.is_cleaning and self._here.logout_end is None and time.monotonic() >= self.deadline.end:
            return self._unanswered < UNANSWERED_CALLS and time.monotonic() < self._extra_end
        return self._left() > 0

    @contextlib.contextmanager
    def call(self) -> t.Iterator[None]:
        """Start the time of a call."""
        before, self._here.call_began = self._here.call_began, time.monotonic()
        try:
            yield
        finally:
            self._here.call_began = before

    def left(self) -> float:
        """Return the seconds that are left for the current call, more than zero.

        :raises TimeoutError: no time is left.
        :raises _errors.Interrupted: a signal was received.
        """
        seconds = 0.0 if self._check_signal() else self._left()
        if seconds <= 0:
            raise TimeoutError("timed out")
        return seconds

    def cut_off(self) -> bool:
        """Return whether a call failed because its time was over; after that, no other call is started."""
        if self._left() > 0:
            return False
        if self._here.is_cleaning and self._here.logout_end is None:
            with self._counting:
                self._unanswered += 1
        return True

    def longest_wait(self, seconds: float) -> float:
        """Return how long the server may be asked to hold back an answer, at most these seconds."""
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

        :param seconds: the maximum time for this part of the clean-up.
        :returns: its deadline, limited by the remainder of the task's extra time.
        """
        before, self._here.is_cleaning = self._here.is_cleaning, True
        try:
            yield Deadline(max(0.0, min(seconds, self._extra_end - time.monotonic())))
        finally:
            self._here.is_cleaning = before

    def shared(self) -> t.Callable[[], None]:
        """Return a function that a new thread calls to be in clean-up if the current thread is."""
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
    """The state of the current thread."""

    is_cleaning = False
    is_holding = False
    is_interrupted = False
    call_began = 0.0
    logout_end: float | None = None
