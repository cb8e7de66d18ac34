# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs that follow a boot: hot-add --at-boot, outcome, cold-start."""

from __future__ import annotations

import argparse
import contextlib
from typing import List

from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.after_boot import AfterBoot, Held
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import Settings
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.host_lock import Busy, HostLock
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.systemd import Services
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.restore_outcome import outcome_words

from .answer import DONE, FAILED, PARTLY, REFUSED, Answer, VerbError
from .units import start_with_others


def boot_of(engine: Engine, settings: Settings) -> AfterBoot:
    """The work of this boot."""
    return AfterBoot(engine, settings, Services(engine.runner, settings.stop_timeout))


def _words(boot: AfterBoot) -> List[str]:
    outcomes = boot.outcomes()
    if outcomes:
        return [outcome_words(outcome) for outcome in outcomes]
    if boot.result is None:
        return ["hotpmem-restore.service has not run in this boot"]
    return [f"no state had to be restored: {boot.result.get('msg') or (boot.result.get('error') or {}).get('said') or 'no state was due'}"]


def kept(error: HotpmemError) -> VerbError:
    """The error of a hot-add. If data would be lost, the code is REFUSED and the message names the command that gives it up."""
    if not error.details.get("destroys"):
        return VerbError.of(FAILED, error)
    todo = "If you do not need this data any more, run: hotpmem-node hot-add --force"
    return VerbError(REFUSED, error.what, error.said, todo, **error.details)


def hot_add_at_boot(engine: Engine, settings: Settings) -> Answer:
    """ExecStart of hotpmem-hot-add.service."""
    boot = boot_of(engine, settings)
    try:
        with HostLock(engine.sysfs).acting("the hot-add", wait=60):
            move = boot.hot_add()
    except Busy:
        raise
    except HotpmemError as error:
        shown = VerbError.of(REFUSED, error) if isinstance(error, Held) else kept(error)
        with contextlib.suppress(HotpmemError):
            boot.write_metrics(hot_add_ok=False)
        raise shown from error
    lines = _words(boot) + ([f"done: {change}" for change in move.changes] or ["nothing to do"])
    facts = dict(move.to_dict(), outcomes=boot.outcomes(), metrics=None)
    try:
        facts["metrics"] = boot.write_metrics(hot_add_ok=True) or None
    except HotpmemError as error:
        # The memory is in place and the services run. Nobody should repair a unit that failed only because of this.
        lines.append(f"warning: {error}")
    return Answer(lines, facts)


def outcome(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """The outcome of each item in this boot."""
    boot = boot_of(engine, settings)
    outcomes = boot.outcomes()
    lines = _words(boot)
    cold = [one for one in outcomes if one["status"] in ("cold", "down")]
    if cold:
        lines.append(f"end of the previous boot: {boot.last_end or 'not recorded (a handoff, a power cut or a reset)'}")
    if any(one["status"] == "down" for one in cold):
        down = " ".join(one["name"] for one in cold if one["status"] == "down")
        lines.append(f"to start the units without their state, run: hotpmem-node cold-start {down}")
    facts = {"outcomes": outcomes, "due": boot.due, "restore": boot.result, "last_end": boot.last_end or None}
    return Answer(lines, facts, PARTLY if cold else DONE)


def cold_start(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """Let held units start."""
    boot = boot_of(engine, settings)
    with HostLock(engine.sysfs).acting("a cold start", wait=60):
        names = boot.cold_start(args.item, lambda released: start_with_others(engine, settings, released))
    return Answer([f"{name} starts without its state" for name in names] or ["no unit is held down"], {"started": names})
