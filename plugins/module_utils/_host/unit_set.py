# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units that have to stop together with a set of units, and start together with them again.

``systemctl stop`` waits only for the units that it was given. It returns while a unit that the stop propagates to still runs: Debian's
postgresql.service is a dummy, and its instances are PartOf it. A socket, timer or path unit that stays up starts the service again.

Sources: systemd.unit(5), ``Mapping of unit properties to their inverses``; src/core/unit-dependency-atom.c, UNIT_ATOM_PROPAGATE_STOP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

from .errors import HotpmemError
from .systemd import unit_names

_PARTS = "ConsistsOf"  # the units that are PartOf= it: the instances of a dummy service
# Stopping a unit stops what these properties of it name.
PROPAGATES_STOP = ("RequiredBy", "RequisiteOf", "BoundBy", _PARTS, "PropagatesStopTo")
# These units start it when something asks for it, or it starts them.
TRIGGERS = ("TriggeredBy", "Triggers")
PROPERTIES = ("Id", "LoadState", "ActiveState", "Result", "DropInPaths", "Accept", *PROPAGATES_STOP, *TRIGGERS)
# They stop and start before the units that they start. A socket that stops after its service could start it once more, and systemd
# refuses to start a socket whose service runs: src/core/socket.c, socket_start().
_TRIGGERING = (".socket", ".timer", ".path")
# Units without processes: a stop passes through them, but to start a target would start units that were down.
_LEFT_OUT = (".target", ".slice", ".device")
_MAX_UNITS = 200  # a unit that sysinit.target or alike requires would name half the machine

Show = Callable[[Sequence[str], Sequence[str]], List[Dict[str, str]]]


@dataclass(frozen=True)
class Unit:
    """A unit as systemd names it (``Id``). state is its ActiveState, result the Result of its last run (empty unless it has one).

    dropins: the paths of its drop-ins that systemd has read. reaches: the units that a stop of it reaches, or that start it or are
    started by it, parts among them. parts: those that are PartOf= it. accepts: it is a socket that starts an instance for each connection.
    """

    name: str
    loaded: bool
    state: str
    result: str
    dropins: Tuple[str, ...] = field(default=(), compare=False)
    reaches: Tuple[str, ...] = field(default=(), compare=False)
    parts: Tuple[str, ...] = field(default=(), compare=False)
    accepts: bool = field(default=False, compare=False)

    @property
    def runs(self) -> bool:
        """True unless it is down: also while it starts, reloads or stops."""
        return self.state not in ("inactive", "failed")


class UnitSet:
    """Units that stop and start together. Iterating leaves out targets, slices and devices.

    The units that start others come first. All others are in the order in which they were found.

    found: by the name of systemd. aliases: the names that were asked for, with the name of systemd for each.
    """

    def __init__(self, found: Mapping[str, Unit], aliases: Mapping[str, str]) -> None:
        self.found = found
        self.aliases = aliases

    def __iter__(self) -> Iterator[Unit]:
        units = [unit for unit in self.found.values() if not unit.name.endswith(_LEFT_OUT)]
        return iter(sorted(units, key=lambda unit: not unit.name.endswith(_TRIGGERING)))

    def named(self, name: str) -> str:
        """What systemd calls the unit."""
        return self.aliases.get(name, name)

    def of(self, name: str) -> List[str]:
        """The unit and everything that a stop of it reaches or that would start it again."""
        return self._closure(name, lambda unit: unit.reaches)

    def parts(self, name: str) -> List[str]:
        """The unit and the units that are PartOf= it. Other units only depend on it, or start it."""
        return self._closure(name, lambda unit: unit.parts)

    def _closure(self, name: str, following: Callable[[Unit], Sequence[str]]) -> List[str]:
        names, todo = [], [self.named(name)]
        while todo:
            one = todo.pop(0)
            if one in self.found and one not in names:
                names.append(one)
                todo += following(self.found[one])
        return names


def read_units(show: Show, names: Sequence[str]) -> List[Unit]:
    """Each of names as systemd knows it, in their order: with its suffix, and the real name for an alias."""
    return [_unit(one) for one in show(["Id", "LoadState", "ActiveState", "Result"], names)] if names else []


def stops_with(show: Show, names: Sequence[str]) -> UnitSet:
    """names and every unit that a stop of them reaches or that would start them again, each once, names first.

    show: Services.show. Targets are followed but not returned: starting one would start units that were down. Raises HotpmemError when
    there are too many: a set with only some of them would let the others run during a save.
    """
    found: Dict[str, Unit] = {}
    aliases: Dict[str, str] = {}
    todo = list(names)
    while todo and len(found) < _MAX_UNITS:
        batch, todo = todo, []
        for asked, properties in zip(batch, show(PROPERTIES, batch)):
            unit = _unit(properties)
            aliases[asked] = unit.name or asked
            if not unit.name or unit.name in found:
                continue
            found[unit.name] = unit
            todo += [other for other in unit.reaches if other not in found and other not in todo]
    if todo:
        some = ", ".join([name for name in found if name not in names][:5])
        raise HotpmemError(
            f"Cannot stop {', '.join(names)}",
            f"more than {_MAX_UNITS} units, such as {some}, stop with {', '.join(names)} or start it",
            "See systemctl list-dependencies --reverse. Remove the RequiredBy= or PartOf= that ties the rest of the machine to it",
        )
    return UnitSet(found, aliases)


def _unit(properties: Mapping[str, str]) -> Unit:
    def words(*keys: str) -> Tuple[str, ...]:
        return tuple(word for key in keys for word in unit_names(properties.get(key, "")))

    return Unit(
        properties.get("Id", ""),
        properties.get("LoadState") == "loaded",
        properties.get("ActiveState", ""),
        properties.get("Result", ""),
        words("DropInPaths"),
        # A trigger counts by itself: an item may name a socket, and stopping that stops nothing else.
        words(*PROPAGATES_STOP, *TRIGGERS),
        words(_PARTS),
        properties.get("Accept") == "yes",
    )
