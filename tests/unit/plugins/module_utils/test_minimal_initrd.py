# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The minimal initrd: what the archive holds, and when it is not built."""

from __future__ import annotations

import lzma
import os
import shutil

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel import jump_initrd as ji
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel import minimal_initrd as mi
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.kexec_load import Kexec
from test_jump_initrd import RELEASE, Host
from test_module_signature import module_signature

UUID = bytes(range(16))
MODULES = f"/lib/modules/{RELEASE}/kernel"
LOAD_KEYS = "install /usr/bin/ndctl load-keys ; /sbin/modprobe --ignore-install libnvdimm $CMDLINE_OPTS"
# What modprobe --ignore-install --show-depends prints (kmod 30), by module.
DEPENDS = {
    "ext4": f"insmod {MODULES}/fs/mbcache.ko \ninsmod {MODULES}/fs/ext4/ext4.ko \n",
    "virtio_blk": f"insmod {MODULES}/virtio.ko.xz \ninsmod {MODULES}/virtio_blk.ko.xz num_request_queues=1 queue_depth=64\n",
    "virtio_pci": f"insmod {MODULES}/virtio.ko.xz \ninsmod {MODULES}/virtio_pci.ko.xz \n",
    "libnvdimm": f"insmod {MODULES}/libnvdimm.ko \n",
    "nd_pmem": f"builtin nd_btt\n{LOAD_KEYS}\ninsmod {MODULES}/nd_pmem.ko \n",
}
# Of a module that is no driver of the root file system.
HASH = {"sha512_ssse3": f"insmod {MODULES}/sha512_generic.ko \ninsmod {MODULES}/sha512-ssse3.ko \n"}


def superblock(system="ext4", uuid=UUID):
    """The start of a device with such a file system."""
    start = bytearray(4096)
    if system == "xfs":
        start[0:4], start[32:48] = b"XFSB", uuid
    else:
        start[1024 + 0x38 : 1024 + 0x3A], start[1024 + 0x68 : 1024 + 0x78] = b"\x53\xef", uuid
    return bytes(start)


def read_archive(data):
    """name -> (mode, content) of a newc archive, read by its description rather than by what wrote it."""
    found, at = {}, 0
    while True:
        assert data[at : at + 6] == b"070701" and at % 4 == 0
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        begin = (at + 110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, data[begin : begin + size] or (fields[9], fields[10]))
        at = (begin + size + 3) // 4 * 4


class Minimal(Host):
    """A host whose jump uses a minimal initrd."""

    def __init__(self, root, recorder):
        super().__init__(root, recorder)
        self.runner.answers["modprobe"] = lambda: (0, {**DEPENDS, **HASH}[self.runner.calls[-1][-1]], "")
        self.text("/proc/modules", "".join(f"{name} 1 0 - Live 0x0\n" for name in [*DEPENDS, "mbcache", "dax_pmem"]))
        self.text(self.stock_name, "s" * 100_000)
        self.data("/dev/vda", superblock())
        self.data("/dev/vdb", superblock(uuid=bytes(16)))
        self.data("/usr/local/sbin/pmem-state", b"helper")
        for name in ("vda", "vdb"):
            self.text(f"/sys/class/block/{name}/dev", "x")
        for text in (*DEPENDS.values(), *HASH.values()):
            for module in mi.insmods(text, ["libnvdimm"]):
                content = os.path.basename(module.path).encode()
                self.data(module.path, lzma.compress(content) if module.path.endswith(".xz") else content)

    stock_name = f"/boot/initrd.img-{RELEASE}"

    def data(self, name, data):
        os.makedirs(os.path.dirname(self.sysfs.path(name)), exist_ok=True)
        with open(self.sysfs.path(name), "wb") as file:
            file.write(data)

    @property
    def initrd(self):
        return ji.JumpInitrd(self.sysfs, self.runner, Kexec(self.sysfs, self.runner), "minimal")


@pytest.fixture
def host(tmp_path, recorder):
    return Minimal(tmp_path, recorder)


def test_what_is_in_it(host):
    made = host.initrd.build()
    assert made["said"].startswith("the jump uses a minimal initrd of ") and host.initrd.ready() == ji.INITRD
    with open(host.sysfs.path(ji.INITRD), "rb") as file:
        found = read_archive(file.read())
    assert os.stat(host.sysfs.path(ji.INITRD)).st_mode & 0o777 == 0o600
    assert found["init"] == (0o100755, b"helper") and found["dev/console"] == (0o020600, (5, 1))
    assert [name for name, (mode, _content) in found.items() if mode == 0o040755] == ["dev", "proc", "sys", "root", "modules"]
    # The root file system's, then the drivers from its disk up, then persistent memory; what comes twice, once.
    assert found["plan"][1].decode().splitlines() == [
        "module 00-mbcache.ko",
        "module 01-ext4.ko",
        "module 02-virtio.ko",
        "module 03-virtio_blk.ko num_request_queues=1 queue_depth=64",
        "module 04-virtio_pci.ko",
        "module 05-libnvdimm.ko",
        "module 06-nd_pmem.ko",
        f"root ext4 {UUID.hex()}",
    ]
    # Unpacked: finit_module takes no other.
    assert found["modules/03-virtio_blk.ko"] == (0o100644, b"virtio_blk.ko.xz")
    assert sorted(name for name in host.sysfs.list("/var/lib/hotpmem")) == ["jump-initrd", "jump-initrd.json"]
    assert host.initrd.build()["changed"] is False


def plan(host):
    with open(host.sysfs.path(ji.INITRD), "rb") as file:
        return read_archive(file.read())["plan"][1].decode().splitlines()


def test_what_computes_the_hash_of_signatures_comes_first(host):
    """Only when the modules are signed with that hash, and when the CPU is known to have it, because it is loaded now."""
    first = ["module 00-sha512_generic.ko", "module 01-sha512-ssse3.ko", "module 02-mbcache.ko"]
    host.data(f"{MODULES}/nd_pmem.ko", module_signature("sha512"))
    host.initrd.build()
    assert plan(host)[0] == "module 00-mbcache.ko"
    host.text("/proc/modules", host.sysfs.read("/proc/modules") + "\nsha512_ssse3 1 0 - Live 0x0\nsha512_generic 1 1 - Live 0x0\n")
    assert host.initrd.build()["changed"] and plan(host)[:3] == first
    assert "module 08-nd_pmem.ko" in plan(host) and host.initrd.build()["changed"] is False
    host.data(f"{MODULES}/nd_pmem.ko", module_signature("sha256"))
    host.text(Minimal.stock_name, "s" * 100_001)
    assert host.initrd.build()["changed"] and plan(host)[0] == "module 00-mbcache.ko"


def test_each_module_is_unpacked_once(host):
    def unzstd():
        target, source = host.runner.calls[-1][-2:]
        shutil.copy(source, target)
        return 0, "", ""

    packed = {"nd_pmem": DEPENDS["nd_pmem"].replace("nd_pmem.ko", "nd_pmem.ko.zst")}
    host.runner.answers["modprobe"] = lambda: (0, {**DEPENDS, **packed}[host.runner.calls[-1][-1]], "")
    host.runner.answers["zstd"] = unzstd
    host.data(f"{MODULES}/nd_pmem.ko.zst", module_signature("sha512"))
    assert host.initrd.build()["changed"] and "module 06-nd_pmem.ko" in plan(host)
    assert [argv[0] for argv in host.runner.calls].count("zstd") == 1


@pytest.mark.parametrize("name", [Minimal.stock_name, "/usr/local/sbin/pmem-state", "/proc/modules"])
def test_made_again_when_what_it_depends_on_has_changed(host, name):
    host.initrd.build()
    host.text(name, host.sysfs.read(name).replace("nd_pmem 1", "other 1") + "\n\n")
    assert (host.initrd.ready(), host.initrd.due) == ("", True)
    assert host.initrd.build()["changed"]


def test_a_copy_of_the_disk_that_comes_later(host):
    """The /init could not tell the two apart, and would reboot the machine through its firmware."""

    def known(name, number, uuid):
        host.text(f"/sys/class/block/{name}/dev", number)
        host.text(f"/run/udev/data/b{number}", f"S:disk/by-uuid/{uuid}\nE:ID_FS_UUID={uuid}\nE:ID_FS_UUID_ENC={uuid}\n")

    number = host.initrd._root()[0]
    known("vda", number, "a-a")
    known("vdb", "254:99", "b-b")
    host.initrd.build()
    assert host.initrd.ready() and not host.initrd.due
    known("vdb", "254:99", "a-a")
    host.data("/dev/vdb", superblock())
    assert not host.initrd.ready() and host.initrd.due
    assert "/dev/vdb holds a file system with the same UUID" in host.initrd.build()["said"] and not host.initrd.due
    known("vdb", "254:99", "b-b")
    host.data("/dev/vdb", superblock(uuid=bytes(16)))
    assert host.initrd.due and host.initrd.build()["initrd"] and host.initrd.ready()
    # The root file system gets another UUID (tune2fs -U).
    known("vda", number, "c-c")
    assert not host.initrd.ready() and host.initrd.due


def test_on_the_dax_road_it_has_its_drivers(host):
    one = ji.JumpInitrd(host.sysfs, host.runner, Kexec(host.sysfs, host.runner), "minimal", dax=True)
    assert one._pmem_modules() == ["libnvdimm", "nd_pmem", "dax_pmem"] and "dax_pmem" not in host.initrd._pmem_modules()


@pytest.mark.parametrize("finder", ["nfit", "of_pmem", "virtio_pmem"])
def test_of_what_finds_persistent_memory_it_has_what_found_this_one(host, finder):
    """Others are loaded as well, because a list of drivers names them all."""
    modules = ("nfit", "of_pmem", "virtio_pmem")
    host.text("/proc/modules", host.sysfs.read("/proc/modules") + "".join(f"\n{name} 1 0 - Live 0x0" for name in modules))
    assert host.initrd._pmem_modules() == ["libnvdimm", "nfit", "of_pmem", "nd_pmem"]
    host.text("/sys/devices/platform/found/ndbus0/uevent", "")
    host.link("/sys/bus/nd/devices/ndbus0", "../../../devices/platform/found/ndbus0")
    host.text("/sys/devices/platform/found/driver/unbind", "")
    host.link("/sys/devices/platform/found/driver/module", f"../../../../module/{finder}")
    assert host.initrd._pmem_modules() == ["libnvdimm", finder, "nd_pmem"]


def test_the_driver_of_an_acpi_device_has_no_link_to_its_module(host):
    """Before kernel 6.10."""
    host.text("/proc/modules", host.sysfs.read("/proc/modules") + "\nnfit 1 0 - Live 0x0\nof_pmem 1 0 - Live 0x0\n")
    host.text("/sys/devices/LNXSYSTM:00/ACPI0012:00/ndbus0/uevent", "")
    host.link("/sys/bus/nd/devices/ndbus0", "../../../devices/LNXSYSTM:00/ACPI0012:00/ndbus0")
    host.text("/sys/bus/acpi/drivers/nfit/unbind", "")
    host.link("/sys/devices/LNXSYSTM:00/ACPI0012:00/driver", "../../../bus/acpi/drivers/nfit")
    assert host.initrd._pmem_modules() == ["libnvdimm", "nfit", "nd_pmem"]


def test_one_kind_does_not_pass_for_the_other(host):
    host.initrd.build()
    assert ji.JumpInitrd(host.sysfs, host.runner, Kexec(host.sysfs, host.runner), "host_only").ready() == ""


MOUNTS = "22 1 254:0 / / rw - {0} /dev/vda rw\n"


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("/dev/vda", superblock(uuid=bytes(16)), "has no ext4 file system with a UUID"),
        ("/dev/vda", superblock("xfs"), "has no ext4 file system with a UUID"),
        ("/dev/vdb", superblock(), "/dev/vdb holds a file system with the same UUID as the root file system"),
        ("/proc/self/mountinfo", MOUNTS.format("btrfs").encode(), "the root file system is btrfs"),
        (
            "/proc/self/mountinfo",
            (MOUNTS.format("ext4") + "23 22 254:1 / /usr rw - ext4 /dev/vdb rw\n").encode(),
            "/usr is a separate file system",
        ),
        (Minimal.stock_name, b"small", "not smaller"),
    ],
)
def test_when_there_is_none(host, name, content, reason):
    host.data(name, content)
    made = host.initrd.build()
    assert made["initrd"] is None and reason in made["said"] and made["said"].startswith("the jump uses the stock initrd")
    assert host.sysfs.list("/var/lib/hotpmem") == ["jump-initrd.json"]


def test_a_command_of_modprobe_d_is_not_guessed(host):
    host.runner.answers["modprobe"] = (0, f"install /bin/setup; modprobe --ignore-install virtio_blk\n{LOAD_KEYS}\n", "")
    assert "loads a module with a command (/bin/setup" in host.initrd.build()["said"]


def test_a_module_that_would_not_be_loaded(host):
    host.runner.answers["modprobe"] = (0, DEPENDS["ext4"], "")
    assert "modprobe does not show how to load libnvdimm, nd_pmem, virtio_blk, virtio_pci" in host.initrd.build()["said"]


@pytest.mark.parametrize("system", ["ext2", "ext3", "ext4", "xfs"])
def test_uuids(system):
    assert mi.uuid_in(superblock(system), system) == UUID
    assert mi.uuid_in(superblock("xfs" if system != "xfs" else "ext4"), system) == b""
    assert mi.uuid_in(b"", system) == b""
    assert mi.uuid_in(superblock(system), "btrfs") == b""


def test_another_command_line_has_the_stock_initrd(machine):
    _one, _engine, build = machine
    assert build(kernel="", initrd="", jump_initrd="minimal").settings.own_initrd
    assert not build(kernel="", initrd="", jump_initrd="minimal", command_line="root=/dev/vdb").settings.own_initrd
    assert build(kernel="", initrd="", jump_initrd="host_only", command_line="root=/dev/vdb").settings.own_initrd
