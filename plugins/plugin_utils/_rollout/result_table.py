# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a run ended for each host: a table for people, and numbers for programs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .state import DONE as WELL
from .state import FAILED
from .words import about, seconds_of, short, visible

HEADERS = ("host", "batch", "outcome", "down", "seconds", "what next")
# Problems first, so that the eye and the end of a log find them.
ORDER = (*FAILED, "refused", "not begun", "cold", "kept", "left out")
_LOOK = "Run the playbook again with -e retry_failed=true. It looks at this host first."
_WAIT = "Look at its console and its network. Then run the playbook again with -e retry_failed=true."


def host_results(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one dict for each host of a run: host, batch, outcome, down_seconds, seconds, msg and next. The order is that of the plan.

    events: the lines of the journal. Besides the outcomes of ``host_ended`` there are ``lost`` (begun, and nobody saw the end),
    ``refused``, ``unreachable``, ``left out`` and ``not begun``.
    """
    found: dict[str, dict[str, Any]] = {}

    def host(name: Any) -> dict[str, Any]:
        empty = {"batch": None, "outcome": "not begun", "down_seconds": None, "seconds": None, "msg": "", "next": ""}
        return found.setdefault(str(name), {"host": str(name), **empty})

    for event in events:
        kind = event.get("event")
        if kind in ("run_planned", "run_resumed"):
            for number, batch in enumerate(event.get("batches") or [], 1):
                for name in batch:
                    if host(name)["outcome"] not in WELL:
                        host(name)["batch"] = number
            for key, outcome, todo in (("refused", "refused", ""), ("unreachable", "unreachable", _WAIT), ("left_out", "left out", "")):
                for name, reason in (event.get(key) or {}).items():
                    if host(name)["outcome"] not in WELL:
                        host(name).update(outcome=outcome, msg=str(reason or ""), next=todo, batch=None)
        elif kind == "host_begun":
            host(event.get("host")).update(
                batch=event.get("batch"), outcome="lost", msg="It was begun, and nobody saw how it ended.", next=_LOOK, seconds=None
            )
        elif kind == "host_ended":
            keys = ("outcome", "down_seconds", "seconds")
            texts = {key: str(event.get(key) or "") for key in ("msg", "next")}
            host(event.get("host")).update({key: event.get(key) for key in keys}, **texts)
    return list(found.values())


def _order(result: Mapping[str, Any]) -> int:
    outcome = str(result.get("outcome"))
    return ORDER.index(outcome) if outcome in ORDER else 0


def result_rows(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the cells of the table, below HEADERS. Hosts with problems are last, next to the prompt, the worst at the very end."""
    rows = []
    for result in sorted(results, key=_order, reverse=True):
        todo = " ".join(visible(result.get("next") or "").split())
        if not todo and result.get("outcome") in (*FAILED, "refused"):
            todo = " ".join(visible(result.get("msg") or "").split())
        seconds = seconds_of(result.get("seconds"))
        batch = result.get("batch")
        rows.append([
            visible(result.get("host")), str(batch) if batch else "-", visible(result.get("outcome")), short(result.get("down_seconds")),
            "-" if seconds is None else about(seconds), todo,
        ])  # fmt: skip
    return rows


def percentile(values: Iterable[float], percent: float) -> float | None:
    """Return the smallest value that at least percent of the values do not exceed, so it is always one of them. None without values."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1] if ordered else None


def percentiles(values: Iterable[Any]) -> dict[str, float | None]:
    """Return p50, p95, p99 and max of the numbers among values, in seconds."""
    numbers = [number for number in map(seconds_of, values) if number is not None]
    found = {f"p{percent}": percentile(numbers, percent) for percent in (50, 95, 99)}
    return {**found, "max": max(numbers, default=None)}


def result_stats(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return counts by outcome, the hosts that need somebody, and percentiles of the down time. For set_stats and the artifacts of AWX."""
    outcomes = [str(result.get("outcome")) for result in results]
    return {
        "hosts": len(results),
        "counts": {outcome: outcomes.count(outcome) for outcome in dict.fromkeys([*reversed(ORDER), *outcomes])},
        "failed_hosts": [
            str(result["host"]) for result in results if result.get("outcome") not in (*WELL, "left out", "refused", "not begun")
        ],
        "refused_hosts": [str(result["host"]) for result in results if result.get("outcome") == "refused"],
        "hosts_not_begun": [str(result["host"]) for result in results if result.get("outcome") == "not begun"],
        "down_seconds": percentiles(result.get("down_seconds") for result in results),
    }
