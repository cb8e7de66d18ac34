# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a run stands, from its journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

DONE = ("kept", "cold")
FAILED = ("failed", "back", "lost", "unreachable")
# Until then nothing has been done to the host.
BEFORE_HANDOFF = ("", "wait", "blockers", "drain")


@dataclass
class Host:
    """What the journal says of a host."""

    batch: int = 0
    boot_id: str = ""
    kernel: str = ""
    phase: str = ""
    phase_began: str = ""  # as in the journal
    outcome: str = ""  # of the last time it was begun; empty while it is under way
    begun: bool = False
    unfinished: bool = False  # it was lost, a later plan has looked at it, and it was not begun since
    drained: bool = False
    kernel_after: str = ""
    msg: str = ""
    next: str = ""
    warned: bool = False

    @property
    def done(self) -> bool:
        """True when it was rebooted and answers with its state, or without it."""
        return self.outcome in DONE

    @property
    def lost(self) -> bool:
        """True when it was begun, and nobody recorded how it ended."""
        return self.begun and not self.outcome

    @property
    def open(self) -> bool:
        """True when it was begun, nobody recorded how it ended, and so it may have been rebooted."""
        return self.lost or self.unfinished

    @property
    def may_be_away(self) -> bool:
        """True when it is open, and may be on its way to its next boot."""
        return self.open and self.phase not in BEFORE_HANDOFF


@dataclass
class Run:
    """A run, after all its events."""

    name: str = ""
    hosts: dict[str, Host] = field(default_factory=dict)
    fleet: list[str] = field(default_factory=list)
    looked_at: set[str] = field(default_factory=set)  # the hosts of the last plan: --limit may leave out others of the run
    waiting: list[str] = field(default_factory=list)  # not begun, and left out by the last plan
    batches: list[list[str]] = field(default_factory=list)  # of the last plan
    batch: int = 0  # the batch that was begun last, since the last plan
    refused: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    unreachable: dict[str, str] = field(default_factory=dict)
    forgiven: set[str] = field(default_factory=set)  # did not answer, or was lost, when the budget was cleared
    counted: dict[str, str] = field(default_factory=dict)  # counts against the failure budget: host and outcome
    warned: list[str] = field(default_factory=list)  # counts against the warning budget
    latched: Mapping[str, Any] | None = None  # the event that keeps further runs from beginning
    stopped: Mapping[str, Any] | None = None
    ended: str = ""  # when it ended
    owner: str = ""
    process: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lost(self) -> list[str]:
        """Hosts that were begun and did not end."""
        return [name for name, host in self.hosts.items() if host.lost]

    @property
    def drained(self) -> list[str]:
        """Hosts that were drained and not undrained."""
        return [name for name, host in self.hosts.items() if host.drained]

    @property
    def failed(self) -> dict[str, str]:
        """Hosts that failed, with the outcome."""
        return {name: host.outcome for name, host in self.hosts.items() if host.outcome in FAILED}

    @property
    def can_be_tried_again(self) -> bool:
        """True when a host of the run was not rebooted, or nobody saw its end, whatever the reason."""
        tried = {name: host for name, host in self.hosts.items() if host.open or host.outcome}
        return not all(host.done for host in tried.values()) or bool({*self.unreachable, *self.refused} - set(tried))

    @property
    def not_begun(self) -> list[str]:
        """Hosts that were planned and not begun since: those of the last plan, and those that it left out."""
        planned = [*(host for batch in self.batches for host in batch), *self.waiting]
        return [host for host in planned if not (self.hosts.get(host) or Host()).begun]

    @property
    def not_looked_at(self) -> list[str]:
        """Hosts that were lost or left drained, and that the last plan left out. A lost host is forgiven when the budget is cleared."""
        return [
            name
            for name, host in self.hosts.items()
            if name not in self.looked_at and (host.drained or (host.lost and name not in self.forgiven))
        ]

    def counts(self) -> dict[str, int]:
        """Numbers of hosts for people and programs."""
        outcomes = [host.outcome for host in self.hosts.values()]
        found = {name: outcomes.count(name) for name in ("kept", "cold", "failed", "back", "refused")}
        found.update(lost=len(self.lost), unreachable=len(self.unreachable), left_out=len(self.left_out), not_begun=len(self.not_begun))
        found["refused"] += len([host for host in self.refused if host not in self.hosts or not self.hosts[host].outcome])
        return found

    def bad_kernel(self) -> tuple[str, str] | None:
        """A kernel on which hosts failed and no host is well, and one of these hosts."""
        well = {host.kernel_after for host in self.hosts.values() if host.done}
        for name, host in self.hosts.items():
            new = host.kernel_after
            if host.outcome in FAILED and new and new != host.kernel and new not in well and name in self.counted:
                return new, name
        return None


def replay(events: Iterable[Mapping[str, Any]]) -> Run:
    """The run after these events."""
    run = Run()
    for event in events:
        handler = _HANDLERS.get(str(event.get("event")))
        if handler:
            handler(run, event)
    return run


def _planned(run: Run, event: Mapping[str, Any]) -> None:
    fleet = [str(host) for host in event.get("fleet", [])]
    run.looked_at = set(fleet)
    run.waiting = [host for host in run.not_begun if host not in run.looked_at]
    run.fleet = list(dict.fromkeys([*run.fleet, *fleet]))
    run.batches = [list(batch) for batch in event.get("batches", [])]
    run.batch = 0
    for known, name in ((run.refused, "refused"), (run.left_out, "left_out"), (run.unreachable, "unreachable")):
        # What an earlier plan said of hosts that this one has left out still holds.
        for host in run.looked_at & set(known):
            del known[host]
        known.update(event.get(name, {}))
    run.owner, run.process = str(event.get("owner", "")), dict(event.get("process", {}))
    run.ended, run.stopped = "", None
    # A host that was begun by the run that was killed counts as failed until it is looked at. The plan has looked at it.
    for name in [*event.get("again", []), *event.get("refused", {})]:
        if name in run.hosts and not run.hosts[name].done:
            # It stays open until it is begun again: this start may be killed before the turn of the host.
            run.hosts[name].unfinished = run.hosts[name].open
            run.hosts[name].begun, run.hosts[name].outcome = False, ""
            run.counted.pop(name, None)
    run.counted = {host: outcome for host, outcome in run.counted.items() if outcome != "unreachable"}
    for host in event.get("unreachable", {}):
        if host not in run.forgiven:
            run.counted.setdefault(host, "unreachable")


def _host(run: Run, event: Mapping[str, Any]) -> Host:
    return run.hosts.setdefault(str(event.get("host")), Host())


def _batch_begun(run: Run, event: Mapping[str, Any]) -> None:
    run.batch = int(event.get("batch", 0))


def _host_begun(run: Run, event: Mapping[str, Any]) -> None:
    host = _host(run, event)
    drained = host.drained
    fresh = Host(batch=int(event.get("batch") or 0), boot_id=str(event.get("boot_id") or ""), kernel=str(event.get("kernel") or ""))
    fresh.begun, fresh.drained = True, drained
    run.hosts[str(event.get("host"))] = fresh
    run.counted.pop(str(event.get("host")), None)
    run.forgiven.discard(str(event.get("host")))


def _host_phase(run: Run, event: Mapping[str, Any]) -> None:
    host = _host(run, event)
    host.phase, host.phase_began = str(event.get("phase", "")), str(event.get("time") or "")


def _host_drained(run: Run, event: Mapping[str, Any]) -> None:
    _host(run, event).drained = True


def _host_undrained(run: Run, event: Mapping[str, Any]) -> None:
    _host(run, event).drained = False


def _host_ended(run: Run, event: Mapping[str, Any]) -> None:
    name, host = str(event.get("host")), _host(run, event)
    host.begun, host.unfinished = True, False
    host.outcome = str(event.get("outcome", "failed"))
    host.msg, host.next = str(event.get("msg") or ""), str(event.get("next") or "")
    host.kernel_after = str(event.get("kernel") or "")
    host.warned = host.outcome == "cold" or bool(event.get("warnings"))
    run.counted.pop(name, None)
    if host.outcome in FAILED:
        run.counted[name] = host.outcome
    if host.warned:
        run.warned.append(name)


def _budget_spent(run: Run, event: Mapping[str, Any]) -> None:
    run.latched = event


def _budget_cleared(run: Run, event: Mapping[str, Any]) -> None:
    run.latched = None
    run.forgiven |= {host for host, outcome in run.counted.items() if outcome == "unreachable"} | set(run.lost)
    run.counted, run.warned = {}, []


def _run_stopped(run: Run, event: Mapping[str, Any]) -> None:
    run.stopped = event
    if event.get("reason") == "bad_kernel":
        run.latched = event


def _run_ended(run: Run, event: Mapping[str, Any]) -> None:
    run.ended = str(event.get("time") or "?")


_HANDLERS = {
    "run_planned": _planned,
    "run_resumed": _planned,
    "batch_begun": _batch_begun,
    "host_begun": _host_begun,
    "host_phase": _host_phase,
    "host_drained": _host_drained,
    "host_undrained": _host_undrained,
    "host_ended": _host_ended,
    "budget_spent": _budget_spent,
    "budget_cleared": _budget_cleared,
    "run_stopped": _run_stopped,
    "run_ended": _run_ended,
}


def spent(run: Run) -> dict[str, str]:
    """What counts against the failure budget now. Hosts that are lost count."""
    return {**run.counted, **dict.fromkeys((host for host in run.lost if host not in run.forgiven), "lost")}
