# SPDX-FileCopyrightText: vmfork.vsphere contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs with vApp options, created with pyVmomi as by an administrator's script, and all methods to power them on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from functional.vcenter import VCenter
from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim

GUESTINFO = "com.vmware.guestInfo"
ISO = "iso"

DOCUMENT = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" '
    'xmlns:oe="http://schemas.dmtf.org/ovf/environment/1" xmlns:ve="http://www.vmware.com/schema/ovfenv" '
    'oe:id=""{marks}>\n<PropertySection>{properties}</PropertySection>{more}\n</Environment>\n'
)


def prop(
    key: str, value: str = "", default: str = "", kind: str = "string", class_id: str = "", instance_id: str = ""
) -> Any:
    """Return a vApp property; its integer key is set with the VM that receives it."""
    return vim.vApp.PropertyInfo(
        id=key,
        classId=class_id,
        instanceId=instance_id,
        type=kind,
        value=value,
        defaultValue=default,
        userConfigurable=True,
    )


def document(properties: dict[str, str], marks: str = "", more: str = "") -> str:
    """Return an OVF environment as found in a guest."""
    listed = "".join(f'<Property oe:key="{key}" oe:value="{value}"/>' for key, value in properties.items())
    return DOCUMENT.format(marks=marks and f" {marks}", properties=listed, more=more)


class Appliance:
    """A VM of an inventory; ``mo`` is its managed object."""

    def __init__(self, estate: Estate, moid: str) -> None:
        self.estate = estate
        self.vcenter = estate.vcenter
        self.moid = moid
        self.mo: Any = vim.VirtualMachine(moid, estate.service._stub)

    @property
    def name(self) -> str:
        return str(self.mo.name)

    @property
    def is_on(self) -> bool:
        return self.mo.runtime.powerState == "poweredOn"

    def reconfigure(self, **spec: Any) -> None:
        WaitForTask(self.mo.ReconfigVM_Task(vim.vm.ConfigSpec(**spec)))

    def set_vapp_options(
        self, *properties: Any, transports: tuple[str, ...] = (GUESTINFO,), product: str = "", **more: Any
    ) -> None:
        """Set its vApp options."""
        for number, prop in enumerate(properties):
            prop.key = number
        products = [vim.vApp.ProductInfo(key=0, name=product)] if product else []
        self.reconfigure(
            vAppConfig=vim.vApp.VmConfigSpec(
                property=[vim.vApp.PropertySpec(operation="add", info=prop) for prop in properties],
                product=[vim.vApp.ProductSpec(operation="add", info=product) for product in products],
                ovfEnvironmentTransport=list(transports),
                **more,
            )
        )

    def set_property(self, key: str, value: str) -> None:
        """Change the value of a property."""
        found = next(prop for prop in self.mo.config.vAppConfig.property if prop.id == key)
        found.value = value
        change = vim.vApp.PropertySpec(operation="edit", info=found)
        self.reconfigure(vAppConfig=vim.vApp.VmConfigSpec(property=[change]))

    def set_extra(self, key: str, value: str) -> None:
        self.reconfigure(extraConfig=[vim.option.OptionValue(key=key, value=value)])

    def power_on(self, origin: str = "vcenter", **more: Any) -> None:
        """Power it on through vCenter or at its host. It is powered off before, or its host fails."""
        if self.is_on and origin in ("vcenter", "esxi"):
            self.power_off()
        self.vcenter.control("POST", f"guests/{self.moid}/power-on", {"origin": origin, **more})

    def power_off(self) -> None:
        WaitForTask(self.mo.PowerOffVM_Task())

    def plant(self, text: str) -> None:
        """Have the guest overwrite its own OVF environment."""
        quoted = "'" + f"info-set guestinfo.ovfEnv {text}".replace("'", "'\\''") + "'"
        self.vcenter.in_guest(self.moid, f"vmtoolsd --cmd {quoted}")

    def set_tools(self, **settings: Any) -> None:
        """Set the state of VMware Tools in the guest."""
        self.vcenter.control("PATCH", f"guests/{self.moid}", settings)

    @property
    def guest_document(self) -> str | None:
        """Return the OVF environment that the guest finds."""
        found: str | None = self.vcenter.guest(self.moid)["guestinfo"].get("ovfEnv")
        return found


class Estate:
    """The VMs of a simulator, and a pyVmomi connection to it."""

    def __init__(self, vcenter: VCenter, service: Any) -> None:
        self.vcenter = vcenter
        self.service = service

    def appliance(self, name: str, *properties: Any, folder: str = "/DC0/vm", **options: Any) -> Appliance:
        """Return a new VM with vApp options, powered off."""
        made = self.bare(name, folder)
        made.set_vapp_options(*(properties or (prop("hostname", name),)), **options)
        return made

    def bare(self, name: str, folder: str = "/DC0/vm") -> Appliance:
        """Return a new VM without vApp options, powered off."""
        asked = {"vms": 1, "name": name, "folder": folder, "folders": [folder]}
        return Appliance(self, self.vcenter.control("POST", "inventory", asked)["moids"][0])

    def in_vapp(self, vapp: str, name: str) -> Appliance:
        """Return a running VM in a new vApp, a clone of the default parent."""
        source = self.existing(self.vcenter.parent).mo
        pool = source.resourcePool.CreateVApp(
            name=vapp, resSpec=source.resourcePool.config, configSpec=vim.vApp.VAppConfigSpec(), vmFolder=None
        )
        spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(pool=pool), powerOn=True)
        task = source.Clone(source.parent, name, spec)
        WaitForTask(task)
        return Appliance(self, task.info.result._GetMoId())

    def existing(self, name: str) -> Appliance:
        """Return a VM that the simulator has from the start."""
        return Appliance(self, self.vcenter.govc("find", "-i", "/", "-type", "m", "-name", name).strip().split(":")[1])


@contextmanager
def connected(url: str, user: str, password: str) -> Iterator[Any]:
    """Open a pyVmomi connection for the block."""
    address = urlsplit(url)
    service = SmartConnect(
        host=address.hostname, port=address.port, user=user, pwd=password, disableSslCertValidation=True
    )
    try:
        yield service
    finally:
        Disconnect(service)


@contextmanager
def estate(vcenter: VCenter) -> Iterator[Estate]:
    simulator = vcenter.simulator
    with connected(simulator.url, simulator.username, simulator.password) as service:
        yield Estate(vcenter, service)


@contextmanager
def at_the_host(vcenter: VCenter) -> Iterator[dict[str, Any]]:
    """Return the VMs of the ESXi host by name, as its user root sees them."""
    with connected(vcenter.simulator.esx_url, "root", vcenter.simulator.password) as service:
        folder = service.content.rootFolder.childEntity[0].vmFolder
        yield {vm.name: vm for vm in folder.childEntity}
