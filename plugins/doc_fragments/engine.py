# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  api:
    description:
      - Which generation of the fork API to use.
      - V(auto) goes by the server's API version. From 6.7 on it is V(instant_clone), before that V(vmfork).
      - V(instant_clone) is the published API of vSphere 6.7 and newer.
      - V(vmfork) calls the unpublished methods of vSphere 6.0 and 6.5, also on a newer server, which may not know
        them any more.
    type: str
    choices: [auto, vmfork, instant_clone]
    default: auto
  call_via:
    description:
      - How the unpublished methods are called. V(auto) is V(soap).
      - V(mob), through vCenter's Managed Object Browser, is not available in this version of the collection
        and is refused.
    type: str
    choices: [auto, soap, mob]
    default: auto
"""
