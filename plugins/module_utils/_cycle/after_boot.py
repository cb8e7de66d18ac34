# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a boot: the outcome of each item, the hot-add once the image is no longer needed, and the record of the cycle."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Dict, List, Optional

from .._host.errors import HotpmemError
from .._host.records import COLD, HOLD, RESTORE, RUN, SAVED, SERVING, SHUTDOWN, Records
from .._host.size import format_size
from .._host.sysfs import Sysfs, boot_id
from .._host.systemd import Services
from .._image.restore_outcome import item_outcomes
from .._image.timeline import marks_of, summary, systemd_times, through_firmware, unit_times
from .._memory.memory_map import meminfo
from . import metrics
from .engine import Engine
from .hotplug import Transition
from .node_settings import Settings

CYCLE = "/var/lib/hotpmem/cycle.json"  # the last cycle, for the report
CYCLES = "/var/lib/hotpmem/cycles"  # the last cycles, one file each
_SAVED_BEFORE = f"{RUN}/saved-before.json"  # SAVED of the boot before, once this one has hot-added
RESTORE_UNIT = "hotpmem-restore.service"
KEEP = 20
_STAMPS = ("Firmware", "Loader", "InitRD", "Userspace", "Finish")


class Held(HotpmemError):
    """An item with cold_start false was not restored. Its unit stays down, and the image is kept."""


class AfterBoot:
    """What this boot has done with the saved state, and the steps that are left."""

    def __init__(self, engine: Engine, settings: Settings, services: Services) -> None:
        self.engine = engine
        self.settings = settings
        self.services = services
        self.records = Records(engine.sysfs)

    @property
    def result(self) -> Optional[Dict[str, Any]]:
        """The result of pmem-state restore, or the reason why it did not run. None before hotpmem-restore.service has run."""
        return self.records.read_json(RESTORE)

    @property
    def due(self) -> bool:
        """True when the previous boot left state behind, whether or not it could be restored."""
        restored = any(entry.get("status") == "restored" for entry in (self.result or {}).get("items") or [])
        return restored or self.records.exists(f"{RUN}/due")

    @property
    def device(self) -> str:
        """The device that the restore looked at, for messages. DEVICE when it is unknown."""
        device = (self.result or {}).get("device")
        try:
            return str(device or self.engine.hotplug.device_of(self.engine.namespaces.find(self.settings.namespace)) or "DEVICE")
        except HotpmemError:
            return "DEVICE"

    def outcomes(self) -> List[Dict[str, Any]]:
        """One outcome for each item, in their order; empty when no state was due. ``down`` means that the unit is held down now."""
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
            # The verb cold-start has released this item.
            if outcome["status"] == "down" and not self.records.exists(f"{HOLD}/{outcome['name']}"):
                outcome["status"] = "cold"
        return outcomes

    def hot_add(self) -> Transition:
        """Add the memory to System RAM, unless an item still needs the image on it. Raises Held or HotpmemError."""
        down = [outcome for outcome in self.outcomes() if outcome["status"] == "down"]
        names = " ".join(outcome["name"] for outcome in down)
        if down:
            raise Held(
                "Cannot hot-add the memory",
                "; ".join(f"{one['name']} was not restored ({one['reason']}), and its cold_start is false" for one in down)
                + ". Its unit stays down, and the image is kept",
                f"Check the image with pmem-state verify --device {self.device}. "
                f"To start without the state, run: hotpmem-node cold-start {names}",
                down=[outcome["name"] for outcome in down],
            )
        image = (self.result or {}).get("image") or {}
        # The outcomes above account for such an image: it was restored, or the reason is on record. Anything else is kept.
        force = self.settings.force or image.get("state") in ("valid", "damaged", "consumed")
        before = self.memory()
        found = self.engine.namespaces.find(self.settings.namespace)
        move = self.engine.hotplug.hot_add(found, self.settings.offline_timeout, force)
        self.records.write(SERVING, "State is in service since hotpmem-node hot-added the memory.\n")
        if move.changes and self.due:
            timeline = self.timeline(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
            self.record(before, {"timeline": timeline, **spans(timeline)})
        self._turn_over()
        return move

    def _turn_over(self) -> None:
        """Move the records of the previous boot away. After a power cut, the next boot must not take them for those of this boot."""
        last = self.records.read_json(SHUTDOWN)
        if last is not None:
            self.records.write_json(f"{RUN}/shutdown.json", last)
        if self.last_save:
            self.records.write_json(_SAVED_BEFORE, self.last_save)
        self.records.remove(SHUTDOWN)
        self.records.remove(SAVED)

    @property
    def last_save(self) -> Dict[str, Any]:
        """The record of the save that the previous boot completed; empty when it completed no save."""
        last = self.records.read_json(_SAVED_BEFORE) or self.records.read_json(SAVED) or {}
        return {} if last.get("boot_id_before") == boot_id(self.engine.sysfs) else last

    @property
    def last_end(self) -> str:
        """How the previous boot ended, as hotpmem-save.service recorded it. The empty string when it recorded nothing."""
        last = self.records.read_json(f"{RUN}/shutdown.json") or self.records.read_json(SHUTDOWN) or {}
        return str(last.get("said") or "")

    def write_metrics(self, hot_add_ok: bool) -> str:
        """Write the metrics of this boot, if the settings name a directory for them. hot_add_ok: False when the hot-add has failed.

        Returns the path of the file, or the empty string. Raises HotpmemError.
        """
        if not self.settings.metrics_dir:
            return ""
        numbers = recorded_cycles(self.engine.sysfs)
        cycles = [self.records.read_json(f"{CYCLES}/{number}.json") or {} for number in numbers]
        found = metrics.samples(
            cycles,
            total=numbers[-1] if numbers else 0,
            ended=self._recorded_at(f"{CYCLES}/{numbers[-1]}.json") if numbers else None,
            outcomes=self.outcomes(),
            hot_add_ok=hot_add_ok,
            online_bytes=self._online_bytes(),
        )
        return metrics.write(self.engine.sysfs, self.settings.metrics_dir, metrics.text_of(found))

    def _recorded_at(self, name: str) -> Optional[float]:
        try:
            return os.stat(self.engine.sysfs.path(name)).st_mtime
        except OSError:
            return None

    def _online_bytes(self) -> Optional[int]:
        """Bytes of the namespace that are System RAM now. None when that cannot be read."""
        try:
            found = self.engine.namespaces.find(self.settings.namespace)
            return int(self.engine.system_ram.shape(found.chardev, found.size).to_dict()["online_bytes"]) if found.chardev else 0
        except (HotpmemError, OSError):
            return None

    def manager(self) -> Dict[str, str]:
        """systemd's timestamps of this boot, as ``systemctl show`` prints them."""
        return self.services.properties([f"{name}TimestampMonotonic" for name in _STAMPS])

    def timeline(self, hot_added: int) -> Dict[str, Any]:
        """The phases of the cycle that led to this boot. hot_added: CLOCK_BOOTTIME in nanoseconds.

        systemd's timestamps are microseconds of CLOCK_MONOTONIC. In a boot that was never suspended they equal CLOCK_BOOTTIME.
        """
        result = self.result or {}
        manager = self.manager()
        times = {"hot_added": hot_added}
        user = manager.get("UserspaceTimestampMonotonic", "0")
        if user.isdigit() and int(user):
            times["userspace_start"] = int(user) * 1000
        # The units waited for this service, whatever its result. An initrd may have restored long before, or may still be running.
        names = ("ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic")
        unit = self.services.properties(names, RESTORE_UNIT)
        begun, ended = (int(unit.get(name) or 0) for name in names)
        if begun and ended:
            times.update(restoring=begun * 1000, restored=ended * 1000)
        # When systemd started the first unit, after everything that it is ordered after, and when the last one was ready. A oneshot
        # service that a timer starts is never ready, so it counts in neither.
        names = ("InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        units = {unit: self.services.properties(names, unit) for unit in self.settings.units}
        starting, ready = ({unit: int(one.get(name) or 0) * 1000 for unit, one in units.items()} for name in names)
        first = [starting[unit] for unit in units if ready[unit]]
        if first:
            times["units_ready"] = max(ready.values())
            if all(first):
                times["units_starting"] = min(first)
        image = result.get("image") or {}
        if through_firmware(self.last_save.get("method")):
            # A reboot through firmware resets the counter, so the marks of the previous boot mean nothing now.
            image = {}
        found = marks_of(image, result.get("clock"), self.engine.helper.clock(), times)
        marks, rate = found["marks"], found["cycles_per_second"]
        return {**found, **summary(marks, rate), "units": unit_times(ready, marks, rate), "systemd": systemd_times(manager)}

    def cold_start(self, names: List[str], start: Callable[[List[str]], Any]) -> List[str]:
        """Release held items, so that their units start without the state. names: empty for all held items. Returns the released names.

        Raises HotpmemError when a named item is not held.
        """
        held = [kept.name for kept in self.settings.items if self.records.exists(f"{HOLD}/{kept.name}")]
        wrong = [name for name in names if name not in held]
        if wrong:
            raise HotpmemError(
                f"Cannot start {', '.join(wrong)} cold",
                f"it is not held down. The held items are: {', '.join(held) or '(none)'}",
                "hotpmem-node outcome shows each item, and systemctl status shows its unit",
            )
        chosen = names or held
        for name in chosen:
            self.records.remove(f"{HOLD}/{name}")
        start(list(dict.fromkeys(kept.unit for kept in self.settings.items if kept.name in chosen and kept.unit)))
        return chosen

    def memory(self) -> Dict[str, Any]:
        """Total and available memory in bytes, as the module pmem_info shows them."""
        values = meminfo(self.engine.sysfs.get("/proc/meminfo"))
        total = values.get("MemTotal", 0)
        return {"total_bytes": total, "available_bytes": values.get("MemAvailable", 0), "total": format_size(total)}

    def record(self, before: Dict[str, Any], more: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Write the record of this cycle, as the role post_boot writes it, and keep a copy among the last cycles. Returns the record."""
        value = {
            **self.last_save,
            "boot_id": boot_id(self.engine.sysfs),
            "kernel": self.engine.kexec.files.release,
            "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "restore_seconds": (self.result or {}).get("seconds"),
            "items": self.outcomes(),
            "memory_before": before,
            "memory_with": self.memory(),
            **(more or {}),
        }
        self.records.write_json(CYCLE, value)
        numbers = recorded_cycles(self.engine.sysfs)
        self.records.write_json(f"{CYCLES}/{numbers[-1] + 1 if numbers else 1}.json", value)
        for number in numbers[: max(len(numbers) + 1 - KEEP, 0)]:
            self.records.remove(f"{CYCLES}/{number}.json")
        return value


def recorded_cycles(sysfs: Sysfs) -> List[int]:
    """The numbers of the cycles in CYCLES, the newest last."""
    return sorted(int(name[:-5]) for name in sysfs.list(CYCLES) if name.endswith(".json") and name[:-5].isdigit())


def spans(timeline: Dict[str, Any]) -> Dict[str, float]:
    """The seconds from the save, and from the start of the kernel, until the units were ready. The report shows them."""
    marks, rate = timeline["marks"], timeline["cycles_per_second"]
    if "units_ready" not in marks or "saved" not in marks:
        return {}
    return {
        "jump_seconds": round((marks["units_ready"] - marks["saved"]) / rate, 3),
        "boot_seconds": round((marks["units_ready"] - marks["kernel_start"]) / rate, 3),
    }


def clear_cold(records: Records, settings: Settings, failed: List[str]) -> None:
    """Remove the note that an item has to start cold, unless its unit is in the state failed. failed: those units."""
    for kept in settings.items:
        if kept.unit not in failed:
            records.remove(os.path.join(COLD, kept.name))
