# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A task result that does not name the new child: the VM that it names is left unchanged."""

from __future__ import annotations

import pytest
from functional.engines import INSTANT_CLONE, SOAP
from functional.vcenter import VCenter

CHANGES = {"PowerOnVM_Task", "PowerOffVM_Task", "ReconfigVM_Task", "Destroy_Task"}
BYSTANDER = "/DC0/vm/DC0_H0_VM1"


@pytest.mark.engines(SOAP, INSTANT_CLONE)
def test_result_that_names_another_vm(quiesced: VCenter) -> None:
    """The child fails, and the VM that the result names is left unchanged, whatever on_failure is."""
    quiesced.fork("web-00")
    sibling, bystander, parent = (quiesced.moid(path) for path in ("/DC0/vm/web-00", BYSTANDER, ""))
    answers = {
        f"VirtualMachine:{bystander}": f"VM {bystander}, which existed before",
        f"VirtualMachine:{sibling}": f"VM {sibling}, which existed before",
        f"VirtualMachine:{parent}": f"VM {parent}, which existed before",
        "Folder:group-d1": "a Folder (group-d1) instead of a VM",
        "int": "a value of type int",
        "bool": "a value of type bool",
        "string": "a value of type str",
        "list": "a list",
        f"list:{bystander}": "a list",
    }
    for number, (answer, why) in enumerate(answers.items()):
        quiesced.fault(method=quiesced.engine.create, at="answer", answer=answer, count=1)
        given = {"parent_name": quiesced.parent, "name": f"db-{number}", "on_failure": "remove"}
        with quiesced.calls() as calls:
            refusal = quiesced.fails("vmfork_child", **given)
        assert not CHANGES & set(calls), answer
        assert f"Could not create child db-{number}: vCenter's task names " in refusal.msg
        assert why in refusal.msg
        assert refusal["changed"], answer
        child = refusal.child(f"db-{number}")
        assert (child["state"], child["moid"]) == ("failed", None)
    for path in ("/DC0/vm/web-00", BYSTANDER, f"/DC0/vm/{quiesced.parent}"):
        assert quiesced.exists(path)
