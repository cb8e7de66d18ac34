# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Saves the state at an orderly shutdown without a handoff.

It runs after the state units have stopped, and before the file systems are unmounted.

It ends before its deadline and never blocks the shutdown. When the state can't be saved, it records
the reason, and the machine shuts down all the same.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict

from .._host.errors import HotpmemError
from .._host.records import SAVED, SHUTDOWN, Records
from .._host.sysfs import boot_id
from .._host.systemd import Services
from .._image.state_copy import DONE, failure
from .after_boot import clear_cold
from .engine import Engine
from .handoff import saved_record
from .node_settings import Settings

GOES_ON = ("kexec", "reboot")
_RESERVED = 5.0  # seconds before the deadline at which the save must end


class ShutdownSave:
    """The save of one shutdown. ``clock`` returns seconds, for the deadline."""

    def __init__(self, engine: Engine, settings: Settings, services: Services, clock: Callable[[], float] = time.monotonic) -> None:
        self.engine = engine
        self.settings = settings
        self.services = services
        self.clock = clock
        self.records = Records(engine.sysfs)

    def run(self, deadline: float) -> Dict[str, Any]:
        """Save the state when this shutdown needs that. ``deadline`` is in seconds from now.

        Returns ``saved`` and ``said``, a sentence; raises HotpmemError when the save fails. Records
        the result, so that the next boot can report it.
        """
        try:
            answer = self._run(self.clock() + deadline)
        except HotpmemError as error:
            self.records.write_json(SHUTDOWN, {"boot_id": boot_id(self.engine.sysfs), "saved": False, "said": str(error)})
            raise
        if answer["end"]:
            self.records.write_json(SHUTDOWN, dict(answer, boot_id=boot_id(self.engine.sysfs)))
        return answer

    def _run(self, until: float) -> Dict[str, Any]:
        settings = self.settings
        end = self.services.end()
        if end not in GOES_ON:
            said = f"nothing to do at {end}, because memory loses its content" if end else "the machine is not shutting down"
            return {"end": end, "saved": False, "said": said}
        if not settings.items:
            return {"end": end, "saved": False, "said": "no items are configured"}
        what = "Cannot save at shutdown"
        found = self.engine.namespaces.find(settings.namespace)
        device = self.engine.hotplug.device_of(found)
        if device:
            image = self.engine.copy.info(device)
            if image["image"]["state"] == "valid":
                if self.engine.copy.same_boot(image, "boot_id"):
                    return {"end": end, "saved": True, "said": f"the state of this boot is on {device} already: the handoff saved it"}
                said = f"{device} holds an image that was not restored. The image is kept, and the state of this boot is not saved"
                raise HotpmemError(what, said, "After the next boot, run hotpmem-node status to see what to do about the image")
        running = self.services.active(settings.units)
        if running:
            said = f"these units are still running: {', '.join(running)}. What they write from now on would not be saved"
            todo = "Find out why they did not stop before hotpmem-save.service, with systemctl list-dependencies --after"
            raise HotpmemError(what, said, todo)
        clear_cold(self.records, settings, self.services.failed(settings.units))
        clock = self.engine.helper.clock()
        marks = {"units_stopped": time.clock_gettime_ns(time.CLOCK_BOOTTIME)}
        left = until - self.clock() - _RESERVED
        # Use at most half of the time, so that a page that can't be moved leaves time for the save.
        # Both must end before the deadline.
        move = self.engine.hotplug.hot_remove(found, max(min(settings.offline_timeout, left / 2), 1.0), settings.force)
        self.records.note_place(move.device, move.namespace.start, self.engine.hotplug.road)
        left = until - self.clock() - _RESERVED
        if left <= 0:
            todo = "Increase hotpmem_shutdown_timeout, and apply the role node_agent again"
            raise HotpmemError(what, "the hot-remove of the memory left no time for the save", todo, end=end)
        self.records.announce("hotpmem-save.service saves the state. hotpmem-restore.service restores it and removes this file.\n")
        result = self.engine.helper.call(
            "save", move.device, settings.state_items, timeout=min(settings.copy_timeout, left), marks=marks, clock=clock
        )
        if result["exit"] != DONE:
            raise failure(what, result)
        self.records.write_json(SAVED, saved_record(result, f"shutdown ({end})"))
        return {"end": end, "saved": True, "said": f"saved {len(settings.items)} items to {move.device}"}
