# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb timeline: how long each phase of a cycle took, and what is left to gain in it."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.after_boot import CYCLES
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.jump_target import jump_target
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import Settings
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.records import Records
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs, boot_id, mount_of, mounted
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.systemd import Services
from ansible_collections.hotpmem.fleet.plugins.module_utils._image import budget as of_phases
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.timeline import lines, systemd_times
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.command_line import kernel_words

from .answer import USAGE, Answer, VerbError
from .boot import boot_of

_MESSAGE = re.compile(r"^\[ *(\d+\.\d+)\]")
_HUGE = ("huge=within_size", "huge=always", "huge=advise")


def timeline(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """The last cycles, the newest last. With --budget, what is left to gain in the newest one."""
    if args.last < 1:
        raise VerbError(USAGE, "Cannot read the command line", f"--last is {args.last}", "Give a number of 1 or more")
    records = Records(engine.sysfs)
    names = [name for name in engine.sysfs.list(CYCLES) if name.endswith(".json")][-args.last :]
    cycles = [cycle for cycle in (records.read_json(f"{CYCLES}/{name}") for name in names) if cycle]
    # The record is written before systemd reports that the boot has finished.
    for cycle in cycles:
        if cycle.get("timeline") and cycle.get("boot_id") == boot_id(engine.sysfs):
            cycle["timeline"]["systemd"] = systemd_times(boot_of(engine, settings).manager())
    text = [line for cycle in cycles for line in lines(cycle)] or ["no cycle is recorded yet; the first record is written after a restore"]
    facts: Dict[str, Any] = {"cycles": cycles}
    if args.budget:
        # The facts of the host belong to the boot that runs, and so to the newest cycle.
        newest = cycles[-1] if cycles and cycles[-1].get("boot_id") == boot_id(engine.sysfs) else {}
        listed = (newest.get("timeline") or {}).get("phases") or []
        facts["budget"] = of_phases.budget(listed, host_of(engine, settings, newest)) if listed else []
        text += of_phases.lines(facts["budget"]) if newest else ["no budget: no recorded cycle led to this boot"]
    return Answer(text, facts)


def host_of(engine: Engine, settings: Settings, cycle: Mapping[str, Any]) -> of_phases.Host:
    """What the budget must know of this host."""
    sysfs = engine.sysfs
    services = Services(engine.runner)
    arguments = kernel_words(sysfs.get("/proc/cmdline"))
    times = (cycle.get("timeline") or {}).get("systemd") or {}
    prepared = cycle.get("prepare") or {}
    # Only a service can start early.
    units = [unit for unit in settings.units if unit.endswith(".service")]
    defaults = services.show(["Id", "DefaultDependencies"], units) if units else []
    levels = of_phases.console_levels(arguments)
    target = jump_target(engine, settings)
    files = [engine.kexec.identity(name) or {} for name in (target.kernel, target.initrd) if name] if target else []
    return of_phases.Host(
        cpus=os.cpu_count() or 1,
        method=str(cycle.get("method") or settings.method),
        jump_initrd=settings.jump_initrd,
        jump_check=settings.jump_check,
        early_restore=settings.early_restore,
        initrd_seconds=float(times.get("initrd") or 0),
        lacking=[word for word in settings.jump_arguments if word not in arguments],
        small_pages=_small_pages(sysfs, [kept.path for kept in settings.items]),
        prepared=2 * (prepared.get("huge_bytes") or 0) > (prepared.get("bytes") or 0),
        late_units=[one.get("Id", "?") for one in defaults if one.get("DefaultDependencies") == "yes"],
        beside_all=[one.get("Id", "?") for one in defaults if one.get("DefaultDependencies") == "no" and not settings.state_first],
        console=of_phases.serial_lines(arguments, sysfs.get("/sys/class/tty/console/active")),
        console_bytes=_written(engine, levels, float(times.get("kernel") or 0)) if of_phases.quiet_leaves_out(levels) else 0,
        loaded_bytes=sum(int(one.get("size") or 0) for one in files),
    )


def _written(engine: Engine, levels: Sequence[str], seconds: float) -> int:
    """How many bytes of messages of these levels the kernel wrote to each console until userspace started."""
    done = engine.runner.run(["dmesg", f"--level={','.join(levels)}"], timeout=10)
    found = [(_MESSAGE.match(line), line) for line in done.stdout.splitlines()]
    return sum(len(line.encode()) + 1 for match, line in found if match and float(match[1]) <= seconds)


def _small_pages(sysfs: Sysfs, paths: List[str]) -> List[str]:
    """The paths that lie on a tmpfs without huge pages."""
    mounts = mounted(sysfs)
    holders = {path: mount_of(sysfs.real(path), mounts) for path in paths}
    return [
        path
        for path, mount in holders.items()
        if mount.get("type") == "tmpfs" and not any(option.startswith(_HUGE) for option in mount["options"].split(","))
    ]
