# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides whether the jump's initrd can restore the state while systemd starts.

It also finds out what the initrd has to mount for that.

systemd uses one CPU for the first part of its start, and the other CPUs are idle. The initrd mounts
each tmpfs that holds an item, as its mount unit would, and systemd adopts the mount
(systemd.mount(5)). The initrd restores only items on a tmpfs: at that time the root file system is
not checked yet and may be read-only. Every other item waits for hotpmem-restore.service.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
import shlex
from typing import Dict, List, Mapping, Sequence

from .._host.programs import Runner
from .._host.sysfs import Sysfs, mount_of, mounted
from .._host.systemd import Services
from .minimal_initrd import Cannot

# What the restore reads and runs. These directories must be available before any unit starts.
NEEDED = ("/etc/hotpmem", "/var/lib/hotpmem", "/usr/local/lib/hotpmem", "/usr/bin", "/bin")
MAX_MOUNTS = 16  # init/early_plan.h
_TIMEOUT = 20.0  # seconds that systemctl and systemd-tmpfiles may take to answer
_RECURSIVE = "DRZTAH"  # line types of tmpfiles.d(5) that also remove or change what a directory contains
_CREATING = "dvqQ"  # line types that create a directory when it is missing, and set its owner and mode
_SPECIFIER = re.compile(r"%(.)")
_DIRECTORIES = {"t": "/run", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "h": "/root"}  # any other may stand for anything
_NOT_FOR_KERNEL = ("auto", "nofail", "defaults", "rw")  # options of fstab(5) that the kernel does not need


def _to_root(path: str) -> List[str]:
    """``path`` and all directories above it, without the root directory."""
    return [path, *_to_root(posixpath.dirname(path))] if path not in ("/", "") else []


def mount_section(text: str) -> Dict[str, str]:
    """The keys of the [Mount] sections in the output of ``systemctl cat``.

    That prints the unit file, and then its drop-ins. The last value of a key wins.
    """
    keys: Dict[str, str] = {}
    section = ""
    for line in map(str.strip, text.replace("\\\n", " ").splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == "Mount" and "=" in line and line[0] not in "#;":
            key, _equals, value = line.partition("=")
            keys[key.strip()] = value.strip()
    return keys


def kernel_options(options: str) -> str:
    """The options of a mount unit that the kernel takes; ``rw`` when that leaves nothing."""
    left = [one for one in options.split(",") if one and one not in _NOT_FOR_KERNEL and not one.startswith("x-")]
    return ",".join(left) or "rw"


def tmpfiles_touch(configuration: str, path: str, mount_point: str) -> str:
    """The first path in a tmpfiles.d(5) configuration whose line may change the item at ``path``.

    The empty string when no line may change it. Such a line names the item itself, something inside
    it, or a directory between the mount point and the item. A line that changes a directory with
    its contents also counts. A line that only creates a missing directory (type d) does no harm:
    the helper replaces an item with one rename, so either of the two finds the directory that the
    other created.
    """
    item, mounted_at = _parts(path), _parts(mount_point)
    for line in configuration.splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = line.split()
        if len(words) < 2:
            continue
        name = _parts(_SPECIFIER.sub(lambda found: _DIRECTORIES.get(found[1], "*"), words[1]))
        if not all(fnmatch.fnmatchcase(part, pattern) for part, pattern in zip(item, name)):
            continue
        inside, leads = len(name) > len(item), len(mounted_at) < len(name) <= len(item)
        if inside or words[0][0] in _RECURSIVE or (leads and words[0][0] not in _CREATING):
            return words[1]
    return ""


def _parts(path: str) -> List[str]:
    return [part for part in posixpath.normpath(path).split("/") if part]


class EarlyRestore:
    """The early restore of one host.

    ``paths`` are those of the items; ``helper`` is the path of pmem-state.
    """

    def __init__(self, sysfs: Sysfs, runner: Runner, paths: Sequence[str], helper: str) -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.services = Services(runner)
        self.paths = list(paths)
        self.helper = helper

    def plan(self) -> List[str]:
        """The lines of the plan for /init, which roles/state_helper/files/src/init/init.c reads.

        Raises Cannot with the reason when the initrd can't restore the items. Raises HotpmemError
        when systemctl fails.
        """
        if not self.paths:
            raise Cannot("no items are configured")
        # A kernel may have SELinux but no policy, as on Debian. systemd loads the policy that this
        # file names (selinux_config(5)).
        if re.search(r"^\s*SELINUX\s*=\s*(enforcing|permissive)\b", self.sysfs.get("/etc/selinux/config"), re.MULTILINE):
            raise Cannot("SELinux must label the restored files, and its policy is not loaded at that time")
        mounts = mounted(self.sysfs)
        needed = (*NEEDED, posixpath.dirname(self.helper))
        for name in needed:
            if mount_of(name, mounts).get("target", "/") != "/":
                raise Cannot(f"{name} is not on the root file system")
        places: Dict[str, str] = {}  # path of each item -> mount point of its tmpfs
        for path in self.paths:
            real = self.sysfs.real(path)
            if real != posixpath.normpath(path):
                # The tmpfs is empty at that time: the restore would make a directory in the place of the link.
                raise Cannot(f"a symbolic link on the way to {path} leads to {real}")
            found = mount_of(path, mounts)
            if found.get("type") != "tmpfs":
                raise Cannot(f"{path} is not on a tmpfs")
            places[path] = found["target"]
        targets = sorted(set(places.values()))
        if len(targets) > MAX_MOUNTS:
            raise Cannot(f"the items are spread over more than {MAX_MOUNTS} file systems")
        self._no_mounts_above([*needed, *map(posixpath.dirname, targets)])
        lines = [f"tmpfs {target} {self._options(target, mounts)}" for target in targets]
        self._tmpfiles(places)
        return [*lines, f"restore {self.helper}"]

    def _options(self, target: str, mounts: Sequence[Dict[str, str]]) -> str:
        """The options of the mount unit of ``target``, as the kernel takes them.

        Raises Cannot when the initrd can't use them.
        """
        if mount_of(posixpath.dirname(target), mounts).get("target") != "/":
            raise Cannot(f"{target} is not mounted on a directory of the root file system")
        if any(mount["type"] == "autofs" and mount["target"] == target for mount in mounts):
            raise Cannot(f"systemd mounts {target} on first access (automount), and it refuses to do so when {target} is already mounted")
        if self.services.properties(["NeedDaemonReload"], target) != {"NeedDaemonReload": "no"}:
            raise Cannot(f"the mount unit of {target} has changed on disk; run systemctl daemon-reload")
        done = self.runner.run(["systemctl", "cat", "--", target], timeout=_TIMEOUT)
        keys = mount_section(done.stdout) if done.rc == 0 else {}
        if keys.get("Type") != "tmpfs" or keys.get("Where") != target:
            raise Cannot(f"{target} has no mount unit and no line in /etc/fstab that mounts a tmpfs there")
        given = keys.get("Options", "")
        options = kernel_options(given)
        if re.search(r"[\s%\"'\\]", options + target) or {"noauto", "x-systemd.automount"} & set(given.split(",")):
            raise Cannot(f"the mount unit of {target} has options that only systemd understands: {options}")
        return options

    def _no_mounts_above(self, paths: Sequence[str]) -> None:
        """Raise Cannot when the next boot will mount something at or above one of ``paths``.

        Such a unit counts even when nothing is mounted there now.
        """
        names = {part for path in paths for part in _to_root(path)}
        for unit in self.services.show(["Id", "LoadState"], sorted(names)):
            if unit.get("LoadState") == "loaded":
                raise Cannot(f"the unit {unit.get('Id')} mounts a file system above an item, or above a file that the restore needs")

    def _tmpfiles(self, places: Mapping[str, str]) -> None:
        """Raise Cannot when systemd-tmpfiles would change a restored item.

        ``places`` maps each item to its mount point.
        """
        done = self.runner.run(["systemd-tmpfiles", "--cat-config"], timeout=_TIMEOUT)
        if done.rc != 0:
            raise Cannot(f"systemd-tmpfiles --cat-config failed ({done.words})")
        for path, target in places.items():
            name = tmpfiles_touch(done.stdout, path, target)
            if name:
                raise Cannot(f"a line of tmpfiles.d for {name} could change the restored item {path}")
