# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets a jump start the services that start early before everything else that the host starts.

The next boot begins with hotpmem-first.target (``systemd.unit=``, kernel-command-line(7)) instead of default.target. It pulls in
the early services and each unit of a normal boot that they start after, so their order is that of a normal boot. As soon as they
have started, or after LIMIT, hotpmem-rest.service starts default.target, and with it all other units.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Sequence, Set

from .._host.errors import HotpmemError, from_os_error
from .._host.replace_file import replace_file
from .._host.sysfs import Sysfs
from .._host.systemd import Services, unit_names
from .node_settings import Settings

FOLDER = "/etc/systemd/system"
TARGET, REST, NETWORK = "hotpmem-first.target", "hotpmem-rest.service", "hotpmem-first-network.service"
ARGUMENT = f"systemd.unit={TARGET}"
LIMIT = 15  # seconds that all other units wait at most
_TRIGGER = "systemd-udev-trigger.service"
_PULLS, _ORDER = ("Wants", "Requires", "BindsTo"), ("After",)
# systemd makes these itself. A device appears when udev handles its event.
_NOT_STARTED = (".device", ".slice", ".scope", ".timer")
# Words of the command line that choose what to boot into, as systemd and its predecessors know them (kernel-command-line(7)).
_CHOICES = frozenset(["rescue", "emergency", "single", "s", "S", "-b", "1", "2", "3", "4", "5"])
_TODO = "Set hotpmem_state_first: false to boot without this order"

Rows = Dict[str, Dict[str, str]]


def chooses_unit(command_line: str) -> bool:
    """True when the command line already says what systemd boots into."""
    return any(word in _CHOICES or word.startswith("systemd.unit=") for word in command_line.split())


def by_name(blocks: Iterable[Dict[str, str]]) -> Rows:
    """The rows of ``systemctl show``, under all names of each unit."""
    return {name: row for row in blocks for name in unit_names(row.get("Names", ""))}


def _closure(rows: Rows, start: Sequence[str], keys: Sequence[str]) -> Set[str]:
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
    before = _closure(rows, early, _ORDER)
    names = {name for name in before & _closure(rows, [default], _PULLS) if not name.endswith(_NOT_STARTED)}
    # A device needs the events of all others, such as those that load its driver.
    devices = any(name.endswith(".device") for unit in before for name in unit_names(rows[unit].get("After", "")))
    names.add(NETWORK if network and not devices else _TRIGGER)
    return sorted(names)


def texts(early: Sequence[str], first: Sequence[str], default: str) -> Dict[str, str]:
    """The unit files by name. default: what default.target is on this host."""
    head = "# Written by hotpmem-node for the next boot. hotpmem_state_first: false ends this.\n[Unit]\nDefaultDependencies=no\n"
    return {
        TARGET: f"{head}Description=Services with saved state, and what they start after\nWants={' '.join([*first, REST])}\n",
        REST: f"{head}Description=Start everything else\nAfter={' '.join(early)}\n"
        "# A service with state that hangs must not keep the others down.\n"
        f"JobTimeoutSec={LIMIT}\nOnFailure={default}\n"
        "[Service]\nType=oneshot\nExecStart=/bin/systemctl start --no-block default.target\n",
        NETWORK: f"{head}Description=Let udev handle the network interfaces\nAfter=systemd-udevd.service\n"
        "[Service]\nType=oneshot\nExecStart=/usr/bin/udevadm trigger --action=add --subsystem-match=net\n",
    }


def write_units(sysfs: Sysfs, services: Services, units: Sequence[str], *, network: bool) -> List[str]:
    """Write the unit files for the next boot, from what systemd knows now. Returns what starts first.

    units: those of the items. Raises HotpmemError when systemd does not answer, or would not take the files.
    """
    what = "Cannot prepare the order of the next boot"
    # The name of an alias is not among the loaded units until somebody has used it.
    default = services.properties(["Id"], "default.target").get("Id", "")
    rows = by_name(services.loaded(["Id", "Names", *_PULLS, *_ORDER, "DefaultDependencies"]))
    early = early_of(rows, units, default)
    if not early:
        said = f"{default} starts no unit of an item that has early_start: true"
        raise HotpmemError(what, said, f"Enable it with systemctl enable. {_TODO}")
    first = first_units(rows, early, default, network=network)
    try:
        for name, text in texts(early, first, default).items():
            path = sysfs.path(f"{FOLDER}/{name}")
            # The file must be whole after a power cut: systemd takes an empty one for a masked unit.
            replace_file(path, text, 0o644, sync=True)
    except OSError as error:
        raise from_os_error(what, error, _TODO) from error
    states = services.show(["LoadState"], [TARGET, REST])
    wrong = [name for name, one in zip((TARGET, REST), states) if one.get("LoadState") != "loaded"]
    if wrong:
        raise HotpmemError(what, f"systemd can't load {', '.join(wrong)}", f"See systemctl status {wrong[0]}. {_TODO}")
    return first


def order_next_boot(sysfs: Sysfs, services: Services, settings: Settings) -> str:
    """Write the unit files of a jump. Returns why the next boot starts in its usual order, or nothing.

    A jump that takes longer is better than none, so it does not raise HotpmemError. It never removes the files: the command line of a
    jump may have found its way into a boot entry, and without the target such a boot ends in rescue.target.
    """
    if not settings.state_first or settings.method == "firmware":
        return ""
    # Only the initrd that the collection builds loads the drivers of the network.
    network = settings.early_network and settings.own_initrd and settings.jump_initrd == "minimal"
    try:
        write_units(sysfs, services, settings.units, network=network)
    except HotpmemError as error:
        return f"the next boot starts in its usual order: {error}"
    return ""


def is_written(sysfs: Sysfs) -> bool:
    """True when the next boot can begin with TARGET."""
    return sysfs.exists(f"{FOLDER}/{TARGET}")
