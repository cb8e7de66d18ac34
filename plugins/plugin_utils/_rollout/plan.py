# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of a run: which hosts, in which batches, who is left out and why, and until when."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from . import estimate, order
from .inputs import Settings
from .state import Host, Run
from .windows import next_opening
from .words import about, count, some, time_of


@dataclass(frozen=True)
class Seen:
    """What a host said before the run."""

    name: str
    domain: str = ""
    kernel: str = ""
    boot_id: str = ""
    needs: Mapping[str, Any] = field(default_factory=dict)
    newest: str = ""  # the newest installed kernel
    history: Sequence[Mapping[str, Any]] = ()
    mark: Mapping[str, Any] = field(default_factory=dict)
    unreachable: str = ""
    refused: str = ""
    note: str = ""  # what the operator should know of a host that is begun


@dataclass
class Plan:
    """The decision for each host, and the batches."""

    batches: list[list[str]] = field(default_factory=list)
    finish: list[str] = field(default_factory=list)  # rebooted before the last controller was lost; only the rest is done
    recorded: dict[str, str] = field(default_factory=dict)  # these ended, and only their mark says so: host and outcome
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # failed earlier in this run, and are not tried again
    refused: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    unreachable: dict[str, str] = field(default_factory=dict)
    expected: dict[str, estimate.Expected] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    times: list[tuple[datetime, datetime]] = field(default_factory=list)

    @property
    def hosts(self) -> list[str]:
        """The hosts of all batches, in order."""
        return [host for batch in self.batches for host in batch]


def make(settings: Settings, seen: Sequence[Seen], before: Run | None, *, run: str, start: datetime, forks: int) -> Plan:
    """The plan for what these hosts said. `before` is what an earlier start of this run has done."""
    plan = Plan()
    by_name = {one.name: one for one in seen}
    todo: list[str] = []
    for one in seen:
        host = before.hosts.get(one.name, Host()) if before else Host()
        if _decide(plan, settings, one, host, run):
            todo.append(one.name)
    plan.expected = {name: estimate.expected(by_name[name].history) for name in todo}
    plan.seconds = estimate.fill_in(plan.expected)
    if settings.windows:
        todo = _fitting(plan, settings, todo, start)
    todo = order.ordered(todo, settings.order, settings.order_seed)
    # These are under way already.
    todo = [name for name in todo if name in plan.finish] + [name for name in todo if name not in plan.finish]
    total = len(before.fleet) if before and before.fleet else len(seen)
    sizes = [order.count(size, max(total, len(seen))) for size in settings.batches]
    domains = {name: by_name[name].domain for name in todo} if settings.failure_domain else None
    plan.batches = order.batches(todo, sizes, domains, settings.domain_limit)
    plan.times = estimate.schedule(plan.batches, plan.seconds, start, forks=forks, soak=settings.soak, windows=settings.windows)
    return plan


def _decide(plan: Plan, settings: Settings, one: Seen, host: Host, run: str) -> bool:
    """Whether the host belongs into a batch."""
    name = one.name
    if host.done:
        plan.done.append(name)
        return False
    if one.unreachable:
        plan.unreachable[name] = one.unreachable
        return False
    if host.open and one.mark.get("run") == run and one.mark.get("boot_id") == one.boot_id:
        plan.recorded[name] = str(one.mark.get("outcome") or "failed")
        return False
    if host.open and host.boot_id and one.boot_id and host.boot_id != one.boot_id:
        plan.finish.append(name)
        return True
    if host.outcome and host.outcome != "refused" and not settings.retry_failed:
        plan.failed[name] = host.msg or "It failed earlier in this run."
        return False
    if one.refused:
        plan.refused[name] = one.refused
        return False
    reason = needs_no_reboot(settings, one)
    if reason:
        plan.left_out[name] = reason
        return False
    return True


def needs_no_reboot(settings: Settings, one: Seen) -> str:
    """Why hotpmem_only_when leaves the host out; empty when it does not."""
    if settings.only_when == "kernel" and not one.needs.get("kernel"):
        newest = f" It runs {one.kernel}." if one.kernel else ""
        return f"The running kernel is the newest installed one.{newest}"
    if settings.only_when == "packages" and not (one.needs.get("packages") or one.needs.get("kernel")):
        return "No installed package asks for a reboot."
    return ""


def _fitting(plan: Plan, settings: Settings, todo: Sequence[str], start: datetime) -> list[str]:
    """The hosts for which a window is long enough."""
    fitting = []
    for name in todo:
        takes = plan.seconds[name] + settings.soak
        if name not in plan.finish and next_opening(settings.windows, start, takes) is None:
            plan.refused[name] = f"No window of hotpmem_windows is long enough: the host is expected to take {estimate.duration(takes)}."
        else:
            fitting.append(name)
    return fitting


def rows(plan: Plan, seen: Sequence[Seen]) -> list[list[str]]:
    """The rows of the plan's table: order, batch, host, kernel, expected down time, note."""
    by_name = {one.name: one for one in seen}
    found = []
    number = 0
    for batch_number, batch in enumerate(plan.batches, 1):
        for name in batch:
            number += 1
            note = "was rebooted; the rest is done" if name in plan.finish else by_name[name].note
            down = estimate.duration(plan.expected[name].down)
            found.append([str(number), str(batch_number), name, by_name[name].kernel or "-", down, note])
    for title, hosts in (
        ("done", dict.fromkeys(plan.done, "")),
        ("done", {name: f"its mark says: {outcome}" for name, outcome in plan.recorded.items()}),
        ("failed before", plan.failed),
        ("refused", plan.refused),
        ("left out", plan.left_out),
        ("unreachable", plan.unreachable),
    ):
        for name, reason in hosts.items():
            note = f"{title}: {' '.join(reason.split())}" if reason else title
            found.append(["-", "-", name, by_name[name].kernel or "-", "-", note])
    return found


HEADERS = ["order", "batch", "host", "kernel now", "down", "note"]


def summary(plan: Plan, settings: Settings, fleet: int) -> list[str]:
    """What stands below the table."""
    sizes = ", ".join(str(len(batch)) for batch in plan.batches[:12]) + (", ..." if len(plan.batches) > 12 else "")
    allowed = settings.allowed(fleet)
    lines = [f"{len(plan.hosts)} of {fleet} hosts will be rebooted, in batches of {sizes}." if plan.hosts else "No host will be rebooted."]
    if plan.hosts:
        begin, end = plan.times[0][0], plan.times[-1][1]
        takes = estimate.duration((end - begin).total_seconds())
        lines.append(f"Expected begin {_clock(begin)}, end {_clock(end)} ({takes}), by the median of each host's own cycles.")
        lines.append(f"The run stops when {allowed} {'host has' if allowed == 1 else 'hosts have'} failed.")
    return lines


def before_it(run: str, before: Run, now: datetime) -> str:
    """What became of the last run, for the plan of a new one. A run that was started twice by mistake is seen here."""
    if not before.ended:
        left = len(before.not_begun)
        verb = "was" if left == 1 else "were"
        return f"The last run {run} has not ended, and {count(left, 'host')} of it {verb} not begun. This is a new run."
    ended, counts = time_of(before.ended), before.counts()
    when = f" {about(now.timestamp() - ended)} ago" if ended is not None else ""
    failed = len(before.failed) + counts["unreachable"]
    others = [f"{number} {word}" for number, word in ((failed, "failed"), (counts["refused"], "refused")) if number]
    how = f"with {' and '.join(others)}" if others else "with every host done"
    return f"The last run {run} ended{when}, {how}. This is a new run, which reboots the hosts again."


def spent_already(counted: Mapping[str, str], allowed: int, limit: str) -> str:
    """Why a run that has not begun cannot begin a host: its budget is spent by the hosts that do not answer. With what to do."""
    away = [host for host, outcome in counted.items() if outcome == "unreachable"]
    if len(counted) < allowed or not away:
        return ""
    named = some([f"{host} ({outcome})" for host, outcome in counted.items()])
    without = shlex.quote(":".join([limit or "all", *(f"!{host}" for host in away)]))
    return (
        f"The failure budget of {allowed} is spent before the first host: a host that does not answer counts as failed, and the budget is "
        f"spent by {named}. Bring {'it' if len(away) == 1 else 'them'} back, leave {'it' if len(away) == 1 else 'them'} out with "
        f"--limit {without}, or allow more failures with -e hotpmem_failure_budget={len(counted) + 1}."
    )


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M %Z}"
