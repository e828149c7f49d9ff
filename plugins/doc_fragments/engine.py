# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  api:
    description:
      - Which generation of the fork API to use. All other options are the same for both, and what has no meaning with
        one of them says so.
      - V(auto) goes by the server's API version. From 6.7 on it is V(instant_clone), before that V(vmfork).
      - V(instant_clone) is the published API of vSphere 6.7 and newer.
      - V(vmfork) calls the unpublished methods of vSphere 6.0 and 6.5, also on a newer server, which may not know
        them any more.
    type: str
    choices: [auto, vmfork, instant_clone]
    default: auto
  call_via:
    description:
      - How the unpublished methods of O(api=vmfork) are called.
      - V(soap) is the ordinary way, the server's web service under C(/sdk).
      - V(mob) goes through the forms of vCenter's Managed Object Browser, the web pages under C(/mob), for servers
        whose web service refuses these methods. It logs in there a second time, by HTTP basic authentication, with the
        same user and under the same checks. vCenter's setting C(config.vpxd.enableDebugBrowse) must be true, as it is
        by default. Everything else still goes through the web service.
      - V(auto) is V(soap), and V(mob) as soon as the server answers that it does not know the method.
      - Ignored with O(api=instant_clone), whose method is published, so that the same playbook runs there.
    type: str
    choices: [auto, soap, mob]
    default: auto
notes:
  - What vCenter's user needs for all of it, the collection brings as files to make a role of, one for each generation
    of the API, in C(playbooks/files/privileges). Its README tells on which objects the role belongs.
"""
