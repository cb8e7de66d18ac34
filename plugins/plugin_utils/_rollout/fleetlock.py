# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the FleetLock protocol: https://coreos.github.io/zincati/development/fleetlock/protocol/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import web

GROUP = re.compile(r"[a-zA-Z0-9.-]+")
PATHS = {"lock": "/v1/pre-reboot", "unlock": "/v1/steady-state"}
HEADERS = {"fleet-lock-protocol": "true"}


@dataclass(frozen=True)
class Attempt:
    """One attempt to take, renew or give back a lock or a lease. busy: somebody else holds it, so a later attempt may succeed."""

    done: bool
    busy: bool = False
    msg: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def request(definition: Mapping[str, Any], operation: str, client: str) -> web.Request:
    """The request to take or to give back a slot. Taking it twice is the same as taking it once."""
    payload = {"client_params": {"group": str(definition.get("group") or "default"), "id": client}}
    return web.request(definition, "POST", PATHS[operation], payload=payload, headers=HEADERS)


def outcome(reply: web.Reply, operation: str, url: str) -> Attempt:
    """What an answer means. Every status except 200 is a refusal; the body says why."""
    where = web.safe_url(url)
    if reply.status == 200 and not reply.error:
        return Attempt(True)
    try:
        answer = reply.json() if not reply.error else None
    except ValueError:
        answer = None
    verb = "take" if operation == "lock" else "give back"
    if isinstance(answer, Mapping) and isinstance(answer.get("kind"), str) and isinstance(answer.get("value"), str):
        why = f"{web.excerpt(answer['value'])} ({web.excerpt(answer['kind'])}, HTTP status {reply.status})"
        # 4xx with a kind is how a server says that all slots are taken. A server that is broken says 5xx.
        return Attempt(False, 400 <= reply.status < 500, f"Cannot {verb} the lock at {where}: {why}")
    return Attempt(False, False, f"Cannot {verb} the lock at {where}: {web.said(reply)}, which is not an answer of a FleetLock server")


def check_group(path: str, value: Any) -> list[str]:
    good = isinstance(value, str) and GROUP.fullmatch(value)
    return [] if good else [f"{path} may have letters, digits, full stops and hyphens, and must not be empty."]
