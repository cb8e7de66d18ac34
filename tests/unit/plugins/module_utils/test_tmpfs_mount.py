# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mount of a tmpfs, on real mounts of this machine. Only systemd has a stand-in, which mounts what the unit says."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Completed, Runner
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs, mounted
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.tmpfs_mount import TmpfsMount, Wanted
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.early_restore import kernel_options, mount_section

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")
MIB = 1 << 20


class Systemd:
    """Answers systemctl for units in a directory, and runs everything else."""

    def __init__(self, units: Path) -> None:
        self.units, self.calls, self.fragment, self.stale = units, [], "", False
        self.real = Runner()

    check = Runner.check

    def run(self, argv, timeout=None, on_line=None):
        if argv[0] != "systemctl":
            self.calls.append(" ".join(argv[:3]))
            return self.real.run(argv, timeout=timeout)
        file = self.units / argv[-1]
        out = ""
        if argv[1] == "show":
            own = str(file) if file.exists() else ""
            out = f"FragmentPath={self.fragment or own}\nNeedDaemonReload={'yes' if self.stale else 'no'}\n"
        else:
            self.calls.append(argv[1])
        if argv[1] == "enable":
            (self.units / "local-fs.target.wants").mkdir()
            (self.units / "local-fs.target.wants" / argv[-1]).symlink_to(file)
        elif argv[1] == "start":
            keys = mount_section(file.read_text())
            os.makedirs(keys["Where"], exist_ok=True)
            subprocess.run(["mount", "-t", keys["Type"], "-o", kernel_options(keys["Options"]), keys["What"], keys["Where"]], check=True)
        elif argv[1] == "daemon-reload":
            self.stale = False
        return Completed(tuple(argv), 0, out, "")


@pytest.fixture
def host(tmp_path):
    """(TmpfsMount, the stand-in of systemd, what is wanted)."""
    units = tmp_path / "units"
    units.mkdir()
    systemd = Systemd(units)
    wanted = Wanted(str(tmp_path / "state"), 8 * MIB, "within_size", 0o700, 0, 0)
    yield TmpfsMount(Sysfs(), systemd, lambda path, text: Path(path).write_text(text) and None, str(units)), systemd, wanted
    while any(mount["target"] == wanted.path for mount in mounted(Sysfs())):
        subprocess.run(["umount", wanted.path], check=True)


def four_steps(mount, systemd, wanted):
    """Check, do, do again, check again. Returns what was done."""
    before = len(systemd.calls)
    foreseen = mount.plan(wanted)
    assert len(systemd.calls) == before
    done = mount.plan(wanted)
    assert done.changes == foreseen.changes
    mount.apply(done)
    for _round in range(2):
        again = mount.plan(wanted)
        assert again.changes == [] and again.before == again.after == done.after
        mount.apply(again)
    return done.changes


def shown(path):
    """The options that the kernel shows."""
    return next(mount["options"] for mount in mounted(Sysfs()) if mount["target"] == path).split(",")


def test_a_new_mount(host):
    mount, systemd, wanted = host
    wanted = dataclasses.replace(wanted, mode=0o750, uid=12, gid=34)
    changes = four_steps(mount, systemd, wanted)
    assert [one.split(" ")[0] for one in changes] == ["write", "make", "enable", "mount"]
    assert systemd.calls == ["daemon-reload", "enable", "start"]
    found, room = os.stat(wanted.path), os.statvfs(wanted.path)
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid, room.f_blocks * room.f_frsize) == (0o750, 12, 34, 8 * MIB)
    assert "huge=within_size" in shown(wanted.path)


def test_by_default_only_root_gets_in(host):
    mount, systemd, wanted = host
    four_steps(mount, systemd, wanted)
    assert os.stat(wanted.path).st_mode & 0o7777 == 0o700


def test_a_remount_keeps_the_files(host):
    mount, systemd, wanted = host
    four_steps(mount, systemd, dataclasses.replace(wanted, huge="never"))
    file = Path(wanted.path) / "deep" / "file"
    file.parent.mkdir()
    data = os.urandom(3 * MIB + 17)
    file.write_bytes(data)
    before = written(file)
    changed = dataclasses.replace(wanted, size=16 * MIB, huge="within_size", mode=0o711, gid=5)
    changes = four_steps(mount, systemd, changed)
    assert [one.split(" ")[0] for one in changes] == ["remount", "change", "change", "write", "make"]
    assert file.read_bytes() == data and written(file) == before
    room = os.statvfs(wanted.path)
    assert room.f_blocks * room.f_frsize == 16 * MIB and "huge=within_size" in shown(wanted.path)
    assert os.stat(wanted.path).st_mode & 0o7777 == 0o711 and os.stat(wanted.path).st_gid == 5
    assert len([one for one in mounted(Sysfs()) if one["target"] == wanted.path]) == 1
    # Smaller, but large enough for what is there.
    assert len(four_steps(mount, systemd, dataclasses.replace(changed, size=4 * MIB))) == 3
    assert file.read_bytes() == data


def written(path):
    """What a read does not change."""
    found = path.stat()
    return found.st_ino, found.st_mode, found.st_size, found.st_blocks, found.st_mtime_ns, found.st_ctime_ns


def refused(host, wanted, said):
    """The plan is refused, and nothing was done."""
    mount, systemd, _wanted = host
    before = list(systemd.calls), sorted(os.listdir(systemd.units))
    with pytest.raises(HotpmemError, match=said) as caught:
        mount.plan(wanted)
    assert "Nothing was changed" in str(caught.value)
    assert (list(systemd.calls), sorted(os.listdir(systemd.units))) == before


def test_a_size_that_the_files_exceed(host):
    mount, systemd, wanted = host
    four_steps(mount, systemd, wanted)
    (Path(wanted.path) / "f").write_bytes(bytes(3 * MIB))
    refused(host, dataclasses.replace(wanted, size=2 * MIB), "its files use 3 MiB, and the size would be 2 MiB")


def test_a_mount_of_somebody_else(host):
    _mount, systemd, wanted = host
    os.mkdir(wanted.path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", wanted.path], check=True)
    refused(host, wanted, "a file system of type tmpfs is mounted there, and not by this role")
    (systemd.units / wanted.unit).write_text("[Mount]\nWhat=tmpfs\n")
    refused(host, wanted, "mounts it already, and it is not of this role")


def test_a_line_in_fstab(host):
    _mount, systemd, wanted = host
    systemd.fragment = f"/run/systemd/generator/{wanted.unit}"
    refused(host, wanted, r"/run/systemd/generator/.*\.mount mounts it already")


def test_another_file_system_in_our_place(host):
    mount, systemd, wanted = host
    four_steps(mount, systemd, wanted)
    subprocess.run(["umount", wanted.path], check=True)
    subprocess.run(["mount", "-t", "ramfs", "ramfs", wanted.path], check=True)
    refused(host, wanted, "a file system of type ramfs is mounted there")


def test_a_directory_that_has_entries(host):
    _mount, _systemd, wanted = host
    os.mkdir(wanted.path)
    (Path(wanted.path) / "kept").write_text("x")
    refused(host, wanted, "the directory has 1 entries, such as kept, which the mount would hide")


def test_a_file_in_its_place(host):
    Path(host[2].path).write_text("x")
    refused(host, host[2], "this is not a directory")


def test_a_symbolic_link_on_the_way(host):
    _mount, _systemd, wanted = host
    os.symlink("/var", wanted.path)
    refused(host, dataclasses.replace(wanted, path=wanted.path + "/x"), "a symbolic link leads to /var/x")


@pytest.mark.parametrize(
    "path", ["relative", "/", "/srv/", "/srv/../x", "/srv/a b", "/srv/%t", '/srv/"', "/srv/a\\b", "/srv/a\nb", "/srv/.x"]
)
def test_a_path_that_cannot_be_used(host, path):
    said = "a path is absolute, without a slash at its end. Its parts have only letters, digits and . _ : @ [+] -, and do not begin"
    refused(host, dataclasses.replace(host[2], path=path), said)


def test_a_mount_that_was_given_up_halfway(host):
    """The unit is there and says what is wanted, but systemd has not read it, and nothing is mounted."""
    mount, systemd, wanted = host
    (systemd.units / wanted.unit).write_text(wanted.text)
    systemd.stale = True
    assert [one.split(" ")[0] for one in four_steps(mount, systemd, wanted)] == ["make", "enable", "mount"]


@pytest.mark.parametrize("path", ["/srv/state", "/srv/a-b/c", "/srv/a@b+c", "/mnt/x:y.z_1"])
def test_the_name_of_the_unit_is_that_of_systemd(path):
    done = subprocess.run(["systemd-escape", "--path", "--suffix=mount", path], capture_output=True, text=True, check=True)
    assert Wanted(path, MIB, "never", 0o700, 0, 0).unit == done.stdout.strip()


def test_the_initrd_can_use_the_unit():
    keys = mount_section(Wanted("/srv/state", MIB, "within_size", 0o700, 1, 2).text)
    assert (keys["Type"], keys["Where"]) == ("tmpfs", "/srv/state")
    assert kernel_options(keys["Options"]) == "size=1048576,huge=within_size,mode=0700,uid=1,gid=2,nosuid,nodev"
