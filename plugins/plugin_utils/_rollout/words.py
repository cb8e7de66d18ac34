# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times, durations and foreign text, in the form in which a person reads them."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Sequence
from typing import Any

# C0 and C1 control characters except the tab and the line feed. A host could send sequences that rewrite the screen.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def visible(text: Any) -> str:
    """Return text that is safe to print: control characters are shown as escapes."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", str(text).replace("\r\n", "\n"))


def clock(seconds: float) -> str:
    """Return a duration as 00:41, 12:05 or 1:02:05."""
    whole = max(int(seconds), 0)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def about(seconds: float) -> str:
    """Return a duration as people say it: 40 s, 4 min, 2 h 10 min."""
    whole = max(round(seconds), 0)
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def seconds_of(value: Any) -> float | None:
    """Return a number of seconds, or None when value is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def short(value: Any) -> str:
    """Return seconds with as many digits as matter: 0.42 s, 12.3 s, 310 s. Unknown is a hyphen."""
    seconds = seconds_of(value)
    if seconds is None:
        return "-"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"


def time_of(value: Any) -> float | None:
    """Return an ISO 8601 time as seconds since 1970, or None when value is not one. Without a zone it counts as UTC."""
    try:
        found = datetime.datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=datetime.timezone.utc)).timestamp()


def time_of_day(when: float, now: float) -> str:
    """Return a time as the local clock shows it, with the date when it is another day."""
    then, today = datetime.datetime.fromtimestamp(when), datetime.datetime.fromtimestamp(now)
    return f"{then:%H:%M}" if then.date() == today.date() else f"{then:%Y-%m-%d %H:%M}"


def clear_command(rollout: str) -> str:
    """Return the command that clears the latch of a rollout."""
    option = "" if rollout in ("", "default") else f" -e hotpmem_rollout={visible(rollout)}"
    return f'ansible-playbook hotpmem.fleet.rollout_clear{option} -e reason="..."'


def some(names: Sequence[str], most: int = 10) -> str:
    """Return names as a list of words, shortened."""
    shown = ", ".join(visible(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def count(number: int, noun: str) -> str:
    """Return ``1 host`` or ``3 hosts``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun.endswith('ch') else 's'}"
