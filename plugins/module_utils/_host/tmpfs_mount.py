# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mount unit of a tmpfs that holds state: what has to change on this host, and the change.

It is a mount unit and not a line in /etc/fstab, because others write that file too. systemd orders the unit before local-fs.target
(systemd.mount(5)). hotpmem-restore.service waits for this target, and for the mounts of its items.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List

from .errors import HotpmemError
from .programs import Runner
from .size import align_up, format_size
from .small_files import read
from .sysfs import SHMEM_ENABLED, Sysfs, mounted
from .systemd import Services

HUGE = ("never", "within_size", "always", "advise")
UNITS = "/etc/systemd/system"
MARK = "# Role hotpmem.fleet.state_tmpfs."
_PATH = re.compile(r"(/[A-Za-z0-9_:@+][A-Za-z0-9._:@+-]*)+")  # no text that a unit or the kernel would read in another way
_TIMEOUT = 60.0


@dataclass(frozen=True)
class Wanted:
    """A tmpfs. size: bytes. huge: one of HUGE. mode, uid, gid: of its root directory."""

    path: str
    size: int
    huge: str
    mode: int
    uid: int
    gid: int

    @property
    def unit(self) -> str:
        """The name of its mount unit (systemd.unit(5), string escaping). _PATH leaves few characters to escape."""
        name = self.path.strip("/").replace("-", "\\x2d").replace("@", "\\x40").replace("+", "\\x2b")
        return name.replace("/", "-") + ".mount"

    @property
    def shown(self) -> Dict[str, Any]:
        """What the mount then shows. The kernel counts its size in pages."""
        size = align_up(self.size, os.sysconf("SC_PAGE_SIZE"))
        return {"size": size, "huge": self.huge, "mode": f"{self.mode:04o}", "uid": self.uid, "gid": self.gid}

    @property
    def text(self) -> str:
        """The mount unit. Numbers and plain words only, because the initrd of a jump gives these options to the kernel."""
        return f"""{MARK} Change the inventory, not this file.
[Unit]
Description=State in memory at {self.path}

[Mount]
What=tmpfs
Where={self.path}
Type=tmpfs
Options=size={self.size},huge={self.huge},mode={self.mode:04o},uid={self.uid},gid={self.gid},nosuid,nodev

[Install]
WantedBy=local-fs.target
"""


@dataclass
class Plan:
    """changes: sentences, in their order. before, after: for the diff. acts: one for each change."""

    changes: List[str] = field(default_factory=list)
    before: Dict[str, Any] = field(default_factory=dict)
    after: Dict[str, Any] = field(default_factory=dict)
    acts: List[Callable[[], Any]] = field(default_factory=list)

    def add(self, change: str, act: Callable[[], Any]) -> None:
        """One more change."""
        self.changes.append(change)
        self.acts.append(act)


class TmpfsMount:
    """Plans and makes a mount.

    write: replaces a file as a whole. units: the directory of the units of this host.
    """

    def __init__(self, sysfs: Sysfs, runner: Runner, write: Callable[[str, str], None], units: str = UNITS) -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.services = Services(runner, _TIMEOUT)
        self.write = write
        self.units = units

    def plan(self, wanted: Wanted) -> Plan:
        """What has to change. Changes nothing. Raises HotpmemError when it would take something away from others, or lose files."""
        file = os.path.join(self.units, wanted.unit)
        text = read(file)
        self._check_path(wanted)
        known = self.services.properties(["FragmentPath", "NeedDaemonReload"], wanted.unit)
        owner = known.get("FragmentPath") or ""
        if (text and not text.startswith(MARK)) or owner not in ("", file):
            said = f"{owner or file} mounts it already, and it is not of this role"
            raise self._refusal(wanted, said, "Remove that unit, or its line in /etc/fstab, and unmount it")
        found = [mount for mount in mounted(self.sysfs) if mount["target"] == wanted.path]
        plan = Plan(after={"path": wanted.path, "unit": wanted.text, "mounted": True, "enabled": True, **wanted.shown})
        link = os.path.join(self.units, "local-fs.target.wants", wanted.unit)
        plan.before = {"path": wanted.path, "unit": text, "mounted": bool(found), "enabled": os.path.islink(link)}
        if found:
            if not text:
                said = f"a file system of type {found[-1]['type']} is mounted there, and not by this role"
                raise self._refusal(wanted, said, "Choose another path, or unmount it (a tmpfs then loses its files)")
            self._mounted(wanted, found[-1], plan)
        else:
            self._not_mounted(wanted)
        if text != wanted.text:
            plan.add(f"write {file}", lambda: self.write(file, wanted.text))
        if text != wanted.text or known.get("NeedDaemonReload") == "yes":
            plan.add("make systemd read it", lambda: self._systemctl("daemon-reload"))
        if not plan.before["enabled"]:
            plan.add(f"enable {wanted.unit}", lambda: self._systemctl("enable", wanted.unit))
        if not found:
            plan.add(f"mount {wanted.path}", lambda: self._systemctl("start", wanted.unit))
        return plan

    def apply(self, plan: Plan) -> None:
        """Make the changes. Raises HotpmemError."""
        for act in plan.acts:
            act()

    def _refusal(self, wanted: Wanted, said: str, todo: str, **details: Any) -> HotpmemError:
        todo += ", then run this play again. Nothing was changed"
        return HotpmemError(f"Cannot mount a tmpfs at {wanted.path}", said, todo, **details)

    def _check_path(self, wanted: Wanted) -> None:
        path = wanted.path
        if not _PATH.fullmatch(path) or os.path.normpath(path) != path:
            said = (
                "a path is absolute, without a slash at its end. Its parts have only letters, digits and . _ : @ + -, and do not begin "
                "with . or -"
            )
            raise self._refusal(wanted, said, "Choose another path")
        if os.path.realpath(path) != path:
            raise self._refusal(wanted, f"a symbolic link leads to {os.path.realpath(path)}, and systemd follows none", "Use that path")
        if wanted.size < 1 << 20:
            raise self._refusal(wanted, f"its size is {wanted.size} bytes", "Give it at least 1M")
        if wanted.huge != "never" and not self.sysfs.exists(SHMEM_ENABLED):
            raise self._refusal(wanted, "the kernel has no huge pages for a tmpfs", "Set huge: never")

    def _not_mounted(self, wanted: Wanted) -> None:
        """Raise HotpmemError when the mount would hide something."""
        try:
            hidden = os.listdir(wanted.path)
        except FileNotFoundError:
            return
        except NotADirectoryError as error:
            raise self._refusal(wanted, "this is not a directory", "Remove it, or choose another path") from error
        if hidden:
            said = f"the directory has {len(hidden)} entries, such as {sorted(hidden)[0]}, which the mount would hide"
            raise self._refusal(wanted, said, "Move them away, or choose another path")

    def _mounted(self, wanted: Wanted, mount: Dict[str, str], plan: Plan) -> None:
        """Compare our mount with what is wanted. A remount keeps the files, and the pages that they have."""
        if mount["type"] != "tmpfs":
            raise self._refusal(wanted, f"a file system of type {mount['type']} is mounted there", "Unmount it")
        options = dict(word.partition("=")[::2] for word in mount["options"].split(","))
        room, root = os.statvfs(wanted.path), os.stat(wanted.path)
        size, used = room.f_blocks * room.f_frsize, (room.f_blocks - room.f_bfree) * room.f_frsize
        full = wanted.shown["size"]
        huge = options.get("huge", "never")
        plan.before.update(size=size, huge=huge, mode=f"{stat.S_IMODE(root.st_mode):04o}", uid=root.st_uid, gid=root.st_gid)
        if full < used:
            said = f"its files use {format_size(used)}, and the size would be {format_size(full)}"
            raise self._refusal(wanted, said, "Remove files, or give it a larger size", used_bytes=used)
        if (size, huge) != (full, wanted.huge):
            given = f"remount,size={wanted.size},huge={wanted.huge}"
            plan.add(f"remount {wanted.path} ({given})", lambda: self._check(["mount", "-o", given, wanted.path]))
        if (root.st_uid, root.st_gid) != (wanted.uid, wanted.gid):
            plan.add(f"change the owner of {wanted.path}", lambda: os.chown(wanted.path, wanted.uid, wanted.gid))
        if stat.S_IMODE(root.st_mode) != wanted.mode:
            plan.add(f"change the mode of {wanted.path}", lambda: os.chmod(wanted.path, wanted.mode))

    def _systemctl(self, *words: str) -> None:
        self._check(["systemctl", *words])

    def _check(self, argv: List[str]) -> None:
        todo = "See the message above, and journalctl -b. What was done before stays; run this play again"
        self.runner.check(argv, f"Cannot run {' '.join(argv)}", todo, timeout=_TIMEOUT)
