# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of a host in /etc/hotpmem/node.json: which items it keeps, and how. The role node_agent writes this file.

Only the agent reads it. A setting has the name of its inventory variable without ``hotpmem_``. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any, Dict, List, Optional, Sequence

from .._host.errors import HotpmemError
from .._host.size import parse_size
from .._image.state_copy import HELPER, Item, items_from
from .._kernel.jump_command_line import JUMP_ARGUMENTS, fault
from .._kernel.jump_initrd import KINDS
from .._kernel.kernel_choice import check_input
from .hotplug import ROADS

SETTINGS = "/etc/hotpmem/node.json"
METHODS = ("systemd", "fast", "firmware")
JUMP_INITRDS = ("default", *KINDS)
ON_DIRTY_STOP = ("refuse", "cold")
LONGEST = 86400  # seconds; pmem-state takes no more (parse_seconds in base/options.c)
_TODO = "Run the role node_agent to write the file again, or correct it by hand. Its keys are the parameters of that role"


@dataclass(frozen=True)
class Kept:
    """An item, and the unit that uses it.

    unit: empty when no unit uses the item. cold_start: False keeps the unit down when the state was not restored. on_dirty_stop: what a
    handoff does when the unit did not end well: ``refuse`` to jump, or leave the item out, so that it starts ``cold``.
    """

    name: str
    path: str
    unit: str = ""
    cold_start: bool = True
    on_dirty_stop: str = ON_DIRTY_STOP[0]

    def to_dict(self) -> Dict[str, Any]:
        """The item as in the inventory."""
        return {
            "name": self.name,
            "path": self.path,
            "unit": self.unit or None,
            "cold_start": self.cold_start,
            "on_dirty_stop": self.on_dirty_stop,
        }


@dataclass(frozen=True)
class Settings:
    """All settings with their defaults. Timeouts are in seconds, reserve is in bytes."""

    items: List[Kept] = field(default_factory=list)
    namespace: str = ""
    road: str = ROADS[0]
    helper: str = HELPER
    reserve: int = 64 << 20
    offline_timeout: float = 60
    copy_timeout: float = 300
    stop_timeout: float = 90
    shutdown_timeout: float = 120
    prepare_seconds: float = 10
    method: str = "systemd"
    fast_stop: List[str] = field(default_factory=list)
    kernel: str = ""
    initrd: str = ""
    jump_initrd: str = "default"
    jump_check: bool = True
    jump_arguments: List[str] = field(default_factory=lambda: list(JUMP_ARGUMENTS))
    early_restore: bool = True
    early_network: bool = True
    state_first: bool = False
    command_line: str = ""
    force: bool = False
    metrics_dir: str = ""

    @property
    def state_items(self) -> List[Item]:
        """The items in the form that pmem-state takes."""
        return items_of(self.items)

    @property
    def own_initrd(self) -> bool:
        """True when the jump uses an initrd that the collection builds.

        An operator who names the file of a kernel or an initrd gets that one. A minimal initrd knows only the root file system that is
        mounted now, so it is not used with another command line. It has the modules of the running kernel, so a handoff uses it only when
        ``newest`` or a release turns out to be that kernel (jump_target.uses_own_initrd).
        """
        named = self.initrd or self.kernel.startswith("/") or (self.jump_initrd == "minimal" and self.command_line)
        return self.jump_initrd != "default" and not named

    @property
    def units(self) -> List[str]:
        """The units of the items, in their order, without duplicates."""
        return list(dict.fromkeys(kept.unit for kept in self.items if kept.unit))


def items_of(kept: Sequence[Kept]) -> List[Item]:
    """Items in the form that pmem-state takes."""
    return [Item(one.name, one.path) for one in kept]


def kept_items(entries: Any) -> List[Kept]:
    """The items of a list of dicts. Raises ValueError, or HotpmemError, when one is not valid."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("items is not a list of objects")
    items_from(entries, need_path=True)
    for entry in entries:
        if entry.get("on_dirty_stop") not in (None, *ON_DIRTY_STOP):
            known = ", ".join(ON_DIRTY_STOP)
            raise ValueError(f"on_dirty_stop of the item {entry['name']} is {entry['on_dirty_stop']!r}. It must be one of: {known}")
    return [
        Kept(
            str(entry["name"]),
            str(entry["path"]),
            str(entry.get("unit") or ""),
            entry.get("cold_start") is not False,
            entry.get("on_dirty_stop") or ON_DIRTY_STOP[0],
        )
        for entry in entries
    ]


def items_with_units(entries: Sequence[Dict[str, Any]]) -> List[Kept]:
    """The items of the option ``items`` of a module, where all other keys may hold anything. Raises HotpmemError."""
    return kept_items([{key: entry.get(key) for key in ("name", "path", "unit")} for entry in entries])


def _value(name: str, value: Any, default: Any) -> Any:
    """Convert value to the type of default. Raises ValueError when the value does not fit."""
    if name == "reserve":
        return parse_size(value)
    if name == "metrics_dir" and value and not str(value).startswith("/"):
        raise ValueError(f"metrics_dir is {value!r}. It must be an absolute path, or empty")
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false")
        return value
    if isinstance(default, (int, float)):
        off = name == "prepare_seconds" and value == 0
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not (0 < value <= LONGEST or off):
            raise ValueError(f"{name} must be a positive number of seconds, at most {LONGEST}")
        return value
    if isinstance(default, list):
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ValueError(f"{name} must be a list of strings")
        wrong = fault(value) if name == "jump_arguments" else ""
        if wrong:
            raise ValueError(wrong)
        return value
    return "" if value is None else str(value)


def from_dict(values: Dict[str, Any], where: str = SETTINGS) -> Settings:
    """Make settings from a mapping. where: the file, for messages.

    Raises HotpmemError for an unknown key, so that a misspelt key is not silently replaced by a default.
    """
    what = f"Cannot use the settings in {where}"
    defaults = Settings()
    known = {one.name for one in fields(Settings)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise HotpmemError(
            what, f"the setting {', '.join(unknown)} does not exist. The known settings are: {', '.join(sorted(known))}", _TODO
        )
    try:
        given: Dict[str, Any] = {
            name: kept_items(value) if name == "items" else _value(name, value, getattr(defaults, name)) for name, value in values.items()
        }
        settings = Settings(**given)
    except ValueError as error:
        raise HotpmemError(what, str(error), _TODO) from error
    for name, value, known_values in (
        ("method", settings.method, METHODS),
        ("road", settings.road, ROADS),
        ("jump_initrd", settings.jump_initrd, JUMP_INITRDS),
    ):
        if value not in known_values:
            raise HotpmemError(what, f"{name} is {value!r}. It must be one of: {', '.join(known_values)}", _TODO)
    check_input(settings.kernel or None, settings.initrd or None)
    return settings


def load(path: str = SETTINGS, missing: Optional[Settings] = None) -> Settings:
    """Read settings from a file. missing: what to return when the file does not exist. Raises HotpmemError."""
    what = f"Cannot read the settings in {path}"
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    except FileNotFoundError as error:
        if missing is not None:
            return missing
        raise HotpmemError(
            what, "the file does not exist", "Install the agent with the role node_agent, or name another file with --settings"
        ) from error
    except OSError as error:
        raise HotpmemError(what, error.strerror or str(error), "Run as root") from error
    except ValueError as error:
        raise HotpmemError(what, f"it is not valid JSON ({error})", _TODO) from error
    if not isinstance(values, dict):
        raise HotpmemError(what, "it does not contain a JSON object", _TODO)
    return from_dict(values, path)
