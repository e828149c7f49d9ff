# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that is known about one VM's OVF environment, before it is judged.

Private to the collection. Filled by ``examine.py`` and ``probe.py``, judged by ``diagnosis.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.configured import Configured
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.document import Document
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf.origin import PowerOn


@dataclass(frozen=True)
class Extracted:
    """The answer of ExtractOvfEnvironment.

    :param state: ``ok``, ``empty``, ``not_running``, ``no_permission``, ``unsupported``, ``error`` or ``not_asked``.
    """

    state: str = "not_asked"
    document: Document | None = None
    text: str = field(default="", repr=False)
    error: str | None = None


@dataclass(frozen=True)
class Iso:
    """The CD-ROM drive that may deliver the document.

    :param backing: datastore path of the image that vCenter created, if it is in the drive.
    """

    cdrom_present: bool = False
    backing: str | None = None
    connected: bool = False


@dataclass(frozen=True)
class GuestView:
    """The result of a probe in the guest.

    :param state: ``xml``, ``no_value``, ``cleared``, ``non_xml``, ``permission_denied``, ``tool_missing``,
        ``tools_not_running``, ``ops_not_ready``, ``login_failed``, ``no_permission``, ``not_asked`` or ``error``.
    :param method: ``exit_code`` or ``full``; ``None`` when it was not asked. If ``full`` was requested but the
        document could not be fetched, it is ``exit_code``.
    :param tool: ``vmware-rpctool`` or ``vmtoolsd``, whichever answered last.
    :param exit_code: exit code of our program in the guest; ``probe.py`` explains the numbers.
    :param stderr: with ``full``, the tool's output instead of a value; it may contain secrets.
    :param bears_id: whose managed object ID (``ve:vCenterId``) the guest's document contains: ``own`` (this VM's),
        ``other`` or ``none``; ``None``: not examined, or not readable.
    :param error: a sentence: why the probe failed or was skipped.
    """

    state: str = "not_asked"
    method: str | None = None
    tool: str | None = None
    exit_code: int | None = None
    stderr: str | None = field(default=None, repr=False)
    document: Document | None = None
    text: str = field(default="", repr=False)
    bears_id: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Difference:
    """A key that is not the same everywhere.

    :param kind: ``missing``, ``extra``, ``changed`` or ``case``.
    :param configured: what vCenter would deliver.
    :param delivered: what ExtractOvfEnvironment returns.
    :param guest: what the guest sees.
    """

    key: str
    kind: str
    secret: bool
    comparable: bool
    configured: str | None = field(default=None, repr=False)
    delivered: str | None = field(default=None, repr=False)
    guest: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Evidence:
    """The evidence about one VM.

    :param config_read: whether ``config`` could be read; if not, missing vApp options mean nothing.
    :param connection_state: empty if it could not be read, like ``power_state``.
    :param forked_from: managed object ID of the parent whose memory the VM runs on; ``""`` when the parent is
        not known, ``None`` when nothing proves that it is a fork.
    :param document_of: managed object ID of another VM of this vCenter for whose network adapters the document in the
        guest was created: its parent, unless somebody copied the document.
    :param rpc_denied: extraConfig restricts info-get in the guest.
    :param listed_before: an earlier report or a backup contains vApp options of this VM.
    :param in_cluster: whether its ESXi host is in a cluster; ``None``: not known.
    :param ha_protected: whether vSphere HA protects it; ``None``: vSphere HA is off, or it is not known.
    :param customization_pending: a guest customization has not started yet.
    :param lacking_pools: what vCenter could not compute for a VM that is off, and why; ``None``: it needs IP pools, but
        they could not be read.
    """

    name: str
    moid: str
    is_vcenter: bool = True
    config_read: bool = True
    is_template: bool = False
    connection_state: str = "connected"
    is_ft_secondary: bool = False
    power_state: str = "poweredOn"
    forked_from: str | None = None
    document_of: str | None = None
    tools_running: bool = True
    rpc_denied: bool = False
    listed_before: bool = False
    configured: Configured = field(default_factory=Configured)
    extracted: Extracted = field(default_factory=Extracted)
    iso: Iso = field(default_factory=Iso)
    guest: GuestView = field(default_factory=GuestView)
    power_on: PowerOn = field(default_factory=PowerOn)
    differences: tuple[Difference, ...] = ()
    in_cluster: bool | None = None
    ha_protected: bool | None = None
    is_encrypted: bool = False
    customization_pending: bool = False
    lacking_pools: tuple[str, ...] | None = ()
