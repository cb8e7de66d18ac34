# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and writing below a root, with real system calls."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host import sysfs as sysfs_module
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import SystemCallError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs, is_below, mounted, natural_key


def test_reads_below_the_root(captured):
    sysfs = Sysfs(captured("6.1-e820-raw"))
    assert sysfs.read("/sys/bus/nd/devices/region0/size") == "538968064"
    assert sysfs.get_int("/sys/bus/nd/devices/region0/resource", 0) == 0x3FE00000
    assert sysfs.get_hex("/sys/devices/system/memory/block_size_bytes", 0) == 128 << 20
    assert sysfs.link_name("/sys/bus/nd/devices/namespace0.0/driver") == "nd_pmem"


def test_missing(tmp_path):
    sysfs = Sysfs(str(tmp_path))
    assert (sysfs.get("/none", "x"), sysfs.get_int("/none", 7), sysfs.find_int("/none"), sysfs.list("/none"), sysfs.link("/none")) == (
        "x",
        7,
        None,
        [],
        "",
    )
    with pytest.raises(SystemCallError, match="Cannot read /none: ENOENT"):
        sysfs.read("/none")


def test_write_says_the_errno():
    with pytest.raises(SystemCallError) as caught:
        Sysfs("/").write("/dev/full", "x")
    assert caught.value.details["errno"] == "ENOSPC"


def test_write_until_writes(tmp_path):
    (tmp_path / "state").write_text("online\n")
    Sysfs(str(tmp_path)).write_until("/state", "offline", 10)
    assert (tmp_path / "state").read_text() == "offline"


def test_write_until_says_the_errno():
    with pytest.raises(SystemCallError) as caught:
        Sysfs("/").write_until("/dev/full", "x", 10)
    assert caught.value.details["errno"] == "ENOSPC"


def test_write_until_gives_up_and_leaves_no_child(tmp_path):
    # Nobody reads the pipe, so opening it for writing never returns, as offlining a pinned block doesn't.
    os.mkfifo(tmp_path / "stuck")
    with pytest.raises(SystemCallError) as caught:
        Sysfs(str(tmp_path)).write_until("/stuck", "x", 0.2)
    assert caught.value.details["errno"] == "EINTR"
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_write_until_does_not_begin_without_time(tmp_path):
    (tmp_path / "state").write_text("online")
    with pytest.raises(SystemCallError, match="ETIMEDOUT"):
        Sysfs(str(tmp_path)).write_until("/state", "offline", 0)
    assert (tmp_path / "state").read_text() == "online"


@pytest.mark.parametrize("call, number", [("fork", errno.ENOMEM), ("fork", errno.EAGAIN), ("pipe", errno.EMFILE)])
def test_write_until_without_a_child_is_an_error_of_ours(tmp_path, monkeypatch, call, number):
    """So that whoever takes memory offline puts back what it has done, as for any answer of the kernel. No descriptor is left open."""

    def refuse():
        raise OSError(number, os.strerror(number))

    (tmp_path / "state").write_text("online")
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(SystemCallError, match=r"Cannot write 'offline' to /state") as caught:
        Sysfs(str(tmp_path)).write_until("/state", "offline", 10)
    assert caught.value.errno == number
    assert os.listdir("/proc/self/fd") == before and (tmp_path / "state").read_text() == "online"


def test_a_stuck_write_ends_even_when_its_parent_was_killed(tmp_path):
    os.mkfifo(tmp_path / "stuck")
    reader, writer = os.pipe()
    code = "import sys; from sysfs_alone import Sysfs; Sysfs(sys.argv[1]).write_until('/stuck', 'x', 2.0)"
    # The module without its package, because a new process has no collection loader.
    folder = Path(sysfs_module.__file__).parent
    (tmp_path / "sysfs_alone.py").write_text((folder / "sysfs.py").read_text().replace("from .errors", "from errors"))
    (tmp_path / "errors.py").write_text((folder / "errors.py").read_text())
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], pass_fds=[writer], cwd=tmp_path) as parent:
        os.close(writer)
        while not (children := Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()):
            assert parent.poll() is None
        parent.kill()
    assert Path(f"/proc/{children[0]}").exists()
    # The stuck child holds our pipe open until its own alarm ends it.
    ended = select.select([reader], [], [], 30)[0]
    os.close(reader)
    if not ended:
        os.kill(int(children[0]), signal.SIGKILL)
    assert ended


def test_natural_order():
    assert sorted(["memory10", "memory9", "auto", "memory100"], key=natural_key) == ["auto", "memory9", "memory10", "memory100"]


def test_mounts(tmp_path):
    text = (
        "24 1 259:0 / /srv/a\\040b rw,relatime shared:1 - ext4 /dev/pmem0 rw\n"
        "25 1 0:44 /sub /data rw - btrfs /dev/pmem0p1 rw\n"
        "broken line\n"
    )
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(text)
    assert mounted(Sysfs(str(tmp_path))) == [
        {"device": "259:0", "target": "/srv/a b", "type": "ext4", "source": "/dev/pmem0", "options": "rw"},
        {"device": "0:44", "target": "/data", "type": "btrfs", "source": "/dev/pmem0p1", "options": "rw"},
    ]


@pytest.mark.parametrize(
    "path, directory, below",
    [
        ("/srv/a", "/srv/a", True),
        ("/srv/a/b", "/srv/a", True),
        ("/srv/a/b", "/srv/a/", True),
        ("/srv/ab", "/srv/a", False),
        ("/srv", "/srv/a", False),
        ("/srv/a", "/", True),
        ("/", "/", True),
        # What /proc/PID/fd shows of a socket, and of a link that can't be read.
        ("socket:[1]", "/", False),
        ("", "/", False),
    ],
)
def test_is_below(path, directory, below):
    assert is_below(path, directory) is below
