# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of each item after a restore: the one judgement that the play, the agent and the report share."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

_NO_IMAGE = 3  # the copy helper's exit code


def why_no_image(result: Mapping[str, Any], saved: bool) -> str:
    """Where the image of an announced save went, as far as it can be told; the empty string when the result says nothing about that.

    saved: the save is known to have ended. A save zeroes the header first and ends with something at the start of the payload, so zeros
    in both places are no save that ended; and before it, RAM that was never used looks the same.
    """
    content = (result.get("image") or {}).get("content")
    if result.get("exit") != _NO_IMAGE or content not in ("zeros", "other"):
        return ""
    if content == "zeros" and saved:
        return "firmware cleared the region: the save had ended, and there are only zeros where the image was"
    if content == "zeros":
        return "nothing says that the save ended, and there are only zeros: it had not begun, or firmware cleared the region"
    if saved:
        return "the image is gone though its save had ended: firmware, or something else, wrote over the region"
    return "there is no image, and nothing says that its save ended"


def item_outcomes(
    items: Sequence[Mapping[str, Any]], result: Optional[Mapping[str, Any]], running: Sequence[str] = (), saved: bool = False
) -> List[Dict[str, Any]]:
    """One outcome an item, in the order of items.

    items: ``name``, and optionally ``unit`` and ``cold_start``. result: the copy helper's, or None when no restore was tried.
    running: names of items whose unit ran already. saved: the save that was to be restored is known to have ended. The status is
    restored, cold, down or running.
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
            reason = entry.get("error") or why_no_image(result, saved) or result.get("msg") or "the image does not hold it"
            outcome.update(status="cold" if item.get("cold_start", True) else "down", reason=str(reason))
        outcomes.append(outcome)
    return outcomes


def outcome_words(outcome: Mapping[str, Any]) -> str:
    """One outcome for people: ``memcached restored``, ``memcached cold: the image is damaged``."""
    words = f"{outcome['name']} {outcome['status']}"
    return f"{words}: {outcome['reason']}" if outcome.get("reason") else words
