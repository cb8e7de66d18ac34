# SPDX-License-Identifier: GPL-3.0-or-later
"""The root file system: Debian from the mirror, the lab's own files, one raw ext4 image, its kernel and initrd beside it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from . import cache, foreign, kernels, mirror, progress, step
from .architectures import Architecture
from .errors import LabError

DATA = Path(__file__).resolve().parent.parent / "image"
DISK_SIZE = "3G"
COMMAND_LINE = "nokaslr mitigations=off init_on_alloc=0 apparmor=0 audit=0 nowatchdog cryptomgr.notests rcupdate.rcu_expedited=1 norandmaps"
"""Every machine's, after its console. nokaslr because some kernels place themselves inside a memmap= region. The second line is what
emulation pays dearly for and no test here is about: a fifth of a boot's processor time (tests/lab/measurements.md). The third:
with randomised addresses the emulator translates each program anew at each start; without, a program starts in 18 ms of processor
time instead of 55, and a boot takes 34 s of it instead of 45."""

TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
"""Command -> Debian/Ubuntu package, for what the lab runs on this machine."""


def require_tools() -> None:
    """Fail with the one line that installs all that is missing."""
    missing = sorted({package for tool, package in TOOLS.items() if not _which(tool)})
    if mirror.needs_keyring():
        missing.append("debian-archive-keyring")
    if missing:
        raise LabError(
            f"The lab needs {', '.join(missing)}",
            "not installed on this machine",
            f"Run: {'' if os.geteuid() == 0 else 'sudo '}apt-get install --yes --no-install-recommends {' '.join(missing)}",
        )


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def keys() -> Path:
    """The folder with the lab's two ed25519 key pairs, made once a cache: `id` logs in, `host` is every machine's."""
    folder = cache.root() / "ssh"
    with cache.lock("ssh"):
        folder.mkdir(exist_ok=True, mode=0o700)
        for name in ("id", "host"):
            if not (folder / f"{name}.pub").exists():
                (folder / name).unlink(missing_ok=True)
                command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hotpmem-lab", "-f", str(folder / name)]
                subprocess.run(command, check=True)
    return folder


def command_line(architecture: Architecture) -> str:
    """What the command line of every machine of this architecture has."""
    return f"console={architecture.console} {COMMAND_LINE}"


def ensure(architecture: Architecture, kernel: str) -> Path:
    """Return the cache entry with root.raw, vmlinuz and initrd.img for this kernel, and grub.img where a machine may boot through GRUB.

    Building it takes a minute, and several for another architecture than this computer's.
    """
    row = kernels.find(kernel, architecture.debian)
    require_tools()
    folder = keys()
    # Placeholders instead of paths: the key is about what is built, not where.
    made_by = [_bootstrap(architecture, row, Path("tree"), folder, Path("data")), _file_system(Path("tree"), Path("image")), str(folder)]
    public = [(folder / name).read_text() for name in ("id.pub", "host.pub")]
    key = cache.digest([made_by, public, DATA])
    return cache.entry("images", f"{kernel}-{key}", lambda new: _build(new, architecture, row, folder))


def _bootstrap(architecture: Architecture, row: kernels.Kernel, tree: Path, folder: Path, data: Path = DATA) -> list[str]:
    """The mmdebstrap command without its mirror lines."""
    customize = [str(data / "customize.sh"), str(folder / "id.pub"), str(folder / "host"), command_line(architecture), architecture.journal]
    script, *arguments = (shlex.quote(word) for word in customize)
    packages = [*sorted([*kernels.PACKAGES, *architecture.packages]), row.package(architecture.debian)]
    return [
        "mmdebstrap",
        f"--architectures={architecture.debian}",
        # It would ask for another program (arch-test) to find out what foreign.py makes sure of.
        "--skip=check/qemu",
        "--mode=root",
        "--variant=minbase",
        "--include=" + ",".join(packages),
        f'--essential-hook=cp -rT {shlex.quote(str(data / "files"))} "$1"',
        f'--customize-hook={script} "$1" {" ".join(arguments)}',
        row.suite,
        str(tree),
    ]


def _file_system(tree: Path, target: Path) -> list[str]:
    """The mke2fs command; nothing is left for the first mount to initialise in the background."""
    options = ["-L", "hotpmem-lab", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
    return [_which("mke2fs") or "mke2fs", "-q", "-t", "ext4", *options, "-d", str(tree), str(target), DISK_SIZE]


def _build(new: Path, architecture: Architecture, row: kernels.Kernel, folder: Path) -> None:
    suites = [row.suite, *row.extra_suites]
    progress.say(f"image: building from {', '.join(suites)} (about a minute)")
    tree = new / "root"
    sources = mirror.lines(suites)
    with foreign.runnable(architecture, new):
        step.run("image", [*_bootstrap(architecture, row, tree, folder), *sources], new / "mmdebstrap.log", step.as_root())
    progress.say("image: writing the file system")
    step.run("image", _file_system(tree, new / "root.raw"), new / "mke2fs.log", step.as_root())
    wanted = {"vmlinuz": "vmlinuz", "initrd.img": "initrd.img"}
    if "grub" in architecture.boots:
        wanted["boot/lab-grub-disk.img"] = "grub.img"
    for source, name in wanted.items():
        # The links in / are absolute on some releases; followed by hand, they stay inside the tree.
        path = tree / source
        while path.is_symlink():
            path = tree / os.readlink(path).lstrip("/")
        shutil.copyfile(path, new / name)
    step.run("image", ["rm", "-rf", "--one-file-system", str(tree)], new / "rm.log", step.as_root())
