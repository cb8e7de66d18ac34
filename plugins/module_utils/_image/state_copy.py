# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives pmem-state, the compiled copy helper, and reads its JSON. Its command line is fixed in docs/architecture.md."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence

from .._host.errors import HotpmemError
from .._host.programs import Completed, Runner, TimedOut, ToolMissing
from .._host.sysfs import Sysfs, boot_id

HELPER = "/usr/local/sbin/pmem-state"
PROGRESS = "/run/hotpmem/progress.json"
MAGIC = b"hotpmem\x1a"  # at 0 and at 4096: docs/image-format.md
# Names of the phase marks; an image stores them by number, from 1: docs/image-format.md.
MARKS = (
    "preflight",
    "units_stopped",
    "saved",
    "jump",
    "kernel_start",
    "userspace_start",
    "restored",
    "units_ready",
    "hot_added",
    "stopping",
    "units_starting",
)
DONE, USAGE, SYSTEM, NO_IMAGE, DAMAGED, REFUSED, SOME = range(7)
_MEANING = {
    USAGE: "it did not understand its command line: helper and collection are of different versions",
    SYSTEM: "the system answered with an error",
    NO_IMAGE: "there is no image",
    DAMAGED: "the image is damaged",
    REFUSED: "it refused",
    SOME: "some items are done, some are not",
}
_PROGRESS_STEP = 1.0  # seconds between two writes of the progress file


@dataclass(frozen=True)
class Item:
    """Something to keep: a name, and the file or directory tree it stands for."""

    name: str
    path: str = ""

    @property
    def word(self) -> str:
        """As the helper takes it."""
        return f"{self.name}={self.path}" if self.path else self.name


def items_from(entries: Sequence[Dict[str, Any]], need_path: bool) -> List[Item]:
    """Items from a list of dicts with name and path; other keys (unit, cold_start) are for others. Raises HotpmemError."""
    items: List[Item] = []
    for entry in entries:
        name, path = str(entry.get("name") or ""), str(entry.get("path") or "")
        said = ""
        if not name or "=" in name or "/" in name or "\n" in name:
            said = f"{name!r} is no item name"
        elif any(item.name == name for item in items):
            said = f"two items are named {name}"
        elif need_path and not path:
            said = f"the item {name} has no path"
        elif path and not os.path.isabs(path):
            said = f"the path of the item {name} is not absolute: {path}"
        if said:
            raise HotpmemError(
                "Cannot use the list of items", said, "Give each item a name of its own, without = and /, and an absolute path"
            )
        items.append(Item(name, path))
    return items


def parse_result(stdout: str) -> Dict[str, Any]:
    """The result object in the helper's JSON lines. Raises ValueError when there is none."""
    for line in reversed(stdout.splitlines()):
        if line.strip():
            value = json.loads(line)
            if isinstance(value, dict) and value.get("event") == "result":
                return value
            break
    raise ValueError("its last line is no result object")


class ProgressFile:
    """Keeps the newest progress line where others can read it: an Ansible module can't stream.

    The file holds one object: the helper's own (phase, bytes_done, bytes_total, percent, rate in bytes/s, eta_seconds) with
    ``verb`` and ``pid``. It is replaced as a whole, at most once a second, and removed at the end.
    """

    def __init__(self, path: str = PROGRESS, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.clock = clock
        self.written = float("-inf")

    def take(self, verb: str, line: str) -> None:
        """Look at one line of the helper's output. Never fails: progress is a courtesy."""
        if self.clock() - self.written < _PROGRESS_STEP:
            return
        try:
            value = json.loads(line)
            if not isinstance(value, dict) or value.get("event") != "progress":
                return
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            with open(self.path + ".new", "w", encoding="utf-8") as file:
                json.dump(dict(value, verb=verb, pid=os.getpid()), file)
            os.replace(self.path + ".new", self.path)
            self.written = self.clock()
        except (OSError, ValueError):
            return

    def remove(self) -> None:
        """Take the file away."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)


class Helper:
    """The copy helper at ``path``. Its verbs return the result object, whatever the exit code; failures() judges it."""

    def __init__(self, runner: Runner, path: str = HELPER, progress: Optional[ProgressFile] = None) -> None:
        self.runner = runner
        self.path = path
        self.progress = progress or ProgressFile()

    def version(self) -> str:
        """``pmem-state --version``; raises HotpmemError."""
        what, todo = f"Cannot run {self.path}", "Install the helper for this machine: role state_helper"
        try:
            return self.runner.check([self.path, "--version"], what, todo, timeout=30).stdout.strip()
        except ToolMissing as error:
            raise HotpmemError(what, "it is not there, or can't be executed", todo, missing=self.path) from error

    def call(
        self,
        verb: str,
        device: str = "",
        items: Sequence[Item] = (),
        *,
        capacity: int = 0,
        threads: int = 0,
        force: bool = False,
        timeout: Optional[float] = None,
        marks: Optional[Dict[str, int]] = None,
        clock: Optional[Dict[str, Any]] = None,
    ) -> Dict[str, Any]:
        """Run one verb. capacity: bytes (plan without a device). timeout: seconds, None for no end. Raises HotpmemError.

        marks: phase marks to store with a save, name -> CLOCK_BOOTTIME in ns; counted in cycles by clock, a reading of clock().
        """
        argv = [self.path, verb]
        argv += ["--device", device] if device else ["--capacity", str(capacity)]
        for item in items:
            argv += ["--item", item.word]
        if threads:
            argv += ["--threads", str(threads)]
        if force:
            argv.append("--force")
        argv += mark_words(marks or {}, clock)
        argv.append("--json")
        long = verb in ("save", "restore", "verify")
        what = f"Cannot {verb} {device or 'the items'}"
        try:
            if long:
                done = self.runner.run(argv + ["--progress"], timeout=timeout, on_line=lambda line: self.progress.take(verb, line))
            else:
                done = self.runner.run(argv, timeout=timeout)
        except ToolMissing as error:
            raise HotpmemError(
                what, f"{self.path} is not there, or can't be executed", "Install it with the role state_helper", missing=self.path
            ) from error
        except TimedOut as error:
            raise HotpmemError(
                what,
                f"the copy did not end within {timeout:g} s and was stopped: the device holds no valid new image, and no "
                "item was replaced half way",
                "Raise timeout, or keep less",
                argv=argv,
                timed_out=True,
            ) from error
        finally:
            if long:
                self.progress.remove()
        return self._result(what, argv, done)

    def clock(self) -> Optional[Dict[str, Any]]:
        """A reading of the cycle counter: ``cycles``, ``boottime_ns`` and ``cycles_per_second``; None without a usable counter."""
        try:
            reading = parse_result(self.runner.run([self.path, "cycles", "--json"], timeout=30).stdout).get("clock")
        except (HotpmemError, ValueError):
            return None
        return reading if isinstance(reading, dict) and reading.get("cycles_per_second") else None

    def mark(self, name: str, device: str) -> None:
        """Note in this boot's image that a phase is reached now. Never fails: a mark is a courtesy."""
        with contextlib.suppress(HotpmemError):
            self.runner.run([self.path, "mark", name, "--device", device, "--json"], timeout=5)

    def _result(self, what: str, argv: List[str], done: Completed) -> Dict[str, Any]:
        try:
            result = parse_result(done.stdout)
        except ValueError as error:
            raise HotpmemError(
                what,
                f"{done.words} ({error})",
                "Install the helper that belongs to this collection: role state_helper",
                argv=argv,
                rc=done.rc,
            ) from error
        # The exit code is what the process really did; the object only repeats it.
        result["exit"] = done.rc
        result.setdefault("refused", None)
        return result


def mark_words(marks: Dict[str, int], clock: Optional[Dict[str, Any]]) -> List[str]:
    """Options that store marks (name -> CLOCK_BOOTTIME in ns) in cycles, by a reading of the counter; none without one."""
    if not clock or not marks:
        return []
    words = ["--cycles-per-second", str(clock["cycles_per_second"])]
    for name, at in marks.items():
        if name in MARKS:
            cycles = clock["cycles"] + (at - clock["boottime_ns"]) * clock["cycles_per_second"] // 1_000_000_000
            words += ["--mark", f"{name}={max(cycles, 0)}"]
    return words


def failure(what: str, result: Dict[str, Any], todo: str = "") -> HotpmemError:
    """The error for a result that isn't 0, with the whole result as details."""
    said = result.get("error") or {}
    words = said.get("said") or _MEANING.get(result["exit"], f"exit code {result['exit']}")
    if result.get("refused"):
        words += f" ({result['refused']})"
    bad = [entry for entry in result.get("items") or [] if entry.get("error")]
    if bad:
        words += "; " + "; ".join(f"{entry.get('name')}: {entry['error']}" for entry in bad)
    # errno is null or a name; msg is the module's own key.
    details = {key: value for key, value in result.items() if key not in ("event", "error", "msg")}
    return HotpmemError(said.get("what") or what, words, todo or said.get("todo") or "", error=said or None, **details)


class StateCopy:
    """Brings the image on a device, or the items it holds, to a state. The predicates are what check mode uses."""

    def __init__(self, helper: Helper, sysfs: Sysfs) -> None:
        self.helper = helper
        self.sysfs = sysfs

    def info(self, device: str) -> Dict[str, Any]:
        """What is on the device. Raises HotpmemError on a system error; no image and a damaged one are answers."""
        result = self.helper.call("info", device, timeout=60)
        if result["exit"] not in (DONE, NO_IMAGE, DAMAGED):
            raise failure(f"Cannot read the image on {device}", result)
        result.setdefault("image", {"state": {NO_IMAGE: "none", DAMAGED: "damaged"}.get(result["exit"], "none")})
        return result

    def clear(self, device: str) -> None:
        """Leave no image on device, and read that back: what is believed to be none must never be restored. Raises HotpmemError."""
        what = f"Cannot make sure that {device} holds no state image"
        todo = f"It was left as it is, and its memory is no System RAM. See dmesg; then: {self.helper.path} invalidate --device {device}"
        result = self.helper.call("invalidate", device, timeout=60)
        if result["exit"] != DONE:
            raise failure(what, result, todo)
        left = self.info(device)["image"]["state"]
        if left != "none":
            raise HotpmemError(what, f"pmem-state answered success, but there is one still ({left})", todo, device=device)

    def same_boot(self, result: Dict[str, Any], key: str) -> bool:
        """True when the image's key (boot_id, consumed_boot_id) is the running boot's id."""
        return bool(boot_id(self.sysfs)) and result["image"].get(key) == boot_id(self.sysfs)

    def already_saved(
        self, now: Dict[str, Any], device: str, items: Sequence[Item], threads: int, timeout: Optional[float]
    ) -> Optional[Dict[str, Any]]:
        """compare's result when the device holds an image, saved in this boot, of exactly these sources; else None."""
        if now["image"]["state"] != "valid" or not self.same_boot(now, "boot_id"):
            return None
        result = self.helper.call("compare", device, items, threads=threads, timeout=timeout)
        return result if result["exit"] == DONE else None

    def already_restored(self, now: Dict[str, Any]) -> bool:
        """True when this boot has consumed the image."""
        return now["image"]["state"] == "consumed" and self.same_boot(now, "consumed_boot_id")

    def why_not_restore(self, now: Dict[str, Any], force: bool) -> Optional[str]:
        """What restore would refuse for, as far as the header tells (check mode), or None."""
        image = now["image"]
        if image["state"] in ("none", "damaged"):
            return {"none": "there is no image", "damaged": "the image is damaged"}[image["state"]]
        if force:
            return None
        if image["state"] == "consumed":
            return "the image was restored before, in another boot (consumed)"
        machine = self.sysfs.get("/etc/machine-id")
        if machine and image.get("machine_id") not in (None, "", machine):
            return f"the image is of another machine ({image['machine_id']}) (foreign)"
        return None


def unrestored_image(helper: Helper, device: str) -> str:
    """What image device holds that would be lost with it: a few words, or the empty string. Used before conversions."""
    if helper.runner.which(helper.path) is None:
        return "the helper is not installed, but the header's mark is there" if has_magic(device) else ""
    result = helper.call("info", device, timeout=60)
    image = result.get("image") or {}
    if image.get("state") != "valid":
        return ""
    return f"sequence {image.get('sequence')}, items {', '.join(image.get('items') or []) or 'none'}"


def has_magic(device: str) -> bool:
    """True when one of the two header copies in the device's first 8 KiB begins with the image's magic."""
    try:
        with open(device, "rb") as file:
            data = file.read(8192)
    except OSError:
        return False
    return any(data[offset : offset + len(MAGIC)] == MAGIC for offset in (0, 4096))
