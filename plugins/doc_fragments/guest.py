# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  guest_username:
    description:
      - Name of the user that logs in to the guest.
      - If not set, the value of the environment variable E(VMWARE_GUEST_USER) is used.
    type: str
  guest_password:
    description:
      - Password of the user that logs in to the guest.
      - If not set, the value of the environment variable E(VMWARE_GUEST_PASSWORD) is used.
    type: str
  guest_become:
    description:
      - How O(guest_username) becomes root if required, for example for the fork point.
      - V(sudo) runs C(sudo -n), so the user must be allowed to use sudo without a password.
    type: str
    choices: [none, sudo]
    default: none
  guest_transfer_certs:
    description:
      - Which certificate to accept for file transfers. Files are transferred to the ESXi host, not to vCenter.
      - V(pinned) accepts only the certificate that vCenter reports for that host.
      - V(ca) accepts certificates that are signed by a CA of O(ca_path) or of the machine.
      - V(ignore) accepts any.
    type: str
    choices: [pinned, ca, ignore]
    default: pinned
"""
