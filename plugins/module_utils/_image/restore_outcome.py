# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides the outcome of each item after a restore.

The play, the agent and the report all use this decision.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

_NO_IMAGE = 3  # exit code of the copy helper: the device holds no image


def why_no_image(result: Mapping[str, Any], saved: bool) -> str:
    """Explain why an announced save left no image, or return the empty string when the result does
    not show it.

    result: the result of the copy helper. saved: True when a record shows that the save completed.

    A save first zeroes the header, and a completed save has data at the start of the payload. So zeros
    in both places cannot come from a completed save. RAM that was never used also holds zeros, and so
    does a region that firmware cleared.
    """
    content = (result.get("image") or {}).get("content")
    if result.get("exit") != _NO_IMAGE or content not in ("zeros", "other"):
        return ""
    if content == "zeros" and saved:
        return "firmware cleared the region: the save had completed, but only zeros are left where the image was"
    if content == "zeros":
        return (
            "the region holds only zeros, and no record shows that the save completed: it had not started, or firmware cleared the region"
        )
    if saved:
        return "the image is lost although its save had completed: firmware or another program overwrote the region"
    return "the region holds no image, and no record shows that the save completed"


def item_outcomes(
    items: Sequence[Mapping[str, Any]], result: Optional[Mapping[str, Any]], running: Sequence[str] = (), saved: bool = False
) -> List[Dict[str, Any]]:
    """Return the outcome of each item, in the order of items.

    items: dicts with ``name``, and optionally ``unit`` and ``cold_start``. result: the result of the copy
    helper, or None when no restore was tried. running: names of the items whose unit was already running.
    saved: True when a record shows that the save completed.

    An outcome has ``name``, ``unit``, ``bytes``, ``reason`` and ``status``: restored, cold (the item
    starts without its state), down (its unit stays stopped) or running.
    """
    result = result or {}
    reported = {entry["name"]: entry for entry in result.get("items") or []}
    outcomes = []
    for item in items:
        entry = reported.get(item["name"], {})
        outcome = {"name": item["name"], "unit": item.get("unit"), "bytes": entry.get("bytes", 0), "reason": ""}
        if item["name"] in running:
            outcome.update(status="running", reason="its unit was already running, so its state was not replaced")
        elif entry.get("status") == "restored":
            outcome.update(status="restored")
        else:
            reason = entry.get("error") or why_no_image(result, saved) or result.get("msg") or "the image does not contain this item"
            outcome.update(status="cold" if item.get("cold_start", True) else "down", reason=str(reason))
        outcomes.append(outcome)
    return outcomes


def outcome_words(outcome: Mapping[str, Any]) -> str:
    """Describe an outcome: ``memcached restored``, or ``memcached cold: the image is damaged``."""
    words = f"{outcome['name']} {outcome['status']}"
    return f"{words}: {outcome['reason']}" if outcome.get("reason") else words
