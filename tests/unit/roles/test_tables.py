# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks status and report print a row for each host, whether it answers or not."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from playing import ROOT, run

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is not installed")
REFUSED = "Connection refused"
# Stands in for ansible.posix.jsonl: an object a line, for programs.
JSONL = """
import json
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "stdout", "jsonl"

    def v2_runner_on_ok(self, result):
        print(json.dumps({"lines": result.result.get("lines")}))
"""


def playbook(
    where: Path, name: str, *words: str, hosts: tuple[str, ...] = ("lost1", "lost2"), **environment: str
) -> subprocess.CompletedProcess:
    """Run a playbook against hosts whose port refuses connections, and perhaps against this machine (here)."""
    inventory = {"all": {"hosts": {host: {"ansible_host": "127.0.0.1", "ansible_port": 1} for host in hosts if host != "here"}}}
    if "here" in hosts:
        inventory["all"]["hosts"]["here"] = {"ansible_connection": "local"}
    # A sudo that fails shows that the controller does not need it.
    inventory["all"]["vars"] = {"ansible_become": True, "ansible_become_exe": "/bin/false"}
    if "here" in hosts:
        inventory["all"]["hosts"]["here"]["ansible_become_exe"] = "sudo"
    (where / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    allowed = {"ANSIBLE_BECOME_ALLOW_SAME_USER": "0" if "here" in hosts else "1", "ANSIBLE_TIMEOUT": "5"}
    return run(where, ["--inventory", str(where / "hosts.yml"), str(ROOT / "playbooks" / f"{name}.yml"), *words], **allowed, **environment)


def row(done: subprocess.CompletedProcess, host: str) -> str:
    found = [line for line in done.stdout.splitlines() if line.startswith(f"{host} ")]
    assert found, done.stdout + done.stderr
    return found[0]


@pytest.mark.parametrize("result_format", ["json", "yaml"])
@pytest.mark.parametrize("name", ["status", "report"])
def test_a_long_row_stays_whole(tmp_path: Path, name: str, result_format: str) -> None:
    """Without a result_format in the configuration it is json. The checkout has yaml, which breaks lines after 80 columns."""
    said = row(playbook(tmp_path, name, ANSIBLE_CALLBACK_RESULT_FORMAT=result_format), "lost1")
    assert len(said) > 80 and "did not answer: " in said and said.endswith(REFUSED), said


def test_a_callback_for_programs_gets_nothing_but_the_result(tmp_path: Path) -> None:
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks/jsonl.py").write_text(JSONL, encoding="utf-8")
    done = playbook(tmp_path, "status", ANSIBLE_STDOUT_CALLBACK="jsonl", ANSIBLE_CALLBACK_PLUGINS=str(tmp_path / "callbacks"))
    results = [json.loads(line) for line in done.stdout.splitlines()]
    (lines,) = (one["lines"] for one in results if one.get("lines"))
    assert [line.split()[0] for line in lines[:3]] == ["host", "lost1", "lost2"]


@pytest.mark.parametrize("name", ["status", "report"])
def test_all_hosts_are_unreachable(tmp_path: Path, name: str) -> None:
    done = playbook(tmp_path, name, "--extra-vars", f"hotpmem_report_json={tmp_path}/data.json hotpmem_status_json={tmp_path}/data.json")
    for host in ("lost1", "lost2"):
        assert "did not answer: " in row(done, host) and REFUSED in row(done, host)
    # The run has not succeeded, as for any play with an unreachable host.
    assert done.returncode != 0
    assert set(json.loads((tmp_path / "data.json").read_text(encoding="utf-8"))) == {"lost1", "lost2"}
    if name == "report":
        assert REFUSED in (tmp_path / "hotpmem-report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["status", "report"])
def test_a_limit_keeps_the_table(tmp_path: Path, name: str) -> None:
    done = playbook(tmp_path, name, "--limit", "lost2")
    assert REFUSED in row(done, "lost2")
    assert not any(line.startswith("lost1 ") for line in done.stdout.splitlines())


@pytest.mark.parametrize("name, words", [("status", "no namespace|failed: "), ("report", "no cycle on record")])
def test_one_host_answers(tmp_path: Path, name: str, words: str) -> None:
    done = playbook(tmp_path, name, hosts=("here", "lost1"))
    assert REFUSED in row(done, "lost1") and done.returncode != 0
    assert any(word in row(done, "here") for word in words.split("|")), row(done, "here")


def test_a_report_of_this_machine_succeeds(tmp_path: Path) -> None:
    done = playbook(tmp_path, "report", hosts=("here",))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no cycle on record" in row(done, "here")
