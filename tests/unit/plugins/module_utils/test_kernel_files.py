# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels and initrds where the distributions put them."""

from __future__ import annotations

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.kernel_files import KernelFiles

RELEASE = "6.12.1-1-amd64"
MACHINE = "00ff"
BLS = f"title x\nversion {RELEASE}\nmachine-id {MACHINE}\noptions ro\n"


def image(release):
    """The header of an x86 kernel image, with its release."""
    data = bytearray(0x400)
    data[0x202:0x206] = b"HdrS"
    data[0x20E:0x210] = (0x100).to_bytes(2, "little")
    text = f"{release} (builder@host) #1 SMP\0".encode()
    data[0x300 : 0x300 + len(text)] = text
    return bytes(data)


@pytest.fixture
def host(tmp_path):
    def build(files, links=()):
        common = {"proc/sys/kernel/osrelease": RELEASE, "etc/machine-id": MACHINE, "proc/cmdline": "ro"}
        for name, content in {**common, **files}.items():
            path = tmp_path / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        for name, target in links:
            (tmp_path / name.lstrip("/")).symlink_to(target)
        return KernelFiles(Sysfs(str(tmp_path)))

    return build


@pytest.mark.parametrize(
    "kernel, initrd",
    [
        (f"/boot/vmlinuz-{RELEASE}", f"/boot/initrd.img-{RELEASE}"),  # Debian, Ubuntu
        (f"/boot/vmlinuz-{RELEASE}", f"/boot/initramfs-{RELEASE}.img"),  # RHEL, Fedora
        (f"/boot/vmlinuz-{RELEASE}", f"/boot/initrd-{RELEASE}"),  # SUSE
        (f"/boot/Image-{RELEASE}", f"/boot/initrd-{RELEASE}"),  # SUSE on arm64
        (f"/boot/kernel-{RELEASE}", f"/boot/initramfs-{RELEASE}.img"),  # Gentoo
        ("/boot/vmlinuz-linux", "/boot/initramfs-linux.img"),  # Arch
        ("/boot/kernel-genkernel-x86_64-6.1", "/boot/initramfs-genkernel-x86_64-6.1"),
        ("/boot/00ff/7.0/linux", "/boot/00ff/7.0/initrd"),  # kernel-install
        ("/efi/00ff/7.0/linux", "/efi/00ff/7.0/initrd.img-7.0"),
        ("/boot/ostree/fedora-ab12/vmlinuz-7.0", "/boot/ostree/fedora-ab12/initramfs-7.0.img"),
        ("/usr/lib/modules/7.0/vmlinuz", "/boot/initramfs-7.0.img"),
        ("/usr/lib/modules/7.0/vmlinuz", "/efi/00ff/7.0/initrd"),
        ("/usr/lib/modules/7.0/vmlinuz", "/usr/lib/modules/7.0/initramfs.img"),
        ("/srv/kernels/vmlinuz", "/srv/kernels/initrd.img"),
        ("/boot/vmlinuz", "/boot/initrd"),
    ],
)
def test_the_initrd_of_a_named_kernel(host, kernel, initrd):
    """The running kernel's initrd exists too, and does not count."""
    files = {f"/boot/initrd.img-{RELEASE}": "running", kernel: "k", initrd: "i"}
    if RELEASE in kernel and "initrd.img" not in initrd:
        del files[f"/boot/initrd.img-{RELEASE}"]
    assert host(files).initrd_of(kernel) == (initrd, "")


@pytest.mark.parametrize(
    "kernel, said",
    [
        ("/boot/vmlinuz-7.0", "looked for /boot/initrd.img-7.0, /boot/initramfs-7.0.img, /boot/initrd-7.0, /boot/initramfs-7.0"),
        ("/boot/vmlinuz-linux-lts", "looked for /boot/initrd.img-linux-lts, /boot/initramfs-linux-lts.img"),
        ("/boot/00ff/7.0/linux", "looked for /boot/00ff/7.0/initrd, /boot/00ff/7.0/initrd.img-7.0"),
        ("/srv/mine.efi", "the name /srv/mine.efi does not show which initrd belongs to it"),
    ],
)
def test_the_running_kernels_initrd_is_not_taken_instead(host, kernel, said):
    found = host({f"/boot/vmlinuz-{RELEASE}": "k", f"/boot/initrd.img-{RELEASE}": "i", kernel: "k"}).initrd_of(kernel)
    assert found[0] == "" and said in found[1]


@pytest.mark.parametrize(
    "link, target", [("/vmlinuz", "boot/vmlinuz-7.0"), ("/boot/vmlinuz", "vmlinuz-7.0"), ("/boot/vmlinuz", "/boot/vmlinuz-7.0")]
)
def test_a_link_counts_as_its_target(host, link, target):
    files = {"/boot/vmlinuz-7.0": "k", "/boot/initrd.img-7.0": "i", "/boot/initrd": "other"}
    assert host(files, [(link, target)]).initrd_of(link) == ("/boot/initrd.img-7.0", "")


@pytest.mark.parametrize(
    "files, kernel, initrd",
    [
        ({f"/boot/vmlinuz-{RELEASE}": "k", f"/boot/initrd.img-{RELEASE}": "i"}, f"/boot/vmlinuz-{RELEASE}", f"/boot/initrd.img-{RELEASE}"),
        (
            {f"/usr/lib/modules/{RELEASE}/vmlinuz": "k", f"/boot/initramfs-{RELEASE}.img": "i"},
            f"/usr/lib/modules/{RELEASE}/vmlinuz",
            f"/boot/initramfs-{RELEASE}.img",
        ),
        (
            {f"/efi/{MACHINE}/{RELEASE}/linux": "k", f"/efi/{MACHINE}/{RELEASE}/initrd": "i"},
            f"/efi/{MACHINE}/{RELEASE}/linux",
            f"/efi/{MACHINE}/{RELEASE}/initrd",
        ),
        # With the name that the operator chose instead of the machine's id.
        (
            {"/etc/kernel/entry-token": "debian\n", f"/boot/efi/debian/{RELEASE}/linux": "k", f"/boot/efi/debian/{RELEASE}/initrd": "i"},
            f"/boot/efi/debian/{RELEASE}/linux",
            f"/boot/efi/debian/{RELEASE}/initrd",
        ),
        # The entry knows, whatever the names are. The processor's microcode is a separate initrd.
        (
            {
                "/boot/loader/entries/a.conf": BLS + "linux /k/one\ninitrd /intel-ucode.img\ninitrd /k/two\n",
                "/boot/loader/entries/b.conf": BLS.replace(RELEASE, "7.0") + "linux /k/three\ninitrd /k/four\n",
                "/boot/k/one": "k",
                "/boot/k/two": "i",
                "/boot/k/three": "k",
            },
            "/boot/k/one",
            "/boot/k/two",
        ),
        # ostree, with /boot on the root file system.
        (
            {
                "/boot/loader/entries/ostree-1.conf": "title x\n"
                f"linux /boot/ostree/f-1/vmlinuz-{RELEASE}\ninitrd /boot/ostree/f-1/initramfs-{RELEASE}.img\n",
                f"/boot/ostree/f-1/vmlinuz-{RELEASE}": "k",
                f"/boot/ostree/f-1/initramfs-{RELEASE}.img": "i",
                f"/usr/lib/modules/{RELEASE}/vmlinuz": "k",
            },
            f"/boot/ostree/f-1/vmlinuz-{RELEASE}",
            f"/boot/ostree/f-1/initramfs-{RELEASE}.img",
        ),
        # Arch: names without a release.
        (
            {"/boot/vmlinuz-linux": image(RELEASE), "/boot/vmlinuz-linux-lts": image("6.6"), "/boot/initramfs-linux.img": "i"},
            "/boot/vmlinuz-linux",
            "/boot/initramfs-linux.img",
        ),
        (
            {"/proc/cmdline": "BOOT_IMAGE=(hd0,gpt2)/odd/vmlinuz ro", "/boot/odd/vmlinuz": image(RELEASE), "/boot/odd/initrd.img": "i"},
            "/boot/odd/vmlinuz",
            "/boot/odd/initrd.img",
        ),
    ],
)
def test_the_running_kernel(host, files, kernel, initrd):
    one = host(files)
    assert one.running() == (kernel, "")
    assert one.initrd_of(kernel) == (initrd, "")


@pytest.mark.parametrize(
    "files, said",
    [
        ({}, f"looked for /boot/vmlinuz-{RELEASE}, /boot/vmlinux-{RELEASE}"),
        ({}, f"/efi/{MACHINE}/{RELEASE}/linux"),
        ({}, "/boot/loader/entries"),
        # Arch after an upgrade, before the reboot.
        ({"/boot/vmlinuz-linux": image("6.13.0-arch1-1")}, "/boot/vmlinuz-linux is 6.13.0-arch1-1"),
        ({"/boot/vmlinuz-linux": "text"}, "/boot/vmlinuz-linux does not show its release"),
        ({"/etc/fstab": "UUID=x /boot ext4 defaults 0 2\n"}, "/boot is in /etc/fstab but not mounted"),
        ({"/proc/sys/kernel/osrelease": ""}, "/proc/sys/kernel/osrelease can't be read"),
    ],
)
def test_a_running_kernel_that_is_not_found(host, files, said):
    found = host(files).running()
    assert found[0] == "" and said in found[1]


def test_an_entry_with_several_initrds(host):
    one = host(
        {
            "/boot/loader/entries/a.conf": BLS + "linux /k\ninitrd /a\ninitrd /b /amd-ucode.img\n",
            **dict.fromkeys(("/boot/k", "/boot/a", "/boot/b", "/boot/amd-ucode.img"), "x"),
        }
    )
    found = one.initrd_of("/boot/k")
    assert found[0] == "" and "/boot/loader/entries/a.conf names several (/boot/a, /boot/b), and kexec loads one" in found[1]


def test_entries_of_another_installation_do_not_count(host):
    one = host({"/boot/loader/entries/a.conf": BLS.replace(MACHINE, "11ee") + "linux /k\n", "/boot/k": "x"})
    assert one.running()[0] == ""


@pytest.mark.parametrize("data, release", [(image("6.1.0-x"), "6.1.0-x"), (image("6.1.0-x")[:0x210], ""), (b"MZ", ""), (b"", "")])
def test_image_release(host, data, release):
    one = host({"/k": data})
    assert (one.image_release("/k"), one.image_release("/missing")) == (release, "")


def test_a_file_that_can_not_be_loaded(host):
    one = host({"/boot/full": "", "/boot/good": "x"})
    assert "the kernel /boot/full is empty (0 bytes)" in one.fault("the kernel", "/boot/full")
    assert one.fault("the initrd", "/boot/missing") == "the initrd /boot/missing does not exist"
    assert one.fault("the kernel", "/boot/good") == ""
