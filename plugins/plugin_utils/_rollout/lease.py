# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease of the whole fleet: what is wrong with its variable, and how a caller waits for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import fields, fleetlock, web
from .fleetlock import Attempt

WAITING: dict[str, fields.Check] = {"wait": fields.is_number(0, 604800), "interval": fields.is_number(0.1, 3600)}
OF_FILE: dict[str, fields.Check] = {
    **WAITING,
    "host": fields.is_name,
    "path": lambda path, value: [] if isinstance(value, str) and value.startswith("/") else [f"{path} must be an absolute path."],
    "ttl": fields.is_number(10, 604800),
    "take_over": fields.is_boolean,
}
OF_SERVER: dict[str, fields.Check] = {
    **WAITING,
    **{key: check for key, check in web.WEB_CHECKS.items() if key != "url"},
    "fleetlock": fields.is_url,
    "group": fleetlock.check_group,
    "id": fields.is_text,
}


def check(lease: Any) -> list[str]:
    """What is wrong with hotpmem_fleet_lease."""
    if lease in (None, {}):
        return []
    if not isinstance(lease, Mapping):
        return ["hotpmem_fleet_lease must be a dictionary."]
    errors = fields.exactly_one("hotpmem_fleet_lease", lease, ("host", "fleetlock"))
    if errors:
        return errors
    if "fleetlock" in lease and fields.boolean(lease.get("take_over", False)):
        return ["hotpmem_fleet_lease.take_over works only with a file on a host: a FleetLock server lets only the holder give a lock back."]
    checks = OF_FILE if "host" in lease else {**OF_SERVER, "take_over": fields.is_boolean}
    return fields.check_keys("hotpmem_fleet_lease", lease, checks)


def obtain(
    attempt: Callable[[], Attempt],
    wait: float,
    interval: float,
    *,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
    tell: Callable[[str], None] = lambda text: None,
) -> Attempt:
    """Try until the lease is held, or wait seconds are over. One lost race, or one bad answer, does not end the waiting."""
    began = clock()
    told = ""
    while True:
        last = attempt()
        left = wait - (clock() - began)
        if last.done or left <= 0:
            return last
        if last.msg != told:
            tell(last.msg)
            told = last.msg
        sleep(min(interval, left))
