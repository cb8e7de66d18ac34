# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Maintenance windows: when they are open, by the clock of their time zone.

A window begins on one of its days and may end on the next one. Both ends are read as times on the clock of the zone. A time that does
not exist, because the clock is put forward, counts as that much later. A time that comes twice, because the clock is put back, counts
as the first one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONG = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
KEYS = ("days", "from", "to", "zone")
AHEAD = 9  # days to look ahead: every weekday, and the end of a window that begins on the last one


@dataclass(frozen=True)
class Window:
    """One line of hotpmem_windows."""

    days: tuple[int, ...]
    begins: time
    ends: time
    zone: ZoneInfo

    def opening_on(self, day: date) -> tuple[datetime, datetime]:
        """From when to when the window that begins on this day is open, in UTC."""
        last = day + timedelta(days=1) if self.ends <= self.begins else day
        return _moment(day, self.begins, self.zone), _moment(last, self.ends, self.zone)


def _moment(day: date, clock: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, clock, tzinfo=zone).astimezone(timezone.utc)


def _clock(value: Any) -> time | None:
    """A time such as 22:00. YAML reads an unquoted 22:00 as the number 1320, in base 60. A number below 60 is not such a time."""
    if isinstance(value, int) and not isinstance(value, bool) and 60 <= value <= 24 * 60:
        value = f"{value // 60}:{value % 60:02}"
    found = re.fullmatch(r"(\d{1,2}):(\d{2})", str(value).strip())
    if not found:
        return None
    hour, minute = int(found[1]), int(found[2])
    if (hour, minute) == (24, 0):
        hour = 0
    return time(hour, minute) if hour < 24 and minute < 60 else None


def parse(raw: Sequence[Any]) -> tuple[list[Window], list[str]]:
    """The windows, and what is wrong with those that cannot be read."""
    windows: list[Window] = []
    problems: list[str] = []
    for number, one in enumerate(raw, 1):
        found: list[str] = []
        window = _parse_one(one, found)
        problems += [f"hotpmem_windows: window {number}: {problem}" for problem in found]
        if window and not found:
            windows.append(window)
    return windows, problems


def _parse_one(one: Any, problems: list[str]) -> Window | None:
    if not isinstance(one, Mapping):
        problems.append('it is not a dict. Write for example {days: [sat], from: "22:00", to: "04:00", zone: Europe/Berlin}.')
        return None
    unknown = sorted(str(key) for key in one if key not in KEYS)
    if unknown:
        problems.append(f"unknown keys: {', '.join(unknown)}. The keys are {', '.join(KEYS)}.")
    days = one.get("days", list(DAYS))
    days = [word for word in re.split(r"[\s,]+", days) if word] if isinstance(days, str) else days
    names = [str(day) for day in days] if isinstance(days, Sequence) else []
    # A part of a word counts only if it begins the name of a day: mon-fri is not Monday.
    wrong = [name for name in names if _day(name) is None]
    if wrong:
        problems.append(f"unknown days: {', '.join(wrong)}. The days are {', '.join(DAYS)}, each by itself.")
    if days is not None and not isinstance(days, Sequence):
        problems.append(f"days must be a list such as [sat, sun], and it is {days!r}.")
    elif not names:
        problems.append("it never opens, because its list of days is empty. Leave days out for every day.")
    clocks = {key: _clock(one.get(key)) for key in ("from", "to")}
    for key, clock in clocks.items():
        if clock is None:
            problems.append(f'{key} must be a time such as "22:00", and it is {one.get(key)!r}.')
    zone = _zone(str(one.get("zone") or "UTC"), problems)
    begins, ends = clocks["from"], clocks["to"]
    if problems or zone is None or begins is None or ends is None:
        return None
    return Window(tuple(sorted({day for name in names if (day := _day(name)) is not None})), begins, ends, zone)


def _day(name: str) -> int | None:
    """The number of a day from its name, or from its first three or more letters."""
    word = name.lower()
    return next((number for number, day in enumerate(LONG) if len(word) >= 3 and day.startswith(word)), None)


def _zone(name: str, problems: list[str]) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        problems.append(f"unknown time zone {name!r}. Use a name such as Europe/Berlin. The controller needs tzdata.")
        return None


def openings(windows: Sequence[Window], now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The times at which at least one window is open, from now on, in order. Windows that touch are one opening."""
    found = []
    for window in windows:
        today = now.astimezone(window.zone).date()
        for ahead in range(-2, AHEAD):
            day = today + timedelta(days=ahead)
            if day.weekday() in window.days:
                found.append(window.opening_on(day))
    current: tuple[datetime, datetime] | None = None
    for begin, end in sorted(found):
        if end <= now or end <= begin:
            continue
        if current and begin <= current[1]:
            current = (current[0], max(current[1], end))
            continue
        if current:
            yield current
        current = (begin, end)
    if current:
        yield current


def next_opening(windows: Sequence[Window], now: datetime, seconds: float = 0) -> datetime | None:
    """The first moment, now or later, at which something that takes so many seconds may begin. None when no opening is long enough."""
    if not windows:
        return now
    for begin, end in openings(windows, now):
        start = max(begin, now)
        if start + timedelta(seconds=seconds) <= end:
            return start
    return None
