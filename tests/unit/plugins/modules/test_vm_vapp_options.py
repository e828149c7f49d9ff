# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests and results of vm_vapp_options with a vCenter in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from pyVmomi import vim, vmodl
from unit.fake_vcenter import OFF, ON, FakeVCenter

from ansible_collections.vmfork.vsphere.plugins.module_utils import _arguments, _errors, _module, _session
from ansible_collections.vmfork.vsphere.plugins.module_utils._ovf import vapp_export
from ansible_collections.vmfork.vsphere.plugins.modules import vm_vapp_options

SECRET = "vmforktest-a-secret-of-its-own"
RECONFIGURE = "ReconfigVM_Task"


class Server:
    """A vCenter with one VM that has vApp options."""

    def __init__(self, vcenter: FakeVCenter, session: _session.Session, state: str) -> None:
        self.vcenter = vcenter
        self.session = session
        self.vm = vcenter.vm("VM1", state)
        self.warnings: list[str] = []
        self.set(
            vim.vApp.PropertyInfo(key=5, id="hostname", type="string", value="old", userConfigurable=True),
            vim.vApp.PropertyInfo(key=6, id="admin", type="password", value="", userConfigurable=True),
        )
        vcenter.effects["ReconfigVM_Task"] = self.reconfigure

    @property
    def values(self) -> dict[str, Any]:
        return self.vcenter.objects[self.vm]

    def set(self, *properties: Any) -> None:
        """Set the vApp options as another client would."""
        self.values["config.vAppConfig"] = vim.vApp.VmConfigInfo(
            property=list(properties), ovfEnvironmentTransport=["com.vmware.guestInfo"]
        )
        self.values["config.changeVersion"] = f"{self.values.get('config.changeVersion', '')}1"

    def reconfigure(self, _vm: Any, spec: Any) -> None:
        if spec.changeVersion != self.values["config.changeVersion"]:
            raise vim.fault.ConcurrentAccess(msg="The configuration was changed.")
        if spec.vAppConfigRemoved:
            del self.values["config.vAppConfig"]
            return
        properties = {prop.key: prop for prop in self.values["config.vAppConfig"].property}
        for update in spec.vAppConfig.property:
            assert (update.operation == "add") != ((update.removeKey or update.info.key) in properties)
            if update.operation == "remove":
                del properties[update.removeKey]
            else:
                properties[update.info.key] = shown = copy.copy(update.info)
                if shown.type == "password":
                    shown.value = ""
        self.set(*properties.values())

    def run(self, check: bool = False, **given: Any) -> dict[str, Any]:
        spec = {**_arguments.vm_spec(), **vm_vapp_options.SPEC}
        params = {name: option.get("default") for name, option in spec.items()} | {"moid": self.vm._GetMoId()} | given
        if params["properties"]:
            entry = {name: option.get("default") for name, option in spec["properties"]["options"].items()}
            params["properties"] = [entry | prop for prop in params["properties"]]
        request = vm_vapp_options.parse(params)
        return vm_vapp_options.work(_module.Task(request, check, self.warnings.append), self.session)

    def sent(self) -> list[Any]:
        return [call.arguments["spec"] for call in self.vcenter.calls if call.method == RECONFIGURE]

    def stored(self) -> dict[str, str]:
        return {prop.id: prop.value for prop in self.values["config.vAppConfig"].property}


@pytest.fixture
def make(vcenter: FakeVCenter, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Server]:
    return lambda state=OFF, seconds=60.0: Server(vcenter, vcenter.use(monkeypatch, seconds), state)


def test_check_run_run_again(make: Callable[..., Server]) -> None:
    server = make()
    checked = server.run(check=True, values={"hostname": "new"})
    assert server.sent() == []
    done = server.run(values={"hostname": "new"})
    again = server.run(values={"hostname": "new"})
    assert checked == done
    assert (done["changed"], again["changed"]) == (True, False)
    assert again["after"] == again["before"] == done["after"]
    assert server.stored() == {"hostname": "new", "admin": ""}
    (spec,) = server.sent()
    assert spec.changeVersion == "1"
    assert [(edit.operation, edit.info.key) for edit in spec.vAppConfig.property] == [("edit", 5)]
    assert not done["needs_power_cycle"], "the VM is off"


def test_concurrent_change_is_not_overwritten(make: Callable[..., Server]) -> None:
    """The other change happens between the read and the reconfigure, and renumbers the properties."""
    server = make()

    def first(vm: Any, spec: Any) -> None:
        server.set(
            vim.vApp.PropertyInfo(key=0, id="other", type="string", value="theirs", userConfigurable=True),
            vim.vApp.PropertyInfo(key=5, id="role", type="string", value="theirs", userConfigurable=True),
            vim.vApp.PropertyInfo(key=9, id="hostname", type="string", value="old", userConfigurable=True),
        )
        server.vcenter.effects[RECONFIGURE] = server.reconfigure
        server.reconfigure(vm, spec)

    server.vcenter.effects[RECONFIGURE] = first
    done = server.run(values={"hostname": "new"})
    assert done["changed"]
    assert server.stored() == {"other": "theirs", "role": "theirs", "hostname": "new"}
    assert [prop["key"] for prop in done["before"]["properties"]] == ["other", "role", "hostname"]
    assert len(server.sent()) == 2


def test_same_change_by_another_client(make: Callable[..., Server]) -> None:
    server = make()

    def first(_vm: Any, spec: Any) -> None:
        server.set(vim.vApp.PropertyInfo(key=5, id="hostname", type="string", value="new", userConfigurable=True))
        server.reconfigure(_vm, spec)

    server.vcenter.effects[RECONFIGURE] = first
    done = server.run(values={"hostname": "new"})
    assert (done["changed"], done["before"], len(server.sent())) == (False, done["after"], 1)


def test_property_removed_by_another_client(make: Callable[..., Server]) -> None:
    """The property is gone at the second read: nothing more is sent."""
    server = make()

    def first(_vm: Any, spec: Any) -> None:
        server.set()
        server.reconfigure(_vm, spec)

    server.vcenter.effects[RECONFIGURE] = first
    with pytest.raises(_errors.Refused, match="it has no property hostname") as caught:
        server.run(values={"hostname": "new"})
    assert caught.value.details["changed"] is False
    assert len(server.sent()) == 1


def test_vm_that_is_always_busy(make: Callable[..., Server]) -> None:
    server = make(seconds=30.0)
    server.vcenter.fail(RECONFIGURE, vim.fault.ConcurrentAccess(msg="The configuration was changed."), times=1000)
    with pytest.raises(_errors.OperationFailed, match="Could not write the vApp options of VM VM1") as caught:
        server.run(values={"hostname": "new"})
    assert caught.value.details["changed"] is False
    assert 1 < len(server.sent()) < 40


@pytest.mark.parametrize("fault", ["NotUserConfigurableProperty", "InvalidPropertyValue", "InvalidPropertyType"])
def test_refusal_of_the_server(make: Callable[..., Server], fault: str) -> None:
    server = make()
    refusal = getattr(vim.fault, fault)(id="hostname", category="", label="", type="", value="", msg="It is not valid.")
    server.vcenter.fail(RECONFIGURE, refusal)
    with pytest.raises(_errors.OperationFailed, match="Could not write the vApp options of VM VM1: ") as caught:
        server.run(values={"hostname": "new"})
    assert caught.value.fault == fault
    assert caught.value.details["changed"] is False
    assert caught.value.details["before"] == caught.value.details["after"]


def test_success_without_effect(make: Callable[..., Server]) -> None:
    server = make()
    server.vcenter.effects[RECONFIGURE] = lambda _vm, spec: None
    with pytest.raises(_errors.OperationFailed, match=r"reported success.*they still differ in hostname") as caught:
        server.run(values={"hostname": "new"})
    assert caught.value.details["changed"] is True


def test_lost_answer(make: Callable[..., Server]) -> None:
    """It is unknown whether the request was carried out; a second run finds out."""
    server = make()
    server.vcenter.lose_answer(RECONFIGURE, carried_out=True)
    with pytest.raises(_errors.Error) as caught:
        server.run(values={"hostname": "new"})
    assert caught.value.details["changed"] is True
    server.vcenter.settle()
    assert server.run(values={"hostname": "new"})["changed"] is False


def test_configuration_that_is_not_shown(make: Callable[..., Server]) -> None:
    server = make()
    del server.values["config.vAppConfig"], server.values["config.changeVersion"]
    with pytest.raises(_errors.Refused, match="does not show the configuration"):
        server.run(enabled=True)
    assert server.sent() == []


def test_power_cycle(make: Callable[..., Server]) -> None:
    server = make(ON)
    labelled = server.run(properties=[{"key": "hostname", "label": "Name"}])
    done = server.run(values={"hostname": "new"})
    assert (labelled["changed"], labelled["needs_power_cycle"]) == (True, False)
    assert done["needs_power_cycle"]
    assert "VM VM1 is powered on" in done["power_cycle_reason"]


def test_suspended_vm(make: Callable[..., Server]) -> None:
    """A resumed VM has its old memory."""
    server = make("suspended")
    labelled = server.run(properties=[{"key": "hostname", "label": "Name"}])
    done = server.run(values={"hostname": "new"})
    assert (labelled["needs_power_cycle"], done["needs_power_cycle"]) == (False, True)
    assert "VM VM1 is suspended" in done["power_cycle_reason"]


@pytest.mark.parametrize("carried_out", [False, True])
def test_value_that_vcenter_accepts_only_as_a_default(make: Callable[..., Server], carried_out: bool) -> None:
    """It is sent as the value first, then as the default; other refusals are not retried."""
    server = make()
    what = "NotUserConfigurableProperty" if carried_out else "InvalidPropertyValue"
    refusal = getattr(vim.fault, what)(id="a", category="", label="", type="", value="", msg="It is not valid.")
    server.vcenter.fail(RECONFIGURE, refusal, times=1)
    given = {"unknown": "create", "properties": [{"key": "a", "value": "x", "user_configurable": False}]}
    if not carried_out:
        with pytest.raises(_errors.OperationFailed):
            server.run(**given)
        assert len(server.sent()) == 1
        return
    done = server.run(**given)
    first, second = (spec.vAppConfig.property[0].info for spec in server.sent())
    assert (first.value, first.defaultValue, second.value, second.defaultValue) == ("x", "", "", "x")
    assert done["changed"]
    assert any("were written as defaults" in warning for warning in server.warnings)
    assert not server.run(**given)["changed"]


def test_value_of_a_property_that_is_not_user_configurable(make: Callable[..., Server]) -> None:
    """It is written while the property is user-configurable; each reconfigure uses the current change version."""
    server = make()
    server.set(vim.vApp.PropertyInfo(key=5, id="build", type="string", value="7", userConfigurable=False))
    given = {
        "properties": [{"key": "build", "value": "8", "user_configurable": False}],
        "not_user_configurable": "force",
    }
    done = server.run(**given)
    sent = [(spec.changeVersion, spec.vAppConfig.property[0].info) for spec in server.sent()]
    assert [(version, info.value, info.userConfigurable) for version, info in sent] == [
        ("11", "8", True),
        ("111", "8", False),
    ]
    (before,), (after,) = done["before"]["properties"], done["after"]["properties"]
    assert (before["value"], after["value"], after["user_configurable"]) == ("7", "8", False)
    assert done["changed"]
    assert not server.run(**given)["changed"]


@pytest.mark.parametrize("how", ["fault", "lost", "signal", "refused", "time"])
def test_end_between_the_two_reconfigures(make: Callable[..., Server], how: str) -> None:
    """The first write is reported, and the same task completes it."""
    server = make()
    server.set(vim.vApp.PropertyInfo(key=5, id="build", type="string", value="7", userConfigurable=False))
    given = {
        "properties": [{"key": "build", "value": "8", "user_configurable": False}],
        "not_user_configurable": "force",
    }

    def first(vm: Any, spec: Any) -> None:
        server.reconfigure(vm, spec)
        server.vcenter.effects[RECONFIGURE] = server.reconfigure
        if how == "fault":
            server.vcenter.fail(RECONFIGURE, vmodl.fault.SystemError(msg="No space left."), times=1)
        elif how == "lost":
            server.vcenter.lose_answer(RECONFIGURE, carried_out=False)
        elif how == "refused":
            server.set()
        elif how == "time":
            server.session.deadline.end_now()
        else:
            server.session.budget.interrupt("SIGTERM")

    server.vcenter.effects[RECONFIGURE] = first
    with pytest.raises((_errors.Error, _errors.Interrupted)) as caught:
        server.run(**given)
    end: Any = caught.value
    assert "these properties may be user-configurable: build." in end.sentence
    assert "left unchanged" not in end.sentence
    assert str(end) == end.sentence
    assert end.details["changed"] is True
    assert [prop["value"] for prop in end.details["before"]["properties"]] == ["7"]
    if how in ("fault", "lost"):
        (after,) = end.details["after"]["properties"]
        assert (after["value"], after["user_configurable"]) == ("8", True)


def test_end_after_the_two_reconfigures(make: Callable[..., Server]) -> None:
    """The properties are not user-configurable any more, whatever else is wrong."""
    server = make()
    server.set(vim.vApp.PropertyInfo(key=5, id="build", type="string", value="7", userConfigurable=False))

    def first(vm: Any, spec: Any) -> None:
        server.reconfigure(vm, spec)
        server.vcenter.effects[RECONFIGURE] = second

    def second(vm: Any, spec: Any) -> None:
        server.reconfigure(vm, spec)
        server.values["config.vAppConfig"].property[0].value = "9"

    server.vcenter.effects[RECONFIGURE] = first
    with pytest.raises(_errors.OperationFailed) as caught:
        server.run(
            properties=[{"key": "build", "value": "8", "user_configurable": False}], not_user_configurable="force"
        )
    assert "are not as requested" in caught.value.sentence
    assert "may be user-configurable" not in caught.value.sentence


def test_second_run_after_an_end_between_the_two_reconfigures(make: Callable[..., Server]) -> None:
    server = make()
    server.set(vim.vApp.PropertyInfo(key=5, id="build", type="string", value="8", userConfigurable=True))
    given = {
        "properties": [{"key": "build", "value": "8", "user_configurable": False}],
        "not_user_configurable": "force",
    }
    assert server.run(**given)["changed"]
    (prop,) = server.values["config.vAppConfig"].property
    assert (prop.value, prop.userConfigurable, len(server.sent())) == ("8", False, 1)
    assert not server.run(**given)["changed"]


def test_value_that_vcenter_never_accepts(make: Callable[..., Server]) -> None:
    """It is sent as the value and as the default, and not a third time."""
    server = make()
    refusal = vim.fault.NotUserConfigurableProperty(id="a", category="", label="", type="", value="", msg="No.")
    server.vcenter.fail(RECONFIGURE, refusal, times=3)
    with pytest.raises(_errors.OperationFailed) as caught:
        server.run(unknown="create", properties=[{"key": "a", "value": "x", "user_configurable": False}])
    assert (len(server.sent()), caught.value.details["changed"]) == (2, False)


def test_secrets(make: Callable[..., Server]) -> None:
    server = make()
    done = server.run(secret_values={"admin": SECRET, "hostname": SECRET}, update_secrets="always")
    assert done["secrets_written"] == ["admin", "hostname"]
    assert SECRET not in str(done) + str(server.warnings)
    assert done["diff"]["before"]["properties"] != done["diff"]["after"]["properties"]
    (spec,) = server.sent()
    assert [edit.info.value for edit in spec.vAppConfig.property] == [SECRET, SECRET]


def stated(given: dict[str, Any]) -> str:
    """Return the given value, which is the only one."""
    if "properties" in given:
        return str(given["properties"][0]["default"])
    return str(next(iter((given.get("values") or given["secret_values"]).values())))


@pytest.mark.parametrize(
    "given",
    [
        {"secret_values": {"admin": SECRET}, "update_secrets": "always"},
        {"secret_values": {"hostname": SECRET}},
        {"values": {"hostname": f"password={SECRET}"}},
        {"properties": [{"key": "otk", "label": "Registration key", "default": SECRET}], "unknown": "create"},
    ],
)
def test_secret_that_vcenter_names_when_it_refuses_it(make: Callable[..., Server], given: dict[str, Any]) -> None:
    server = make()
    server.vcenter.fail(
        RECONFIGURE, vmodl.fault.InvalidArgument(msg=f"The value '{stated(given)}' of a property is invalid.")
    )
    with pytest.raises(_errors.OperationFailed, match="of a property is invalid") as caught:
        server.run(**given)
    assert SECRET not in f"{caught.value.sentence}{caught.value}{caught.value.details}{server.warnings}"


@pytest.mark.parametrize("given", [{"category": "Join"}, {"value": "new"}, {"type": "string(1..80)"}])
def test_secret_of_the_vm_that_vcenter_names(make: Callable[..., Server], given: dict[str, Any]) -> None:
    """An edit repeats the fields that it does not change."""
    server = make()
    server.set(
        vim.vApp.PropertyInfo(key=5, id="otk", label="Registration key", value=SECRET, userConfigurable=True),
    )
    server.vcenter.fail(RECONFIGURE, vmodl.fault.InvalidArgument(msg=f"The value '{SECRET}' of a property is invalid."))
    with pytest.raises(_errors.OperationFailed, match="of a property is invalid") as caught:
        server.run(properties=[{"key": "otk", **given}])
    assert SECRET not in f"{caught.value.sentence}{caught.value}{caught.value.details}{server.warnings}"


@pytest.mark.parametrize("keys", [None, ["role"]])
@pytest.mark.parametrize("refuses", [False, True])
def test_secret_known_only_from_the_document(
    make: Callable[..., Server], keys: list[str] | None, refuses: bool
) -> None:
    server = make()
    server.set(
        vim.vApp.PropertyInfo(key=5, id="hostname", type="string", value=SECRET, userConfigurable=True),
        vim.vApp.PropertyInfo(key=6, id="role", type="string", value="new", userConfigurable=True),
    )
    document = vapp_export.document("VM1", server.values, server.values["config.vAppConfig"], ["hostname"])
    server.values["config.vAppConfig"].property[1].value = "old"
    if refuses:
        server.vcenter.fail(RECONFIGURE, vmodl.fault.InvalidArgument(msg=f"The value '{SECRET}' is invalid."))
        with pytest.raises(_errors.OperationFailed, match="is invalid") as caught:
            server.run(restore_from=document, restore_keys=keys)
        assert SECRET not in f"{caught.value.sentence}{caught.value}{caught.value.details}"
        return
    done = server.run(restore_from=document, restore_keys=keys)
    assert done["changed"]
    assert SECRET not in str(done)
    assert server.stored() == {"hostname": SECRET, "role": "new"}


def test_removal(make: Callable[..., Server]) -> None:
    server = make()
    done = server.run(enabled=False, force=True)
    assert (done["changed"], done["after"]["enabled"]) == (True, False)
    assert server.sent()[0].vAppConfigRemoved is True
    assert server.sent()[0].vAppConfig is None
    assert [prop["key"] for prop in done["export"]["properties"]] == ["admin", "hostname"]
    assert any("the passwords admin cannot be read" in warning for warning in server.warnings)


def test_log() -> None:
    """Values may be passwords, which only the VM knows."""
    given = {"values": {"a": SECRET}, "properties": [{"key": "b", "value": SECRET, "default": SECRET, "label": "B"}]}
    shown = _arguments.shown(vm_vapp_options.SPEC, {**given, "secret_values": {"c": SECRET}})
    assert SECRET not in str(shown)
    assert shown["properties"][0]["label"] == "B"


def test_empty_strings_are_kept() -> None:
    given = {"values": {"a": ""}, "properties": [{"key": "b", "value": "", "label": "", "type": ""}]}
    assert _arguments.given(vm_vapp_options.SPEC, given) == {
        "values": {"a": ""},
        "properties": [{"key": "b", "value": "", "label": ""}],
    }
