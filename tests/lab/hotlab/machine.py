# SPDX-License-Identifier: GPL-3.0-or-later
"""One QEMU machine: its command line, its start, and the wait for its sshd."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from . import architectures, devicetree, image, kernels, process, progress, ssh
from .architectures import Architecture
from .emulator import Emulator
from .errors import LabError
from .qmp import Qmp

MIB = 1 << 20
BLOCK = 128 * MIB
"""The memory block (block_size_bytes): of x86 machines up to 64 GiB, and of arm64 with pages of 4 KiB."""
PMEM_BYTES = 514 * MIB
"""512 MiB to gain, and the 2 MiB that a devdax namespace's info block and alignment take in front."""
E820_START = 8 * BLOCK - 2 * MIB
NFIT_START = (4 << 30) + 9 * BLOCK - 2 * MIB
"""Both 2 MiB below a memory block boundary, so that all four blocks can become RAM."""
LABELS_START = (4 << 30) + 9 * BLOCK - 16 * MIB
LABELS_BYTES = 532 * MIB
"""A namespace on a labelled DIMM is a multiple of 16 MiB: one of 528 MiB gains 512, and what is left is too little for 16 more."""
LABEL_AREA = 128 << 10
"""At the end of the DIMM's file; the smallest that QEMU takes."""
ADDED_START = (4 << 30) + 16 * BLOCK
ADDED_BYTES = 64 * MIB
"""A second DIMM, without labels, for a machine that runs."""
CONSOLE_LINES = 40
ACCELS = {"tcg": "tcg,thread=multi,tb-size=128", "icount": "tcg,thread=single,tb-size=128", "kvm": "kvm"}
"""What QEMU calls the accelerators of a machine."""
TURN_US = 20
"""How long one CPU runs, at most, before the other does, where instructions are counted."""
TMPFS = Path("/dev/shm")


@dataclass(frozen=True)
class Spec:
    """What machines of one lab have in common, and what a snapshot of them depends on."""

    kernel: str = "6.1"
    pmem: str = "e820"
    boot: str = "snapshot"
    memory: str = "2G"
    cpus: int = 2
    accel: str = "tcg"
    arch: str = "amd64"

    def check(self) -> None:
        """Refuse combinations that could not work, before anything is started."""
        kernels.find(self.kernel, self.arch)
        if self.pmem not in self.architecture.pmem:
            raise LabError(f"{self.arch} machines have no {self.pmem} memory", "", f"Add --pmem {self.architecture.pmem[0]}.")
        if self.boot not in self.architecture.boots:
            raise LabError(f"{self.arch} machines can't boot with {self.boot}", "", f"Use --boot {self.architecture.boots[0]}.")
        if self.accel == "kvm" and self.architecture.binfmt:
            raise LabError(f"This computer can't run {self.arch} machines with KVM", "", "Use --accel tcg.")
        size = parse_size(self.memory)
        if size < 1 << 30 or (self.pmem == "e820" and size < E820_START + PMEM_BYTES + 256 * MIB):
            raise LabError(f"--memory {self.memory} is too little", "", "A lab machine needs 1G, and 2G with --pmem e820.")
        if size >= 2816 * MIB:
            raise LabError(f"--memory {self.memory} is too much", "", "Above 2.75G QEMU splits the RAM; stay below it.")
        if self.accel == "icount" and self.cpus not in (1, 2):
            raise LabError(f"--accel icount was not tried with --cpus {self.cpus}", "", "Use --cpus 1 or --cpus 2.")
        if self.boot == "grub" and self.pmem == "e820":
            raise LabError(
                "--boot grub --pmem e820: a machine that boots its own disk takes its command line from there",
                "",
                "Use --pmem none and let the machine reserve memory (role reserve_memory), or --pmem nfit.",
            )

    def command_line(self) -> str:
        """The kernel command line given from outside (boot=snapshot)."""
        left = parse_size(self.memory) - PMEM_BYTES
        reserve = {"e820": f" memmap={PMEM_BYTES // MIB}M!{E820_START // MIB}M", "devicetree": f" mem={left // MIB}M"}.get(self.pmem, "")
        return f"root=/dev/vda rw {image.command_line(self.architecture)}{reserve}"

    @property
    def architecture(self) -> Architecture:
        """The row of its architecture."""
        return architectures.find(self.arch)

    def deadline(self, seconds: float) -> float:
        """How long to wait for what an amd64 machine does within so many seconds."""
        return seconds * self.architecture.patience

    @property
    def described(self) -> dict[str, list[str]]:
        """The node of the device tree that describes its persistent memory; empty for a machine with ACPI."""
        return devicetree.properties(parse_size(self.memory), PMEM_BYTES) if self.pmem == "devicetree" else {}

    @property
    def dimm(self) -> Dimm | None:
        """The NVDIMM that a machine starts with."""
        return DIMMS.get(self.pmem)

    def as_dict(self) -> dict[str, object]:
        """All fields, for the cache key and the lab's record."""
        return asdict(self)


def parse_size(text: str) -> int:
    """`2G`, `1536M` in bytes."""
    match = re.fullmatch(r"(\d+)([MG])", text)
    if not match:
        raise LabError(f"{text!r} is not a size", "", "Write it like 1536M or 2G.")
    return int(match[1]) * (MIB if match[2] == "M" else 1 << 30)


def free_port() -> int:
    """A TCP port of 127.0.0.1 nobody listens on now; someone may take it before QEMU does, so the start is retried."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Dimm:
    """An NVDIMM; its content is the file NAME.img in the machine's folder."""

    name: str
    size: int
    start: int
    label_area: int = 0

    def backend(self, folder: Path) -> dict[str, object]:
        """QEMU's object that holds the content."""
        return {"id": self.name, "size": self.size, "mem-path": f"{folder}/{self.name}.img", "share": True}

    def device(self) -> dict[str, object]:
        """QEMU's device."""
        labels = {"label-size": self.label_area} if self.label_area else {}
        return {"id": f"dimm-{self.name}", "memdev": self.name, "addr": self.start, **labels}


DIMMS = {"nfit": Dimm("pmem", PMEM_BYTES, NFIT_START), "labels": Dimm("pmem", LABELS_BYTES, LABELS_START, LABEL_AREA)}
"""By the kind of persistent memory. The other kinds have none."""


def words(kind: str, options: dict[str, object]) -> str:
    """Options as the command line takes them."""
    return ",".join([kind, *(f"{key}={'on' if value is True else value}" for key, value in options.items())])


def options(spec: Spec, folder: Path, base: Path, ram: Path, *, template: bool, port: int) -> list[str]:
    """QEMU's options for a machine in `folder` on the image `base`.

    The RAM is a file: the template maps it shared, so it holds the RAM's content when the template ends; machines map
    the same file privately, so restoring one copies nothing. x-ignore-shared leaves RAM out of the saved device state.
    """
    size = parse_size(spec.memory)
    argv = ["-name", folder.name, "-nodefaults", "-display", "none", "-vga", "none"]
    # A GICv3 keeps its tables over kexec, and without EFI the next kernel does not know where: it panicked.
    described = ",acpi=off,gic-version=2" if spec.described else ""
    argv += ["-machine", f"{spec.architecture.machine},memory-backend=ram0{described}", "-smp", str(spec.cpus)]
    # A write to guest memory drops what was translated of that page, at some 50 us a block: kexec's copy over the old kernel above
    # all. A full buffer drops everything at once, so it should not be too large; a smaller one than this translates too much anew
    # (measured: README.md).
    argv += ["-accel", ACCELS[spec.accel]]
    if spec.accel == "icount":
        # The guest's clocks count instructions, 1 ns each. While the machine is idle they follow the host's clock: with sleep=off an idle
        # machine would run through the time-outs of its sshd in no time.
        argv += ["-icount", "shift=0,sleep=on"]
    argv += ["-cpu", "host" if spec.accel == "kvm" else spec.architecture.cpu]
    # Without ACPI, QEMU starts the kernel itself: the firmware would hand it another tree.
    argv += ["-bios", spec.architecture.bios] if spec.architecture.bios and not described else []
    argv += ["-m", f"{size // MIB}M,slots=4,maxmem=16G"]
    argv += ["-object", f"memory-backend-file,id=ram0,size={size},mem-path={ram},share={'on' if template else 'off'}"]
    argv += ["-drive", f"file={folder}/disk.qcow2,format=qcow2,if=none,id=root,cache=unsafe,discard=unmap"]
    argv += ["-device", "virtio-blk-pci,drive=root" + (",bootindex=2" if spec.boot == "grub" else "")]
    if spec.boot == "grub":
        argv += ["-drive", f"file={base}/grub.img,format=raw,if=none,id=loader,snapshot=on"]
        argv += ["-device", "virtio-blk-pci,drive=loader,bootindex=1"]
    else:
        argv += ["-kernel", f"{base}/vmlinuz", "-initrd", f"{base}/initrd.img", "-append", spec.command_line()]
    argv += ["-netdev", f"user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"]
    if spec.accel == "icount" and spec.cpus > 1:
        # The CPUs take turns, and a turn ends at QEMU's next timer. This filter of the network has one, which costs the guest nothing.
        # Without it, a CPU may wait milliseconds for its turn.
        argv += ["-object", f"filter-buffer,id=turns,netdev=net0,interval={TURN_US}"]
    argv += ["-device", "virtio-net-pci,netdev=net0,romfile=", "-device", "virtio-rng-pci"]
    if spec.dimm:
        argv += ["-object", words("memory-backend-file", spec.dimm.backend(folder)), "-device", words("nvdimm", spec.dimm.device())]
    argv += ["-serial", "file:serial.log", "-serial", "file:journal.log"]
    argv += ["-qmp", "unix:qmp,server=on,wait=off", "-monitor", "unix:monitor,server=on,wait=off"]
    return argv if template else [*argv, "-S", "-incoming", "defer"]


def device_tree(ram: Path) -> Path:
    """The device tree of a machine. It belongs to the snapshot, as the file of the RAM does."""
    return ram.with_name("machine.dtb")


def write_device_tree(spec: Spec, qemu: Emulator, folder: Path, base: Path, ram: Path) -> None:
    """Write that tree, with what describes the persistent memory."""
    devicetree.write(device_tree(ram), qemu, options(spec, folder, base, ram, template=True, port=0), spec.described)


def start(spec: Spec, qemu: Emulator, folder: Path, base: Path, ram: Path, *, template: bool) -> int:
    """Start QEMU in `folder` (its pid is recorded there) and return the loopback port of its sshd."""
    for _ in range(5):
        port = free_port()
        argv = [*qemu.argv, *options(spec, folder, base, ram, template=template, port=port)]
        if spec.described:
            argv += ["-dtb", str(device_tree(ram))]
        with open(folder / "qemu.log", "w") as log:
            # QEMU gets its own session: an interrupt at the terminal reaches only the lab command, which then ends QEMU in order.
            child = subprocess.Popen(
                argv, cwd=folder, env=qemu.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            process.record(folder / "pid", child.pid)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and child.poll() is None:
                if _listening(port):
                    return port
                time.sleep(0.02)
        except BaseException:
            child.kill()
            raise
        if child.poll() is None:
            process.end(folder / "pid")
            raise LabError(f"{folder.name}: QEMU did not open port {port} within 30 s", (folder / "qemu.log").read_text())
        said = (folder / "qemu.log").read_text().strip()
        if "host forwarding" not in said:
            raise LabError(f"{folder.name}: QEMU ended with status {child.returncode}", said)
        progress.say(f"{folder.name}: port {port} was taken meanwhile; trying another")
    raise LabError(f"{folder.name}: found no free port in five attempts")


def _listening(port: int) -> bool:
    """True when 127.0.0.1:port has a listener, read from /proc/net/tcp so that no connection is spent on asking."""
    wanted = f"0100007F:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == wanted and fields[3] == "0A":
            return True
    return False


def wait_ssh(name: str, folder: Path, connection: Sequence[str], port: int, deadline: float) -> None:
    """Wait until sshd answers and a command runs; LabError with the console's tail after `deadline` seconds."""
    begin = time.monotonic()
    told = begin
    while True:
        left = begin + deadline - time.monotonic()
        if process.running(folder / "pid") is None:
            said = (folder / "qemu.log").read_text().strip()
            raise LabError(f"{name}: QEMU ended while its ssh was awaited", said, console_tail(folder))
        if "Kernel panic" in readable(folder / "serial.log"):
            raise LabError(f"{name}: the kernel panicked while its ssh was awaited", console_tail(folder))
        if left <= 0:
            raise LabError(
                f"{name}: no answer from ssh on 127.0.0.1:{port} within {deadline:.0f} s",
                console_tail(folder),
                f"The whole console is {folder}/serial.log, the journal {folder}/journal.log.",
            )
        if ssh.banner(port, min(left, 5.0)) and ssh.run(connection, "true", timeout=max(left, 5.0)).returncode == 0:
            return
        if time.monotonic() - told > 15:
            told = time.monotonic()
            progress.say(f"{name}: waiting for ssh ({told - begin:.0f} s); console: {last_line(folder)}")
        time.sleep(0.1)


def console_tail(folder: Path, lines: int = CONSOLE_LINES) -> str:
    """The last lines of the serial console, headed by what they are."""
    text = readable(folder / "serial.log")
    return f"--- last {lines} lines of {folder.name}'s console\n" + "\n".join(text.splitlines()[-lines:])


def readable(path: Path) -> str:
    """A serial log as plain text: no colours, no carriage returns, nothing that could upset a terminal."""
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
    text = re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[()].|c)", "", text).replace("\r", "")
    return "".join(c for c in text if c in {"\n", "\t"} or c.isprintable())


def last_line(folder: Path) -> str:
    """The newest line of the console, cut to fit a line of progress."""
    lines = [line for line in readable(folder / "serial.log").splitlines() if line.strip()]
    return lines[-1].strip()[:90] if lines else "(silent)"


def reset(folder: Path) -> None:
    """Pull and release the reset line of a running machine (it boots again; e820 and NFIT memory keep their content)."""
    with Qmp(folder / "qmp") as qmp:
        qmp.execute("system_reset")


def place_in_memory(path: Path, size: int) -> None:
    """Let `path` be a link to a new file on tmpfs, where there is room. A DIMM is memory: on a disk, the host's writing back makes each
    page fault again, and a save of 256 MiB took 1.1 s instead of 0.15.
    """
    room = shutil.disk_usage(TMPFS).free if TMPFS.is_dir() else 0
    if room > 4 * size:
        handle, name = tempfile.mkstemp(prefix="hotpmem-lab-", suffix=f"-{path.name}", dir=TMPFS)
        os.close(handle)
        path.symlink_to(name)


def add_dimm(folder: Path) -> Path:
    """Plug a second NVDIMM, of random content, into a running machine; returns its file. It stays there over resets, numbered first.

    QEMU describes DIMMs to the kernel in the order of a hash of their ids (nvdimm_get_device_list): that of `dimm-second` comes first.
    """
    added = Dimm("second", ADDED_BYTES, ADDED_START)
    path = folder / f"{added.name}.img"
    path.write_bytes(os.urandom(added.size))
    with Qmp(folder / "qmp") as qmp:
        qmp.execute("object-add", **{"qom-type": "memory-backend-file", **added.backend(folder)})
        qmp.execute("device_add", driver="nvdimm", **added.device())
    return path


def stop_at_reboot(folder: Path) -> None:
    """Let the machine stop, for clear(), when it reboots through its firmware the next time. (QEMU manual: set-action, since 6.0.)"""
    with Qmp(folder / "qmp") as qmp:
        qmp.execute("set-action", reboot="shutdown", shutdown="pause")


def clear(folder: Path, dimm: Dimm, deadline: float = 600) -> None:
    """Wait until the machine has stopped, clear the DIMM and boot, as some firmware does. The labels stay."""
    with Qmp(folder / "qmp") as qmp:
        end = time.monotonic() + deadline
        while (state := qmp.execute("query-status")["status"]) != "shutdown":
            if time.monotonic() > end:
                raise LabError(f"{folder.name} has not rebooted within {deadline:.0f} s; it is {state}", console_tail(folder))
            time.sleep(0.1)
        hole = ["fallocate", "--punch-hole", "--length", str(dimm.size - dimm.label_area), f"{folder}/{dimm.name}.img"]
        subprocess.run(hole, check=True)
        qmp.execute("set-action", reboot="reset", shutdown="poweroff")
        qmp.execute("system_reset")
        qmp.execute("cont")


def forward(folder: Path, port: int) -> int:
    """Let connections to the loopback port that is returned through to `port` of a running machine, as long as it runs."""
    said = ""
    for _ in range(5):
        here = free_port()
        with Qmp(folder / "qmp") as qmp:
            command_line = f"hostfwd_add net0 tcp:127.0.0.1:{here}-:{port}"
            said = qmp.execute("human-monitor-command", **{"command-line": command_line}).strip()
        if not said:
            return here
    raise LabError(f"{folder.name}: QEMU forwards no connections to port {port}", said)


def end(folder: Path) -> bool:
    """End the machine recorded in `folder`, when it runs. True when it did."""
    return process.end(folder / "pid")


def interrupt_as_exception() -> None:
    """Let SIGTERM and SIGHUP unwind like an interrupt, so that what was started is ended."""

    def raise_interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, raise_interrupt)


def proves_kvm(architecture: Architecture) -> bool:
    """Whether KVM is worth an attempt here: this computer's architecture, the CPU says so and the device opens. Booting is the proof."""
    if architecture.binfmt:
        return False
    flags = set(Path("/proc/cpuinfo").read_text().split())
    return bool(flags & {"svm", "vmx"}) and os.access("/dev/kvm", os.R_OK | os.W_OK)
