# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of hotpmem-node."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Callable, Dict, List, Optional

from ansible_collections.hotpmem.fleet.plugins.module_utils._engine import Engine
from ansible_collections.hotpmem.fleet.plugins.module_utils._errors import HotpmemError, from_os_error
from ansible_collections.hotpmem.fleet.plugins.module_utils._jump_initrd import KINDS
from ansible_collections.hotpmem.fleet.plugins.module_utils._settings import METHODS, SETTINGS, Settings, load
from ansible_collections.hotpmem.fleet.plugins.module_utils._sysfs import require_root

from . import boot, handoff, initrd, memory, timeline
from .answer import EXITS, USAGE, Answer, VerbError, show, show_error

VERSION = "hotpmem-node 0.1.0"
Verb = Callable[[Engine, Settings, argparse.Namespace], Answer]
VERBS: Dict[str, Verb] = {
    "status": memory.status,
    "preflight": memory.preflight,
    "hot-add": memory.hot_add,
    "hot-remove": memory.hot_remove,
    "handoff": handoff.handoff,
    "jump-initrd": initrd.jump_initrd,
    "put-back": handoff.put_back,
    "save-at-shutdown": handoff.save_at_shutdown,
    "outcome": boot.outcome,
    "cold-start": boot.cold_start,
    "timeline": timeline.timeline,
}


class Parser(argparse.ArgumentParser):
    """argparse ends with 2, which here means that something could not be done."""

    def error(self, message: str) -> Any:
        raise VerbError(USAGE, "Cannot read the command line", message, f"See {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """All verbs and options."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="one JSON object on standard output")
    common.add_argument("--settings", default=SETTINGS, metavar="FILE", help=f"settings (default {SETTINGS})")
    top = Parser(
        prog="hotpmem-node",
        description="Keeps state over the reboots of this machine, in persistent memory that is ordinary RAM in between.",
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

    verb("status", "what the memory is used for, what image there is, and whether this machine is ready to reboot")
    verb("preflight", "every reason against a handoff now; changes nothing")
    for name, words in (
        ("hot-add", "make the namespace devdax and its memory System RAM (movable)"),
        ("hot-remove", "take the memory out of System RAM and make it a device for the state image"),
    ):
        one = verb(name, words)
        one.add_argument("--check", action="store_true", help="say what would be done, and change nothing")
        if name == "hot-add":
            one.add_argument("--force", action="store_true", help="an image that was not restored may be lost, or what else is on it")
            one.add_argument("--at-boot", action="store_true", help="for hotpmem-hot-add.service: judge the restore of this boot first")
    one = verb("handoff", "stop the state units, save their state and jump to the next kernel; puts everything back when that fails")
    one.add_argument("--method", choices=METHODS, help="systemd shuts the other units down in order; fast does not (default: settings)")
    one.add_argument("--check", action="store_true", help="say what would be done or why it would be refused, and change nothing")
    one.add_argument("--detach", action="store_true", help="run as hotpmem-handoff.service and return at once")
    one.add_argument("--log", default="", help=argparse.SUPPRESS)
    one = verb(
        "jump-initrd",
        "make an initrd for the jump (host-only or minimal), unless the one there is still belongs to this kernel and its initrd",
    )
    one.add_argument("--again", action="store_true", help="try even though the same has failed before")
    verb("put-back", "after a handoff that was killed: services up, memory back")
    one = verb("save-at-shutdown", "for hotpmem-save.service: save when the machine reboots and no handoff has done so")
    one.add_argument("--deadline", type=float, default=0.0, metavar="SECONDS", help="all of it may take so long (default: settings)")
    verb("outcome", "what became of each item in this boot, and why")
    one = verb("cold-start", "let units start that are held down because their state was not restored")
    one.add_argument("item", nargs="*", help="name of an item (default: all that are held)")
    one = verb("timeline", "where the time of the last cycle went, phase by phase, across kexec")
    one.add_argument("--last", type=int, default=1, metavar="N", help="the last N cycles (default 1; 20 are kept)")
    return top


def engine_of(settings: Settings) -> Engine:
    """The engine for these settings, on this machine."""
    kind = settings.jump_initrd if settings.jump_initrd in KINDS else KINDS[0]
    early = [kept.path for kept in settings.items] if settings.early_restore else []
    return Engine(helper=settings.helper, road=settings.road, jump_initrd=kind, early=early, network=settings.early_network)


def main(argv: Optional[List[str]] = None, engine_for: Callable[[Settings], Engine] = engine_of) -> int:
    """Run a verb; returns the exit code. engine_for: the engine for these settings."""
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
    except HotpmemError as error:
        return show_error(error, name, as_json)
    except OSError as error:
        return show_error(from_os_error(f"Cannot finish hotpmem-node {name}", error), name, as_json)
