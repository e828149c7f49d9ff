# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM's extraConfig: read it, set keys of it.

Private to the collection.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

PATH = "config.extraConfig"


def mapping(values: t.Mapping[str, t.Any]) -> dict[str, str]:
    """extraConfig out of a VM's properties; values are strings, as in the configuration file."""
    return {one.key: str(one.value) for one in values.get(PATH) or []}


def spec(keys: t.Mapping[str, str], **others: t.Any) -> t.Any:
    """A VirtualMachineConfigSpec that sets these keys; an empty value removes a key.

    (vSphere API reference, VirtualMachineConfigSpec.extraConfig.)
    """
    return vim.vm.ConfigSpec(
        extraConfig=[vim.option.OptionValue(key=key, value=value) for key, value in keys.items()], **others
    )
