# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report skipped tests in the closing lines of ``make test``, as ``tests/harness/not_run.sh`` does for other parts."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Append a line for each reason for which tests were skipped to the file that ``VMFORK_NOT_RUN`` names."""
    note = os.environ.get("VMFORK_NOT_RUN")
    if not note:
        return
    suites = " ".join(config.args)
    reasons = Counter(reason_of(report) for report in terminalreporter.getreports("skipped"))
    with Path(note).open("a", encoding="utf-8") as stream:
        stream.writelines(f"{number} of {suites}: {reason}\n" for reason, number in sorted(reasons.items()))


def reason_of(report: pytest.TestReport) -> str:
    """Return why a test was skipped, on one line."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return " ".join(reason.removeprefix("Skipped: ").split())
