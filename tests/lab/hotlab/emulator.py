# SPDX-License-Identifier: GPL-3.0-or-later
"""Which QEMU runs a machine: the installed one, or Debian's newer one in a tree of the cache.

Kernels say in hotlab/kernels.py from which QEMU on emulation runs them. Counting the instructions of two CPUs needs a newer one, too.
The tree is unpacked packages, neither installed nor entered: its own dynamic loader starts its QEMU, with its libraries, modules and
firmware. Nothing else on this machine sees it.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import cache, kernels, mirror, progress, step
from .architectures import Architecture

SUITE = "trixie"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
COUNTS_TWO_CPUS = 10
"""The QEMU that was tried. With 7.2, a machine whose two CPUs are counted does not start."""


@dataclass(frozen=True)
class Emulator:
    """How QEMU is started: argv without its options, and what its environment needs. version: the first line of --version."""

    argv: tuple[str, ...]
    environ: tuple[tuple[str, str], ...]
    version: str

    @property
    def major(self) -> int:
        """10 for `QEMU emulator version 10.0.2 (Debian …)`; 0 when it says something else."""
        match = re.search(r"version (\d+)\.", self.version)
        return int(match[1]) if match else 0

    def tool(self, name: str) -> list[str]:
        """argv of another program of the tree that this QEMU comes from."""
        *loader, program = self.argv[:4]
        return [*loader, str(Path(program).with_name(name))]

    def environment(self) -> dict[str, str]:
        """What to give to the process."""
        return {**os.environ, **dict(self.environ)}


def choose(architecture: Architecture, kernel: str, accel: str, cpus: int) -> Emulator:
    """Return the QEMU for this machine. Only emulation may need a newer one, which is built when it does not exist yet."""
    if architecture.installed:
        installed = _ask((architecture.program,))
        counting = COUNTS_TWO_CPUS if accel == "icount" and cpus > 1 else 0
        if accel == "kvm" or installed.major >= max(counting, kernels.find(kernel, architecture.debian).qemu):
            return installed
    key = f"{SUITE}-{cache.digest(_command(architecture.emulator, Path('tree')))}"
    return _from(architecture, cache.entry("emulators", key, lambda new: _build(architecture, new)) / "tree")


def _command(packages: tuple[str, ...], tree: Path) -> list[str]:
    """The mmdebstrap command without its mirror lines: the packages' files as they are, no package's script is run."""
    # Newer mmdebstraps refuse chrootless to root, who could be harmed by packages' scripts.
    how = ["--mode=chrootless", "--skip=check/chrootless", "--variant=extract"]
    return ["mmdebstrap", *how, "--include=" + ",".join(packages), SUITE, str(tree)]


def unpack(packages: tuple[str, ...], tree: Path, log: Path) -> None:
    """Fetch packages with what they need, and unpack them into `tree`."""
    step.run("emulator", [*_command(packages, tree), *mirror.lines([SUITE])], log)


def _build(architecture: Architecture, new: Path) -> None:
    why = "the installed one can't run this machine" if architecture.installed else f"it comes with the firmware for {architecture.debian}"
    progress.say(f"emulator: fetching {SUITE}'s QEMU, because {why} (10 seconds to 3 minutes)")
    unpack(architecture.emulator, new / "tree", new / "mmdebstrap.log")


def _from(architecture: Architecture, tree: Path) -> Emulator:
    libraries = tree / LIBRARIES
    argv = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries), str(tree / "usr/bin" / architecture.program)]
    for folder in architecture.firmware:
        argv += ["-L", str(tree / folder)]
    return _ask(tuple(argv), (("QEMU_MODULE_DIR", str(libraries / "qemu")),))


def _ask(argv: tuple[str, ...], environ: tuple[tuple[str, str], ...] = ()) -> Emulator:
    """The emulator with its version, which takes starting it once."""
    silent = Emulator(argv, environ, "")
    done = subprocess.run([*argv, "--version"], stdout=subprocess.PIPE, text=True, check=True, env=silent.environment())
    return Emulator(argv, environ, done.stdout.splitlines()[0])
