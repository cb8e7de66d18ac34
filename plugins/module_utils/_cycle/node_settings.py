# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of a host: /etc/hotpmem/node.json, which the role node_agent writes.

Only the agent reads this file. The keys are the names of the inventory variables without
``hotpmem_``. Times are in seconds, and sizes in bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any, Dict, List, Optional

from .._host.errors import HotpmemError
from .._host.size import parse_size
from .._image.state_copy import HELPER, Item, items_from
from .._kernel.jump_initrd import KINDS
from .hotplug import ROADS

SETTINGS = "/etc/hotpmem/node.json"
METHODS = ("systemd", "fast")
JUMP_INITRDS = ("default", *KINDS)
_TODO = "Apply the role node_agent again, or correct the file by hand; its keys are the parameters of that role"


@dataclass(frozen=True)
class Kept:
    """An item and the systemd unit that uses it. An empty ``unit`` means that no unit uses it.

    With ``cold_start`` False, the unit stays stopped when its state can't be restored.
    """

    name: str
    path: str
    unit: str = ""
    cold_start: bool = True

    def to_dict(self) -> Dict[str, Any]:
        """The item with the keys of the inventory."""
        return {"name": self.name, "path": self.path, "unit": self.unit or None, "cold_start": self.cold_start}


@dataclass(frozen=True)
class Settings:
    """All settings with their defaults. Timeouts are in seconds, and ``reserve`` is in bytes."""

    items: List[Kept] = field(default_factory=list)
    namespace: str = ""
    road: str = ROADS[0]
    helper: str = HELPER
    reserve: int = 64 << 20
    offline_timeout: float = 60
    copy_timeout: float = 300
    stop_timeout: float = 90
    shutdown_timeout: float = 120
    method: str = "systemd"
    fast_stop: List[str] = field(default_factory=list)
    kernel: str = ""
    initrd: str = ""
    jump_initrd: str = "default"
    jump_check: bool = True
    early_restore: bool = True
    early_network: bool = True
    command_line: str = ""
    force: bool = False

    @property
    def state_items(self) -> List[Item]:
        """The items in the form that the copy helper takes."""
        return [Item(kept.name, kept.path) for kept in self.items]

    @property
    def own_initrd(self) -> bool:
        """True when the jump uses an initrd that the collection builds.

        When the settings contain a kernel or an initrd, the jump uses that instead. A minimal
        initrd can mount only the present root file system, so it is not used when the settings
        contain a command line.
        """
        named = self.initrd or self.kernel or (self.jump_initrd == "minimal" and self.command_line)
        return self.jump_initrd != "default" and not named

    @property
    def units(self) -> List[str]:
        """The units of the items, each once, in the order of the items."""
        return list(dict.fromkeys(kept.unit for kept in self.items if kept.unit))


def _kept(entries: Any) -> List[Kept]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("items is not a list of objects")
    items_from(entries, need_path=True)
    return [
        Kept(str(entry["name"]), str(entry["path"]), str(entry.get("unit") or ""), entry.get("cold_start") is not False)
        for entry in entries
    ]


def _value(name: str, value: Any, default: Any) -> Any:
    """``value``, checked against the type of ``default``.

    Raises ValueError when it has another type or is not valid.
    """
    if name == "reserve":
        return parse_size(value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{name} is neither true nor false")
        return value
    if isinstance(default, (int, float)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ValueError(f"{name} is not a positive number of seconds")
        return value
    if isinstance(default, list):
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ValueError(f"{name} is not a list of strings")
        return value
    return "" if value is None else str(value)


def from_dict(values: Dict[str, Any], where: str = SETTINGS) -> Settings:
    """Settings from a mapping. ``where`` is the file's name for messages.

    Raises HotpmemError for a value that is not valid, and for an unknown key: a misspelt key must
    not silently mean the default.
    """
    what = f"Cannot use the settings in {where}"
    defaults = Settings()
    known = {one.name for one in fields(Settings)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise HotpmemError(what, f"unknown setting {', '.join(unknown)}; the settings are: {', '.join(sorted(known))}", _TODO)
    try:
        settings = Settings(
            **{name: _kept(value) if name == "items" else _value(name, value, getattr(defaults, name)) for name, value in values.items()}
        )
    except ValueError as error:
        raise HotpmemError(what, str(error), _TODO) from error
    for name, value, known_values in (
        ("method", settings.method, METHODS),
        ("road", settings.road, ROADS),
        ("jump_initrd", settings.jump_initrd, JUMP_INITRDS),
    ):
        if value not in known_values:
            raise HotpmemError(what, f"{name} is {value!r}, but it must be one of {', '.join(known_values)}", _TODO)
    return settings


def load(path: str = SETTINGS, missing: Optional[Settings] = None) -> Settings:
    """Settings from a file.

    ``missing`` is returned when the file does not exist; without it, that is an error. Raises
    HotpmemError when the file can't be read or is not valid.
    """
    what = f"Cannot read the settings in {path}"
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    except FileNotFoundError as error:
        if missing is not None:
            return missing
        todo = "Install the agent with the role node_agent, or give the path of another settings file"
        raise HotpmemError(what, "the file does not exist", todo) from error
    except OSError as error:
        raise HotpmemError(what, error.strerror or str(error), "Run this as root") from error
    except ValueError as error:
        raise HotpmemError(what, f"the file is not valid JSON ({error})", _TODO) from error
    if not isinstance(values, dict):
        raise HotpmemError(what, "the file does not contain a JSON object", _TODO)
    return from_dict(values, path)
