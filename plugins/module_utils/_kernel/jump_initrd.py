# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An initrd for the jump: what kexec carries is read, checked, unpacked and run while the services are down.

Two kinds. host_only is made like the stock initrd, by the same program with the same configuration, but for this machine's devices alone.
minimal holds the modules that lead to the root file system and a small /init, see _minimal_initrd.py. Only kexec gets it: it lies where no
boot loader looks, and the stock initrd stays as it is. It has to be one that the machine could be started from cold: smaller than the stock
one, and with the drivers of the root file system and, when the stock one has them (minimal: when they are loaded), of persistent memory.
Anything else, or anything that can't be told, and the jump takes the stock one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
from typing import Any, Callable, Dict, List, Sequence, Set, Tuple

from .._host.errors import HotpmemError
from .._host.programs import Runner
from .._host.records import LIB, Records
from .._host.size import format_size
from .._host.sysfs import Sysfs, mounted
from .._image.state_copy import HELPER
from .early_network import interfaces
from .early_restore import EarlyRestore
from .kexec_load import INITRDS, KERNELS, Kexec
from .minimal_initrd import Cannot, MinimalInitrd, bare

INITRD = f"{LIB}/jump-initrd"
RECORD = f"{LIB}/jump-initrd.json"
CONFIGURATION = f"{LIB}/jump-initrd.conf"
DEBIAN = "/etc/initramfs-tools"
KINDS = ("host_only", "minimal")
PMEM = ("libnvdimm", "nd_e820", "nfit", "nd_pmem")
DAX = ("dax_pmem", "device_dax")  # on the road that saves to a dax device
_WHAT = "Cannot use an initrd of the jump's own"
_TODO = "The jump takes the stock one; hotpmem-node jump-initrd --again tries once more"
_PATIENCE = 300.0  # seconds for making one


def modules_in(listing: str) -> Set[str]:
    """Names of the modules in what lsinitramfs or lsinitrd prints."""
    last = [line.split()[-1] for line in listing.splitlines() if line.strip()]
    return {bare(path) for path in last if re.search(r"\.ko(\.\w+)?$", path)}


def with_dependencies(names: List[str], modules_dep: str) -> Set[str]:
    """Names and all that they need, from modules.dep, which lists them in full. Raises KeyError for one that it doesn't have."""
    table = {}
    for line in modules_dep.splitlines():
        path, _colon, needed = line.partition(":")
        table[bare(path)] = {bare(path), *map(bare, needed.split())}
    return set().union(*(table[name] for name in names))


def _refuse(said: str) -> HotpmemError:
    return HotpmemError(_WHAT, said, _TODO)


class JumpInitrd:
    """For the running release. One file, with a record of what it was made from.

    Of a minimal one: helper, pmem-state; dax, whether the image is on a dax device; early, the paths of what it is to restore itself;
    network, whether it is to have the drivers of the network loaded.
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
        """What it is, for people."""
        return f"a {self.kind.replace('_', '-')} initrd"

    @property
    def release(self) -> str:
        """Of the running kernel."""
        return self.sysfs.get("/proc/sys/kernel/osrelease")

    def ready(self) -> str:
        """Its path when there is one that was made from what is here now, else the empty string."""
        record = self._record()
        same = record.get("initrd") and record["initrd"] == self._identity(INITRD) and record.get("made_of") == self._made_of()
        return INITRD if same else ""

    @property
    def due(self) -> bool:
        """True when build() would make one: nothing was tried yet with what is here now, or what was made is gone."""
        record = self._record()
        return record.get("made_of") != self._made_of() or bool(record.get("initrd") and not self.ready())

    def build(self, again: bool = False) -> Dict[str, Any]:
        """Make it when that is due. Never raises HotpmemError: without it there is the stock one.

        again: try even though the same failed before. Returns changed, initrd (None: the stock one), bytes, stock_bytes, said.
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
        """What it depends on. The stock initrd stands for the configuration and the modules: it is made anew when they change."""
        files = [self.kexec.default(KERNELS), self.kexec.default(INITRDS), f"/lib/modules/{self.release}/modules.dep"]
        made_of = {"kind": self.kind, "release": self.release, "root": self._root()}
        if self.kind == "minimal":
            files.append(self.helper)
            made_of["modules"] = self._pmem_modules()
            made_of["early"], made_of["not_early"] = self._beside
        return {**made_of, "files": [self._identity(name) for name in files]}

    def _identity(self, name: str) -> Dict[str, Any]:
        """Empty when there is no such file."""
        return (self.kexec.identity(name) if name else None) or {}

    def _answer(self, record: Dict[str, Any], changed: bool) -> Dict[str, Any]:
        made = (record.get("initrd") or {}).get("size")
        stock = self._identity(self.kexec.default(INITRDS)).get("size", 0)
        said = f"the jump takes the stock initrd: {record.get('reason')}"
        if made:
            said = f"the jump takes {self.words}, {format_size(made)} instead of {format_size(stock)}"
            not_early = (record.get("made_of") or {}).get("not_early")
            said += f"; the restore waits for its unit: {not_early}" if not_early else ""
        return {"changed": changed, "initrd": INITRD if made else None, "bytes": made, "stock_bytes": stock, "said": said}

    def _make(self) -> None:
        stock = self.kexec.default(INITRDS)
        if not stock:
            raise _refuse("there is no stock initrd of the running release to compare it with")
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
            raise _refuse("/usr is a file system of its own")
        _number, system, place = self._root()
        modules = [*self._root_modules(), *self._pmem_modules()]
        maker = MinimalInitrd(self.sysfs, self.runner, self.helper)
        try:
            data = maker.contents(system, os.path.basename(place), modules, self._beside[0], f"{INITRD}.part")
        except Cannot as error:
            raise _refuse(str(error)) from error
        with open(self.sysfs.path(new), "wb") as file:
            file.write(data)

    @functools.cached_property
    def _beside(self) -> Tuple[List[str], str]:
        """Lines of the plan for what runs beside the start of systemd, and why no restore does; asked once, for systemd has to be asked."""
        network = interfaces(self.sysfs) if self.network else []
        try:
            return [*network, *self.early.plan()], ""
        except Cannot as error:
            return network, str(error)
        except HotpmemError as error:
            return network, error.said

    def _pmem_modules(self) -> List[str]:
        """Those of persistent memory that are loaded: /dev/pmem0, or /dev/dax0.0, is to be there when userspace starts."""
        loaded = self._loaded()
        return [name for name in (*PMEM, *(DAX if self.dax else ())) if name in loaded]

    def _make_host_only(self, new: str, stock: str) -> None:
        needed = self._needed()
        if self.runner.which("mkinitramfs") and self.sysfs.exists(f"{DEBIAN}/initramfs.conf"):
            self._configure()
            argv, lister = ["mkinitramfs", "-d", CONFIGURATION, "-o", new, self.release], "lsinitramfs"
        elif self.runner.which("dracut"):
            argv, lister = ["dracut", "--force", "--hostonly", new, self.release], "lsinitrd"
        else:
            raise _refuse("neither mkinitramfs (with its configuration) nor dracut is there to make it")
        self.runner.check(argv, _WHAT, _TODO, timeout=_PATIENCE)
        self._compare(new, stock)
        self._verify(new, stock, needed, lambda name: self.runner.check([lister, name], _WHAT, _TODO, timeout=_PATIENCE).stdout)

    def _compare(self, new: str, stock: str) -> None:
        """Raises HotpmemError unless it is worth it."""
        sizes = [self._identity(name).get("size", 0) for name in (new, stock)]
        if not sizes[0]:
            raise _refuse("what was made is empty")
        if sizes[0] >= sizes[1]:
            raise _refuse(f"it would be no smaller ({format_size(sizes[0])}; the stock one: {format_size(sizes[1])})")

    def _verify(self, new: str, stock: str, needed: Set[str], listing: Callable[[str], str]) -> None:
        """Raises HotpmemError unless new could start this machine."""
        text = listing(new)
        if not any("init" in line.split() for line in text.splitlines()):
            raise _refuse("what was made has no /init")
        missing = (needed | (modules_in(listing(stock)) & set(PMEM))) - modules_in(text)
        if missing:
            raise _refuse(f"what was made lacks {', '.join(sorted(missing))}, without which this machine would not start")

    def _configure(self) -> None:
        """The stock configuration, but for MODULES. Links: /var may be noexec, and hooks that can't be run are left out silently."""
        folder = self.sysfs.path(CONFIGURATION)
        self._clean()
        os.makedirs(f"{folder}/conf.d", mode=0o700)
        for name in self.sysfs.list(DEBIAN):
            if name != "conf.d":
                os.symlink(self.sysfs.path(f"{DEBIAN}/{name}"), f"{folder}/{name}")
        for path in (self.sysfs.path(f"{DEBIAN}/conf.d/{name}") for name in self.sysfs.list(f"{DEBIAN}/conf.d")):
            if os.path.isfile(path):
                shutil.copy(path, f"{folder}/conf.d/")
        # Read in order, the last one wins.
        with open(f"{folder}/conf.d/zzz-hotpmem", "w", encoding="utf-8") as file:
            file.write("MODULES=dep\n")

    def _clean(self) -> None:
        shutil.rmtree(self.sysfs.path(CONFIGURATION), ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(self.sysfs.path(f"{INITRD}.new"))
        with contextlib.suppress(OSError):
            os.unlink(self.sysfs.path(f"{INITRD}.part"))

    def _root(self) -> List[str]:
        """Device number, file system and directory below /sys/devices of what is mounted at /."""
        found = ["", "", ""]
        for mount in mounted(self.sysfs):
            if mount["target"] == "/":
                link = self.sysfs.path(f"/sys/dev/block/{mount['device']}")
                place = os.path.realpath(link)[len(os.path.realpath(self.sysfs.path("/sys"))) :] if os.path.exists(link) else ""
                found = [mount["device"], mount["type"], place]
        return found

    def _needed(self) -> Set[str]:
        """What it must hold for the root file system. Raises HotpmemError when that can't be told."""
        try:
            return with_dependencies(self._root_modules(), self.sysfs.get(f"/lib/modules/{self.release}/modules.dep"))
        except KeyError as error:
            raise _refuse(f"the driver {error.args[0]} of the root file system is not among the modules of this kernel") from error

    def _root_modules(self) -> List[str]:
        """The modules that hold the root file system: its own, and the drivers from its disk up. Built-in ones are none."""
        _number, system, place = self._root()
        if not place.startswith("/devices/") or place.startswith("/devices/virtual/"):
            raise _refuse("the root file system is on no disk of its own (a network, a volume, or several disks)")
        names = [system]
        while place != "/devices":
            names.append(self.sysfs.link_name(f"/sys{place}/driver/module"))
            place = os.path.dirname(place)
        loaded = self._loaded()
        return [bare(name) for name in names if bare(name) in loaded]

    def _loaded(self) -> Set[str]:
        return {bare(line.split()[0]) for line in self.sysfs.get("/proc/modules").splitlines() if line.strip()}
