# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the parts of the engine together for one host."""

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
    """All parts that work on one host.

    ``root`` is the directory that holds /sys, /proc and /dev. ``helper`` is the path of the copy
    helper pmem-state. ``road`` selects where the image is saved; see hotplug.py. ``jump_initrd``,
    ``early`` and ``network`` set the kind of the jump's initrd and what it does; see
    jump_initrd.py.
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
        """The dax device to work on, and its namespace (or None), from the name of either.

        ``device`` is used when it is given, else ``namespace``, else the only namespace. ``what``
        starts the error message. Raises HotpmemError unless the namespace has a dax device, that
        is, unless it is in mode devdax and enabled.
        """
        if device:
            owner = next((one for one in self.namespaces.all() if one.chardev == device), None)
            return device, owner
        found = self.namespaces.find(namespace)
        if not found.chardev:
            state = f"is in mode {found.mode}" if found.mode != "devdax" else "is in mode devdax but disabled"
            raise HotpmemError(
                what,
                f"{found.name} {state}, so it has no dax device",
                "Convert it first, with the module pmem_namespace and mode: devdax",
                namespace=found.to_dict(),
            )
        return found.chardev, found

    def state_device(self, what: str, device: str = "", namespace: str = "") -> str:
        """The device that can hold an image.

        It is ``device`` when that is given, else that of ``namespace``, else that of the only
        namespace. The namespace must be raw, or devdax and bound to the driver device_dax;
        otherwise this raises HotpmemError. ``what`` starts the error message.
        """
        if device:
            return device
        found = self.namespaces.find(namespace)
        device = self.hotplug.device_of(found)
        if not device:
            in_use = " and in use as System RAM" if found.chardev and self.dax.driver_of(found.chardev) == "kmem" else ""
            said = f"{found.name} is in mode {found.mode}{in_use}, so it has no device that can hold an image"
            raise HotpmemError(what, said, "Hot-remove it first, with the module pmem_hotplug and state: removed")
        return device
