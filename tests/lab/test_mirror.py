# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from hotlab import mirror
from hotlab.mirror import Source

DEB822 = """\
Types: deb
# a comment inside a stanza
URIs: http://one.invalid/debian http://two.invalid/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb-src
URIs: http://source.invalid/debian
Suites: bookworm

Types: deb
Enabled: no
URIs: http://off.invalid/debian
Suites: bookworm

Types: deb
URIs: http://inline.invalid/debian
Suites: trixie
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
"""


def test_deb822() -> None:
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    suites = ("bookworm", "bookworm-updates")
    assert mirror.parse_deb822(DEB822) == [
        Source("http://one.invalid/debian", suites, keyring),
        Source("http://two.invalid/debian", suites, keyring),
        Source("http://inline.invalid/debian", ("trixie",), ""),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deb http://a.invalid/debian bookworm main", [Source("http://a.invalid/debian", ("bookworm",))]),
        ("  deb [arch=amd64 signed-by=/k.gpg] http://a.invalid/d trixie main", [Source("http://a.invalid/d", ("trixie",), "/k.gpg")]),
        ("deb-src http://a.invalid/debian bookworm main", []),
        ("# deb http://a.invalid/debian bookworm main", []),
        ("", []),
    ],
)
def test_one_line_format(line: str, expected: list[Source]) -> None:
    assert mirror.parse_list(line) == expected


def machine_with(tmp_path: Path, text: str) -> Path:
    folder = tmp_path / "etc/apt/sources.list.d"
    folder.mkdir(parents=True)
    (folder / "x.sources").write_text(text)
    (folder / "y.list").write_text("deb http://vendor.invalid/apt stable-tools main\n")
    return tmp_path


def test_the_machines_own_mirror_serves_every_suite(tmp_path: Path) -> None:
    root = machine_with(tmp_path, DEB822)
    assert mirror.lines(["trixie", "trixie-backports"], root) == [
        f"deb [signed-by=/{mirror.KEYRING}] http://one.invalid/debian {suite} main" for suite in ("trixie", "trixie-backports")
    ]


def test_a_machine_without_a_debian_mirror_leaves_it_to_mmdebstrap(tmp_path: Path) -> None:
    root = machine_with(tmp_path, "Types: deb\nURIs: http://u.invalid/ubuntu\nSuites: noble noble-updates\n")
    assert mirror.lines(["bookworm"], root) == []


def test_the_environment_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTPMEM_DEBIAN_MIRROR", "http://mine.invalid/debian")
    assert mirror.lines(["bookworm"], machine_with(tmp_path, DEB822))[0].split()[2] == "http://mine.invalid/debian"
