# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb units: which units start and stop with the items, and whether they have our drop-ins."""

from __future__ import annotations

import argparse
from typing import Any, Dict, List, Sequence

from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import Settings
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.state_units import StateUnits
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.systemd import Services

from .answer import REFUSED, Answer, VerbError


def start_with_others(engine: Engine, settings: Settings, names: Sequence[str]) -> List[str]:
    """Start units, and the units of their sets whose start a condition has prevented, such as sockets. Returns all of them."""
    services = Services(engine.runner, settings.stop_timeout)
    units = StateUnits(engine.sysfs, services, settings)
    units.find()
    ordered = units.to_start(names)
    services.start(ordered)
    return ordered


def _line(row: Dict[str, Any]) -> str:
    items = ", ".join(kept["name"] for kept in row["kept"])
    lacks = "" if row["guarded"] else ("  (lacks a drop-in)" if row["loaded"] else "  (does not exist)")
    return f"{row['name']}  {items}{lacks}"


def units(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """List the units, check their drop-ins, or start those that a condition kept down."""
    if args.start:
        started = start_with_others(engine, settings, settings.units)
        return Answer([f"started {', '.join(started)}" if started else "nothing to start"], {"started": started})
    found = StateUnits(engine.sysfs, Services(engine.runner, settings.stop_timeout), settings)
    found.find()
    rows = found.describe()
    wrong = [f"{row['name']} ({', '.join(row['lacks'])})" for row in rows if row["loaded"] and not row["guarded"]]
    if args.check and wrong:
        raise VerbError(
            REFUSED,
            "Cannot rely on the order of the units",
            f"systemd has not read the drop-ins of the collection for {', '.join(wrong)}",
            "Run the playbook provision. If it has just run, see which files systemd reads: systemctl cat shows them",
            units=rows,
        )
    return Answer([_line(row) for row in rows] or ["no item has a unit"], {"units": rows})
