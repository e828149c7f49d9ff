# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import yaml


def _of_plugin(text: str) -> str:
    """Return the options as those of a plugin.

    Ansible converts the options of a plugin before a template in them can be evaluated, and makes every word that it
    does not know ``false``. So most are declared as they come, and the plugin converts them as modules do.
    """
    documented = yaml.safe_load(text)
    for option in documented["options"].values():
        option.pop("aliases", None)
        option["type"] = "str" if option["type"] == "str" else "raw"
    return yaml.safe_dump({name: documented[name] for name in ("options", "requirements")})


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  hostname:
    description:
      - Host name or IP address of the vCenter server.
      - If not set, the value of the environment variable E(VMWARE_HOST) is used.
    type: str
  username:
    description:
      - Name of the vCenter user.
      - If not set, the value of the environment variable E(VMWARE_USER) is used.
    type: str
    aliases: [user, admin]
  password:
    description:
      - Password of the vCenter user.
      - If not set, the value of the environment variable E(VMWARE_PASSWORD) is used.
    type: str
    aliases: [pass, pwd]
  port:
    description:
      - TCP port of the vCenter server.
      - If not set, the value of the environment variable E(VMWARE_PORT) is used.
    type: int
    default: 443
  validate_certs:
    description:
      - Whether to verify the certificate of the vCenter server.
      - With V(false) any certificate is accepted. Use O(ca_path) for a certificate of your own CA instead.
      - If not set, the value of the environment variable E(VMWARE_VALIDATE_CERTS) is used.
    type: bool
    default: true
  ca_path:
    description:
      - File with the CA certificates to trust, in PEM format. It can contain a self-signed server certificate.
      - Ignored with O(validate_certs=false).
      - If not set, the value of the environment variable E(VMWARE_CA_PATH) is used.
    type: path
  proxy_host:
    description:
      - Host name or IP address of the HTTP proxy to use.
      - If not set, the value of the environment variable E(VMWARE_PROXY_HOST) is used.
    type: str
  proxy_port:
    description:
      - TCP port of the HTTP proxy. The default is 80.
      - The task fails if this option, O(proxy_username) or O(proxy_password) is given without O(proxy_host). Without
        O(proxy_host), their environment variables are ignored.
      - If not set, the value of the environment variable E(VMWARE_PROXY_PORT) is used.
    type: int
  proxy_username:
    description:
      - Name of the user for an HTTP proxy that requires a login (HTTP basic authentication).
      - If not set, the value of the environment variable E(VMWARE_PROXY_USERNAME) is used.
    type: str
  proxy_password:
    description:
      - Password of O(proxy_username).
      - If not set, the value of the environment variable E(VMWARE_PROXY_PASSWORD) is used.
    type: str
requirements:
  - pyvmomi >= 8.0.3.0.1
notes:
  - The task logs in once and logs out at its end.
  - Every module has an option C(timeout) for the whole task, including login, file transfers and the Managed Object
    Browser. When the time is over, no new work is started. Clean-up can take up to 120 more seconds in total, as long
    as the server answers. It records new children, removes secrets and scripts, and powers on a VM that the task
    powered off. If the server does not answer, the task ends within 15 seconds after C(timeout).
  - On SIGTERM, SIGHUP and SIGINT, the task stops, cleans up within the same limit, logs out and fails with a message.
  - An empty string means that an option is not given, in every module and also in suboptions. Empty strings in a list
    are ignored.
"""

    # The annotation is for the sanity test yamllint, which reads each plain assignment as a text.
    PLUGIN: str = _of_plugin(DOCUMENTATION)
