# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find where to create children: folders, datastores, resource pools and networks, from names to objects.

Private to the collection.
"""

from __future__ import annotations

import functools
import typing as t
from dataclasses import dataclass, field

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _inventory, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import facts
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import networks, port_groups
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim


def related() -> _properties.Related:
    """Return what to read with the parent of new children."""
    return {
        "datastore": (vim.Datastore, ("name",)),
        "network": (vim.dvs.DistributedVirtualPortgroup, port_groups.PATHS),
    }


@dataclass(frozen=True)
class Placement:
    """Where to create children.

    :param folders: by the child's name.
    :param datastores: by their names in the task; likewise ``pools``.
    :param networks: the networks of the children to create.
    :param defaults: the places for children without a named place, if the request must contain them: arguments of a
        VirtualMachineRelocateSpec.
    """

    parent: _properties.Values
    folders: t.Mapping[str, t.Any]
    datastores: t.Mapping[str, t.Any] = field(default_factory=dict)
    pools: t.Mapping[str, t.Any] = field(default_factory=dict)
    networks: port_groups.Found = field(default_factory=port_groups.Found)
    defaults: t.Mapping[str, t.Any] = field(default_factory=dict)

    def location(self, spec: ChildSpec) -> dict[str, t.Any]:
        """Return the location of a child: arguments of a VirtualMachineRelocateSpec."""
        named = {
            "folder": self.folders[spec.name],
            "datastore": self.datastores.get(spec.datastore or ""),
            "pool": self.pools.get(spec.resource_pool or ""),
        }
        return {**self.defaults, **{kind: place for kind, place in named.items() if place is not None}}

    def device_changes(self, spec: ChildSpec) -> list[t.Any]:
        """Return the changes to the parent's adapters when a child is created."""
        return networks.device_changes(self.parent, spec.networks, self.networks.backings)

    def networks_of(self, spec: ChildSpec) -> list[t.Any]:
        """Return the networks that the task sets for a child."""
        names = dict.fromkeys(adapter.network for adapter in spec.networks if adapter.network is not None)
        return [self.networks.objects[name] for name in names]


def find_folders(parent: Parent, specs: t.Sequence[ChildSpec]) -> dict[str, t.Any]:
    """Return the folder of each child by the child's name; by default, the parent's folder."""
    paths = dict.fromkeys(spec.folder for spec in specs if spec.folder is not None)
    found = {path: _inventory.find_folder(parent.session, path, parent.found.datacenter) for path in paths}
    return {spec.name: parent.found.folder if spec.folder is None else found[spec.folder] for spec in specs}


def place(
    parent: Parent, folders: t.Mapping[str, t.Any], missing: t.Sequence[ChildSpec], with_defaults: bool
) -> Placement:
    """Look up where to create children.

    :param folders: as :func:`find_folders` returns them.
    :param missing: the children to create.
    :param with_defaults: also look up the places that the task does not name.
    """
    if not missing:
        return Placement(parent.values, folders)

    def find(kind: t.Any, what: str, names: t.Iterable[str | None], **how: t.Any) -> dict[str, t.Any]:
        given = {name for name in names if name is not None}
        return _inventory.find_each_named(parent.session, kind, what, given, parent.found.datacenter, **how)

    of_clusters, of_host = functools.partial(_of_clusters, parent), functools.partial(_of_host, parent)
    defaults = _defaults(parent) if with_defaults else {}
    datastores = find(vim.Datastore, "datastore", (spec.datastore for spec in missing), otherwise=of_clusters)
    pools = find(vim.ResourcePool, "resource pool", (spec.resource_pool for spec in missing), narrow=of_host)
    return Placement(parent.values, folders, datastores, pools, port_groups.find(parent, missing), defaults)


def _defaults(parent: Parent) -> dict[str, t.Any]:
    """Return the parent's resource pool and datastore."""
    home = facts.datastore_name(parent.values)  # the parent's other datastores may only hold an ISO image
    names = {
        datastore: _inventory.unescape(parent.found.related.get(datastore, {}).get("name", ""))
        for datastore in parent.values.get("datastore") or []
    }
    found = {
        "pool": parent.values.get("resourcePool"),
        "datastore": next((datastore for datastore, name in names.items() if name == home), None),
    }
    return {kind: place for kind, place in found.items() if place is not None}


def _of_host(parent: Parent, pools: list[t.Any]) -> list[t.Any]:
    """Return the pools that can hold a VM on the parent's host: those of its cluster."""
    host = parent.values.get("runtime.host")
    if host is None:
        return pools
    owners = _inventory.compute_resources(parent.session, [host, *pools])
    return [pool for pool in pools if owners.get(pool) == owners.get(host)]


def _of_clusters(parent: Parent, names: list[str]) -> dict[str, t.Any]:
    """Return, for each name of a datastore cluster, the member with the most free space that the parent's host can use.

    An unpublished fork and an Instant Clone accept only a datastore, so Storage DRS cannot choose it.

    :raises _errors.NotFound: the host can use no member of a cluster.
    """
    session, datacenter = parent.session, parent.found.datacenter
    root = session.content.rootFolder if datacenter is None else datacenter
    clusters = _properties.scan(session, root, vim.StoragePod, ["name", "childEntity"])
    paths = _inventory.paths_of(session, clusters) if any("/" in name for name in names) else {}
    result = {}
    for name in names:
        found = [
            cluster
            for cluster, values in clusters.items()
            if name in (_inventory.unescape(values.get("name", "")), cluster._GetMoId(), paths.get(cluster))
        ]
        if len(found) == 1:
            result[name] = _most_free(parent, name, clusters[found[0]].get("childEntity") or [])
    return result


def _most_free(parent: Parent, cluster: str, members: t.Sequence[t.Any]) -> t.Any:
    host = parent.values.get("runtime.host")
    paths = ["summary.accessible", "summary.freeSpace", "summary.maintenanceMode", "host"]
    usable = {
        member: values.get("summary.freeSpace", 0)
        for member, values in _properties.read(parent.session, members, paths).items()
        if values.get("summary.accessible")
        and values.get("summary.maintenanceMode", "normal") == "normal"
        and any(mount.key == host and mount.mountInfo.accessible is not False for mount in values.get("host") or [])
    }
    if not usable:
        raise _errors.NotFound(
            f"{cluster} is a datastore cluster, and the ESXi host of VM {parent.name} can use none of its datastores. "
            "Use a datastore that this host can access."
        )
    return max(usable, key=lambda member: usable[member])
