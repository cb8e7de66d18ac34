# SPDX-License-Identifier: GPL-3.0-or-later
"""Persistent memory that a device tree describes: the end of the RAM, which the parameter mem= keeps from the kernel.

QEMU puts all RAM into the memory nodes of any tree (hw/arm/boot.c, arm_load_dtb), so only mem= can take some away. The node is that of
Documentation/devicetree/bindings/pmem/pmem-region.txt in Linux.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from .emulator import Emulator
from .errors import LabError

RAM_START = 1 << 30
"""Of QEMU's machine virt (hw/arm/virt.c, VIRT_MEM)."""


def properties(ram_bytes: int, pmem_bytes: int) -> dict[str, list[str]]:
    """The node of persistent memory in the last bytes of the RAM; options and values as fdtput takes them."""
    start = RAM_START + ram_bytes - pmem_bytes
    cells = [f"{half:x}" for number in (start, pmem_bytes) for half in divmod(number, 1 << 32)]
    return {
        "-t s compatible": ["pmem-region"],
        "-t x reg": cells,
        # Without a NUMA node, kmem refuses the memory.
        "-t x numa-node-id": ["0"],
        "-t x volatile": [],
    }


def write(path: Path, qemu: Emulator, options: list[str], node: dict[str, list[str]]) -> None:
    """Write the tree that QEMU makes for a machine of these options, with the node of persistent memory."""
    # Without seeds for the kernel: one that boots with nokaslr leaves its own in the tree, and kexec-tools then refuses to load another
    # (setup_2nd_dtb: kaslr-seed is not wiped to 0).
    _run([*qemu.argv, *options, "-machine", f"dumpdtb={path},dtb-randomness=off"], path.parent, qemu)
    fdtput = qemu.tool("fdtput")
    _run([*fdtput, "-c", str(path), "/pmem"], path.parent, qemu)
    for name, values in node.items():
        *kind, key = name.split()
        _run([*fdtput, *kind, str(path), "/pmem", key, *values], path.parent, qemu)


def _run(argv: list[str], folder: Path, qemu: Emulator) -> None:
    done = subprocess.run(argv, cwd=folder, env=qemu.environment(), capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise LabError(f"A machine's device tree could not be made: {argv[0]} ended with status {done.returncode}", done.stderr.strip())
