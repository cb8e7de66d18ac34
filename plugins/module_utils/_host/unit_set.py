# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units that have to stop together with a set of units, and start together with them again.

``systemctl stop`` waits only for the units that it was given. It returns while a unit that the stop propagates to still runs: Debian's
postgresql.service is a dummy, and its instances are PartOf it. A socket, timer or path unit that stays up starts the service again.

Sources: systemd.unit(5), ``Mapping of unit properties to their inverses``; src/core/unit-dependency-atom.c, UNIT_ATOM_PROPAGATE_STOP.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Sequence

# Stopping a unit stops what these properties of it name.
PROPAGATES_STOP = ("RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo")
# These units start it when something asks for it.
TRIGGERS = ("TriggeredBy",)
PROPERTIES = ("Id", "LoadState", "ActiveState", "Result", *PROPAGATES_STOP, *TRIGGERS)
# Units without processes: a stop passes through them, but to start a target would start units that were down.
_LEFT_OUT = (".target", ".slice", ".device")
_MAX_UNITS = 200  # a dependency on basic.target or alike would name half the machine

Show = Callable[[Sequence[str], Sequence[str]], List[Dict[str, str]]]


@dataclass(frozen=True)
class Unit:
    """A unit as systemd names it (``Id``). state is its ActiveState, result the Result of its last run (empty unless it has one)."""

    name: str
    loaded: bool
    state: str
    result: str

    @property
    def runs(self) -> bool:
        """True unless it is down: also while it starts, reloads or stops."""
        return self.state not in ("inactive", "failed")


def read_units(show: Show, names: Sequence[str]) -> List[Unit]:
    """Each of names as systemd knows it, in their order: with its suffix, and the real name for an alias."""
    return [_unit(one) for one in show(["Id", "LoadState", "ActiveState", "Result"], names)] if names else []


def stops_with(show: Show, names: Sequence[str]) -> List[Unit]:
    """names and every unit that a stop of them reaches or that would start them again, each once, names first.

    show: Services.show. Targets are followed but not returned: starting one would start units that were down.
    """
    found: Dict[str, Unit] = {}
    todo = list(names)
    while todo and len(found) < _MAX_UNITS:
        batch, todo = todo, []
        for properties in show(PROPERTIES, batch):
            unit = _unit(properties)
            if not unit.name or unit.name in found:
                continue
            found[unit.name] = unit
            todo += [other for other in _names(properties) if other not in found and other not in todo]
    return [unit for unit in found.values() if not unit.name.endswith(_LEFT_OUT)]


def _unit(properties: Mapping[str, str]) -> Unit:
    return Unit(
        properties.get("Id", ""), properties.get("LoadState") == "loaded", properties.get("ActiveState", ""), properties.get("Result", "")
    )


def _names(properties: Mapping[str, str]) -> List[str]:
    """The units that a stop reaches from here. A trigger counts by itself, but stopping it stops nothing else."""
    # systemctl quotes a name with a backslash: "run-credentials-x\\x2dy.service.mount".
    return [name for key in (*PROPAGATES_STOP, *TRIGGERS) for name in shlex.split(properties.get(key, ""))]
