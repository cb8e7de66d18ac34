# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of the role node_agent, run by a real shell: the restore by its unit, the shutdown, and what counts crashes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

import pytest
from node_scripts import Host, on_dax, pending
from test_node_units import ROLE


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_restore(host):
    pending(host)
    done = host.run()
    assert done.returncode == 0, done.stderr
    assert host.calls == [f"restore --device {host.root}/dev/pmem0 --config {host.root}/etc/hotpmem/items.conf --json"]
    assert host.names("run/hotpmem/restored") == ["cache", "must"] and host.names("run/hotpmem/hold") == []
    assert not (host.root / "var/lib/hotpmem/pending").exists()
    assert host.result["items"][0]["status"] == "restored"
    assert host.run().returncode == 0 and len(host.calls) == 1  # once a boot


def test_what_must_not_start_cold_is_held(host):
    pending(host)
    host.answer(6, cache="restored", must="damaged")
    assert host.run().returncode == 6
    assert host.names("run/hotpmem/hold") == ["must"] and host.names("run/hotpmem/restored") == ["cache"]


@pytest.mark.parametrize("flag, code, held", [("pending", 3, ["must"]), ("serving", 3, ["must"]), ("", 0, [])])
def test_no_image(host, flag, code, held):
    (host.root / "var/lib/hotpmem/pending").unlink()
    if flag:
        (host.root / "var/lib/hotpmem" / flag).touch()
    host.answer(3)
    assert host.run().returncode == code
    # An image that nobody announced is stale, or somebody else's business.
    assert len(host.calls) == (flag == "pending")
    assert host.names("run/hotpmem/hold") == held


def test_a_namespace_that_is_not_raw_is_not_waited_for(host):
    shutil.rmtree(host.root / "sys/bus/nd/devices/namespace0.0/block")
    host.namespace("namespace0.0", "0x3fe00000", holder="dax0.0")
    (host.root / "sys/bus/nd/devices/dax0.0/driver").mkdir(parents=True)
    began = time.monotonic()
    done = host.run(wait=20)
    assert (done.returncode, host.calls) == (3, []) and time.monotonic() - began < 5
    assert "claimed by dax0.0" in host.result["msg"] and host.result["exit"] == 3


@pytest.mark.parametrize("code, said", [(3, None), (0, "raw, not devdax")])
def test_a_dax_device_whose_info_block_is_gone(host, code, said):
    """Firmware that clears takes a devdax namespace without labels away: what is there instead is looked at, and never restored."""
    (host.root / "var/lib/hotpmem/place").write_text("0x3fe00000 dax\n")
    host.answer(code)
    assert host.run().returncode == 3
    assert [call.split()[0] for call in host.calls] == ["info"]
    assert said is None or said in host.result["msg"]
    assert not (host.root / "var/lib/hotpmem/pending").exists()


def test_a_claim_for_a_moment_is_no_claim(host):
    """The driver, while it looks for info blocks (nd_pfn_devinit, nd_dax_devinit)."""
    pending(host)
    holder = host.root / "sys/bus/nd/devices/namespace0.0/holder"
    holder.write_text("pfn0.0\n")
    child = host.start("20")
    time.sleep(0.5)
    holder.write_text("\n")
    assert child.wait(15) == 0 and host.names("run/hotpmem/restored") == ["cache", "must"]


def test_a_device_that_never_comes(host):
    shutil.rmtree(host.root / "sys/bus/nd/devices/namespace0.0")
    pending(host)
    assert host.run(wait=1).returncode == 3
    assert "no persistent memory device within 1 s" in host.result["msg"] and host.names("run/hotpmem/hold") == ["must"]


def test_the_dax_road(host):
    on_dax(host)
    done = host.run()
    assert done.returncode == 0, done.stderr
    assert host.calls == [f"restore --device {host.root}/dev/dax0.0 --config {host.root}/etc/hotpmem/items.conf --json"]
    assert host.names("run/hotpmem/restored") == ["cache", "must"]


def test_the_dax_road_without_an_announcement(host):
    """What lies there was RAM when the boot before ended."""
    on_dax(host)
    (host.root / "var/lib/hotpmem/pending").unlink()
    (host.root / "var/lib/hotpmem/serving").touch()
    assert (host.run().returncode, host.calls) == (3, []) and host.names("run/hotpmem/hold") == ["must"]


@pytest.mark.parametrize(
    "driver, node, said", [("kmem", True, "System RAM already"), ("device_dax", False, "(dax_pmem, device_dax) is loaded")]
)
def test_the_dax_road_takes_the_device_from_device_dax_alone(host, driver, node, said):
    on_dax(host, driver, node)
    assert (host.run().returncode, host.calls) == (3, []) and said in host.result["msg"]


@pytest.mark.parametrize("place, said", [("0x3fe00000 dax", "is raw, not devdax"), ("", "")])
def test_the_restore_goes_where_the_save_went(host, place, said):
    """Not where the settings would save the next time; without a word about the road, that was raw."""
    (host.root / "var/lib/hotpmem/place").write_text(place)
    assert host.run().returncode == (3 if said else 0) and said in str(host.result)


def test_which_of_several(host):
    host.namespace("namespace1.0", "0x100000000", "pmem1")
    assert host.run().returncode == 3 and "several namespaces" in host.result["msg"]
    (host.root / "run/hotpmem/restore.json").unlink()
    pending(host)
    (host.root / "var/lib/hotpmem/place").write_text("0x100000000\n")
    assert host.run().returncode == 0
    assert f"--device {host.root}/dev/pmem1 " in host.calls[0]


def test_the_only_one_with_a_device_is_not_meant_for_that(host):
    host.namespace("namespace1.0", "0x100000000", holder="dax1.0")
    assert host.run().returncode == 3 and "several namespaces" in host.result["msg"] and host.calls == []


def test_deadline(host):
    """systemd sends SIGTERM to all of the unit's processes."""
    pending(host)
    (host.root / "slow").touch()
    child = host.start("0")
    while not host.calls:
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGTERM)
    assert child.wait(10) == 2
    assert "did not end within its deadline" in host.result["msg"]
    assert host.names("run/hotpmem/hold") == ["must"] and not (host.root / "var/lib/hotpmem/pending").exists()


@pytest.mark.parametrize("code, restored", [(0, ["cache", "must"]), (6, ["cache"])])
def test_what_was_restored_when_the_deadline_came_counts(host, code, restored):
    """The helper has the items in place, prints its result after SIGTERM, and ends."""
    pending(host)
    statuses = {name: "restored" if name in restored else "failed" for name in ("cache", "must")}
    host.answer(code, **statuses)
    (host.root / "late").touch()
    child = host.start("0")
    while not host.calls:
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGTERM)
    assert child.wait(10) == code
    assert host.result["exit"] == code and host.names("run/hotpmem/restored") == restored
    assert host.names("run/hotpmem/hold") == ([] if "must" in restored else ["must"])


@pytest.mark.parametrize("configured", ["# a comment\n{root}/my helper\n", None])
def test_the_script_of_the_shutdown_runs_the_configured_helper(tmp_path, configured):
    for name in ("run/hotpmem", "etc/hotpmem", "usr/local/sbin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "run/hotpmem/device").write_text("/dev/null\n")
    if configured:
        (tmp_path / "etc/hotpmem/helper.conf").write_text(configured.format(root=tmp_path))
    helper = tmp_path / ("my helper" if configured else "usr/local/sbin/pmem-state")
    helper.write_text('#!/bin/sh\necho "$@"\n')
    helper.chmod(0o755)
    for how, said in (("kexec", "mark jump --device /dev/null\n"), ("reboot", "")):
        done = subprocess.run(
            ["sh", str(ROLE / "files/shutdown.sh"), how],
            env={**os.environ, "HOTPMEM_ROOT": str(tmp_path)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, said), done.stderr


def test_a_restore_without_a_result_is_said(host):
    """ExecStopPost=: systemd runs it however the restore ended, and when the unit is stopped, too."""
    pending(host)
    assert host.run("--failed").returncode == 0
    assert "without a result (exit-code)" in host.result["msg"] and host.calls == []
    assert host.names("run/hotpmem/hold") == ["must"] and not (host.root / "var/lib/hotpmem/pending").exists()


def test_a_restore_with_a_result_is_left_alone(host):
    pending(host)
    host.run()
    pending(host)  # the handoff of this boot
    assert host.run("--failed").returncode == 0
    assert host.result["exit"] == 0 and (host.root / "var/lib/hotpmem/pending").exists()


def crash(host, item="cache", limit=3, **more):
    return subprocess.run(
        ["sh", str(ROLE / "files/crashed.sh"), item, str(limit)],
        env={**os.environ, "HOTPMEM_ROOT": str(host.root), **more}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def test_a_crash_loop_gets_a_cold_start_once(host):
    host.run()
    assert crash(host) == crash(host) == ""
    assert "cache starts cold at the next boot: its unit cache.service failed 3 times" in crash(host)
    shutil.rmtree(host.root / "run/hotpmem")
    pending(host)
    host.answer(0, must="restored")
    assert host.run().returncode == 0
    assert host.calls[-1].split(" --item ")[1:] == ["must=/srv/must --json"]
    assert "failed 3 times" in (host.root / "run/hotpmem/cold/cache").read_text()
    assert host.names("var/lib/hotpmem/cold") == []


def test_the_unit_that_failed_is_named(host):
    host.run()
    assert "its unit cache@1.service failed 1 times" in crash(host, limit=1, MONITOR_UNIT="cache@1.service")


@pytest.mark.parametrize("saved", [True, False])
def test_what_was_left_out_of_the_save_starts_cold_with_its_reason(host, saved):
    """When nothing was left to save, a shutdown saved nothing and announced nothing."""
    lib = host.root / "var/lib/hotpmem"
    (lib / "cold").mkdir()
    (lib / "cold/must").write_text("must.service ended with the result timeout\n")
    (lib / "serving").touch()
    if not saved:
        (lib / "pending").unlink()
    host.answer(0, cache="restored")
    host.run()
    assert host.names("var/lib/hotpmem/cold") == []
    assert "result timeout" in (host.root / "run/hotpmem/cold/must").read_text()
    assert "result timeout" in (host.root / "run/hotpmem/hold/must").read_text()
    assert host.names("run/hotpmem/restored") == (["cache"] if saved else [])


def test_a_crash_without_restored_state_counts_for_nothing(host):
    host.answer(3)
    host.run()
    assert crash(host, limit=1) == "" and host.names("var/lib/hotpmem/cold") == []


@pytest.mark.parametrize("name", ["restore.sh", "crashed.sh", "shutdown.sh"])
def test_posix(name):
    if shutil.which("dash") is None:
        pytest.skip("dash is not installed")
    subprocess.run(["dash", "-n", str(ROLE / "files" / name)], check=True)
