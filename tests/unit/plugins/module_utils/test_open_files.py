# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has files of an item open: with real processes, and with a tree for what a test can't arrange."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.open_files import file_users, manager_of, units_of
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs

HOLDS = """
import mmap, os, sys
how, path = sys.argv[1:]
descriptor = os.open(path, os.O_RDWR)
if how == "mapped":
    area = mmap.mmap(descriptor, 4096)
    os.close(descriptor)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_a_process_that_uses_a_file_is_named(tmp_path, how):
    item = tmp_path / "item with space"
    (item / "sub").mkdir(parents=True)
    file = item / "sub" / "data"
    file.write_bytes(b"x" * mmap.PAGESIZE)
    (tmp_path / "item with space too").write_text("another item")
    argv = [sys.executable, "-c", HOLDS, how, str(file)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        users = file_users(Sysfs(), [str(item)])
        others = file_users(Sysfs(), [str(tmp_path / "item with space too"), str(tmp_path / "item")])
        child.stdin.close()
    assert [(user.pid, user.path) for user in users] == [(child.pid, str(file))]
    assert f"process {child.pid} (" in users[0].words and str(file) in users[0].words
    assert others == [] and file_users(Sysfs(), [str(item)]) == []


def test_a_deleted_file_does_not_count(tmp_path):
    file = tmp_path / "gone"
    file.write_text("x")
    argv = [sys.executable, "-c", HOLDS, "open", str(file)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        file.unlink()
        users = file_users(Sysfs(), [str(tmp_path)])
        child.stdin.close()
    assert users == []


def test_the_process_itself_does_not_count(tmp_path):
    with open(tmp_path / "mine", "w", encoding="utf-8"):
        assert os.getpid() not in [user.pid for user in file_users(Sysfs(), [str(tmp_path)])]


@pytest.mark.parametrize(
    "cgroup, units",
    [
        ("0::/system.slice/memcached.service\n", ("memcached.service", "")),
        ("0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n", ("postgresql@15-main.service", "")),
        ("0::/user.slice/user-0.slice/session-3.scope\n", ("session-3.scope", "")),
        # The user's systemd has units inside its own, which the systemd of the host can't stop.
        ("0::/user.slice/user-0.slice/user@0.service/app.slice/job.service/sub\n", ("user@0.service", "job.service")),
        ("0::/system.slice/docker-4f.scope/system.slice/app.service\n", ("docker-4f.scope", "app.service")),
        ("4:memory:/system.slice/x.service\n1:name=systemd:/system.slice/redis.service\n", ("redis.service", "")),
        ("0::/\n", ("", "")),
        ("", ("", "")),
    ],
)
def test_units_of_a_cgroup(cgroup, units):
    assert units_of(cgroup) == units


def test_the_manager_of_a_unit(tmp_path):
    for pid, cgroup in (("12", "system.slice/job.service"), ("34", "user.slice/user-7.slice/user@7.service/app.slice/job.service")):
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "cgroup").write_text(f"0::/{cgroup}\n")
    assert [manager_of(Sysfs(str(tmp_path)), unit) for unit in ("job.service", "other.service")] == ["user@7.service", ""]
