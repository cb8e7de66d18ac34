# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role packages, with programs in a directory of the test and a package manager that only writes down what it is asked."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from playing import ROOT, evaluated, play, read

PROGRAMS = ("ndctl", "daxctl", "kexec")
MANAGER = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"name": {"type": "list", "elements": "str"}, "state": {}}, supports_check_mode=True)
open(%r, "a").write(" ".join(sorted(module.params["name"])) + "\\n")
module.exit_json(changed=True)
"""


def provided(where: Path, *programs: str) -> str:
    """A PATH with these programs, and with no others of ours."""
    (where / "bin").mkdir()
    for name in programs:
        (where / "bin" / name).symlink_to("/bin/true")
    return str(where / "bin")


def role(where: Path, monkeypatch: pytest.MonkeyPatch, programs: str, **variables: object) -> tuple[subprocess.CompletedProcess, list]:
    """Run the role. Returns what it printed and which packages it asked for."""
    (where / "library").mkdir()
    (where / "library/recorder.py").write_text(MANAGER % str(where / "asked"))
    lacking = set(PROGRAMS) - set(programs.split())
    if any(shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/sbin") for name in lacking):
        pytest.skip("this machine has a program that the test takes away")
    monkeypatch.setenv("PATH", f"{provided(where, *programs.split())}:/usr/bin:/bin")
    done = play(
        where,
        {"roles": ["hotpmem.fleet.packages"]},
        "--extra-vars",
        json.dumps({"ansible_package_use": "ansible.legacy.recorder", **variables}),
    )
    asked = where / "asked"
    return done, asked.read_text().splitlines() if asked.exists() else []


def test_nothing_runs_where_the_programs_are(tmp_path, monkeypatch):
    done, asked = role(tmp_path, monkeypatch, " ".join(PROGRAMS), packages_family="RedHat")
    assert done.returncode == 0 and "changed=0" in done.stdout and asked == []


@pytest.mark.parametrize(
    "family, programs, packages",
    [
        ("RedHat", "", "daxctl kexec-tools ndctl"),
        ("Suse", "", "kexec-tools ndctl"),
        ("Archlinux", "kexec", "ndctl"),
        ("RedHat", "ndctl daxctl", "kexec-tools"),
    ],
)
def test_the_missing_programs_are_installed(tmp_path, monkeypatch, family, programs, packages):
    done, asked = role(tmp_path, monkeypatch, programs, packages_family=family)
    assert done.returncode == 0, done.stdout + done.stderr
    assert asked == [packages] and "changed=1" in done.stdout


@pytest.mark.parametrize("off", [False, "false"])
def test_it_can_be_left_out(tmp_path, monkeypatch, off):
    done, asked = role(tmp_path, monkeypatch, "", packages_family="RedHat", hotpmem_install_packages=off)
    assert done.returncode == 0 and "changed=0" in done.stdout and asked == []


def test_an_unknown_distribution(tmp_path, monkeypatch):
    done, asked = role(tmp_path, monkeypatch, "ndctl", packages_family="Slackware")
    assert done.returncode == 2 and asked == []
    assert "Cannot install daxctl, kexec on localhost: the role does not know the packages" in done.stdout


def test_debian(tmp_path):
    variables = {"packages_family": "Debian", "packages_looked": {"stdout_lines": list(PROGRAMS)}}
    (answer,) = evaluated(tmp_path, "packages", [variables], {"wanted": "{{ packages_wanted }}"})
    assert answer["wanted"] == ["ndctl", "daxctl", "kexec-tools"]


def test_provision_installs_first():
    tasks = read(ROOT / "playbooks/provision.yml")[0]["tasks"]
    assert tasks[0]["ansible.builtin.include_role"]["name"] == "hotpmem.fleet.packages"
