# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the initrd of a jump does beside the start of systemd: when it may restore, and which interfaces it knows."""

from __future__ import annotations

import os

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel import early_restore as er
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel import jump_initrd as ji
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel import minimal_initrd as mi
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.early_network import interfaces
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.kexec_load import Kexec
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.minimal_initrd import Cannot
from test_minimal_initrd import Minimal, read_archive

HELPER = "/usr/local/sbin/pmem-state"
ITEM = "/srv/state/cache"
MOUNTS = (
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
    "23 22 0:5 / /proc rw - proc proc rw\n"
    "30 22 0:40 / /srv/state rw,nosuid,nodev - tmpfs tmpfs rw,size=655360k\n"
)
# systemctl cat /srv/state (systemd 252), of a unit with a drop-in.
UNIT = """# /etc/systemd/system/srv-state.mount
[Unit]
Description=State kept in memory
Options=not here

[Mount]
What=tmpfs
Where=/srv/state
Type=tmpfs
Options=size=640M,mode=0755

# /etc/systemd/system/srv-state.mount.d/huge.conf
[Mount]
Options=nofail,size=640M,mode=0755,nosuid,x-systemd.before=x,huge=within_size
"""
# systemctl show of the mount units of every directory on the way: one block each, in the order of the arguments.
ON_THE_WAY = (
    "bin", "etc", "etc-hotpmem", "srv", "usr", "usr-bin", "usr-local", "usr-local-lib", "usr-local-lib-hotpmem", "usr-local-sbin", "var",
    "var-lib", "var-lib-hotpmem",
)  # fmt: skip
ABOVE = "\n".join(f"Id={name}.mount\nLoadState=not-found\n" for name in ON_THE_WAY)
TMPFILES = """# /usr/lib/tmpfiles.d/home.conf
Q /home 0755 - - -
q /srv 0755 - - -
D! /tmp 1777 root root 10d
x /tmp/systemd-private-%b-*
d /srv/state/cache 0700 cache cache -
"""


class Host(Minimal):
    """A host with an item on a tmpfs; answers: what systemctl cat and systemd-tmpfiles --cat-config print."""

    def __init__(self, root, recorder):
        super().__init__(root, recorder)
        self.runner.answers.update(
            {
                "systemctl cat -- /srv/state": (0, UNIT, ""),
                "systemd-tmpfiles --cat-config": (0, TMPFILES, ""),
                "systemctl show --property=NeedDaemonReload": (0, "NeedDaemonReload=no\n", ""),
                "systemctl show --property=Id": (0, ABOVE, ""),
            }
        )
        self.text("/proc/self/mountinfo", MOUNTS)

    def plan(self, *paths):
        return er.EarlyRestore(self.sysfs, self.runner, paths, HELPER).plan()


@pytest.fixture
def host(tmp_path, recorder):
    return Host(tmp_path, recorder)


def test_plan(host):
    assert host.plan(ITEM, "/srv/state/other") == [
        "tmpfs /srv/state size=640M,mode=0755,nosuid,huge=within_size",
        f"restore {HELPER}",
    ]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"paths": ()}, "no items are configured"),
        ({"paths": (ITEM, "/var/cache/x")}, "/var/cache/x is not on a tmpfs"),
        ({"mounts": MOUNTS + "31 22 254:1 / /var rw - ext4 /dev/vdb rw\n"}, "/var/lib/hotpmem is not on the root file system"),
        ({"mounts": MOUNTS.replace("30 22", "29 22 254:2 / /srv rw - ext4 /dev/vdc rw\n30 29")}, "on a directory of the root file system"),
        (
            {"mounts": MOUNTS.replace("30 22", "29 22 0:39 / /srv/state rw - autofs systemd-1 rw\n30 29")},
            "systemd mounts /srv/state on first access",
        ),
        (
            {"above": ABOVE.replace("srv.mount\nLoadState=not-found", "srv.mount\nLoadState=loaded")},
            "srv.mount mounts a file system above an item",
        ),
        ({"reload": "yes"}, "systemctl daemon-reload"),
        ({"unit": (0, UNIT.replace("x-systemd.before=x", "x-systemd.automount"), "")}, "only systemd understands"),
        ({"unit": (1, "", "No files found for srv-state.mount.")}, "/srv/state has no mount unit"),
        ({"unit": (0, UNIT.replace("Type=tmpfs", "Type=ramfs"), "")}, "/srv/state has no mount unit"),
        ({"unit": (0, UNIT.replace("huge=", "size=%t,huge="), "")}, "only systemd understands"),
        ({"unit": (0, UNIT.replace("nofail", "noauto"), "")}, "only systemd understands"),
        (
            {"tmpfiles": (0, TMPFILES.replace("d /srv/state/cache", "D /srv/state/cache"), "")},
            "tmpfiles.d for /srv/state/cache could change",
        ),
        ({"tmpfiles": (1, "", "Unknown option")}, "systemd-tmpfiles --cat-config failed"),
        ({"selinux": "# x\nSELINUX=permissive\n"}, "SELinux must label the restored files"),
    ],
)
def test_why_not(host, change, reason):
    host.text("/proc/self/mountinfo", change.get("mounts", MOUNTS))
    host.text("/etc/selinux/config", change.get("selinux", "SELINUX=disabled\n"))
    host.runner.answers["systemctl cat -- /srv/state"] = change.get("unit", (0, UNIT, ""))
    host.runner.answers["systemd-tmpfiles --cat-config"] = change.get("tmpfiles", (0, TMPFILES, ""))
    host.runner.answers["systemctl show --property=NeedDaemonReload"] = (0, f"NeedDaemonReload={change.get('reload', 'no')}\n", "")
    host.runner.answers["systemctl show --property=Id"] = (0, change.get("above", ABOVE), "")
    with pytest.raises(Cannot, match=reason):
        host.plan(*change.get("paths", (ITEM,)))


@pytest.mark.parametrize(
    "line, touches",
    [
        ("d /srv/state/cache 0700", False),
        ("Q /srv/state 0700", False),
        ("d! /srv/state/cache", False),
        ("D /srv/state/cache", True),
        ("e /srv/state/cache - - - 10d", True),
        ("d /srv/state/cache/sub", True),
        ("f /srv/state/cache/file", True),
        ("R /srv/state/*", True),
        ("r! /srv/sta*/cache/lock", True),
        ("r /srv/state/other", False),
        ("z /srv 0755", False),
        ("Z /srv - - -", True),
        ("A+ /srv - - - - d:u:x:r", True),
        ("L /srv/state/cache - - - - /x", True),
        ("z /srv/state 0755", False),
        ("# D /srv/state/cache", False),
        ("d", False),
        ('D "/srv/state/cache"', True),
        ('D "/srv/state', False),
        ("D %S/x", False),
        ("D %x/state/cache", True),
        ("D /srv/%H", True),
    ],
)
def test_tmpfiles(line, touches):
    assert bool(er.tmpfiles_touch(f"{line}\n", ITEM, "/srv/state")) is touches


def test_tmpfiles_on_run():
    """Paths below /run have no mount unit: tmpfiles.d decides everything on the way."""
    assert er.tmpfiles_touch("L %t/app/cache - - - - /x", "/run/app/cache", "/run") == "%t/app/cache"
    assert er.tmpfiles_touch("z /run/app", "/run/app/cache", "/run") == "/run/app"


def test_an_item_behind_a_symbolic_link(host):
    """The initrd would make a directory in its place: nothing has made the link yet."""
    os.makedirs(host.sysfs.path("/srv/state/there"))
    os.symlink("there", host.sysfs.path("/srv/state/link"))
    with pytest.raises(Cannot, match="a symbolic link on the way to /srv/state/link/cache leads to /srv/state/there/cache"):
        host.plan("/srv/state/link/cache")
    os.symlink("state", host.sysfs.path("/srv/alias"))
    with pytest.raises(Cannot, match="a symbolic link on the way to /srv/alias/cache leads to /srv/state/cache"):
        host.plan("/srv/alias/cache")


def test_what_is_looked_at_above(host):
    host.plan(ITEM)
    (asked,) = [call for call in host.runner.calls if call[:3] == ["systemctl", "show", "--property=Id"]]
    assert {"/srv", "/etc", "/etc/hotpmem", "/var", "/var/lib", "/var/lib/hotpmem", "/usr/local/sbin"} < set(asked)
    assert not {"/srv/state", "/", ""} & set(asked)


def test_interfaces(host):
    for name, device in (("eno1", "pci0000:00/0000:00:1f.6"), ("p0", "pci0000:00/0000:01:00.0"), ("p1", "pci0000:00/0000:01:00.0")):
        path = host.sysfs.path(f"/sys/devices/{device}/net/{name}")
        os.makedirs(path)
        os.symlink("../..", f"{path}/device")
        host.link(f"/sys/class/net/{name}", os.path.relpath(path, host.sysfs.path("/sys/class/net")))
        if not os.path.lexists(f"{path}/device/driver"):
            os.makedirs(host.sysfs.path("/sys/module/e1000e"), exist_ok=True)
            os.makedirs(f"{path}/device/driver")
            os.symlink(host.sysfs.path("/sys/module/e1000e"), f"{path}/device/driver/module")
    os.makedirs(host.sysfs.path("/sys/class/net/lo"))
    # Two interfaces of one device can't be told apart by it.
    assert interfaces(host.sysfs) == ["interface e1000e eno1 pci0000:00/0000:00:1f.6"]


def test_what_the_initrd_is_told(host):
    def initrd(*paths):
        return ji.JumpInitrd(host.sysfs, host.runner, Kexec(host.sysfs, host.runner), "minimal", early=paths)

    def plan_of(made):
        with open(made.sysfs.path(ji.INITRD), "rb") as file:
            return read_archive(file.read())["plan"][1].decode().splitlines()

    made = initrd(ITEM)
    assert made.build()["said"].endswith("KiB")
    plan = plan_of(made)
    # What the restore alone needs does not hold up the root file system.
    assert [line.split()[0] for line in plan[:7]] == ["module"] * 5 + ["later"] * 2
    assert plan[4:7] == ["module 04-virtio_pci.ko", "later 05-libnvdimm.ko", "later 06-nd_pmem.ko"]
    assert plan[-2:] == ["tmpfs /srv/state size=640M,mode=0755,nosuid,huge=within_size", f"restore {HELPER}"]
    assert made.ready() and initrd(ITEM).ready()
    # Made again when the mount is another one; and for items that are not for it, one that leaves them to their unit.
    host.runner.answers["systemctl cat -- /srv/state"] = (0, UNIT.replace("640M", "1G"), "")
    assert initrd(ITEM).ready() == ""
    assert (
        "hotpmem-restore.service restores the items, because the initrd can't: /var/x is not on a tmpfs" in initrd("/var/x").build()["said"]
    )
    assert plan_of(made)[5:7] == ["module 05-libnvdimm.ko", "module 06-nd_pmem.ko"]


def test_more_modules_than_the_initrd_can_keep_for_later(host, monkeypatch):
    monkeypatch.setattr(mi, "MAX_LATER", 1)
    made = ji.JumpInitrd(host.sysfs, host.runner, Kexec(host.sysfs, host.runner), "minimal", early=[ITEM])
    made.build()
    with open(host.sysfs.path(ji.INITRD), "rb") as file:
        plan = read_archive(file.read())["plan"][1].decode().splitlines()
    assert [line.split()[0] for line in plan[:7]] == ["module"] * 7 and plan[-1] == f"restore {HELPER}"
