# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of each item after a restore: the one judgement that the play, the agent and the report share."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence


def item_outcomes(
    items: Sequence[Mapping[str, Any]], result: Optional[Mapping[str, Any]], running: Sequence[str] = ()
) -> List[Dict[str, Any]]:
    """One outcome an item, in the order of items.

    items: ``name``, and optionally ``unit`` and ``cold_start``. result: the copy helper's, or None when no restore was tried.
    running: names of items whose unit ran already. The status is restored, cold, down or running.
    """
    result = result or {}
    reported = {entry["name"]: entry for entry in result.get("items") or []}
    outcomes = []
    for item in items:
        entry = reported.get(item["name"], {})
        outcome = {"name": item["name"], "unit": item.get("unit"), "bytes": entry.get("bytes", 0), "reason": ""}
        if item["name"] in running:
            outcome.update(status="running", reason="its unit ran already, so its state was not replaced")
        elif entry.get("status") == "restored":
            outcome.update(status="restored")
        else:
            reason = entry.get("error") or result.get("msg") or "the image does not hold it"
            outcome.update(status="cold" if item.get("cold_start", True) else "down", reason=str(reason))
        outcomes.append(outcome)
    return outcomes


def outcome_words(outcome: Mapping[str, Any]) -> str:
    """One outcome for people: ``memcached restored``, ``memcached cold: the image is damaged``."""
    words = f"{outcome['name']} {outcome['status']}"
    return f"{words}: {outcome['reason']}" if outcome.get("reason") else words
