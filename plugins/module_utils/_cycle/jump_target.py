# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a handoff jumps to, from the settings of the host."""

from __future__ import annotations

from dataclasses import replace
from typing import List, Optional

from .._kernel.jump_command_line import next_command_line
from .._kernel.kexec_load import Target
from .engine import Engine
from .node_settings import Settings
from .state_first import ARGUMENT, chooses_unit, is_written


def jump_target(engine: Engine, settings: Settings) -> Optional[Target]:
    """The kernel, initrd and command line that a handoff jumps to. None: it reboots through firmware.

    The running kernel's stand in for those that the settings omit.

    The handoff loads this target, and preflight and status check the same one. An initrd that the collection builds counts once
    it exists. It has the modules of the running kernel, so another kernel gets its own initrd.
    """
    if settings.method == "firmware":
        return None
    arguments = _arguments(engine, settings)
    target = engine.kexec.target(settings.kernel or None, settings.initrd or None, settings.command_line or None, arguments)
    own = engine.jump_initrd.ready() if uses_own_initrd(engine, settings, target) else ""
    return replace(target, check=settings.jump_check, initrd=own or target.initrd)


def uses_own_initrd(engine: Engine, settings: Settings, target: Optional[Target]) -> bool:
    """True when a handoff to this target uses the initrd that the collection builds, if it can be built."""
    return target is not None and settings.own_initrd and bool(target.kernel) and target.kernel == engine.kexec.stock()[0]


def _arguments(engine: Engine, settings: Settings) -> List[str]:
    """The arguments of the jump. A command line that chooses what to boot into keeps its choice."""
    line = settings.command_line or next_command_line(engine.sysfs.get("/proc/cmdline"))
    chosen = chooses_unit(" ".join([line, *settings.jump_arguments]))
    first = settings.state_first and is_written(engine.sysfs) and not chosen
    return [*settings.jump_arguments, ARGUMENT] if first else settings.jump_arguments
