# SPDX-License-Identifier: GPL-3.0-or-later
"""A play on a lab has the variables of the demo, those of its tool, and the configuration of this checkout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))
import lab_play


def test_variables_and_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("ANSIBLE_CONFIG", "/nowhere/ansible.cfg")
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (tmp_path / "inventory.yml").write_text(json.dumps({"all": {"hosts": {"node1": here, "node2": {}}}}))
    seen = {name: "{{ %s }}" % name for name in ("hotpmem_items", "demo_mib", "confirm")}
    tasks = [
        {"ansible.builtin.copy": {"dest": str(tmp_path / "seen"), "content": "{{ seen | to_json }}"}},
        {"hotpmem.fleet.print_lines": {"lines": ["{{ lookup('ansible.builtin.config', 'DEFAULT_FORKS') }} forks"]}},
    ]
    book = tmp_path / "play.yml"
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "vars": {"seen": seen}, "tasks": tasks}]))
    words = lab_play.command(tmp_path / "inventory.yml", book, "--limit", "node1", demo_mib=7, confirm=False)
    done = subprocess.run(words, env=lab_play.environment(LC_ALL="C.UTF-8"), capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "\n20 forks\n" in done.stdout, done.stdout + done.stderr
    found = json.loads((tmp_path / "seen").read_text())
    assert (found["demo_mib"], found["confirm"]) == (7, False) and found["hotpmem_items"]
