# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the smallest initrd that can start this machine.

It holds the copy helper as /init, and the modules that the root file system needs.

It has no udev and no shell, and does not search for hardware. /init
(roles/state_helper/files/src/init/init.c) loads the modules in the order of the file /plan. Then it
waits for the block device whose superblock has the UUID, mounts it and starts the init program on
it. This works for ext2, ext3, ext4 and xfs on a disk or partition; any other root file system is
refused.

The format of the archive: Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
from typing import Dict, List, NamedTuple, Sequence, Tuple

from .._host.programs import Runner
from .._host.sysfs import Sysfs
from .module_signature import FASTER, signed_hash

EXT = ("ext2", "ext3", "ext4")
_PROBE = 2048  # bytes at the start of a device that show which file system it holds
_TIMEOUT = 60.0  # seconds that modprobe and zstd may take
_DIRECTORY, _FILE, _CHARACTER = 0o040755, 0o100644, 0o020600
MAX_LATER = 16  # modules; init/early_plan.h
MAX_PLAN = 32000  # bytes; /init reads no longer plan


class Cannot(Exception):
    """The minimal initrd, or the restore by it, is not possible.

    The text is a reason that starts in lower case.
    """


class Module(NamedTuple):
    """A module file of the running kernel.

    ``parameters`` come from modprobe's configuration (modprobe.d(5)).
    """

    path: str
    parameters: str


def bare(path: str) -> str:
    """The name of a module from its file or from another spelling.

    For example, from ``kernel/fs/ext4/ext4.ko.xz`` or ``virtio-blk``.
    """
    return re.sub(r"\.ko(\.\w+)?$", "", os.path.basename(path)).replace("-", "_")


def uuid_in(start: bytes, system: str) -> bytes:
    """The UUID (16 bytes) of a file system of type ``system``, from the first bytes of its device.

    Empty when the device does not hold such a file system. The offsets are from
    Documentation/filesystems/ext4/super.rst and fs/xfs/libxfs/xfs_format.h.
    """
    if system in EXT and start[1024 + 0x38 : 1024 + 0x3A] == b"\x53\xef":
        return start[1024 + 0x68 : 1024 + 0x78]
    if system == "xfs" and start[:4] == b"XFSB":
        return start[32:48]
    return b""


def insmods(listing: str, before: Sequence[str]) -> List[Module]:
    """The modules in the order in which modprobe loads them, from the output of ``modprobe --show-depends``.

    ``before`` names modules that are loaded earlier. Raises Cannot when modprobe.d loads any other
    module with a command. (ndctl installs such a command for libnvdimm, which reads the keys of
    locked DIMMs. After kexec the DIMMs are still unlocked, and an initrd does not hold the keys.)
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
                raise Cannot(f"a file in modprobe.d loads a module with a command ({rest.strip()}), which a minimal initrd can't run")
    return found


def archive(entries: Sequence[Tuple[str, int, bytes]]) -> bytes:
    """A cpio archive in the format newc.

    Each entry has a path without a leading slash, a mode and the content. The content of a
    character device is b"major:minor".
    """
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
    """The minimal initrd of one host.

    ``helper`` is the path of pmem-state, a static program that becomes /init. ``faster`` lists modules
    that compute a hash with the CPU's own instructions (module_signature.py).
    """

    def __init__(self, sysfs: Sysfs, runner: Runner, helper: str, faster: Sequence[str]) -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.helper = helper
        self.faster = faster

    def contents(
        self, system: str, device: str, modules: Sequence[str], early: Sequence[str], scratch: str, *, later: Sequence[str] = ()
    ) -> bytes:
        """The archive, in bytes.

        ``system`` is the type of the root file system, and ``device`` the name of its block device
        in sysfs. ``modules`` are names in the order in which /init loads them, each after the
        modules that it needs. ``early`` holds the plan's lines for what runs while systemd starts
        (early_network.py, early_restore.py). ``later`` names the modules that only the early restore
        needs: its process loads them. ``scratch`` is a path for a temporary file.

        Raises Cannot when this machine can't use a minimal initrd, HotpmemError when modprobe or
        zstd fails, and OSError.
        """
        plan: List[str] = []
        files: Dict[str, bytes] = {}
        order = self._load_order(modules)
        rest = [module for module in self._load_order(later, modules) if module not in order]
        if len(rest) > MAX_LATER:
            order, rest = [*order, *rest], []
        unpacked = {module.path: self._unpacked(module.path, scratch) for module in [*order, *rest]}
        # The modules of a kernel are signed alike, so one of them shows the hash.
        hashing = self._hash_modules(list(unpacked.values())[-1]) if unpacked else []
        unpacked.update((module.path, self._unpacked(module.path, scratch)) for module in hashing if module.path not in unpacked)
        order = list({module.path: module for module in [*hashing, *order]}.values())
        for module in [*order, *(module for module in rest if module not in order)]:
            name = f"{len(files):02d}-{os.path.basename(module.path).partition('.')[0]}.ko"
            files[name] = unpacked[module.path]
            plan.append(f"{'module' if module in order else 'later'} {name} {module.parameters}".rstrip())
        plan.append(f"root {system} {self._uuid(system, device).hex()}")
        plan += early
        text = ("\n".join(plan) + "\n").encode()
        if len(text) >= MAX_PLAN:
            raise Cannot(f"the minimal initrd needs too many modules (its plan has {len(text)} bytes, and {MAX_PLAN} is the limit)")
        directories = ("dev", "proc", "sys", "root", "modules")
        return archive(
            [
                *((name, _DIRECTORY, b"") for name in directories),
                # The kernel opens /dev/console for /init before devtmpfs is mounted.
                ("dev/console", _CHARACTER, b"5:1"),
                ("init", _FILE | 0o111, self._read(self.helper)),
                ("plan", _FILE, text),
                *((f"modules/{name}", _FILE, content) for name, content in files.items()),
            ]
        )

    def _load_order(self, names: Sequence[str], before: Sequence[str] = ()) -> List[Module]:
        """All modules in load order, each once. ``before`` names modules that are loaded earlier.

        Raises Cannot when modprobe does not show how to load one.
        """
        found: Dict[str, Module] = {}
        for number, name in enumerate(names):
            argv = ["modprobe", "--ignore-install", "--show-depends", name]
            todo = "Run depmod, then modprobe --show-depends with this name, to see the reason"
            done = self.runner.check(argv, f"Cannot find the kernel module {name}", todo, timeout=_TIMEOUT)
            for module in insmods(done.stdout, [*before, *names[:number]]):
                found.setdefault(module.path, module)
        missing = {bare(name) for name in names} - {bare(path) for path in found}
        if missing:
            raise Cannot(f"modprobe does not show how to load {', '.join(sorted(missing))}")
        return list(found.values())

    def _hash_modules(self, signed: bytes) -> List[Module]:
        """The module of ``faster`` that computes the hash of a module's signature, and those that it needs; empty without such a module.

        They are loaded first, so that the kernel checks the signatures of all others faster.
        """
        name = FASTER.get(signed_hash(signed), "")
        return self._load_order([name]) if name in self.faster else []

    def _read(self, path: str) -> bytes:
        with open(self.sysfs.path(path), "rb") as file:
            return file.read()

    def _unpacked(self, path: str, scratch: str) -> bytes:
        """A module file, decompressed.

        Python's library can't decompress zstd before 3.14, so the program zstd does it.
        """
        data = self._read(path)
        if path.endswith(".xz"):
            return lzma.decompress(data)
        if path.endswith(".gz"):
            return gzip.decompress(data)
        if path.endswith(".zst"):
            argv = ["zstd", "-dqf", "-o", self.sysfs.path(scratch), self.sysfs.path(path)]
            self.runner.check(argv, f"Cannot decompress the kernel module {path}", "Install the package zstd", timeout=_TIMEOUT)
            data = self._read(scratch)
            os.unlink(self.sysfs.path(scratch))
        return data

    def _uuid(self, system: str, device: str) -> bytes:
        """The UUID of the root file system.

        Raises Cannot unless it is on this device and on no other.
        """
        if system not in (*EXT, "xfs"):
            raise Cannot(f"the root file system is {system}; a minimal initrd supports only ext2, ext3, ext4 and xfs")
        uuid = uuid_in(self._start(device), system)
        if not any(uuid):
            raise Cannot(f"/dev/{device} has no {system} file system with a UUID")
        twins = [name for name in self.sysfs.list("/sys/class/block") if name != device and uuid_in(self._start(name), system) == uuid]
        if twins:
            raise Cannot(f"/dev/{', /dev/'.join(twins)} holds a file system with the same UUID as the root file system")
        return uuid

    def _start(self, device: str) -> bytes:
        """The first bytes of a block device.

        Empty when it can't be read, for example because it has no medium.
        """
        try:
            with open(self.sysfs.path(f"/dev/{device.replace('!', '/')}"), "rb") as file:
                return file.read(_PROBE)
        except OSError:
            return b""
