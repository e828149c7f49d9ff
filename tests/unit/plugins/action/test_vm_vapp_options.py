# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process whose parent has ended is noticed."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from ansible_collections.vmfork.vsphere.plugins.action import vm_vapp_options as action


@pytest.mark.parametrize("parent", [None, os.getppid()])
def test_running_parent(monkeypatch: pytest.MonkeyPatch, parent: int | None) -> None:
    above = None if parent is None else SimpleNamespace(pid=parent)
    monkeypatch.setattr(action.multiprocessing, "parent_process", lambda: above)
    monkeypatch.setattr(action.NormalAction, "run", lambda *_arguments: {"changed": True})
    assert object.__new__(action.ActionModule).run() == {"changed": True}


def test_parent_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action.multiprocessing, "parent_process", lambda: SimpleNamespace(pid=os.getpid()))
    monkeypatch.setattr(action.NormalAction, "run", lambda *_arguments: pytest.fail("the module ran"))
    assert object.__new__(action.ActionModule).run()["msg"].startswith("ansible-playbook has ended.")
