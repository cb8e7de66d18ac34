# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout wants to know about a host before it plans: whether it needs a reboot, how long its last cycles took, who uses it.

It changes nothing, and does not fail for what can't be read: ``not_read`` has a sentence for each such thing.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._host import package_reboots
from .._host.logind import Logind
from .._host.programs import Runner
from .._host.records import MARK, Records
from .._host.sysfs import Sysfs, boot_id
from .._image.state_copy import HELPER, Helper
from .._kernel.newest_kernel import NOTHING, NewestKernel
from .after_boot import CYCLES, KEEP, recorded_cycles

# Only needs takes long: it asks the package manager.
PARTS = ("needs", "history", "users", "mark", "helper")
MARK_KEYS = ("run", "rollout", "outcome", "time", "boot_id")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def _number(value: Any) -> Optional[float]:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _dicts(value: Any) -> List[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def cycle_facts(number: int, record: Mapping[str, Any], ended: str = "") -> Dict[str, Any]:
    """The facts of one cycle. record: as AfterBoot.record() wrote it. ended: for a record without its own time."""
    timeline = record.get("timeline")
    timeline = timeline if isinstance(timeline, Mapping) else {}
    phases = {str(phase.get("name")): _number(phase.get("seconds")) for phase in _dicts(timeline.get("phases"))}
    known = {name: seconds for name, seconds in phases.items() if seconds is not None}
    return {
        "n": number,
        "ended": str(record.get("ended") or ended) or None,
        "down_seconds": _number(timeline.get("down_seconds")),
        "seconds": round(sum(known.values()), 6) if known else None,
        "phases": known,
        "saved_bytes": _number(record.get("state_bytes")),
        "save_seconds": _number(record.get("save_seconds")),
        "items": [{"name": str(item.get("name")), "status": str(item.get("status"))} for item in _dicts(record.get("items"))],
        "kernel": str(record.get("kernel") or "") or None,
    }


def history(sysfs: Sysfs) -> Tuple[List[Dict[str, Any]], List[str]]:
    """The last cycles of this host, the newest last, and warnings about damaged files."""
    found, warnings = [], []
    for number in recorded_cycles(sysfs)[-KEEP:]:
        path = sysfs.path(f"{CYCLES}/{number}.json")
        try:
            with open(path, encoding="utf-8") as file:
                record = json.load(file)
            if not isinstance(record, dict):
                raise ValueError("it does not contain a JSON object")
            found.append(cycle_facts(number, record, time.strftime(_TIME, time.gmtime(os.stat(path).st_mtime))))
        except (OSError, ValueError) as error:
            warnings.append(f"The record {CYCLES}/{number}.json can't be read and was left out: {error}.")
    return found, warnings


def mark_of(sysfs: Sysfs) -> Tuple[Optional[Dict[str, Any]], List[str]]:
    """The mark that a rollout has left on this host, or None, and a warning about a damaged one."""
    mark = Records(sysfs).read_json(MARK)
    if mark is not None and all(isinstance(mark.get(key), str) for key in MARK_KEYS):
        return {key: mark[key] for key in MARK_KEYS}, []
    return None, [f"The mark {MARK} can't be read and was left out."] if sysfs.exists(MARK) else []


def new_mark(sysfs: Sysfs, wanted: Mapping[str, Any]) -> Tuple[Optional[Dict[str, Any]], Dict[str, Any]]:
    """The mark of this host, and the one to write.

    wanted: run, rollout, outcome and time. Without a time, a mark that says the same of this boot keeps its time.
    """
    before = mark_of(sysfs)[0]
    after = {"run": wanted["run"], "rollout": wanted["rollout"], "outcome": wanted["outcome"], "boot_id": boot_id(sysfs)}
    if before and before == {**after, "time": before["time"]} and wanted["time"] in (None, before["time"]):
        return before, before
    return before, {**after, "time": wanted["time"] or time.strftime(_TIME, time.gmtime())}


def needs_of(sysfs: Sysfs, runner: Runner) -> Dict[str, Any]:
    """``newest_kernel``, ``needs`` and ``not_read``."""
    kernels = NewestKernel(sysfs, runner)
    version, unknown = kernels.version()
    chosen, said = kernels.complete(version) if version else (NOTHING, unknown)
    packages = package_reboots.read(sysfs, runner)
    running = kernels.files.release
    # Whether to reboot into it is one question, and whether it is completely installed another.
    kernel = version != running if version else None
    reasons = [f"{running} runs, and {version} is installed"] if kernel else []
    not_read = [f"The newest kernel can't be {'told' if unknown else 'used'}: {said}."] if said else []
    return {
        "newest_kernel": {"version": chosen.version, "path": chosen.path, "initrd": chosen.initrd} if chosen.path else None,
        "needs": {"kernel": kernel, "packages": packages.packages, "reasons": reasons + packages.reasons},
        "not_read": not_read + packages.warnings,
    }


def gather(sysfs: Sysfs, runner: Runner, parts: Sequence[str] = PARTS, helper: str = HELPER) -> Dict[str, Any]:
    """The facts of these parts. boot_id and kernel always belong to them."""
    facts: Dict[str, Any] = {"boot_id": boot_id(sysfs), "kernel": sysfs.get("/proc/sys/kernel/osrelease")}
    not_read: List[str] = []
    if "needs" in parts:
        needs = needs_of(sysfs, runner)
        not_read += needs.pop("not_read")
        facts.update(needs)
    if "history" in parts:
        facts["history"], damaged = history(sysfs)
        not_read += damaged
    if "users" in parts:
        logind = Logind(sysfs, runner)
        facts.update(sessions=logind.sessions(), inhibitors=logind.inhibitors())
        not_read += logind.warnings
    if "mark" in parts:
        facts["mark"], damaged = mark_of(sysfs)
        not_read += damaged
    if "helper" in parts:
        facts["helper_sha256"] = Helper(runner, helper).sha256()
    return {**facts, "not_read": not_read}
