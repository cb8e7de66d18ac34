# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The handoff: from running services to the jump into the next kernel, and back to running services when a step fails.

While the services are up, the handoff runs the preflight, loads the kernel and hot-removes the memory. While they are down, it
saves the state and jumps. When a step fails, it starts the services first and puts the memory back afterwards.
docs/reference/handoff.md shows every step.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from functools import partial
from typing import Any, Callable, ContextManager, Dict, List, Optional, Tuple, Union

from .._host.errors import HotpmemError, from_os_error
from .._host.records import ANNOUNCED, COLD, DEVICE, GO, HANDOFF, PENDING, SAVED, SAVED_HERE, Records
from .._host.sysfs import boot_id
from .._host.systemd import Services
from .._image.huge_pages import prepare, reason_against, words
from .._image.state_copy import DONE, failure
from .._kernel.kexec_jump import Jump
from .._kernel.kexec_load import UNLOAD, Target
from .._memory.namespace import Namespace
from .after_boot import clear_cold
from .engine import Engine
from .jump_target import jump_target, uses_own_initrd
from .node_settings import Settings, items_of
from .state_first import order_next_boot
from .state_units import StateUnits

PATIENCE = 10.0  # seconds that a process may keep files of an item open after its unit has stopped
STAGES = ("preflight", "hold", "kexec_load", "hot_remove", "stop", "save", "jump")
_HOLD_POLL = 0.1  # seconds between two looks at the record that ends a hold


class Interrupted(BaseException):
    """A signal asked the handoff to end. It is not an Exception, so that no code takes it for an ordinary failure."""


class HandoffFailed(HotpmemError):
    """The handoff did not jump.

    stuck: what could not be put back, as pairs of a sentence and the command that fixes it. Empty: everything is as before.
    shutdown: nothing was put back, because the machine shuts down.
    """

    def __init__(self, what: str, said: str, todo: str, stuck: List[Tuple[str, str]], **details: Any) -> None:
        self.stuck = stuck
        self.shutdown = False
        super().__init__(what, said, todo, **details)


def boottime_ns() -> int:
    """CLOCK_BOOTTIME in nanoseconds (clock_gettime(2))."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Handoff:
    """One handoff.

    say: gets one line for each step. now: returns CLOCK_BOOTTIME in nanoseconds. shield: holds off signals while put_back() runs.
    run_id: the run that it belongs to. alone: keeps the single steps of that run out (HostLock.acting).
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
        run_id: str = "",
        alone: Callable[[], ContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.services = services
        self.jump = jump
        self.say = say
        self.now = now
        self.shield = shield
        self.run_id = run_id
        self.alone = alone
        self.records = Records(engine.sysfs)
        self.units = StateUnits(engine.sysfs, services, settings, jump.clock, jump.pause)
        self.stage = ""
        self.marks: Dict[str, int] = {}
        self.was_up: List[str] = []
        self.device = ""
        self.was_ram = False
        self.held = False
        self.prepared: Dict[str, Any] = {}
        self.clock: Optional[Dict[str, Any]] = None
        self.asked: List[str] = []  # options of the command line that name another kernel than the settings

    @property
    def namespace(self) -> Namespace:
        """The namespace that the settings name, read now. Raises HotpmemError."""
        return self.engine.namespaces.find(self.settings.namespace)

    def target(self) -> Optional[Target]:
        """What to load for kexec. None when the machine reboots through firmware."""
        return jump_target(self.engine, self.settings)

    def preflight(self) -> Dict[str, Any]:
        """Check that a handoff can succeed, and return the numbers. Changes nothing. Raises HotpmemError with every reason against it."""
        one, target = self.settings, self.target()
        numbers = self.engine.preflight.check(
            one.namespace, one.state_items, one.reserve, target is not None, target, of_units=self.units.problems
        ).require()
        found = self.namespace
        device = self.engine.hotplug.device_of(found)
        image = self.engine.converter.image_of(device) if device and not one.force else ""
        if image:
            raise HotpmemError(
                "This host is not ready",
                f"{device} holds a state image ({image}) that was not restored, and a save would overwrite it",
                f"Restore it (pmem-state restore --device {device}), or discard it (hotpmem-node hot-add --force)",
                image=image,
            )
        # What a hot-remove would refuse is refused here, before anything changes.
        planned = self.engine.hotplug.plan_remove(found, one.force)
        self.was_ram = self.was_ram or planned.before["mode"] == "system-ram"
        return numbers

    def plan(self) -> List[str]:
        """The steps of run(), in order. Changes nothing. Raises HotpmemError when run() would refuse."""
        numbers = self.preflight()
        one, target = self.settings, self.target()
        steps = []
        if uses_own_initrd(self.engine, one, target) and self.engine.jump_initrd.due:
            steps.append(f"make {self.engine.jump_initrd.words}")
        if target and not self.engine.kexec.is_loaded(target):
            steps.append(f"load {target.words}")
        steps += self.engine.hotplug.plan_remove(self.namespace, one.force).changes
        if not reason_against(self.engine.sysfs, one.state_items, one.reserve, one.prepare_seconds, numbers["online_bytes"]):
            steps.append(f"move {', '.join(kept.name for kept in one.items)} into huge pages, for at most {one.prepare_seconds:g} s")
        if self.jump.stops:
            steps.append(f"stop {', '.join(self.jump.stops)}")
        self.units.find()
        if self.units.running:
            steps.append(f"stop {', '.join(self.units.running)}")
        steps.append(f"save {', '.join(kept.name for kept in one.items) or 'nothing'}")
        return steps + [self.jump.words]

    def hold(self, renewals: Callable[[], int], lease: float) -> None:
        """Wait, with the services up, while a controller does the next steps with modules, until GO names this run.

        renewals: changes with each step that the controller does. lease: seconds that it may do nothing. Then, and after a signal,
        everything is put back, because nobody else may be left to do it. Raises as run() does.
        """
        self._enter("preflight")
        self.preflight()
        self.held = True
        self.records.remove(GO)
        self._enter("hold")
        seen, until = renewals(), self.jump.clock() + lease
        try:
            while self.engine.sysfs.get(GO) != self.run_id:
                if renewals() != seen:
                    seen, until = renewals(), self.jump.clock() + lease
                if self.jump.clock() >= until:
                    said = f"the controller did nothing for {lease:g} s"
                    raise HotpmemError("Cannot go on", said, "Find out what became of the play. If it was only slow, raise hotpmem_lease")
                self.jump.pause(_HOLD_POLL)
        except HotpmemError as error:
            self.shield()
            with self.alone():
                raise self.put_back(error) from error
        except Interrupted as error:
            self.shield()
            if self._is_stopping(otherwise=False):
                raise self._leave_to_shutdown("") from error
            with self.alone():
                raise self.put_back(HotpmemError("Handoff was given up", str(error), "Run it again when you are ready")) from error

    def run(self) -> None:
        """Hand the machine over to its next boot.

        With the method systemd it returns once systemd shuts the machine down. With the method fast it does not return. Raises
        HandoffFailed after it has put everything back, and HotpmemError when the preflight refuses: then nothing was changed.
        """
        by_systemd = self.jump.by_systemd
        if not self.held:
            self._enter("preflight")
            self.preflight()
        try:
            if self.held:
                # The controller has changed the host since hold() began.
                self.preflight()
            self.marks["preflight"] = self.now()
            self._before()
            self._inside()
            self._enter("jump")
            self.jump.go()
        except (HotpmemError, OSError) as error:
            failed = error if isinstance(error, HotpmemError) else from_os_error("Cannot go on", error)
            if self._is_stopping(otherwise=by_systemd and self.jump.going):
                self.shield()
                raise self._leave_to_shutdown(failed.said) from error
            raise self.put_back(failed) from error
        except Interrupted as error:
            self.shield()
            # The signal may be the end that systemctl kexec brings.
            if self._is_stopping(otherwise=by_systemd and self.stage == "jump"):
                if self.stage == "jump":
                    # This is the shutdown that the jump started.
                    return
                raise self._leave_to_shutdown("") from error
            raise self.put_back(HotpmemError("Handoff was interrupted", str(error), "Run it again when you are ready")) from error

    def take_up(self) -> bool:
        """Read how far a handoff of this boot came that was killed, by SIGKILL or for lack of memory.

        Returns False when nothing has to be put back.
        """
        record = self.records.read_json(HANDOFF) or {}
        if record.get("exit") is not None or record.get("boot_id") != boot_id(self.engine.sysfs) or record.get("stage") not in STAGES:
            return False
        self.stage, self.was_up, self.device = record["stage"], list(record.get("was_up") or []), str(record.get("device") or "")
        self.was_ram, self.held = record.get("was_ram") is True, record.get("held") is True
        self.run_id = str(record.get("run") or "")
        self.asked = [str(word) for word in record.get("asked") or []]
        self.jump.method = str(record.get("method") or self.jump.method)
        self.jump.remounted = [str(target) for target in record.get("remounted") or []]
        self.units.left_out = {str(name): str(reason) for name, reason in (record.get("left_out") or {}).items()}
        # This runs at the end of each jump by systemd as well, where it must not discard what was saved.
        asked_to_jump = self.stage == "jump" and self.jump.by_systemd
        return self.stage != "preflight" and not self._is_stopping(otherwise=asked_to_jump)

    def _is_stopping(self, otherwise: bool) -> bool:
        """True while the machine shuts down. otherwise: what to assume when systemd does not answer."""
        try:
            return self.services.stopping()
        except (HotpmemError, OSError):
            return otherwise

    def _leave_to_shutdown(self, reason: str) -> HandoffFailed:
        """The error for a machine that somebody else shuts down: hotpmem-save.service stops after this process and saves the state."""
        said = "the machine is shutting down, and hotpmem-save.service saves the state" + (f" ({reason})" if reason else "")
        error = HandoffFailed(f"Handoff ended at {self.stage}", said, "You need not do anything", [], stage=self.stage)
        error.shutdown = True
        return error

    def _enter(self, stage: str) -> None:
        self.stage = stage
        self.say(stage.replace("_", " "))
        self._write_record()

    def _write_record(self) -> None:
        """Write what put_back() needs after this process was killed: the stage, and what has been changed up to now."""
        record = {
            "stage": self.stage,
            "method": self.settings.method,
            "was_up": self.was_up,
            "device": self.device,
            "was_ram": self.was_ram,
            "held": self.held,
            "run": self.run_id,
            "asked": self.asked,
            "remounted": self.jump.remounted,
            "left_out": self.units.left_out,
        }
        self.records.write_json(HANDOFF, dict(record, boot_id=boot_id(self.engine.sysfs), exit=None))

    def _before(self) -> None:
        """The steps while the services are up."""
        one, kexec = self.settings, self.engine.kexec
        # Write dirty pages now, so that little is left to write while the services are down.
        self.engine.runner.run(["sync"], timeout=60)
        self._enter("kexec_load")
        if uses_own_initrd(self.engine, one, self.target()):
            self.say(self.engine.jump_initrd.build()["said"])
        target = self.target()
        if target and target.chosen:
            self.say(f"the jump goes to {target.words}")
        if target and not kexec.is_loaded(target):
            said = kexec.load(target)
            if said:
                self.say(said)
        said = order_next_boot(self.engine.sysfs, self.services, one, target.command_line if target else "")
        if said:
            self.say(said)
        self._enter("hot_remove")
        move = self.engine.hotplug.hot_remove(self.namespace, one.offline_timeout, one.force)
        self.device = move.device
        self.records.note_place(self.device, move.namespace.start, self.engine.hotplug.road)
        # After the hot-remove, which would have to move the huge pages.
        self.prepared = prepare(self.engine.sysfs, self.engine.helper, one.state_items, one.reserve, one.prepare_seconds)
        self.say(words(self.prepared))
        self.jump.mark = lambda: self.engine.helper.mark("jump", self.device)
        self.jump.note = lambda targets: self._write_record()
        self.units.find()
        self.was_up = [*self.services.active(self.jump.stops), *self.units.running]
        clear_cold(self.records, one, self.units.failed())
        self.clock = self.engine.helper.clock()
        # The note must be on the disk before the services stop: without it the next boot takes the image for a stale one.
        # It comes last, because from now on a unit that restarts by itself would stay down (role unit_guard).
        self.records.announce("Saved by hotpmem-node; restored, and removed, by hotpmem-restore.service.\n")

    def _inside(self) -> None:
        """The steps while the services are down. Every line here is down time."""
        one = self.settings
        self._enter("stop")
        for unit in self.jump.stops:
            self.services.stop([unit])
        self.marks["stopping"] = self.now()
        # systemd knows the moment to the microsecond. systemctl needs some time to reach systemd.
        self.marks["stopping"] = max(self.marks["stopping"], self.units.stop())
        self._note_left_out()
        self.units.wait_for_files(PATIENCE)
        self.marks["units_stopped"] = self.now()
        self._enter("save")
        kept = self.units.kept
        if kept:
            result = self.engine.helper.call(
                "save", self.device, items_of(kept), timeout=one.copy_timeout, marks=self.marks, clock=self.clock, force=one.force
            )
            if result["exit"] != DONE:
                raise failure(f"Cannot save to {self.device}", result)
            self.records.write_json(SAVED, dict(saved_record(result, one.method), prepare=self.prepared))
        if one.items:
            # Also when all items were left out: hotpmem-save.service must not save them.
            self.records.write(SAVED_HERE, "")

    def _note_left_out(self) -> None:
        """Note that items start cold in the next boot. The record comes first: put_back() removes the notes that it names."""
        if not self.units.left_out:
            return
        self._write_record()
        for name, reason in self.units.left_out.items():
            self.say(f"{name} is not saved: {reason}")
            self.records.write(f"{COLD}/{name}", reason + "\n", sync=True)

    def put_back(self, error: HotpmemError) -> HandoffFailed:
        """Start the services, then put the memory back. A step that fails does not stop the others. Returns the error to raise."""
        self.shield()
        what = f"Handoff failed at {self.stage.replace('_', ' ')}"
        self.say(f"{what}: putting everything back")
        stuck: List[Tuple[str, str]] = []

        def attempt(act: Callable[[], Any], sentence: str, command: Union[str, Callable[[], str]]) -> None:
            try:
                act()
            except (HotpmemError, OSError) as second:
                said = second.said if isinstance(second, HotpmemError) else from_os_error(what, second).said
                stuck.append((f"{sentence} ({said})", command if isinstance(command, str) else command()))

        attempt(lambda: self.records.remove(SAVED_HERE), "a shutdown would save nothing", f"rm {SAVED_HERE}")
        attempt(
            self.jump.undo,
            "file systems are still read-only",
            lambda: "; ".join(f"mount -o remount,rw {shlex.quote(target)}" for target in self.jump.remounted),
        )
        # This must be on the disk before the units start. If the machine crashes while the image still exists, the next boot must
        # not restore the older state.
        attempt(self.records.withdraw, "a restore is still due", f"rm {PENDING} {ANNOUNCED}")
        for name in self.units.left_out:
            attempt(partial(self.records.remove, f"{COLD}/{name}"), f"{name} would start cold", f"rm {COLD}/{name}")
        units = [unit for unit in self.was_up if unit not in self.jump.stops] + [one for one in self.jump.stops if one in self.was_up]
        attempt(
            lambda: self.services.start(units), f"{', '.join(units)} did not start", "systemctl start " + " ".join(map(shlex.quote, units))
        )
        down = (self.now() - self.marks["stopping"]) / 1e9 if "stopping" in self.marks else 0.0
        attempt(self._unload, "the kernel is still loaded for kexec", " ".join(UNLOAD))
        # While the host is held, a module of the controller removes the memory.
        if STAGES.index(self.stage) >= STAGES.index("hot_remove") or (self.held and self.was_ram):
            # force, because an image of this handoff is older than the state that the units use now. Data from before this handoff
            # is kept.
            force = self.was_ram or bool(self.device)
            attempt(
                lambda: self.engine.hotplug.hot_add(self.namespace, self.settings.offline_timeout, force),
                "the memory is not System RAM",
                "hotpmem-node hot-add --force",
            )
        attempt(lambda: self.records.remove(DEVICE), "the record of the device is left over", f"rm {DEVICE}")
        # The jump has the method that was asked for; the settings may name another one.
        words = " ".join(map(shlex.quote, ["hotpmem-node", "handoff", "--method", self.jump.method, *self.asked]))
        again = "Then run the play again" if self.run_id else f"Then: {words}"
        if stuck:
            state = "NOT put back: " + "; ".join(sentence for sentence, _command in stuck)
            todo = f"Run: {'; '.join(command for _sentence, command in stuck)}. {error.todo}. {again}"
        else:
            state = "The units run, the memory is System RAM and no kernel is loaded, as before"
            todo = f"{error.todo.rstrip('.')}. {again}"
        if down:
            state += f"; the units were down for {down:.1f} s"
        details = dict(error.details, stage=self.stage, down_seconds=round(down, 3), not_put_back=[one for one, _command in stuck])
        return HandoffFailed(what, f"{error.what}: {error.said}. {state}", todo, stuck, **details)

    def _unload(self) -> None:
        if self.engine.kexec.loaded:
            self.engine.kexec.unload()


def saved_record(result: Dict[str, Any], method: str) -> Dict[str, Any]:
    """What the record of the cycle says about a save. result: of pmem-state save."""
    image = result.get("image") or {}
    return {
        "boot_id_before": image.get("boot_id"),
        "state_bytes": result.get("bytes"),
        "stored_bytes": result.get("stored_bytes"),
        "save_seconds": result.get("seconds"),
        "method": method,
        "items": [entry.get("name") for entry in result.get("items") or []],
    }
