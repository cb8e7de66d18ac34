# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of another architecture, with a folder in the place of binfmt_misc."""

from __future__ import annotations

from pathlib import Path

import pytest
from hotlab import foreign
from hotlab.architectures import ARCHITECTURES
from hotlab.errors import LabError

ARM64 = ARCHITECTURES["arm64"]
# The start of an ELF file of aarch64 (EM_AARCH64 is 183), linked as a program and as a shared object.
HEADERS = [bytes.fromhex(f"7f454c46020101000000000000000000{kind}00b700") for kind in ("02", "03")]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(packages: tuple[str, ...], tree: Path, log: Path) -> None:
        (tree / "usr/bin").mkdir(parents=True)

    monkeypatch.setattr(foreign.emulator, "unpack", unpack)
    monkeypatch.setattr(foreign.step, "as_root", list)


def test_it_is_registered_for_the_time_of_the_build(tmp_path: Path) -> None:
    folder, new = tmp_path / "binfmt", tmp_path / "new"
    folder.mkdir()
    (folder / "register").touch()
    with foreign.runnable(ARM64, new, folder):
        assert (folder / "register").read_text().endswith(f":{new}/interpreter/usr/bin/qemu-aarch64:F")
    assert (folder / "qemu-aarch64").read_text() == "-1\n"
    assert not (new / "interpreter").exists()


def test_what_somebody_else_has_registered_stays(tmp_path: Path) -> None:
    (tmp_path / "qemu-aarch64").write_text("enabled\n")
    (tmp_path / "register").touch()
    with foreign.runnable(ARM64, tmp_path / "new", tmp_path):
        pass
    assert (tmp_path / "qemu-aarch64").read_text() == "enabled\n" and not (tmp_path / "register").read_text()


def test_programs_of_this_computer_need_nothing(tmp_path: Path) -> None:
    with foreign.runnable(ARCHITECTURES["amd64"], tmp_path, tmp_path / "missing"):
        pass
    assert not list(tmp_path.iterdir())


def test_where_it_cannot_be_registered_the_error_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "register").mkdir()
    with pytest.raises(LabError, match="qemu-user-static"), foreign.runnable(ARM64, tmp_path / "new", tmp_path):
        pass


@pytest.mark.parametrize("header", HEADERS)
def test_the_mask_matches_programs_of_that_architecture_only(header: bytes) -> None:
    assert ARM64.binfmt
    magic, mask = (part.encode().decode("unicode_escape").encode("latin-1") for part in ARM64.binfmt[1:])

    def matches(start: bytes) -> bool:
        return bytes(a & b for a, b in zip(start, mask)) == bytes(a & b for a, b in zip(magic, mask))

    assert len(magic) == len(mask) == 20
    assert matches(header) and not matches(header.replace(b"\xb7", b"\x3e"))
