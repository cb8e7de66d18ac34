# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that the collection can read about a host. It changes nothing and never fails: what can't be read becomes a warning."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import partial
from typing import Any, Callable, Dict, List

from .._host.errors import HotpmemError
from .._host.host_lock import HostLock
from .._host.programs import Runner
from .._host.size import format_size
from .._host.sysfs import Sysfs
from .._image.state_copy import Helper, failure
from .._kernel.boot_loader import BootLoader
from .._kernel.kexec_load import DISABLED, Kexec
from .._memory.dax_device import Dax
from .._memory.memory_map import meminfo, read_physical_map
from .._memory.namespace import Namespaces
from .._memory.system_ram import SystemRam

TOOLS = ("ndctl", "daxctl", "kexec")


class HostReport:
    """Gathers the facts of a host. warnings: what could not be read, and why."""

    def __init__(self, sysfs: Sysfs, runner: Runner, helper: Helper) -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.helper = helper
        self.namespaces = Namespaces(sysfs)
        self.dax = Dax(sysfs, runner)
        self.warnings: List[str] = []

    def gather(self, wanted: str = "", device: str = "") -> Dict[str, Any]:
        """Return the facts. Sizes are in bytes.

        wanted: the namespace that ``selected`` describes. device: read the image from this device, not from that of the namespace.
        """
        if os.geteuid() != 0:
            self.warnings.append("This is not root: addresses, image and leaks can't be read. Run as root (become: true).")
        facts: Dict[str, Any] = {
            "regions": self._try(lambda: [one.to_dict() for one in self.namespaces.regions()], []),
            "namespaces": self._try(lambda: [one.to_dict() for one in self.namespaces.all()], []),
            "dax_devices": [self._try(partial(self._dax, name), {"device": name}) for name in self.dax.names()],
            "memory_blocks": self._try(self._blocks, {}),
            "memory": self._memory(),
            "reservation": BootLoader(self.sysfs, self.runner).record(),
            "memory_map": self._try(lambda: read_physical_map(self.sysfs), []),
            "tools": self._tools(),
            "helper_sha256": self.helper.sha256(),
            "leaks": [
                {"device": leak.device, "start": leak.start, "size": leak.size, "sentence": leak.sentence} for leak in self.dax.leaks()
            ],
        }
        owner = HostLock(self.sysfs).holder()
        facts["owner"] = dict(asdict(owner), words=owner.words) if owner else None
        facts["selected"] = self._try(lambda: self._selected(wanted), None)
        facts["kexec"] = self._try(self._kexec, {})
        facts["image"] = self._image(device, facts)
        facts["warnings"] = self.warnings + [f"{leak['sentence']}. Only a reboot gives it back." for leak in facts["leaks"]]
        return facts

    def _try(self, read: Callable[[], Any], default: Any) -> Any:
        try:
            return read()
        except HotpmemError as error:
            self.warnings.append(str(error))
        except OSError as error:
            self.warnings.append(f"Cannot read {error.filename}: {error.strerror}.")
        return default

    def _dax(self, name: str) -> Dict[str, Any]:
        shape = SystemRam(self.dax).shape(name)
        blocks = [block.to_dict() for block in shape.blocks]
        return dict(shape.device.to_dict(), usable_bytes=shape.gained, lost_bytes=shape.lost, memory=shape.to_dict(), blocks=blocks)

    def _blocks(self) -> Dict[str, Any]:
        blocks = self.dax.blocks.present(self.dax.blocks.numbers())
        return {
            "block_size": self.dax.blocks.block_size(),
            "auto_online": self.dax.blocks.auto_online() or None,
            "count": len(blocks),
            "online": sum(block.online for block in blocks),
            "movable": sum(block.zone == "Movable" for block in blocks),
            "offline": [block.number for block in blocks if not block.online],
        }

    def _memory(self) -> Dict[str, Any]:
        values = meminfo(self.sysfs.get("/proc/meminfo"))
        total = values.get("MemTotal", 0)
        return {"total_bytes": total, "available_bytes": values.get("MemAvailable", 0), "total": format_size(total)}

    def _tools(self) -> Dict[str, Any]:
        tools: Dict[str, Any] = {}
        for name in TOOLS:
            tools[name] = None
            if self.runner.which(name):
                done = self._try(partial(self.runner.run, [name, "--version"], timeout=30), None)
                tools[name] = done.stdout.strip() if done else None
            else:
                self.warnings.append(f"{name} is not installed.")
        tools["pmem-state"] = self._try(self.helper.version, None)
        return tools

    def _selected(self, wanted: str) -> Dict[str, Any]:
        """The wanted namespace, and the use of its dax device. ``driver`` is null unless the namespace is devdax and bound to a driver."""
        namespace = self.namespaces.find(wanted)
        facts = dict(namespace.to_dict(), driver=None, online_bytes=0)
        if namespace.chardev:
            shape = SystemRam(self.dax).shape(namespace.chardev, namespace.size)
            facts.update(
                driver=shape.device.driver or None,
                online_bytes=shape.to_dict()["online_bytes"],
                gained_bytes=shape.gained,
                lost_bytes=shape.lost,
            )
        elif namespace.mode == "raw" and namespace.start is not None:
            gain = SystemRam(self.dax).gain_of(namespace)
            facts.update(gained_bytes=gain, lost_bytes=namespace.size - gain)
        return facts

    def _kexec(self) -> Dict[str, Any]:
        kexec = Kexec(self.sysfs, self.runner)
        target = kexec.target(None, None, None)
        problems = kexec.problems(target)
        return {
            "loaded": kexec.loaded,
            "loaded_by_us": kexec.record() if kexec.loaded else None,
            "load_disabled": self.sysfs.get(DISABLED) == "1",
            "ready": not problems,
            "problems": problems,
            **target.to_dict(),
        }

    def _image(self, device: str, facts: Dict[str, Any]) -> Dict[str, Any]:
        """The header of the image on device. Without a device, on the device of the selected namespace, on either road."""
        selected = facts["selected"] or {}
        if not device and selected.get("mode") == "raw" and selected.get("blockdev"):
            device = f"/dev/{selected['blockdev']}"
        elif not device and selected.get("driver") == "device_dax":
            device = f"/dev/{selected['chardev']}"
        empty = {"state": "none", "device": device or None}
        if not device or facts["tools"]["pmem-state"] is None:
            return empty
        result = self._try(lambda: self.helper.call("info", device, timeout=60), None)
        if result is None:
            return dict(empty, state="unknown")
        image = result.get("image")
        if not image:
            self.warnings.append(str(failure(f"Cannot read the image on {device}", result)))
            return dict(empty, state="unknown")
        return dict(image, device=device)
