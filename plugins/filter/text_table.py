# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tables for people, in a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

DOCUMENTATION = r"""
name: text_table
short_description: Lay out rows as a table for a terminal
version_added: 0.1.0
description:
  - Columns are as wide as their longest cell. A column is aligned to the right if all its filled cells are numbers, with or without a
    unit, such as V(2.0 GiB) or V(50%). Empty cells and C(-) do not decide, and a column that has only these is aligned to the left.
positional: _input, headers
options:
  _input:
    description: Rows, each a list of cells.
    type: list
    elements: list
    required: true
  headers:
    description: One header a column.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show a table
  hotpmem.fleet.print_lines:
    lines: "{{ ([['node1', '2.0 GiB'], ['node2', '1.5 GiB']] | hotpmem.fleet.text_table(['host', 'memory'])).splitlines() }}"
"""

RETURN = r"""
_value:
  description: The table, one line a row.
  type: str
"""

_NUMBER = r"[-+]?\d+(\.\d+)?( ?%| [A-Za-z]{1,5}(/s)?)?"
_NUMBERS = re.compile(rf"{_NUMBER}( / {_NUMBER})?")  # the report shows two sizes in one cell


def text_table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    """Return the rows below the headers, in aligned columns."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    for row in cells:
        if len(row) != len(headers):
            raise ValueError(f"text_table: a row has {len(row)} cells, and there are {len(headers)} headers: {row}")
    widths = [max(len(row[i]) for row in [list(headers), *cells]) for i in range(len(headers))]
    filled = [[row[i] for row in cells if row[i] not in ("", "-")] for i in range(len(headers))]
    numeric = [bool(column) and all(_NUMBERS.fullmatch(cell) for cell in column) for column in filled]

    def line(row: Sequence[str]) -> str:
        return "  ".join(text.rjust(width) if right else text.ljust(width) for text, width, right in zip(row, widths, numeric)).rstrip()

    return "\n".join(line(row) for row in [list(headers), *cells])


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"text_table": text_table}
