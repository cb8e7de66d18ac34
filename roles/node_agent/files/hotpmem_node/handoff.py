# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs that end a boot: handoff, and save-at-shutdown for hotpmem-save.service."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import signal
import sys
from typing import Any, Iterator, List

from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.handoff import Handoff, HandoffFailed, Interrupted
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import Settings
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.save_at_shutdown import ShutdownSave
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError, from_os_error
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.records import HANDOFF, Busy, Records
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.systemd import Services
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.kexec_jump import Jump

from .answer import BUSY, FAILED, PUT_BACK, REFUSED, STUCK, Answer, VerbError

LOG = "/run/hotpmem/jump.log"  # The controller reads this. It ends with "ended with N" if the old boot goes on.
UNIT = "hotpmem-handoff"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _parts(engine: Engine, settings: Settings) -> Handoff:
    services = Services(engine.runner, settings.stop_timeout)
    jump = Jump(settings.method, services, engine.sysfs, engine.runner, fast_stop=settings.fast_stop)
    return Handoff(engine, settings, services, jump)


class Log:
    """Writes lines to standard output and to a log that outlives an ssh session. A failed write never stops a handoff."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        if path:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with open(path, "w", encoding="utf-8"):
                pass

    def say(self, line: str, shown: bool = True) -> None:
        """Write a line."""
        if shown:
            with contextlib.suppress(OSError):
                print(line, flush=True)
        if self.path:
            with contextlib.suppress(OSError), open(self.path, "a", encoding="utf-8") as file:
                file.write(line + "\n")


@contextlib.contextmanager
def _signals(handoff: Handoff) -> Iterator[None]:
    """A signal before the jump undoes the handoff."""

    def stop(number: int, frame: Any) -> None:
        if handoff.jump.going and handoff.jump.method == "systemd":
            # The shutdown that the jump started ends this process.
            raise SystemExit(0)
        if handoff.jump.going:
            # The fast jump takes about a second. Either it happens, or kexec returns and the handoff puts everything back.
            return
        raise Interrupted(f"signal {signal.Signals(number).name}")

    def shield() -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    handoff.shield = shield
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
        f"--property=ExecStopPost={words[0]} put-back --settings {settings_file}",
        *words,
    ]


def _detach(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    words = [os.path.abspath(sys.argv[0]), "handoff", "--method", settings.method, "--settings", args.settings, "--log", LOG]
    with contextlib.suppress(FileNotFoundError):
        os.unlink(engine.sysfs.path(LOG))
    done = engine.runner.run(detach_argv(settings, words, args.settings), timeout=60)
    if done.rc != 0:
        code = BUSY if "already" in done.stderr else FAILED
        todo = f"Read systemctl status {UNIT}. Wait for this unit, or stop it, which undoes the handoff"
        raise VerbError(code, "Cannot start the handoff", done.words, todo, rc=done.rc)
    return Answer([f"started; to follow it, run: journalctl -fu {UNIT}"], {"unit": f"{UNIT}.service", "log": LOG})


def handoff(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """Stop the units, save and jump."""
    if args.method:
        settings = dataclasses.replace(settings, method=args.method)
    one = _parts(engine, settings)
    if args.check:
        try:
            steps = one.plan()
        except HotpmemError as error:
            raise VerbError.of(REFUSED, error) from error
        return Answer([f"would {step}" for step in steps], {"check": True, "steps": steps})
    if args.detach:
        return _detach(engine, settings, args)
    log = Log(args.log)
    one.say = lambda line: log.say(line, not args.json)
    records = Records(engine.sysfs)
    try:
        with records.lock(), _signals(one):
            one.run()
    except HandoffFailed as error:
        raise _ended(records, log, VerbError.of(STUCK if error.stuck else PUT_BACK, error)) from error
    except Busy as error:
        raise _ended(None, log, VerbError.of(BUSY, error)) from error
    except HotpmemError as error:
        # The preflight refused. Nothing was changed.
        raise _ended(records, log, VerbError.of(REFUSED, error)) from error
    except OSError as error:
        # Preflight as well. The controller reads the log until it says how this ended.
        refused = from_os_error("Cannot begin the handoff", error, "Nothing was changed. See dmesg for more")
        raise _ended(records, log, VerbError.of(REFUSED, refused)) from error
    except Interrupted as error:
        refused = HotpmemError("Handoff was interrupted", f"{error}; nothing was changed yet", "Run it again when you are ready")
        raise _ended(records, log, VerbError.of(REFUSED, refused)) from error
    return Answer(["the machine is shutting down"], {"stage": "jump"})


def _ended(records: Any, log: Log, error: VerbError) -> VerbError:
    """Write the outcome where the controller and `status` read it."""
    if records is not None:
        with contextlib.suppress(HotpmemError):
            records.write_json(HANDOFF, dict(records.read_json(HANDOFF) or {}, exit=error.code, msg=str(error)))
    if log.path:
        log.say(str(error), False)
        log.say(f"ended with {error.code}", False)
    return error


def put_back(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """ExecStopPost of hotpmem-handoff.service. It does nothing if the handoff ended by itself."""
    one = _parts(engine, settings)
    records = Records(engine.sysfs)
    with records.lock(wait=10):
        if not one.take_up():
            return Answer(["nothing to undo"], {"changed": False})
        killed = HotpmemError("The handoff was killed", "it ended without a message", "Look for the reason in journalctl -k")
        error = one.put_back(killed)
    code = STUCK if error.stuck else PUT_BACK
    _ended(records, Log(), VerbError.of(code, error))
    # Write the error to the log that the controller reads.
    with contextlib.suppress(OSError), open(engine.sysfs.path(LOG), "a", encoding="utf-8") as file:
        file.write(f"{error}\nended with {code}\n")
    if error.stuck:
        raise VerbError.of(STUCK, error)
    return Answer([str(error)], {"changed": True, "stage": one.stage})


def save_at_shutdown(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """ExecStop of hotpmem-save.service."""
    deadline = args.deadline or settings.shutdown_timeout
    services = Services(engine.runner, settings.stop_timeout)
    # If a handoff is being stopped, it holds the lock until it has undone everything.
    with Records(engine.sysfs).lock(wait=deadline / 4):
        answer = ShutdownSave(engine, settings, services).run(deadline * 3 / 4)
    return Answer([answer["said"]], answer)
