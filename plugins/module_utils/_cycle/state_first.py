# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets a jump start the services that start early before everything else that the host starts.

The next boot begins with hotpmem-first.target instead of default.target. It pulls in the early services and each unit of a normal
boot that they start after, so their order is that of a normal boot. As soon as they have started, or after LIMIT,
hotpmem-rest.service starts default.target, and with it all other units.

The minimal initrd tells systemd to begin with the target, if the file exists (init.c). The command line of the kernel does not
name it, so no other boot depends on these units.
"""

from __future__ import annotations

import contextlib
import os
from typing import Dict, Iterable, List, Sequence, Set

from .._host.errors import HotpmemError, from_os_error
from .._host.replace_file import replace_file
from .._host.sysfs import Sysfs
from .._host.systemd import Services, unit_names
from .node_settings import Settings

FOLDER = "/etc/systemd/system"
TARGET, REST, NETWORK = "hotpmem-first.target", "hotpmem-rest.service", "hotpmem-first-network.service"
LIMIT = 15  # seconds that all other units wait at most
_TRIGGER = "systemd-udev-trigger.service"
_PULLS, _ORDER = ("Wants", "Requires", "BindsTo"), ("After",)
_PROPERTIES = ("Id", "Names", *_PULLS, *_ORDER, "DefaultDependencies", "Type", "RemainAfterExit")
# systemd makes these itself. A device appears when udev handles its event.
_NOT_STARTED = (".device", ".slice", ".scope", ".timer")
# Words of the command line that choose what to boot into (kernel-command-line(7)), or another init.
_CHOICES = frozenset(["rescue", "emergency", "single", "s", "S", "-s", "-b", "1", "2", "3", "4", "5"])
_CHOOSE = ("systemd.unit=", "--unit=", "init=")
# A generator of systemd or SELinux then boots into another target (systemd.offline-updates(7)).
_REDIRECTS = ("/system-update", "/etc/system-update", "/.autorelabel")
_TODO = "Set hotpmem_state_first: false to boot without this order"
_WHAT = "Cannot order the next boot"

Rows = Dict[str, Dict[str, str]]


def chooses_unit(command_line: str) -> bool:
    """True when the command line already says what systemd boots into, or starts another init."""
    return any(word in _CHOICES or word.startswith(_CHOOSE) for word in command_line.split())


def by_name(blocks: Iterable[Dict[str, str]]) -> Rows:
    """The rows of ``systemctl show``, under all names of each unit."""
    return {name: row for row in blocks for name in unit_names(row.get("Names", ""))}


def _closure(rows: Rows, start: Iterable[str], keys: Sequence[str]) -> Set[str]:
    """The units that are reached from the first ones over these properties."""
    found: Set[str] = set()
    todo = list(start)
    while todo:
        row = rows.get(todo.pop())
        if row and row["Id"] not in found:
            found.add(row["Id"])
            todo += [name for key in keys for name in unit_names(row.get(key, ""))]
    return found


def early_of(rows: Rows, units: Sequence[str], default: str) -> List[str]:
    """Those of the units that start early (drop-in 60-hotpmem-node.conf) and that a normal boot starts, into the target default."""
    boot = _closure(rows, [default], _PULLS)
    found = [rows[unit] for unit in units if unit in rows]
    return [row["Id"] for row in found if row.get("DefaultDependencies") == "no" and row["Id"] in boot]


def first_units(rows: Rows, early: Sequence[str], default: str, *, network: bool) -> List[str]:
    """What has to start first: the early services, and what a normal boot into the target default starts before them.

    network: the initrd has loaded the network drivers, so that udev has to handle only the events of the interfaces.
    """
    boot = _closure(rows, [default], _PULLS)
    first: Set[str] = set()
    more = set(early)
    # Each of them pulls others in, which start after others again.
    while more - first:
        first |= more
        more = _closure(rows, _closure(rows, first, _PULLS), _ORDER) & boot
    # A device needs the events of all others, such as those that load its driver.
    devices = any(name.endswith(".device") for unit in first for name in unit_names(rows[unit].get("After", "")))
    return sorted({name for name in first if not name.endswith(_NOT_STARTED)} | {NETWORK if network and not devices else _TRIGGER})


def texts(early: Sequence[str], first: Sequence[str]) -> Dict[str, str]:
    """The unit files by name."""
    head = "# Written by hotpmem-node at the last handoff, for the boot after it (hotpmem_state_first).\n[Unit]\nDefaultDependencies=no\n"
    return {
        REST: f"{head}Description=Start everything else\nAfter={' '.join(early)}\n"
        "# A service with state that hangs must not keep the others down.\n"
        f"JobTimeoutSec={LIMIT}\nOnFailure=default.target\n"
        "[Service]\nType=oneshot\nExecStart=/bin/systemctl start --no-block default.target\n",
        NETWORK: f"{head}Description=Let udev handle the network interfaces\nAfter=systemd-udevd.service\n"
        "[Service]\nType=oneshot\nExecStart=/usr/bin/udevadm trigger --action=add --subsystem-match=net\n",
        # The last one, because the initrd looks for it.
        TARGET: f"{head}Description=Services with saved state, and what they start after\nWants={' '.join([*first, REST])}\n",
    }


def _refuse(rows: Rows, first: Sequence[str]) -> None:
    """Raise HotpmemError for a unit that the second step would run again."""
    again = [
        name
        for name in first
        if name not in (NETWORK, _TRIGGER) and rows[name].get("Type") == "oneshot" and rows[name].get("RemainAfterExit") == "no"
    ]
    if again:
        raise HotpmemError(_WHAT, f"{', '.join(again)} would run twice", f"Give it RemainAfterExit=yes with systemctl edit. {_TODO}")


def write_units(sysfs: Sysfs, services: Services, units: Sequence[str], *, network: bool) -> None:
    """Write the unit files for the next boot, from what systemd knows now.

    units: those of the items. Raises HotpmemError when systemd does not answer, or when the order can't be kept.
    """
    default = services.properties(["Id"], "default.target").get("Id", "")
    rows = by_name(services.loaded(_PROPERTIES))
    early = early_of(rows, units, default)
    if not early:
        said = f"no service with early_start: true is enabled in {default}"
        raise HotpmemError(_WHAT, said, f"Enable it with systemctl enable. {_TODO}")
    first = first_units(rows, early, default, network=network)
    _refuse(rows, first)
    try:
        for name, text in texts(early, first).items():
            path = sysfs.path(f"{FOLDER}/{name}")
            if os.path.islink(path):
                raise HotpmemError(_WHAT, f"{name} is masked or replaced by a link", f"Run systemctl unmask {name}. {_TODO}")
            # The file must be whole after a power cut: systemd takes an empty one for a masked unit.
            replace_file(path, text, 0o644, sync=True)
    except OSError as error:
        raise from_os_error(_WHAT, error, _TODO) from error


def order_next_boot(sysfs: Sysfs, services: Services, settings: Settings, command_line: str) -> str:
    """Write the unit files of a jump, or remove those of an earlier one. Returns why the next boot starts in its usual order, or nothing.

    command_line: of the jump; empty for a reboot through firmware. A jump that takes longer is better than none, so it does not raise
    HotpmemError.
    """
    remove_units(sysfs)
    if not settings.state_first or not command_line:
        return ""
    usual = "the next boot starts in its usual order"
    if not settings.own_initrd or settings.jump_initrd != "minimal":
        return f"{usual}: hotpmem_state_first needs hotpmem_jump_initrd: minimal"
    if chooses_unit(command_line):
        return f"{usual}: the command line says what to boot into"
    redirects = [name for name in _REDIRECTS if os.path.lexists(sysfs.path(name))]
    if redirects:
        return f"{usual}: {redirects[0]} exists, so it may boot into another target"
    try:
        write_units(sysfs, services, settings.units, network=settings.early_network)
    except HotpmemError as error:
        remove_units(sysfs)
        return f"{usual}: {error}"
    return ""


def remove_units(sysfs: Sysfs) -> None:
    """Remove the unit files, but no link of the operator's. A boot that began with them does not need them any more."""
    for name in (TARGET, REST, NETWORK):
        path = sysfs.path(f"{FOLDER}/{name}")
        if not os.path.islink(path):
            with contextlib.suppress(OSError):
                os.unlink(path)
