# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role's GRUB drop-in did to the machine."""

from __future__ import annotations

from typing import Any


def test_the_command_line_is_merged(host: Any) -> None:
    words = host.file("/proc/cmdline").content_string.split()
    # The planner's choice: 512 MiB to gain, and 2 MiB before a block boundary for the info block.
    reserved = [word.removeprefix("memmap=") for word in words if word.startswith("memmap=")]
    assert len(reserved) == 1
    size, start = (int(part.removesuffix("M")) for part in reserved[0].split("!"))
    assert size == 514
    assert (start + 2) % 128 == 0
    assert words.count("nokaslr") >= 1
    # What was there before is still there.
    assert any(word.startswith("console=ttyS0") for word in words)


def test_the_memory_is_system_ram(host: Any) -> None:
    total = int(host.file("/proc/meminfo").content_string.split("MemTotal:")[1].split()[0])
    assert total > 1536 * 1024  # of 2 GiB: without the 512 MiB it would be less than 1460
    assert "System RAM (kmem)" in host.file("/proc/iomem").content_string
