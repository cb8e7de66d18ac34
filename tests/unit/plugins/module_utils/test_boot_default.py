# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The default of each boot loader, for the kernel that runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel import boot_default as bd

# 00_header and 10_linux of GRUB 2.06-13+deb12u2 wrote it for two kernels, with GRUB_DEFAULT=saved.
CONFIG = (Path(__file__).resolve().parents[2] / "fixtures/grub-2.06-saved.cfg").read_text(encoding="utf-8")
FIXED = CONFIG.replace("${saved_entry}", "0")
OLD, NEW = "6.1.0-9-cloud-amd64", "6.1.0-50-cloud-amd64"
SIMPLE, ADVANCED = "gnulinux-simple-1111-2222-3333", "gnulinux-advanced-1111-2222-3333"


def entry(release, kind="advanced"):
    """The id of an entry in the submenu."""
    return f"{ADVANCED}>gnulinux-{release}-{kind}-1111-2222-3333"


def test_the_menu():
    top = bd.menu(CONFIG)
    assert [(item.id, item.submenu) for item in top.items] == [(SIMPLE, False), (ADVANCED, True)]
    assert [item.kernel for item in top.items[1].items] == [f"/boot/vmlinuz-{one}" for one in (NEW, NEW, OLD, OLD)]
    assert [item.arguments.split()[2] for item in top.items[1].items] == ["console=ttyS0", "single", "console=ttyS0", "single"]


@pytest.mark.parametrize(
    "name, kernel",
    [
        ("", NEW),
        ("0", NEW),
        (SIMPLE, NEW),
        ("1>2", OLD),
        (entry(OLD), OLD),
        (f"Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux {OLD}", OLD),
        (f"{ADVANCED}>0", NEW),
        ("1", None),  # a submenu
        ("7", None),
        (entry("6.0"), None),
    ],
)
def test_what_a_default_means(name, kernel):
    found = bd.lookup(bd.menu(CONFIG), name)
    assert (found.kernel if found else None) == (f"/boot/vmlinuz-{kernel}" if kernel else None)


@pytest.mark.parametrize("release", [OLD, NEW])
def test_the_entry_of_a_kernel(release):
    """Not the one that always has the newest kernel, and not the one for repairs."""
    assert bd.entry_of(bd.menu(CONFIG), f"/boot/vmlinuz-{release}", release) == entry(release)
    # /boot on its own partition
    assert bd.entry_of(bd.menu(CONFIG.replace("/boot/vmlinuz", "/vmlinuz")), f"/boot/vmlinuz-{release}", release) == entry(release)
    assert bd.entry_of(bd.menu(CONFIG), "/boot/vmlinuz-6.0", "6.0") == ""


def test_the_entry_without_a_submenu():
    """GRUB_DISABLE_SUBMENU=y."""
    lines = [line for line in CONFIG.splitlines() if not line.startswith("submenu")]
    flat = "\n".join(lines)
    assert bd.entry_of(bd.menu(flat), f"/boot/vmlinuz-{OLD}", OLD) == f"gnulinux-{OLD}-advanced-1111-2222-3333"


@pytest.fixture
def host(tmp_path, recorder):
    def build(files, answers, running=OLD):
        common = {
            "/proc/sys/kernel/osrelease": running,
            "/proc/cmdline": "ro",
            "/etc/machine-id": "00ff",
            f"/boot/vmlinuz-{OLD}": "k",
            f"/boot/vmlinuz-{NEW}": "k",
            "/etc/default/grub": "GRUB_DEFAULT=saved\n",
        }
        for name, content in {**common, **files}.items():
            path = tmp_path / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return bd.BootDefault(Sysfs(str(tmp_path)), recorder(answers))

    return build


class Grubenv:
    """grub-editenv and grub-set-default, which share a file. The root of the test's machine is in its path."""

    def __init__(self, saved):
        self.saved = saved

    def answers(self, prefix="grub", works=True):
        def put():
            if works:
                self.saved = entry(OLD)
            return 0, "", ""

        return {
            "grubby": None,
            "update-grub": (0, "", ""),
            f"{prefix}-editenv": lambda: (0, f"saved_entry={self.saved}\nnext_entry=\n" if self.saved else "", ""),
            f"{prefix}-set-default": put,
        }


GRUB = {"/boot/grub/grub.cfg": CONFIG, "/boot/grub/grubenv": "# GRUB Environment Block\n"}


@pytest.mark.parametrize("saved", ["", "0", SIMPLE, "1>2", f"{ADVANCED}>2", entry(NEW), entry(OLD, "recovery"), "gone"])
@pytest.mark.parametrize("prefix", ["grub", "grub2"])
def test_grub(host, saved, prefix):
    env = Grubenv(saved)
    answers = env.answers(prefix)
    if prefix == "grub2":  # SUSE: no update-grub
        answers = {**answers, "update-grub": None, "grub-mkconfig": None, "grub2-mkconfig": (0, "", "")}
    one = host({name.replace("grub/", f"{prefix}/"): text for name, text in GRUB.items()}, answers)
    change = one.plan("grub")
    assert (change.before, change.after, change.kernel) == (saved, entry(OLD), f"/boot/vmlinuz-{OLD}")
    assert change.command == [f"{prefix}-set-default", entry(OLD)]
    assert env.saved == saved
    one.apply(change, "grub")
    assert env.saved == entry(OLD) and one.plan("grub").command == []


def test_grub_without_its_file_of_variables(host):
    """grub-editenv creates it even to list it, and a plan changes nothing."""
    one = host({"/boot/grub/grub.cfg": CONFIG}, Grubenv("").answers())
    assert (one.plan().before, one.plan().after) == ("", entry(OLD))
    assert one.runner.calls == []


@pytest.mark.parametrize("saved", [entry(OLD), f"Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux {OLD}"])
def test_grub_has_it_already(host, saved):
    change = host(GRUB, Grubenv(saved).answers()).plan()
    assert (change.loader, change.before, change.after, change.command) == ("grub", saved, saved, [])


def test_grub_that_takes_no_notice(host):
    one = host(GRUB, Grubenv("").answers(works=False))
    with pytest.raises(HotpmemError, match="reported success, but the default is not set"):
        one.apply(one.plan())


def test_grub_with_a_fixed_default(host):
    one = host({"/boot/grub/grub.cfg": FIXED}, Grubenv("").answers())
    with pytest.raises(HotpmemError) as caught:
        one.plan()
    assert "GRUB_DEFAULT is 0 in /boot/grub/grub.cfg" in caught.value.said
    assert caught.value.todo == "Set GRUB_DEFAULT=saved in /etc/default/grub and run update-grub. Then run this again"
    change = host({"/boot/grub/grub.cfg": FIXED}, Grubenv("").answers(), NEW).plan()
    assert (change.before, change.after, change.command) == ("0", "0", [])


@pytest.mark.parametrize(
    "files, said",
    [
        ({"/boot/grub/grub.cfg": CONFIG.replace(OLD, "6.0")}, f"/boot/grub/grub.cfg has no entry for /boot/vmlinuz-{OLD}"),
        ({}, "grub.cfg was not found"),
        ({"/boot/grub/grub.cfg": "insmod blscfg\nblscfg\n"}, "whose default only grubby can set"),
    ],
)
def test_grub_that_cant_be_told(host, files, said):
    with pytest.raises(HotpmemError, match=said):
        host(files, Grubenv("").answers()).plan("grub")


def test_grubby(host):
    state = [f"/boot/vmlinuz-{NEW}\n"]

    def put():
        state[0] = f"/boot/vmlinuz-{OLD}\n"
        return 0, "The default is /boot/loader/entries/x.conf with index 1\n", ""

    one = host({}, {"grubby --default-kernel": lambda: (0, state[0], ""), "grubby --set-default": put})
    change = one.plan()
    assert (change.loader, change.before, change.after) == ("grubby", f"/boot/vmlinuz-{NEW}", f"/boot/vmlinuz-{OLD}")
    one.apply(change)
    assert one.runner.calls.count(["grubby", f"--set-default=/boot/vmlinuz-{OLD}"]) == 1
    assert one.plan().command == []


def test_grubby_with_a_fixed_default(host):
    answers = {"grubby --default-kernel": (0, f"/boot/vmlinuz-{NEW}\n", "")}
    with pytest.raises(HotpmemError, match="so grubby --set-default would have no effect"):
        host({"/etc/default/grub": "GRUB_DEFAULT=saved\nGRUB_DEFAULT=1\n"}, answers).plan()


VARIABLE = "/sys/firmware/efi/efivars/LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"


@pytest.mark.parametrize("name", [f"00ff-{OLD}.conf", f"00ff-{OLD}+3-1.conf"])
def test_systemd_boot(host, name):
    files = {
        f"/efi/loader/entries/{name}": f"title x\nversion {OLD}\nmachine-id 00ff\nlinux /00ff/{OLD}/linux\n",
        f"/efi/loader/entries/00ff-{NEW}.conf": f"title x\nversion {NEW}\nmachine-id 00ff\nlinux /00ff/{NEW}/linux\n",
        f"/efi/00ff/{OLD}/linux": "k",
        f"/efi/00ff/{NEW}/linux": "k",
    }
    one = host(files, {})
    change = one.plan("systemd-boot")
    assert (change.before, change.after) == ("", f"00ff-{OLD}.conf")
    assert change.command == ["bootctl", "set-default", f"00ff-{OLD}.conf"]
    # Attributes of four bytes, then UTF-16 with a zero at the end, as the firmware keeps it.
    one = host({VARIABLE: b"\x07\0\0\0" + f"00ff-{OLD}.conf\0".encode("utf-16-le")}, {})
    assert one.plan("systemd-boot").command == []


def test_systemd_boot_without_an_entry(host):
    with pytest.raises(HotpmemError, match=f"Run kernel-install add {OLD} /boot/vmlinuz-{OLD}"):
        host({}, {}).plan("systemd-boot")


def test_a_loader_that_cant_be_told(host):
    absent = {"grubby": None, "update-grub": None, "grub-mkconfig": None, "grub2-mkconfig": None}
    with pytest.raises(HotpmemError, match="this machine has no boot loader that can be edited"):
        host({}, absent).plan()
    with pytest.raises(HotpmemError, match=r"hotpmem_boot_loader \(loader\) is external"):
        host({}, absent).plan("external")
