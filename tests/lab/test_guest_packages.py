# SPDX-License-Identifier: GPL-3.0-or-later
"""What is downloaded for a machine, and when it is downloaded again. A stand-in runs instead of apt-get."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hotlab import lab, mirror, packages, ssh
from hotlab.errors import LabError
from hotlab.machine import Spec

STATUS = "Package: dash\nStatus: install ok installed\nVersion: 1\n"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine with one package; `asked` collects what apt-get was given."""
    it = SimpleNamespace(asked=[], status=STATUS, code=0, spec=Spec())

    def run(what: str, command: list[str], log: Path, prefix: list[str] | None = None) -> None:
        options = dict(word[2:].split("=", 1) for word in command if word.startswith("-o"))
        it.architecture = options["APT::Architecture"]
        it.asked.append([word for word in command if not word.startswith("-o")])
        it.seen = Path(options["Dir::State::status"]).read_text()
        if "install" in command:
            (Path(options["Dir::Cache::archives"]) / "redis_1_amd64.deb").write_text("a package")

    monkeypatch.setattr(packages.step, "run", run)
    monkeypatch.setattr(lab, "ssh_command", lambda name, host: ["ssh"])
    monkeypatch.setattr(lab, "spec", lambda name: it.spec)
    monkeypatch.setattr(mirror, "lines", lambda suites: [])
    monkeypatch.setattr(ssh, "run", lambda *words, **more: subprocess.CompletedProcess([], it.code, it.status.encode(), b"no route"))
    return it


def test_what_the_machine_lacks(machine: SimpleNamespace) -> None:
    found = packages.fetch("demo", "node1", ["redis"], ["locales"])
    assert [words[-1] for words in machine.asked] == ["update", "redis"]
    assert {"--no-install-recommends", "--download-only"} <= set(machine.asked[1])
    assert machine.seen.startswith(STATUS) and "\n\nPackage: locales\nStatus: install ok installed\n" in machine.seen
    with tarfile.open(found) as tar:
        assert tar.getnames() == ["redis_1_amd64.deb"]


def test_packages_of_its_architecture(machine: SimpleNamespace) -> None:
    first = packages.fetch("demo", "node1", ["redis"], ["locales"])
    assert machine.architecture == "amd64" and "Architecture: amd64\n" in machine.seen
    machine.spec = Spec("6.12", "nfit", arch="arm64")
    assert packages.fetch("demo", "node1", ["redis"], ["locales"]) != first
    assert machine.architecture == "arm64" and "Architecture: arm64\n" in machine.seen


def test_once_for_machines_that_are_alike(machine: SimpleNamespace) -> None:
    first = packages.fetch("demo", "node1", ["redis"], [])
    assert packages.fetch("other", "node2", ["redis"], []) == first
    assert len(machine.asked) == 2
    machine.status += "\nPackage: redis\nStatus: install ok installed\nVersion: 1\n"
    assert packages.fetch("demo", "node1", ["redis"], []) != first


def test_a_machine_that_does_not_answer(machine: SimpleNamespace) -> None:
    machine.code = 255
    with pytest.raises(LabError, match="its list of packages could not be read"):
        packages.fetch("demo", "node1", ["redis"], [])
