# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that are refused before a login."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors
from ansible_collections.vmfork.vsphere.plugins.modules import vmfork_quiesce

LOGIN = {"guest_username": "root", "guest_password": "a-long-guest-password", "guest_become": "none"}
OPTIONS = ("pre_quiesce_script", "post_clone_script", "script", "interpreter", "tools_path", "guest_directory")
IDENTITY = {"identity_script": None, "identity_items": ["auto"], "identity_network": "auto"}


def plan(option: str, text: str) -> Any:
    given = {**dict.fromkeys(OPTIONS), **LOGIN, **IDENTITY, "guest_transfer_certs": "pinned", "script_delivery": "auto"}
    method = "script" if option == "script" else "scripts"
    return vmfork_quiesce.plan({**given, "method": method, option: text})


@pytest.mark.parametrize("option", ["pre_quiesce_script", "post_clone_script", "script", "identity_script"])
@pytest.mark.parametrize(
    "text",
    [
        "post_clone.sh",
        "files/post_clone.sh\n",
        "./post_clone",
        "/root/post_clone.sh",
        "~/post_clone",
        "\ufeffC:\\scripts\\post_clone.ps1",
        "größe.PS1",
        "templates/post-clone.sh.j2",
    ],
)
def test_file_name(option: str, text: str) -> None:
    with pytest.raises(_errors.BadInput, match=f"{option} looks like a file name") as refusal:
        plan(option, text)
    assert text.strip() not in refusal.value.sentence


@pytest.mark.parametrize(
    "text",
    ["true", "hostname web-01", "sh /root/post_clone.sh", "#!/bin/sh\n/root/x.sh", "$HOME/x.sh", "exit", "a.sh\nb.sh"],
)
def test_command_that_is_not_a_file_name(text: str) -> None:
    assert plan("post_clone_script", text).job.post_clone == text
