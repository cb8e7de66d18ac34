# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of hotpmem-node about memory: status, preflight, hot-add and hot-remove."""

from __future__ import annotations

import argparse
import contextlib
from typing import List

from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.host_report import HostReport
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.hotplug import Transition
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.jump_target import jump_target
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import LONGEST, Settings
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.preflight import Readiness
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.host_lock import HostLock
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.size import format_size
from ansible_collections.hotpmem.fleet.plugins.module_utils._image import huge_pages

from .answer import REFUSED, USAGE, Answer, VerbError
from .boot import hot_add_at_boot, kept


def check(engine: Engine, settings: Settings) -> Readiness:
    """Whether the host is ready for a handoff, apart from its units. Raises HotpmemError when the kernel to jump to can't be chosen."""
    target = jump_target(engine, settings)
    return engine.preflight.check(settings.namespace, settings.state_items, settings.reserve, target is not None, target)


def preflight(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """Check whether this machine is ready for a handoff."""
    try:
        numbers = check(engine, settings).require()
    except HotpmemError as error:
        raise VerbError.of(REFUSED, error) from error
    lines = ["ready"]
    if numbers["needed_bytes"]:
        needed, capacity = format_size(numbers["needed_bytes"]), format_size(numbers["capacity_bytes"])
        lines.append(f"state    needs at most {needed} of the {capacity} on the device")
    available, left = format_size(numbers["available_bytes"]), format_size(numbers["left_bytes"])
    lines.append(f"memory   {left} of the {available} available now stays available")
    lines += [f"warning  {warning}" for warning in numbers.get("warnings") or []]
    return Answer(lines, {"ok": True, "reasons": [], "numbers": numbers})


def status(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """Show all facts about this machine, and whether a handoff would be refused. Never fails."""
    facts = HostReport(engine.sysfs, engine.runner, engine.helper).gather(settings.namespace)
    try:
        reasons, numbers = check(engine, settings)
    except HotpmemError as error:
        reasons, numbers = [str(error)], {}
    selected = facts["selected"] or {}
    mode = "system-ram" if selected.get("driver") == "kmem" else selected.get("mode", "none")
    image = facts["image"]
    held = ", ".join(image.get("items") or [])
    lines = [
        f"namespace  {selected.get('namespace', 'none')} ({mode}), {format_size(selected.get('size') or 0)}",
        f"gained     {format_size(selected.get('online_bytes') or 0)} of RAM",
        f"memory     {format_size(facts['memory']['available_bytes'])} available of {facts['memory']['total']}",
        f"image      {image['state']}{' (' + held + ')' if held else ''}",
        f"items      {', '.join(kept.name for kept in settings.items) or 'none'}",
        f"ready      {'yes' if not reasons else 'no'}",
    ]
    lines += [f"           {reason}" for reason in reasons]
    lines += [f"held       {facts['owner']['words']}"] if facts["owner"] else []
    lines += [f"warning    {warning}" for warning in [*facts["warnings"], *(numbers.get("warnings") or [])]]
    return Answer(lines, {"hotpmem": facts, "ready": not reasons, "reasons": reasons, "numbers": numbers})


def prepare(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """Move the items into huge pages. It does not fail when this is not possible."""
    seconds = settings.prepare_seconds if args.seconds is None else args.seconds
    if args.seconds is not None and not 0 < args.seconds <= LONGEST:
        todo = f"Give a number of seconds above 0, at most {LONGEST}"
        raise VerbError(USAGE, "Cannot read the command line", f"--seconds is {seconds:g}", todo)
    with HostLock(engine.sysfs).acting("moving the items into huge pages", wait=60):
        done = huge_pages.prepare(engine.sysfs, engine.helper, settings.state_items, settings.reserve, seconds)
    return Answer([huge_pages.words(done)], done)


def _moved(move: Transition, checked: bool) -> Answer:
    verb = "would " if checked else ""
    lines: List[str] = [f"{verb}{change}" if checked else f"done: {change}" for change in move.changes] or ["nothing to do"]
    if not checked and move.changes:
        facts = move.namespace.to_dict()
        device = f", and its device is {move.device}" if move.device else ""
        lines.append(f"{facts['namespace']} is now in mode {facts['mode']}{device}")
    return Answer(lines, dict(move.to_dict(), check=checked))


def hot_remove(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """Remove the memory from System RAM, and make the namespace a device for the image."""
    if args.check:
        return _moved(engine.hotplug.plan_remove(engine.namespaces.find(settings.namespace), settings.force), True)
    with HostLock(engine.sysfs).acting("a hot-remove", wait=60):
        return _moved(
            engine.hotplug.hot_remove(engine.namespaces.find(settings.namespace), settings.offline_timeout, settings.force), False
        )


def hot_add(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """Convert the namespace to devdax, and add its memory to System RAM."""
    if args.at_boot:
        return hot_add_at_boot(engine, settings)
    force = args.force or settings.force
    with contextlib.nullcontext() if args.check else HostLock(engine.sysfs).acting("a hot-add", wait=60):
        found = engine.namespaces.find(settings.namespace)
        try:
            planned = engine.hotplug.plan_add(found, force)
        except HotpmemError as error:
            raise kept(error) from error
        if args.check:
            return _moved(planned, True)
        return _moved(engine.hotplug.hot_add(found, settings.offline_timeout, force), False)
