# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of the measurements of downtime.py: the file, the table, the goals. Nothing here touches a machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

METHODS = ("handoff", "handoff_systemd", "handoff_dax", "systemctl_kexec", "ansible_reboot")
OWN_MARKS = ("units_stopped", "saved", "restored", "units_ready")  # the phases that are ours, named by the mark at their end (_timeline.py)
OWN_LIMIT = 0.15
AGREE_SECONDS, AGREE_SHARE = 0.050, 0.01
REBOOT_SHARE = 1 / 3

# systemd's message ids for a unit that is being stopped, and one that has started (systemd.journal-fields, sd-messages.h).
STOPPING, STARTED = "de5b426a63be47a7b6ac3eaac82e2f6f", "39f53479d3a045ac8e11786248231fbf"
NO_EXCHANGE = ("Server listening on", "Received signal")  # what an sshd says of itself, without anybody having called


@dataclass
class Handoff:
    """One round that kept state. exchanges: what sshd said between stop and answer, None when the journal does not tell."""

    method: str
    gap: float
    timeline: float
    own: float
    items: int
    kept: int
    exchanges: list[str] | None


@dataclass
class Measured:
    """Everything, in seconds. machine: what the lab says of it."""

    mib: int
    machine: dict[str, object] = field(default_factory=dict)
    gaps: dict[str, list[float]] = field(default_factory=lambda: {method: [] for method in METHODS})
    coarse: dict[str, list[float]] = field(default_factory=lambda: {method: [] for method in METHODS})
    handoffs: list[Handoff] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def own_seconds(cycle: Mapping[str, Any]) -> float:
    """Stop, save, restore and start, from a cycle of hotpmem-node timeline. Restore is what units waited for: all that its unit takes, and
    not what an initrd has restored before, while systemd was starting."""
    return float(sum(phase["seconds"] for phase in cycle["timeline"]["phases"] if phase["mark"] in OWN_MARKS))


def exchanges(before: Iterable[str], after: Iterable[str], unit: str) -> list[str] | None:
    """sshd's messages from the stop of the unit to its start, from the journals (-o json) of the two boots; None without those two."""
    old, new = ([json.loads(line) for line in lines if line.strip()] for lines in (before, after))
    stops = [n for n, entry in enumerate(old) if entry.get("MESSAGE_ID") == STOPPING and entry.get("UNIT") == unit]
    starts = [n for n, entry in enumerate(new) if entry.get("MESSAGE_ID") == STARTED and entry.get("UNIT") == unit]
    if not stops or not starts:
        return None
    between = old[stops[-1] :] + new[: starts[0]]
    said = [str(entry.get("MESSAGE")) for entry in between if str(entry.get("SYSLOG_IDENTIFIER")).startswith("sshd")]
    return [message for message in said if not message.startswith(NO_EXCHANGE)]


def as_json(measured: Measured) -> dict[str, Any]:
    """What build/bench/downtime.json holds."""
    return {
        "machine": measured.machine,
        "state_mib": measured.mib,
        "client_ms": {method: _ms(measured.gaps[method]) for method in METHODS},
        "client_coarse_ms": {method: _ms(measured.coarse[method]) for method in METHODS},
        "own_share": round(max((one.own / one.gap for one in measured.handoffs), default=0.0), 4),
        "timeline_minus_client_ms": _ms([one.timeline - one.gap for one in measured.handoffs]),
        "ssh_exchanges": [None if one.exchanges is None else len(one.exchanges) for one in measured.handoffs],
        "items_kept": [[one.kept, one.items] for one in measured.handoffs],
        "skipped": measured.skipped,
    }


def _ms(seconds: Sequence[float]) -> list[float]:
    return [round(one * 1000, 1) for one in seconds]


def table(measured: Measured) -> Iterator[str]:
    """One row a method, one a handoff."""
    yield f"down time seen by the client, {measured.mib} MiB of state, seconds"
    yield f"  {'method':<16} {'median':>8} {'best':>8} {'worst':>8}   rounds"
    for method in METHODS:
        gaps = measured.gaps[method]
        if gaps:
            rounds = "  ".join(f"{gap:.2f}" for gap in gaps)
            yield f"  {method:<16} {median(gaps):8.2f} {min(gaps):8.2f} {max(gaps):8.2f}   {rounds}"
        else:
            yield f"  {method:<16} not measured: {measured.skipped.get(method, 'the run ended before it')}"
    if measured.handoffs:
        yield f"  {'handoff':<16} {'client':>8} {'timeline':>8} {'own':>8} {'share':>8}   items kept, ssh exchanges"
    for one in measured.handoffs:
        said = "unknown" if one.exchanges is None else len(one.exchanges)
        yield (
            f"  {one.method:<16} {one.gap:8.2f} {one.timeline:8.2f} {one.own:8.2f} {one.own / one.gap:8.1%}   "
            f"{one.kept} of {one.items}, {said}"
        )


def goals(measured: Measured) -> Iterator[tuple[bool, str]]:
    """(met, sentence). A goal without what it compares is missed."""
    yield from _down_time(measured)
    worst = max((one.own / one.gap for one in measured.handoffs), default=None)
    words = "no handoff was measured" if worst is None else f"{worst:.1%} in the worst round"
    yield worst is not None and worst <= OWN_LIMIT, f"own phases (stop, save, restore, start): {words}, wanted at most {OWN_LIMIT:.0%}"
    apart = [one.timeline - one.gap for one in measured.handoffs]
    agree = [abs(one.timeline - one.gap) <= max(AGREE_SECONDS, AGREE_SHARE * one.gap) for one in measured.handoffs]
    words = ", ".join(f"{one * 1000:+.0f}" for one in apart) or "no handoff was measured"
    yield bool(agree) and all(agree), f"timeline less client: {words} ms, wanted within {AGREE_SECONDS * 1000:.0f} ms or {AGREE_SHARE:.0%}"
    whole = [one.kept == one.items > 0 for one in measured.handoffs]
    yield bool(whole) and all(whole), f"all items kept: after {sum(whole)} of {len(whole)} handoffs"
    quiet = [one.exchanges == [] for one in measured.handoffs]
    yield bool(quiet) and all(quiet), f"no ssh exchange between stop and answer: in {sum(quiet)} of {len(quiet)} handoffs"


def _down_time(measured: Measured) -> Iterator[tuple[bool, str]]:
    """Medians, for every handoff that was measured; the plain one always."""
    for method in METHODS[:3]:
        ours = measured.gaps[method]
        if not ours and method != "handoff":
            continue
        for other, share in (("systemctl_kexec", 1.0), ("ansible_reboot", REBOOT_SHARE)):
            theirs = measured.gaps[other]
            wanted = "below it" if share == 1 else "at most a third"
            if not ours or not theirs:
                yield False, f"{method} beside {other}: not measured, wanted {wanted}"
                continue
            ratio = median(ours) / median(theirs)
            met = ratio < 1 if share == 1 else ratio <= share
            yield met, f"{method} beside {other}: {median(ours):.2f} s against {median(theirs):.2f} s, {ratio:.2f} of it, wanted {wanted}"
