# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The handoff takes a running machine to the jump.

When a step before the jump fails, it brings the machine back into service.

While the services run, it does the preflight, loads the kernel and hot-removes the memory. Then it
stops the services, saves the state and jumps. When a step fails, it puts everything back at once:
first the services, then the memory.

See docs/architecture.md#handoff.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional, Tuple

from .._host.errors import HotpmemError
from .._host.records import DEVICE, HANDOFF, PENDING, SAVED, SAVED_HERE, Records
from .._host.sysfs import boot_id
from .._host.systemd import Services
from .._image.state_copy import DONE, failure
from .._kernel.kexec_jump import Jump
from .._kernel.kexec_load import Target
from .._memory.namespace import Namespace
from .after_boot import clear_cold
from .engine import Engine
from .node_settings import Settings

STAGES = ("preflight", "kexec_load", "hot_remove", "stop", "save", "jump")


class Interrupted(BaseException):
    """A signal asked the handoff to end.

    It is a BaseException, so that no ``except Exception`` handles it like a failed step.
    """


class HandoffFailed(HotpmemError):
    """The handoff failed before the jump.

    ``stuck`` lists what could not be put back, as pairs of a sentence and the command that fixes
    it. When it is empty, everything is as before.
    """

    def __init__(self, what: str, said: str, todo: str, stuck: List[Tuple[str, str]], **details: Any) -> None:
        self.stuck = stuck
        super().__init__(what, said, todo, **details)


def boottime_ns() -> int:
    """CLOCK_BOOTTIME in ns (clock_gettime(2))."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def jump_target(engine: Engine, settings: Settings) -> Target:
    """The kernel, initrd and command line that a handoff jumps to.

    What the settings leave out comes from the running kernel. The handoff uses this target, and
    preflight and status check the same one. The collection's own initrd is used once it has been
    built.
    """
    initrd = engine.jump_initrd.ready() if settings.own_initrd else settings.initrd
    target = engine.kexec.target(settings.kernel or None, initrd or None, settings.command_line or None)
    return replace(target, check=settings.jump_check)


class Handoff:
    """One handoff.

    ``say`` gets a line at each step. ``now`` returns CLOCK_BOOTTIME in ns. ``shield`` is called
    before everything is put back; it blocks further signals.
    """

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
    def namespace(self) -> Namespace:
        """The namespace that the settings select, read again at each call.

        Raises HotpmemError when it is not found.
        """
        return self.engine.namespaces.find(self.settings.namespace)

    def target(self) -> Target:
        """The kernel, initrd and command line to jump to; see jump_target()."""
        return jump_target(self.engine, self.settings)

    def preflight(self) -> Dict[str, Any]:
        """Check that a handoff can work, and change nothing. Returns the numbers of Preflight.require().

        Raises HotpmemError with all reasons against the handoff.
        """
        settings = self.settings
        numbers = self.engine.preflight.require(settings.namespace, settings.state_items, settings.reserve, True, self.target())
        found = self.namespace
        device = self.engine.hotplug.device_of(found)
        image = self.engine.converter.image_of(device) if device and not settings.force else ""
        if image:
            raise HotpmemError(
                "This host is not ready",
                f"{device} holds a state image ({image}) that was not restored, and a save would overwrite it",
                f"Restore it with pmem-state restore --device {device}, or discard it with hotpmem-node hot-add --force",
                image=image,
            )
        # The hot-remove would refuse the same things. Find out now, before there is anything to put
        # back.
        planned = self.engine.hotplug.plan_remove(found, settings.force)
        self.was_ram = planned.before["mode"] == "system-ram"
        return numbers

    def plan(self) -> List[str]:
        """The steps that run() would do, in order.

        Changes nothing, and raises the same HotpmemError as preflight().
        """
        self.preflight()
        settings, target = self.settings, self.target()
        steps = [f"build {self.engine.jump_initrd.words}"] if settings.own_initrd and self.engine.jump_initrd.due else []
        steps += [] if self.engine.kexec.is_loaded(target) else [f"load {target.kernel} with {target.initrd or 'no initrd'}"]
        steps += self.engine.hotplug.plan_remove(self.namespace, settings.force).changes
        if self.jump.stops:
            steps.append(f"stop {', '.join(self.jump.stops)}")
        if settings.units:
            steps.append(f"stop {', '.join(settings.units)}")
        steps.append(f"save {', '.join(kept.name for kept in settings.items) or 'nothing'}")
        return steps + [self.jump.words]

    def run(self) -> None:
        """Do the handoff.

        With the method systemd it returns once the machine is going down. With the method fast it
        does not return. Raises HotpmemError when preflight refuses; nothing was changed then.
        Raises HandoffFailed when a later step fails, after everything was put back.
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
        except Interrupted as error:
            self.shield()
            if self.services.stopping():
                if self.stage == "jump":
                    # This is the shutdown that the jump itself started.
                    return
                # Somebody else shuts the machine down. hotpmem-save.service, which systemd stops
                # after this, saves the state.
                said = "the machine is being shut down, and hotpmem-save.service saves the state during the shutdown"
                raise HandoffFailed(
                    f"Handoff ended at {self.stage}", said, "You don't need to do anything", [], stage=self.stage
                ) from error
            raise self.put_back(HotpmemError("Handoff was interrupted", f"it received {error}", "")) from error

    def take_up(self) -> bool:
        """Read the stage of a handoff of this boot that was killed.

        The out-of-memory killer may do that, for example. Returns False when there is nothing to
        put back.
        """
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
        """The steps while the services run: load the kernel, hot-remove the memory."""
        settings, kexec = self.settings, self.engine.kexec
        # Write dirty data to the disks now, so that little is left to write when the services are
        # down.
        self.engine.runner.run(["sync"], timeout=60)
        self._enter("kexec_load")
        if self.settings.own_initrd:
            self.say(self.engine.jump_initrd.build()["said"])
        target = self.target()
        if not kexec.is_loaded(target):
            said = kexec.load(target)
            if said:
                self.say(said)
        self._enter("hot_remove")
        move = self.engine.hotplug.hot_remove(self.namespace, settings.offline_timeout, settings.force)
        self.device = move.device
        self.records.note_place(self.device, move.namespace.start, self.engine.hotplug.road)
        self.jump.mark = lambda: self.engine.helper.mark("jump", self.device)
        self.was_up = self.services.active([*self.jump.stops, *settings.units])
        clear_cold(self.records, settings, self.services.failed(settings.units))
        self.clock = self.engine.helper.clock()
        # This file must be on the disk before the services stop; without it the next boot treats
        # the image as out of date. While it exists, a unit that systemd restarts would stay down
        # (role unit_guard). So this is the last step before the stop.
        self.records.announce("hotpmem-node saves the state. hotpmem-restore.service restores it and removes this file.\n")

    def _inside(self) -> None:
        """The steps while the services are down: stop them, save the state.

        Every line here adds to the down time.
        """
        settings = self.settings
        self._enter("stop")
        for unit in self.jump.stops:
            self.services.stop([unit])
        self.marks["stopping"] = self.now()
        # systemd's time stamp is more exact, because systemctl needs some time before it reaches
        # systemd.
        began = self.services.stop(settings.units)
        self.marks["stopping"] = max(self.marks["stopping"], began)
        self.marks["units_stopped"] = self.now()
        self._enter("save")
        if settings.items:
            result = self.engine.helper.call(
                "save", self.device, settings.state_items, timeout=settings.copy_timeout, marks=self.marks, clock=self.clock
            )
            if result["exit"] != DONE:
                raise failure(f"Cannot save to {self.device}", result)
            self.records.write_json(SAVED, saved_record(result, settings.method))
            self.records.write(SAVED_HERE, "")

    def put_back(self, error: HotpmemError) -> HandoffFailed:
        """Put everything back after ``error``, and return the error to raise.

        The services come first, then the memory. When one step fails, the others are still done.
        """
        self.shield()
        what = f"Handoff failed at {self.stage.replace('_', ' ')}"
        self.say(f"{what}: putting everything back")
        stuck: List[Tuple[str, str]] = []

        def attempt(act: Callable[[], Any], sentence: str, command: str) -> None:
            try:
                act()
            except HotpmemError as second:
                stuck.append((f"{sentence} ({second.said})", command))

        self.records.remove(SAVED_HERE)
        attempt(self.jump.undo, "a file system is still read-only", "mount -o remount,rw /")
        # This must be on the disk before the units run again. If the machine then crashes while the
        # image still exists, the next boot does not restore it over newer state.
        attempt(lambda: self.records.remove(PENDING, sync=True), "the mark for a restore was not removed", f"rm {PENDING}")
        units = [unit for unit in self.was_up if unit not in self.jump.stops] + [one for one in self.jump.stops if one in self.was_up]
        attempt(lambda: self.services.start(units), f"{', '.join(units)} did not start", f"systemctl start {' '.join(units)}")
        down = (self.now() - self.marks["stopping"]) / 1e9 if "stopping" in self.marks else 0.0
        attempt(self._unload, "the kernel is still loaded for kexec", "kexec -s -u")
        if STAGES.index(self.stage) >= STAGES.index("hot_remove"):
            # Use force, because the units now use newer state than the image that this handoff
            # wrote. Don't use it when the device was not System RAM before and the hot-remove did
            # not succeed: what it holds is older than this handoff.
            force = self.was_ram or bool(self.device)
            attempt(
                lambda: self.engine.hotplug.hot_add(self.namespace, self.settings.offline_timeout, force),
                "the memory is not System RAM",
                "hotpmem-node hot-add --force",
            )
        self.records.remove(DEVICE)
        todo = f"{error.todo.rstrip('.')}. " if error.todo else ""
        todo += f"To try again, run: hotpmem-node handoff --method {self.settings.method}"
        if stuck:
            state = "NOT put back: " + "; ".join(sentence for sentence, _command in stuck)
            todo = f"To put it back, run: {'; '.join(command for _sentence, command in stuck)}. {todo}"
        else:
            state = "Everything is as before: the units run, the memory is System RAM and no kernel is loaded for kexec"
        if down:
            state += f". The units were down for {down:.1f} s"
        details = dict(error.details, stage=self.stage, down_seconds=round(down, 3), not_put_back=[one for one, _command in stuck])
        return HandoffFailed(what, f"{error.what}: {error.said.rstrip('.')}. {state}", todo, stuck, **details)

    def _unload(self) -> None:
        if self.engine.kexec.loaded:
            self.engine.kexec.unload()


def saved_record(result: Dict[str, Any], method: str) -> Dict[str, Any]:
    """The keys about the save in the record of the cycle, from the copy helper's result.

    Sizes are in bytes, times in seconds.
    """
    image = result.get("image") or {}
    return {
        "boot_id_before": image.get("boot_id"),
        "state_bytes": result.get("bytes"),
        "stored_bytes": result.get("stored_bytes"),
        "save_seconds": result.get("seconds"),
        "method": method,
        "items": [entry.get("name") for entry in result.get("items") or []],
    }
