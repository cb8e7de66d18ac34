# SPDX-License-Identifier: GPL-3.0-or-later
"""Which QEMU a kernel gets, with programs that only say a version."""

from __future__ import annotations

from pathlib import Path

import pytest
from hotlab import emulator


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The installed QEMU, which says what its file's second line says; and a builder whose QEMU needs its module folder."""
    program = tmp_path / "installed"
    monkeypatch.setattr(emulator, "INSTALLED", str(program))

    def build(new: Path) -> None:
        libraries = new / "tree" / emulator.LIBRARIES
        libraries.mkdir(parents=True)
        loader = libraries / "ld-linux-x86-64.so.2"
        loader.write_text('#!/bin/sh\n[ -n "$QEMU_MODULE_DIR" ] && echo "QEMU emulator version 10.0.13 (Debian)"\n')
        loader.chmod(0o755)

    monkeypatch.setattr(emulator, "_build", build)
    return program


def say(program: Path, version: str) -> None:
    program.write_text(f"#!/bin/sh\necho QEMU emulator version {version}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("kernel", "accel", "installed", "own"),
    [
        ("6.1", "tcg", "7.2.22", False),
        ("6.12", "tcg", "7.2.22", True),
        ("7.3", "tcg", "8.2.2", True),
        ("6.12", "tcg", "10.0.2", False),
        ("6.12", "kvm", "7.2.22", False),
    ],
)
def test_a_newer_emulator_is_fetched_only_where_it_is_needed(
    qemu: Path, cache_home: Path, kernel: str, accel: str, installed: str, own: bool
) -> None:
    say(qemu, installed)
    found = emulator.choose(kernel, accel)
    assert found.major == (10 if own else int(installed.split(".")[0]))
    assert (cache_home / "emulators").exists() == own
    assert found.argv[0].startswith(str(cache_home)) == own
    # Told to the loader, not to the environment: what QEMU starts (sh, cat) is this machine's.
    assert "LD_LIBRARY_PATH" not in dict(found.environ)


def test_a_version_that_cannot_be_read_is_old(qemu: Path) -> None:
    say(qemu, "unknown")
    assert emulator.choose("6.1", "kvm").major == 0
