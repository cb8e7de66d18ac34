# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The smallest initrd that can start this machine: the copy helper as /init, and the modules that lead to the root file system.

No udev, no shell, no search for what a machine might have: /init (init/init.c of pmem-state) loads the modules in the order of
/plan, waits for the block device whose superblock has the UUID, mounts it and becomes its init. So this is for ext2 to ext4 and xfs on a
disk or partition; any other root file system is refused. The archive's format: Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
from typing import Dict, List, NamedTuple, Sequence, Tuple

from .._host.programs import Runner
from .._host.sysfs import Sysfs

EXT = ("ext2", "ext3", "ext4")
_PROBE = 2048  # bytes of a device that tell what it holds
_PATIENCE = 60.0  # seconds for a question to modprobe
_DIRECTORY, _FILE, _CHARACTER = 0o040755, 0o100644, 0o020600
MAX_PLAN = 32000  # bytes that /init takes


class Cannot(Exception):
    """Why there can be none, as the end of a sentence."""


class Module(NamedTuple):
    """A module file of the running kernel, and its parameters from the configuration of modprobe."""

    path: str
    parameters: str


def bare(path: str) -> str:
    """Name of a module from its file (``kernel/fs/ext4/ext4.ko.xz``) or another spelling of it (``virtio-blk``)."""
    return re.sub(r"\.ko(\.\w+)?$", "", os.path.basename(path)).replace("-", "_")


def uuid_in(start: bytes, system: str) -> bytes:
    """The 16 bytes of the UUID of a file system, from the first bytes of its device; empty when it is another one.

    Places: Documentation/filesystems/ext4/super.rst, fs/xfs/libxfs/xfs_format.h.
    """
    if system in EXT and start[1024 + 0x38 : 1024 + 0x3A] == b"\x53\xef":
        return start[1024 + 0x68 : 1024 + 0x78]
    if system == "xfs" and start[:4] == b"XFSB":
        return start[32:48]
    return b""


def insmods(listing: str, before: Sequence[str]) -> List[Module]:
    """The modules in the order in which ``modprobe --show-depends`` says that they are loaded.

    before: names of modules that are loaded before. Raises Cannot for another that modprobe.d loads by a command. (ndctl's modprobe.d
    has one for libnvdimm, which reads the keys of locked DIMMs. They are unlocked still after kexec, and no initrd has the keys.)
    """
    found = []
    for line in listing.splitlines():
        word, _space, rest = line.strip().partition(" ")
        if word == "insmod":
            path, _space, parameters = rest.strip().partition(" ")
            found.append(Module(path, parameters.strip()))
        elif word == "install":
            name = re.search(r"--ignore-install\s+(\S+)", rest)
            if not name or name[1] not in before:
                raise Cannot(f"modprobe.d loads a module by a command: {rest.strip()}")
    return found


def archive(entries: Sequence[Tuple[str, int, bytes]]) -> bytes:
    """A cpio archive (newc). entries: path without a leading slash, mode, content; a character device has content b"major:minor"."""
    out = bytearray()
    for number, (name, mode, given) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        device = mode & 0o170000 == 0o020000
        major, minor = (int(part) for part in given.split(b":")) if device else (0, 0)
        content = b"" if device else given
        path = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(path), 0)
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + path
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return bytes(out)


class MinimalInitrd:
    """For one host. helper: path of pmem-state, which is static and becomes /init."""

    def __init__(self, sysfs: Sysfs, runner: Runner, helper: str) -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.helper = helper

    def contents(self, system: str, device: str, modules: Sequence[str], early: Sequence[str], scratch: str) -> bytes:
        """The archive. system: type of the root file system; device: its block device in /sys; modules: by name, in the order in which
        they are to be loaded, each after all that it needs; early: lines of the plan for what runs beside the start of systemd
        (_early_network.py, _early_restore.py). scratch: a file name for what is unpacked on the way.

        Raises Cannot, HotpmemError (modprobe), OSError.
        """
        plan: List[str] = []
        files: Dict[str, bytes] = {}
        for module in self._load_order(modules):
            name = f"{len(files):02d}-{os.path.basename(module.path).partition('.')[0]}.ko"
            files[name] = self._unpacked(module.path, scratch)
            plan.append(f"module {name} {module.parameters}".rstrip())
        plan.append(f"root {system} {self._uuid(system, device).hex()}")
        plan += early
        text = ("\n".join(plan) + "\n").encode()
        if len(text) >= MAX_PLAN:
            raise Cannot("it takes too many modules")
        directories = ("dev", "proc", "sys", "root", "modules")
        return archive(
            [
                *((name, _DIRECTORY, b"") for name in directories),
                # The kernel opens it for /init before devtmpfs is there.
                ("dev/console", _CHARACTER, b"5:1"),
                ("init", _FILE | 0o111, self._read(self.helper)),
                ("plan", _FILE, text),
                *((f"modules/{name}", _FILE, content) for name, content in files.items()),
            ]
        )

    def _load_order(self, names: Sequence[str]) -> List[Module]:
        """Each once, at its first place. Raises Cannot for one that would not be loaded."""
        found: Dict[str, Module] = {}
        for number, name in enumerate(names):
            argv = ["modprobe", "--ignore-install", "--show-depends", name]
            done = self.runner.check(argv, f"Cannot find the module {name}", "modprobe and depmod know more", timeout=_PATIENCE)
            for module in insmods(done.stdout, names[:number]):
                found.setdefault(module.path, module)
        missing = {bare(name) for name in names} - {bare(path) for path in found}
        if missing:
            raise Cannot(f"modprobe does not say how {', '.join(sorted(missing))} is loaded")
        return list(found.values())

    def _read(self, path: str) -> bytes:
        with open(self.sysfs.path(path), "rb") as file:
            return file.read()

    def _unpacked(self, path: str, scratch: str) -> bytes:
        """A module as the kernel takes it. There is no zstd in Python's library before 3.14."""
        data = self._read(path)
        if path.endswith(".xz"):
            return lzma.decompress(data)
        if path.endswith(".gz"):
            return gzip.decompress(data)
        if path.endswith(".zst"):
            argv = ["zstd", "-dqf", "-o", self.sysfs.path(scratch), self.sysfs.path(path)]
            self.runner.check(argv, f"Cannot unpack {path}", "Install zstd", timeout=_PATIENCE)
            data = self._read(scratch)
            os.unlink(self.sysfs.path(scratch))
        return data

    def _uuid(self, system: str, device: str) -> bytes:
        """Of the root file system; it must be on this device and on no other."""
        if system not in (*EXT, "xfs"):
            raise Cannot(f"the root file system is {system}, not ext2 to ext4 or xfs")
        uuid = uuid_in(self._start(device), system)
        if not any(uuid):
            raise Cannot(f"/dev/{device} has no {system} file system with a UUID")
        twins = [name for name in self.sysfs.list("/sys/class/block") if name != device and uuid_in(self._start(name), system) == uuid]
        if twins:
            raise Cannot(f"/dev/{', /dev/'.join(twins)} has a root file system with the same UUID")
        return uuid

    def _start(self, device: str) -> bytes:
        """The first bytes of a block device; empty when it can't be read (no medium)."""
        try:
            with open(self.sysfs.path(f"/dev/{device.replace('!', '/')}"), "rb") as file:
                return file.read(_PROBE)
        except OSError:
            return b""
