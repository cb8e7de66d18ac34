# SPDX-License-Identifier: GPL-3.0-or-later
"""Which QEMU a kernel gets, with programs that only say a version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hotlab import emulator
from hotlab.architectures import ARCHITECTURES, Architecture

AMD64 = ARCHITECTURES["amd64"]


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The installed QEMU, which says what its file's second line says; and packages whose QEMU needs its module folder."""

    def unpack(packages: tuple[str, ...], tree: Path, log: Path) -> None:
        libraries = tree / emulator.LIBRARIES
        libraries.mkdir(parents=True)
        loader = libraries / "ld-linux-x86-64.so.2"
        loader.write_text('#!/bin/sh\n[ -n "$QEMU_MODULE_DIR" ] && echo "QEMU emulator version 10.0.13 (Debian)"\n')
        loader.chmod(0o755)

    monkeypatch.setattr(emulator, "unpack", unpack)
    return tmp_path / "installed"


def machine(program: Path) -> Architecture:
    return replace(AMD64, program=str(program))


def say(program: Path, version: str) -> None:
    program.write_text(f"#!/bin/sh\necho QEMU emulator version {version}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("asked", "installed"),
    [
        (("6.1", "tcg", 2), "7.2.22"),
        (("6.12", "tcg", 2), "10.0.2"),
        (("7.3", "tcg", 2), "11.1.0"),
        (("6.12", "kvm", 2), "7.2.22"),
        (("6.1", "icount", 1), "7.2.22"),
        (("6.1", "icount", 2), "10.0.2"),
    ],
)
def test_the_installed_emulator_does(qemu: Path, cache_home: Path, asked: tuple[str, str, int], installed: str) -> None:
    say(qemu, installed)
    found = emulator.choose(machine(qemu), *asked)
    assert (found.argv, f"version {installed}" in found.version) == ((str(qemu),), True)
    assert not (cache_home / "emulators").exists()


@pytest.mark.parametrize(
    ("kernel", "accel", "installed"),
    [("6.12", "tcg", "7.2.22"), ("7.3", "tcg", "8.2.2"), ("7.3", "tcg", "9.2.4"), ("6.1", "icount", "7.2.22"), ("6.1", "icount", "9.2.4")],
)
def test_a_newer_emulator_is_fetched(qemu: Path, cache_home: Path, kernel: str, accel: str, installed: str) -> None:
    say(qemu, installed)
    found = emulator.choose(machine(qemu), kernel, accel, 2)
    assert found.major == 10
    assert found.argv[0].startswith(str(cache_home / "emulators"))
    # The libraries are told to the loader, not to the environment: what QEMU starts (sh, cat) is this machine's.
    assert [name for name, _ in found.environ] == ["QEMU_MODULE_DIR"]


def test_a_version_that_cannot_be_read_is_old(qemu: Path) -> None:
    say(qemu, "unknown")
    assert emulator.choose(machine(qemu), "6.1", "kvm", 2).major == 0


def test_another_architecture_gets_a_qemu_with_its_firmware(qemu: Path, cache_home: Path) -> None:
    """Nothing is asked whether it is installed: the test would fail there, because no program of that name exists."""
    found = emulator.choose(replace(ARCHITECTURES["arm64"], program=str(qemu)), "6.12", "tcg", 2)
    assert found.argv[0].startswith(str(cache_home / "emulators"))
    assert any(word.endswith("/usr/share/qemu-efi-aarch64") for word in found.argv)
