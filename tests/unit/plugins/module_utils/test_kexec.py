# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""kexec: the command line, what forbids loading, and knowing what is loaded."""

from __future__ import annotations

import os

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils import _kexec as kx
from ansible_collections.hotpmem.fleet.plugins.module_utils._errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._sysfs import Sysfs

RUNNING = "root=/dev/vda rw console=ttyS0 nokaslr mitigations=off memmap=514M!1022M"


@pytest.mark.parametrize(
    "running, following",
    [
        (RUNNING, RUNNING),
        ("BOOT_IMAGE=/boot/vmlinuz-6.1 root=UUID=x ro initrd=\\initrd.img quiet", "root=UUID=x ro quiet"),
        ('dyndbg="file a.c +p" BOOT_IMAGE=x memmap=1G!4G', 'dyndbg="file a.c +p" memmap=1G!4G'),
        ("", ""),
    ],
)
def test_next_command_line(running, following):
    assert kx.next_command_line(running) == following


@pytest.mark.parametrize(
    "following, lost",
    [
        (RUNNING, []),
        ("root=/dev/vda", ["memmap=514M!1022M"]),
        ("memmap=512M!1022M", ["memmap=514M!1022M"]),
        ('x="memmap=514M!1022M"', ["memmap=514M!1022M"]),
    ],
)
def test_lost_memmaps(following, lost):
    assert kx.lost_memmaps(RUNNING, following) == lost


@pytest.fixture
def host(tree, recorder):
    """A machine with a kernel to load; kexec answers as the real one does."""
    root = tree("6.1-e820-raw")
    release = Sysfs(root).read("/proc/sys/kernel/osrelease")
    os.makedirs(f"{root}/boot")
    for name in (f"vmlinuz-{release}", f"initrd.img-{release}"):
        with open(f"{root}/boot/{name}", "w", encoding="utf-8") as file:
            file.write(name)
    os.makedirs(f"{root}/sys/kernel", exist_ok=True)

    def loaded(value):
        def answer():
            with open(f"{root}/sys/kernel/kexec_loaded", "w", encoding="utf-8") as file:
                file.write(f"{value}\n")
            return 0, "", ""

        return answer

    loaded(0)()
    runner = recorder({"kexec -s -l": loaded(1), "kexec -s -u": loaded(0)})
    return root, release, runner, kx.Kexec(Sysfs(root), runner)


def test_load_know_unload(host):
    root, release, runner, kexec = host
    target = kexec.target(None, None, None)
    assert kexec.problems(target) == []
    assert not kexec.is_loaded(target)
    kexec.load(target)
    assert runner.calls == [
        ["kexec", "-s", "-l", f"/boot/vmlinuz-{release}", f"--initrd=/boot/initrd.img-{release}", f"--command-line={target.command_line}"]
    ]
    assert "memmap=514M!1022M" in target.command_line
    assert kexec.is_loaded(target)
    assert not kexec.is_loaded(kexec.target(None, None, target.command_line + " quiet"))
    os.utime(f"{root}/boot/initrd.img-{release}", ns=(1, 1))
    assert not kexec.is_loaded(target)
    kexec.unload()
    assert (kexec.loaded, kexec.record()) == (False, None)


def test_a_record_does_not_outlive_what_was_loaded(host):
    root, _release, _runner, kexec = host
    target = kexec.target(None, None, None)
    kexec.load(target)
    with open(f"{root}/sys/kernel/kexec_loaded", "w", encoding="utf-8") as file:
        file.write("0\n")
    assert not kexec.is_loaded(target)


@pytest.mark.parametrize(
    "answer, said", [((255, "", "kexec_file_load failed: Operation not permitted"), "not permitted"), ((0, "", ""), "kexec_loaded is 0")]
)
def test_load_fails(host, answer, said):
    kexec, runner = host[3], host[2]
    runner.answers["kexec -s -l"] = answer
    with pytest.raises(HotpmemError, match=said):
        kexec.load(kexec.target(None, None, None))
    assert kexec.record() is None


def test_all_problems_at_once(tmp_path, recorder):
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text("6.1.0\n")
    (tmp_path / "proc/sys/kernel/kexec_load_disabled").write_text("1\n")
    (tmp_path / "proc/cmdline").write_text(RUNNING)
    kexec = kx.Kexec(Sysfs(str(tmp_path)), recorder({}))
    problems = kexec.problems(kexec.target(None, None, "root=/dev/vda"))
    for part in (
        "has no kexec",
        "kexec_load_disabled is 1",
        "kexec-tools",
        "/boot/vmlinuz-6.1.0",
        "/boot/initrd.img-6.1.0",
        "memmap=514M!1022M",
    ):
        assert any(part in problem for problem in problems), part
    assert len(problems) == 6
    told = kexec.problems(kexec.target("/k", "", "root=/dev/vda"), without_initrd=True, may_lose_memmap=True)
    assert not any("memmap" in problem or "initrd" in problem for problem in told)
    assert "the kernel /k is not there" in told


@pytest.mark.parametrize(
    "place, found", [("usr/lib/modules/6.1.0/vmlinuz", "/usr/lib/modules/6.1.0/vmlinuz"), ("boot/vmlinux-6.1.0", "/boot/vmlinux-6.1.0")]
)
def test_kernel_is_looked_for(tmp_path, recorder, place, found):
    for name, text in (("proc/sys/kernel/osrelease", "6.1.0"), (place, "")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert kx.Kexec(Sysfs(str(tmp_path)), recorder({})).target(None, None, None).kernel == found
