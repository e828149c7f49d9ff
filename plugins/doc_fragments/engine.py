# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  api:
    description:
      - Which generation of the fork API to use. All other options are the same for both, except where documented.
      - V(auto) chooses by the server's API version, V(instant_clone) from 6.7 on, V(vmfork) before.
      - V(instant_clone) is the published API of vSphere 6.7 and newer.
      - V(vmfork) calls the unpublished methods of vSphere 6.0 and 6.5. A newer server might not have them anymore.
    type: str
    choices: [auto, vmfork, instant_clone]
    default: auto
  call_via:
    description:
      - How the unpublished methods of O(api=vmfork) are called.
      - V(soap) uses the server's web service at C(/sdk).
      - V(mob) uses the forms of vCenter's Managed Object Browser, the web pages at C(/mob), for servers whose web
        service refuses these methods. This needs a second login with the same user, by HTTP basic authentication, with
        the same certificate checks. The vCenter setting C(config.vpxd.enableDebugBrowse) must be true, which is the
        default. Everything else still uses the web service.
      - V(auto) is V(soap), or V(mob) if the server answers that it does not know the method.
      - Ignored with O(api=instant_clone).
    type: str
    choices: [auto, soap, mob]
    default: auto
notes:
  - The required vCenter privileges are listed in C(playbooks/files/privileges), one file per API. Create a role from
    them. R(The guide, ansible_collections.vmfork.vsphere.docsite.guide_security.forks) lists the objects on which the
    role is needed.
"""
