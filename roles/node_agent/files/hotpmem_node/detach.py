# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts a handoff as hotpmem-handoff.service, which goes on when the session that started it ends; and tells a held one to go on."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from typing import Callable, List, Optional

from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import Settings
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.host_lock import Busy, HostLock, Owner, no_longer_held
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.records import GO, HANDOFF, Records

from .answer import BUSY, FAILED, REFUSED, Answer, VerbError

LOG = "/run/hotpmem/jump.log"  # The controller reads this. It ends with "ended with N" if the old boot goes on.
UNIT = "hotpmem-handoff"
_PREFLIGHT = 120.0  # seconds until a handoff must hold the host
_START = 30.0  # seconds until a handoff that was started must have claimed the host


def detach_argv(settings: Settings, words: List[str], settings_file: str) -> List[str]:
    """The command that runs the handoff as a separate unit, so that it continues when the ssh session ends.

    After=hotpmem-save.service: if the machine shuts down in the meantime, systemd first stops this unit, and then that service saves.
    """
    patience = int(settings.stop_timeout + settings.offline_timeout + 30)
    return [
        "systemd-run",
        f"--unit={UNIT}",
        "--collect",
        "--quiet",
        "--description=Hand this machine over to its next boot",
        "--property=After=hotpmem-save.service hotpmem-restore.service",
        "--property=KillMode=mixed",
        f"--property=TimeoutStopSec={patience}",
        # The machine has just lost memory. If the kernel kills this unit anyway, ExecStopPost= undoes the handoff.
        "--property=OOMScoreAdjust=-900",
        # The log of the handoff before this one. Not earlier: that one may still be running.
        f"--property=ExecStartPre=-/bin/rm -f {LOG}",
        f"--property=ExecStopPost={shlex.quote(words[0])} put-back --settings {shlex.quote(settings_file)}",
        *words,
    ]


def kernel_words(args: argparse.Namespace) -> List[str]:
    """The options that name another kernel than the settings."""
    return (["--kernel", args.kernel] if args.kernel else []) + (["--initrd", args.initrd] if args.initrd else [])


def detach(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """Start the handoff as a unit. When this run already holds the host, tell its handoff to go on."""
    lock, records = HostLock(engine.sysfs), Records(engine.sysfs)
    owner = lock.holder()
    if owner and not (args.run and owner.run == args.run and not args.hold):
        raise VerbError.of(BUSY, Busy(owner))
    if owner:
        records.write(GO, args.run)
        return Answer(["the handoff goes on"], {"unit": f"{UNIT}.service", "log": LOG})
    if args.resume:
        raise VerbError.of(REFUSED, no_longer_held(args.run))
    words = [os.path.abspath(sys.argv[0]), "handoff", "--method", settings.method, "--settings", args.settings, "--log", LOG]
    words += kernel_words(args)
    words += ["--run", args.run] if args.run else []
    words += ["--owner", args.owner] if args.owner else []
    words += ["--hold", str(args.hold)] if args.hold else []
    records.remove(HANDOFF)
    done = engine.runner.run(detach_argv(settings, words, args.settings), timeout=60)
    if done.rc != 0:
        if "already" in done.stderr:
            # The unit of somebody who was a moment earlier. It starts Python before it claims the host.
            raise VerbError.of(BUSY, Busy(_wait_for(lock.holder, _START)))
        todo = f"Read systemctl status {UNIT}. Wait for this unit, or stop it, which undoes the handoff"
        raise VerbError(FAILED, "Cannot start the handoff", done.words, todo, rc=done.rc)
    if args.hold:
        _wait_for_hold(engine, records, args.run)
    return Answer([f"started; to follow it, run: journalctl -fu {UNIT}"], {"unit": f"{UNIT}.service", "log": LOG})


def _wait_for(read: Callable[[], Optional[Owner]], seconds: float) -> Optional[Owner]:
    """What read() returns once that is not None, or None after so many seconds."""
    until = time.monotonic() + seconds
    while (found := read()) is None and time.monotonic() < until:
        time.sleep(0.1)
    return found


def _wait_for_hold(engine: Engine, records: Records, run: str) -> None:
    """Return when the handoff of this run holds the host. Raises VerbError with its reason when it ends instead."""
    until = time.monotonic() + _PREFLIGHT
    while time.monotonic() < until:
        record = records.read_json(HANDOFF) or {}
        log = engine.sysfs.get(LOG).splitlines()
        if record.get("run") == run and record.get("stage") == "hold" and record.get("exit") is None:
            return
        if log and log[-1].startswith("ended with "):
            code = int(log[-1].split()[-1])
            raise VerbError(code, "Cannot start the handoff", log[-2] if len(log) > 1 else "it printed no message", "Nothing was changed")
        time.sleep(0.1)
    raise VerbError(
        FAILED, "Cannot start the handoff", f"its preflight took more than {_PREFLIGHT:g} s", f"Read the log: journalctl -u {UNIT}"
    )
