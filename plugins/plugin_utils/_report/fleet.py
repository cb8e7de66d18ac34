# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet on one page: what needs somebody, how long each phase takes, how that changed, and a row for each host.

Nothing that a host says is trusted. Text is returned as text, and the template escapes it; what should be a number is left out unless it is
one; a command names only what has the form of a name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ansible_collections.hotpmem.fleet.plugins.module_utils._host.size import format_size
from ansible_collections.hotpmem.fleet.plugins.module_utils._image.timeline import PHASES, UP
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._report import charts
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._report.helpers import helper_digests
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.estimate import far_slower
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.result_table import percentiles
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.state import FAILED
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.words import count, seconds_of, short

CYCLES = 20  # in the trend
_DOWN = tuple((mark, name) for mark, name in PHASES if mark not in UP)
# The class of each phase in the style sheet of the page.
CLASSES = {name: f"phase-{mark}" for mark, name in PHASES}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_WITH_STATE = ("restored", "running")


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _positive(value: Any) -> float | None:
    number = seconds_of(value)
    return number if number is not None and 0 <= number < 1e15 else None


def _size(value: Any) -> str:
    number = _positive(value)
    return format_size(int(number)) if number else "-"


def _command(host: str, words: str) -> str:
    return f"ansible {shlex.quote(host)} -b -a {shlex.quote(words)}"


class HostRow:
    """One host. cycle: its cycle.json. facts: the result of rollout_facts. failure: why it has none. rollout: how a rollout failed."""

    def __init__(self, name: str, cycle: Any, facts: Any, failure: str, rollout: Any = None) -> None:
        self.name = name
        self.rollout = _mapping(rollout)
        self.failure = failure
        self.history = _dicts(_mapping(facts).get("history"))[-CYCLES:]
        self.mark = _mapping(_mapping(facts).get("mark"))
        self.cycle = _mapping(cycle)
        timeline = _mapping(self.cycle.get("timeline"))
        last = self.history[-1] if self.history and not self.cycle else {}
        told = {str(one.get("name")): one.get("seconds") for one in _dicts(timeline.get("phases"))} or _mapping(last.get("phases"))
        # Only phases that this version knows, in the order of a cycle.
        self.phases = {name: seconds for _mark, name in PHASES if (seconds := _positive(told.get(name))) is not None}
        self.down = _positive(timeline.get("down_seconds") if self.cycle else last.get("down_seconds"))
        self.items = _dicts(self.cycle.get("items")) or _dicts(last.get("items"))
        self.recorded = bool(self.cycle or last)

    @property
    def lost(self) -> list[Mapping[str, Any]]:
        """The items that do not have their state."""
        return [item for item in self.items if item.get("status") in ("cold", "down")]

    def problems(self) -> list[dict[str, str]]:
        """What somebody should look at: tone, what, reason and next (a command)."""
        found = []

        def add(tone: str, what: str, reason: Any, todo: str) -> None:
            found.append({"host": self.name, "tone": tone, "what": what, "reason": str(reason or ""), "next": todo})

        if self.failure:
            unreachable = self.failure.startswith("did not answer")
            todo = f"ansible {shlex.quote(self.name)} -m ansible.builtin.ping" if unreachable else ""
            add("bad", "no figures", self.failure, todo or f"ansible-playbook hotpmem.fleet.status --limit {shlex.quote(self.name)}")
        # The journal of this controller knows more than the mark on the host, which a run of another controller may have left.
        told = self.rollout or (self.mark if self.mark.get("outcome") in FAILED else {})
        if told:
            rollout = str(told.get("rollout") or "default")
            option = f" -e hotpmem_rollout={rollout}" if rollout != "default" and _NAME.fullmatch(rollout) else ""
            words = "The new kernel failed, and the host went back to the old one." if told["outcome"] == "back" else ""
            said = " ".join(str(told[key]).strip() for key in ("msg", "next") if told.get(key))
            add(
                "bad",
                "did not answer in a rollout" if told["outcome"] == "unreachable" else "failed in a rollout",
                f"In the run {told.get('run')} of the rollout {rollout}: {said or words or 'it failed.'}",
                f"ansible-playbook hotpmem.fleet.rolling_reboot{option} -e retry_failed=true --limit {shlex.quote(self.name)}",
            )
        for item in self.lost:
            name, held = str(item.get("name")), item.get("status") == "down"
            todo = f"hotpmem-node cold-start {name}" if held and _NAME.fullmatch(name) else "hotpmem-node outcome"
            what = f"{name} is held down without its state" if held else f"{name} started without its state"
            add("bad" if held else "warn", what, item.get("reason"), _command(self.name, todo))
        before = [down for one in self.history[:-1] if (down := _positive(one.get("down_seconds"))) is not None]
        if self.down is not None and far_slower(self.down, before):
            reason = f"{short(self.down)}, and the median of the {count(len(before), 'cycle')} before is {short(median(before))}."
            add("warn", "far slower than before", reason, _command(self.name, "hotpmem-node timeline"))
        return found

    @property
    def down_parts(self) -> list[tuple[str, float]]:
        """Names and seconds of the phases of the down time, in their order."""
        return [(name, self.phases[name]) for _mark, name in _DOWN if name in self.phases]

    def to_dict(self, end: float) -> dict[str, Any]:
        """The row for the page. end: of the scale of the bars, in seconds."""
        problems, parts = self.problems(), self.down_parts
        drawn = charts.timeline_bar(parts, end)
        pieces = [
            {"x": one["x"], "width": one["width"], "class": CLASSES[parts[one["part"]][0]],
             "title": f"{parts[one['part']][0]}: {short(parts[one['part']][1])}"}
            for one in drawn["pieces"]
        ]  # fmt: skip
        tones = [problem["tone"] for problem in problems]
        ups = [f"{name}: {short(seconds)}" for name, seconds in self.phases.items() if name not in dict(parts)]
        return {
            "host": self.name,
            "tone": "bad" if "bad" in tones else "warn" if tones else "good" if self.recorded else "plain",
            "note": self.failure or ("" if self.recorded else "no cycle on record"),
            "pieces": pieces,
            "cut": drawn["cut"],
            "down": short(self.down),
            "phases": "; ".join([f"{name}: {short(seconds)}" for name, seconds in parts] + ups),
            "spark": charts.spark([_positive(one.get("down_seconds")) for one in self.history]),
            "cycles": len(self.history),
            "state": _size(self.cycle.get("state_bytes")),
            "save": short(_positive(self.cycle.get("save_seconds"))),
            "restore": short(_positive(self.cycle.get("restore_seconds"))),
            "ram": " \u2192 ".join(_size(_mapping(self.cycle.get(key)).get("total_bytes")) for key in ("memory_before", "memory_with")),
            "restored": ", ".join(str(item.get("name")) for item in self.items if item.get("status") in _WITH_STATE),
            "items": [
                {"name": str(item.get("name")), "status": str(item.get("status")), "reason": str(item.get("reason") or ""),
                 "tone": "bad" if item.get("status") == "down" else "warn"}
                for item in self.items if item.get("status") not in _WITH_STATE
            ],
        }  # fmt: skip


def phase_table(rows: Sequence[HostRow]) -> list[dict[str, Any]]:
    """p50, p95 and p99 of the whole down time and of each phase, over the last cycle of each host."""
    listed: list[tuple[str, str, list[float], bool]] = [("down time", "", [row.down for row in rows if row.down is not None], True)]
    listed += [
        (name, CLASSES[name], [row.phases[name] for row in rows if name in row.phases], mark not in UP) for mark, name in PHASES
    ]  # fmt: skip
    known = [(name, style, percentiles(values), len(values), down) for name, style, values, down in listed if values]
    high = max([numbers["p99"] or 0.0 for _name, _style, numbers, _hosts, down in known[1:] if down], default=0.0) or 1.0
    found = []
    for name, style, numbers, hosts, down in known:
        at = {key: round(min((numbers[key] or 0.0) / high, 1.0) * charts.BAR, 1) for key in ("p50", "p95", "p99")}
        found.append({
            "name": name, "class": style, "down": down, "hosts": hosts, **{key: short(numbers[key]) for key in ("p50", "p95", "p99")},
            "bar": at if style and down else None,
        })  # fmt: skip
    return found


def trend_rows(rows: Sequence[HostRow]) -> list[dict[str, Any]]:
    """The fleet's down time and cold items in each of the last cycles of its hosts, the oldest first. age 0 is the last cycle."""
    deepest = max([len(row.history) for row in rows], default=0)
    found = []
    for age in reversed(range(min(deepest, CYCLES))):
        cycles = [row.history[-1 - age] for row in rows if len(row.history) > age]
        numbers = percentiles(_positive(cycle.get("down_seconds")) for cycle in cycles)
        cold = sum(item.get("status") in ("cold", "down") for cycle in cycles for item in _dicts(cycle.get("items")))
        found.append({"age": age, "hosts": len(cycles), "p50": numbers["p50"], "p95": numbers["p95"], "cold": cold})
    return found


def trend(rows: Sequence[HostRow]) -> dict[str, Any] | None:
    """The drawing of the trend, and its rows as text. None with fewer than two cycles."""
    table = trend_rows(rows)
    if len(table) < 2 or all(row["p50"] is None for row in table):
        return None
    drawn = charts.trend(table)
    drawn["rows"] = [
        {"when": "last" if row["age"] == 0 else f"-{row['age']}", "hosts": row["hosts"], "p50": short(row["p50"]), "p95": short(row["p95"]),
         "cold": row["cold"]}
        for row in table
    ]  # fmt: skip
    for tick in drawn["ticks"]:
        tick["label"] = f"{tick['value']:g} s"
    return drawn


def _tiles(rows: Sequence[HostRow], down: Mapping[str, float | None]) -> list[dict[str, str]]:
    kept = sum(row.recorded and not row.failure and not row.lost for row in rows)
    cold = sum(bool(row.lost) for row in rows)
    tones = [[problem["tone"] for problem in row.problems()] for row in rows]
    attention, worst = sum(map(bool, tones)), "bad" if any("bad" in one for one in tones) else "warn"
    state = sum(_positive(row.cycle.get("state_bytes")) or 0 for row in rows)
    sizes = [[_positive(_mapping(row.cycle.get(key)).get("total_bytes")) for key in ("memory_before", "memory_with")] for row in rows]
    gained = sum(max(after - before, 0) for before, after in sizes if before and after)
    return [
        {"label": "hosts", "value": str(len(rows)), "tone": "plain"},
        {"label": "with all their state", "value": str(kept), "tone": "good" if kept else "plain"},
        {"label": "without some state", "value": str(cold), "tone": "warn" if cold else "plain"},
        {"label": "need somebody", "value": str(attention), "tone": worst if attention else "plain"},
        {"label": "down time, p50", "value": short(down["p50"]), "tone": "plain"},
        {"label": "p95", "value": short(down["p95"]), "tone": "plain"},
        {"label": "p99", "value": short(down["p99"]), "tone": "plain"},
        {"label": "state carried over", "value": _size(state), "tone": "plain"},
        {"label": "RAM gained", "value": _size(gained), "tone": "plain"},
    ]


def report(
    hosts: Sequence[str],
    cycles: Mapping[str, Any],
    facts: Mapping[str, Any],
    failures: Mapping[str, str],
    rollouts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return everything that the page shows. Each mapping has the host's name as its key; what is missing is unknown."""
    told = rollouts or {}
    rows = [HostRow(str(host), cycles.get(host), facts.get(host), str(failures.get(host) or ""), told.get(host)) for host in hosts]
    end, ticks = charts.bar_scale([sum(seconds for _name, seconds in row.down_parts) for row in rows])
    problems = [problem for row in rows for problem in row.problems()]
    seen = {name for row in rows for name, _seconds in row.down_parts}
    return {
        "tiles": _tiles(rows, percentiles(row.down for row in rows)),
        "problems": sorted(problems, key=lambda problem: problem["tone"] != "bad"),
        "phases": phase_table(rows),
        "trend": trend(rows),
        "scale": [{"x": round(tick / end * charts.BAR, 1), "label": f"{tick:g} s"} for tick in ticks],
        "legend": [{"name": name, "class": CLASSES[name]} for _mark, name in _DOWN if name in seen],
        "hosts": [row.to_dict(end) for row in rows],
        "helpers": helper_digests(hosts, facts),
    }
