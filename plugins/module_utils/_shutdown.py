# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save at an orderly shutdown that nobody handed off: after the state units stopped, before the file systems go.

Never longer than its deadline, and never in the way: what can't be saved is said, and the machine goes down all the same.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict

from ._boot import clear_cold
from ._engine import Engine
from ._errors import HotpmemError, from_os_error
from ._handoff import saved_record
from ._records import SAVED, SHUTDOWN, Records
from ._services import Services
from ._settings import Settings
from ._state_copy import DONE, failure
from ._sysfs import boot_id

GOES_ON = ("kexec", "reboot")
_RESERVED = 5.0  # seconds kept back for ending in order


class ShutdownSave:
    """One shutdown. clock: seconds, for the deadline."""

    def __init__(self, engine: Engine, settings: Settings, services: Services, clock: Callable[[], float] = time.monotonic) -> None:
        self.engine = engine
        self.settings = settings
        self.services = services
        self.clock = clock
        self.records = Records(engine.sysfs)

    def run(self, deadline: float) -> Dict[str, Any]:
        """Save when there is something to save. deadline: seconds from now. Returns ``saved`` and ``said``; raises HotpmemError.

        What was done, or why nothing was, is kept for the next boot to say.
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

    def _run(self, until: float) -> Dict[str, Any]:
        one = self.settings
        end = self.services.end()
        if end not in GOES_ON:
            said = f"nothing to do at {end}: memory does not outlive it" if end else "the machine is not shutting down"
            return {"end": end, "saved": False, "said": said}
        if not one.items:
            return {"end": end, "saved": False, "said": "there are no items to keep"}
        what = "Cannot save at shutdown"
        found = self.engine.namespaces.find(one.namespace)
        device = self.engine.moves.device_of(found)
        if device:
            image = self.engine.copy.info(device)
            if image["image"]["state"] == "valid":
                if self.engine.copy.same_boot(image, "boot_id"):
                    return {"end": end, "saved": True, "said": f"{device} holds the state of this boot already: the handoff saved it"}
                said = f"{device} holds an image that was not restored, and it is kept; the state of this boot is not saved"
                raise HotpmemError(what, said, "After the boot: hotpmem-node status says what to do about the image")
        running = self.services.active(one.units)
        if running:
            said = f"{', '.join(running)} still runs: what it writes would not be saved"
            raise HotpmemError(what, said, "Find out why it did not stop before hotpmem-save.service: systemctl list-dependencies --after")
        clear_cold(self.records, one, self.services.failed(one.units))
        clock = self.engine.helper.clock()
        marks = {"units_stopped": time.clock_gettime_ns(time.CLOCK_BOOTTIME)}
        left = until - self.clock() - _RESERVED
        # Half at most: a page that can't be moved must not eat the time of the save, and both must end before the deadline.
        move = self.engine.moves.hot_remove(one.namespace, max(min(one.offline_timeout, left / 2), 1.0), one.force)
        self.records.note_place(move.device, move.namespace.start, self.engine.moves.road)
        left = until - self.clock() - _RESERVED
        if left <= 0:
            raise HotpmemError(what, "removing the memory used up the time", "Raise shutdown_timeout", end=end)
        self.records.announce("Saved at shutdown by hotpmem-save.service; hotpmem-restore.service restores and removes this file.\n")
        result = self.engine.helper.call(
            "save", move.device, one.state_items, timeout=min(one.copy_timeout, left), marks=marks, clock=clock
        )
        if result["exit"] != DONE:
            raise failure(what, result)
        self.records.write_json(SAVED, saved_record(result, f"shutdown ({end})"))
        return {"end": end, "saved": True, "said": f"saved {len(one.items)} items to {move.device}"}
