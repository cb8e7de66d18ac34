# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics of this boot and of the last cycle, as a file that the textfile collector of node_exporter reads.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/ and docs/monitoring.md, which lists the metrics.
"""

from __future__ import annotations

from statistics import median
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from .._host.errors import HotpmemError
from .._host.replace_file import replace_file
from .._host.sysfs import Sysfs

NAME = "hotpmem.prom"  # the collector reads only files whose names end in .prom
OUTCOMES = ("restored", "cold", "down", "running")
ENOUGH = 3  # earlier cycles that a median needs

Labels = Tuple[Tuple[str, str], ...]
Sample = Tuple[Labels, float]

# (name without the prefix, type, help)
METRICS = (
    ("cycles_total", "counter", "Cycles that this host has recorded."),
    ("hot_add_ok", "gauge", "1 when the memory was added to System RAM in this boot, or already was; 0 when that failed or was refused."),
    ("memory_hot_added_bytes", "gauge", "Persistent memory that is System RAM now."),
    ("boot_items", "gauge", "Items of this boot by outcome. All are 0 when no state was due."),
    ("boot_item_restored", "gauge", "1 for an item that has its state in this boot, 0 for an item that has not."),
    ("last_cycle_timestamp_seconds", "gauge", "When the last cycle was recorded."),
    ("last_cycle_seconds", "gauge", "The whole last cycle, with the phases in which the services run."),
    ("last_cycle_down_seconds", "gauge", "Down time of the last cycle, from the stop of the units until they were ready."),
    ("last_cycle_phase_seconds", "gauge", "Each phase of the last cycle. down tells whether the services were down."),
    ("last_cycle_save_seconds", "gauge", "How long the copy of the state to persistent memory took."),
    ("last_cycle_restore_seconds", "gauge", "How long the copy back took."),
    ("last_cycle_state_bytes", "gauge", "State that the last cycle saved."),
    ("last_cycle_stored_bytes", "gauge", "What that state took in the image. Zeros are not stored."),
    ("previous_cycles_down_seconds", "gauge", f"Median down time of the cycles before the last one. Absent with fewer than {ENOUGH}."),
)


def _number(value: Any) -> Optional[float]:
    return None if isinstance(value, bool) or not isinstance(value, (int, float)) else value


def _bare(value: Any) -> List[Sample]:
    number = _number(value)
    return [] if number is None else [((), number)]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def samples(
    cycles: Sequence[Mapping[str, Any]],
    *,
    total: int,
    ended: Optional[float],
    outcomes: Sequence[Mapping[str, Any]],
    hot_add_ok: bool,
    online_bytes: Optional[int],
) -> Dict[str, List[Sample]]:
    """Return the samples of each metric. A value that is not known has no sample.

    cycles: records of the last cycles, the newest last. total: how many cycles the host has recorded. ended: when the newest was
    recorded, in seconds of the realtime clock. outcomes: of this boot's items. online_bytes: persistent memory that is System RAM.
    """
    last = cycles[-1] if cycles else {}
    timelines = [cycle.get("timeline") or {} for cycle in cycles]
    phases = (timelines[-1].get("phases") or []) if timelines else []
    before = [down for down in (_number(one.get("down_seconds")) for one in timelines[:-1]) if down is not None]
    states = [str(one.get("status")) for one in outcomes]
    return {
        "cycles_total": [((), total)],
        "hot_add_ok": [((), int(hot_add_ok))],
        "memory_hot_added_bytes": _bare(online_bytes),
        "boot_items": [((("outcome", name),), states.count(name)) for name in OUTCOMES],
        "boot_item_restored": [((("item", str(one.get("name"))),), int(one.get("status") in ("restored", "running"))) for one in outcomes],
        "last_cycle_timestamp_seconds": _bare(ended),
        "last_cycle_seconds": _bare(round(sum(phase["seconds"] for phase in phases), 6) if phases else None),
        "last_cycle_down_seconds": _bare(timelines[-1].get("down_seconds") if timelines else None),
        "last_cycle_phase_seconds": [
            ((("phase", str(phase["name"])), ("down", "true" if phase["down"] else "false")), phase["seconds"]) for phase in phases
        ],
        "last_cycle_save_seconds": _bare(last.get("save_seconds")),
        "last_cycle_restore_seconds": _bare(last.get("restore_seconds")),
        "last_cycle_state_bytes": _bare(last.get("state_bytes")),
        "last_cycle_stored_bytes": _bare(last.get("stored_bytes")),
        "previous_cycles_down_seconds": _bare(round(median(before), 6) if len(before) >= ENOUGH else None),
    }


def _lines(found: Mapping[str, Sequence[Sample]]) -> Iterator[str]:
    for name, kind, words in METRICS:
        if not found.get(name):
            continue
        yield f"# HELP hotpmem_{name} {words}"
        yield f"# TYPE hotpmem_{name} {kind}"
        for labels, value in found[name]:
            inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
            yield f"hotpmem_{name}{'{' + inside + '}' if inside else ''} {value!r}"


def text_of(found: Mapping[str, Sequence[Sample]]) -> str:
    """Return the samples in the text format of Prometheus."""
    return "".join(f"{line}\n" for line in _lines(found))


def write(sysfs: Sysfs, directory: str, text: str) -> str:
    """Replace the file in directory, so that a reader sees the old content or the new. Returns its path. Raises HotpmemError.

    Another user may own the directory.
    """
    name = f"{directory.rstrip('/')}/{NAME}"
    try:
        replace_file(sysfs.path(name), text, 0o644, shared=True)  # node_exporter runs as another user
    except OSError as error:
        raise HotpmemError(
            f"Cannot write the metrics to {name}",
            error.strerror or str(error),
            "Create the directory that hotpmem_metrics_dir names, or run the playbook provision, which creates it",
        ) from error
    return name
