# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs programs of another architecture on this computer while an image is built: QEMU's user mode, registered with binfmt_misc.

Source: Documentation/admin-guide/binfmt-misc.rst. With the flag F the kernel opens the interpreter when it is registered, so that it is
found in every root directory. It must be a static program, which Debian's qemu-user is from Debian 13 on.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from . import cache, emulator, progress, step
from .architectures import Architecture
from .errors import LabError

FOLDER = Path("/proc/sys/fs/binfmt_misc")
PACKAGE = "qemu-user"


@contextlib.contextmanager
def runnable(architecture: Architecture, new: Path, folder: Path = FOLDER) -> Iterator[None]:
    """Programs of this architecture run inside the block. Who has registered an interpreter already is left alone.

    The interpreter is unpacked into `new`, and is forgotten by the kernel when the block ends.
    """
    if architecture.binfmt is None or (folder / architecture.binfmt[0]).exists():
        yield
        return
    with cache.lock("binfmt"):
        tree = new / "interpreter"
        progress.say(f"image: fetching {emulator.SUITE}'s {PACKAGE}, which runs {architecture.debian} programs here")
        emulator.unpack((PACKAGE,), tree, new / "interpreter.log")
        try:
            _as_root(f"test -e {folder}/register || mount -t binfmt_misc none {folder}")
            line = registration(architecture.binfmt, tree)
            # The kernel reads the escapes itself.
            _as_root(f"printf %s '{line}' >{folder}/register")
            try:
                yield
            finally:
                _as_root(f"echo -1 >{folder}/{architecture.binfmt[0]}")
        finally:
            shutil.rmtree(tree)


def registration(binfmt: tuple[str, str, str], tree: Path) -> str:
    """What is written to the file `register`."""
    name, magic, mask = binfmt
    return f":{name}:M::{magic}:{mask}:{tree}/usr/bin/{name}:F"


def _as_root(script: str) -> None:
    done = subprocess.run([*step.as_root(), "sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(
            "Programs of another architecture can't be run here",
            f"{script}: {done.stderr.strip()}",
            "Install qemu-user-static (Debian 12, Ubuntu) or qemu-user-binfmt, which register an interpreter, then try again.",
        )
