# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and watch properties. This is the only place that uses the PropertyCollector.

Private to the collection. Costs are constant: one call for any number of
objects, plus one for each further page of the answer.
"""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass
from types import MappingProxyType

from ansible_collections.vmfork.vsphere.plugins.module_utils import _errors, _types
from ansible_collections.vmfork.vsphere.plugins.module_utils._session import INVALID, Session, UnknownType
from ansible_collections.vmfork.vsphere.plugins.module_utils._vmomi import vim, vmodl

Values = dict[str, t.Any]
"""Property path → value. An unset property is missing: use ``get``."""

LONGEST_WAIT = 30
"""Maximum number of seconds for one WaitForUpdatesEx; some firewalls cut idle connections after a minute."""

PAGE = 1000
"""Maximum number of objects in one answer."""


def read(session: Session, objects: t.Iterable[t.Any], paths: t.Sequence[str]) -> dict[t.Any, Values]:
    """Return the given properties of the given objects, all of one type.

    Objects that no longer exist, or that the user may not see, are left out.
    """
    selected = [_collector().ObjectSpec(obj=obj) for obj in objects]
    if not selected:
        return {}
    return _retrieve_existing(session, selected, [_property_spec(type(selected[0].obj), paths)])


def read_kinds(
    session: Session, paths: t.Mapping[t.Any, t.Sequence[str]], objects: t.Iterable[t.Any]
) -> dict[t.Any, Values]:
    """Return properties as :func:`read` does, of objects of different types, with one call.

    :param paths: type → the properties of the objects that have it, or a type derived from it.
    """
    selected = [_collector().ObjectSpec(obj=obj) for obj in objects]
    if not selected:
        return {}
    kinds = {kind for kind in paths if any(isinstance(spec.obj, kind) for spec in selected)}
    return _retrieve_existing(session, selected, [_property_spec(kind, paths[kind]) for kind in paths if kind in kinds])


def scan(session: Session, root: t.Any, kind: t.Any, paths: t.Sequence[str]) -> dict[t.Any, Values]:
    """Return the given properties of every object of pyVmomi type ``kind`` below ``root``.

    :param root: a folder, datacenter, resource pool or host.
    """
    return session.ask(_scan, session, root, kind, paths)


def _scan(session: Session, root: t.Any, kind: t.Any, paths: t.Sequence[str]) -> dict[t.Any, Values]:
    """Carry out :func:`scan`."""
    return _retrieve(session, [_view_spec(_view_below(session, root, kind))], [_property_spec(kind, paths)])


def _view_below(session: Session, root: t.Any, kind: t.Any) -> t.Any:
    """Return a view that stays until the session ends, for the next scan: it lists what exists then."""
    key = session.logins, root, kind
    if key not in session.views:
        create = session.content.viewManager.CreateContainerView
        session.views[key] = session.call_once(create, container=root, type=[kind], recursive=True)
    return session.views[key]


Related = t.Mapping[str, tuple[t.Any, t.Sequence[str]]]
"""Property path of a VM that refers to other objects → the type of these objects, and the properties to read of them.

A path may lead through a data object, as ``runtime.host`` does (programs for vCenter traverse it).
"""


def read_with_ancestors(
    session: Session,
    objects: t.Iterable[t.Any],
    paths: t.Sequence[str],
    vapp_paths: t.Sequence[str] = (),
    related: Related = MappingProxyType({}),
) -> tuple[dict[t.Any, Values], dict[t.Any, Values]]:
    """Return properties as :func:`read` does, and ``name`` and ``parent`` of all ancestors, with the same call.

    The objects may have different types if all of these types have the properties.

    :param vapp_paths: further properties of the vApps above.
    :param related: what else to read; returned with the ancestors.
    """
    objects = list(objects)
    if not objects:
        return {}, {}
    found = _retrieve_existing(
        session,
        [_collector().ObjectSpec(obj=obj, selectSet=_around(related)) for obj in objects],
        _paths_around({type(obj) for obj in objects}, paths, vapp_paths, related),
    )
    wanted = set(objects)
    return (
        {obj: values for obj, values in found.items() if obj in wanted},
        {obj: values for obj, values in found.items() if obj not in wanted},
    )


def scan_with_ancestors(
    session: Session, root: t.Any, kind: t.Any, paths: t.Sequence[str], vapp_paths: t.Sequence[str] = ()
) -> tuple[dict[t.Any, Values], dict[t.Any, Values]]:
    """Return properties as :func:`scan` does, and those of all ancestors as :func:`read_with_ancestors` does.

    The request does not grow with the number of objects.
    """

    def read_all() -> dict[t.Any, Values]:
        spec = _view_spec(_view_below(session, root, kind), _around({}))
        return _retrieve(session, [spec], _paths_around([kind], paths, vapp_paths, {}))

    found = session.ask(read_all)
    return (
        {obj: values for obj, values in found.items() if isinstance(obj, kind)},
        {obj: values for obj, values in found.items() if not isinstance(obj, kind)},
    )


def _around(related: Related) -> list[t.Any]:
    """Return what to read with an object: its ancestors, and what is related to a VM."""
    collector = _collector()
    upwards = [
        collector.TraversalSpec(
            name=name,
            type=kind,
            path=path,
            skip=False,
            selectSet=[collector.SelectionSpec(name=name) for name in _UPWARDS],
        )
        for name, (kind, path) in {
            "entity": (vim.ManagedEntity, "parent"),
            "vm": (vim.VirtualMachine, "parentVApp"),
            "vapp": (vim.VirtualApp, "parentFolder"),
        }.items()
    ]
    aside = [collector.TraversalSpec(name=path, type=vim.VirtualMachine, path=path, skip=False) for path in related]
    return [*upwards, *aside]


def _paths_around(
    kinds: t.Iterable[t.Any], paths: t.Sequence[str], vapp_paths: t.Sequence[str], related: Related
) -> list[t.Any]:
    """Return the properties to read of objects of these types, and of what :func:`_around` selects."""
    wanted_paths: dict[t.Any, list[str]] = {
        vim.Folder: ["name", "parent"],
        vim.Datacenter: ["name", "parent"],
        vim.ComputeResource: ["name", "parent"],
        vim.VirtualApp: ["name", "parent", "parentFolder", *vapp_paths],
    }
    for kind, of_related in related.values():
        wanted_paths.setdefault(kind, []).extend(of_related)
    for kind in kinds:
        of_kind = wanted_paths.setdefault(kind, ["name", "parent"])
        of_kind += [*paths, *(["parentVApp"] if issubclass(kind, vim.VirtualMachine) else [])]
    return [_property_spec(kind, of_it) for kind, of_it in wanted_paths.items()]


_UPWARDS = ("entity", "vm", "vapp")


_Paths = tuple[tuple[t.Any, tuple[str, ...]], ...]
"""The properties to watch, for each pyVmomi type."""


@dataclass(eq=False)
class _Filter:
    """A list view, its objects, and a collector with a filter over them. All of it ends with the session.

    :param login: the session's :attr:`logins` when it was created.
    """

    login: int
    paths: _Paths
    view: t.Any
    collector: t.Any
    objects: set[t.Any]


class Watch:
    """Report every change on a set of objects as it happens.

    One filter over one list view; objects can be added while it runs. No other
    watch uses its collector at the same time, so that watches do not receive each other's
    updates. If the server ends the session, the view and the filter are
    created again, whichever thread logs in again, and every object is reported
    again in full.

    What a watch has created stays until the session ends, for the next watch
    of the same properties.

    :param paths: the properties to watch, for each pyVmomi type.
    """

    def __init__(self, session: Session, paths: t.Mapping[t.Any, t.Sequence[str]]) -> None:
        self._session = session
        self._paths = dict(paths)
        self._objects: dict[t.Any, None] = {}
        self._filter: _Filter | None = None
        self._version = ""
        self._unreadable: set[str] = set()
        self._is_lost = False
        self._unseen: set[t.Any] = set()
        """Objects that the server has not reported yet."""
        self._gone: dict[t.Any, None] = {}

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._filter is not None:
            with self._session.filtering:
                self._session.filters.append(self._filter)
        self._forget()

    def add(self, objects: t.Iterable[t.Any]) -> None:
        """Watch these objects too; the first update reports their current state."""
        self.exchange(objects, ())

    def exchange(self, add: t.Iterable[t.Any], remove: t.Iterable[t.Any]) -> None:
        """Add and remove objects with one call, or with none if nothing changes."""
        new = [obj for obj in dict.fromkeys(add) if obj not in self._objects]
        old = [obj for obj in dict.fromkeys(remove) if obj in self._objects]
        for obj in old:
            del self._objects[obj]
        self._objects.update(dict.fromkeys(new))
        self._unseen = self._unseen.union(new).difference(old)
        now = self._open_filter()
        if (new or old) and now is not None:
            try:
                self._lose(self._exchange(now, new, old))
            except _errors.Fault as fault:
                if fault.is_a("ManagedObjectNotFound"):
                    self._forget()
                    self._lose_missing(fault)
                else:
                    self._outlive(fault, now.login)
            except _errors.ConnectionLost:
                self._forget()
            except BaseException:  # a signal, for example
                self._forget()
                raise

    def start_over(self) -> None:
        """Report the current state of every object again, because some updates were not processed."""
        self._forget()

    def updates(self, seconds: float) -> list[tuple[t.Any, Values | None]]:
        """Wait for changes, at most these seconds, and return pairs of an object and its changed properties.

        The properties of an object that is gone are ``None``, even if it was gone before it was added. The list may be
        empty.
        """
        if self._gone:
            gone, self._gone = self._gone, {}
            return [(obj, None) for obj in gone]
        if not self._objects:
            return []
        longest = min(LONGEST_WAIT, max(0, int(self._session.budget.longest_wait(seconds) + 0.999)))
        login = self._session.logins
        try:
            now = self._open_filter() or self._open(login)
            is_first = not self._version
            if is_first:
                self._unseen = set(self._objects)
            # The next answer reports every new object that exists, so there is no need to wait.
            options = _collector().WaitOptions(maxWaitSeconds=0 if self._unseen else longest)
            update = self._session.call_once(now.collector.WaitForUpdatesEx, self._version, options)
        except _errors.Fault as fault:
            self._outlive(fault, login)
            return []
        except _errors.ConnectionLost:
            # Only time is lost: a new filter reports everything again. If this happens twice in a row, give up.
            self._forget()
            if self._is_lost:
                raise
            self._is_lost = True
            return []
        except UnknownType:
            # A fault type that pyVmomi cannot read would hide all other updates.
            if self._unreadable:
                raise
            self._unreadable = {"info.error"}
            self._forget()
            return []
        except BaseException:  # a signal, for example
            self._forget()
            raise
        self._is_lost = False
        if update is None:
            if self._unseen:
                self._lose_unseen(is_first)
            elif longest == LONGEST_WAIT and any(isinstance(obj, vim.Task) for obj in self._objects):
                self._lose_missing()  # vCenter reports no change of a task that it has discarded
            return []
        self._version = update.version
        changes = [
            (change.obj, None if str(change.kind) == "leave" else _values(self._session, change.obj, change.changeSet))
            for part in update.filterSet or []
            for change in part.objectSet or []
            if change.obj in self._objects
        ]
        self._unseen.difference_update(obj for obj, _values in changes)
        if self._unseen and not getattr(update, "truncated", False):
            self._lose_unseen(is_first)
        return changes

    def _lose(self, objects: t.Iterable[t.Any]) -> None:
        """Report objects as gone with the next updates."""
        for obj in list(objects):
            if obj in self._objects:
                del self._objects[obj]
                self._gone[obj] = None
            self._unseen.discard(obj)

    def _lose_unseen(self, is_first: bool) -> None:
        """Report objects as gone that an answer should have reported.

        The server reports nothing of an object that was added and has gone since.

        :param is_first: whether it was the first answer, which leaves out only what is gone. Otherwise, they are read.
        """
        unseen, self._unseen = self._unseen, set()
        self._lose(unseen if is_first else self._missing(unseen))

    def _lose_missing(self, fault: _errors.Fault | None = None) -> None:
        """Find out which objects are gone, and report them with the next updates.

        :param fault: raised if none of them is gone.
        """
        missing = self._missing(self._objects)
        if fault is not None and not missing:
            raise fault
        self._lose(missing)

    def _missing(self, objects: t.Collection[t.Any]) -> list[t.Any]:
        """Return those of the objects that do not exist, with one call."""
        there = read_kinds(self._session, {kind: paths[:1] for kind, paths in self._paths.items()}, objects)
        return [obj for obj in objects if obj not in there]

    def _outlive(self, fault: _errors.Fault, login: int) -> None:
        """Raise a fault unless it is caused by the end of the session, which also ends the view and the filter.

        :param login: the session's :attr:`logins` before the call.
        """
        if fault.is_a("NotAuthenticated"):
            self._session.renew(login)
        elif login == self._session.logins:
            raise fault

    def _open_filter(self) -> _Filter | None:
        """Return the filter of this watch if there is one, and it belongs to the current session."""
        return self._filter if self._filter is not None and self._filter.login == self._session.logins else None

    def _open(self, login: int) -> _Filter:
        paths = tuple(
            (kind, tuple(path for path in paths if path not in self._unreadable)) for kind, paths in self._paths.items()
        )
        self._version = ""
        self._filter = self._reused(login, paths) or self._created(login, paths)
        return self._filter

    def _reused(self, login: int, paths: _Paths) -> _Filter | None:
        """Return the filter of an earlier watch of the same properties, with the objects of this one."""
        filters = self._session.filters
        with self._session.filtering:
            entry = next((entry for entry in filters if (entry.login, entry.paths) == (login, paths)), None)
            if entry is None:
                return None
            filters.remove(entry)
        try:
            self._lose(self._exchange(entry, self._objects, entry.objects.difference(self._objects)))
        except _errors.Fault as fault:
            if not fault.is_a("ManagedObjectNotFound"):
                raise
            return None
        return entry

    def _created(self, login: int, paths: _Paths) -> _Filter:
        """Create a view and a filter. The first filter of a session gets the collector that the session has anyway."""
        content = self._session.content
        create = content.viewManager.CreateListView
        try:
            view = self._session.call_once(create, obj=list(self._objects))
        except _errors.Fault as fault:
            if not fault.is_a("ManagedObjectNotFound"):
                raise
            self._lose_missing(fault)
            view = self._session.call_once(create, obj=list(self._objects))
        collector = content.propertyCollector
        with self._session.filtering:
            is_taken = self._session.login_with_filter == login
            self._session.login_with_filter = login
        if is_taken:
            collector = self._session.call_once(collector.CreatePropertyCollector)
        self._session.call_once(
            collector.CreateFilter,
            _collector().FilterSpec(
                objectSet=[_view_spec(view)],
                propSet=[_property_spec(kind, of_kind) for kind, of_kind in paths],
            ),
            partialUpdates=False,
        )
        return _Filter(login, paths, view, collector, set(self._objects))

    def _exchange(self, now: _Filter, add: t.Collection[t.Any], remove: t.Collection[t.Any]) -> list[t.Any]:
        """Change the objects of a view with one call, and return those that the server does not find."""
        add = [obj for obj in add if obj not in now.objects]
        if not add and not remove:
            return []
        lost = self._session.call_once(now.view.ModifyListView, add=add or None, remove=list(remove) or None) or []
        now.objects.update(add)
        now.objects.difference_update(remove, lost)
        return lost

    def _forget(self) -> None:
        """Abandon the filter until the session ends: an unanswered request may still receive its next changes."""
        self._filter = None


def wait_for(watch: Watch, seconds: float, enough: t.Callable[[t.Any, Values | None], t.Any | None]) -> t.Any | None:
    """Pass updates to ``enough`` until it returns something, and return that; ``None``: the time is over."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        for obj, values in watch.updates(left):
            result = enough(obj, values)
            if result is not None:
                return result
    return None


def _collector() -> t.Any:
    return vmodl.query.PropertyCollector


def _property_spec(kind: t.Any, paths: t.Sequence[str]) -> t.Any:
    return _collector().PropertySpec(type=kind, pathSet=list(dict.fromkeys(paths)))


def _view_spec(view: t.Any, around: t.Sequence[t.Any] = ()) -> t.Any:
    """Return the objects of a view, and what to read around each of them."""
    # Both types of view list their objects in the property "view".
    traversal = _collector().TraversalSpec(
        name="view", type=type(view), path="view", skip=False, selectSet=list(around)
    )
    return _collector().ObjectSpec(obj=view, skip=True, selectSet=[traversal])


def _retrieve_existing(session: Session, objects: list[t.Any], properties: list[t.Any]) -> dict[t.Any, Values]:
    """Return properties as :func:`_retrieve` does, even if the server refuses a whole request because of one object."""
    try:
        return session.ask(_retrieve, session, objects, properties)
    except _errors.Fault as fault:
        if not fault.is_a("ManagedObjectNotFound"):
            raise
        result: dict[t.Any, Values] = {}
        if len(objects) > 1:
            for obj in objects:
                result.update(_retrieve_existing(session, [obj], properties))
        return result


def _retrieve(session: Session, objects: list[t.Any], properties: list[t.Any]) -> dict[t.Any, Values]:
    """Return all pages. Repeat only as a whole, because a token is valid once and ends with the session."""
    collector = session.content.propertyCollector
    spec = _collector().FilterSpec(objectSet=objects, propSet=properties, reportMissingObjectsInResults=True)
    options = _collector().RetrieveOptions(maxObjects=PAGE)
    result: dict[t.Any, Values] = {}
    page = session.call_once(collector.RetrievePropertiesEx, [spec], options)
    while page is not None:
        for content in page.objects:
            result[content.obj] = _values(session, content.obj, content.propSet)
        page = session.call_once(collector.ContinueRetrievePropertiesEx, page.token) if page.token else None
    return result


def _values(session: Session, managed: t.Any, properties: t.Any) -> Values:
    """Return the properties of an object as the server reports them.

    A value of another type than vSphere declares is unreliable; it must not be treated as an unset property either.

    :param properties: pyVmomi objects with a ``name`` and a ``val``.
    :raises UnknownType: there is such a value.
    """
    result: Values = {}
    for prop in properties or []:
        if prop.name == "info.error" and not isinstance(prop.val, vmodl.MethodFault):
            continue  # treated like a fault that pyVmomi does not know
        declared = _types.declaration(managed.__class__, prop.name) or _types.UNKNOWN
        found = _types.misfit(prop.val, declared)
        if found is not None:
            raise UnknownType(
                f"{session.server.hostname} answered with {found} as the property {prop.name} of "
                f"{_errors.described(managed)}. {INVALID}"
            )
        result[prop.name] = prop.val
    return result
