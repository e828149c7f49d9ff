# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One deadline for a whole task, handed down to everything that waits.

Private to the collection.
"""

from __future__ import annotations

import time

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors


class Deadline:
    """A point in time after which the task gives up.

    :param seconds: from now, by the monotonic clock.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the deadline was set."""
        return time.monotonic() - self._started

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.seconds - self.elapsed)

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self.remaining == 0.0

    def rest(self) -> None:
        """Sleep until the time is over."""
        time.sleep(self.remaining)

    def check(self, what: str, why: str, remedy: str = "") -> None:
        """Raise :class:`_errors.TimedOut` when the time is over."""
        if self.passed:
            raise _errors.TimedOut(_errors.sentence(what, f"{why} within {self.seconds:g} seconds", remedy))
