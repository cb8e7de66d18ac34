# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a smaller initrd for the jump.

The services are down while the initrd is read, checked, unpacked and run, so its size counts.

There are two kinds. ``host_only`` is made like the stock initrd, by the same program and with the
same configuration, but holds only the drivers of this machine. ``minimal`` holds a small /init and
the modules that the root file system needs; see minimal_initrd.py. Only kexec uses either of them:
the file lies where no boot loader looks, and the stock initrd is not changed.

Each must be able to start the machine from power-on, too. It must be smaller than the stock initrd
and must hold the drivers of the root file system. It must also hold the drivers of persistent
memory: those in the stock initrd (``host_only``), or those that are loaded (``minimal``). When a
check fails or can't be done, the jump uses the stock initrd.
"""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
import re
import shutil
from typing import Any, Callable, Dict, List, Sequence, Set, Tuple

from .._host.errors import HotpmemError
from .._host.programs import Runner
from .._host.records import LIB, Records
from .._host.size import format_size
from .._host.sysfs import Sysfs, mounted
from .._image.state_copy import HELPER
from .._memory.namespace import NODES
from .early_network import interfaces
from .early_restore import EarlyRestore
from .kexec_load import Kexec
from .minimal_initrd import Cannot, MinimalInitrd, bare
from .module_signature import FASTER

INITRD = f"{LIB}/jump-initrd"
RECORD = f"{LIB}/jump-initrd.json"
CONFIGURATION = f"{LIB}/jump-initrd.conf"
DEBIAN = "/etc/initramfs-tools"
KINDS = ("host_only", "minimal")
FINDERS = ("nd_e820", "nfit", "of_pmem")  # drivers that find persistent memory
PMEM = ("libnvdimm", *FINDERS, "nd_pmem")
DAX = ("dax_pmem", "device_dax")  # needed on the dax road, which saves to a dax device
_WHAT = "Cannot use a special initrd for the jump"
_TODO = "The jump uses the stock initrd. To try again, run hotpmem-node jump-initrd --again"
_TIMEOUT = 300.0  # seconds that making or listing an initrd may take


def modules_in(listing: str) -> Set[str]:
    """Names of the modules in the output of lsinitramfs or lsinitrd."""
    last = [line.split()[-1] for line in listing.splitlines() if line.strip()]
    return {bare(path) for path in last if re.search(r"\.ko(\.\w+)?$", path)}


def with_dependencies(names: List[str], modules_dep: str) -> Set[str]:
    """``names`` and all modules that they need, from the text of modules.dep.

    modules.dep lists every direct and indirect dependency of a module. Raises KeyError for a module
    that modules.dep does not list.
    """
    table = {}
    for line in modules_dep.splitlines():
        path, _colon, needed = line.partition(":")
        table[bare(path)] = {bare(path), *map(bare, needed.split())}
    return set().union(*(table[name] for name in names))


def _refuse(said: str) -> HotpmemError:
    return HotpmemError(_WHAT, said, _TODO)


class JumpInitrd:
    """The jump's initrd for the running kernel release: one file, and a record of what it was made from.

    The keyword parameters apply to the minimal kind. ``helper`` is the path of pmem-state. ``dax``
    tells whether the image is on a dax device. ``early`` lists the paths that the initrd restores
    itself. ``network`` tells whether it loads network drivers.
    """

    def __init__(
        self,
        sysfs: Sysfs,
        runner: Runner,
        kexec: Kexec,
        kind: str = KINDS[0],
        *,
        helper: str = HELPER,
        dax: bool = False,
        early: Sequence[str] = (),
        network: bool = False,
    ) -> None:
        self.sysfs = sysfs
        self.runner = runner
        self.kexec = kexec
        self.kind = kind
        self.helper = helper
        self.dax = dax
        self.early = EarlyRestore(sysfs, runner, early, helper)
        self.network = network
        self.records = Records(sysfs)

    @property
    def words(self) -> str:
        """Its kind, in words for the operator."""
        return f"a {self.kind.replace('_', '-')} initrd"

    @property
    def release(self) -> str:
        """The release of the running kernel."""
        return self.sysfs.get("/proc/sys/kernel/osrelease")

    def ready(self) -> str:
        """The path of the initrd when it was made from the present files and settings.

        The empty string when it was not, or when it does not exist.
        """
        record = self._record()
        same = record.get("initrd") and record["initrd"] == self._identity(INITRD) and record.get("made_of") == self._made_of()
        return INITRD if same else ""

    @property
    def due(self) -> bool:
        """True when build() would make the initrd.

        That is so when it was not tried with the present files and settings yet, or when the result
        is gone.
        """
        record = self._record()
        return record.get("made_of") != self._made_of() or bool(record.get("initrd") and not self.ready())

    def build(self, again: bool = False) -> Dict[str, Any]:
        """Make the initrd when that is due.

        Never raises HotpmemError, because the jump can use the stock initrd instead. ``again``
        tries once more although the same attempt failed before. Returns ``changed``, ``initrd``
        (its path, or None for the stock initrd), ``bytes``, ``stock_bytes`` and ``said``, a
        sentence for the operator.
        """
        before = self._record()
        if not self.due and (self.ready() or not again):
            return self._answer(before, False)
        record: Dict[str, Any] = {"made_of": self._made_of(), "initrd": None, "reason": None}
        try:
            self._make()
            record["initrd"] = self._identity(INITRD)
        except HotpmemError as error:
            record["reason"] = error.said
        except OSError as error:
            record["reason"] = str(error)
        finally:
            self._clean()
        with contextlib.suppress(HotpmemError):
            self.records.write_json(RECORD, record)
        return self._answer(record, record != before)

    def _record(self) -> Dict[str, Any]:
        return self.records.read_json(RECORD) or {}

    def _made_of(self) -> Dict[str, Any]:
        """What it depends on.

        The stock initrd stands for its configuration and modules, because it is rebuilt when they
        change.
        """
        files = [*self.kexec.stock(), f"/lib/modules/{self.release}/modules.dep"]
        made_of = {"kind": self.kind, "release": self.release, "root": self._root()}
        if self.kind == "minimal":
            files.append(self.helper)
            made_of["modules"], made_of["faster"] = self._pmem_modules(), self._hash_modules()
            made_of["early"], made_of["not_early"] = self._early_plan
            made_of["uuid"] = self._root_uuid()
        return {**made_of, "files": [self._identity(name) for name in files]}

    def _identity(self, name: str) -> Dict[str, Any]:
        """The file's path, size and mtime_ns; empty when the file does not exist."""
        return (self.kexec.identity(name) if name else None) or {}

    def _answer(self, record: Dict[str, Any], changed: bool) -> Dict[str, Any]:
        made = (record.get("initrd") or {}).get("size")
        stock = self._identity(self.kexec.stock()[1]).get("size", 0)
        said = f"the jump uses the stock initrd: {record.get('reason')}"
        if made:
            said = f"the jump uses {self.words} of {format_size(made)} instead of the stock initrd of {format_size(stock)}"
            not_early = (record.get("made_of") or {}).get("not_early")
            said += f"; hotpmem-restore.service restores the items, because the initrd can't: {not_early}" if not_early else ""
        return {"changed": changed, "initrd": INITRD if made else None, "bytes": made, "stock_bytes": stock, "said": said}

    def _make(self) -> None:
        stock = self.kexec.stock()[1]
        if not stock:
            raise _refuse("no stock initrd of the running release was found to compare it with")
        new = f"{INITRD}.new"
        if self.kind == "minimal":
            self._make_minimal(new)
            self._compare(new, stock)
        else:
            self._make_host_only(new, stock)
        path = self.sysfs.path(new)
        os.chmod(path, 0o600)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        os.replace(path, self.sysfs.path(INITRD))

    def _make_minimal(self, new: str) -> None:
        if any(mount["target"] == "/usr" for mount in mounted(self.sysfs)):
            raise _refuse("/usr is a separate file system, which a minimal initrd does not mount")
        _number, system, place = self._root()
        lines, not_early = self._early_plan
        pmem = self._pmem_modules()
        modules = [*self._root_modules(), *(pmem if not_early else [])]
        maker = MinimalInitrd(self.sysfs, self.runner, self.helper, self._hash_modules())
        try:
            data = maker.contents(system, os.path.basename(place), modules, lines, f"{INITRD}.part", later=[] if not_early else pmem)
        except Cannot as error:
            raise _refuse(str(error)) from error
        with open(self.sysfs.path(new), "wb") as file:
            file.write(data)

    @functools.cached_property
    def _early_plan(self) -> Tuple[List[str], str]:
        """The lines of the plan for what the initrd does while systemd starts.

        The second value is the reason when that does not include the restore, else empty. It is
        read once, because it has to ask systemd.
        """
        network = interfaces(self.sysfs) if self.network else []
        try:
            return [*network, *self.early.plan()], ""
        except Cannot as error:
            return network, str(error)
        except HotpmemError as error:
            return network, error.said

    def _pmem_modules(self) -> List[str]:
        """The loaded modules of persistent memory.

        /dev/pmem0 or /dev/dax0.0 must exist when the restore starts. What found the memory is the driver of
        the device above its bus. Other modules of that kind may be loaded for nothing.
        """
        loaded = self._loaded()
        finders = [one for one in self._finders() if one in loaded] or FINDERS
        return [name for name in dict.fromkeys(("libnvdimm", *finders, "nd_pmem", *(DAX if self.dax else ()))) if name in loaded]

    def _finders(self) -> List[str]:
        """The modules of the drivers above each bus of persistent memory.

        Before 6.10 the driver of an ACPI device has no link to its module. That of nfit has the module's name.
        """
        found = []
        for name in self.sysfs.list(NODES):
            place = posixpath.dirname(self._place(f"{NODES}/{name}")) if name.startswith("ndbus") else ""
            found += [bare(self.sysfs.link_name(f"/sys{place}/driver")), *self._drivers(place)] if place else []
        return found

    def _hash_modules(self) -> List[str]:
        """The loaded modules that compute the hash of a module's signature with the CPU's own instructions."""
        return sorted(self._loaded() & set(FASTER.values()))

    def _make_host_only(self, new: str, stock: str) -> None:
        needed = self._needed()
        if self.runner.which("mkinitramfs") and self.sysfs.exists(f"{DEBIAN}/initramfs.conf"):
            self._configure()
            argv, lister = ["mkinitramfs", "-d", CONFIGURATION, "-o", new, self.release], "lsinitramfs"
        elif self.runner.which("dracut"):
            argv, lister = ["dracut", "--force", "--hostonly", new, self.release], "lsinitrd"
        else:
            raise _refuse("neither mkinitramfs (with /etc/initramfs-tools) nor dracut is installed")
        self.runner.check(argv, _WHAT, _TODO, timeout=_TIMEOUT)
        self._compare(new, stock)
        self._verify(new, stock, needed, lambda name: self.runner.check([lister, name], _WHAT, _TODO, timeout=_TIMEOUT).stdout)

    def _compare(self, new: str, stock: str) -> None:
        """Raise HotpmemError unless the new initrd is smaller than the stock one."""
        sizes = [self._identity(name).get("size", 0) for name in (new, stock)]
        if not sizes[0]:
            raise _refuse("the new initrd is empty")
        if sizes[0] >= sizes[1]:
            raise _refuse(f"the new initrd ({format_size(sizes[0])}) is not smaller than the stock one ({format_size(sizes[1])})")

    def _verify(self, new: str, stock: str, needed: Set[str], listing: Callable[[str], str]) -> None:
        """Raise HotpmemError unless the new initrd can start this machine.

        ``listing`` returns the list of an initrd's files.
        """
        text = listing(new)
        if not any("init" in line.split() for line in text.splitlines()):
            raise _refuse("the new initrd has no /init")
        missing = (needed | (modules_in(listing(stock)) & set(PMEM))) - modules_in(text)
        if missing:
            raise _refuse(f"the new initrd lacks {', '.join(sorted(missing))}, without which this machine would not start")

    def _configure(self) -> None:
        """Copy the stock configuration and set MODULES=dep.

        The hooks are linked, not copied: /var may be mounted noexec, and mkinitramfs silently skips
        a hook that it can't run.
        """
        folder = self.sysfs.path(CONFIGURATION)
        self._clean()
        os.makedirs(f"{folder}/conf.d", mode=0o700)
        for name in self.sysfs.list(DEBIAN):
            if name != "conf.d":
                os.symlink(self.sysfs.path(f"{DEBIAN}/{name}"), f"{folder}/{name}")
        for path in (self.sysfs.path(f"{DEBIAN}/conf.d/{name}") for name in self.sysfs.list(f"{DEBIAN}/conf.d")):
            if os.path.isfile(path):
                shutil.copy(path, f"{folder}/conf.d/")
        # mkinitramfs reads these files in order of their names, and the last value wins.
        with open(f"{folder}/conf.d/zzz-hotpmem", "w", encoding="utf-8") as file:
            file.write("MODULES=dep\n")

    def _clean(self) -> None:
        shutil.rmtree(self.sysfs.path(CONFIGURATION), ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(self.sysfs.path(f"{INITRD}.new"))
        with contextlib.suppress(OSError):
            os.unlink(self.sysfs.path(f"{INITRD}.part"))

    def _root(self) -> List[str]:
        """The device number, file system type and /devices/... path in sysfs of the root file system."""
        found = ["", "", ""]
        for mount in mounted(self.sysfs):
            if mount["target"] == "/":
                found = [mount["device"], mount["type"], self._place(f"/sys/dev/block/{mount['device']}")]
        return found

    def _root_uuid(self) -> List[str]:
        """The UUID of the root file system, and the block devices that have it, as udev has recorded them.

        build() reads the disks. This does not, because a preflight must not wait for a disk.
        """

        def uuid_of(number: str) -> str:
            found = re.search(r"^E:ID_FS_UUID=(.+)$", self.sysfs.get(f"/run/udev/data/b{number}"), re.MULTILINE)
            return found[1] if found else ""

        own = uuid_of(self._root()[0])
        devices = self.sysfs.list("/sys/class/block") if own else []
        return [own, *(name for name in devices if uuid_of(self.sysfs.get(f"/sys/class/block/{name}/dev")) == own)]

    def _place(self, link: str) -> str:
        """The /devices/... path in sysfs of a device, or the empty string when the link to it does not exist."""
        return self.sysfs.real(link)[len("/sys") :] if self.sysfs.exists(link) else ""

    def _drivers(self, place: str) -> List[str]:
        """The modules of the drivers of a device and of every device above it."""
        names = []
        while place.startswith("/devices/"):
            names.append(bare(self.sysfs.link_name(f"/sys{place}/driver/module")))
            place = posixpath.dirname(place)
        return names

    def _needed(self) -> Set[str]:
        """The modules that the root file system needs.

        Raises HotpmemError when modules.dep does not list one.
        """
        try:
            return with_dependencies(self._root_modules(), self.sysfs.get(f"/lib/modules/{self.release}/modules.dep"))
        except KeyError as error:
            raise _refuse(f"the driver {error.args[0]} of the root file system is not listed in this kernel's modules.dep") from error

    def _root_modules(self) -> List[str]:
        """The loaded modules that the root file system needs.

        They are the module of its file system, and the drivers of its disk and of every device
        above that in sysfs. Raises HotpmemError when the root file system is not on one disk.
        """
        _number, system, place = self._root()
        if not place.startswith("/devices/") or place.startswith("/devices/virtual/"):
            raise _refuse("the root file system is not on a single disk (it is on a network, a volume or several disks)")
        loaded = self._loaded()
        return [name for name in (bare(system), *self._drivers(place)) if name in loaded]

    def _loaded(self) -> Set[str]:
        return {bare(line.split()[0]) for line in self.sysfs.get("/proc/modules").splitlines() if line.strip()}
