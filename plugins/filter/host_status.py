# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the playbook status shows of a host, from what its modules returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.hotpmem.fleet.plugins.module_utils._host.size import format_size

DOCUMENTATION = r"""
name: host_status
short_description: Summarize the state of a host
version_added: 0.1.0
description: Combines the results of M(hotpmem.fleet.pmem_info) and M(hotpmem.fleet.pmem_preflight) into the state of a host.
positional: _input, ready
options:
  _input:
    description: C(hotpmem) of M(hotpmem.fleet.pmem_info), or an empty dict when the host did not answer.
    type: dict
    required: true
  ready:
    description: Result of M(hotpmem.fleet.pmem_preflight).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say where the host stands
  ansible.builtin.debug:
    msg: "{{ info.hotpmem | hotpmem.fleet.host_status(preflight) }}"
"""

RETURN = r"""
_value:
  description:
    - C(answered) tells whether the host answered.
    - C(mode) is V(system-ram), V(raw), V(devdax), V(no namespace) and so on.
    - C(total_bytes) and C(reserved_bytes) are the RAM of the host and the reserved part of it.
    - C(online_bytes) is the reserved part that is RAM now, and C(usable_bytes) the part that can be RAM.
    - C(lost_bytes) is the part that the info block and alignment take.
    - C(ready) tells whether the host can reboot, and C(reasons) why it can't.
    - C(blocks) is a list of sentences about the memory blocks, and C(words) holds the sizes as text.
    - C(image), C(helper_sha256), C(warnings) and C(memory_map) are those of M(hotpmem.fleet.pmem_info).
  type: dict
"""


def _runs(blocks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Blocks that follow each other and are in the same state, in a sentence each."""
    runs: list[list[Any]] = []
    for block in sorted(blocks, key=lambda one: one["block"]):
        first, last = block["range"].split("-")
        how = f"{block['state']}, {block['zone']}" if block.get("zone") else block["state"]
        if runs and runs[-1][1] + 1 == block["block"] and runs[-1][4] == how:
            runs[-1][1], runs[-1][3] = block["block"], last
        else:
            runs.append([block["block"], block["block"], first, last, how])
    return [f"block{f's {a}-{b}' if b > a else f' {a}'} ({first}-{last}): {how}" for a, b, first, last, how in runs]


def host_status(seen: Mapping[str, Any] | None, ready: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the status. All sizes in bytes."""
    seen, ready = seen or {}, ready or {}
    selected = seen.get("selected") or {}
    ok = bool(ready.get("ok"))
    reasons = list(ready.get("reasons") or [])
    if not ok and not reasons and ready.get("msg"):
        reasons = [str(ready["msg"])]
    device: Mapping[str, Any] = next((one for one in seen.get("dax_devices") or [] if one["device"] == selected.get("chardev")), {})
    sizes = {
        "total": (seen.get("memory") or {}).get("total_bytes", 0),
        "reserved": selected.get("size") or 0,
        "online": selected.get("online_bytes") or 0,
        "usable": selected.get("gained_bytes") or 0,
        "lost": selected.get("lost_bytes") or 0,
    }
    return {
        **{f"{name}_bytes": size for name, size in sizes.items()},
        "words": {name: format_size(size) if size else "-" for name, size in sizes.items()},
        "answered": bool(seen),
        "mode": "system-ram" if selected.get("driver") == "kmem" else selected.get("mode") or "no namespace",
        "blocks": _runs(device.get("blocks") or []),
        "image": (seen.get("image") or {}).get("state") or "none",
        "ready": ok,
        "reasons": [] if ok else reasons,
        "warnings": list(seen.get("warnings") or []),
        "helper_sha256": seen.get("helper_sha256"),
        "memory_map": list(seen.get("memory_map") or []),
    }


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"host_status": host_status}
