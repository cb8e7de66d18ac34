#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws what instructions.py measured: a bar for each method, a piece for each phase. Usage: instructions_chart.py IN.json OUT.svg

Colours and geometry are those of the report's page (playbooks/templates/report.html.j2).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / ".venv/collections")]

from ansible_collections.hotpmem.fleet.plugins.plugin_utils._report.charts import BAR, bar_scale, timeline_bar
from instructions_report import PHASES

# The methods that are drawn. Instructions of one CPU and of two are not compared.
WORDS = {
    "handoff": "handoff, road raw",
    "handoff_dax": "handoff, road dax",
    "systemctl_kexec": "systemctl kexec",
    "ansible_reboot": "Ansible's reboot",
}
COLOURS = {
    "stop": "#d08a18",
    "save": "#2563eb",
    "shutdown": "#475569",
    "kexec": "#94a3b8",
    "kernel": "#64748b",
    "userspace": "#b3becd",
    "restore": "#0d9488",
    "other_units": "#8492a6",
    "start": "#7c3aed",
}
LEFT, RIGHT, TOP, ROW, THICK, STEP = 150, 70, 44, 40, 24, 74


def svg(measured: Mapping[str, Any]) -> str:
    """The drawing. measured: what as_json() returns. Methods that were not measured are left out."""
    shown = [(method, measured[method]["phases"]) for method in WORDS if measured.get(method, {}).get("phases")]
    end, ticks = bar_scale([sum(phases.values()) for _method, phases in shown])
    floor = TOP + ROW * len(shown)
    width, height = LEFT + BAR + RIGHT, floor + 36
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" font-family="sans-serif" font-size="15">',
        f"<title>Millions of instructions from stop to ready, {measured['state_mib']} MiB of state</title>",
        f'<rect width="{width:.0f}" height="{height}" fill="#fff"/>',
    ]
    for number, name in enumerate(PHASES.values()):
        at = LEFT + number * (STEP + 34)
        out.append(f'<rect x="{at}" y="10" width="14" height="14" fill="{COLOURS[name]}"/>')
        out.append(f'<text x="{at + 19}" y="22" fill="#1c2330">{name.replace("_", " ")}</text>')
    for tick in ticks:
        x = LEFT + tick / end * BAR
        out.append(f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{floor}" stroke="#dde2ea"/>')
        out.append(f'<text x="{x:.1f}" y="{floor + 22}" text-anchor="middle" fill="#5a6577">{tick:g}</text>')
    for number, (method, phases) in enumerate(shown):
        y = TOP + number * ROW
        out.append(f'<text x="{LEFT - 10}" y="{y + 17}" text-anchor="end" fill="#1c2330">{WORDS[method]}</text>')
        bar, names = timeline_bar(list(phases.items()), end), list(phases)
        for piece in bar["pieces"]:
            colour = COLOURS[names[piece["part"]]]
            out.append(f'<rect x="{LEFT + piece["x"]}" y="{y}" width="{piece["width"]}" height="{THICK}" fill="{colour}"/>')
        total = sum(phases.values())
        at = LEFT + min(total, end) / end * BAR + 6
        out.append(f'<text x="{at:.1f}" y="{y + 17}" fill="#1c2330">{total:.0f}{"+" if bar["cut"] else ""}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def main(source: str, target: str) -> None:
    """Read the file of instructions.py, and write the drawing."""
    Path(target).write_text(svg(json.loads(Path(source).read_text())))


if __name__ == "__main__":
    main(*sys.argv[1:3])
