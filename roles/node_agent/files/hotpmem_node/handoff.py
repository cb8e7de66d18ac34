# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs that end a boot: handoff, and save-at-shutdown for hotpmem-save.service."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import signal
import time
from typing import Any, ContextManager, Iterator

from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.handoff import Handoff, HandoffFailed, Interrupted
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import Settings
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.save_at_shutdown import ShutdownSave
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError, from_os_error
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.host_lock import Busy, HostLock
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.records import HANDOFF, Records
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.systemd import Services
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.kernel_choice import check_input
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.kexec_jump import Jump

from .answer import BUSY, FAILED, PUT_BACK, REFUSED, SHUTDOWN, STUCK, USAGE, Answer, VerbError
from .detach import LOG, detach, kernel_words

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _parts(engine: Engine, settings: Settings, run: str = "") -> Handoff:
    services = Services(engine.runner, settings.stop_timeout)
    jump = Jump(settings.method, services, engine.sysfs, engine.runner, fast_stop=settings.fast_stop)

    def alone() -> ContextManager[None]:
        # A step of the same run may be at work: it ends when its own deadline is over.
        return HostLock(engine.sysfs).acting("the handoff", run=run, wait=settings.offline_timeout + settings.copy_timeout)

    return Handoff(engine, settings, services, jump, run_id=run, alone=alone)


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
        if handoff.jump.going and handoff.jump.by_systemd:
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


def _with_kernel(settings: Settings, args: argparse.Namespace) -> Settings:
    """The settings with the kernel of the command line, whose initrd replaces that of the settings too. Raises VerbError."""
    what, todo = "Cannot read the command line", "See hotpmem-node handoff --help"
    if args.initrd and not args.kernel:
        raise VerbError(USAGE, what, "--initrd needs --kernel", todo)
    if not args.kernel:
        return settings
    if args.resume:
        raise VerbError(USAGE, what, "--kernel can't be used with --resume: the held handoff has chosen its kernel", todo)
    if settings.method == "firmware":
        raise VerbError(
            USAGE, what, "the method firmware loads no kernel, so it can't be used with --kernel", "Use --method systemd or fast"
        )
    try:
        check_input(args.kernel, args.initrd or None)
    except HotpmemError as error:
        raise VerbError.of(USAGE, error) from error
    return dataclasses.replace(settings, kernel=args.kernel, initrd=args.initrd)


def handoff(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """Stop the units, save and jump."""
    if args.method:
        settings = dataclasses.replace(settings, method=args.method)
    settings = _with_kernel(settings, args)
    one = _parts(engine, settings, args.run)
    one.asked = kernel_words(args)
    if args.check:
        try:
            steps = one.plan()
        except HotpmemError as error:
            raise VerbError.of(REFUSED, error) from error
        return Answer([f"would {step}" for step in steps], {"check": True, "steps": steps})
    if args.detach:
        return detach(engine, settings, args)
    log = Log(args.log)
    one.say = lambda line: log.say(line, not args.json)
    records = Records(engine.sysfs)
    lock = HostLock(engine.sysfs)
    try:
        with lock.claimed("a handoff", args.owner or _person(), args.run), _signals(one):
            if args.hold:
                one.hold(lambda: lock.renewals, args.hold)
            with one.alone():
                one.run()
    except HandoffFailed as error:
        code = SHUTDOWN if error.shutdown else STUCK if error.stuck else PUT_BACK
        raise _ended(records, log, VerbError.of(code, error)) from error
    except Busy as error:
        raise _ended(None, log, VerbError.of(BUSY, error)) from error
    except (HotpmemError, OSError, Interrupted) as error:
        if one.held:
            # The controller may have changed the host. Without an end on record, put-back (ExecStopPost=) undoes that, and writes the end.
            raise VerbError(FAILED, "Cannot go on with the handoff", str(error), "Read journalctl -u hotpmem-handoff") from error
        raise _refused(records, log, error) from error
    return Answer(["the machine is shutting down"], {"stage": "jump"})


def _refused(records: Records, log: Log, error: BaseException) -> VerbError:
    """The preflight refused, or was interrupted. Nothing was changed."""
    if isinstance(error, OSError):
        # The controller reads the log until it says how this ended.
        error = from_os_error("Cannot begin the handoff", error, "Nothing was changed. See dmesg for more")
    if not isinstance(error, HotpmemError):
        error = HotpmemError("Handoff was interrupted", f"{error}; nothing was changed yet", "Run it again when you are ready")
    return _ended(records, log, VerbError.of(REFUSED, error))


def _ended(records: Any, log: Log, error: VerbError) -> VerbError:
    """Write the outcome where the controller and `status` read it."""
    if records is not None:
        with contextlib.suppress(HotpmemError):
            records.write_json(HANDOFF, dict(records.read_json(HANDOFF) or {}, exit=error.code, msg=str(error)))
    if log.path:
        log.say(str(error), False)
        log.say(f"ended with {error.code}", False)
    return error


def _person() -> str:
    """Who runs this command, for others who find the host held."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or f"uid {os.getuid()}"


def put_back(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """Undo a handoff that was killed (ExecStopPost of hotpmem-handoff.service), or that holds the host.

    It does nothing if the handoff ended by itself.
    """
    if args.run:
        return _give_up(engine, settings, args.run)
    one = _parts(engine, settings)
    records = Records(engine.sysfs)
    with HostLock(engine.sysfs).acting("put-back", wait=settings.offline_timeout + settings.copy_timeout):
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


def _give_up(engine: Engine, settings: Settings, run: str) -> Answer:
    """End the handoff of this run, which then puts everything back, and report what became of it."""
    lock, records = HostLock(engine.sysfs), Records(engine.sysfs)
    owner = lock.holder()
    if owner and owner.run != run:
        raise VerbError.of(BUSY, Busy(owner))
    if owner:
        os.kill(owner.pid, signal.SIGTERM)
    until = time.monotonic() + settings.stop_timeout + settings.offline_timeout + 60
    record = records.read_json(HANDOFF) or {}
    # After a kill, put-back (ExecStopPost=) writes the end.
    while record.get("run") == run and record.get("exit") is None and time.monotonic() < until:
        time.sleep(0.1)
        record = records.read_json(HANDOFF) or {}
    if record.get("run") != run:
        return Answer(["nothing to undo"], {"changed": False})
    said = str(record.get("msg") or "it did not end in time")
    if record.get("exit") == SHUTDOWN:
        raise VerbError(SHUTDOWN, "Nothing was put back", said, "You need not do anything")
    if record.get("exit") not in (PUT_BACK, REFUSED):
        raise VerbError(STUCK, "Cannot put everything back", said, "Read journalctl -u hotpmem-handoff")
    return Answer([said], {"changed": record.get("exit") == PUT_BACK, "stage": record.get("stage"), "msg": said})


def save_at_shutdown(engine: Engine, settings: Settings, args: argparse.Namespace) -> Answer:
    """ExecStop of hotpmem-save.service."""
    deadline = args.deadline or settings.shutdown_timeout
    services = Services(engine.runner, settings.stop_timeout)
    # If a handoff is being stopped, it holds the lock until it has undone everything.
    with HostLock(engine.sysfs).acting("the save at shutdown", wait=deadline / 4, over_claim=True):
        answer = ShutdownSave(engine, settings, services).run(deadline * 3 / 4)
    return Answer([answer["said"]], answer)
