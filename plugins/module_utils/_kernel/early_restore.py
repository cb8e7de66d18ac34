# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the state can be restored by the initrd of a jump, beside the start of systemd, and what has to be mounted for that.

systemd's start runs on one CPU for a while, and the others have nothing to do. The initrd mounts each tmpfs that holds an item as its mount
unit would, and systemd takes what is mounted (systemd.mount(5)). Only what is on a tmpfs is restored there: the root file system is not
checked yet at that time, and may be read-only. Everything else waits for hotpmem-restore.service.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
import shlex
from typing import Dict, List, Mapping, Sequence

from .._host.programs import Runner
from .._host.sysfs import Sysfs, mounted
from .._host.systemd import Services
from .minimal_initrd import Cannot

# What the restore reads, and runs: it must be there before any unit.
NEEDED = ("/etc/hotpmem", "/var/lib/hotpmem", "/usr/local/lib/hotpmem", "/usr/bin", "/bin")
MAX_MOUNTS = 16  # init/early_plan.h
_PATIENCE = 20.0  # seconds for a question to systemd
_RECURSIVE = "DRZTAH"  # types of tmpfiles.d(5) that remove or change what is inside, too
_MADE = "dvqQ"  # types that make a directory unless it is there, and set its owner and mode
_SPECIFIER = re.compile(r"%(.)")
_DIRECTORIES = {"t": "/run", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "h": "/root"}  # what is not here may be anything
_NO_OPTION = ("auto", "nofail", "defaults", "rw")  # of fstab(5), without meaning to the kernel


def above(path: str, directory: str) -> bool:
    """Whether path is directory or below it."""
    return directory in ("/", path) or path.startswith(directory.rstrip("/") + "/")


def mount_of(path: str, mounts: Sequence[Dict[str, str]]) -> Dict[str, str]:
    """The mount that path is on, from _sysfs.mounted; of several at one place the last, which covers the others. Empty: none."""
    found: Dict[str, str] = {}
    for mount in mounts:
        if above(path, mount["target"]) and len(mount["target"]) >= len(found.get("target", "")):
            found = mount
    return found


def _to_root(path: str) -> List[str]:
    """path and all directories above it, but for the root."""
    return [path, *_to_root(posixpath.dirname(path))] if path not in ("/", "") else []


def mount_section(text: str) -> Dict[str, str]:
    """Keys of the sections [Mount] in what ``systemctl cat`` prints: the fragment, then its drop-ins. The last value of a key holds."""
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
    """Options of a mount unit without those that are for others than the kernel; ``rw`` when none is left."""
    left = [one for one in options.split(",") if one and one not in _NO_OPTION and not one.startswith("x-")]
    return ",".join(left) or "rw"


def tmpfiles_touch(configuration: str, path: str, mount_point: str) -> str:
    """The first path of a tmpfiles.d(5) configuration that has to do with an item, or the empty string.

    That is the item, what is inside it, what leads to it on its mount, and what is changed with all that is inside. A directory that is
    made when it is missing (d) is none: whoever comes second finds it, for the helper replaces an item by one rename.
    """
    wanted, mounted = _parts(path), _parts(mount_point)
    for line in configuration.splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = line.split()
        if len(words) < 2:
            continue
        name = _parts(_SPECIFIER.sub(lambda found: _DIRECTORIES.get(found[1], "*"), words[1]))
        if not all(fnmatch.fnmatchcase(part, pattern) for part, pattern in zip(wanted, name)):
            continue
        inside, leads = len(name) > len(wanted), len(mounted) < len(name) <= len(wanted)
        if inside or words[0][0] in _RECURSIVE or (leads and words[0][0] not in _MADE):
            return words[1]
    return ""


def _parts(path: str) -> List[str]:
    return [part for part in posixpath.normpath(path).split("/") if part]


class EarlyRestore:
    """For one host. paths: of the items; helper: of the copy helper."""

    def __init__(self, sysfs: Sysfs, runner: Runner, paths: Sequence[str], helper: str) -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.services = Services(runner)
        self.paths = list(paths)
        self.helper = helper

    def plan(self) -> List[str]:
        """Lines for /init, see roles/state_helper/files/src/init/init.c. Raises Cannot with the reason, or HotpmemError (systemctl)."""
        if not self.paths:
            raise Cannot("there is no item")
        # A kernel has SELinux without a policy, too (Debian's); systemd loads what this file names (selinux_config(5)).
        if re.search(r"^\s*SELINUX\s*=\s*(enforcing|permissive)\b", self.sysfs.get("/etc/selinux/config"), re.MULTILINE):
            raise Cannot("SELinux labels what is restored, and has no policy yet at that time")
        mounts = mounted(self.sysfs)
        needed = (*NEEDED, posixpath.dirname(self.helper))
        for name in needed:
            if mount_of(name, mounts).get("target", "/") != "/":
                raise Cannot(f"{name} is not on the root file system")
        places: Dict[str, str] = {}  # of each item, where its tmpfs is mounted
        for path in self.paths:
            found = mount_of(path, mounts)
            if found.get("type") != "tmpfs":
                raise Cannot(f"{path} is on no tmpfs")
            places[path] = found["target"]
        targets = sorted(set(places.values()))
        if len(targets) > MAX_MOUNTS:
            raise Cannot(f"the items are on more than {MAX_MOUNTS} file systems")
        self._no_mounts_above([*needed, *map(posixpath.dirname, targets)])
        lines = [f"tmpfs {target} {self._options(target, mounts)}" for target in targets]
        self._tmpfiles(places)
        return [*lines, f"restore {self.helper}"]

    def _options(self, target: str, mounts: Sequence[Dict[str, str]]) -> str:
        """Of the mount unit of target, as the kernel takes them."""
        if mount_of(posixpath.dirname(target), mounts).get("target") != "/":
            raise Cannot(f"{target} is not mounted on a directory of the root file system")
        if any(mount["type"] == "autofs" and mount["target"] == target for mount in mounts):
            raise Cannot(f"{target} is mounted when it is used, and systemd refuses that for what is mounted already")
        if self.services.properties(["NeedDaemonReload"], target) != {"NeedDaemonReload": "no"}:
            raise Cannot(f"the mount of {target} has changed since systemd read it: systemctl daemon-reload")
        done = self.runner.run(["systemctl", "cat", "--", target], timeout=_PATIENCE)
        keys = mount_section(done.stdout) if done.rc == 0 else {}
        if keys.get("Type") != "tmpfs" or keys.get("Where") != target:
            raise Cannot(f"{target} has no mount unit, and no line in fstab, that makes it a tmpfs")
        given = keys.get("Options", "")
        options = kernel_options(given)
        if re.search(r"[\s%\"'\\]", options + target) or {"noauto", "x-systemd.automount"} & set(given.split(",")):
            raise Cannot(f"the mount of {target} has options that only systemd understands: {options}")
        return options

    def _no_mounts_above(self, paths: Sequence[str]) -> None:
        """Raises Cannot when the next boot mounts something that a path is on, though nothing is mounted there now."""
        names = {part for path in paths for part in _to_root(path)}
        for unit in self.services.show(["Id", "LoadState"], sorted(names)):
            if unit.get("LoadState") == "loaded":
                raise Cannot(f"{unit.get('Id')} mounts something on the way to what is restored or needed for that")

    def _tmpfiles(self, places: Mapping[str, str]) -> None:
        """Raises Cannot when systemd-tmpfiles would meet what was restored. places: the mount point of each item."""
        done = self.runner.run(["systemd-tmpfiles", "--cat-config"], timeout=_PATIENCE)
        if done.rc != 0:
            raise Cannot(f"systemd-tmpfiles does not show its configuration ({done.words})")
        for path, target in places.items():
            name = tmpfiles_touch(done.stdout, path, target)
            if name:
                raise Cannot(f"tmpfiles.d has {name}, which has to do with {path}")
