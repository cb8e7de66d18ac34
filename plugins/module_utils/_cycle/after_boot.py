# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps after the boot.

They report the outcome of each item, hot-add the memory when the image is not needed any more, and
record the cycle.
"""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Dict, List, Optional

from .._host.errors import HotpmemError
from .._host.records import COLD, HOLD, RESTORE, RUN, SAVED, SERVING, SHUTDOWN, Records
from .._host.size import format_size
from .._host.sysfs import boot_id
from .._host.systemd import Services
from .._image.restore_outcome import item_outcomes
from .._image.timeline import marks_of, summary, systemd_times
from .._memory.memory_map import meminfo
from .engine import Engine
from .hotplug import Transition
from .node_settings import Settings

CYCLE = "/var/lib/hotpmem/cycle.json"  # the record of the last cycle, for the report
CYCLES = "/var/lib/hotpmem/cycles"  # the records of the last KEEP cycles, one file each
_SAVED_BEFORE = f"{RUN}/saved-before.json"  # a copy of the previous boot's SAVED, written when this boot has hot-added the memory
RESTORE_UNIT = "hotpmem-restore.service"
KEEP = 20  # records of cycles
_STAMPS = ("Firmware", "Loader", "InitRD", "Userspace", "Finish")


class Held(HotpmemError):
    """An item with cold_start false was not restored.

    Its unit stays stopped, and the image is kept.
    """


class AfterBoot:
    """What the current boot has done with the saved state, and what is left to do."""

    def __init__(self, engine: Engine, settings: Settings, services: Services) -> None:
        self.engine = engine
        self.settings = settings
        self.services = services
        self.records = Records(engine.sysfs)

    @property
    def result(self) -> Optional[Dict[str, Any]]:
        """The copy helper's result, or the reason why no restore was tried.

        None when hotpmem-restore.service has not run in this boot.
        """
        return self.records.read_json(RESTORE)

    @property
    def due(self) -> bool:
        """True when this boot restored state, or had state to restore and lost it."""
        restored = any(entry.get("status") == "restored" for entry in (self.result or {}).get("items") or [])
        return restored or self.records.exists(f"{RUN}/due")

    @property
    def device(self) -> str:
        """The device on which the restore looked for the image, for use in messages.

        It is the word ``DEVICE`` when it is unknown.
        """
        device = (self.result or {}).get("device")
        try:
            return str(device or self.engine.hotplug.device_of(self.engine.namespaces.find(self.settings.namespace)) or "DEVICE")
        except HotpmemError:
            return "DEVICE"

    def outcomes(self) -> List[Dict[str, Any]]:
        """One outcome for each item; empty when no restore was due.

        ``down`` means that the item's unit is being held down now.
        """
        result = self.result
        if result is None or not self.due:
            return []
        error = result.get("error") or {}
        result.setdefault("msg", f"{error.get('what')}: {error.get('said')}" if error else None)
        entries = {entry.get("name"): entry for entry in result.get("items") or []}
        for kept in self.settings.items:
            reason = self.engine.sysfs.get(f"{RUN}/cold/{kept.name}")
            if reason:
                entries[kept.name] = {"name": kept.name, "status": "skipped", "error": reason}
        outcomes = item_outcomes(
            [kept.to_dict() for kept in self.settings.items], dict(result, items=list(entries.values())), saved=bool(self.last_save)
        )
        for outcome in outcomes:
            # hotpmem-node cold-start has removed the hold.
            if outcome["status"] == "down" and not self.records.exists(f"{HOLD}/{outcome['name']}"):
                outcome["status"] = "cold"
        return outcomes

    def hot_add(self) -> Transition:
        """Make the memory System RAM again, unless an item still needs the image on it.

        Raises Held when an item with cold_start false was not restored, and HotpmemError when the
        hot-add fails.
        """
        down = [outcome for outcome in self.outcomes() if outcome["status"] == "down"]
        if down:
            reasons = "; ".join(f"the item {one['name']} was not restored ({one['reason']}), and its cold_start is false" for one in down)
            kept = "Its unit stays" if len(down) == 1 else "Their units stay"
            names = " ".join(outcome["name"] for outcome in down)
            raise Held(
                "Cannot hot-add the memory",
                f"{reasons}. {kept} stopped, and the content of the device is kept",
                f"Check the image with pmem-state verify --device {self.device}. To start without the state and give up the image, run "
                f"hotpmem-node cold-start {names}",
                down=[outcome["name"] for outcome in down],
            )
        image = (self.result or {}).get("image") or {}
        # These images need not be kept: they were restored, or the outcomes report why they were
        # not. All other images are kept.
        force = self.settings.force or image.get("state") in ("valid", "damaged", "consumed")
        before = self.memory()
        found = self.engine.namespaces.find(self.settings.namespace)
        move = self.engine.hotplug.hot_add(found, self.settings.offline_timeout, force)
        self.records.write(SERVING, "The services have used their state since hotpmem-node hot-added the memory.\n")
        if move.changes and self.due:
            timeline = self.timeline(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
            self.record(before, {"timeline": timeline, **spans(timeline)})
        self._turn_over()
        return move

    def _turn_over(self) -> None:
        """Move the records about the end of the previous boot to /run.

        Otherwise the next boot would read them as the end of this one if this one ends with a power
        cut.
        """
        last = self.records.read_json(SHUTDOWN)
        if last is not None:
            self.records.write_json(f"{RUN}/shutdown.json", last)
        if self.last_save:
            self.records.write_json(_SAVED_BEFORE, self.last_save)
        self.records.remove(SHUTDOWN)
        self.records.remove(SAVED)

    @property
    def last_save(self) -> Dict[str, Any]:
        """The record of the save at the end of the previous boot; empty when that boot saved nothing."""
        last = self.records.read_json(_SAVED_BEFORE) or self.records.read_json(SAVED) or {}
        return {} if last.get("boot_id_before") == boot_id(self.engine.sysfs) else last

    @property
    def last_end(self) -> str:
        """What the previous boot recorded about its shutdown; the empty string when it recorded nothing."""
        last = self.records.read_json(f"{RUN}/shutdown.json") or self.records.read_json(SHUTDOWN) or {}
        return str(last.get("said") or "")

    def manager(self) -> Dict[str, str]:
        """systemd's time stamps of this boot.

        They are CLOCK_MONOTONIC in microseconds (org.freedesktop.systemd1(5)).
        """
        return self.services.properties([f"{name}TimestampMonotonic" for name in _STAMPS])

    def timeline(self, hot_added: int) -> Dict[str, Any]:
        """The phases of the cycle that led to this boot. ``hot_added`` is CLOCK_BOOTTIME in ns.

        systemd's stamps are CLOCK_MONOTONIC in microseconds. It equals CLOCK_BOOTTIME while the
        machine has not been suspended.
        """
        result = self.result or {}
        manager = self.manager()
        times = {"hot_added": hot_added}
        user = manager.get("UserspaceTimestampMonotonic", "0")
        if user.isdigit() and int(user):
            times["userspace_start"] = int(user) * 1000
        # Units wait for this service, whatever its result. The initrd may have restored the items
        # earlier, or may still be doing so.
        names = ("ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic")
        unit = self.services.properties(names, RESTORE_UNIT)
        begun, ended = (int(unit.get(name) or 0) for name in names)
        if begun and ended:
            times.update(restoring=begun * 1000, restored=ended * 1000)
        # When the first unit was started, with its dependencies ready, and when the last unit was
        # ready.
        names = ("InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        units = [self.services.properties(names, unit) for unit in self.settings.units]
        starting, ready = ([int(one.get(name) or 0) for one in units] for name in names)
        if ready and all(ready):
            times["units_ready"] = max(ready) * 1000
            if all(starting):
                times["units_starting"] = min(starting) * 1000
        image = result.get("image") or {}
        if "(reboot)" in str(self.last_save.get("method")):
            # The reboot went through firmware, which reset the cycle counter. No time spans the two
            # boots.
            image = {}
        found = marks_of(image, result.get("clock"), self.engine.helper.clock(), times)
        return {**found, **summary(found["marks"], found["cycles_per_second"]), "systemd": systemd_times(manager)}

    def cold_start(self, names: List[str], start: Callable[[List[str]], None]) -> List[str]:
        """Let items that are held down start without their state. Returns their names.

        ``names`` lists the items; when it is empty, all held items start. ``start`` starts a list
        of units. Raises HotpmemError for an item that is not held down.
        """
        held = [kept.name for kept in self.settings.items if self.records.exists(f"{HOLD}/{kept.name}")]
        wrong = [name for name in names if name not in held]
        if wrong:
            raise HotpmemError(
                f"Cannot start {', '.join(wrong)} without state",
                f"only an item that is held down can be started this way; held down: {', '.join(held) or 'none'}",
                "Run hotpmem-node outcome to see what became of each item, and systemctl status to see why its unit does not run",
            )
        chosen = names or held
        for name in chosen:
            self.records.remove(f"{HOLD}/{name}")
        start(list(dict.fromkeys(kept.unit for kept in self.settings.items if kept.name in chosen and kept.unit)))
        return chosen

    def memory(self) -> Dict[str, Any]:
        """The total and available memory, with the keys of pmem_info."""
        values = meminfo(self.engine.sysfs.get("/proc/meminfo"))
        total = values.get("MemTotal", 0)
        return {"total_bytes": total, "available_bytes": values.get("MemAvailable", 0), "total": format_size(total)}

    def record(self, before: Dict[str, Any], more: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Write the record of this cycle, and keep a copy in CYCLES.

        It has the keys that the role post_boot writes. ``before`` is memory() before the hot-add.
        ``more`` holds further keys.
        """
        value = {
            **self.last_save,
            "boot_id": boot_id(self.engine.sysfs),
            "restore_seconds": (self.result or {}).get("seconds"),
            "items": self.outcomes(),
            "memory_before": before,
            "memory_with": self.memory(),
            **(more or {}),
        }
        self.records.write_json(CYCLE, value)
        names = [name for name in self.engine.sysfs.list(CYCLES) if name.endswith(".json")]
        number = 1 + max([int(name[:-5]) for name in names if name[:-5].isdigit()], default=0)
        self.records.write_json(f"{CYCLES}/{number}.json", value)
        for name in names[: max(len(names) + 1 - KEEP, 0)]:
            self.records.remove(f"{CYCLES}/{name}")
        return value


def spans(timeline: Dict[str, Any]) -> Dict[str, float]:
    """Two times for the report, in seconds.

    jump_seconds is the time from the end of the save until the units were ready; boot_seconds is
    the time from the start of the kernel. Empty when a mark for them is missing.
    """
    marks, rate = timeline["marks"], timeline["cycles_per_second"]
    if "units_ready" not in marks or "saved" not in marks:
        return {}
    return {
        "jump_seconds": round((marks["units_ready"] - marks["saved"]) / rate, 3),
        "boot_seconds": round((marks["units_ready"] - marks["kernel_start"]) / rate, 3),
    }


def clear_cold(records: Records, settings: Settings, failed: List[str]) -> None:
    """Remove the mark for a cold start, left by a crash, from items whose unit has not failed.

    ``failed`` lists the units in systemd's state failed.
    """
    for kept in settings.items:
        if kept.unit not in failed:
            records.remove(os.path.join(COLD, kept.name))
