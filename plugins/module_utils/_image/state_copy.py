# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs pmem-state, the compiled copy helper, and parses its JSON.

docs/pmem-state.md describes its command line.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

from .._host.errors import HotpmemError
from .._host.programs import Completed, Runner, TimedOut, ToolMissing
from .._host.sysfs import Sysfs, boot_id, is_below
from .progress_file import ProgressFile

HELPER = "/usr/local/sbin/pmem-state"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")  # the names that pmem-state accepts: item_name_ok() in base/paths.c
MAGIC = b"hotpmem\x1a"  # at the offsets 0 and 4096: docs/image-format.md
# The names of the phase marks. An image stores a mark by its number, starting at 1: docs/image-format.md.
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
    USAGE: "pmem-state rejected its command line, because the helper and the collection have different versions",
    SYSTEM: "a system call failed",
    NO_IMAGE: "the device holds no image",
    DAMAGED: "the image is damaged",
    REFUSED: "pmem-state refused this",
    SOME: "some items succeeded and others failed",
}


@dataclass(frozen=True)
class Item:
    """An item to save and restore: a name, and the absolute path of its file or directory tree."""

    name: str
    path: str = ""

    @property
    def word(self) -> str:
        """The item as an argument of the helper: ``NAME=PATH`` or ``NAME``."""
        return f"{self.name}={self.path}" if self.path else self.name


def items_from(entries: Sequence[Dict[str, Any]], need_path: bool) -> List[Item]:
    """Return the items in a list of dicts with name and path. Other keys (unit, cold_start) are ignored.

    need_path: every item must have a path. Raises HotpmemError when a name or a path is not valid.
    """
    items: List[Item] = []
    for entry in entries:
        name, path = str(entry.get("name") or ""), str(entry.get("path") or "")
        said = ""
        if not _NAME.fullmatch(name):
            said = f"{name!r} is not a valid item name"
        elif any(item.name == name for item in items):
            said = f"two items have the name {name}"
        elif need_path and not path:
            said = f"the item {name} has no path"
        elif path and not os.path.isabs(path):
            said = f"the path of the item {name} is not absolute: {path}"
        elif any(ord(letter) < 32 or ord(letter) == 127 for letter in path):
            said = f"the path of the item {name} contains a line break or another control character: {path!r}"
        elif ".." in path.split("/"):
            said = f"the path of the item {name} contains '..', so a unit can't wait for its mount: {path}"
        else:
            other = next((item.name for item in items if path and item.path and _overlap(item.path, path)), "")
            said = f"the path of the item {name} is that of the item {other}, or one lies inside the other: {path}" if other else ""
        if said:
            todo = (
                "Give each item an absolute path and a unique name. A name has at most 64 letters, digits, '.', '_' and '-', and starts "
                "with a letter, a digit or '_'"
            )
            raise HotpmemError("Cannot use the list of items", said, todo)
        items.append(Item(name, path))
    return items


def _overlap(one: str, other: str) -> bool:
    """True when one path is the other, or lies inside it."""
    first, second = os.path.normpath(one), os.path.normpath(other)
    return is_below(first, second) or is_below(second, first)


def parse_result(stdout: str) -> Dict[str, Any]:
    """Return the result object in the JSON lines of the helper.

    Raises ValueError when the last line is not a result.
    """
    for line in reversed(stdout.splitlines()):
        if line.strip():
            value = json.loads(line)
            if isinstance(value, dict) and value.get("event") == "result":
                return value
            break
    raise ValueError("its last line of output is not a result")


class Helper:
    """Runs the copy helper at ``path``.

    A verb returns the result object for any exit code; failure() makes an error of it.
    """

    def __init__(self, runner: Runner, path: str = HELPER, progress: Optional[ProgressFile] = None) -> None:
        self.runner = runner
        self.path = path
        self.progress = progress or ProgressFile()

    def sha256(self) -> Optional[str]:
        """Return the SHA-256 of the helper in hexadecimal digits, or None when it can't be read."""
        path = self.runner.which(self.path)
        if path is None:
            return None
        try:
            with open(path, "rb") as file:
                return hashlib.sha256(file.read()).hexdigest()
        except OSError:
            return None

    def version(self) -> str:
        """Return the output of ``pmem-state --version``.

        Raises HotpmemError when it cannot be executed or fails.
        """
        what, todo = f"Cannot run {self.path}", "Install the helper for the architecture of this host with the role state_helper"
        try:
            return self.runner.check([self.path, "--version"], what, todo, timeout=30).stdout.strip()
        except ToolMissing as error:
            raise HotpmemError(what, "the file does not exist or is not executable", todo, missing=self.path) from error

    def call(
        self,
        verb: str,
        device: str = "",
        items: Sequence[Item] = (),
        *,
        capacity: int = 0,
        seconds: float = 0,
        threads: int = 0,
        force: bool = False,
        timeout: Optional[float] = None,
        marks: Optional[Dict[str, int]] = None,
        clock: Optional[Dict[str, Any]] = None,
    ) -> Dict[str, Any]:
        """Run a verb of the helper, and return its result object with the exit code as ``exit``.

        device: for all verbs but ``prepare``, and ``plan`` with a capacity. capacity: in bytes, for ``plan``. seconds: the limit of
        ``prepare``. threads: 0 leaves the number to the helper.
        timeout: seconds; None waits without limit. marks: phase marks to store with a save, name -> ns of
        CLOCK_BOOTTIME. clock: the reading of clock() that converts the marks to cycles.

        Raises HotpmemError when the helper cannot be executed, does not finish before the timeout, or
        prints no result. An exit code other than 0 raises nothing: see failure().
        """
        argv = [self.path, verb]
        if device:
            argv += ["--device", device]
        if capacity:
            argv += ["--capacity", str(capacity)]
        if seconds:
            argv += ["--seconds", f"{seconds:g}"]
        for item in items:
            argv += ["--item", item.word]
        if threads:
            argv += ["--threads", str(threads)]
        if force:
            argv.append("--force")
        argv += mark_words(marks or {}, clock)
        argv.append("--json")
        long = verb in ("save", "restore", "verify")
        what = f"Cannot run pmem-state {verb}{f' on {device}' if device else ''}"
        try:
            if long:
                done = self.runner.run(argv + ["--progress"], timeout=timeout, on_line=lambda line: self.progress.take(verb, line))
            else:
                done = self.runner.run(argv, timeout=timeout)
        except ToolMissing as error:
            said = f"the file {self.path} does not exist or is not executable"
            raise HotpmemError(what, said, "Install the helper with the role state_helper", missing=self.path) from error
        except TimedOut as error:
            done = self._ended_in_time(what, argv, error)
        finally:
            if long:
                self.progress.remove()
        return self._result(what, argv, done)

    def _ended_in_time(self, what: str, argv: List[str], error: TimedOut) -> Completed:
        """Return what the helper printed when the deadline came too late to stop it.

        Raises HotpmemError when the deadline did stop it: see docs/reference/pmem-state-json.md.
        """
        completed: Completed = getattr(error, "completed", Completed(tuple(argv), -1, "", ""))
        result: Dict[str, Any] = {}
        with contextlib.suppress(ValueError):
            result = parse_result(completed.stdout)
        if result.get("exit") == completed.rc and completed.rc in (DONE, SOME):
            return completed
        details = {key: value for key, value in result.items() if key in ("items", "image")}
        copies = argv[1] in ("save", "restore")
        doer = "the copy" if copies else f"pmem-state {argv[1]}"
        said = f"{doer} did not finish within {error.details.get('timeout') or 0:g} s and was stopped"
        raise HotpmemError(
            what,
            said + (". No image was left incomplete, and no item was replaced partially" if copies else ""),
            "Increase the timeout, or reduce the data of the items. pmem-state info shows whether the device holds an image",
            argv=argv,
            timed_out=True,
            **details,
        ) from error

    def clock(self) -> Optional[Dict[str, Any]]:
        """Read the cycle counter: ``cycles``, ``boottime_ns`` (CLOCK_BOOTTIME) and ``cycles_per_second``.

        Returns None when the host has no usable counter or the helper fails.
        """
        try:
            reading = parse_result(self.runner.run([self.path, "cycles", "--json"], timeout=30).stdout).get("clock")
        except (HotpmemError, ValueError):
            return None
        return reading if isinstance(reading, dict) and reading.get("cycles_per_second") else None

    def mark(self, name: str, device: str) -> None:
        """Store the present time in this boot's image as a phase mark.

        name: one of MARKS. Errors are ignored.
        """
        with contextlib.suppress(HotpmemError):
            self.runner.run([self.path, "mark", name, "--device", device, "--json"], timeout=5)

    def _result(self, what: str, argv: List[str], done: Completed) -> Dict[str, Any]:
        try:
            result = parse_result(done.stdout)
        except ValueError as error:
            raise HotpmemError(
                what,
                f"{done.words} ({error})",
                "Install the helper of this version of the collection with the role state_helper",
                argv=argv,
                rc=done.rc,
            ) from error
        # The exit code of the process takes precedence over the exit code in the object.
        result["exit"] = done.rc
        result.setdefault("refused", None)
        return result


def mark_words(marks: Dict[str, int], clock: Optional[Dict[str, Any]]) -> List[str]:
    """Return the options that store marks in an image, in cycles.

    marks: name -> ns of CLOCK_BOOTTIME. clock: a reading of the counter; without it, the result is empty.
    """
    if not clock or not marks:
        return []
    words = ["--cycles-per-second", str(clock["cycles_per_second"])]
    for name, at in marks.items():
        if name in MARKS:
            cycles = clock["cycles"] + (at - clock["boottime_ns"]) * clock["cycles_per_second"] // 1_000_000_000
            words += ["--mark", f"{name}={max(cycles, 0)}"]
    return words


def failure(what: str, result: Dict[str, Any], todo: str = "") -> HotpmemError:
    """Return the error for a result whose exit code is not 0. Its details contain the complete result."""
    said = result.get("error") or {}
    words = said.get("said") or _MEANING.get(result["exit"], f"exit code {result['exit']}")
    if result.get("refused"):
        words += f" ({result['refused']})"
    bad = [entry for entry in result.get("items") or [] if entry.get("error")]
    if len(bad) > 1 or (bad and bad[0]["error"] != said.get("said")):
        words += "; " + "; ".join(f"{entry.get('name')}: {entry['error']}" for entry in bad)
    # Ansible uses the key msg for the message of a module.
    details = {key: value for key, value in result.items() if key not in ("event", "error", "msg")}
    todo = todo or said.get("todo") or "To see its messages, run the same pmem-state command by hand"
    return HotpmemError(said.get("what") or what, words, todo, error=said or None, **details)


class StateCopy:
    """Saves to and restores from the image on a device.

    Check mode uses the predicates to predict what would change.
    """

    def __init__(self, helper: Helper, sysfs: Sysfs) -> None:
        self.helper = helper
        self.sysfs = sysfs

    def info(self, device: str) -> Dict[str, Any]:
        """Return a description of the image on a device.

        A missing or damaged image is a result. Raises HotpmemError for a system error.
        """
        result = self.helper.call("info", device, timeout=60)
        if result["exit"] not in (DONE, NO_IMAGE, DAMAGED):
            raise failure(f"Cannot read the image on {device}", result)
        result.setdefault("image", {"state": {NO_IMAGE: "none", DAMAGED: "damaged"}.get(result["exit"], "none")})
        return result

    def clear(self, device: str) -> None:
        """Invalidate the image on a device, and read the device again to make sure that no image is left.

        Raises HotpmemError when an image is left, because a later boot could restore this old state.
        """
        what = f"Cannot make sure that {device} holds no state image"
        todo = "The device was not changed, and its memory was not added to System RAM. "
        todo += f"See dmesg, then run: {self.helper.path} invalidate --device {device}"
        result = self.helper.call("invalidate", device, timeout=60)
        if result["exit"] != DONE:
            raise failure(what, result, todo)
        left = self.info(device)["image"]["state"]
        if left != "none":
            raise HotpmemError(what, f"pmem-state reported success, but the device still holds an image ({left})", todo, device=device)

    def same_boot(self, result: Dict[str, Any], key: str) -> bool:
        """Return True when the image's key (boot_id or consumed_boot_id) is the ID of the running boot."""
        return bool(boot_id(self.sysfs)) and result["image"].get(key) == boot_id(self.sysfs)

    def already_saved(
        self, now: Dict[str, Any], device: str, items: Sequence[Item], threads: int, timeout: Optional[float]
    ) -> Optional[Dict[str, Any]]:
        """Return the result of ``compare`` when this boot saved an image of exactly these sources
        to the device, or else None.
        """
        if now["image"]["state"] != "valid" or not self.same_boot(now, "boot_id"):
            return None
        result = self.helper.call("compare", device, items, threads=threads, timeout=timeout)
        return result if result["exit"] == DONE else None

    def already_restored(self, now: Dict[str, Any]) -> bool:
        """Return True when this boot has already restored (consumed) the image."""
        return now["image"]["state"] == "consumed" and self.same_boot(now, "consumed_boot_id")

    def why_not_restore(self, now: Dict[str, Any], force: bool) -> Optional[str]:
        """Return the reason why a restore would be refused, as far as the header shows it, or None.

        For check mode.
        """
        image = now["image"]
        if image["state"] in ("none", "damaged"):
            return {"none": "the device holds no image", "damaged": "the image is damaged"}[image["state"]]
        if force:
            return None
        if image["state"] == "consumed":
            return "another boot has already restored the image (consumed)"
        machine = self.sysfs.get("/etc/machine-id")
        if machine and image.get("machine_id") not in (None, "", machine):
            return f"the image belongs to another machine, {image['machine_id']} (foreign)"
        return None

    def why_not_save(self, now: Dict[str, Any], force: bool) -> Optional[str]:
        """Return the reason why a save would be refused (``unrestored``), as far as the header shows
        it, or None.

        For check mode. pmem-state itself refuses in the same case.
        """
        if force or now["image"]["state"] != "valid" or self.same_boot(now, "boot_id"):
            return None
        return "the device holds an image that another boot saved and that was not restored"


def unrestored_image(helper: Helper, device: str) -> str:
    """Describe the image on a device that has not been restored, or return the empty string.

    A conversion would destroy it.
    """
    if helper.runner.which(helper.path) is None:
        return "the header of an image is present, but pmem-state is not installed to read it" if has_magic(device) else ""
    result = helper.call("info", device, timeout=60)
    image = result.get("image") or {}
    if image.get("state") != "valid":
        return ""
    return f"sequence {image.get('sequence')}, {'items ' + ', '.join(image['items']) if image.get('items') else 'no items'}"


def has_magic(device: str) -> bool:
    """Return True when one of the two header copies in the first 8 KiB of the device starts with
    the magic (docs/image-format.md).
    """
    try:
        with open(device, "rb") as file:
            data = file.read(8192)
    except OSError:
        return False
    return any(data[offset : offset + len(MAGIC)] == MAGIC for offset in (0, 4096))
