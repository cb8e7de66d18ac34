# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person sees of a rollout while it runs, computed from its events. It prints nothing itself.

An event is a line of the journal, as the module rollout_step returns it (``rollout_event``). With it comes ``rollout``, the state of the
run: name, run, batch, of, done, failed, left (not begun),
under_way and expected_end. An event costs the same time however many hosts the rollout has.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .words import about, clear_command, clock, count, seconds_of, short, some, time_of, time_of_day, visible

GOOD = ("kept",)
POOR = ("cold", "refused")
_BAR = 20  # columns


@dataclass(frozen=True)
class Line:
    """A line to print. tone: plain, good, warn or bad. step: True when a display in place shows it anyway."""

    text: str
    tone: str = "plain"
    step: bool = False


@dataclass
class _Host:
    """A host under way. Times are in seconds of the realtime clock."""

    begun: float
    phase: str = "begin"
    since: float = 0.0


@dataclass
class Progress:
    """The state of one run."""

    name: str = ""
    started: float | None = None
    batch: int = 0
    of: int = 0
    done: int = 0
    failed: int = 0
    left: int = 0
    under_way: int = 0
    expected_end: float | None = None
    ended: bool = False
    hosts: dict[str, _Host] = field(default_factory=dict)
    phases: Counter[str] = field(default_factory=Counter)

    # --- events

    def apply(self, event: Mapping[str, Any], rollout: Mapping[str, Any] | None, now: float) -> list[Line]:
        """Take an event in, and return what to print about it. Unknown events are ignored."""
        self._take(rollout or {})
        if self.started is None:
            self.started = now
        handler = getattr(self, f"_on_{event.get('event')}", None)
        return handler(event, now) if handler else []

    def _take(self, rollout: Mapping[str, Any]) -> None:
        self.name = visible(rollout.get("name") or self.name)
        for key in ("batch", "of", "done", "failed", "left", "under_way"):
            value = rollout.get(key)
            if isinstance(value, int) and not isinstance(value, bool):
                setattr(self, key, value)
        self.expected_end = time_of(rollout.get("expected_end")) or self.expected_end

    def _on_run_planned(self, event: Mapping[str, Any], now: float) -> list[Line]:
        batches = [batch for batch in event.get("batches") or [] if isinstance(batch, list)]
        self.started, self.ended = now, False
        self.of = self.of or len(batches)
        self.left = self.left or sum(map(len, batches))
        self.expected_end = time_of(event.get("expected_end")) or self.expected_end
        sizes = some([str(len(batch)) for batch in batches], 12)
        verb = "goes on" if event.get("event") == "run_resumed" else "begins"
        text = f"rollout {self.name or 'default'} {verb}: {count(self.left, 'host')} in {count(len(batches), 'batch')}"
        text += f" ({sizes})" if len(batches) > 1 else ""
        length = seconds_of(event.get("expected_seconds"))
        text += f", about {about(length)}" if length else ""
        text += f", until {time_of_day(self.expected_end, now)}" if self.expected_end else ""
        lines = [Line(f"{text}; run {visible(event.get('run') or '?')}")]
        for key, words in (("refused", "refused"), ("unreachable", "does not answer")):
            for host, reason in (event.get(key) or {}).items():
                lines += self._problem(f"{visible(host)}: {words}", reason, "bad")
        left_out = event.get("left_out") or {}
        if left_out:
            lines.append(Line(f"left out: {some(sorted(left_out))}"))
        return lines

    _on_run_resumed = _on_run_planned

    def _on_batch_begun(self, event: Mapping[str, Any], now: float) -> list[Line]:
        self.batch, self.of = event.get("batch") or self.batch, event.get("of") or self.of
        end = time_of(event.get("expected_end"))
        until = f", until about {time_of_day(end, now)}" if end else ""
        return [Line(f"batch {self.batch} of {self.of}: {some(list(event.get('hosts') or []))}{until}")]

    def _on_host_begun(self, event: Mapping[str, Any], now: float) -> list[Line]:
        name = str(event.get("host"))
        self._forget(name)
        self.hosts[name] = _Host(now, since=now)
        self.phases["begin"] += 1
        down = seconds_of(event.get("expected_down_seconds"))
        kernel = event.get("kernel")
        words = [f"kernel {visible(kernel)}"] * bool(kernel) + [f"expected down time {short(down)}"] * (down is not None)
        return [Line(f"{visible(name)}: begins{' (' + ', '.join(words) + ')' if words else ''}", step=True)]

    def _on_host_phase(self, event: Mapping[str, Any], now: float) -> list[Line]:
        name, phase = str(event.get("host")), visible(event.get("phase") or "?")
        host = self.hosts.setdefault(name, _Host(now, phase="", since=now))
        self._leave(host.phase)
        host.phase, host.since = phase, now
        self.phases[phase] += 1
        return [Line(f"{visible(name)}: {phase}", step=True)]

    def _on_host_drained(self, event: Mapping[str, Any], now: float) -> list[Line]:
        return [Line(f"{visible(event.get('host'))}: drained by {visible(event.get('hook') or 'a hook')}", step=True)]

    def _on_host_undrained(self, event: Mapping[str, Any], now: float) -> list[Line]:
        return [Line(f"{visible(event.get('host'))}: back in service, {visible(event.get('hook') or 'a hook')}", step=True)]

    def _on_hook(self, event: Mapping[str, Any], now: float) -> list[Line]:
        outcome = visible(event.get("outcome") or "?")
        where = f"{visible(event['host'])}: " if event.get("host") else ""
        text = f"{where}hook {visible(event.get('name') or '?')} at {visible(event.get('point') or '?')}: {outcome}"
        if outcome == "passed":
            return [Line(text, step=True)]
        return self._problem(text, event, "warn" if outcome == "ignored" else "bad")

    def _on_host_ended(self, event: Mapping[str, Any], now: float) -> list[Line]:
        name, outcome = str(event.get("host")), visible(event.get("outcome") or "?")
        begun = self.hosts[name].begun if name in self.hosts else None
        self._forget(name)
        tone = "good" if outcome in GOOD else "warn" if outcome in POOR else "bad"
        took = seconds_of(event.get("seconds"))
        took = now - begun if took is None and begun is not None else took
        words = [outcome if tone != "bad" else outcome.upper()]
        words += [f"{about(took)}"] if took is not None else []
        words += [f"down {short(event['down_seconds'])}"] if seconds_of(event.get("down_seconds")) is not None else []
        words += [f"kernel {visible(event['kernel'])}"] if event.get("kernel") else []
        text = f"{visible(name)}: {', '.join(words)}"
        totals = self._totals()
        lines = [Line(f"{text}  ({totals})" if totals else text, tone)]
        if tone != "good":
            lines += self._problem("", event, tone)
        for warning in event.get("warnings") or []:
            lines += self._problem(f"{visible(name)}: warning", warning, "warn")
        return lines

    def _on_budget_spent(self, event: Mapping[str, Any], now: float) -> list[Line]:
        hosts = some([str(host) for host in event.get("hosts") or []], 20)
        text = f"the {visible(event.get('kind') or 'failure')} budget is spent: {event.get('count', '?')} of {event.get('allowed', '?')}"
        lines = [Line(f"{text} ({hosts})" if hosts else text, "bad")]
        lines += self._problem("", {"msg": "What is under way ends, then the run stops.", **event}, "bad")
        if not event.get("next"):
            lines.append(Line(f"    next: {clear_command(self.name)}", "bad"))
        return lines

    def _on_budget_cleared(self, event: Mapping[str, Any], now: float) -> list[Line]:
        return [Line(f"the budget was cleared by {visible(event.get('owner') or '?')}: {visible(event.get('reason') or '?')}")]

    def _on_lease_taken_over(self, event: Mapping[str, Any], now: float) -> list[Line]:
        return self._problem("", event, "warn")

    def _on_run_stopped(self, event: Mapping[str, Any], now: float) -> list[Line]:
        return self._problem(f"the run stops ({visible(event.get('reason') or '?')})", event, "bad")

    def _on_run_ended(self, event: Mapping[str, Any], now: float) -> list[Line]:
        self.ended = True
        counts = event.get("counts") or {}
        words = ", ".join(f"{number} {visible(name)}" for name, number in counts.items() if number) or "no host was rebooted"
        after = f" after {clock(now - self.started)}" if self.started is not None else ""
        return [Line(f"rollout {self.name or 'default'} ended{after}: {words}")]

    def _forget(self, name: str) -> None:
        host = self.hosts.pop(name, None)
        if host:
            self._leave(host.phase)

    def _leave(self, phase: str) -> None:
        self.phases[phase] -= 1
        if self.phases[phase] <= 0:
            del self.phases[phase]

    @staticmethod
    def _problem(title: str, said: Any, tone: str) -> list[Line]:
        """Say it whole, with the next command. said: text, or a mapping with ``msg`` and ``next``."""
        message, todo = (said.get("msg"), said.get("next")) if isinstance(said, Mapping) else (said, None)
        whole = visible(message or "").strip("\n").splitlines()
        lines = []
        if title:
            first = f"{title}: {whole.pop(0)}" if len(whole) == 1 else title
            lines.append(Line(first, tone))
        lines += [Line(f"    {line}", tone) for line in whole]
        lines += [Line(f"    next: {line}", tone) for line in visible(todo or "").strip().splitlines()]
        return lines

    # --- the state, in words

    @property
    def _behind(self) -> int:
        return self.done + self.failed

    @property
    def _whole(self) -> int:
        return self._behind + self.left + self.under_way

    def _totals(self) -> str:
        return f"{self._behind} of {self._whole} hosts, {self.failed} failed" if self._whole else ""

    def time_left(self, now: float) -> str:
        """Return how long the run still takes, as the plan or the pace so far says. Empty when neither is known."""
        if self.ended or not (self.left or self.under_way or self.hosts):
            return ""
        if self.expected_end and self.expected_end > now:
            return f"about {about(self.expected_end - now)} left"
        remaining = self.left + self.under_way
        if self.started is not None and self._behind and remaining:
            return f"about {about((now - self.started) / self._behind * remaining)} left"
        return f"{about(now - self.expected_end)} over the plan" if self.expected_end else ""

    def elapsed(self, now: float) -> str:
        """Return the time since the run began."""
        return clock(now - self.started) if self.started is not None else clock(0)

    def header(self, now: float) -> list[str]:
        """Return the state of the run in two lines."""
        words = [f"rollout {self.name or 'default'}"]
        words += [f"batch {self.batch} of {self.of}"] if self.of else []
        if self._whole:
            filled = round(_BAR * self._behind / self._whole)
            words.append(f"[{'#' * filled}{'-' * (_BAR - filled)}] {self._totals()}")
        left = self.time_left(now)
        return ["  ".join(words), f"  elapsed {self.elapsed(now)}{', ' + left if left else ''}"]

    def region(self, now: float, width: int, height: int) -> list[str]:
        """Return the lines of a display in place: the header, and the hosts under way. At most height lines of width columns."""
        lines = self.header(now)
        room = max(height - len(lines), 0)
        shown = list(self.hosts) if len(self.hosts) <= room else list(itertools.islice(self.hosts, max(room - 1, 0)))
        column = min(max([len(visible(name)) for name in shown], default=0), 40)
        for name in shown:
            host = self.hosts[name]
            spent = f"{clock(now - host.since):>7}  host {clock(now - host.begun):>7}"
            lines.append(f"  {visible(name):<{column}}  {host.phase:<10}{spent}")
        if len(shown) < len(self.hosts) and room:
            counts = ", ".join(f"{number} {phase}" for phase, number in sorted(self.phases.items()))
            lines.append(f"  {len(self.hosts) - len(shown)} more; all under way: {counts}")
        return [line[: max(width - 1, 1)] for line in lines[:height]]
