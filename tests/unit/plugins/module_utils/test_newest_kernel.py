# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest installed kernel, where the distributions put it, and installations that are half done."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import from_dict
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel import newest_kernel as nk
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.kexec_load import Kexec

OLD, NEW = "6.1.0-9-cloud-amd64", "6.1.0-50-cloud-amd64"
BOTH = (NEW, f"/boot/vmlinuz-{NEW}", f"/boot/initrd.img-{NEW}")
DEBIAN, FEDORA = "ID=debian\n", "ID=fedora\n"
QUERY = "dpkg-query --show"


def installed(*releases, initrd="/boot/initrd.img-{}", kernel="/boot/vmlinuz-{}"):
    """The files of kernels that are completely installed."""
    files = {}
    for release in releases:
        files[kernel.format(release)] = files[initrd.format(release)] = files[f"/usr/lib/modules/{release}/modules.dep"] = "x"
    return files


@pytest.fixture
def host(tmp_path, recorder):
    def build(files, running=OLD, os_release=DEBIAN, dpkg=(0, "", "")):
        common = {"/proc/sys/kernel/osrelease": running, "/etc/machine-id": "00ff", "/proc/cmdline": "ro", "/etc/os-release": os_release}
        for name, content in {**common, **files}.items():
            path = tmp_path / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return nk.NewestKernel(Sysfs(str(tmp_path)), recorder({QUERY: dpkg}))

    return build


@pytest.mark.parametrize(
    "files, running, os_release, found",
    [
        # 9 < 50, which the order of the letters would get wrong
        (installed(OLD, NEW), OLD, DEBIAN, BOTH),
        (installed(OLD, NEW), NEW, DEBIAN, BOTH),
        # other flavours, and what package managers leave behind
        (
            {**installed(OLD, NEW, "6.1.0-60-amd64", "6.1.0-60-rt-amd64", f"{NEW}.old", "6.1.0-99-cloud-amd64.dpkg-new")},
            OLD,
            DEBIAN,
            BOTH,
        ),
        (
            {
                **installed("6.9.4-200.fc40.x86_64", "6.10.1-100.fc40.x86_64", initrd="/boot/initramfs-{}.img"),
                "/boot/vmlinuz-0-rescue-00ff": "x",
                "/boot/initramfs-0-rescue-00ff.img": "x",
            },
            "6.9.4-200.fc40.x86_64",
            FEDORA,
            ("6.10.1-100.fc40.x86_64", "/boot/vmlinuz-6.10.1-100.fc40.x86_64", "/boot/initramfs-6.10.1-100.fc40.x86_64.img"),
        ),
        # kernel-install: the running one is not in /boot any more
        (
            installed("7.0-1-amd64", "7.1-1-amd64", kernel="/efi/00ff/{}/linux", initrd="/efi/00ff/{}/initrd"),
            "7.0-1-amd64",
            DEBIAN,
            ("7.1-1-amd64", "/efi/00ff/7.1-1-amd64/linux", "/efi/00ff/7.1-1-amd64/initrd"),
        ),
        # only the boot loader's entry knows
        (
            {
                **installed("7.0-1-amd64"),
                "/usr/lib/modules/7.1-1-amd64/modules.dep": "x",
                "/boot/loader/entries/a.conf": "title x\nversion 7.1-1-amd64\nlinux /k/one\ninitrd /k/two\noptions ro\n",
                "/boot/k/one": "x",
                "/boot/k/two": "x",
            },
            "7.0-1-amd64",
            DEBIAN,
            ("7.1-1-amd64", "/boot/k/one", "/boot/k/two"),
        ),
        # Fedora's image beside the modules, before kernel-install has copied it to /boot
        (
            {**installed("7.0-1.fc44.x86_64", kernel="/usr/lib/modules/{}/vmlinuz", initrd="/boot/initramfs-{}.img")},
            "6.9-1.fc44.x86_64",
            FEDORA,
            ("7.0-1.fc44.x86_64", "/usr/lib/modules/7.0-1.fc44.x86_64/vmlinuz", "/boot/initramfs-7.0-1.fc44.x86_64.img"),
        ),
    ],
)
def test_the_newest(host, files, running, os_release, found):
    one = host(files, running, os_release)
    assert one.version() == (found[0], "")
    assert one.choose() == (nk.Installed(*found), "")


@pytest.mark.parametrize(
    "files, running, said",
    [
        ({**installed(OLD, NEW), nk.OSTREE: ""}, OLD, "ostree manages the kernels"),
        ({"/boot/vmlinuz-linux": "x", "/boot/initramfs-linux.img": "x"}, "6.9.3-arch1-1", "no kernel shows a release in its name"),
        ({"/efi/EFI/Linux/debian-7.1.efi": "x"}, OLD, "unified kernel images (UKI)"),
        (
            installed("6.1.0-60-amd64"),
            OLD,
            "no installed kernel has the flavour of the running one (cloud-amd); the installed ones are 6.1.0-60-amd64",
        ),
        ({**installed(OLD, NEW), "/etc/fstab": "/dev/vda1 /boot ext4 defaults 0 2\n"}, OLD, "/boot is in /etc/fstab but not mounted"),
        (installed(OLD, NEW), "", "/proc/sys/kernel/osrelease can't be read"),
    ],
)
def test_it_is_not_guessed(host, files, running, said):
    one = host(files, running)
    assert one.version()[0] == "" and said in one.version()[1]
    assert one.choose()[0].path == "" and said in one.choose()[1]


def test_orders_that_disagree_are_not_guessed(host):
    releases = ("5.14.0-427.el9.x86_64", "5.14.0-427.13.1.el9_4.x86_64")
    one = host(installed(*releases), releases[0], "ID=other\n")
    assert one.version() == (
        "",
        f"Debian's order of versions says {releases[0]}, rpm's says {releases[1]}, and /etc/os-release does not tell which counts",
    )


@pytest.mark.parametrize(
    "gone, changed, said",
    [
        (f"/boot/initrd.img-{NEW}", None, f"its initrd was not found (looked for /boot/initrd.img-{NEW}"),
        (
            f"/usr/lib/modules/{NEW}/modules.dep",
            None,
            f"its list of modules does not exist or is empty (looked for /lib/modules/{NEW}/modules.dep",
        ),
        (None, f"/usr/lib/modules/{NEW}/modules.dep", "its list of modules does not exist or is empty"),
        (None, f"/boot/initrd.img-{NEW}", f"its initrd /boot/initrd.img-{NEW} is empty (0 bytes)"),
        (None, f"/boot/vmlinuz-{NEW}", f"the file /boot/vmlinuz-{NEW} is empty (0 bytes)"),
    ],
)
def test_half_an_installation_is_refused(host, gone, changed, said):
    files = installed(OLD, NEW)
    files.pop(gone, None)
    files.update({changed: ""} if changed else {})
    one = host(files)
    assert one.version() == (NEW, "")
    found, why = one.choose()
    assert found.path == "" and why.startswith(f"{NEW} is not completely installed: ") and said in why


# Printed by dpkg-query 1.21.22 for packages in these states.
@pytest.mark.parametrize(
    "listed, said",
    [
        (f"linux-image-{NEW} installed\ninitramfs-tools installed\ndracut not-installed\n", ""),
        (f"linux-image-{NEW} half-configured\ninitramfs-tools installed\n", f"the package linux-image-{NEW} is half-configured"),
        (f"linux-image-{NEW} unpacked\n", f"the package linux-image-{NEW} is unpacked"),
        (
            f"linux-image-{NEW} installed\ninitramfs-tools triggers-pending\n",
            "the package initramfs-tools is triggers-pending; run dpkg --configure -a",
        ),
        (f"linux-image-unsigned-{NEW} config-files\n", ""),
        ("", ""),
    ],
)
def test_what_dpkg_says(host, listed, said):
    one = host(installed(OLD, NEW), dpkg=(1, listed, "dpkg-query: no packages found matching dracut\n"))
    found, why = one.choose()
    assert (said in why and not found.path) if said else (why == "" and found.version == NEW)
    assert one.runner.calls == [
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", f"linux-image-*{NEW}", "initramfs-tools", "dracut"]
    ]


def test_a_host_without_dpkg(host, recorder):
    one = host(installed(OLD, NEW))
    one.runner = recorder({QUERY: None})
    assert one.choose()[0].version == NEW


HOLDER = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"


@pytest.mark.parametrize("lock", nk.LOCKS)
def test_a_package_manager_at_work_is_waited_for(host, lock):
    one = host({**installed(OLD, NEW), lock: ""})
    assert one.choose()[1] == ""
    path = one.sysfs.path(lock)
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert nk.locked(path)
        found, why = one.choose()
        assert found.path == "" and f"a package manager is at work ({lock} is locked)" in why
        holder.stdin.close()
    assert not nk.locked(path)


def test_a_lock_for_reading_does_not_count(tmp_path):
    """rpm takes one for each query."""
    path = str(tmp_path / "lock")
    script = HOLDER.replace("'w'", "'r'").replace("LOCK_EX", "LOCK_SH")
    with open(path, "w", encoding="utf-8"):
        pass
    with subprocess.Popen([sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert not nk.locked(path)
        # The holder has it: nobody else gets a lock for writing meanwhile.
        with open(path, "r+", encoding="utf-8") as file, pytest.raises(OSError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.stdin.close()


@pytest.fixture
def kexec(host):
    def build(files=None, **more):
        one = host({**installed(OLD, NEW), "/sys/kernel/kexec_loaded": "0", **(files or {})}, **more)
        one.runner.answers["kexec -s"] = (0, "", "")
        return Kexec(one.sysfs, one.runner)

    return build


def test_kexec_takes_the_newest(kexec):
    one = kexec()
    target = one.target(nk.NEWEST, None, None)
    assert (target.kernel, target.initrd, target.refusal) == (f"/boot/vmlinuz-{NEW}", f"/boot/initrd.img-{NEW}", "")
    assert target.words == f"/boot/vmlinuz-{NEW} (the newest installed kernel, {NEW}) with /boot/initrd.img-{NEW}"
    assert one.problems(target) == []


def test_kexec_takes_a_release(kexec):
    target = kexec().target(NEW, None, None)
    assert (target.kernel, target.initrd, target.chosen) == (f"/boot/vmlinuz-{NEW}", f"/boot/initrd.img-{NEW}", f"the kernel {NEW}")
    missing = kexec().target("6.9-none", None, None)
    assert missing.kernel == "" and missing.refusal.startswith("the kernel 6.9-none was not found (looked for /boot/vmlinuz-6.9-none")


def test_kexec_refuses_what_is_not_completely_installed(kexec):
    one = kexec()
    os.unlink(one.sysfs.path(f"/boot/initrd.img-{NEW}"))
    target = one.target(nk.NEWEST, None, None)
    (problem,) = one.problems(target)
    assert problem.startswith(f"the newest kernel can't be used: {NEW} is not completely installed: its initrd was not found")
    with pytest.raises(HotpmemError, match="is not completely installed"):
        one.load(target)
    assert not [call for call in one.runner.calls if call[0] == "kexec"]


@pytest.mark.parametrize(
    "kernel, initrd, said",
    [
        (nk.NEWEST, "/boot/initrd.img-x", "which brings its own initrd, and initrd is set too (/boot/initrd.img-x)"),
        (nk.NEWEST, "", "initrd is set too (to none)"),
        ("vmlinuz", None, "'vmlinuz', which is not an absolute path, a release as uname -r prints it, or newest"),
        ("Newest", None, "'Newest', which is not"),
        ("6.1 x", None, "'6.1 x', which is not"),
    ],
)
def test_input_that_cant_be_meant(kexec, kernel, initrd, said):
    with pytest.raises(HotpmemError) as caught:
        kexec().target(kernel, initrd, None)
    assert said in caught.value.said and "hotpmem_kernel" in caught.value.todo


def test_settings_that_cant_be_meant():
    with pytest.raises(HotpmemError, match="initrd is set too"):
        from_dict({"kernel": "newest", "initrd": "/boot/i"})
    with pytest.raises(HotpmemError, match="not an absolute path"):
        from_dict({"kernel": "boot/vmlinuz"})
    assert from_dict({"kernel": "newest", "initrd": ""}).kernel == "newest"
