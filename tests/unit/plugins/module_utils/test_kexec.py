# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""kexec: the command line, what forbids loading, and knowing what is loaded."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel import kexec_load as kx

RUNNING = "root=/dev/vda rw console=ttyS0 nokaslr mitigations=off memmap=514M!1022M"


@pytest.mark.parametrize(
    "following, lost",
    [
        (RUNNING, []),
        ("root=/dev/vda", ["memmap=514M!1022M"]),
        ("memmap=512M!1022M", ["memmap=514M!1022M"]),
        ('x="memmap=514M!1022M"', ["memmap=514M!1022M"]),
    ],
)
def test_lost_reservations(following, lost):
    assert kx.lost_reservations(RUNNING, following) == lost


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
    runner = recorder({"kexec -s -l": loaded(1), "kexec -a -u": loaded(0)})
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


def test_a_kernel_that_can_not_be_unloaded_is_an_error(host):
    kexec, runner = host[3], host[2]
    kexec.load(kexec.target(None, None, None))
    runner.answers["kexec -a -u"] = (1, "", "kexec_file_load failed: Operation not permitted")
    with pytest.raises(HotpmemError, match=r"Cannot unload the kernel that is loaded for kexec: kexec exited with code 1: .*not permitted"):
        kexec.unload()


IOMEM = """00001000-0009fbff : System RAM
00100000-3fdfffff : System RAM
  01000000-01e02000 : Kernel code
3fe00000-5fffffff : Persistent Memory (legacy)
  48000000-5fffffff : dax0.0
    48000000-5fffffff : System RAM (kmem)
60000000-7ffdffff : System RAM
"""
# kexec-tools 2.0.25, the end of what `kexec -c -i -d -l` says on standard error.
SAID = """kexec_load: entry = 0x3fdf0760 flags = 0x3e0000
nr_segments = 2
segment[0].buf   = 0x55555566a5a0
segment[0].bufsz = 0x30
segment[0].mem   = 0x100000
segment[0].memsz = 0x1000
segment[1].buf   = 0x7ffff6eeb010
segment[1].bufsz = 0x11ec80
segment[1].mem   = {0}
segment[1].memsz = 0x11f000
"""


def test_segments():
    assert kx.segments(SAID.format("0x3cae1000")) == [(0x100000, 0x101000), (0x3CAE1000, 0x3CC00000)]
    assert kx.segments(SAID.format("0x3cae1000").replace("nr_segments = 2", "nr_segments = 3")) == []
    assert kx.segments("") == []


def unchecked(host, answer):
    """kexec -c answers (rc, where it puts the second part)."""
    root, _release, runner, kexec = host
    with open(f"{root}/proc/iomem", "w", encoding="utf-8") as file:
        file.write(IOMEM)

    def load():
        rc, place = answer
        if not rc:
            runner.answers["kexec -s -l"]()
        return rc, "", SAID.format(place) if not rc else "kexec_load failed: Operation not permitted"

    runner.answers["kexec -c -i -d --mem-max=0x3fdfffff -l"] = load
    target = replace(kexec.target(None, None, None), check=False)
    said = kexec.load(target)
    return said, [call[:2] for call in runner.calls], kexec.is_loaded(target), kexec.is_loaded(replace(target, check=True))


def test_without_the_check_at_the_jump(host):
    assert unchecked(host, (0, "0x3cae1000")) == ("", [["kexec", "-c"]], True, False)


@pytest.mark.parametrize(
    "place, where", [("0x3fdff000", "0x3fe00000-0x3ff1dfff"), ("0x48000000", "0x48000000-0x4811efff"), ("0x0", "0x0-0xfff")]
)
def test_what_lies_outside_of_system_ram_is_unloaded(host, place, where):
    said, calls, loaded, _other = unchecked(host, (0, place))
    assert where in said and calls == [["kexec", "-c"], ["kexec", "-a"], ["kexec", "-s"]] and loaded
    assert host[2].calls[1] == ["kexec", "-a", "-u"]


def test_a_kernel_that_only_takes_the_checked_one(host):
    said, calls, loaded, _other = unchecked(host, (1, ""))
    assert "Operation not permitted" in said and calls == [["kexec", "-c"], ["kexec", "-s"]] and loaded


def test_without_a_map_it_is_checked(host):
    root, _release, runner, kexec = host
    shutil.rmtree(f"{root}/sys/bus/nd/devices")
    with open(f"{root}/proc/iomem", "w", encoding="utf-8") as file:
        file.write(IOMEM.replace("Persistent", "Reserved").replace("kmem", "x"))
    assert "shows where persistent memory is" in kexec.load(replace(kexec.target(None, None, None), check=False))
    assert [call[:2] for call in runner.calls] == [["kexec", "-s"]]


def test_what_the_map_does_not_name_is_known_from_its_region(host):
    """The memory of a device tree is in it only while a driver holds it."""
    root, _release, runner, kexec = host
    with open(f"{root}/proc/iomem", "w", encoding="utf-8") as file:
        file.write(IOMEM.replace("Persistent Memory (legacy)", "namespace0.0").replace("kmem", "x"))
    runner.answers["kexec -c -i -d --mem-max=0x3fdfffff -l"] = (1, "", "No room")
    assert "No room" in kexec.load(replace(kexec.target(None, None, None), check=False))


# An arm64 machine with an NVDIMM that is System RAM now.
ARM64_IOMEM = """40000000-bb5cffff : System RAM
  40210000-41e1ffff : Kernel code
  bab00000-bb5cffff : reserved
bb5d0000-bbc1ffff : reserved
bbc20000-bbffffff : System RAM
bc000000-bc21ffff : reserved
bc220000-bfffffff : System RAM
147e00000-167ffffff : Persistent Memory
  147e00000-147ffffff : namespace0.0
  148000000-167ffffff : dax0.0
    148000000-167ffffff : System RAM (kmem)
"""
# kexec-tools 2.0.29 for arm64, the end of what `kexec -c -d -l` says of the kernel 6.12.117 and an initrd of 9 MB. First on that map;
# then, without --mem-max, on one that calls the range of the NVDIMM System RAM, and nothing else.
ARM64_SAID = """kexec_load: entry = 0x44b08660 flags = 0xb70000
nr_segments = 4
segment[0].buf   = 0x7fcbfa289010
segment[0].bufsz = 0x1d767c0
segment[0].mem   = 0x42400000
segment[0].memsz = 0x1e70000
segment[1].buf   = 0x7fcc00c38010
segment[1].bufsz = 0x895440
segment[1].mem   = 0x44270000
segment[1].memsz = 0x896000
segment[2].buf   = 0x7fcc016d38c0
segment[2].bufsz = 0x1d5b
segment[2].mem   = 0x44b06000
segment[2].memsz = 0x2000
segment[3].buf   = 0x7fcc016d5640
segment[3].bufsz = 0x3580
segment[3].mem   = 0x44b08000
segment[3].memsz = 0x4000
"""
ARM64_OVER_THE_IMAGE = """kexec_load: entry = 0x14a508660 flags = 0xb70000
nr_segments = 4
segment[0].buf   = 0x7fda00e99010
segment[0].bufsz = 0x1d767c0
segment[0].mem   = 0x147e00000
segment[0].memsz = 0x1e70000
segment[1].buf   = 0x7fda00401010
segment[1].bufsz = 0x895440
segment[1].mem   = 0x149c70000
segment[1].memsz = 0x896000
segment[2].buf   = 0x7fda02c138c0
segment[2].bufsz = 0x1d5b
segment[2].mem   = 0x14a506000
segment[2].memsz = 0x2000
segment[3].buf   = 0x7fda02c15640
segment[3].bufsz = 0x3580
segment[3].mem   = 0x14a508000
segment[3].memsz = 0x4000
"""


# 6.12 on an arm64 machine, three of its lines.
ITS = """           CPU0
 11:       7139     GICv3  27 Level     arch_timer
 21:          0  ITS-PCI-MSIX-0000:00:01.0   0 Edge      virtio0-config
"""


def test_interrupt_tables_that_only_efi_hands_on(host):
    """The next kernel panicked on such a machine: it wrote to the tables of the old one, in its own text."""
    root, _release, _runner, kexec = host
    with open(f"{root}/proc/interrupts", "w", encoding="utf-8") as file:
        file.write(ITS)
    (problem,) = kexec.problems(kexec.target(None, None, None))
    assert "GICv3" in problem and "EFI" in problem
    os.makedirs(f"{root}/sys/firmware/efi")
    assert kexec.problems(kexec.target(None, None, None)) == []


def only_the_older_call(host, rc, said):
    """A running kernel without kexec_file_load, as Debian's for arm64. kexec -c ends with ``rc`` and says this."""
    root, _release, runner, kexec = host
    with open(f"{root}/proc/iomem", "w", encoding="utf-8") as file:
        file.write(ARM64_IOMEM)
    with open(f"{root}/sys/bus/nd/devices/region0/resource", "w", encoding="utf-8") as file:
        file.write("0x147e00000\n")
    with open(f"{root}/boot/config-{_release}", "w", encoding="utf-8") as file:
        file.write("CONFIG_KEXEC=y\n# CONFIG_KEXEC_FILE is not set\n")
    loaded = runner.answers["kexec -s -l"]
    runner.answers["kexec -s -l"] = (253, "", "syscall kexec_file_load not available.")
    runner.answers["kexec -c -d --mem-max=0x147dfffff -l"] = lambda: (rc, "", said) if rc else (*loaded()[:2], said)
    return kexec.target(None, None, None)


def test_a_kernel_that_only_has_the_older_call(host):
    target = only_the_older_call(host, 0, ARM64_SAID)
    kexec = host[3]
    assert kexec.load(target) == "" and kexec.is_loaded(target)
    assert [call[:2] for call in host[2].calls] == [["kexec", "-s"], ["kexec", "-c"]]


@pytest.mark.parametrize(
    "rc, said, words",
    [
        (0, ARM64_OVER_THE_IMAGE, r"outside of System RAM \(0x147e00000-0x14a50bfff\)"),
        (0, ARM64_OVER_THE_IMAGE.partition("segment[3]")[0], "did not print where"),
        # As kexec says it when it finds no place below --mem-max.
        (
            255,
            "arm64_locate_kernel_segment: locate_hole failed\nkexec: load failed.\nCannot load /boot/vmlinuz",
            "locate_hole failed.*smaller kernel or initrd",
        ),
        # As it says it on a machine with a device tree that booted with nokaslr.
        (
            255,
            "setup_2nd_dtb: kaslr-seed is not wiped to 0.\nkexec: setup_2nd_dtb failed.\nkexec: load failed.\nCannot load /boot/vmlinuz",
            "kaslr-seed is not wiped to 0.*without nokaslr",
        ),
        (255, "Cannot load /boot/vmlinuz", "Cannot load /boot/vmlinuz.*dmesg"),
        (1, "kexec_load failed: Operation not permitted", "Operation not permitted"),
    ],
)
def test_the_older_call_that_would_overwrite_the_image_loads_nothing(host, rc, said, words):
    target = only_the_older_call(host, rc, said)
    kexec = host[3]
    with pytest.raises(HotpmemError, match=f"kexec_file_load not available.*With the older system call: .*{words}"):
        kexec.load(target)
    assert (kexec.loaded, kexec.record()) == (False, None)


@pytest.mark.parametrize("said", ["kexec_file_load failed: Key was rejected by service", "syscall kexec_file_load not available."])
def test_the_older_call_is_not_tried_when_the_kernel_was_refused(host, said):
    """The second is what kexec prints for an image that it takes for damaged. This kernel has kexec_file_load."""
    host[2].answers["kexec -s -l"] = (255, "", said)
    with pytest.raises(HotpmemError, match=said):
        host[3].load(host[3].target(None, None, None))
    assert [call[:2] for call in host[2].calls] == [["kexec", "-s"]]


def test_all_problems_at_once(tmp_path, recorder):
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text("6.1.0\n")
    (tmp_path / "proc/sys/kernel/kexec_load_disabled").write_text("1\n")
    (tmp_path / "proc/cmdline").write_text(RUNNING)
    kexec = kx.Kexec(Sysfs(str(tmp_path)), recorder({"kexec": None}))
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
    told = kexec.problems(kexec.target("/k", "", "root=/dev/vda"), without_initrd=True, may_lose_reservation=True)
    assert not any("memmap" in problem or "initrd" in problem for problem in told)
    assert "the kernel /k does not exist" in told


@pytest.mark.parametrize(
    "place, found", [("usr/lib/modules/6.1.0/vmlinuz", "/usr/lib/modules/6.1.0/vmlinuz"), ("boot/vmlinux-6.1.0", "/boot/vmlinux-6.1.0")]
)
def test_kernel_is_looked_for(tmp_path, recorder, place, found):
    for name, text in (("proc/sys/kernel/osrelease", "6.1.0"), (place, "")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert kx.Kexec(Sysfs(str(tmp_path)), recorder({})).target(None, None, None).kernel == found


def test_a_named_kernel_gets_its_own_initrd(host):
    """With the running kernel's initrd it would not find its modules, and so not its root file system."""
    root, release, _runner, kexec = host
    with open(f"{root}/boot/vmlinuz-7.0", "w", encoding="utf-8") as file:
        file.write("k")
    target = kexec.target("/boot/vmlinuz-7.0", None, None)
    assert target.initrd == ""
    (problem,) = kexec.problems(target)
    assert "the initrd of the kernel /boot/vmlinuz-7.0 was not found (looked for /boot/initrd.img-7.0, /boot/initramfs-7.0.img" in problem
    with open(f"{root}/boot/initramfs-7.0.img", "w", encoding="utf-8") as file:
        file.write("i")
    target = kexec.target("/boot/vmlinuz-7.0", None, None)
    assert (target.initrd, kexec.problems(target)) == ("/boot/initramfs-7.0.img", [])
    assert kexec.target(f"/boot/vmlinuz-{release}", None, None).initrd == f"/boot/initrd.img-{release}"


@pytest.mark.parametrize("architecture, size, fits", [("x86_64", 2016, True), ("x86_64", 2017, False), ("aarch64", 2047, True)])
def test_the_length_of_the_command_line(host, architecture, size, fits):
    kexec = kx.Kexec(Sysfs(host[0]), host[2], architecture)
    line = "memmap=514M!1022M " + "x" * (size - 18)
    said = f"the command line for the next kernel is too long for kexec: it has {size} bytes, and the kernel takes at most 2016"
    assert [said in one for one in kexec.problems(kexec.target(None, None, line))] == ([] if fits else [True])


def test_files_of_a_full_disk(host):
    root, release, _runner, kexec = host
    for name in (f"vmlinuz-{release}", f"initrd.img-{release}"):
        os.truncate(f"{root}/boot/{name}", 0)
    problems = kexec.problems(kexec.target(None, None, None))
    assert [problem.partition(" (")[0] for problem in problems] == [
        f"the kernel /boot/vmlinuz-{release} is empty",
        f"the initrd /boot/initrd.img-{release} is empty",
    ]


SIGNED = "signed with a key it trusts"


@pytest.mark.parametrize(
    "said, lockdown, told",
    [
        ("kexec_file_load failed: Key was rejected by service", "", SIGNED),
        ("kexec_file_load failed: Required key not available", "", SIGNED),
        ("kexec_file_load failed: No data available", "", SIGNED),
        ("kexec_file_load failed: Operation not permitted", "none [integrity] confidentiality", "Lockdown is on (integrity). The running"),
        ("kexec_file_load failed: Operation not permitted", "[none] integrity confidentiality", "Run as root"),
        ("kexec_file_load failed: Operation not permitted", "", "Run as root"),
        ("kexec_file_load failed: Device or resource busy", "none [integrity] confidentiality", "Another program is loading a kernel"),
        ("kexec_file_load failed: Cannot allocate memory", "", "Too little memory is free"),
        ("kexec_file_load failed: Cannot assign requested address", "", "no free range that is large enough"),
        ("kexec_file_load failed: Exec format error", "", "not a kernel image that kexec_file_load accepts"),
        ("kexec_file_load failed: Invalid argument", "", "rejected the image or the command line"),
        ("kexec_file_load failed: Permission denied", "", "IMA, SELinux"),
        ("syscall kexec_file_load not available.", "", "kexec prints the same for both"),
        ("Cannot open something", "", "Look for the reason in the output of dmesg"),
    ],
)
def test_each_errno_has_its_own_hint(host, said, lockdown, told):
    root, _release, runner, kexec = host
    os.makedirs(f"{root}/sys/kernel/security", exist_ok=True)
    with open(f"{root}/sys/kernel/security/lockdown", "w", encoding="utf-8") as file:
        file.write(f"{lockdown}\n")
    runner.answers["kexec -s -l"] = (255, "", said)
    runner.answers["kexec -c -d"] = (1, "", "Cannot load it either")
    with pytest.raises(HotpmemError) as caught:
        kexec.load(kexec.target(None, None, None))
    assert said in caught.value.said and told in caught.value.todo
    assert (SIGNED in caught.value.todo) == (told == SIGNED or "Lockdown" in told)
    assert caught.value.todo.endswith("Don't use kexec -c by hand, because it may overwrite the saved image")
