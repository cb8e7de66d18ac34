# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The save at a shutdown without a handoff: after the state units have stopped, and before the file systems are unmounted.

It never takes longer than its deadline and never blocks the shutdown. When it can't save, it records the reason.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict

from .._host.errors import HotpmemError, from_os_error
from .._host.records import COLD, HANDOFF, PENDING, SAVED, SHUTDOWN, Records
from .._host.sysfs import boot_id
from .._host.systemd import Services
from .._image.state_copy import DONE, failure
from .after_boot import clear_cold
from .engine import Engine
from .handoff import saved_record
from .node_settings import Settings, items_of
from .state_units import ORDERED, StateUnits

GOES_ON = ("kexec", "reboot")
_RESERVED = 5.0  # seconds left over for an orderly end
PATIENCE = 3.0  # seconds that a process may keep files of an item open after all units have stopped
# systemd stops this target first. What ended since has ended in this shutdown.
_FIRST = "multi-user.target"


class ShutdownSave:
    """The save at one shutdown. clock, pause: in seconds; the deadline is measured with them."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        services: Services,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.services = services
        self.clock = clock
        self.records = Records(engine.sysfs)
        self.units = StateUnits(engine.sysfs, services, settings, clock, pause)

    def run(self, deadline: float) -> Dict[str, Any]:
        """Save the state if this shutdown leads to another boot. deadline: seconds from now.

        Returns ``end`` (how the machine goes down), ``saved`` and ``said``. Records the answer, or the error, for the next boot.
        Raises HotpmemError when the state could not be saved.
        """
        try:
            try:
                answer = self._run(self.clock() + deadline)
            except OSError as error:
                raise from_os_error("Cannot save at shutdown", error) from error
        except HotpmemError as error:
            self.records.write_json(SHUTDOWN, {"boot_id": boot_id(self.engine.sysfs), "saved": False, "said": str(error)})
            raise
        if answer["end"]:
            self.records.write_json(SHUTDOWN, dict(answer, boot_id=boot_id(self.engine.sysfs)))
        return answer

    def _is_recorded(self) -> bool:
        """True when the handoff of this boot has completed its save and has not put the services back since.

        Without its record, an image of this boot is older than what the services have done since it was written.
        """
        saved = self.records.read_json(SAVED) or {}
        return self.records.exists(PENDING) and saved.get("boot_id_before") == boot_id(self.engine.sysfs)

    def _run(self, until: float) -> Dict[str, Any]:
        one = self.settings
        end = self.services.end()
        if end not in GOES_ON:
            said = f"nothing was saved, because memory does not survive a {end}" if end else "the machine is not shutting down"
            return {"end": end, "saved": False, "said": said}
        if not one.items:
            return {"end": end, "saved": False, "said": "the settings name no items"}
        what = "Cannot save at shutdown"
        found = self.engine.namespaces.find(one.namespace)
        device = self.engine.hotplug.device_of(found)
        image = self.engine.copy.info(device) if device else {"image": {"state": "none"}}
        stale = False
        if image["image"]["state"] == "valid":
            if not self.engine.copy.same_boot(image, "boot_id"):
                said = f"{device} holds an image that was not restored. That image is kept, and the state of this boot is not saved"
                raise HotpmemError(what, said, "After the boot, hotpmem-node status shows the image and what to do about it")
            if self._is_recorded():
                return {"end": end, "saved": True, "said": f"{device} already holds the state of this boot: the handoff saved it"}
            stale = True
        self._check_units(what)
        if not self.units.kept:
            return {"end": end, "saved": False, "said": f"nothing was saved: {'; '.join(self.units.left_out.values())}"}
        clock = self.engine.helper.clock()
        marks = {"units_stopped": time.clock_gettime_ns(time.CLOCK_BOOTTIME)}
        left = until - self.clock() - _RESERVED
        # At most half of the time: a page that can't be moved must not use up the time of the save.
        move = self.engine.hotplug.hot_remove(found, max(min(one.offline_timeout, left / 2), 1.0), one.force or stale)
        self.records.note_place(move.device, move.namespace.start, self.engine.hotplug.road)
        left = until - self.clock() - _RESERVED
        if left <= 0:
            raise HotpmemError(
                what, "the hot-remove of the memory took all the time until the deadline", "Raise hotpmem_shutdown_timeout", end=end
            )
        self.records.announce("Saved at shutdown by hotpmem-save.service; hotpmem-restore.service restores and removes this file.\n")
        result = self.engine.helper.call(
            "save", move.device, items_of(self.units.kept), timeout=min(one.copy_timeout, left), marks=marks, clock=clock, force=one.force
        )
        if result["exit"] != DONE:
            raise failure(what, result)
        self.records.write_json(SAVED, saved_record(result, f"shutdown ({end})"))
        said = "; ".join([f"saved {len(self.units.kept)} items to {move.device}", *self.units.left_out.values()])
        return {"end": end, "saved": True, "said": said}

    def _check_units(self, what: str) -> None:
        """Make sure that nothing changes the items any more, and leave out those that may be half written.

        Nothing can be refused in a shutdown. So the items of a unit that did not end well are left out, whatever on_dirty_stop says, and
        start cold in the next boot. Raises HotpmemError when a unit or a process still runs: then nothing is saved.
        """
        running = [unit.name for unit in self.units.find() if unit.runs and unit.name.endswith((*ORDERED, ".scope"))]
        if running:
            raise HotpmemError(
                what,
                f"{', '.join(running)} still runs, and its later writes would be missing from the image",
                "Find out why it did not stop before hotpmem-save.service: systemctl list-dependencies --after hotpmem-save.service. "
                "The playbook provision gives new units their drop-ins",
            )
        clear_cold(self.records, self.settings, self.units.failed())
        self.units.leave_out_dirty(self._began())
        for name, reason in self.units.left_out.items():
            self.records.write(f"{COLD}/{name}", reason + "\n")
        self.units.wait_for_files(PATIENCE)

    def _began(self) -> int:
        """When units began to stop for this shutdown, in microseconds of CLOCK_MONOTONIC. 0 when that is unknown."""
        record = self.records.read_json(HANDOFF) or {}
        if record.get("boot_id") == boot_id(self.engine.sysfs) and record.get("stage") in ("stop", "save", "jump"):
            # A handoff that leaves the save to this shutdown has stopped units before it began.
            return 0
        return int(self.services.properties(["ActiveExitTimestampMonotonic"], _FIRST).get("ActiveExitTimestampMonotonic") or 0)
