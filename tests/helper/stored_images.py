# SPDX-License-Identifier: GPL-3.0-or-later
"""Stored images: one of each version of the format, which every later pmem-state must read, and one of a version that does not exist yet.

`make stored-images` writes those that are missing, with the pmem-state of this checkout. Run it once when FORMAT_VERSION was raised. It
never writes an image again: a stored image is what hosts in the field have.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
SOURCE = Path(__file__).parents[2] / "roles/state_helper/files/src"
HOOKS = Path(__file__).parents[2] / "build/test/pmem-state-hooks"
MACHINE = "0123456789abcdef0123456789abcdef"
DEVICE_BYTES = 4 << 20
FUTURE = 99  # a format version that no program has
TIME = 1_700_000_000_123_456_789


def current_format() -> int:
    """The version that this checkout writes."""
    (found,) = re.findall(r"\bFORMAT_VERSION = (\d+)", (SOURCE / "image/header.h").read_text(encoding="utf-8"))
    return int(found)


def make_items(where: Path) -> None:
    """The two items of every stored image: a tree and a file. Don't change this: the stored images hold what it made."""
    tree = where / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "cache").mkdir(mode=0o750)
    (tree / "cache/words").write_bytes(b"".join(b"line %d\n" % number for number in range(4000)))
    os.link(tree / "cache/words", tree / "cache/words-again")
    (tree / "cache/n\u00e4me with spaces").write_bytes(b"x")
    (tree / "cache/empty").touch(mode=0o600)
    (tree / "cache/set-id").write_bytes(b"#!/bin/sh\n")
    os.chmod(tree / "cache/set-id", 0o4755)
    with open(tree / "sparse", "wb") as file:
        file.truncate(3 << 20)
        file.seek(1 << 20)
        file.write(b"in the middle")
    os.symlink("cache/words", tree / "link")
    os.mkfifo(tree / "fifo", 0o640)
    subprocess.run(["setfacl", "-m", "u:1234:r", tree / "cache/words"], check=True)
    (where / "file").write_bytes(bytes(range(256)) * 16)
    for folder, _folders, names in os.walk(where, topdown=False):
        for name in (*names, "."):
            os.utime(os.path.join(folder, name), ns=(TIME, TIME), follow_symlinks=False)


def store(binary: Path, name: str) -> None:
    """Save the items with a pmem-state, and keep the device as a compressed file."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        work = Path(place)
        (work / "items").mkdir()
        make_items(work / "items")
        device = work / "device"
        device.touch()
        os.truncate(device, DEVICE_BYTES)
        items = ["--item", f"tree={work}/items/tree", "--item", f"file={work}/items/file"]
        subprocess.run([binary, "save", "--device", device, *items], check=True, env={**os.environ, "PMEM_STATE_MACHINE_ID": MACHINE})
        IMAGES.mkdir(exist_ok=True)
        (IMAGES / name).write_bytes(lzma.compress(device.read_bytes(), preset=9 | lzma.PRESET_EXTREME))


def future_program(where: Path) -> Path:
    """The pmem-state of this checkout, except for the number of the version that it writes."""
    copy = where / "src"
    shutil.copytree(SOURCE, copy)
    header = copy / "image/header.h"
    header.write_text(re.sub(r"\bFORMAT_VERSION = \d+", f"FORMAT_VERSION = {FUTURE}", header.read_text(encoding="utf-8")), encoding="utf-8")
    sources = [str(path) for path in (*copy.glob("*.c"), *copy.glob("*/*.c"))]
    program = where / "pmem-state"
    subprocess.run(["gcc", "-std=c11", "-D_GNU_SOURCE", "-DTEST_HOOKS", "-pthread", f"-I{copy}", "-o", program, *sources], check=True)
    return program


def main() -> None:
    """Write what is missing."""
    if os.geteuid() != 0:
        sys.exit("stored_images: run as root: the items belong to root")
    present = f"format-{current_format()}.img.xz"
    if not (IMAGES / present).exists():
        store(HOOKS, present)
    if not (IMAGES / "future.img.xz").exists():
        with tempfile.TemporaryDirectory() as place:
            store(future_program(Path(place)), "future.img.xz")


if __name__ == "__main__":
    main()
