# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the simulator's rules have to do with, by their names."""

from __future__ import annotations

import re

from functional.ways import INSTANT_CLONE, MOB, SOAP, Way

OF_OVF = re.compile(
    r"ovfenv|extract_|required_property|computed_|iso_|guest_rpc|password_edited|check_power_on"
    r"|event|host_client_user|multi_power_on"
)
OF_WRITING = re.compile(r"vapp_(values|made|edit|change)_|password_edited")
OF_CLONES_WITH_OVF = re.compile(r"child_vapp_config|guestinfo_inherited|instant_clone_(event|fork_config|config_keys)")
OF_FORKS_WITH_OVF = re.compile(r"child_vapp_config|guestinfo_inherited|child_fork_group_id|extra_config_inherited")

OF_INSTANT_CLONE = re.compile(r"instant_clone|chain_limit|no_free_port")
OF_THE_BROWSER = re.compile(r"mob_")
OF_BOTH_ENGINES = re.compile(
    r"frozen_|_inherited|config_params_|network_after_fork|guestinfo_|mac_change_|_mac_|info_set_|child_disk_"
)


def ways(rule: str) -> tuple[Way, ...]:
    """The ways to fork a VM on which a rule makes a difference; none for what has to do with OVF alone."""
    if OF_INSTANT_CLONE.search(rule):
        return (INSTANT_CLONE,)
    if OF_THE_BROWSER.match(rule):
        return (MOB,)
    if OF_BOTH_ENGINES.search(rule):
        return (SOAP, INSTANT_CLONE)
    return () if OF_OVF.search(rule) or OF_WRITING.search(rule) else (SOAP,)
