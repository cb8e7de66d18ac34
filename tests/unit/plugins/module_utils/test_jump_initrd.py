# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The initrd of the jump: made once, only used when it could start the machine, and otherwise the stock one with the reason said."""

from __future__ import annotations

import os

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel import jump_initrd as ji
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.kexec_load import Kexec

RELEASE = "6.1.0-1-amd64"
STOCK = f"/boot/initrd.img-{RELEASE}"
DISK = "/sys/devices/pci0000:00/0000:00:03.0/virtio1"
MODULES_DEP = """\
kernel/fs/ext4/ext4.ko: kernel/fs/mbcache.ko kernel/fs/jbd2/jbd2.ko
kernel/fs/mbcache.ko:
kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko.xz
kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio.ko.xz
kernel/drivers/nvdimm/nd_pmem.ko: kernel/drivers/nvdimm/libnvdimm.ko
"""
NEEDED = ["ext4", "mbcache", "jbd2", "virtio-blk", "virtio", "virtio_pci"]


def listing(names):
    return "\n".join(["init", "usr/bin/sh", *(f"usr/lib/modules/{RELEASE}/kernel/{name}.ko.xz" for name in names)])


class Host:
    """A machine with its root on a virtio disk. The maker writes `size` bytes; the lister answers from `made` and `stock`."""

    def __init__(self, root, recorder):
        self.sysfs = Sysfs(str(root))
        self.size, self.made, self.stock = 4, listing([*NEEDED, "nd_pmem"]), listing([*NEEDED, "nd_pmem", "e1000"])
        self.configured = None
        self.runner = recorder({"mkinitramfs": self._make, "lsinitramfs": self._list, "dracut": self._make, "lsinitrd": self._list})
        self.text("/proc/sys/kernel/osrelease", RELEASE)
        self.text("/proc/self/mountinfo", "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n23 22 0:5 / /proc rw - proc proc rw\n")
        self.text("/proc/modules", "".join(f"{name} 1 0 - Live 0x0\n" for name in ("ext4", "jbd2", "virtio_blk", "virtio_pci")))
        self.text(f"/lib/modules/{RELEASE}/modules.dep", MODULES_DEP)
        self.text(f"/boot/vmlinuz-{RELEASE}", "kernel")
        self.text(STOCK, "stock initrd")
        self.text("/etc/initramfs-tools/initramfs.conf", "MODULES=most")
        self.text("/etc/initramfs-tools/conf.d/local", "RESUME=none")
        self.text("/etc/initramfs-tools/hooks/ours", "#!/bin/sh")
        self.text(f"{DISK}/block/vda/dev", "254:0")
        self.link("/sys/dev/block/254:0", "../../devices/pci0000:00/0000:00:03.0/virtio1/block/vda")
        for place, module in ((DISK, "virtio_blk"), (os.path.dirname(DISK), "virtio_pci"), ("/sys/devices/pci0000:00", "builtin")):
            self.text(f"{place}/driver/unbind", "")
            self.link(f"{place}/driver/module", f"../../../module/{module}")
        os.makedirs(self.sysfs.path("/var/lib/hotpmem"))

    def text(self, name, text):
        os.makedirs(os.path.dirname(self.sysfs.path(name)), exist_ok=True)
        with open(self.sysfs.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def link(self, name, target):
        os.makedirs(os.path.dirname(self.sysfs.path(name)), exist_ok=True)
        os.symlink(target, self.sysfs.path(name))

    def _make(self):
        self.text(f"{ji.INITRD}.new", "i" * self.size)
        configuration = self.sysfs.path(ji.CONFIGURATION)
        if os.path.isdir(configuration):
            self.configured = {
                name: self.sysfs.get(f"{ji.CONFIGURATION}/{name}")
                for name in ("initramfs.conf", "hooks/ours", "conf.d/local", "conf.d/zzz-hotpmem")
            }
        return 0, "", ""

    def _list(self):
        return 0, self.stock if self.runner.calls[-1][-1] == STOCK else self.made, ""

    @property
    def makes(self):
        return [call for call in self.runner.calls if call[0] in ("mkinitramfs", "dracut")]

    @property
    def initrd(self):
        return ji.JumpInitrd(self.sysfs, self.runner, Kexec(self.sysfs, self.runner))


@pytest.fixture
def host(tmp_path, recorder):
    return Host(tmp_path, recorder)


def left_over(host):
    return [name for name in host.sysfs.list("/var/lib/hotpmem") if name not in ("jump-initrd", "jump-initrd.json")]


def test_made_once_with_the_stock_configuration_but_for_modules(host):
    assert (host.initrd.ready(), host.initrd.due) == ("", True)
    made = host.initrd.build()
    assert host.makes == [["mkinitramfs", "-d", ji.CONFIGURATION, "-o", f"{ji.INITRD}.new", RELEASE]]
    assert host.configured == {
        "initramfs.conf": "MODULES=most",
        "hooks/ours": "#!/bin/sh",
        "conf.d/local": "RESUME=none",
        "conf.d/zzz-hotpmem": "MODULES=dep",
    }
    assert (made["changed"], made["initrd"], made["bytes"], made["stock_bytes"]) == (True, ji.INITRD, 4, 12)
    assert made["said"] == "the jump uses a host-only initrd of 4 B instead of the stock initrd of 12 B"
    assert host.initrd.ready() == ji.INITRD and left_over(host) == []
    again = host.initrd.build(again=True)
    assert (again["changed"], again["initrd"], len(host.makes)) == (False, ji.INITRD, 1)
    # Nothing of the stock one was touched.
    assert host.sysfs.read(STOCK) == "stock initrd"
    assert host.sysfs.list("/etc/initramfs-tools/conf.d") == ["local"]


@pytest.mark.parametrize(
    "name", [STOCK, f"/boot/vmlinuz-{RELEASE}", f"/lib/modules/{RELEASE}/modules.dep", "/proc/self/mountinfo", ji.INITRD]
)
def test_made_again_when_what_it_depends_on_has_changed(host, name):
    host.initrd.build()
    host.text(name, host.sysfs.read(name).replace("relatime", "noatime").replace("ext4 /dev/vda", "ext3 /dev/vda") + "\n\n")
    assert (host.initrd.ready(), host.initrd.due) == ("", True)
    assert host.initrd.build()["changed"] and len(host.makes) == 2
    assert host.initrd.ready() == ji.INITRD


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"size": 0}, "empty"),
        ({"size": 12}, "not smaller"),
        ({"made": listing([name for name in NEEDED if name != "jbd2"] + ["nd_pmem"])}, "lacks jbd2,"),
        ({"made": listing(NEEDED)}, "lacks nd_pmem,"),
        ({"made": "etc\n" + "\n".join(listing([*NEEDED, "nd_pmem"]).splitlines()[1:])}, "no /init"),
        ({"made": ""}, "no /init"),
    ],
)
def test_what_could_not_start_the_machine_is_not_used(host, change, reason):
    for name, value in change.items():
        setattr(host, name, value)
    made = host.initrd.build()
    assert made["initrd"] is None and reason in made["said"] and made["said"].startswith("the jump uses the stock initrd")
    assert (host.initrd.ready(), host.initrd.due, left_over(host)) == ("", False, [])
    assert not host.sysfs.exists(ji.INITRD)
    # Not tried again in each handoff, but when somebody asks for it.
    assert host.initrd.build()["changed"] is False and len(host.makes) == 1
    assert host.initrd.build(again=True)["changed"] is False and len(host.makes) == 2


@pytest.mark.parametrize(
    "name, text, reason",
    [
        ("/proc/self/mountinfo", "22 1 0:21 / / rw - btrfs /dev/vda rw", "not on a single disk"),
        ("/proc/self/mountinfo", "22 1 0:21 / / rw - nfs4 server:/root rw", "not on a single disk"),
        ("/proc/self/mountinfo", "", "not on a single disk"),
        ("/proc/modules", "ext4 1 0 - Live 0x0\nvirtio_blk 1 0\nvendor 1 0\n", None),
        (f"/lib/modules/{RELEASE}/modules.dep", "kernel/fs/ext4/ext4.ko:\n", "driver virtio_blk of the root file system"),
        (STOCK, None, "no stock initrd"),
    ],
)
def test_what_can_not_be_told_is_not_risked(host, name, text, reason):
    if text is None:
        os.unlink(host.sysfs.path(name))
    else:
        host.text(name, text)
    made = host.initrd.build()
    if reason is None:
        assert made["initrd"]
    else:
        assert made["initrd"] is None and reason in made["said"] and host.makes == []


def test_a_root_on_a_volume(host):
    os.unlink(host.sysfs.path("/sys/dev/block/254:0"))
    host.text("/sys/devices/virtual/block/dm-0/dev", "254:0")
    host.link("/sys/dev/block/254:0", "../../devices/virtual/block/dm-0")
    assert "a volume" in host.initrd.build()["said"]


def test_dracut(host):
    os.unlink(host.sysfs.path("/etc/initramfs-tools/initramfs.conf"))
    rows = [f"-rw-r--r--   1 root     root     1000 Jan  1  1970 usr/lib/modules/{RELEASE}/kernel/{name}.ko.xz" for name in NEEDED]
    rows.append("lrwxrwxrwx   1 root     root           23 Jan  1  1970 init -> usr/lib/systemd/systemd")
    host.made = host.stock = "\n".join(rows)
    assert host.initrd.build()["initrd"] == ji.INITRD
    assert host.makes == [["dracut", "--force", "--hostonly", f"{ji.INITRD}.new", RELEASE]]


@pytest.mark.parametrize("program", ["mkinitramfs", "lsinitramfs"])
def test_a_program_that_fails_is_not_believed(host, program):
    """Although it left a file that would do."""
    real = host.runner.answers[program]
    host.runner.answers[program] = lambda: (1, real()[1], "no space left")
    made = host.initrd.build()
    assert made["initrd"] is None and f"{program} exited with code 1: no space left" in made["said"] and left_over(host) == []


def test_no_program_makes_one(host):
    host.runner.answers = dict.fromkeys(("mkinitramfs", "dracut"), host.runner.NOT_INSTALLED)
    assert "neither mkinitramfs" in host.initrd.build()["said"]


def test_the_handoff_makes_it_and_loads_it(machine):
    one, engine, build = machine
    calls = []
    handoff = build(kernel="", initrd="", jump_initrd="host_only")
    engine.jump_initrd.ready = lambda: "/boot/initrd" if calls else ""
    engine.jump_initrd.build = lambda: calls.append(1) or {"said": "the jump uses a host-only initrd"}
    release = one.fake.get("/proc/sys/kernel/osrelease")
    for name in (f"vmlinuz-{release}", f"initrd.img-{release}"):
        with open(one.fake.path(f"/boot/{name}"), "w", encoding="utf-8") as file:
            file.write("x")
    lines = []
    handoff.say = lines.append
    assert handoff.plan()[:2] == ["make a host-only initrd", f"load /boot/vmlinuz-{release} with /boot/initrd.img-{release}"]
    handoff.run()
    assert calls == [1] and "the jump uses a host-only initrd" in lines
    assert any(act.startswith(f"kexec -s -l /boot/vmlinuz-{release} --initrd=/boot/initrd ") for act in one.acts)


def test_who_names_an_initrd_gets_it(machine):
    _one, engine, build = machine
    engine.jump_initrd.build = engine.jump_initrd.ready = None
    assert not build(jump_initrd="host_only").settings.own_initrd
    assert build(jump_initrd="host_only").target().initrd == "/boot/initrd"
