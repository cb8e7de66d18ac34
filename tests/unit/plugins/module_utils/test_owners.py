# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose pages are in a block: the kernel's tables as bytes, and a /proc made of them."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory import page_owners as ow
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory.memory_blocks import MemoryBlocks

PAGE = os.sysconf("SC_PAGE_SIZE")
PRESENT = 1 << 63


def pack(*numbers):
    return struct.pack(f"={len(numbers)}Q", *numbers)


@pytest.mark.parametrize(
    "flags, found",
    [
        ((), {}),
        ((1 << 10, 1 << 20, 1 << 10), {}),
        # Read on 6.18: active anonymous pages, a compound head and its tails.
        ((0x5828, 0x5828), {"anonymous": 2}),
        ((1 << 7 | 1 << 15, 1 << 16, 1 << 16, 1 << 26), {"slab": 3, "page table": 1}),
        ((1 << 17 | 1 << 15, 1 << 16 | 1 << 17), {"hugetlb": 2}),
        ((1 << 5 | 1 << 12 | 1 << 18,), {"locked (mlock, unevictable)": 1}),
        ((1 << 5 | 1 << 14, 1 << 5 | 1 << 3), {"tmpfs or shared memory": 1, "page cache": 1}),
        ((1 << 32, 0), {"reserved": 1, "unmarked (used by the kernel, or free)": 1}),
    ],
)
def test_kinds(flags, found):
    assert ow.kinds(pack(*flags)) == found


def test_kinds_of_what_is_cut_short():
    assert ow.kinds(pack(1 << 7)[:5]) == {}


def test_mapped():
    # Bit 61 (of a file) and 55 (soft-dirty) do not belong to the frame; what is swapped out has no frame.
    entries = pack(0, PRESENT | 100, PRESENT | 1 << 61 | 1 << 55 | 107, PRESENT | 108, 1 << 62 | 104, 103)
    assert ow.mapped(entries, 100, 108) == 2
    assert ow.mapped(bytes(64), 0, 8) == 0


def test_allocators():
    # As in Documentation/mm/page_owner.rst, and as 6.1 prints it.
    text = (
        "Page allocated via order 0, mask 0x0(), pid 7, tgid 7 (kworker/0:1), ts 1 ns\nPFN 100 type Movable Block 0\n stack\n\n"
        "Page allocated via order 0, mask 0x0(), pid 8 (sshd), ts 1 ns\nPFN 101 type Movable Block 0\n stack\n\n"
        "Page allocated via order 0, mask 0x0(), pid 8, tgid 8 (sshd), ts 1 ns\nPFN 999 type Movable Block 1\n\nbroken\n"
    )
    assert ow.allocators(text, 100, 108) == {"7 (kworker/0:1)": 1, "8 (sshd)": 1}


def test_amounts():
    status = "Name:\tqemu\nVmLck:\t       0 kB\nVmPin:\t    4096 kB\nHugetlbPages:\t    2048 kB\n"
    assert ow.amounts(status) == ["4 MiB pinned", "2 MiB in huge pages"]
    assert ow.amounts("") == []


class Proc:
    """A /proc of which the test says what it holds. The block has frames 64 to 127."""

    def __init__(self, root):
        self.root = root
        (root / "proc").mkdir(parents=True, exist_ok=True)

    def flags(self, *held):
        (self.root / "proc/kpageflags").write_bytes(pack(*[1 << 10] * 64, *held, *[1 << 10] * (64 - len(held))))

    def process(self, pid, name, frames, status=""):
        base = self.root / f"proc/{pid}"
        base.mkdir()
        (base / "comm").write_text(name + "\n", encoding="utf-8")
        (base / "status").write_text(status, encoding="utf-8")
        (base / "statm").write_text(f"100 {len(frames) + 1} 0 0 0 0 0\n", encoding="utf-8")
        last = "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]"
        (base / "maps").write_text(f"{2 * PAGE:x}-{(2 + len(frames)) * PAGE:x} rw-p 0 00:00 0\n{last}\n", encoding="utf-8")
        (base / "pagemap").write_bytes(pack(0, 0, *[PRESENT | frame for frame in frames]))


@pytest.fixture
def proc(tmp_path):
    return Proc(tmp_path)


def owners_of(proc, clock=lambda: 0.0):
    return ow.Owners(Sysfs(str(proc.root)), clock).of(64 * PAGE, 64 * PAGE)


def test_processes_come_first(proc):
    proc.flags(0x5828, 0x5828, 0x5828)
    proc.process(10, "small", [70])
    proc.process(11, "qemu", [71, 72, 500], "VmPin:\t64 kB\n")
    proc.process(12, "elsewhere", [1, 2, 3], "VmLck:\t64 kB\n")
    proc.process(13, "uring", [4], "VmPin:\t8 kB\n")
    assert owners_of(proc) == [
        "process 11 (qemu) maps 2 pages of the block and has 64 KiB pinned",
        "process 10 (small) maps 1 page of the block, which alone does not pin it",
        "process 13 (uring) has 8 KiB pinned, perhaps in the block",
        "pages in the block: 3 anonymous",
    ]


def test_the_kernel_comes_before_processes(proc):
    proc.flags(1 << 7, 0x5828)
    proc.process(10, "small", [70])
    assert owners_of(proc) == [
        "pages in the block: 1 slab, 1 anonymous",
        "process 10 (small) maps 1 page of the block, which alone does not pin it",
    ]


def test_nothing_can_be_read(proc):
    assert owners_of(proc) == [ow.UNKNOWN]


def test_ends_in_time(proc):
    """Each look at the clock takes a second."""
    proc.flags(0x5828)
    for pid in range(10, 30):
        proc.process(pid, "busy", [70])
    ticks = iter(range(1000))
    found = owners_of(proc, lambda: float(next(ticks)))
    assert found[-1] == "pages in the block: 1 anonymous" and next(ticks) < 30


def test_what_goes_wrong_is_no_failure_of_its_own(proc, monkeypatch):
    proc.flags(0x5828)
    monkeypatch.setattr(ow, "kinds", lambda flags: 1 // 0)
    assert owners_of(proc) == [ow.UNKNOWN]
    proc.process(10, "small", [70])
    assert owners_of(proc) == ["process 10 (small) maps 1 page of the block, which alone does not pin it"]


def test_own_memory_is_found():
    """The real tables, where this is root."""
    if os.geteuid() != 0 or not os.path.exists("/proc/self/pagemap"):
        pytest.skip("needs root")
    with mmap.mmap(-1, 4 * PAGE) as memory:
        memory[:] = b"x" * len(memory)
        held = ctypes.c_char.from_buffer(memory)
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            (entry,) = ow.words(os.pread(file.fileno(), 8, ctypes.addressof(held) // PAGE * 8))
        frame = entry & ((1 << 55) - 1)
        if not frame:
            pytest.skip("page frames are hidden here")
        owners = ow.Owners(Sysfs())
        assert owners._mapped(str(os.getpid()), frame, frame + 1, owners.clock() + 60) == 1
        del held


def test_failure_names_them(kernel):
    fake = kernel("6.1-e820-system_ram")
    memory = MemoryBlocks(fake, fake.clock, fake.pause)
    memory.owners.of = lambda start, size: ["process 11 (qemu) maps 2 pages of the block", "pages in the block: 2 anonymous"]
    fake.busy = {9: [errno.EBUSY] * 9}
    with pytest.raises(HotpmemError, match=r"moved in 2 tries; process 11 \(qemu\) maps 2 pages of the block\)") as caught:
        memory.set_state(memory.present(range(8, 12)), "offline", 60, 1)
    (failed,) = caught.value.details["failed_blocks"]
    assert failed["owners"] == ["process 11 (qemu) maps 2 pages of the block", "pages in the block: 2 anonymous"]
