# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A captured tree that answers writes the way the kernel was measured to; and a runner that records.

For the branches that a machine can't be made to take on demand: a block that stays busy twice and then moves, a kernel that
lies. What a machine can show is shown on machines, by the scenarios.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from typing import Callable, ClassVar, Dict, Iterator, List, NoReturn

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle import removed_at_stop
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.handoff import Handoff
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import from_dict
from ansible_collections.hotpmem.fleet.plugins.module_utils._host import unit_set
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import SystemCallError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Completed, Runner, ToolMissing
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.systemd import Services
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.state_copy import HELPER
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.kexec_jump import Jump

MEMORY = "/sys/devices/system/memory"
DAX = "/sys/devices/platform/e820_pmem/ndbus0/region0/dax0.0/dax0.0"


class Kernel(Sysfs):
    """Memory blocks 8 to 11 belong to dax0.0. ``busy`` maps a block to the errnos its next offlinings answer."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.writes: List[str] = []
        self.busy: Dict[int, List[int]] = {}
        self.ids: List[str] = []
        self.kmem_takes = True
        self.zone_given = {"online_movable": "Movable", "online_kernel": "Normal", "online": "Normal"}
        self.has_state = os.path.exists(self.path(f"{DAX}/state"))
        self.now = 0.0

    def clock(self) -> float:
        """Time passes only where the test says so."""
        return self.now

    def pause(self, seconds: float) -> None:
        """Sleeping moves the clock."""
        self.now += seconds

    def write_until(self, name: str, value: str, seconds: float) -> None:
        self.write(name, value)

    def write(self, name: str, value: str) -> None:
        self.writes.append(f"{value} > {os.path.basename(os.path.dirname(name))}/{os.path.basename(name)}")
        if "/memory/memory" in name:
            self._block(int(name.split("/memory/memory")[1].split("/", maxsplit=1)[0]), name, value)
        elif name == "/sys/bus/dax/devices/dax0.0/state":
            self._unplug(value)
        elif name.startswith("/sys/bus/dax/drivers/"):
            self._driver(name.split("/")[-2], name.rsplit("/", maxsplit=1)[-1], value)
        else:
            super().write(name, value)

    def set(self, name: str, value: str) -> None:
        """Change a file without recording it."""
        super().write(name, value)

    def block(self, number: int, state: str, zones: str) -> None:
        """Make or change a block."""
        base = self.path(f"{MEMORY}/memory{number}")
        os.makedirs(base, exist_ok=True)
        for attribute, value in (("state", state), ("valid_zones", zones)):
            with open(f"{base}/{attribute}", "w", encoding="utf-8") as file:
                file.write(value + "\n")

    def _block(self, number: int, name: str, value: str) -> None:
        online = self.get(name) != "offline"
        if value == "offline":
            if not online:
                raise SystemCallError("write", errno.EINVAL, "todo")
            if self.busy.get(number):
                answer = self.busy[number].pop(0)
                if answer == errno.ETIMEDOUT:
                    self.now += 1e6
                raise SystemCallError("write", answer, "todo")
            self.block(number, "offline", "Normal Movable")
        elif online:
            raise SystemCallError("write", errno.EINVAL, "todo")
        else:
            self.block(number, "online", self.zone_given[value])

    def _unplug(self, value: str) -> None:
        """As 7.3.4 was seen to: blocks that are online go offline first, and without all of them nothing changes."""
        assert value == "unplugged"
        online = [n for n in range(8, 12) if self.get(f"{MEMORY}/memory{n}/state", "offline") != "offline"]
        for number in online:
            if self.busy.get(number):
                raise SystemCallError("write", self.busy[number].pop(0), "todo")
        self._remove_blocks()
        self.set(f"{DAX}/state", value)

    def _remove_blocks(self) -> None:
        self._iomem(kmem=False)
        for number in range(8, 12):
            shutil.rmtree(self.path(f"{MEMORY}/memory{number}"), ignore_errors=True)

    def _driver(self, driver: str, action: str, device: str) -> None:
        link = self.path(f"{DAX}/driver")
        if action == "remove_id":
            self.ids = [one for one in self.ids if one != device]
            return
        if action == "new_id":
            self.ids.append(device)
            if os.path.islink(link) or not self.kmem_takes:
                return
        if action == "unbind":
            os.unlink(link)
            if driver == "kmem":
                if all(self.get(f"{MEMORY}/memory{n}/state", "offline") == "offline" for n in range(8, 12)):
                    self._remove_blocks()
                if self.has_state:
                    os.unlink(self.path(f"{DAX}/state"))
            return
        os.symlink(f"../../../../../../../bus/dax/drivers/{driver}", link)
        if driver == "kmem":
            self._iomem(kmem=True)
            policy = self.get(f"{MEMORY}/auto_online_blocks")
            if self.has_state:
                with open(self.path(f"{DAX}/state"), "w", encoding="utf-8") as file:
                    file.write(policy + "\n")
            for number in range(8, 12):
                self.block(
                    number,
                    "offline" if policy == "offline" else "online",
                    "Normal Movable" if policy == "offline" else self.zone_given[policy],
                )

    def _iomem(self, kmem: bool) -> None:
        lines = [line for line in self.read("/proc/iomem").splitlines() if "(kmem)" not in line]
        if kmem:
            place = next(index for index, line in enumerate(lines) if line.endswith("dax0.0"))
            lines.insert(place + 1, "    40000000-5fffffff : System RAM (kmem)")
        self.set("/proc/iomem", "\n".join(lines))


@pytest.fixture
def kernel(tree: Callable[[str], str]) -> Callable[[str], Kernel]:
    """A captured machine that answers writes."""
    return lambda name: Kernel(tree(name))


class Recorder:
    """A runner that records argv and answers from a table: first words of a command -> (rc, stdout, stderr), or a function.

    NOT_INSTALLED instead of an answer: the machine lacks that program. A command or program that the table does not name fails the test,
    at once and again at its end: the code under test may catch what is raised here.
    """

    NOT_INSTALLED = None

    def __init__(self, answers: Dict[str, object]) -> None:
        self.answers = answers
        self.calls: List[List[str]] = []
        self.unknown: List[str] = []

    def which(self, name: str) -> object:
        """The path of a program that the table answers for; None when it says that the machine lacks it."""
        found = [answer for key, answer in self.answers.items() if key.split()[0] == name]
        if not found:
            refuse_unknown(self, f"program {name}")
        return name if any(answer is not self.NOT_INSTALLED for answer in found) else None

    def run(self, argv: List[str], timeout: object = None, on_line: object = None) -> Completed:
        """Answer."""
        self.calls.append(list(argv))
        line = " ".join(argv)
        for key, answer in self.answers.items():
            if line.startswith(key):
                if answer is self.NOT_INSTALLED:
                    raise ToolMissing(f"Cannot run {argv[0]}", "it is not installed", "Install it", missing=argv[0])
                return Completed(tuple(argv), *(answer() if callable(answer) else answer))
        return refuse_unknown(self, f"command {line}")

    # The real one: only run() is replaced.
    check = Runner.check


def refuse_unknown(runner: object, what: str) -> NoReturn:
    """Fail the test. pytest's failure is not an Exception, so that code under test hardly ever catches it."""
    runner.unknown.append(what)
    pytest.fail(f"The {what} is not in this test's table.")


@pytest.fixture
def recorder() -> Iterator[Callable[[Dict[str, object]], Recorder]]:
    """Make a recording runner."""
    made: List[Recorder] = []

    def build(answers: Dict[str, object]) -> Recorder:
        made.append(Recorder(answers))
        return made[-1]

    yield build
    assert [what for one in made for what in one.unknown] == []


BASE = "/sys/bus/nd/devices/namespace0.0"
BOOT = "11111111-2222-3333-4444-555555555555"
SETTINGS = {
    "items": [
        {"name": "cache", "path": "/srv/cache", "unit": "cache.service"},
        {"name": "must", "path": "/srv/must", "unit": "must.service", "cold_start": False},
    ],
    "kernel": "/boot/vmlinuz",
    "initrd": "/boot/initrd",
}


class Machine:
    """A captured machine with units, a helper, kexec and ndctl: a runner that changes what a real one would change.

    COMMANDS and the verbs below are all that it knows; anything else fails the test, as for Recorder. missing: programs that the machine
    lacks. fails: first words of a command -> its answer, or what it raises, instead of what the table says.
    """

    # First words of a command -> the method that answers it, given argv.
    COMMANDS: ClassVar[Dict[str, str]] = {
        "systemctl": "_systemctl",
        HELPER: "_helper",
        "ndctl --version": "_version",
        "ndctl create-namespace --mode raw --no-autolabel --reconfig namespace0.0 --force": "_make_raw",
        "ndctl create-namespace --mode devdax --no-autolabel --map mem --reconfig namespace0.0 --force": "_make_devdax",
        "daxctl --version": "_version",
        "kexec --version": "_version",
        "kexec -s -l": "_kexec_load",
        "kexec -a -u": "_kexec_unload",
        "kexec -e": "_kexec_jump",
        "sync": "_done",
        "mount -o remount,rw": "_done",
        "blkid -p -o export /dev/pmem0": "_no_signature",
        "systemd-run --unit=hotpmem-handoff": "_done",
        "dpkg-query --show": "_done",
        "dmesg": "_dmesg",
    }
    UNITS = ("cache.service", "must.service", "db.service", "hotpmem-restore.service", "multi-user.target")
    PROPERTIES = (
        *unit_set.PROPERTIES,
        *removed_at_stop.PROPERTIES,
        "ConditionResult",
        "DefaultDependencies",
        "ConditionTimestampMonotonic",
        "ActiveEnterTimestampMonotonic",
        "ActiveExitTimestampMonotonic",
        "InactiveEnterTimestampMonotonic",
        "InactiveExitTimestampMonotonic",
        "ExecMainStartTimestampMonotonic",
        "ExecMainExitTimestampMonotonic",
        "FirmwareTimestampMonotonic",
        "LoaderTimestampMonotonic",
        "InitRDTimestampMonotonic",
        "UserspaceTimestampMonotonic",
        "FinishTimestampMonotonic",
    )

    def __init__(self, fake):
        self.fake = fake
        self.active = {"cache.service", "must.service", "db.service"}
        self.calls = []
        self.unknown = []
        self.missing = set()
        self.fails = {}
        self.met = set()
        self.state = "running"
        self.jobs = ""
        self.shown = {}  # unit -> the properties that differ from those of a unit that stops well
        self.stopped_us = 0
        self.image = {"state": "none"}

    def which(self, name):
        if not any(key.split()[0] == name for key in self.COMMANDS):
            refuse_unknown(self, f"program {name}")
        return None if name in self.missing else name

    check = Runner.check

    def run(self, argv, timeout=None, on_line=None):
        line = " ".join(argv)
        self.calls.append(line)
        if self.which(argv[0]) is None:
            raise ToolMissing(f"Cannot run {argv[0]}", "it is not installed", "Install it", missing=argv[0])
        for key, answer in self.fails.items():
            if line.startswith(key):
                self.met.add(key)
                if isinstance(answer, BaseException):
                    raise answer
                return Completed(tuple(argv), *(answer() if callable(answer) else answer))
        answer = next((answer for key, answer in self.COMMANDS.items() if (line + " ").startswith(key + " ")), None)
        if answer is None:
            refuse_unknown(self, f"command {line}")
        return Completed(tuple(argv), *getattr(self, answer)(argv))

    def _done(self, argv):
        return 0, "", ""

    def _dmesg(self, argv):
        return 0, "[    0.000000] Linux version 6.1\n[    2.900000] Run /init\n[    3.100000] late\n", ""

    def _version(self, argv):
        return 0, f"{argv[0]} 1\n", ""

    def _no_signature(self, argv):
        return 2, "", ""

    def _kexec_load(self, argv):
        self.fake.set("/sys/kernel/kexec_loaded", "1")
        return 0, "", ""

    def _kexec_unload(self, argv):
        self.fake.set("/sys/kernel/kexec_loaded", "0")
        return 0, "", ""

    def _kexec_jump(self, argv):
        return 1, "", "nothing happened"

    def _make_raw(self, argv):
        if self.fake.link_name(f"{DAX}/driver") == "kmem":
            return 240, "", "failed to reconfigure namespace: Device or resource busy\n"
        self.fake.set(f"{BASE}/holder", "")
        self.fake.set(f"{BASE}/holder_class", "")
        os.makedirs(self.fake.path(f"{BASE}/block/pmem0"))
        os.symlink("../../../../../../bus/nd/drivers/nd_pmem", self.fake.path(f"{BASE}/driver"))
        return 0, '{"dev":"namespace0.0","mode":"raw","blockdev":"pmem0"}', ""

    def _make_devdax(self, argv):
        self.fake.set(f"{BASE}/holder", "dax0.0")
        self.fake.set(f"{BASE}/holder_class", "dax")
        shutil.rmtree(self.fake.path(f"{BASE}/block"))
        os.unlink(self.fake.path(f"{BASE}/driver"))
        self.image = {"state": "none"}
        return 0, '{"dev":"namespace0.0","mode":"devdax","map":"mem","chardev":"dax0.0"}', ""

    def _systemctl(self, argv):
        verb, words = argv[1], argv[2:]
        units = [word for word in words if not word.startswith("--")]
        strange = set(units) - set(self.UNITS)
        if strange:
            refuse_unknown(self, f"unit {', '.join(strange)}")
        if verb == "stop":
            self.active -= set(units)
        elif verb == "start":
            for unit in units:
                if unit not in self.active and unit.endswith(".socket") and self._serves(unit) & self.active:
                    return 1, "", f"Job for {unit} failed.\n{unit}: Socket service already active, refusing.\n"
                self.active.add(unit)
        elif verb == "is-active":
            return (0 if self.active & set(units) else 3), "\n".join(map(self._active_state, units)), ""
        elif verb == "show":
            return 0, self._show([word.partition("=")[2] for word in words if word.startswith("--property=")], units), ""
        elif verb == "is-system-running":
            return (0 if self.state == "running" else 1), self.state, ""
        elif verb == "list-jobs":
            return 0, self.jobs, ""
        elif verb in ("kexec", "reboot"):
            self.state = "stopping"
        else:
            refuse_unknown(self, f"command {' '.join(argv)}")
        return 0, "", ""

    def _serves(self, socket):
        return {unit for unit, shown in self.shown.items() if socket in shown.get("TriggeredBy", "").split()}

    def _active_state(self, unit):
        return "active" if unit in self.active else "inactive"

    def _show(self, names, units):
        strange = set(names) - set(self.PROPERTIES)
        if strange:
            refuse_unknown(self, f"property {', '.join(strange)}")
        blocks = []
        for unit in units or [""]:
            values = {
                **dict.fromkeys((*unit_set.PROPERTIES, *removed_at_stop.PROPERTIES), ""),
                "Id": unit,
                "LoadState": "loaded",
                "Result": "success",
                "ActiveState": self._active_state(unit),
                "ActiveExitTimestampMonotonic": self.stopped_us,
                **self.shown.get(unit, {}),
            }
            blocks.append("".join(f"{name}={values.get(name, 0)}\n" for name in names))
        return "\n".join(blocks)

    def _helper(self, argv):
        verb = argv[1]
        result = {"event": "result", "verb": verb, "exit": 0, "refused": None, "items": [], "image": self.image}
        if verb == "--version":
            return 0, "pmem-state 0.1.0 (image format 1)", ""
        if verb == "save":
            self.image = result["image"] = {"state": "valid", "boot_id": BOOT, "sequence": 2, "items": ["cache", "must"]}
            result.update(bytes=1000, stored_bytes=900, seconds=0.5)
        elif verb == "invalidate":
            self.image = result["image"] = {"state": "none"}
        elif verb == "cycles":
            result["clock"] = {"cycles": 5_000_000, "boottime_ns": 1_000_000, "cycles_per_second": 2_000_000_000}
        elif verb not in ("info", "plan", "mark"):
            refuse_unknown(self, f"command {' '.join(argv)}")
        return 0, json.dumps(result), ""

    @property
    def acts(self):
        """What changed something, in order."""
        asks = (
            "systemctl is-",
            "systemctl list-jobs",
            "systemctl show",
            "blkid",
            "pmem-state info",
            "pmem-state --version",
            "pmem-state plan",
        )
        return [line for line in self.calls if not line.replace("/usr/local/sbin/", "").startswith(asks)]


@pytest.fixture
def machine(kernel):
    """(machine, handoff for settings)."""
    fake = kernel("6.1-e820-system_ram")
    for name in ("/srv/cache", "/srv/must", "/boot", "/dev", "/proc/self"):
        os.makedirs(fake.path(name), exist_ok=True)
    for name in ("/boot/vmlinuz", "/boot/initrd"):
        with open(fake.path(name), "w", encoding="utf-8") as file:
            file.write("x")
    os.makedirs(fake.path("/proc/sys/kernel/random"), exist_ok=True)
    for name, text in (("random/boot_id", BOOT), ("kexec_load_disabled", "0")):
        with open(fake.path(f"/proc/sys/kernel/{name}"), "w", encoding="utf-8") as file:
            file.write(text)
    for name, text in (("/sys/kernel/kexec_loaded", "0"), ("/proc/sysrq-trigger", "")):
        os.makedirs(os.path.dirname(fake.path(name)), exist_ok=True)
        with open(fake.path(name), "w", encoding="utf-8") as file:
            file.write(text)
    one = Machine(fake)
    engine = Engine(fake.root, one)
    for part in (engine.namespaces, engine.dax, engine.dax.blocks, engine.device_users, engine.kexec, engine.preflight, engine.copy):
        part.sysfs = fake
    engine.sysfs = fake
    engine.dax.blocks.clock = engine.dax.clock = fake.clock
    engine.dax.blocks.pause = engine.dax.pause = fake.pause

    def build(**changes):
        settings = from_dict({**SETTINGS, **changes})
        engine.hotplug.road = settings.road
        services = Services(one, 10)
        jump = Jump(settings.method, services, fake, one, fast_stop=settings.fast_stop, clock=fake.clock, pause=fake.pause)
        return Handoff(engine, settings, services, jump)

    yield one, engine, build
    assert one.unknown == []
    assert set(one.fails) <= one.met, "No command met the failure that this test had prepared for it."
