# SPDX-License-Identifier: GPL-3.0-or-later
"""This pmem-state reads the images of every earlier version of the format, and refuses those of later ones (stored_images.py)."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from conftest import ASAN, MACHINE, Helper
from stored_images import FUTURE, IMAGES, current_format, make_items
from stored_images import MACHINE as SAVED_ON
from tree import ROOT, assert_same

FORMATS = [IMAGES / f"format-{number}.img.xz" for number in range(1, current_format() + 1)]


def unpacked(stored: Path, work: Path) -> Helper:
    """A device with a stored image."""
    device = work / "device"
    device.write_bytes(lzma.decompress(stored.read_bytes()))
    return Helper(ASAN, device)


@pytest.mark.parametrize("stored", FORMATS, ids=lambda path: path.name)
def test_an_image_of_each_format_is_read(stored, work):
    assert SAVED_ON == MACHINE
    helper = unpacked(stored, work)
    info = helper("info")["image"]
    assert (info["state"], info["items"]) == ("valid", ["tree", "file"])
    assert {item["name"]: item["status"] for item in helper("verify")["items"]} == {"tree": "ok", "file": "ok"}
    if not ROOT:
        pytest.skip("verified, but not restored: the items belong to root")
    (work / "made").mkdir()
    (work / "restored").mkdir()
    make_items(work / "made")
    helper.restore(f"tree={work}/restored/tree", f"file={work}/restored/file")
    assert_same(work / "made/tree", work / "restored/tree")
    assert_same(work / "made/file", work / "restored/file")
    assert helper("info")["image"]["state"] == "consumed"


def test_each_format_has_a_stored_image_and_a_number_below_the_future():
    assert FORMATS and all(path.exists() for path in FORMATS), "run `make stored-images`"
    assert current_format() < FUTURE


@pytest.mark.parametrize("verb", ["info", "verify", "restore", "mark", "compare"])
def test_an_image_of_a_later_format_is_refused(verb, work):
    helper = unpacked(IMAGES / "future.img.xz", work)
    before = helper.device.read_bytes()
    words = {"restore": ["--item", f"tree={work}/tree"], "mark": ["jump"], "compare": ["--item", f"tree={work}/tree"]}
    result = helper(verb, *words.get(verb, []), expect=4)
    assert "does not support its format version" in result["error"]["said"]
    assert "newer" in result["error"]["todo"]
    assert not (work / "tree").exists() and helper.device.read_bytes() == before


def test_a_save_replaces_an_image_of_a_later_format(work):
    helper = unpacked(IMAGES / "future.img.xz", work)
    (work / "made").mkdir()
    make_items(work / "made")
    helper.save(f"tree={work}/made/tree")
    image = helper("info")["image"]
    assert (image["state"], image["version"], image["items"]) == ("valid", current_format(), ["tree"])
