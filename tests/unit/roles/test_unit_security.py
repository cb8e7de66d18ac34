# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of docs/security.md has the figures that `systemd-analyze security` gives the units of the collection."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible_collections.hotpmem.fleet.plugins.filter.systemd_word import systemd_word
from playing import ROOT

PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(hotpmem-[\w@-]+\.service)` \| ([0-9.]+) ", re.MULTILINE)
TOLERANCE = 1.0  # later versions of systemd look at more settings
UNITS = {
    path.name.removesuffix(".j2"): path.parts[-3] for path in sorted(ROOT.glob("roles/*/templates/*.service.j2"))
}  # by name: the role that installs it


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every service. Their paths and times are not those of a host: systemd does not count them."""
    where = tmp_path_factory.mktemp("units")
    reader = jinja2.Environment(trim_blocks=True, undefined=jinja2.ChainableUndefined, autoescape=False)  # noqa: S701
    reader.filters["hotpmem.fleet.systemd_word"] = systemd_word
    paths = {"node_agent_path": "/bin/true", "node_agent_helper": "/bin/true", "node_agent_paths": [], "unit_guard_units": ["a.service"]}
    for name, role in UNITS.items():
        values = {**yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text(encoding="utf-8")), **paths}
        text = (ROOT / "roles" / role / "templates" / f"{name}.j2").read_text(encoding="utf-8")
        (where / name).write_text(reader.from_string(text).render(values), encoding="utf-8")
    return where


def test_each_unit_has_a_row() -> None:
    assert dict(ROW.findall(PAGE)).keys() == UNITS.keys()


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_a_unit_forbids_what_the_page_says(written: Path, unit: str) -> None:
    text = (written / unit).read_text(encoding="utf-8")
    lines = set(text.splitlines())
    assert "All of these\nunits forbid new privileges, new namespaces, real-time scheduling and foreign architectures." in PAGE
    assert {"NoNewPrivileges=yes", "RestrictNamespaces=yes", "RestrictRealtime=yes", "SystemCallArchitectures=native"} <= lines
    assert "Its permanent units allow only local\nsockets." in PAGE
    assert set(re.findall("^RestrictAddressFamilies=(.*)", text, re.MULTILINE)) <= {"AF_UNIX", "AF_UNIX AF_NETLINK"} and "AF_UNIX" in text


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_the_figure_is_that_of_systemd(written: Path, unit: str) -> None:
    if shutil.which("systemd-analyze") is None:
        warnings.warn("NOT TESTED: systemd-analyze is not installed, so nothing computes the figures of docs/security.md", stacklevel=1)
        pytest.skip("systemd-analyze is not installed")
    version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(written / unit)], capture_output=True, text=True, check=False
    )
    (figure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    (measured,) = re.findall(r"systemd (\d+)", PAGE)
    allowed = 0.0 if version == measured else TOLERANCE
    assert float(figure) == pytest.approx(float(dict(ROW.findall(PAGE))[unit]), abs=allowed + 0.01)
