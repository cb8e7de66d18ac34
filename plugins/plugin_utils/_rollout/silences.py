# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A silence in Alertmanager for a host. It is found again by who made it and for what, so that a run that resumes can end it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from . import web

CREATOR = "hotpmem.fleet"
PATH = "/api/v2/silences"


def matchers(wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    """The matchers of a silence. A value that starts with ~ is a regular expression."""
    return [
        {"name": name, "value": value[1:] if value.startswith("~") else value, "isRegex": value.startswith("~"), "isEqual": True}
        for name, value in sorted((str(key), str(one)) for key, one in wanted.items())
    ]


def comment(rollout: str, host: str) -> str:
    """The same for every run of a rollout on a host."""
    return f"{host} is rebooted by the rollout {rollout}"


def silence(wanted: Mapping[str, str], said: str, begins: datetime.datetime, seconds: float, known: str = "") -> dict[str, Any]:
    """What to send to create a silence, or with its id to extend one."""
    ends = begins + datetime.timedelta(seconds=seconds)
    return {
        **({"id": known} if known else {}),
        "matchers": matchers(wanted),
        "startsAt": begins.astimezone(datetime.timezone.utc).isoformat(),
        "endsAt": ends.astimezone(datetime.timezone.utc).isoformat(),
        "createdBy": CREATOR,
        "comment": said,
    }


def _plain(found: Any) -> list[tuple[Any, ...]]:
    known = found if isinstance(found, list) else []
    return sorted(
        (one.get("name"), one.get("value"), one.get("isRegex"), one.get("isEqual", True)) for one in known if isinstance(one, Mapping)
    )


def own(reply: web.Reply, wanted: Mapping[str, str], said: str) -> list[str]:
    """The ids of the silences that this collection made for this purpose and that still hold. ValueError for any other answer."""
    if not reply.good:
        raise ValueError(web.said(reply))
    answer = reply.json()
    if not isinstance(answer, list):
        raise ValueError("the answer is not a list of silences")
    return [
        str(one["id"])
        for one in answer
        if isinstance(one, Mapping)
        and one.get("createdBy") == CREATOR
        and one.get("comment") == said
        and (one.get("status") or {}).get("state") != "expired"
        and _plain(one.get("matchers")) == _plain(matchers(wanted))
    ]


def new_id(reply: web.Reply) -> str:
    """The id of the silence that was created. ValueError when the answer is something else."""
    if not reply.good:
        raise ValueError(web.said(reply))
    answer = reply.json()
    found = answer.get("silenceID") if isinstance(answer, Mapping) else None
    if not isinstance(found, str) or not found:
        raise ValueError(f"the answer has no silenceID: {web.excerpt(reply.body)!r}")
    return found
