# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import json
import socket
import threading
from pathlib import Path

import pytest
import yaml
from hotlab import lab, machine, ssh
from hotlab.errors import LabError
from hotlab.machine import BLOCK, MIB, Spec
from hotlab.qmp import Qmp


@pytest.mark.parametrize("start", [machine.E820_START, machine.NFIT_START])
def test_both_kinds_of_region_gain_four_whole_blocks(start: int) -> None:
    info_block = 2 * MIB
    assert (start + info_block) % BLOCK == 0
    assert machine.PMEM_BYTES - info_block == 4 * BLOCK


def test_what_a_labelled_dimm_offers_gains_four_whole_blocks() -> None:
    """The largest multiple of 16 MiB that fits, and blocks from the first boundary after the info block."""
    usable = machine.LABELS_BYTES - machine.LABEL_AREA
    begin = machine.LABELS_START + 2 * MIB
    end = machine.LABELS_START + usable // (16 * MIB) * 16 * MIB
    assert machine.LABELS_START % (16 * MIB) == 0 and usable % (16 * MIB)
    assert end // BLOCK - -(-begin // BLOCK) == 4


def test_dimms_do_not_overlap() -> None:
    assert all(dimm.start + dimm.size <= machine.ADDED_START for dimm in machine.DIMMS.values())


def test_options_of_dimms() -> None:
    line = " ".join(machine.options(Spec(pmem="labels"), Path("/m"), Path("/i"), Path("/r"), template=True, port=1))
    assert "memory-backend-file,id=pmem,size=557842432,mem-path=/m/pmem.img,share=on" in line
    assert "nvdimm,id=dimm-pmem,memdev=pmem,addr=5486149632,label-size=131072" in line
    line = " ".join(machine.options(Spec(pmem="nfit"), Path("/m"), Path("/i"), Path("/r"), template=True, port=1))
    assert "addr=5500829696" in line and "label-size" not in line
    assert Spec(pmem="e820").dimm is None


def test_the_command_line_of_e820_machines_reserves_the_region() -> None:
    assert "memmap=514M!1022M" in Spec(pmem="e820").command_line().split()
    assert "nokaslr" in Spec(pmem="e820").command_line().split()
    assert "memmap" not in Spec(pmem="nfit").command_line()


def test_an_arm64_machine_differs_in_its_row_only() -> None:
    spec = Spec("6.12", "nfit", arch="arm64")
    spec.check()
    here, there = (machine.options(one, Path("/m"), Path("/i"), Path("/r"), template=True, port=1) for one in (Spec("6.12", "nfit"), spec))
    assert [word for word in there if word not in here] == [
        "virt,nvdimm=on,gic-version=3,memory-backend=ram0",
        "neoverse-n1",
        "-bios",
        "QEMU_EFI.fd",
        spec.command_line(),
    ]
    assert spec.command_line() == Spec("6.12", "nfit").command_line().replace("ttyS0", "ttyAMA0")
    assert not machine.proves_kvm(spec.architecture)
    # It is slower, and everything that waits for it waits longer.
    assert spec.deadline(60) >= 3 * Spec("6.12", "nfit").deadline(60) == 180


def test_a_device_tree_describes_what_the_command_line_keeps_from_the_kernel() -> None:
    spec = Spec("6.12", "devicetree", arch="arm64")
    spec.check()
    high, low, size_high, size_low = (int(cell, 16) for cell in spec.described["-t x reg"])
    start, size = (high << 32) + low, (size_high << 32) + size_low
    # As QEMU's machine virt has it: RAM from 1 GiB on.
    assert f"mem={start // MIB - 1024}M" in spec.command_line().split() and start + size == 3 << 30
    assert (start + 2 * MIB) % BLOCK == 0 and size == machine.PMEM_BYTES
    line = " ".join(machine.options(spec, Path("/m"), Path("/i"), Path("/r"), template=True, port=1))
    assert ",acpi=off" in line and "-bios" not in line and "-device nvdimm" not in line
    assert not Spec("6.12", "nfit", arch="arm64").described


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kernel": "6.1"}, "without CONFIG_ZONE_DEVICE.*\n.*6.12, 7.3"),
        ({"kernel": "6.6"}, "not in the lab's table"),
        ({"pmem": "e820"}, "have no e820 memory\n.*--pmem nfit"),
        ({"boot": "grub"}, "can't boot with grub"),
        ({"accel": "kvm"}, "with KVM"),
        ({"arch": "riscv64"}, "Use one of: amd64, arm64"),
    ],
)
def test_what_an_arm64_machine_cannot_be_is_refused(change: dict[str, str], words: str) -> None:
    with pytest.raises(LabError, match=words):
        dataclasses.replace(Spec("6.12", "nfit", arch="arm64"), **change).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"memory": "1G"}, "too little"),
        ({"memory": "512M", "pmem": "none"}, "too little"),
        ({"memory": "3G"}, "too much"),
        ({"memory": "2g"}, "not a size"),
        ({"boot": "grub"}, "reserve_memory"),
        ({"accel": "icount", "cpus": 3}, "--cpus 1 or --cpus 2"),
        ({"pmem": "devicetree"}, "amd64 machines have no devicetree memory"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(change: dict[str, str], words: str) -> None:
    Spec().check()
    with pytest.raises(LabError, match=words):
        dataclasses.replace(Spec(), **change).check()  # type: ignore[arg-type]


def test_a_machine_that_counts_instructions_has_one_thread() -> None:
    spec = Spec(accel="icount", cpus=1)
    spec.check()
    line = " ".join(machine.options(spec, Path("/m"), Path("/i"), Path("/r"), template=True, port=1))
    assert "-accel tcg,thread=single,tb-size=128 -icount shift=0,sleep=on" in line and "-cpu max," in line
    assert "filter-buffer" not in line
    assert "icount" not in " ".join(machine.options(Spec(), Path("/m"), Path("/i"), Path("/r"), template=True, port=1))


def test_two_cpus_that_are_counted_take_short_turns() -> None:
    counted, seconds = Spec(accel="icount", cpus=2), Spec(accel="tcg", cpus=2)
    counted.check()
    lines = [" ".join(machine.options(spec, Path("/m"), Path("/i"), Path("/r"), template=True, port=1)) for spec in (counted, seconds)]
    assert "-smp 2 -accel tcg,thread=single,tb-size=128 -icount shift=0,sleep=on" in lines[0]
    assert "-object filter-buffer,id=turns,netdev=net0,interval=20" in lines[0] and "filter-buffer" not in lines[1]


def test_machines_differ_from_their_template_only_in_ram_and_start() -> None:
    for spec in (Spec(), Spec(pmem="nfit"), Spec(pmem="labels"), Spec(boot="grub", pmem="none")):
        paths = Path("/m"), Path("/i"), Path("/r")
        template = machine.options(spec, *paths, template=True, port=1)
        clone = machine.options(spec, *paths, template=False, port=1)
        assert [word.replace("share=on", "share=off") if word.startswith("memory-backend-file,id=ram0") else word for word in template] + [
            "-S",
            "-incoming",
            "defer",
        ] == clone
        assert "hostfwd=tcp:127.0.0.1:1-:22" in " ".join(clone)
        assert "restrict=on" in " ".join(clone)


def test_listening_ports_are_seen_without_connecting() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert not machine._listening(port)
        server.listen()
        assert machine._listening(port)


def test_a_silent_listener_is_no_ssh() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert ssh.banner(server.getsockname()[1], timeout=0.2) is False


def test_the_console_is_made_readable(tmp_path: Path) -> None:
    (tmp_path / "serial.log").write_bytes(b"\x1b[2J\x1b[0;32mok\x1b[0m\r\nnext\x07\xff\r\n")
    assert machine.readable(tmp_path / "serial.log") == "ok\nnext\ufffd\n"
    assert machine.last_line(tmp_path) == "next\ufffd"
    assert machine.console_tail(tmp_path, 1).splitlines()[1:] == ["next\ufffd"]


@pytest.mark.parametrize("name", ["", "../x", "A", "-x", "a" * 40, "a/b"])
def test_names_that_would_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(LabError, match="is not a valid lab name"):
        lab.folder(name)


def test_a_lab_that_is_not_up(cache_home: Path) -> None:
    assert lab.down("demo") == 0
    assert lab.status("demo") == []
    with pytest.raises(LabError, match="has no machine node1"):
        lab.node("demo", "node1")


def test_inventory_and_ssh_configuration(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = cache_home / "ssh"
    keys.mkdir(parents=True)
    (keys / "host.pub").write_text("ssh-ed25519 AAAA comment\n")
    monkeypatch.setattr("hotlab.image.keys", lambda: keys)
    home = lab.folder("demo")
    home.mkdir(parents=True)
    lab._write_access(home, Spec(), {"node1": 2201, "node2": 2202})
    inventory = yaml.safe_load((home / "inventory.yml").read_text())
    assert sorted(inventory["lab"]["hosts"]) == ["node1", "node2"]
    assert inventory["lab"]["vars"]["ansible_python_interpreter"] == "/usr/bin/python3"
    assert f"-F {home}/ssh_config" in inventory["lab"]["vars"]["ansible_ssh_common_args"]
    assert (home / "known_hosts").read_text() == "[127.0.0.1]:2201 ssh-ed25519 AAAA\n[127.0.0.1]:2202 ssh-ed25519 AAAA\n"
    blocks = (home / "ssh_config").read_text().split("Host ")[1:]
    assert [block.splitlines()[0] for block in blocks] == ["node1", "node2"]
    assert all("StrictHostKeyChecking yes" in block for block in blocks)
    assert json.loads((home / "lab.json").read_text())["ports"] == {"node1": 2201, "node2": 2202}
    assert lab.spec("demo") == Spec()


def test_qmp_speaks_and_reports_errors(tmp_path: Path) -> None:
    """Against a server that answers as QEMU does, in a folder whose path is longer than a socket address may be."""
    deep = tmp_path.joinpath(*["d" * 40] * 4)
    deep.mkdir(parents=True)
    server = socket.socket(socket.AF_UNIX)
    (tmp_path / "short").symlink_to(deep)
    server.bind(str(tmp_path / "short" / "qmp"))
    server.listen()

    def answer() -> None:
        connection, _ = server.accept()
        with connection, connection.makefile("rw") as stream:
            stream.write('{"QMP": {}}\n')
            stream.flush()
            for line in stream:
                name = json.loads(line)["execute"]
                stream.write('{"event": "STOP"}\n')
                stream.write('{"error": {"class": "x", "desc": "no such thing"}}\n' if name == "bad" else '{"return": {"a": 1}}\n')
                stream.flush()

    thread = threading.Thread(target=answer)
    thread.start()
    with Qmp(deep / "qmp") as qmp:
        assert qmp.execute("good") == {"a": 1}
        with pytest.raises(LabError, match="no such thing"):
            qmp.execute("bad")
    thread.join()
    server.close()
    with pytest.raises(LabError, match="Cannot reach QEMU"), Qmp(tmp_path / "missing"):
        pass


def test_a_port_that_is_forwarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["could not set up host forwarding rule", ""]
    asked = []

    class Monitor:
        def __init__(self, path: Path) -> None:
            assert path == tmp_path / "qmp"

        def __enter__(self) -> Monitor:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def execute(self, command: str, **arguments: str) -> str:
            asked.append((command, arguments["command-line"]))
            return said.pop(0)

    monkeypatch.setattr(machine, "Qmp", Monitor)
    port = machine.forward(tmp_path, 11211)
    assert asked[-1] == ("human-monitor-command", f"hostfwd_add net0 tcp:127.0.0.1:{port}-:11211")
    said = ["no"] * 5
    with pytest.raises(LabError, match="11211"):
        machine.forward(tmp_path, 11211)
