# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of the role node_agent, judged by systemd itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.hotpmem.fleet.plugins.filter.state_items import state_items
from ansible_collections.hotpmem.fleet.plugins.filter.systemd_word import systemd_word

jinja2 = pytest.importorskip("jinja2")

ROLE = Path(__file__).resolve().parents[4] / "roles" / "node_agent"
ITEMS = [
    {"name": "cache", "path": "/srv/state/cache", "unit": "cache.service", "early_start": True},
    {"name": "must", "path": "/srv/must", "unit": "must.service", "cold_start": False},
    {"name": "plain", "path": "/srv/plain", "unit": ""},
]
VARIABLES = {
    "ansible_managed": "Ansible managed",
    "node_agent_kept": state_items(ITEMS),
    "node_agent_paths": [item["path"] for item in ITEMS],
    "node_agent_units": ["cache.service", "must.service"],
    "node_agent_early_items": ITEMS[:1],
    "node_agent_path": "/bin/true",
    "node_agent_helper": "/usr/local/sbin/pmem-state",
    "node_agent_offline_timeout": 60,
    "node_agent_restore_timeout": 120,
    "node_agent_shutdown_timeout": 120,
    "node_agent_device_wait": 10,
    "node_agent_crash_limit": 3,
    "node_agent_startup_cpu_weight": 10000,
}
OURS = ("hotpmem-restore.service", "hotpmem-save.service", "hotpmem-hot-add.service", "hotpmem-crashed@.service")
# As the verb units lists them: cache.service is a dummy with an instance, and a socket and a timer start must.service.
MORE = ("cache@1.service", "must.socket", "must.timer")
KEPT = {item["name"]: item for item in VARIABLES["node_agent_kept"]}
SET = {
    "cache.service": {"kept": [KEPT["cache"]], "named": ["cache"], "parts": ["cache"]},
    "cache@1.service": {"kept": [KEPT["cache"]], "named": [], "parts": ["cache"]},
    "must.service": {"kept": [KEPT["must"]], "named": ["must"], "parts": ["must"]},
    "must.socket": {"kept": [KEPT["must"]], "named": [], "parts": []},
    "must.timer": {"kept": [KEPT["must"]], "named": [], "parts": []},
}
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None or os.geteuid() != 0, reason="systemd-analyze is not installed, or this is not root"
)


def rendered(name, **more):
    """A template as Ansible renders it."""
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    environment.filters["hotpmem.fleet.systemd_word"] = systemd_word
    return environment.from_string((ROLE / "templates" / f"{name}.j2").read_text(encoding="utf-8")).render(**VARIABLES, **more)


def dropin(unit):
    return rendered("dropin.conf", item={"name": unit, **SET[unit]})


@pytest.fixture
def units(tmp_path):
    """A directory with our units, and the state units with their drop-ins."""
    for name in OURS:
        # What they run is not installed here.
        text = re.sub(r"^(Exec\w+=)/usr/local/lib/hotpmem/\w+", r"\1/bin/true", rendered(name), flags=re.MULTILINE)
        (tmp_path / name).write_text(text)
    service = "[Unit]\nDescription=State\n{more}[Service]\nExecStart=/bin/sleep 1\n[Install]\nWantedBy=multi-user.target\n"
    own = {"must.socket": "[Socket]\nListenStream=/run/must\n", "must.timer": "[Timer]\nOnBootSec=1min\n"}
    for unit in SET:
        part = "PartOf=cache.service\nBefore=cache.service\n" if unit == "cache@1.service" else ""
        (tmp_path / unit).write_text(own.get(unit, service.format(more=part)))
        (tmp_path / f"{unit}.d").mkdir()
        (tmp_path / f"{unit}.d" / "60-hotpmem-node.conf").write_text(dropin(unit))
        if unit in own:
            wants = tmp_path / f"{unit.partition('.')[2]}s.target.wants"
            wants.mkdir()
            (wants / unit).symlink_to(tmp_path / unit)
    # As enabled: multi-user.target wants them, though one of them comes after it.
    (tmp_path / "multi-user.target.wants").mkdir()
    for name in (*OURS[:3], "cache.service", "cache@1.service", "must.service"):
        (tmp_path / "multi-user.target.wants" / name).symlink_to(tmp_path / name)
    return tmp_path


@needs_systemd
def test_systemd_finds_nothing_wrong(units):
    names = [str(units / name) for name in (*OURS[:3], *SET)]
    names.append("/lib/systemd/system/multi-user.target")
    names.append(str(shutil.copy(units / "hotpmem-crashed@.service", units / "hotpmem-crashed@cache.service")))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", *names],
        capture_output=True, text=True, check=False, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"},
    )  # fmt: skip
    own = [line for line in done.stderr.splitlines() if "hotpmem" in line or any(unit in line for unit in SET)]
    assert own == [], done.stderr
    assert "ordering cycle" not in done.stderr


@needs_systemd
@pytest.mark.parametrize(
    "name, most",
    [("hotpmem-restore.service", 60), ("hotpmem-save.service", 80), ("hotpmem-hot-add.service", 80), ("hotpmem-crashed@.service", 30)],
)
def test_exposure(units, name, most):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={most}", "--no-pager", str(units / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


@pytest.mark.parametrize("name", OURS)
def test_nothing_waits_for_ever(name):
    text = rendered(name)
    for key in ("TimeoutStartSec", "TimeoutStopSec", "JobTimeoutSec"):
        (value,) = re.findall(rf"^{key}=(\d+)$", text, flags=re.MULTILINE)
        assert 0 < int(value) <= 1800


def test_dropin():
    text = dropin("must.service")
    assert "OnFailure=hotpmem-crashed@must.service" in text and "ConditionPathExists=!/run/hotpmem/hold/must" in text
    assert "Condition" not in dropin("cache.service")
    assert rendered("hold.conf").splitlines()[-1] == "must"
    assert rendered("units.conf").splitlines()[-2:] == ["cache cache.service", "must must.service"]
    assert rendered("helper.conf").splitlines()[-1] == "/usr/local/sbin/pmem-state"


def settings_of(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("unit", SET)
def test_every_unit_of_the_set_comes_after_the_restore_and_stops_before_the_save(unit):
    assert "After=hotpmem-restore.service hotpmem-save.service" in settings_of(dropin(unit))
    held = "ConditionPathExists=!/run/hotpmem/hold/must" in settings_of(dropin(unit))
    assert held is unit.startswith("must")
    # The role unit_guard has a drop-in for the units that items name.
    waits = "ConditionPathExists=!/var/lib/hotpmem/pending" in settings_of(dropin(unit))
    assert waits is (unit in MORE)


def test_what_only_depends_on_a_unit_does_not_count_as_its_crash():
    crashed = "OnFailure=hotpmem-crashed@"
    assert [unit for unit in SET if crashed in dropin(unit)] == ["cache.service", "cache@1.service", "must.service"]
    # And early_start is for the service that the item names.
    assert [unit for unit in SET if "DefaultDependencies=no" in dropin(unit)] == ["cache.service"]


def test_a_unit_that_starts_early_waits_for_no_target_but_its_file_systems():
    early, other = (dropin(unit) for unit in ("cache.service", "must.service"))
    assert "DefaultDependencies" not in other
    lines = early.splitlines()
    assert {"DefaultDependencies=no", "Conflicts=shutdown.target", "Before=shutdown.target", "Requires=local-fs.target"} <= set(lines)
    # Whatever a state unit comes after must not wait for basic.target either.
    assert all("DefaultDependencies=no" in rendered(name).splitlines() for name in ("hotpmem-restore.service", "hotpmem-save.service"))
