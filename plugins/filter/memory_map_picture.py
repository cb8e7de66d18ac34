# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""A memory map in a line of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: memory_map_picture
short_description: Draw a memory map as a line of text
version_added: 0.1.0
description:
  - Each piece is as wide as it is large, at least as wide as its name. Pieces of the same kind that follow each other are one; holes
    between them are not drawn.
  - The legend is V(# kernel's RAM, + pmem that is RAM now, = pmem). The info block before pmem that is RAM now belongs to it.
positional: _input, width
options:
  _input:
    description: Pieces with C(start), C(size) and C(kind) (V(ram), V(kmem) or V(pmem)), as C(memory_map) of M(hotpmem.fleet.pmem_info).
    type: list
    elements: dict
    required: true
  width:
    description: Columns of the picture, about.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Draw the memory
  ansible.builtin.debug:
    msg: "{{ info.hotpmem.memory_map | hotpmem.fleet.memory_map_picture }}"
"""

RETURN = r"""
_value:
  description: The picture, such as V([RAM############|pmem====|RAM######]). Empty for an empty map.
  type: str
"""

_NAMES = {"ram": ("RAM", "#"), "kmem": ("pmem+RAM", "+"), "pmem": ("pmem", "=")}
_SMALL = 16 << 20  # an info block is 2 to 16 MiB, and would take a name's width


def memory_map_picture(pieces: Sequence[Mapping[str, Any]], width: int = 60) -> str:
    """Return the picture. sizes in bytes; raises ValueError for a kind that is not known."""
    joined: list[list[Any]] = []
    for piece in sorted(pieces, key=lambda one: one["start"]):
        kind, size = piece["kind"], int(piece["size"])
        if kind not in _NAMES:
            raise ValueError(f"memory_map_picture: unknown kind {kind!r}, it must be one of {', '.join(_NAMES)}")
        before = joined[-1] if joined else None
        if before and before[0] == "pmem" and kind == "kmem" and before[1] <= _SMALL:
            before[0] = "kmem"
        if before and before[0] == kind:
            before[1] += size
        else:
            joined.append([kind, size])
    total = sum(size for _kind, size in joined)
    if not total:
        return ""
    room = max(width - len(joined) - 1, 0)
    drawn = [_NAMES[kind][0].ljust(round(room * size / total), _NAMES[kind][1]) for kind, size in joined]
    return f"[{'|'.join(drawn)}]"


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"memory_map_picture": memory_map_picture}
