# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""In which order hosts are rebooted, and which of them at the same time."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .words import some, visible

ORDERS = ("inventory", "name", "shuffle")


def ordered(hosts: Sequence[str], order: str | Sequence[str], seed: str = "") -> list[str]:
    """The hosts in order. A list of names puts these first, and the others after them as in the inventory."""
    if not isinstance(order, str):
        first = [host for host in dict.fromkeys(order) if host in set(hosts)]
        return first + [host for host in hosts if host not in set(first)]
    if order == "name":
        return sorted(hosts, key=_natural)
    if order == "shuffle":
        mixed = sorted(hosts)
        random.Random(seed).shuffle(mixed)  # noqa: S311
        return mixed
    return list(hosts)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """node2 comes before node10."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name)]


def share(value: Any, variable: str, problems: list[str]) -> tuple[int, bool] | None:
    """A number of hosts, or a percentage (with True). Anything else is a problem of the variable."""
    text = str(value).strip()
    found = re.fullmatch(r"(\d+)\s*(%?)", text)
    if not found or isinstance(value, (bool, float)):
        problems.append(f'{variable}: {value!r} is neither a number of hosts nor a percentage such as "25%".')
        return None
    number, percent = int(found[1]), bool(found[2])
    if number == 0:
        problems.append(f"{variable}: {text} would never let a host begin. Use at least 1.")
        return None
    if percent and number > 100:
        problems.append(f"{variable}: {text} is more than 100 %.")
        return None
    return number, percent


def count(part: tuple[int, bool], total: int) -> int:
    """How many hosts a share of the fleet is: rounded down, but at least 1."""
    number, percent = part
    return max(1, total * number // 100) if percent else number


def batches(
    hosts: Sequence[str],
    sizes: Sequence[int],
    domains: Mapping[str, str] | None = None,
    limit: int = 1,
) -> list[list[str]]:
    """The hosts in batches of these sizes, of which the last repeats. Never more than `limit` hosts of one domain are in a batch.

    A host that would exceed the limit waits for the next batch, and a host behind it takes its place. When no host can, the batch
    stays smaller.
    """
    if not sizes or min(sizes) < 1:
        raise ValueError(f"sizes must be at least 1: {sizes}")
    waiting = list(hosts)
    found: list[list[str]] = []
    while waiting:
        size = sizes[min(len(found), len(sizes) - 1)]
        batch: list[str] = []
        left: list[str] = []
        used: Counter[str] = Counter()
        for host in waiting:
            domain = domains.get(host) if domains else None
            if len(batch) >= size or (domain is not None and used[domain] >= limit):
                left.append(host)
                continue
            batch.append(host)
            if domain is not None:
                used[domain] += 1
        found.append(batch)
        waiting = left
    return found


def held(batch: Sequence[str], down: Mapping[str, str], domains: Mapping[str, str], limit: int) -> dict[str, str]:
    """The hosts of a batch that are not begun, with the reason: hosts of their domain are not well, so that too many would be away.

    down: hosts that failed, with their outcome. domains: the domain of each host of the batch, and of each that is down.
    """
    away: dict[str, list[str]] = {}
    for host, outcome in down.items():
        if host in domains and host not in batch:
            away.setdefault(domains[host], []).append(f"{visible(host)} ({outcome})")
    used = Counter({domain: len(hosts) for domain, hosts in away.items()})
    found = {}
    for host in batch:
        domain = domains.get(host)
        if domain is None or domain not in away:
            continue
        if used[domain] >= limit:
            found[host] = (
                f"{some(away[domain])} of the same failure domain ({visible(domain)}) failed in this run, and hotpmem_domain_limit is "
                f"{limit}. When they are well, run the playbook again with -e retry_failed=true."
            )
        else:
            used[domain] += 1
    return found
