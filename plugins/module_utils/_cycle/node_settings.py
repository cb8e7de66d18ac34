# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host was told to keep, and how: /etc/hotpmem/node.json, written by the role node_agent.

Read by the agent and by nothing else; the names are those of the inventory variables, without ``hotpmem_``. Seconds and bytes.
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
_TODO = "Write it again with the role node_agent, or mend it by hand: its keys are the parameters of that role"


@dataclass(frozen=True)
class Kept:
    """An item with the unit that uses it. unit is empty for none; cold_start False: rather down than without its state."""

    name: str
    path: str
    unit: str = ""
    cold_start: bool = True

    def to_dict(self) -> Dict[str, Any]:
        """As in the inventory."""
        return {"name": self.name, "path": self.path, "unit": self.unit or None, "cold_start": self.cold_start}


@dataclass(frozen=True)
class Settings:
    """All settings with their defaults. Timeouts in seconds, reserve in bytes."""

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
        """As the copy helper takes them."""
        return [Item(kept.name, kept.path) for kept in self.items]

    @property
    def own_initrd(self) -> bool:
        """True when the jump uses an initrd that the collection builds.

        An operator who names a kernel or an initrd gets that one. A minimal initrd knows only the root file system that is mounted now, so
        it is not used with another command line.
        """
        named = self.initrd or self.kernel or (self.jump_initrd == "minimal" and self.command_line)
        return self.jump_initrd != "default" and not named

    @property
    def units(self) -> List[str]:
        """Units of the items, each once, in the order of the items."""
        return list(dict.fromkeys(kept.unit for kept in self.items if kept.unit))


def _kept(entries: Any) -> List[Kept]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("items is no list of objects")
    items_from(entries, need_path=True)
    return [
        Kept(str(entry["name"]), str(entry["path"]), str(entry.get("unit") or ""), entry.get("cold_start") is not False)
        for entry in entries
    ]


def _value(name: str, value: Any, default: Any) -> Any:
    """value as the type of default. Raises ValueError."""
    if name == "reserve":
        return parse_size(value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{name} is neither true nor false")
        return value
    if isinstance(default, (int, float)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ValueError(f"{name} is no positive number of seconds")
        return value
    if isinstance(default, list):
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ValueError(f"{name} is no list of words")
        return value
    return "" if value is None else str(value)


def from_dict(values: Dict[str, Any], where: str = SETTINGS) -> Settings:
    """Settings from a mapping. Raises HotpmemError: a misspelt key must not pass for a default."""
    what = f"Cannot use the settings in {where}"
    defaults = Settings()
    known = {one.name for one in fields(Settings)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise HotpmemError(what, f"there is no setting {', '.join(unknown)}; there are: {', '.join(sorted(known))}", _TODO)
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
            raise HotpmemError(what, f"{name} is {value!r}, not one of {', '.join(known_values)}", _TODO)
    return settings


def load(path: str = SETTINGS, missing: Optional[Settings] = None) -> Settings:
    """Settings from a file. missing: what to return when there is none. Raises HotpmemError."""
    what = f"Cannot read the settings in {path}"
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    except FileNotFoundError as error:
        if missing is not None:
            return missing
        raise HotpmemError(what, "the file is not there", "Install the agent with the role node_agent, or name another file") from error
    except OSError as error:
        raise HotpmemError(what, error.strerror or str(error), "Run as root") from error
    except ValueError as error:
        raise HotpmemError(what, f"it is not JSON ({error})", _TODO) from error
    if not isinstance(values, dict):
        raise HotpmemError(what, "it holds no JSON object", _TODO)
    return from_dict(values, path)
