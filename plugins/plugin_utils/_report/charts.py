# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Geometry of the drawings on the page: numbers only, so that no text of a host gets into them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

BAR = 1000.0  # the width of a bar in its own units
TREND = {"width": 720, "height": 220, "left": 52, "right": 12, "top": 12, "bottom": 34}
SPARK = {"width": 100, "height": 22, "edge": 3}


def nice_ticks(highest: float, most: int = 5) -> list[float]:
    """Return round numbers from 0 to the first one that is at least highest, at most about most + 1 of them."""
    if not highest > 0 or not math.isfinite(highest):
        return [0.0, 1.0]
    rough = highest / most
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999999)
    return [round(number * step, 9) for number in range(math.ceil(highest / step - 1e-9) + 1)]


def bar_scale(totals: Sequence[float]) -> tuple[float, list[float]]:
    """Return the end of the scale that all bars share, and its ticks.

    A few hosts that are far slower than the rest would make all other bars too short to read. So the scale ends at 4 times the median, and
    longer bars are cut off.
    """
    ordered = sorted(total for total in totals if total > 0)
    if not ordered:
        return 1.0, [0.0, 1.0]
    median = ordered[(len(ordered) - 1) // 2]
    ticks = nice_ticks(min(ordered[-1], 4 * median), 4)
    return ticks[-1], ticks


def timeline_bar(parts: Sequence[tuple[str, float]], end: float) -> dict[str, Any]:
    """Return the pieces of a bar (index, x, width) and whether it was cut off. parts: name and seconds, in their order."""
    pieces, at = [], 0.0
    for number, (_name, seconds) in enumerate(parts):
        begin, stop = min(at, end), min(at + seconds, end)
        if stop > begin:
            pieces.append({"part": number, "x": round(begin / end * BAR, 2), "width": round((stop - begin) / end * BAR, 2)})
        at += seconds
    return {"pieces": pieces, "cut": at > end * 1.000001}


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points) if points else ""


def spark(values: Sequence[float | None]) -> dict[str, Any]:
    """Return a small line of one host's cycles, the newest at the right: the path, and the last point."""
    known = [(number, value) for number, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return {"path": "", "last": None}
    edge, high = SPARK["edge"], max(value for _number, value in known) or 1.0
    across, up = SPARK["width"] - 2 * edge, SPARK["height"] - 2 * edge
    points = [(edge + across * number / (len(values) - 1), SPARK["height"] - edge - up * value / high) for number, value in known]
    return {"path": _path(points), "last": {"x": round(points[-1][0], 1), "y": round(points[-1][1], 1)}}


def trend(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the drawing of the fleet's down time. rows: p50, p95 and cold of each cycle, the oldest first."""
    high = max([row["p95"] for row in rows if row["p95"] is not None], default=0.0)
    ticks = nice_ticks(high)
    across = TREND["width"] - TREND["left"] - TREND["right"]
    down = TREND["height"] - TREND["top"] - TREND["bottom"]
    floor = TREND["height"] - TREND["bottom"]
    step = across / max(len(rows), 1)

    def x(number: int) -> float:
        return round(TREND["left"] + step * (number + 0.5), 1)

    def y(value: float) -> float:
        return round(floor - down * value / ticks[-1], 1)

    drawn: dict[str, Any] = {**TREND, "floor": floor, "ticks": [{"y": y(tick), "value": tick} for tick in ticks]}
    for key in ("p50", "p95"):
        points = [(number, row[key]) for number, row in enumerate(rows) if row[key] is not None]
        drawn[key] = _path([(x(number), y(value)) for number, value in points])
        drawn[f"{key}_points"] = [{"x": x(number), "y": y(value), "row": number} for number, value in points]
    width = min(step * 0.5, 18)
    coldest = max([row["cold"] for row in rows], default=0)
    drawn["cold"] = [
        {
            "x": round(x(number) - width / 2, 1),
            "width": round(width, 1),
            "height": round(down * 0.3 * row["cold"] / coldest, 1),
            "row": number,
        }
        for number, row in enumerate(rows)
        if row["cold"]
    ]
    drawn["labels"] = [{"x": x(number), "row": number} for number in range(len(rows)) if (len(rows) - 1 - number) % 5 == 0]
    return drawn
