# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""How long hosts will take, from the cycles they have been through, and whether a cycle was far from them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .windows import Window, next_opening

UNKNOWN = 300.0  # seconds for a host when no host of the fleet has a history
ENOUGH = 3  # cycles that a comparison needs
FAR = 2.0  # times the median


@dataclass(frozen=True)
class Expected:
    """What a host is expected to take. None: no history says so."""

    down: float | None
    whole: float | None


def numbers(history: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """The values of a key that are positive numbers."""
    values = [cycle.get(key) for cycle in history]
    return [float(value) for value in values if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0]


def median(values: Sequence[float]) -> float | None:
    """The median; None for nothing."""
    return statistics.median(values) if values else None


def expected(history: Sequence[Mapping[str, Any]]) -> Expected:
    """The medians of a host's own cycles."""
    return Expected(median(numbers(history, "down_seconds")), median(numbers(history, "seconds")))


def fill_in(found: Mapping[str, Expected]) -> dict[str, float]:
    """Seconds from the begin to the end of each host. Hosts without a history are expected to take what the fleet takes."""
    fleet = median([one.whole for one in found.values() if one.whole is not None]) or UNKNOWN
    return {host: one.whole if one.whole is not None else fleet for host, one in found.items()}


def batch_seconds(seconds: Sequence[float], forks: int, soak: float) -> float:
    """Seconds of a batch. Ansible works on `forks` hosts at once, and the soak comes after each of them."""
    waves = math.ceil(len(seconds) / max(forks, 1))
    return waves * max(seconds, default=0.0) + soak


def schedule(
    batches: Sequence[Sequence[str]],
    seconds: Mapping[str, float],
    start: datetime,
    *,
    forks: int = 5,
    soak: float = 0.0,
    windows: Sequence[Window] = (),
) -> list[tuple[datetime, datetime]]:
    """Expected begin and end of each batch. A batch that does not fit into the open window begins in the next one."""
    found: list[tuple[datetime, datetime]] = []
    now = start
    for batch in batches:
        takes = batch_seconds([seconds[host] for host in batch], forks, soak)
        now = next_opening(windows, now, takes) or now
        found.append((now, now + timedelta(seconds=takes)))
        now = found[-1][1]
    return found


def far_slower(seconds: float, before: Sequence[float]) -> bool:
    """Whether a duration is far above those before it, if there are enough of them to compare."""
    return len(before) >= ENOUGH and seconds > FAR * statistics.median(before)


def behind(history: Sequence[Mapping[str, Any]], cycle: Mapping[str, Any]) -> list[str]:
    """What was far worse in this cycle than in those before it, one sentence each."""
    said = []
    before, now = numbers(history, "down_seconds"), numbers([cycle], "down_seconds")
    if now and far_slower(now[0], before):
        said.append(
            f"The service was down for {now[0]:.1f} s, and {statistics.median(before):.1f} s is its median of {len(before)} cycles."
        )
    rates, rate = _rates(history), _rates([cycle])
    if len(rates) >= ENOUGH and rate and rate[0] * FAR < statistics.median(rates):
        said.append(
            f"The save reached {rate[0] / 1e6:.0f} MB/s, and {statistics.median(rates) / 1e6:.0f} MB/s is the median of the last "
            f"{len(rates)} cycles."
        )
    return said


def _rates(history: Sequence[Mapping[str, Any]]) -> list[float]:
    pairs = [(numbers([cycle], "saved_bytes"), numbers([cycle], "save_seconds")) for cycle in history]
    return [size[0] / seconds[0] for size, seconds in pairs if size and seconds]


def duration(seconds: float | None) -> str:
    """Seconds for people: 0.8 s, 45 s, 12 min, 3 h 20 min."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
