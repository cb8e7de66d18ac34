# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of hotpmem-node."""

from __future__ import annotations

import argparse
import sys
from typing import Callable, Dict, List, NoReturn, Optional

from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import METHODS, SETTINGS, Settings, load
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError, from_os_error
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.host_lock import Busy
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import require_root
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.jump_initrd import KINDS

from . import boot, handoff, initrd, memory, timeline, units
from .answer import BUSY, EXITS, USAGE, Answer, VerbError, show, show_error

VERSION = "hotpmem-node 0.1.0"
Verb = Callable[[Engine, Settings, argparse.Namespace], Answer]
VERBS: Dict[str, Verb] = {
    "status": memory.status,
    "preflight": memory.preflight,
    "hot-add": memory.hot_add,
    "hot-remove": memory.hot_remove,
    "prepare": memory.prepare,
    "handoff": handoff.handoff,
    "jump-initrd": initrd.jump_initrd,
    "put-back": handoff.put_back,
    "save-at-shutdown": handoff.save_at_shutdown,
    "outcome": boot.outcome,
    "cold-start": boot.cold_start,
    "timeline": timeline.timeline,
    "units": units.units,
}


class Parser(argparse.ArgumentParser):
    """Ends with code 1 on a wrong command line. argparse would end with 2, which means a failure here."""

    def error(self, message: str) -> NoReturn:
        raise VerbError(USAGE, "Cannot read the command line", message, f"See {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """All verbs and options."""
    common = Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    common.add_argument("--settings", default=SETTINGS, metavar="FILE", help=f"the file with the settings (default {SETTINGS})")
    top = Parser(
        prog="hotpmem-node",
        description="Keeps the state of this machine across reboots in persistent memory, which is ordinary RAM between them.",
        epilog=EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=VERSION)
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)

    def verb(name: str, words: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name, parents=[common], help=words, description=words[0].upper() + words[1:] + ".", epilog=EXITS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    verb("status", "show how the memory is used, which image exists, and whether this machine is ready to reboot")
    verb("preflight", "check memory, items and kernel for a handoff, and change nothing (handoff --check also checks the units)")
    for name, words in (
        ("hot-add", "make the namespace devdax and add its memory to System RAM (movable)"),
        ("hot-remove", "remove the memory from System RAM and make it a device for the state image"),
    ):
        one = verb(name, words)
        one.add_argument("--check", action="store_true", help="show the steps, and change nothing")
        if name == "hot-add":
            one.add_argument("--force", action="store_true", help="give up an image that was not restored, or other data on the namespace")
            one.add_argument("--at-boot", action="store_true", help="check this boot's restore first (for hotpmem-hot-add.service)")
    one = verb("prepare", "move the items into huge pages, so that a save reads them faster (a handoff does this by itself)")
    one.add_argument("--seconds", type=float, metavar="SECONDS", help="take at most this long (default: see settings)")
    _handoff_options(verb("handoff", "stop the state units, save their state and jump to the next kernel; if that fails, undo everything"))
    one = verb(
        "jump-initrd",
        "build an initrd for the jump (host-only or minimal), unless the existing one still fits this kernel and its initrd",
    )
    one.add_argument("--again", action="store_true", help="try again, even if the same build has failed before")
    one = verb("put-back", "after a killed handoff: start the services and add the memory again")
    one.add_argument("--run", default="", metavar="ID", help="end the handoff of this run, which puts everything back")
    one = verb("save-at-shutdown", "save when the machine reboots without a handoff (for hotpmem-save.service)")
    one.add_argument("--deadline", type=float, default=0.0, metavar="SECONDS", help="limit for the whole save (default: see settings)")
    verb("outcome", "show the outcome of each item in this boot, and why")
    one = verb("cold-start", "start units that are held down because their state was not restored")
    one.add_argument("item", nargs="*", help="name of an item (default: all items that are held down)")
    one = verb("timeline", "show how long each phase of the last cycle took, across kexec")
    one.add_argument("--last", type=int, default=1, metavar="N", help="show the last N cycles (default 1; the machine keeps 20)")
    one.add_argument(
        "--budget", action="store_true", help="show for each phase of this boot's cycle what is left to gain, and by which setting"
    )
    one = verb("units", "list the units that start and stop with the items")
    how = one.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="fail if systemd has not read the drop-ins of the collection for one of them")
    how.add_argument(
        "--start", action="store_true", help="start the units of the items, and those that a condition kept down (for"
        " hotpmem-cold-start.service)",
    )  # fmt: skip
    return top


def _handoff_options(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--method",
        choices=METHODS,
        help="systemd shuts the other units down in order and fast does not; firmware reboots without kexec (default: see settings)",
    )
    one.add_argument(
        "--kernel",
        default="",
        metavar="KERNEL",
        help="jump to this kernel, and not to that of the settings: a path, a release, or newest for the newest installed kernel",
    )
    one.add_argument("--initrd", default="", metavar="PATH", help="with --kernel: its initrd (default: the one that belongs to the kernel)")
    one.add_argument("--check", action="store_true", help="show the steps, or why the handoff would be refused, and change nothing")
    one.add_argument("--detach", action="store_true", help="run as hotpmem-handoff.service and return at once")
    one.add_argument(
        "--hold",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="with --detach: hold this machine for the steps of --run, and go on at the next handoff --detach with that run; after SECONDS "
        "without a step, put everything back",
    )
    one.add_argument("--run", default="", metavar="ID", help="the run of a controller that this handoff belongs to")
    one.add_argument("--resume", action="store_true", help="with --detach and --run: only go on with a handoff that holds this machine")
    one.add_argument("--owner", default="", metavar="NAME", help="who runs it, for others who find this machine held")
    one.add_argument("--log", default="", help=argparse.SUPPRESS)


def engine_of(settings: Settings) -> Engine:
    """The engine for these settings, on this machine."""
    kind = settings.jump_initrd if settings.jump_initrd in KINDS else KINDS[0]
    early = [kept.path for kept in settings.items] if settings.early_restore else []
    return Engine(helper=settings.helper, road=settings.road, jump_initrd=kind, early=early, network=settings.early_network)


def main(argv: Optional[List[str]] = None, engine_for: Callable[[Settings], Engine] = engine_of) -> int:
    """Run a verb and return the exit code. engine_for makes the engine for the settings."""
    words = list(argv) if argv is not None else None
    as_json = "--json" in (words if words is not None else sys.argv)
    name = "none"
    try:
        args = parser().parse_args(words)
        name = args.verb
        try:
            settings = load(args.settings, Settings() if args.settings == SETTINGS else None)
        except HotpmemError as error:
            raise VerbError.of(USAGE, error) from error
        engine = engine_for(settings)
        if engine.sysfs.root == "/" and name != "status":
            require_root(f"Cannot run hotpmem-node {name}")
        return show(VERBS[name](engine, settings, args), name, as_json)
    except Busy as error:
        return show_error(error, name, as_json, BUSY)
    except HotpmemError as error:
        return show_error(error, name, as_json)
    except OSError as error:
        return show_error(from_os_error(f"Cannot finish hotpmem-node {name}", error), name, as_json)
