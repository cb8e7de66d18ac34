# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics of a host: what they hold, that promtool accepts them, and that node_exporter serves them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle import metrics
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import from_dict
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.records import RESTORE
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "roles" / "node_agent" / "files"))
from hotpmem_node import boot as verb_boot

CHECKOUT = Path(__file__).resolve().parents[4]


def cycle(down, **more):
    phases = [
        {"name": "prepare (services up)", "mark": "stopping", "seconds": 20.0, "down": False},
        {"name": "kexec: purgatory, decompression", "mark": "kernel_start", "seconds": 0.25, "down": True},
        {"name": "save", "mark": "saved", "seconds": 0.125, "down": True},
    ]
    timeline = {"phases": phases, "down_seconds": down}
    return {"state_bytes": 2 << 30, "stored_bytes": 1 << 30, "save_seconds": 0.125, "restore_seconds": 0.25, "timeline": timeline, **more}


OUTCOMES = [
    {"name": "cache", "status": "restored"},
    {"name": 'odd "name"\\', "status": "cold"},
    {"name": "held", "status": "down"},
]


def found(cycles, **more):
    values = {"total": 41, "ended": 1_790_000_000.5, "outcomes": OUTCOMES, "hot_add_ok": True, "online_bytes": 2 << 30}
    return metrics.samples(cycles, **{**values, **more})


TEXT = metrics.text_of(found([cycle(2.0), cycle(8.0), cycle(3.0), cycle(2.5)]))


@pytest.mark.parametrize(
    "line",
    [
        "hotpmem_cycles_total 41",
        "hotpmem_hot_add_ok 1",
        f"hotpmem_memory_hot_added_bytes {2 << 30}",
        'hotpmem_boot_items{outcome="restored"} 1',
        'hotpmem_boot_items{outcome="cold"} 1',
        'hotpmem_boot_items{outcome="down"} 1',
        'hotpmem_boot_items{outcome="running"} 0',
        'hotpmem_boot_item_restored{item="cache"} 1',
        'hotpmem_boot_item_restored{item="odd \\"name\\"\\\\"} 0',
        "hotpmem_last_cycle_timestamp_seconds 1790000000.5",
        "hotpmem_last_cycle_seconds 20.375",
        "hotpmem_last_cycle_down_seconds 2.5",
        'hotpmem_last_cycle_phase_seconds{phase="kexec: purgatory, decompression",down="true"} 0.25',
        'hotpmem_last_cycle_phase_seconds{phase="prepare (services up)",down="false"} 20.0',
        "hotpmem_last_cycle_save_seconds 0.125",
        "hotpmem_last_cycle_restore_seconds 0.25",
        f"hotpmem_last_cycle_state_bytes {2 << 30}",
        f"hotpmem_last_cycle_stored_bytes {1 << 30}",
        "hotpmem_previous_cycles_down_seconds 3.0",
    ],
)
def test_samples(line):
    assert line in TEXT.splitlines()


@pytest.mark.parametrize(
    ("cycles", "more", "missing"),
    [
        ([], {"total": 0, "ended": None}, "last_cycle"),
        ([], {"online_bytes": None}, "memory_hot_added_bytes"),
        ([cycle(2.0), cycle(None)], {}, "last_cycle_down_seconds"),
        ([cycle(2.0), cycle(3.0), cycle(4.0)], {}, "previous_cycles"),
        ([{"items": []}], {}, "last_cycle_seconds"),
        ([cycle(1.0, save_seconds=None, state_bytes="much")], {}, "last_cycle_save_seconds"),
        ([cycle(1.0, save_seconds=None, state_bytes="much")], {}, "last_cycle_state_bytes"),
    ],
)
def test_an_unknown_value_has_no_sample(cycles, more, missing):
    text = metrics.text_of(found(cycles, **more))
    assert f"hotpmem_{missing}" not in text and "None" not in text and "hotpmem_cycles_total" in text


def test_the_page_describes_each_metric():
    page = (CHECKOUT / "docs/monitoring.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`hotpmem_(\w+)(?:\{[^`]*\})?` \|", page)) - {"metrics_dir"} == {name for name, _kind, _words in metrics.METRICS}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: package prometheus)")
@pytest.mark.parametrize("text", [TEXT, metrics.text_of(found([], total=0, ended=None, outcomes=[], online_bytes=None, hot_add_ok=False))])
def test_promtool_accepts_them(text):
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_file_is_replaced_as_a_whole(tmp_path):
    old = os.umask(0o077)
    try:
        metrics.write(Sysfs(str(tmp_path)), "/", "first 1\n")
        with open(tmp_path / metrics.NAME, encoding="utf-8") as reader:
            assert metrics.write(Sysfs(str(tmp_path)), "/", "second 2\n") == f"/{metrics.NAME}"
            assert reader.read() == "first 1\n"
    finally:
        os.umask(old)
    assert (tmp_path / metrics.NAME).read_text() == "second 2\n"
    assert (tmp_path / metrics.NAME).stat().st_mode & 0o777 == 0o644 and os.listdir(tmp_path) == [metrics.NAME]


def test_no_symbolic_link_is_followed(tmp_path):
    (tmp_path / "victim").write_text("precious\n")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / metrics.NAME).symlink_to(tmp_path / "victim")
    metrics.write(Sysfs(str(tmp_path)), "/dir", "a 1\n")
    assert (tmp_path / "victim").read_text() == "precious\n" and not (tmp_path / "dir" / metrics.NAME).is_symlink()


@pytest.mark.parametrize("place", ["missing", "file"])
def test_it_says_what_to_do_about_the_directory(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(HotpmemError, match=r"Cannot write the metrics to /\w+/hotpmem.prom.*playbook provision"):
        metrics.write(Sysfs(str(tmp_path)), f"/{place}", "a 1\n")


def test_a_file_that_cannot_be_replaced_leaves_no_temporary_file(tmp_path):
    (tmp_path / metrics.NAME / "full").mkdir(parents=True)
    with pytest.raises(HotpmemError):
        metrics.write(Sysfs(str(tmp_path)), "/", "a 1\n")
    assert os.listdir(tmp_path) == [metrics.NAME]


def test_the_directory_must_be_absolute():
    assert from_dict({"metrics_dir": "/var/lib/node_exporter"}).metrics_dir == "/var/lib/node_exporter"
    with pytest.raises(HotpmemError, match=r"metrics_dir is 'node_exporter'\. It must be an absolute path"):
        from_dict({"metrics_dir": "node_exporter"})


@pytest.fixture
def booted(machine):
    """Runs hot-add --at-boot on a machine whose namespace is raw, with what the restore said and a directory for the metrics."""
    one, engine, build = machine
    engine.hotplug.hot_remove(engine.namespaces.find(), 10)
    plain = build().settings

    def run(result, directory="/metrics", held=()):
        settings = type(plain)(**{**vars(plain), "metrics_dir": directory})
        boot = verb_boot.boot_of(engine, settings)
        boot.records.write_json(RESTORE, result)
        boot.records.write("/run/hotpmem/due", "")
        for name in held:
            boot.records.write(f"/run/hotpmem/hold/{name}", "x")
        return one, verb_boot.hot_add_at_boot(engine, settings)

    return run


RESTORED = {
    "event": "result",
    "exit": 0,
    "seconds": 0.25,
    "image": {"state": "consumed", "marks": {"stopping": 1, "saved": 2}},
    "clock": {"cycles": 20_000_000_000, "boottime_ns": 4_000_000_000, "cycles_per_second": 2_000_000_000},
    "items": [{"name": "cache", "path": "/srv/cache", "status": "restored", "bytes": 9, "error": None},
              {"name": "must", "path": "/srv/must", "status": "restored", "bytes": 1, "error": None}],
}  # fmt: skip


def test_written_after_the_hot_add(booted, machine):
    Path(machine[1].sysfs.path("/metrics")).mkdir()
    one, answer = booted(RESTORED)
    text = one.fake.get("/metrics/hotpmem.prom")
    assert answer.facts["metrics"] == "/metrics/hotpmem.prom"
    for line in ("hotpmem_cycles_total 1", "hotpmem_hot_add_ok 1", 'hotpmem_boot_items{outcome="restored"} 2'):
        assert line in text.splitlines()
    added = int(re.search(r"hotpmem_memory_hot_added_bytes (\d+)", text)[1])
    assert added == 4 * (128 << 20)
    recorded = os.stat(machine[1].sysfs.path("/var/lib/hotpmem/cycles/1.json")).st_mtime
    assert f"hotpmem_last_cycle_timestamp_seconds {recorded!r}" in text.splitlines()


def test_written_when_the_hot_add_is_refused(booted, machine):
    Path(machine[1].sysfs.path("/metrics")).mkdir()
    damaged = json.loads(json.dumps(RESTORED))
    damaged["image"]["state"] = "valid"
    damaged["items"][1].update(status="damaged", error="its first chunk is damaged")
    with pytest.raises(verb_boot.VerbError, match="its cold_start is false"):
        booted(damaged, held=["must"])
    lines = machine[0].fake.get("/metrics/hotpmem.prom").splitlines()
    assert "hotpmem_hot_add_ok 0" in lines and 'hotpmem_boot_items{outcome="down"} 1' in lines
    assert "hotpmem_memory_hot_added_bytes 0" in lines and "hotpmem_cycles_total 0" in lines


def test_a_missing_directory_is_a_warning(booted):
    _one, answer = booted(RESTORED)
    assert answer.facts["metrics"] is None and answer.facts["changed"]
    assert answer.lines[-1].startswith("warning: Cannot write the metrics to /metrics/hotpmem.prom")


def test_nothing_is_written_without_a_directory(booted):
    one, answer = booted(RESTORED, directory="")
    assert answer.facts["metrics"] is None and not any("warning" in line for line in answer.lines)
    assert not one.fake.exists("/hotpmem.prom")


@pytest.mark.skipif(shutil.which("prometheus-node-exporter") is None, reason="prometheus-node-exporter is not installed (apt)")
def test_node_exporter_serves_them(tmp_path):
    metrics.write(Sysfs("/"), str(tmp_path), TEXT)
    (tmp_path / ".hotpmem-half.new").write_text("hotpmem_half_written 1\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    exporter = subprocess.Popen(
        ["prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile",
         f"--collector.textfile.directory={tmp_path}", f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        served = ""
        for _attempt in range(300):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                    served = answer.read().decode()
                break
            except OSError:
                assert exporter.poll() is None, exporter.stderr.read()
                time.sleep(0.1)
    finally:
        exporter.terminate()
        exporter.wait(timeout=30)
        exporter.stderr.close()
    assert "node_textfile_scrape_error 0" in served and "half_written" not in served
    names = re.compile(r"^(hotpmem_\w+(?:\{[^}]*\})?) ", re.MULTILINE)
    assert {tuple(sorted(name.strip("}").replace("{", ",").split(","))) for name in names.findall(served)} == {
        tuple(sorted(name.strip("}").replace("{", ",").split(","))) for name in names.findall(TEXT)
    }
