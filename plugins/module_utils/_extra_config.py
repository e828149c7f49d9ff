# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and set keys of a VM's extraConfig.

Private to the collection.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim

PATH = "config.extraConfig"
"""All keys: about 60 on a real VM, so read them only from single VMs."""


def path(key: str) -> str:
    """Return the property path of one key's value.

    (vSphere Web Services SDK Programming Guide, property paths: elements of a keyed array.)
    """
    return f'{PATH}["{key}"].value'


_ONE_KEY = re.compile(re.escape(PATH) + r'\["(.+)"\]\.value')


def mapping(values: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Return the extraConfig from a VM's properties, whether they were read as a whole or by :func:`path`.

    Values are strings, as in the configuration file.
    """
    result = {option.key: str(option.value) for option in values.get(PATH) or []}
    if PATH not in values:
        for name, value in values.items():
            match = _ONE_KEY.fullmatch(name)
            if match is not None and value is not None:
                result[match[1]] = str(value)
    return result


def spec(keys: t.Mapping[str, str], **others: t.Any) -> t.Any:
    """Return a VirtualMachineConfigSpec that sets these keys; an empty value removes a key.

    (vSphere API reference, VirtualMachineConfigSpec.extraConfig.)
    """
    return vim.vm.ConfigSpec(
        extraConfig=[vim.option.OptionValue(key=key, value=value) for key, value in keys.items()], **others
    )
