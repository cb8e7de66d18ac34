# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gates: the operator's own checks of a host that is back. Pure: asking is given from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import fields, probes

KINDS = (*probes.KINDS, "units", "tasks")
CHECKS: dict[str, fields.Check] = {
    **probes.CHECKS,
    "name": fields.is_name,
    "units": fields.is_one_or_list(fields.is_text),
    "retries": fields.is_number(0, 10000, whole=True),
    "delay": fields.is_number(0, 86400),
}


def prepared(gate: Mapping[str, Any]) -> dict[str, Any]:
    """A gate with its kind and its defaults."""
    return {
        **gate,
        "kind": next(kind for kind in KINDS if kind in gate),
        "where": str(gate.get("where") or ("host" if "units" in gate else "controller")),
        "timeout": fields.number(gate.get("timeout"), 30),
        "retries": int(fields.number(gate.get("retries"), 3)),
        "delay": fields.number(gate.get("delay"), 5),
        "no_log": fields.boolean(gate.get("no_log", False)),
    }


def check(gates: Any, bases: Sequence[str] = ()) -> list[str]:
    """What is wrong with hotpmem_gates."""

    def check_gate(path: str, gate: Mapping[str, Any]) -> list[str]:
        errors = fields.exactly_one(path, gate, KINDS)
        if errors:
            return errors
        return fields.check_keys(path, gate, {**CHECKS, "tasks": fields.is_file(bases)}, ("name",)) + probes.check_where(path, gate)

    return fields.check_entries("hotpmem_gates", gates, check_gate)


# Asks a gate once. Returns the empty string, or what is wrong.
Probe = Callable[[Mapping[str, Any]], str]


def passes(gate: Mapping[str, Any], probe: Probe, sleep: Callable[[float], None]) -> str:
    """Ask a gate until it passes or its retries are used up. Returns the empty string, or the problem."""
    problem = ""
    for attempt in range(gate["retries"] + 1):
        if attempt:
            sleep(gate["delay"])
        problem = probe(gate)
        if not problem:
            return ""
    tries = gate["retries"] + 1
    return f"Gate {gate['name']} did not pass in {tries} {'attempts' if tries > 1 else 'attempt'}: {problem}."


def soak(
    gates: Sequence[Mapping[str, Any]],
    seconds: float,
    interval: float,
    *,
    probe: Probe,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> str:
    """Ask the gates again and again for a time, and once more at its end. Returns the empty string, or the problem."""
    began = clock()
    while (left := seconds - (clock() - began)) > 0:
        sleep(min(interval, left) if gates else left)
        for gate in gates:
            problem = passes(gate, probe, sleep)
            if problem:
                return f"{problem} This was {clock() - began:.0f} s into the soak of {seconds:g} s."
    return ""
