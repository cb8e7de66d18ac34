# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Blockers: reasons not to begin a host now. Pure: asking is given from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import alerts, fields, probes, web
from .words import some

COMMON: dict[str, fields.Check] = {
    "name": fields.is_name,
    "on_block": fields.is_choice("wait", "refuse"),
    "on_error": fields.is_choice("block", "ignore"),
    "retry_interval": fields.is_number(0.1, 86400),
    "wait_limit": fields.is_number(0, 604800),
}
PATTERNS = fields.is_one_or_list(fields.is_pattern)
ALERTS: dict[str, fields.Check] = {
    **COMMON,
    **web.WEB_CHECKS,
    "block_alerts": PATTERNS,
    "ignore_alerts": PATTERNS,
    "labels": fields.is_mapping(fields.is_pattern),
}
USES: dict[str, tuple[dict[str, fields.Check], tuple[str, ...]]] = {
    "alertmanager": (ALERTS, ("url",)),
    "prometheus": ({**ALERTS, "query": fields.is_text}, ("url",)),
    "sessions": ({**COMMON, "ignore_users": PATTERNS}, ()),
    "inhibitors": ({**COMMON, "ignore_who": PATTERNS}, ()),
}
# What these need to know about a host comes from the module rollout_facts.
OF_FACTS = ("sessions", "inhibitors")


class Unknown(Exception):
    """A blocker could not be asked, so nobody knows whether it blocks."""


@dataclass(frozen=True)
class Answer:
    """A blocker that blocks, or that could not be asked."""

    blocker: Mapping[str, Any]
    reason: str
    unknown: bool = False

    def __str__(self) -> str:
        return f"{self.blocker['name']}: {self.reason}"


def prepared(blocker: Mapping[str, Any]) -> dict[str, Any]:
    """A blocker with its kind and its defaults."""
    kind = str(blocker.get("use") or next(kind for kind in probes.KINDS if kind in blocker))
    return {
        **blocker,
        "name": str(blocker.get("name") or kind),
        "kind": kind,
        "where": str(blocker.get("where") or "controller"),
        "timeout": fields.number(blocker.get("timeout"), 10),
        "on_block": str(blocker.get("on_block") or "wait"),
        "on_error": str(blocker.get("on_error") or "block"),
        "retry_interval": fields.number(blocker.get("retry_interval"), 60),
        "wait_limit": fields.number(blocker.get("wait_limit"), 3600),
        "no_log": fields.boolean(blocker.get("no_log", False)),
    }


def check(blockers: Any) -> list[str]:
    """What is wrong with hotpmem_blockers."""

    def check_blocker(path: str, blocker: Mapping[str, Any]) -> list[str]:
        errors = fields.exactly_one(path, blocker, ("use", *probes.KINDS))
        if errors:
            return errors
        if "use" not in blocker:
            known = {**COMMON, **probes.CHECKS}
            return fields.check_keys(path, blocker, known, ("name",)) + probes.check_where(path, blocker)
        errors = fields.is_choice(*USES)(f"{path}.use", blocker["use"])
        if errors:
            return errors
        checks, required = USES[blocker["use"]]
        errors = fields.check_keys(path, blocker, {**checks, "use": fields.is_choice(*USES)}, required)
        if "query" in blocker and ("block_alerts" in blocker or "ignore_alerts" in blocker):
            errors.append(f"{path}.query cannot be combined with block_alerts or ignore_alerts: each sample of the query's result blocks.")
        return errors

    return fields.check_entries("hotpmem_blockers", blockers, check_blocker, lambda one: one.get("name") or one.get("use"))


def of_alerts(blocker: Mapping[str, Any], reply: web.Reply) -> str:
    """The alerts that block, or the empty string. Unknown when the server did not tell."""
    try:
        if blocker.get("query"):
            found = alerts.queried(reply)
            ignore: list[str] = []
            block = [".*"]
        else:
            found = alerts.firing(blocker["kind"], reply)
            ignore = fields.names(blocker.get("ignore_alerts"))
            block = fields.names(blocker.get("block_alerts")) if "block_alerts" in blocker else [".*"]
    except alerts.BadAnswer as error:
        raise Unknown(f"{web.safe_url(str(blocker['url']))}: {error}") from None
    left = alerts.blocking(found, block, ignore, blocker.get("labels") or {})
    if not left:
        return ""
    what = "the query returned" if blocker.get("query") else "firing alerts:"
    return f"{what} {some(sorted({str(one) for one in left}), 5)} at {web.safe_url(str(blocker['url']))}"


def of_sessions(blocker: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The users who are logged in, or the empty string."""
    sessions = facts.get("sessions")
    if not isinstance(sessions, list):
        raise Unknown("the host did not tell who is logged in")
    found = [one for one in sessions if not alerts.matches(fields.names(blocker.get("ignore_users")), str(one.get("user")))]
    said = [f"{one.get('user')} on {one.get('tty') or 'no terminal'}" for one in found]
    return f"logged in: {some(said, 5)}" if said else ""


def of_inhibitors(blocker: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The inhibitors of systemd that block a shutdown, or the empty string. An inhibitor that only delays does not block."""
    inhibitors = facts.get("inhibitors")
    if not isinstance(inhibitors, list):
        raise Unknown("the host did not tell its inhibitors")
    found = [
        one
        for one in inhibitors
        if str(one.get("mode")).startswith("block")
        and "shutdown" in str(one.get("what")).split(":")
        and not alerts.matches(fields.names(blocker.get("ignore_who")), str(one.get("who")))
    ]
    said = [f"{one.get('who')} ({one.get('why')})" for one in found]
    return f"systemd inhibitors: {some(said, 5)}" if said else ""


# Asks a blocker once. Returns the empty string or the reason, and raises Unknown.
Probe = Callable[[Mapping[str, Any]], str]


def ask_all(blockers: Sequence[Mapping[str, Any]], probe: Probe) -> tuple[list[Answer], list[Answer]]:
    """Ask every blocker once. Returns those that block, and those that could not be asked and may be ignored."""
    blocked: list[Answer] = []
    ignored: list[Answer] = []
    for one in blockers:
        try:
            reason = probe(one)
        except Unknown as error:
            answer = Answer(one, str(error), unknown=True)
            (ignored if one["on_error"] == "ignore" else blocked).append(answer)
        else:
            if reason:
                blocked.append(Answer(one, reason))
    return blocked, ignored


@dataclass(frozen=True)
class Waited:
    """blocked is empty when the host may begin. With again, the time slice is over and the caller asks again. Otherwise it is refused."""

    blocked: list[Answer]
    ignored: list[Answer]
    seconds: float
    again: bool = False

    @property
    def msg(self) -> str:
        """Why the host was not begun."""
        if not self.blocked:
            return ""
        said = "; ".join(map(str, self.blocked))
        after = f" for {self.seconds:.0f} s" if self.seconds >= 1 else ""
        hint = (
            " Nobody knows whether these may be ignored: check the server, or set on_error: ignore."
            if all(one.unknown for one in self.blocked)
            else ""
        )
        return f"Blocked{after} by {said}. Nothing was changed on the host.{hint}"


def wait(
    blockers: Sequence[Mapping[str, Any]],
    probe: Probe,
    *,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
    waited: float = 0.0,
    slice_seconds: float = float("inf"),
    tell: Callable[[str], None] = lambda text: None,
) -> Waited:
    """Ask all blockers until none blocks, one refuses, its limit is over, or the time slice ends.

    waited: the seconds of earlier slices. tell gets each new reason to wait.
    """
    began = clock()
    told = ""
    while True:
        blocked, ignored = ask_all(blockers, probe)
        seconds = waited + clock() - began
        over = [one for one in blocked if one.blocker["on_block"] == "refuse" or seconds >= one.blocker["wait_limit"]]
        if not blocked or over:
            return Waited(over, ignored, seconds)
        said = "; ".join(map(str, blocked))
        if said != told:
            tell(said)
            told = said
        pause = min(min(one.blocker["retry_interval"], max(one.blocker["wait_limit"] - seconds, 0.1)) for one in blocked)
        if clock() - began + pause > slice_seconds:
            # A pause that is longer than the slice is cut into slices.
            rest = max(slice_seconds - (clock() - began), 0.0)
            sleep(rest)
            return Waited(blocked, ignored, waited + clock() - began, again=True)
        sleep(pause)
