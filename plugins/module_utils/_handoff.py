# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The handoff: from a machine in service to the jump, and back into service when anything fails before it.

Before (services up): preflight, kernel loaded, memory removed. Inside (services down): stop, save, jump. What
fails is put back at once: services first, then memory. See docs/architecture.md#handoff.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional, Tuple

from ._boot import clear_cold
from ._engine import Engine
from ._errors import HotpmemError, from_os_error
from ._jump import Jump
from ._kexec import Target
from ._records import DEVICE, HANDOFF, PENDING, SAVED, SAVED_HERE, Records
from ._services import Services
from ._settings import Settings
from ._state_copy import DONE, failure
from ._sysfs import boot_id

STAGES = ("preflight", "kexec_load", "hot_remove", "stop", "save", "jump")


class Interrupted(BaseException):
    """A signal asked the handoff to end. Not an Exception: nothing on the way may take it for a failure of its own."""


class HandoffFailed(HotpmemError):
    """It did not jump. ``stuck``: what could not be put back, as (sentence, command); empty: all is as before."""

    def __init__(self, what: str, said: str, todo: str, stuck: List[Tuple[str, str]], **details: Any) -> None:
        self.stuck = stuck
        super().__init__(what, said, todo, **details)


def boottime_ns() -> int:
    """CLOCK_BOOTTIME, in ns."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Handoff:
    """One handoff. say: gets a line at each step. now: CLOCK_BOOTTIME in ns. shield: called before putting back, to hold off signals."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        services: Services,
        jump: Jump,
        *,
        say: Callable[[str], None] = lambda line: None,
        now: Callable[[], int] = boottime_ns,
        shield: Callable[[], None] = lambda: None,
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.services = services
        self.jump = jump
        self.say = say
        self.now = now
        self.shield = shield
        self.records = Records(engine.sysfs)
        self.stage = ""
        self.marks: Dict[str, int] = {}
        self.was_up: List[str] = []
        self.device = ""
        self.was_ram = False
        self.clock: Optional[Dict[str, Any]] = None

    @property
    def own_initrd(self) -> bool:
        """Whether the jump is to have an initrd of its own. Who names a kernel or an initrd gets that; and a minimal one knows the root
        file system that is mounted, not one that another command line names."""
        one = self.settings
        named = one.initrd or one.kernel or (one.jump_initrd == "minimal" and one.command_line)
        return one.jump_initrd != "default" and not named

    def target(self) -> Target:
        """What to jump to: the settings', and for what they leave out that of the running kernel."""
        one = self.settings
        initrd = self.engine.jump_initrd.ready() if self.own_initrd else one.initrd
        target = self.engine.kexec.target(one.kernel or None, initrd or None, one.command_line or None)
        return replace(target, check=one.jump_check)

    def preflight(self) -> Dict[str, Any]:
        """The numbers; raises HotpmemError with every reason against it. Changes nothing."""
        one = self.settings
        numbers = self.engine.preflight.require(one.namespace, one.state_items, one.reserve, True, self.target())
        found = self.engine.namespaces.find(one.namespace)
        device = self.engine.moves.device_of(found)
        image = self.engine.converter.image_of(device) if device and not one.force else ""
        if image:
            raise HotpmemError(
                "This host is not ready",
                f"{device} holds a state image ({image}) that was not restored, and a save would replace it",
                f"Restore it (pmem-state restore --device {device}), or give it up: hotpmem-node hot-add --force",
                image=image,
            )
        # What it would refuse is refused here, before anything is touched and there is something to put back.
        planned = self.engine.moves.plan_remove(one.namespace, one.force)
        self.was_ram = planned.before["mode"] == "system-ram"
        return numbers

    def plan(self) -> List[str]:
        """What run() would do, in order. Changes nothing; raises what run() would refuse for."""
        self.preflight()
        one, target = self.settings, self.target()
        steps = [f"make {self.engine.jump_initrd.words}"] if self.own_initrd and self.engine.jump_initrd.due else []
        steps += [] if self.engine.kexec.is_loaded(target) else [f"load {target.kernel} with {target.initrd or 'no initrd'}"]
        steps += self.engine.moves.plan_remove(one.namespace, one.force).changes
        if self.jump.stops:
            steps.append(f"stop {', '.join(self.jump.stops)}")
        if one.units:
            steps.append(f"stop {', '.join(one.units)}")
        steps.append(f"save {', '.join(kept.name for kept in one.items) or 'nothing'}")
        return steps + [self.jump.words]

    def run(self) -> None:
        """Do it. Returns once the jump is on its way (method systemd), or not at all. Raises HandoffFailed, everything put back.

        What preflight refuses is raised as it is: nothing was touched.
        """
        self._enter("preflight")
        self.preflight()
        self.marks["preflight"] = self.now()
        try:
            self._before()
            self._inside()
            self._enter("jump")
            self.jump.go()
        except HotpmemError as error:
            raise self.put_back(error) from error
        except OSError as error:
            raise self.put_back(from_os_error("Cannot go on", error)) from error
        except Interrupted as error:
            self.shield()
            if self._going_down():
                if self.stage == "jump":
                    # The shutdown that was asked for.
                    return
                # Somebody shuts the machine down: hotpmem-save.service, which ends after this, does what is left to do.
                said = "the machine is shutting down meanwhile; the state is saved by hotpmem-save.service"
                raise HandoffFailed(f"Handoff ended at {self.stage}", said, "Nothing is left to do", [], stage=self.stage) from error
            raise self.put_back(HotpmemError("Handoff was interrupted", str(error), "Run it again when you are ready")) from error

    def _going_down(self) -> bool:
        """Whether the machine shuts down. When systemd does not answer: whether it was asked to, by this handoff."""
        try:
            return self.services.stopping()
        except (HotpmemError, OSError):
            return self.stage == "jump" and self.settings.method == "systemd"

    def take_up(self) -> bool:
        """Where a handoff of this boot stood that was killed (out of memory, SIGKILL); False when there is none to put back."""
        record = self.records.read_json(HANDOFF) or {}
        if record.get("exit") is not None or record.get("boot_id") != boot_id(self.engine.sysfs) or record.get("stage") not in STAGES:
            return False
        self.stage, self.was_up, self.device = record["stage"], list(record.get("was_up") or []), str(record.get("device") or "")
        self.was_ram = record.get("was_ram") is True
        return self.stage != "preflight" and not self.services.stopping()

    def _enter(self, stage: str) -> None:
        self.stage = stage
        self.say(stage.replace("_", " "))
        record = {"stage": stage, "method": self.settings.method, "was_up": self.was_up, "device": self.device, "was_ram": self.was_ram}
        self.records.write_json(HANDOFF, dict(record, boot_id=boot_id(self.engine.sysfs), exit=None))

    def _before(self) -> None:
        """Services up."""
        one, kexec = self.settings, self.engine.kexec
        # Written now so that there is little left to write when the services are down.
        self.engine.runner.run(["sync"], timeout=60)
        self._enter("kexec_load")
        if self.own_initrd:
            self.say(self.engine.jump_initrd.build()["said"])
        target = self.target()
        if not kexec.is_loaded(target):
            said = kexec.load(target)
            if said:
                self.say(said)
        self._enter("hot_remove")
        move = self.engine.moves.hot_remove(one.namespace, one.offline_timeout, one.force)
        self.device = move.device
        self.records.note_place(self.device, move.namespace.start, self.engine.moves.road)
        self.jump.mark = lambda: self.engine.helper.mark("jump", self.device)
        self.was_up = self.services.active([*self.jump.stops, *one.units])
        clear_cold(self.records, one, self.services.failed(one.units))
        self.clock = self.engine.helper.clock()
        # On the disk before the services go down: without it the next boot takes an image for a stale one. From here
        # to the stop a unit that restarts by itself would stay down (role unit_guard), so this comes last.
        self.records.announce("Saved by hotpmem-node; restored, and removed, by hotpmem-restore.service.\n")

    def _inside(self) -> None:
        """Services down: every line here is down time."""
        one = self.settings
        self._enter("stop")
        for unit in self.jump.stops:
            self.services.stop([unit])
        self.marks["stopping"] = self.now()
        # To the microsecond: systemctl takes its time until systemd hears of it.
        began = self.services.stop(one.units)
        self.marks["stopping"] = max(self.marks["stopping"], began)
        self.marks["units_stopped"] = self.now()
        self._enter("save")
        if one.items:
            result = self.engine.helper.call(
                "save", self.device, one.state_items, timeout=one.copy_timeout, marks=self.marks, clock=self.clock
            )
            if result["exit"] != DONE:
                raise failure(f"Cannot save to {self.device}", result)
            self.records.write_json(SAVED, saved_record(result, one.method))
            self.records.write(SAVED_HERE, "")

    def put_back(self, error: HotpmemError) -> HandoffFailed:
        """Services first, memory after; whatever fails, the rest is done all the same. Returns the error to raise."""
        self.shield()
        what = f"Handoff failed at {self.stage.replace('_', ' ')}"
        self.say(f"{what}: putting everything back")
        stuck: List[Tuple[str, str]] = []

        def attempt(act: Callable[[], Any], sentence: str, command: str) -> None:
            try:
                act()
            except HotpmemError as second:
                stuck.append((f"{sentence} ({second.said})", command))
            except OSError as second:
                stuck.append((f"{sentence} ({from_os_error(what, second).said})", command))

        attempt(lambda: self.records.remove(SAVED_HERE), "hotpmem-save.service would not save", f"rm {SAVED_HERE}")
        attempt(self.jump.undo, "a file system is still read-only", "mount -o remount,rw /")
        # On the disk before the units go on: should the machine crash before the image is gone, nothing takes them back in time.
        attempt(lambda: self.records.remove(PENDING, sync=True), "a restore is still due", f"rm {PENDING}")
        units = [unit for unit in self.was_up if unit not in self.jump.stops] + [one for one in self.jump.stops if one in self.was_up]
        attempt(lambda: self.services.start(units), f"{', '.join(units)} did not start", f"systemctl start {' '.join(units)}")
        down = (self.now() - self.marks["stopping"]) / 1e9 if "stopping" in self.marks else 0.0
        attempt(self._unload, "the kernel is still loaded for kexec", "kexec -s -u")
        if STAGES.index(self.stage) >= STAGES.index("hot_remove"):
            # By force: an image on it is older than the state that the units use now. But not what was there before this handoff.
            force = self.was_ram or bool(self.device)
            attempt(
                lambda: self.engine.moves.hot_add(self.settings.namespace, self.settings.offline_timeout, force),
                "the memory is not System RAM",
                "hotpmem-node hot-add --force",
            )
        attempt(lambda: self.records.remove(DEVICE), "the record of the device is left", f"rm {DEVICE}")
        again = f"Then: hotpmem-node handoff --method {self.settings.method}"
        if stuck:
            state = "NOT put back: " + "; ".join(sentence for sentence, _command in stuck)
            todo = f"Run: {'; '.join(command for _sentence, command in stuck)}. {error.todo}. {again}"
        else:
            state = "the units run, the memory is System RAM and no kernel is loaded, as before"
            todo = f"{error.todo.rstrip('.')}. {again}"
        if down:
            state += f"; the units were down for {down:.1f} s"
        details = dict(error.details, stage=self.stage, down_seconds=round(down, 3), not_put_back=[one for one, _command in stuck])
        return HandoffFailed(what, f"{error.what}: {error.said}. {state}", todo, stuck, **details)

    def _unload(self) -> None:
        if self.engine.kexec.loaded:
            self.engine.kexec.unload()


def saved_record(result: Dict[str, Any], method: str) -> Dict[str, Any]:
    """What the record of the cycle will say of a save, from the helper's result."""
    image = result.get("image") or {}
    return {
        "boot_id_before": image.get("boot_id"),
        "state_bytes": result.get("bytes"),
        "stored_bytes": result.get("stored_bytes"),
        "save_seconds": result.get("seconds"),
        "method": method,
        "items": [entry.get("name") for entry in result.get("items") or []],
    }
