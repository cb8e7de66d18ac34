# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot loaders in a tree: what is written, what is run, the second time, and the way back."""

from __future__ import annotations

import json
import subprocess

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Completed
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.boot_loader import DROP_IN, OLD_DROP_IN, RECORD, BootLoader, joined

WANTED = ["memmap=514M!1022M", "nokaslr"]
LINE = "root=/dev/vda1 ro memmap=64K$1G quiet"
ENTRY = f"title Debian\nmachine-id 00ff\nlinux /vmlinuz\noptions {LINE}\ninitrd /initrd\n"


# What grub-mkconfig does with its settings. Only Debian's reads the directory.
SOURCES = ". etc/default/grub; {0} echo $GRUB_CMDLINE_LINUX"
DEBIAN = "for x in etc/default/grub.d/*.cfg; do [ ! -e $x ] || . ./$x; done;"
EFIVARS = "sys/firmware/efi/efivars"


class Host:
    """A tree and the programs on it: GRUB's copies what a shell sources, grubby keeps one argument of a name."""

    def __init__(self, root, programs):
        self.root, self.programs, self.calls, self.fail, self.kernels = root, programs, [], False, []
        self.template = "linux /vmlinuz {line}\n"
        self.put("proc/cmdline", LINE)

    def put(self, name, text):
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def text(self, name):
        path = self.root / name.lstrip("/")
        return path.read_text() if path.exists() else None

    def which(self, name):
        if name not in ("update-grub", "grubby", "grub-mkconfig", "grub2-mkconfig"):
            pytest.fail(f"The program {name} is not in this test's table.")
        return f"/usr/sbin/{name}" if name in self.programs else None

    def efi(self, **variables):
        """EFI variables of the boot loader interface, as efivarfs shows them."""
        (self.root / EFIVARS).mkdir(parents=True, exist_ok=True)
        for name, text in variables.items():
            path = self.root / EFIVARS / f"{name}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
            path.write_bytes(b"\x06\0\0\0" + f"{text}\0".encode("utf-16-le"))

    def mkconfig(self, argv):
        """What the shell leaves in GRUB_CMDLINE_LINUX goes into grub.cfg."""
        reads = self.text(f"usr/sbin/{argv[0]}") or (DEBIAN if argv[0] == "update-grub" else "")
        done = subprocess.run(["sh", "-c", SOURCES.format(reads)], cwd=self.root, capture_output=True, text=True, check=True)
        self.put(argv[2] if len(argv) > 2 else "boot/grub/grub.cfg", self.template.format(line=f"{LINE} {done.stdout.strip()}"))

    def check(self, argv, what, todo, timeout=None):
        self.calls.append(argv)
        made = argv == ["update-grub"] or argv[1:] in (["-o", "/boot/grub/grub.cfg"], ["-o", "/boot/grub2/grub.cfg"])
        known = (
            made
            or argv == ["grubby", "--info=ALL"]
            or (argv[:2] == ["grubby", "--update-kernel=ALL"] and all(word.startswith(("--args=", "--remove-args=")) for word in argv[2:]))
        )
        if not known or argv[0] not in self.programs:
            pytest.fail(f"The command {' '.join(argv)} is not in this test's table.")
        if self.fail and "--info=ALL" not in argv:
            raise HotpmemError(what, "it failed", todo)
        if made:
            self.mkconfig(argv)
            return Completed(tuple(argv), 0, "", "")
        for option in argv[2:]:
            for word in option.partition("=")[2].split():
                name = word.partition("=")[0]
                if option.startswith("--remove-args"):
                    self.kernels = [[one for one in kernel if one != word] for kernel in self.kernels]
                else:
                    self.kernels = [[*(one for one in kernel if one.partition("=")[0] != name), word] for kernel in self.kernels]
        return Completed(tuple(argv), 0, "".join(f'index=0\nargs="{" ".join(kernel)}"\n' for kernel in self.kernels), "")

    def make(self, wanted, apply=True, kind="auto"):
        loader = BootLoader(Sysfs(str(self.root)), self, architecture="x86_64")
        change = loader.plan(wanted, kind)
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
            made.efi(LoaderInfo="systemd-boot 252.30-1~deb12u2")
            made.put("etc/machine-id", "00ff")
            made.put("etc/kernel/cmdline", LINE + "\n")
            for name in ("00ff-6.1", "00ff-6.12"):
                made.put(f"boot/loader/entries/{name}.conf", ENTRY)
            made.put("boot/loader/entries/other.conf", ENTRY.replace("00ff", "11ee"))
            made.put("boot/loader/entries/memtest.conf", "title memtest\nefi /memtest.efi\noptions x\n")
        return made

    return build


def everything(root):
    return {str(path.relative_to(root)): path.read_bytes().decode() for path in sorted(root.rglob("*")) if path.is_file()}


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
    text = '# Ansible managed\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX memmap=514M!1022M nokaslr"\n'
    one.put(OLD_DROP_IN, text)
    one.put("boot/grub/grub.cfg", f"linux x {' '.join(WANTED)}")
    # Its name came before the files of cloud images. It moves, once.
    moved = one.make(WANTED)
    assert (moved.changed, moved.before, moved.after) == (True, WANTED, WANTED)
    assert one.text(OLD_DROP_IN) is None and WANTED[0] in one.text(DROP_IN)
    assert one.make(WANTED).changed is False
    one.put(OLD_DROP_IN, text)
    assert one.make([]).changed is True
    assert one.text(DROP_IN) is None and one.text(OLD_DROP_IN) is None


def test_a_file_of_somebody_else_with_the_old_name_stays(host):
    one = host("grub")
    one.put(OLD_DROP_IN, "GRUB_TIMEOUT=3\n")
    one.make(WANTED)
    assert one.text(OLD_DROP_IN) == "GRUB_TIMEOUT=3\n"


CLOUD = 'GRUB_CMDLINE_LINUX="console=tty1 console=ttyS0 earlyprintk=ttyS0"\n'


def test_a_cloud_image_sets_the_command_line_anew(host):
    one = host("grub")
    one.put("etc/default/grub.d/50-cloudimg-settings.cfg", CLOUD)
    assert one.make(WANTED).changed
    assert "console=tty1 console=ttyS0 earlyprintk=ttyS0 memmap=514M!1022M nokaslr" in one.text("boot/grub/grub.cfg")
    assert one.make(WANTED).changed is False


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("etc/default/grub.d/zzz.cfg", CLOUD, r"is set in /etc/default/grub\.d/zzz\.cfg \(GRUB_CMDLINE_LINUX=\"console=tty1"),
        ("etc/default/grub.d/zzz.cfg", "unset GRUB_CMDLINE_LINUX\n", r"the scripts in /etc/grub\.d do not use it"),
        ("etc/default/grub.d/zzz.cfg", 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX x -- $GRUB_CMDLINE_LINUX_X"\n', None),
        ("etc/default/grub", 'GRUB_CMDLINE_LINUX="quiet -- single"\n', r"they are after -- in BOOT_IMAGE=/vmlinuz root="),
    ],
)
def test_what_grub_does_not_take_over_is_an_error(host, tmp_path, name, text, said):
    one = host("grub")
    one.put(name, text)
    if said is None:
        assert one.make(WANTED).changed
        return
    one.mkconfig(["update-grub"])
    before = everything(tmp_path)
    with pytest.raises(HotpmemError, match=said) as caught:
        one.make(WANTED)
    assert "/boot/grub/grub.cfg lacks memmap=514M!1022M nokaslr after update-grub" in caught.value.said
    after = everything(tmp_path)
    assert {key: text.split() for key, text in after.items()} == {key: text.split() for key, text in before.items()}


def test_other_systems_in_grub_cfg_do_not_count(host):
    one = host("grub")
    one.template = (
        "### BEGIN /etc/grub.d/10_linux ###\n\tlinux\t/vmlinuz-6.1 {line}\n### END /etc/grub.d/10_linux ###\n"
        "### BEGIN /etc/grub.d/20_memtest86+ ###\n\tlinux16 /memtest.bin\n### END /etc/grub.d/20_memtest86+ ###\n"
        "### BEGIN /etc/grub.d/30_os-prober ###\n\tlinux /vmlinuz root=/dev/sdb1\n### END /etc/grub.d/30_os-prober ###\n"
    )
    assert one.make(WANTED).changed
    assert one.make(WANTED).changed is False


@pytest.mark.parametrize("name, config", [("grub-mkconfig", "boot/grub/grub.cfg"), ("grub2-mkconfig", "boot/grub2/grub.cfg")])
@pytest.mark.parametrize("reads", [DEBIAN.replace("etc", "./etc"), ""])
def test_grub_mkconfig(host, tmp_path, name, config, reads):
    """SUSE, Arch and Gentoo have no update-grub, and their grub-mkconfig sources only /etc/default/grub."""
    one = host("none")
    one.programs = {name}
    one.put("etc/default/grub", 'GRUB_CMDLINE_LINUX="quiet"')
    one.put(f"usr/sbin/{name}", reads)
    one.put(config, f"linux /vmlinuz {LINE}\n")
    before = everything(tmp_path)
    done = one.make(WANTED)
    assert (done.loader, done.commands) == ("grub", [[name, "-o", f"/{config}"]])
    assert (one.text(DROP_IN) is not None, "hotpmem" in one.text("etc/default/grub")) == (bool(reads), not reads)
    assert " quiet memmap=514M!1022M nokaslr" in one.text(config)
    assert one.make(WANTED).changed is False
    one.make(["memmap=1G!4G"])
    assert "514M" not in one.text(config) + one.text("etc/default/grub")
    assert one.make([]).changed
    assert one.make([]).changed is False
    after = everything(tmp_path)
    assert after["etc/default/grub"].rstrip("\n") == before["etc/default/grub"]
    assert "memmap=1G!4G" not in after[config]


def test_grub_cfg_that_is_not_mounted(host):
    one = host("none")
    one.programs = {"grub-mkconfig"}
    one.put("etc/default/grub", "")
    with pytest.raises(HotpmemError, match=r"/boot/grub/grub\.cfg, which grub-mkconfig would write, does not exist"):
        one.make(WANTED)
    one.put("etc/fstab", "UUID=x / ext4\nUUID=y /boot ext4 noauto\nUUID=z /boot/efi vfat\n")
    with pytest.raises(HotpmemError, match=r"/boot is in /etc/fstab but not mounted. Run mount /boot"):
        one.make(WANTED)


def test_grub_with_entries_of_its_own(host):
    one = host("grub")
    one.put("boot/grub/grub.cfg", "insmod blscfg\nblscfg\n")
    with pytest.raises(HotpmemError, match=r"reads the entries in /boot/loader/entries, which update-grub does not write. Install grubby"):
        one.make(WANTED)


def test_an_interrupted_undo_of_grub_is_finished(host):
    one = host("grub")
    one.make(WANTED)
    (one.root / DROP_IN.lstrip("/")).unlink()
    assert one.make([]).commands == [["update-grub"]]
    assert WANTED[0] not in one.text("boot/grub/grub.cfg")
    assert one.make([]).changed is False


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
    with pytest.raises(HotpmemError, match=r"unified kernel image \(UKI\) /efi/EFI/Linux/debian\.efi"):
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


@pytest.mark.parametrize("kind", ["grub", "grubby", "systemd-boot"])
@pytest.mark.parametrize(
    "length, said",
    [
        (2010, r"it has 20[0-9]{2} bytes, and the kernel takes at most 2047\. The boot loader would cut the end off"),
        (1958, r"it has 20[0-9]{2} bytes, and the kernel takes at most 2016 from kexec"),
    ],
)
def test_a_command_line_that_would_be_cut_off(host, tmp_path, kind, length, said):
    one = host(kind)
    long = "x=" + "y" * length
    one.put("boot/grub/grub.cfg", f"linux /vmlinuz {LINE} {long}\n")
    one.put("boot/loader/entries/00ff-6.1.conf", ENTRY.replace("quiet", long))
    one.kernels = [[*kernel, long, "quiet", "ro", "z=12345678"] for kernel in one.kernels]
    before = everything(tmp_path)
    with pytest.raises(HotpmemError, match=f"would be too long: {said}"):
        one.make(WANTED)
    assert everything(tmp_path) == before


def test_words_for_init_do_not_count(host):
    one = host("external")
    one.put("proc/cmdline", f"{LINE} -- {' '.join(WANTED)}")
    with pytest.raises(HotpmemError, match="was not started with memmap=514M!1022M"):
        one.make(WANTED)
    one = host("systemd-boot")
    one.put("etc/kernel/cmdline", "ro -- single\n")
    one.put("boot/loader/entries/00ff-6.1.conf", ENTRY.replace(LINE, "ro -- single"))
    change = one.make(WANTED)
    assert change.running is False
    assert one.text("etc/kernel/cmdline") == "ro memmap=514M!1022M nokaslr -- single\n"
    assert "options    ro memmap=514M!1022M nokaslr -- single\n" in one.text("boot/loader/entries/00ff-6.1.conf")


def test_grubby_would_add_behind_the_dashes(host):
    one = host("grubby")
    one.kernels[1] += ["--", "single"]
    with pytest.raises(HotpmemError, match=r"arguments for init after --: root=/dev/vda1 ro quiet -- single\..*before the --"):
        one.make(WANTED)


def test_grubby_that_changes_nothing(host):
    one = host("grubby")
    check = one.check
    one.check = lambda argv, *rest: check(["grubby", "--info=ALL"] if argv[1] == "--update-kernel=ALL" else argv, *rest)
    with pytest.raises(HotpmemError, match=r"an entry that grubby --info=ALL lists lacks memmap=514M!1022M nokaslr"):
        one.make(WANTED)


def test_comments_and_line_ends(host, tmp_path):
    one = host("systemd-boot")
    (tmp_path / "etc/kernel/cmdline").write_bytes(b"# the serial console\r\nro\r\nquiet\r\n")
    (tmp_path / "boot/loader/entries/00ff-6.1.conf").write_bytes(
        b"title x\r\nlinux /vmlinuz\r\noptions ro\r\n options quiet\r\ninitrd /i\r\n"
    )
    one.put("boot/loader/entries/00ff-6.12.conf", "#options x\nlinux /vmlinuz\noptions\n")
    one.make(WANTED)
    files = everything(tmp_path)
    assert files["etc/kernel/cmdline"] == "# the serial console\r\nro quiet memmap=514M!1022M nokaslr\r\n"
    assert files["boot/loader/entries/00ff-6.1.conf"] == (
        "title x\r\nlinux /vmlinuz\r\ninitrd /i\r\noptions    ro quiet memmap=514M!1022M nokaslr\r\n"
    )
    assert files["boot/loader/entries/00ff-6.12.conf"] == "#options x\nlinux /vmlinuz\noptions    memmap=514M!1022M nokaslr\n"
    assert one.make(WANTED).changed is False
    one.make([])
    assert everything(tmp_path)["etc/kernel/cmdline"] == "# the serial console\r\nro quiet\r\n"
    assert one.make([]).changed is False


def test_what_an_earlier_run_added_is_not_forgotten(host):
    """The boot loader can't be edited now. Its configuration still has the arguments."""
    one = host("external")
    one.put("proc/cmdline", f"quiet {' '.join(WANTED)}")
    one.put(RECORD, json.dumps({"arguments": WANTED, "removed": []}))
    with pytest.raises(HotpmemError, match=r"an earlier run added memmap=514M!1022M nokaslr to a boot loader"):
        one.make([])
    assert one.make(WANTED).after == WANTED
