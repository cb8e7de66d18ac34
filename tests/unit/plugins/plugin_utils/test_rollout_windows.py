# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance windows, by the clock of their zone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import windows as w

NIGHT = {"days": ["mon", "sat"], "from": "22:00", "to": "04:00", "zone": "Europe/Berlin"}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def read(*raw: dict) -> list[w.Window]:
    windows, problems = w.parse(raw)
    assert not problems
    return windows


@pytest.mark.parametrize(
    "now, closes, opens",
    [
        # 2026-11-23 is a Monday; Berlin is one hour ahead of UTC in winter.
        ("2026-11-23 20:59", None, "2026-11-23 21:00"),
        ("2026-11-23 21:00", "2026-11-24 03:00", "2026-11-23 21:00"),
        ("2026-11-24 02:59", "2026-11-24 03:00", "2026-11-24 02:59"),
        ("2026-11-24 03:00", None, "2026-11-28 21:00"),
        # two hours in summer
        ("2026-07-04 19:59", None, "2026-07-04 20:00"),
        ("2026-07-04 20:00", "2026-07-05 02:00", "2026-07-04 20:00"),
    ],
)
def test_over_midnight(now: str, closes: str | None, opens: str) -> None:
    windows = read(NIGHT)
    begin, end = next(w.openings(windows, utc(now)))
    assert (begin <= utc(now), end) == ((True, utc(closes)) if closes else (False, end))
    assert w.next_opening(windows, utc(now)) == utc(opens)


@pytest.mark.parametrize(
    "begins, ends, opens, closes",
    [
        # 2026-03-29: 02:00 to 03:00 does not exist in Berlin. 01:00 UTC is 03:00 there.
        ("01:00", "04:00", "2026-03-29 00:00", "2026-03-29 02:00"),  # two hours by any other clock
        ("02:30", "04:00", "2026-03-29 01:30", "2026-03-29 02:00"),
        ("02:10", "02:50", "2026-03-29 01:10", "2026-03-29 01:50"),
        ("01:30", "02:30", "2026-03-29 00:30", "2026-03-29 01:30"),
    ],
)
def test_the_hour_that_does_not_exist(begins: str, ends: str, opens: str, closes: str) -> None:
    windows = read({"days": ["sun"], "from": begins, "to": ends, "zone": "Europe/Berlin"})
    assert next(w.openings(windows, utc("2026-03-28 12:00"))) == (utc(opens), utc(closes))


@pytest.mark.parametrize(
    "begins, ends, opens, closes",
    [
        # 2026-10-25: 02:00 to 03:00 comes twice. The first one ends at 01:00 UTC.
        ("01:00", "04:00", "2026-10-24 23:00", "2026-10-25 03:00"),  # four hours
        ("02:30", "04:00", "2026-10-25 00:30", "2026-10-25 03:00"),
        ("01:00", "02:30", "2026-10-24 23:00", "2026-10-25 00:30"),
    ],
)
def test_the_hour_that_comes_twice(begins: str, ends: str, opens: str, closes: str) -> None:
    windows = read({"days": ["sun"], "from": begins, "to": ends, "zone": "Europe/Berlin"})
    assert next(w.openings(windows, utc("2026-10-24 12:00"))) == (utc(opens), utc(closes))


def test_a_host_begins_only_if_it_ends_within_the_window() -> None:
    windows = read(NIGHT)
    late = utc("2026-11-24 02:50")
    assert w.next_opening(windows, late, 600) == late != w.next_opening(windows, late, 601)
    assert w.next_opening(windows, late, 601) == utc("2026-11-28 21:00")
    assert w.next_opening(windows, late, 6 * 3600 + 1) is None
    assert w.next_opening([], late, 1e6) == late


def test_windows_that_touch_are_one() -> None:
    windows = read({"days": ["sat"], "from": "00:00", "to": "24:00"}, {"days": ["sun"], "from": "00:00", "to": "12:00"})
    assert next(w.openings(windows, utc("2026-11-28 06:00"))) == (utc("2026-11-28 00:00"), utc("2026-11-29 12:00"))
    every_day = read({"from": "00:00", "to": "00:00"})
    assert w.next_opening(every_day, utc("2026-11-28 23:59"), 6 * 86400) == utc("2026-11-28 23:59")


def test_each_minute_of_a_year_agrees_with_the_clock_on_the_wall() -> None:
    """The same question, answered minute by minute from the clock of the zone. Near a change of the clock both answers may stand."""
    windows = read(NIGHT)
    zone = windows[0].zone
    now = utc("2026-01-01 00:00")
    for _step in range(0, 365 * 24 * 60, 97):
        local = now.astimezone(zone)
        yesterday = (local - timedelta(days=1)).weekday()
        open_now = (local.weekday() in (0, 5) and local.hour >= 22) or (yesterday in (0, 5) and local.hour < 4)
        assert (w.next_opening(windows, now) == now) == open_now, local
        now += timedelta(minutes=97)


@pytest.mark.parametrize(
    "raw, said",
    [
        ("22-04", "it is not a dict"),
        ({"from": "22:00", "to": "25:00"}, "to must be a time"),
        ({"from": "22:61", "to": "23:00"}, "from must be a time"),
        ({"days": ["someday"], "from": "22:00", "to": "23:00"}, "unknown days: someday"),
        ({"days": [], "from": "22:00", "to": "23:00"}, "it never opens"),
        ({"from": "22:00", "to": "23:00", "zone": "Europe/Atlantis"}, "unknown time zone 'Europe/Atlantis'"),
        ({"from": "22:00", "to": "23:00", "until": 3}, "unknown keys: until"),
        ({"days": ["sat"]}, "from must be a time"),
        ({"days": ["mon-fri"], "from": "22:00", "to": "23:00"}, "unknown days: mon-fri. The days are mon, tue"),
        ({"days": "mo", "from": "22:00", "to": "23:00"}, "unknown days: mo."),
        ({"days": 5, "from": "22:00", "to": "23:00"}, "days must be a list such as [sat, sun], and it is 5"),
        ({"days": {"sat": True}, "from": "22:00", "to": "23:00"}, "days must be a list"),
        ({"days": None, "from": "22:00", "to": "23:00"}, "it never opens"),
        ({"from": 22, "to": "23:00"}, 'from must be a time such as "22:00", and it is 22'),
    ],
)
def test_what_cannot_be_read(raw: object, said: str) -> None:
    windows, problems = w.parse([raw])
    assert not windows and any(said in one for one in problems) and all(one.startswith("hotpmem_windows: window 1: ") for one in problems)


def test_yaml_reads_an_unquoted_time_as_a_number() -> None:
    found = read({"days": "sat,Sunday, tues", "from": 22 * 60, "to": "4:00"})[0]
    assert found.begins.hour == 22 and found.days == (1, 5, 6)
