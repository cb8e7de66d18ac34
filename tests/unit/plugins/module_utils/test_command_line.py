# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and merging kernel command lines."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel import command_line as lines

M, G = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    "text, memmaps, limit, exact",
    [
        ("quiet", [], None, False),
        ("memmap=514M!1022M", [(1022 * M, 514 * M, "!")], None, False),
        ("memmap=64K$0x18690000 memmap=1M#2G,1M@3G", [(0x18690000, 65536, "$"), (2 * G, M, "#"), (3 * G, M, "@")], None, False),
        (r"memmap=64K\$1G", [(G, 65536, "$")], None, False),
        ("memmap=exactmap", [], None, True),
        ("memmap=2G", [], 2 * G, False),
        ("mem=4G", [], 4 * G, False),
        ("mem=nopentium", [], None, False),
        ("memmap=1M%1G-1+2", [(G, M, "%")], None, False),
        # The kernel reads the number and its unit, and ignores what follows (memparse in lib/cmdline.c).
        ("mem=8G@0", [], 8 * G, False),
        ("mem=0x100000000", [], 4 * G, False),
        ("mem=1T@4G", [], 1 << 40, False),
        # Each of them removes the RAM above it, so the lowest counts.
        ("mem=4G mem=8G", [], 4 * G, False),
        ("mem=8G memmap=2G", [], 2 * G, False),
        # Everything after -- belongs to init.
        ("quiet -- memmap=514M!1022M mem=1G memmap=exactmap", [], None, False),
    ],
)
def test_memory_words(text, memmaps, limit, exact):
    said = lines.memory_words(text)
    assert ([(one.start, one.size, one.kind) for one in said.memmaps], said.limit, said.exact) == (memmaps, limit, exact)


def test_only_what_kaslr_avoids_counts():
    assert lines.memory_words("memmap=1M!1G,1M$2G memmap=1M#3G memmap=1M@4G memmap=1M%5G").kaslr_entries == 3


@pytest.mark.parametrize("word", ["memmap=oops", "memmap=1M!", "memmap=!1G", "mem=lots", "mem=@4G"])
def test_unknown_forms_are_refused(word):
    with pytest.raises(HotpmemError, match="has an unknown form"):
        lines.memory_words(word)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("quiet", []),
        ("crashkernel=256M", [(256 * M, None, "low")]),
        ("crashkernel=64M@16M", [(64 * M, 16 * M, "low")]),
        ("crashkernel=1G,high", [(G, None, "high"), (256 * M, None, "low")]),
        ("crashkernel=1G,high crashkernel=72M,low", [(G, None, "high"), (72 * M, None, "low")]),
        ("crashkernel=1G,high crashkernel=0,low", [(G, None, "high")]),
        ("crashkernel=auto", [(512 * M, None, "low")]),
        ("crashkernel=1G-4G:192M,4G-64G:256M,64G-:512M", [(256 * M, None, "low")]),
        ("crashkernel=1G-4G:192M,4G-64G:256M@2G", [(256 * M, 2 * G, "low")]),
        ("crashkernel=16G-:512M", []),
        ("crashkernel=512M,cma", [(512 * M, None, "any")]),
        ("crashkernel=unheard-of", [(512 * M, None, "low")]),
    ],
)
def test_crash_requests(text, expected):
    assert [(one.size, one.start, one.place) for one in lines.crash_requests(text, 8 * G)] == expected


@pytest.mark.parametrize(
    "start, size, word",
    [(1022 * M, 514 * M, "memmap=514M!1022M"), (4 * G, 2 * G, "memmap=2G!4G"), (4096, 5000, "memmap=0x1388!4K")],
)
def test_memmap_word(start, size, word):
    assert lines.memmap_word(start, size) == word


OURS = ["memmap=514M!1022M", "nokaslr"]


@pytest.mark.parametrize(
    "line, ours, wanted, expected, owned",
    [
        ("ro quiet", [], OURS, "ro quiet memmap=514M!1022M nokaslr", OURS),
        ("ro memmap=514M!1022M quiet nokaslr", OURS, OURS, "ro memmap=514M!1022M quiet nokaslr", OURS),
        ("ro memmap=514M!1022M nokaslr", OURS, ["memmap=2G!4G", "nokaslr"], "ro nokaslr memmap=2G!4G", ["memmap=2G!4G", "nokaslr"]),
        ("ro memmap=514M!1022M nokaslr", OURS, [], "ro", []),
        # What an operator wrote is not ours, stays, and is not doubled.
        ("nokaslr memmap=64K$1G", [], OURS, "nokaslr memmap=64K$1G memmap=514M!1022M", ["memmap=514M!1022M"]),
        ("memmap=1G!8G memmap=514M!1022M", ["memmap=514M!1022M"], [], "memmap=1G!8G", []),
        ("memmap=1G!8G", ["memmap=514M!1022M"], [], "memmap=1G!8G", []),
        # A word that merely begins like ours.
        ("memmap=514M!1022M,1M$4G", ["memmap=514M!1022M"], [], "memmap=514M!1022M,1M$4G", []),
        ('dyndbg="file x +p" ro', [], ["nokaslr"], 'dyndbg="file x +p" ro nokaslr', ["nokaslr"]),
        # The arguments after -- belong to init: the kernel does not see a word there, and theirs is not ours.
        ("ro -- single", [], OURS, "ro memmap=514M!1022M nokaslr -- single", OURS),
        ("ro memmap=514M!1022M nokaslr -- single nokaslr", OURS, [], "ro -- single nokaslr", []),
        ("ro -- nokaslr", [], ["nokaslr"], "ro nokaslr -- nokaslr", ["nokaslr"]),
        ("-- single", [], ["nokaslr"], "nokaslr -- single", ["nokaslr"]),
        # A longer run of dashes is an argument like any other (the Debian installer writes it).
        ("ro --- quiet", [], ["nokaslr"], "ro --- quiet nokaslr", ["nokaslr"]),
    ],
)
def test_merge(line, ours, wanted, expected, owned):
    assert lines.merge(line, ours, wanted) == (expected, owned)


def test_merge_is_idempotent_and_can_be_undone():
    words = ["ro", "nokaslr", "memmap=64K$1G", "memmap=514M!1022M", "console=ttyS0"]
    for count in range(len(words) + 1):
        for start in itertools.permutations(words, count):
            line = " ".join(start)
            once, owned = lines.merge(line, [], OURS)
            assert lines.merge(once, owned, OURS) == (once, owned)
            assert lines.merge(once, owned, []) == (line, [])


@pytest.mark.parametrize(
    "line, kernel, init",
    [
        ("ro quiet", ["ro", "quiet"], []),
        ("ro -- single -- x", ["ro"], ["--", "single", "--", "x"]),
        ("--", [], ["--"]),
        ('x="a -- b" --- y', ['x="a -- b"', "---", "y"], []),
        ("", [], []),
    ],
)
def test_what_the_kernel_reads(line, kernel, init):
    assert lines.split_init(line) == (kernel, init)
    assert lines.kernel_words(line) == kernel


def test_what_belongs_to_init_is_not_the_kernels():
    assert lines.lost_reservations("memmap=1G!4G", "ro -- memmap=1G!4G") == ["memmap=1G!4G"]
    assert lines.lost_reservations("ro -- memmap=1G!4G", "ro") == []


def test_mem_is_a_reservation_too():
    """All that keeps a kernel off the persistent memory of some device trees."""
    assert lines.lost_reservations("ro mem=1534M", "ro") == lines.lost_reservations("ro mem=1534M", "ro mem=2G") == ["mem=1534M"]
    assert lines.lost_reservations("ro mem=1534M mem_sleep_default=deep", "mem=1534M") == []
    assert lines.crash_requests("ro -- crashkernel=1G", 8 * G) == []


@pytest.mark.parametrize(
    "architecture, boot, kexec", [("x86_64", 2047, 2016), ("aarch64", 2047, 2047), ("s390x", None, None), ("unheard-of", None, None)]
)
def test_limits(architecture, boot, kexec):
    assert (lines.boot_limit(architecture), lines.kexec_limit(architecture)) == (boot, kexec)


def test_too_long():
    assert lines.too_long("x" * 2047, 2047) == ""
    assert lines.too_long("x" * 2048, 2047) == "it has 2048 bytes, and the kernel takes at most 2047"
    assert "has 2048 bytes" in lines.too_long("\u00e9" * 1024, 2047)
    assert lines.too_long("x" * 9999, None) == ""


def test_a_file_of_a_command_line():
    text = "# ours\r\nro quiet\r\n  # more\r\nnokaslr\r\n"
    assert lines.without_comments(text) == ("# ours\r\n  # more\r\n", "ro quiet\r\nnokaslr\r\n")
    assert lines.without_comments("ro a#b\n") == ("", "ro a#b\n")
