# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes."""

from __future__ import annotations

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host import size
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError


@pytest.mark.parametrize(
    "text, expected",
    [
        (0, 0),
        (4096, 4096),
        ("4096", 4096),
        ("512M", 512 << 20),
        ("512 MiB", 512 << 20),
        ("512m", 512 << 20),
        ("2G", 2 << 30),
        ("2GB", 2 << 30),
        ("1T", 1 << 40),
        ("64K", 65536),
        ("0x20000000", 0x20000000),
        (" 1G ", 1 << 30),
    ],
)
def test_parse(text, expected):
    assert size.parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "M", "-1", -1, "1.5G", "512X", "0xzz", "1 2", None, True])
def test_parse_refuses(text):
    with pytest.raises(HotpmemError) as caught:
        size.parse_size(text)
    assert "512M" in str(caught.value) or "zero or more" in str(caught.value)


@pytest.mark.parametrize(
    "number, expected",
    [(0, "0 B"), (1023, "1023 B"), (384 << 20, "384 MiB"), (514 << 20, "514 MiB"), (2 << 30, "2 GiB"), (1920 << 20, "1.9 GiB")],
)
def test_format(number, expected):
    assert size.format_size(number) == expected


def test_format_range_includes_both_ends():
    assert size.format_range(0x128000000, 0x8000000) == "0x128000000-0x12fffffff"


@pytest.mark.parametrize("number, step, up, down", [(0, 8, 0, 0), (1, 8, 8, 0), (8, 8, 8, 8), (9, 8, 16, 8)])
def test_align(number, step, up, down):
    assert (size.align_up(number, step), size.align_down(number, step)) == (up, down)
