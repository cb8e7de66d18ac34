# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a handoff jumps to, from the settings of the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from .._kernel.kexec_load import Target
from .engine import Engine
from .node_settings import Settings


def jump_target(engine: Engine, settings: Settings) -> Optional[Target]:
    """The kernel, initrd and command line that a handoff jumps to. None: it reboots through firmware.

    The running kernel's stand in for those that the settings omit.

    The handoff loads this target, and preflight and status check the same one. An initrd that the collection builds counts once
    it exists. It has the modules of the running kernel, so another kernel gets its own initrd.
    """
    if settings.method == "firmware":
        return None
    target = engine.kexec.target(settings.kernel or None, settings.initrd or None, settings.command_line or None, settings.jump_arguments)
    own = engine.jump_initrd.ready() if uses_own_initrd(engine, settings, target) else ""
    return replace(target, check=settings.jump_check, initrd=own or target.initrd)


def uses_own_initrd(engine: Engine, settings: Settings, target: Optional[Target]) -> bool:
    """True when a handoff to this target uses the initrd that the collection builds, if it can be built."""
    return target is not None and settings.own_initrd and bool(target.kernel) and target.kernel == engine.kexec.stock()[0]
