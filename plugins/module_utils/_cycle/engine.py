# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All parts of the engine for one host, connected to each other."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

from .._host.errors import HotpmemError
from .._host.programs import Runner
from .._host.sysfs import Sysfs
from .._image.state_copy import HELPER, Helper, StateCopy, unrestored_image
from .._kernel.jump_initrd import KINDS, JumpInitrd
from .._kernel.kexec_load import Kexec
from .._memory.dax_device import Dax
from .._memory.device_users import DeviceUsers
from .._memory.namespace import Namespace, Namespaces
from .._memory.namespace_conversion import Converter
from .._memory.ndctl import Ndctl
from .._memory.system_ram import SystemRam
from .hotplug import ROADS, HotPlug
from .preflight import Preflight


class Engine:
    """The parts of the engine.

    root: the directory that holds /sys, /proc and /dev. helper: the path of pmem-state. road: the kind of device that holds the
    image (hotplug.ROADS). jump_initrd: the kind of initrd that the collection builds for the jump (jump_initrd.KINDS).
    early: paths of the items that this initrd restores. network: True when it also loads the network drivers.
    """

    def __init__(
        self,
        root: str = "/",
        runner: Optional[Runner] = None,
        helper: str = HELPER,
        *,
        road: str = ROADS[0],
        jump_initrd: str = KINDS[0],
        early: Sequence[str] = (),
        network: bool = False,
    ) -> None:
        self.sysfs = Sysfs(root)
        self.runner = runner or Runner()
        self.namespaces = Namespaces(self.sysfs)
        self.dax = Dax(self.sysfs, self.runner)
        self.system_ram = SystemRam(self.dax)
        self.device_users = DeviceUsers(self.sysfs, self.runner)
        self.ndctl = Ndctl(self.runner)
        self.kexec = Kexec(self.sysfs, self.runner)
        self.jump_initrd = JumpInitrd(
            self.sysfs, self.runner, self.kexec, jump_initrd, helper=helper, dax=road == "dax", early=early, network=network
        )
        self.helper = Helper(self.runner, helper)
        self.copy = StateCopy(self.helper, self.sysfs)
        self.converter = Converter(
            self.namespaces, self.dax, self.device_users, self.ndctl, lambda device: unrestored_image(self.helper, device)
        )
        self.hotplug = HotPlug(self.namespaces, self.dax, self.system_ram, self.converter, copy=self.copy, road=road)
        self.preflight = Preflight(
            self.sysfs,
            self.namespaces,
            self.dax,
            self.kexec,
            self.helper,
            capacity_of=self.hotplug.capacity_of,
            check_name=self.hotplug.check_name,
        )

    def device_of(self, what: str, device: str = "", namespace: str = "") -> Tuple[str, Optional[Namespace]]:
        """Return the dax device and its namespace (None when no namespace owns it).

        device: the name of the dax device. Without it, namespace names a namespace, which must be in mode devdax. Raises HotpmemError.
        """
        if device:
            owner = next((one for one in self.namespaces.all() if one.chardev == device), None)
            return device, owner
        found = self.namespaces.find(namespace)
        if not found.chardev:
            state = f"is in mode {found.mode}" if found.mode != "devdax" else "is devdax, but disabled"
            raise HotpmemError(
                what,
                f"{found.name} {state}, so it has no dax device",
                "Convert it with the module pmem_namespace (mode: devdax), then try again",
                namespace=found.to_dict(),
            )
        return found.chardev, found

    def state_device(self, what: str, device: str = "", namespace: str = "") -> str:
        """Return the device that can hold an image: device itself, or the one that belongs to the namespace.

        Without a namespace, the host must have only one. The namespace must be raw, or devdax and bound to device_dax. Raises
        HotpmemError.
        """
        if device:
            return device
        found = self.namespaces.find(namespace)
        device = self.hotplug.device_of(found)
        if not device:
            in_use = ", and its memory is System RAM" if found.chardev and self.dax.driver_of(found.chardev) == "kmem" else ""
            said = f"{found.name} is in mode {found.mode}{in_use}, so it has no device that can hold an image"
            raise HotpmemError(what, said, "Hot-remove the memory first: use the module pmem_hotplug with state: removed")
        return device
