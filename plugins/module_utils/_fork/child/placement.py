# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where children go: folders, datastores, resource pools and networks, from names to objects.

Private to the collection.
"""

from __future__ import annotations

import typing as t

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _inventory, _properties
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork import facts
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child import networks, port_groups, transitions
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.child.spec import ChildSpec
from ansible_collections.vmfork.vsphere.plugins.module_utils._fork.parent.parent import Parent
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim


class Placement:
    """Where children go, by what the task names: folders at once, the rest for children that are to be made.

    :ivar defaults: where the others go, if that is to be said: arguments of a VirtualMachineRelocateSpec.
    :ivar networks: the networks that are named for children which are to be made.
    """

    def __init__(self, parent: Parent, wanted: t.Sequence[ChildSpec]) -> None:
        self._parent = parent
        self.defaults: dict[str, t.Any] = {}
        self.networks = port_groups.Found()
        self._folders: dict[str, t.Any] = {}
        self._datastores: dict[str, t.Any] = {}
        self._pools: dict[str, t.Any] = {}
        for path in dict.fromkeys(one.folder for one in wanted if one.folder is not None):
            self._folders[path] = _inventory.find_folder(parent.session, path, parent.found.datacenter)

    def look_up(self, missing: t.Sequence[ChildSpec]) -> None:
        """Look up the datastores, resource pools and networks of children that are to be made."""
        session, datacenter = self._parent.session, self._parent.found.datacenter
        datastores = {one.datastore for one in missing if one.datastore is not None}
        pools = {one.resource_pool for one in missing if one.resource_pool is not None}
        self._datastores = _inventory.find_each_named(
            session, vim.Datastore, "datastore", datastores, datacenter, otherwise=self._of_clusters
        )
        self._pools = _inventory.find_each_named(
            session, vim.ResourcePool, "resource pool", pools, datacenter, narrow=self._of_host
        )
        self.networks = port_groups.find(self._parent, missing)

    def _of_host(self, pools: list[t.Any]) -> list[t.Any]:
        """Return the pools that can hold a VM on the parent's host: those of its cluster."""
        host = self._parent.values.get("runtime.host")
        if host is None:
            return pools
        owners = _inventory.compute_resources(self._parent.session, [host, *pools])
        return [pool for pool in pools if owners.get(pool) == owners.get(host)]

    def _of_clusters(self, names: list[str]) -> dict[str, t.Any]:
        """Return for each name of a datastore cluster the member with most free space that the parent's host can use.

        An unpublished fork and an Instant Clone take a datastore only, so Storage DRS cannot be asked.

        :raises _errors.NotFound: the host can use no member of a cluster.
        """
        session, datacenter = self._parent.session, self._parent.found.datacenter
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
                result[name] = self._most_free(name, clusters[found[0]].get("childEntity") or [])
        return result

    def _most_free(self, cluster: str, members: t.Sequence[t.Any]) -> t.Any:
        host = self._parent.values.get("runtime.host")
        paths = ["summary.accessible", "summary.freeSpace", "summary.maintenanceMode", "host"]
        usable = {
            member: values.get("summary.freeSpace", 0)
            for member, values in _properties.read(self._parent.session, members, paths).items()
            if values.get("summary.accessible")
            and values.get("summary.maintenanceMode", "normal") == "normal"
            and any(mount.key == host and mount.mountInfo.accessible is not False for mount in values.get("host") or [])
        }
        if not usable:
            raise _errors.NotFound(
                f"{cluster} is a datastore cluster, and the ESXi host of VM {self._parent.name} can use none of its "
                "datastores. Name a datastore that this host has."
            )
        return max(usable, key=lambda member: usable[member])

    def folder_of(self, wanted: ChildSpec) -> t.Any:
        """The folder a child is to be in; the parent's when the task names none."""
        return self._folders[wanted.folder] if wanted.folder is not None else self._parent.found.folder

    def folder(self, child: transitions.Child) -> t.Any:
        """The folder a child is to be in."""
        return self.folder_of(child.wanted)

    def location(self, child: transitions.Child) -> dict[str, t.Any]:
        """Where a child goes: arguments of a VirtualMachineRelocateSpec."""
        wanted = child.wanted
        placement = {
            "folder": self.folder_of(wanted),
            "datastore": self._datastores.get(wanted.datastore or ""),
            "pool": self._pools.get(wanted.resource_pool or ""),
        }
        return {**self.defaults, **{name: place for name, place in placement.items() if place is not None}}

    def device_changes(self, child: transitions.Child) -> list[t.Any]:
        """What a child's creation changes of the parent's adapters."""
        return networks.device_changes(self._parent.values, child.wanted.networks, self.networks.backings)

    def networks_of(self, child: transitions.Child) -> list[t.Any]:
        """The networks that are named for a child."""
        named = dict.fromkeys(one.network for one in child.wanted.networks if one.network is not None)
        return [self.networks.objects[name] for name in named]

    def look_up_defaults(self) -> None:
        """Look up where children go for which the task names no place: what the server knows by itself otherwise."""
        session = self._parent.session
        values = _properties.read(session, [self._parent.vm], ["datastore", "resourcePool"]).get(self._parent.vm, {})
        home = facts.datastore_name(self._parent.values)  # others may hold no more than an ISO image
        datastores = _inventory.names(session, values.get("datastore") or [])
        found = {
            "pool": values.get("resourcePool"),
            "datastore": next((one for one, name in datastores.items() if name == home), None),
        }
        self.defaults = {name: place for name, place in found.items() if place is not None}
