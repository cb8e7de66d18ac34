# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot loaders in a tree: what is written, what is run, the second time, and the way back."""

from __future__ import annotations

import json
import re

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Completed
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.boot_loader import DROP_IN, RECORD, BootLoader, joined

WANTED = ["memmap=514M!1022M", "nokaslr"]
LINE = "root=/dev/vda1 ro memmap=64K$1G quiet"
ENTRY = f"title Debian\nmachine-id 00ff\nlinux /vmlinuz\noptions {LINE}\ninitrd /initrd\n"


class Host:
    """A tree and the programs on it: update-grub copies what it sources, grubby keeps one argument of a name."""

    def __init__(self, root, programs):
        self.root, self.programs, self.calls, self.fail, self.kernels = root, programs, [], False, []
        self.put("proc/cmdline", LINE)

    def put(self, name, text):
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def text(self, name):
        path = self.root / name.lstrip("/")
        return path.read_text() if path.exists() else None

    def which(self, name):
        if name not in ("update-grub", "grubby"):
            pytest.fail(f"The program {name} is not in this test's table.")
        return name if name in self.programs else None

    def check(self, argv, what, todo, timeout=None):
        self.calls.append(argv)
        known = argv in (["update-grub"], ["grubby", "--info=ALL"]) or (
            argv[:2] == ["grubby", "--update-kernel=ALL"] and all(word.startswith(("--args=", "--remove-args=")) for word in argv[2:])
        )
        if not known or argv[0] not in self.programs:
            pytest.fail(f"The command {' '.join(argv)} is not in this test's table.")
        if self.fail and "--info=ALL" not in argv:
            raise HotpmemError(what, "it failed", todo)
        if argv == ["update-grub"]:
            found = re.search(r"\$GRUB_CMDLINE_LINUX (.*)\"", self.text(DROP_IN) or "")
            self.put("boot/grub/grub.cfg", f"linux /vmlinuz {LINE} {found.group(1) if found else ''}\n")
        for option in argv[2:]:
            for word in option.partition("=")[2].split():
                name = word.partition("=")[0]
                if option.startswith("--remove-args"):
                    self.kernels = [[one for one in kernel if one != word] for kernel in self.kernels]
                else:
                    self.kernels = [[*(one for one in kernel if one.partition("=")[0] != name), word] for kernel in self.kernels]
        return Completed(tuple(argv), 0, "".join(f'index=0\nargs="{" ".join(kernel)}"\n' for kernel in self.kernels), "")

    def make(self, wanted, apply=True):
        loader = BootLoader(Sysfs(str(self.root)), self)
        change = loader.plan(wanted)
        if apply:
            loader.apply(change)
        return change


@pytest.fixture
def host(tmp_path):
    def build(kind):
        made = Host(tmp_path, {"grub": {"update-grub"}, "grubby": {"grubby"}}.get(kind, set()))
        if kind == "grub":
            made.put("etc/default/grub", "")
            made.put("boot/grub/grub.cfg", f"linux /vmlinuz {LINE}")
        elif kind == "grubby":
            made.kernels = [["root=/dev/vda1", "ro"], ["root=/dev/vda1", "ro", "quiet"]]
        elif kind == "systemd-boot":
            made.put("etc/machine-id", "00ff")
            made.put("etc/kernel/cmdline", LINE + "\n")
            for name in ("00ff-6.1", "00ff-6.12"):
                made.put(f"boot/loader/entries/{name}.conf", ENTRY)
            made.put("boot/loader/entries/other.conf", ENTRY.replace("00ff", "11ee"))
            made.put("boot/loader/entries/memtest.conf", "title memtest\nefi /memtest.efi\noptions x\n")
        return made

    return build


def everything(root):
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kind", ["grub", "grubby", "systemd-boot"])
def test_check_do_again_undo_again(host, tmp_path, kind):
    one = host(kind)
    before, kernels = everything(tmp_path), one.kernels
    planned = one.make(WANTED, apply=False)
    assert planned.changed and planned.loader == kind
    assert (everything(tmp_path), one.kernels) == (before, kernels)

    done = one.make(WANTED)
    assert (done.changed, done.after, done.running) == (True, WANTED, False)
    again = one.make(WANTED)
    assert (again.changed, again.files, again.commands, again.running) == (False, {}, [], False)

    # The machine was rebooted.
    one.put("proc/cmdline", f"{LINE} {' '.join(WANTED)}")
    assert one.make(WANTED).running is True

    undone = one.make([])
    assert (undone.changed, undone.after, undone.running) == (True, [], False)
    second = one.make([])
    assert (second.changed, second.running) == (False, False)
    one.put("proc/cmdline", LINE)
    assert (one.make([]).changed, one.make([]).running) == (False, True)

    after = everything(tmp_path)
    assert json.loads(after.pop(str(RECORD).lstrip("/"))) == {"arguments": [], "removed": [], "loader": kind}
    assert {name: " ".join(sorted(text.split())) for name, text in after.items()} == {
        name: " ".join(sorted(text.split())) for name, text in before.items()
    }
    assert one.kernels == kernels


def test_grub_drop_in(host):
    one = host("grub")
    one.make(WANTED)
    assert 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX memmap=514M!1022M nokaslr"\n' in one.text(DROP_IN)
    one.make(["memmap=2050M!4222M"])
    assert "514M" not in one.text(DROP_IN) + one.text("boot/grub/grub.cfg")


def test_the_drop_in_of_an_older_version_is_ours(host):
    one = host("grub")
    one.put(DROP_IN, '# Ansible managed\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX memmap=514M!1022M nokaslr"\n')
    one.put("boot/grub/grub.cfg", f"linux x {' '.join(WANTED)}")
    assert one.make(WANTED).changed is False
    assert one.make([]).changed is True
    assert one.text(DROP_IN) is None


def test_an_interrupted_run_of_grub_is_finished(host):
    one = host("grub")
    one.make(WANTED)
    one.put("boot/grub/grub.cfg", f"linux x {LINE}")
    assert one.make(WANTED).commands == [["update-grub"]]


@pytest.mark.parametrize("kind", ["grub", "grubby"])
def test_a_command_that_fails_leaves_the_files(host, tmp_path, kind):
    one = host(kind)
    before = everything(tmp_path)
    one.fail = True
    with pytest.raises(HotpmemError, match="it failed"):
        one.make(WANTED)
    after = everything(tmp_path)
    after.pop(RECORD.lstrip("/"), None)
    assert after == before
    one.fail = False
    assert one.make(WANTED).changed
    assert one.make(WANTED).changed is False


def test_systemd_boot_touches_its_own_entries_only(host):
    one = host("systemd-boot")
    one.make(WANTED)
    merged = f"{LINE} memmap=514M!1022M nokaslr"
    assert one.text("etc/kernel/cmdline") == merged + "\n"
    assert f"options    {merged}\n" in one.text("boot/loader/entries/00ff-6.1.conf")
    assert one.text("boot/loader/entries/other.conf") == ENTRY.replace("00ff", "11ee")
    assert "memmap" not in one.text("boot/loader/entries/memtest.conf")
    # A kernel that was installed since, from a command line of somebody else.
    one.put("boot/loader/entries/00ff-7.3.conf", ENTRY)
    change = one.make(WANTED)
    assert [path for path in change.files if path != RECORD] == ["/boot/loader/entries/00ff-7.3.conf"]


def test_unified_images_are_refused(host):
    one = host("systemd-boot")
    one.put("efi/EFI/Linux/debian.efi", "x")
    with pytest.raises(HotpmemError, match=r"unified kernel image /efi/EFI/Linux/debian\.efi"):
        one.make(WANTED)


def test_grubby_would_replace_a_foreign_memmap(host):
    one = host("grubby")
    one.kernels[0].append("memmap=64K$1G")
    with pytest.raises(HotpmemError, match=r"memmap=64K\$1G already, which grubby would replace"):
        one.make(WANTED)


def test_what_an_operator_wrote_stays(host):
    one = host("grubby")
    one.kernels[1].append("nokaslr")
    assert one.make(WANTED).after == ["memmap=514M!1022M"]
    one.make([])
    assert "nokaslr" in one.kernels[1]


def test_nothing_to_edit(host):
    one = host("external")
    with pytest.raises(HotpmemError, match="no boot loader that can be edited"):
        one.make(WANTED)
    one.put("proc/cmdline", "quiet memmap=514M!1022M")
    change = one.make(WANTED)
    assert (change.loader, change.changed, change.running, change.files) == ("external", False, True, {})
    assert one.make([]).running is True


def test_several_regions_are_one_word():
    assert joined(["memmap=2G!4G", "nokaslr", "memmap=1G!8G"]) == ["memmap=2G!4G,1G!8G", "nokaslr"]
