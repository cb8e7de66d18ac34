# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a setting ``kernel`` may say: nothing (the running kernel), a path, a release, or ``newest``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .._host.errors import HotpmemError
from .._host.programs import Runner
from .kernel_files import RELEASE, KernelFiles
from .newest_kernel import NEWEST, NewestKernel


@dataclass(frozen=True)
class Choice:
    """The files that a setting stands for now.

    Without an ``initrd``, the one that belongs to the kernel counts. ``words`` says what was chosen, for
    messages; it is empty when the setting named the file. ``refusal`` is the reason when nothing could be
    chosen.
    """

    path: str
    initrd: Optional[str] = None
    words: str = ""
    refusal: str = ""


def check_input(kernel: Optional[str], initrd: Optional[str]) -> None:
    """Raise HotpmemError for a setting that can't be meant, whatever the host has installed. None: not set."""
    what = "Cannot choose the kernel to load"
    if kernel == NEWEST and initrd is not None:
        said = f"kernel is {NEWEST}, which brings its own initrd, and initrd is set too ({initrd or 'to none'})"
        raise HotpmemError(what, said, "Remove hotpmem_initrd (initrd), or set hotpmem_kernel (kernel) to the path of a kernel")
    if kernel and kernel != NEWEST and not kernel.startswith("/") and not RELEASE.match(kernel):
        said = f"kernel is {kernel!r}, which is not an absolute path, a release as uname -r prints it, or {NEWEST}"
        raise HotpmemError(what, said, "Correct hotpmem_kernel (kernel)")


def choose(files: KernelFiles, runner: Runner, kernel: Optional[str]) -> Choice:
    """What the setting stands for now."""
    if kernel is None:
        return Choice(files.running()[0])
    if kernel == NEWEST:
        found, said = NewestKernel(files.sysfs, runner).choose()
        if said:
            return Choice("", "", "", f"the newest kernel can't be used: {said}")
        return Choice(found.path, found.initrd, f"the newest installed kernel, {found.version}")
    if kernel.startswith("/") or not kernel:
        return Choice(kernel)
    path, said = files.of_release(kernel)
    return Choice(path, None, f"the kernel {kernel}") if path else Choice("", "", "", f"the kernel {kernel} was not found ({said})")
