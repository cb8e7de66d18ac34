# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units with odd paths and names, as systemd reads them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
from playing import ROOT, evaluated, template

ITEMS = [
    {"name": "spaces", "path": "/srv/my cache", "unit": r"redis@a\x2db.service", "cold_start": True},
    {"name": "percent", "path": "/srv/50%i", "unit": "plain.service", "cold_start": False, "early_start": True},
    {"name": "quotes", "path": '/srv/"it\'s" $HOME', "unit": r"srv-my\x20cache.mount"},
    {"name": "backslash", "path": "/srv/a\\x41", "unit": "-.slice"},
]
UNITS = [item["unit"] for item in ITEMS]
HELPER = "/usr/local/my sbin/50%i $HOME/pmem-state"
SERVICES = {
    "node_agent": ["hotpmem-restore.service", "hotpmem-save.service", "hotpmem-hot-add.service"],
    "unit_guard": ["hotpmem-cold-start.service"],
}


class Dump:
    """What systemd made of the units in a directory."""

    def __init__(self, where: Path) -> None:
        self.said: dict[str, str] = {}
        for unit in (name for names in SERVICES.values() for name in names):
            done = subprocess.run(
                ["systemd-analyze", "verify", "--man=no", str(where / unit)], capture_output=True, text=True, check=False,
                env={**os.environ, "SYSTEMD_UNIT_PATH": f"{where}:", "SYSTEMD_LOG_LEVEL": "debug", "SYSTEMD_COLORS": "0"},
            )  # fmt: skip
            self.said[unit] = done.stdout + done.stderr

    def values(self, unit: str, key: str) -> set[str]:
        """The values of a key, such as After. The origin of the dependency is left out."""
        return {re.sub(r" \([\w-]+(: .*)?\)$", "", value) for value in re.findall(rf"^\t+{key}: (.*)$", self.said[unit], re.MULTILINE)}

    def commands(self, unit: str) -> list[list[str]]:
        """The command lines. systemd prints \\$ for $, and replaces $$ when it starts them."""
        lines = re.findall(r"^\t+Command Line: (.*)$", self.said[unit], re.MULTILINE)
        return [[word.replace("\\$", "$").replace("$$", "$") for word in shlex.split(line)] for line in lines]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program at an odd path. systemd checks that it exists."""
    path = tmp_path_factory.mktemp("odd") / "my sbin 50%i $HOME" / "hotpmem-node"
    path.parent.mkdir()
    shutil.copy("/bin/true", path)
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, agent: str) -> dict[str, str]:
    """The text of each unit, and of the drop-in of a unit with an odd name."""
    where = tmp_path_factory.mktemp("play")
    found: dict[str, str] = {}
    for role, names in SERVICES.items():
        wanted = {name: template(role, name) for name in names}
        if role == "node_agent":
            wanted |= {name: template(role, name) for name in ("dropin.conf", "cold_start.conf")}
        variables = {
            "node_agent_path": agent,
            "node_agent_helper": HELPER,
            "item": {"name": UNITS[0], "kept": ITEMS[:1]},
            f"{role}_items": ITEMS,
        }
        found.update(evaluated(where, role, [variables], wanted)[0])
    return found


@pytest.fixture(scope="module")
def dump(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Dump:
    if shutil.which("systemd-analyze") is None:
        said = "systemd-analyze is not installed, so nothing reads the units with odd names as systemd does"
        warnings.warn(f"NOT TESTED: {said}", stacklevel=1)  # pytest -q shows warnings, but not why a test was skipped
        pytest.skip(said)
    where = tmp_path_factory.mktemp("units")
    for name in (name for names in SERVICES.values() for name in names):
        # The scripts of the agent are not installed here.
        (where / name).write_text(re.sub(r"^(Exec\w+=)/usr/local/lib/hotpmem/\w+", r"\1/bin/true", files[name], flags=re.MULTILINE))
    (where / "hotpmem-cold-start.service.d").mkdir()
    (where / "hotpmem-cold-start.service.d/60-hotpmem-node.conf").write_text(files["cold_start.conf"])
    return Dump(where)


def test_systemd_accepts_every_unit(dump: Dump) -> None:
    faults = [
        line
        for said in dump.said.values()
        for line in said.splitlines()
        if re.search(r"hotpmem-[\w-]+\.service(:\d+)?: .*(ignoring|[Ff]ailed to|not executable|nvalid|Unknown)", line)
    ]
    assert faults == []


@pytest.mark.parametrize("unit", ["hotpmem-restore.service", "hotpmem-save.service"])
def test_the_paths_of_the_items(dump: Dump, unit: str) -> None:
    assert {item["path"] for item in ITEMS} <= dump.values(unit, "RequiresMountsFor")


def test_the_program_of_the_agent(dump: Dump, agent: str) -> None:
    assert [agent, "hot-add", "--at-boot"] in dump.commands("hotpmem-hot-add.service")
    (stop,) = dump.commands("hotpmem-save.service")
    assert stop[:2] == ["/bin/sh", "-c"] and stop[3:] == ["sh", agent, "save-at-shutdown", "--deadline", "120"]


def test_the_cold_start_leaves_the_order_to_the_agent(dump: Dump, agent: str) -> None:
    """systemd refuses to start a socket after its service. Only the agent knows the sockets, so it comes before systemctl."""
    assert dump.commands("hotpmem-cold-start.service") == [
        ["/bin/rm", "-f", "/var/lib/hotpmem/pending"],
        ["/usr/bin/timeout", "30", agent, "units", "--start"],
        ["/bin/systemctl", "start", "--no-block", "--", *UNITS],
    ]


def test_the_shell_runs_the_agent(dump: Dump, tmp_path: Path) -> None:
    (stop,) = dump.commands("hotpmem-save.service")
    program = tmp_path / "a b $HOME"
    program.write_text('#!/bin/sh\nprintf "%s," "$@"\n')
    program.chmod(0o755)
    done = subprocess.run([*stop[:4], str(program), *stop[5:]], capture_output=True, text=True, check=True)
    assert done.stdout == "save-at-shutdown,--deadline,120,"


def test_the_helper(dump: Dump) -> None:
    assert ["/bin/true", "10", HELPER] in dump.commands("hotpmem-restore.service")


def test_the_names_of_the_units(dump: Dump) -> None:
    assert set(UNITS) <= dump.values("hotpmem-hot-add.service", "After")


def test_without_systemd_the_names_are_quoted_by_the_filter(files: dict[str, str]) -> None:
    """This runs on every machine."""
    assert r'-- "redis@a\\x2db.service" plain.service "srv-my\\x20cache.mount" -.slice' in files["hotpmem-cold-start.service"]
    assert r" redis@a\x2db.service " in files["hotpmem-hot-add.service"]
    assert r"Items of this unit: spaces." in files["dropin.conf"]


def test_every_path_and_name_in_a_template_is_quoted() -> None:
    """A path or a unit name that a template writes to a unit goes through the filter, except where systemd takes names as they are."""
    bare = []
    for file in sorted([*ROOT.glob("roles/*/templates/*.service.j2"), *ROOT.glob("roles/*/templates/*.timer.j2")]):
        for line in file.read_text(encoding="utf-8").splitlines():
            if re.match(r"(After|Before|Wants|Requires|Conflicts)=", line):
                continue
            for expression in re.findall(r"\{\{ (.*?) \}\}", line):
                if re.search(r"path|helper|units|mounts", expression) and "systemd_word" not in expression:
                    bare.append(f"{file.name}: {expression}")
    assert bare == []
