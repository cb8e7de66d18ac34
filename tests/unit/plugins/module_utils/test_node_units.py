# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of the role node_agent, judged by systemd itself; and the scripts that they run, run by a real shell."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
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


# -- the scripts

HELPER = """#!/bin/sh
[ ! -e {root}/late ] || trap 'cat {root}/answer; exit $(cat {root}/code)' TERM
echo "$@" >>{root}/calls
[ ! -e {root}/slow ] || sleep 30
while [ -e {root}/late ]; do sleep 0.05; done
cat {root}/answer
exit $(cat {root}/code)
"""


def holding(path):
    """A process that holds a lock."""
    child = subprocess.Popen(["flock", "--no-fork", str(path), "sleep", "60"], start_new_session=True)
    deadline = time.monotonic() + 30
    while subprocess.run(["flock", "--nonblock", str(path), "true"], check=False).returncode == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return child


class Host:
    """A directory that stands in for a machine, with a raw namespace and a helper that answers what the test says."""

    def __init__(self, root):
        self.root = root
        for name in ("etc/hotpmem", "var/lib/hotpmem", "dev", "run"):
            (root / name).mkdir(parents=True)
        (root / "etc/hotpmem/items.conf").write_text("# items\n" + "".join(f"{one['name']}={one['path']}\n" for one in ITEMS[:2]))
        (root / "etc/hotpmem/hold.conf").write_text(rendered("hold.conf"))
        (root / "etc/hotpmem/units.conf").write_text(rendered("units.conf"))
        self.namespace("namespace0.0", "0x3fe00000", "pmem0")
        (root / "helper").write_text(HELPER.format(root=root))
        (root / "helper").chmod(0o755)
        self.answer(0, cache="restored", must="restored")
        (root / "var/lib/hotpmem/pending").touch()

    def namespace(self, name, start, block="", holder=""):
        base = self.root / "sys/bus/nd/devices" / name
        base.mkdir(parents=True, exist_ok=True)
        for attribute, value in (("size", "538968064"), ("resource", start), ("holder", holder)):
            (base / attribute).write_text(value + "\n")
        if block:
            (base / "block" / block).mkdir(parents=True)
            (self.root / "dev" / block).touch()

    def answer(self, code, **items):
        entries = [{"name": name, "path": '/srv/a "name": "x"', "status": status, "error": None} for name, status in items.items()]
        (self.root / "answer").write_text(
            json.dumps({"event": "result", "exit": code, "image": {"state": "valid"}, "items": entries}) + "\n"
        )
        (self.root / "code").write_text(str(code))

    def enabled(self):
        wants = self.root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True)
        (wants / "hotpmem-restore.service").symlink_to("/etc/systemd/system/hotpmem-restore.service")

    def start(self, how):
        """The script as /init or systemd starts it, in a new process group."""
        return subprocess.Popen(
            ["sh", str(ROLE / "files/restore.sh"), how, str(self.root / "helper")],
            env={**os.environ, "HOTPMEM_ROOT": str(self.root)}, start_new_session=True,
        )  # fmt: skip

    def run(self, wait=0):
        return subprocess.run(
            ["sh", str(ROLE / "files/restore.sh"), str(wait), str(self.root / "helper")],
            env={**os.environ, "HOTPMEM_ROOT": str(self.root), "SERVICE_RESULT": "exit-code"}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def names(self, where):
        directory = self.root / where
        return sorted(os.listdir(directory)) if directory.exists() else []

    @property
    def result(self):
        return json.loads((self.root / "run/hotpmem/restore.json").read_text())

    @property
    def calls(self):
        path = self.root / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def pending(host):
    (host.root / "var/lib/hotpmem/pending").touch()


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


def on_dax(host, driver="device_dax", node=True):
    """The namespace as the dax road leaves it for the next boot."""
    shutil.rmtree(host.root / "sys/bus/nd/devices/namespace0.0/block")
    host.namespace("namespace0.0", "0x3fe00000", holder="dax1.0")
    (host.root / "sys/bus/nd/devices/dax1.0/driver").mkdir(parents=True)
    (host.root / "sys/bus/nd/devices/dax1.0/dax0.0").mkdir()
    (host.root / "sys/bus/dax/drivers" / driver / "dax0.0").mkdir(parents=True)
    if node:
        (host.root / "dev/dax0.0").touch()
    (host.root / "var/lib/hotpmem/place").write_text("0x3fe00000 dax\n")


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


def test_early(host):
    """The initrd's restore writes to /run alone; the unit takes its result over, once, and writes to the disk."""
    host.enabled()
    assert host.run("--early").returncode == 0
    count = [call for call in host.calls if call.startswith("restore")]
    assert len(count) == 1 and " --threads " in count[0] and count[0].endswith("--json")
    assert host.names("run/hotpmem/restored") == ["cache", "must"] and host.names("run/hotpmem/hold") == []
    assert host.names("var/lib/hotpmem") == ["pending"]
    done = host.run()
    restored, took, times = done.stdout.partition("the initrd restored beside the start of systemd, in this CPU time:\n")
    assert (done.returncode, restored) == (0, "cache restored\nmust restored\n") and took
    # The shell's own, and that of its programs.
    assert re.fullmatch(r"(\d+m\d+\.\d+s \d+m\d+\.\d+s\n){2}", times)
    assert host.names("var/lib/hotpmem") == ["serving"] and not (host.root / "run/hotpmem/early").exists()
    pending(host)  # by a handoff of this boot: nobody's but its own
    done = host.run()
    assert (done.returncode, done.stdout) == (0, "") and len(host.calls) == 1 and host.names("var/lib/hotpmem") == ["pending", "serving"]


def test_early_and_damaged(host):
    host.enabled()
    host.answer(6, cache="restored", must="damaged")
    host.run("--early")
    assert host.names("run/hotpmem/hold") == ["must"]
    assert host.run().returncode == 6 and len(host.calls) == 1 and host.names("var/lib/hotpmem") == ["serving"]


@pytest.mark.parametrize("code", [2, 3, 5, 126, 137])
def test_early_and_nothing_restored(host, code):
    """The helper was killed, or could not: the unit tries again, with all that it has."""
    host.enabled()
    host.answer(code)
    assert host.run("--early").returncode == 0 and not (host.root / "run/hotpmem/early").exists()
    host.answer(0, cache="restored", must="restored")
    done = host.run()
    assert done.returncode == 0 and f"left the restore to this unit: pmem-state ended with {code}" in done.stdout
    assert len(host.calls) == 2 and host.names("run/hotpmem/hold") == [] and host.names("var/lib/hotpmem") == ["serving"]


def test_what_was_restored_before_the_end_is_not_held(host):
    """Killed between its marks and its result; the helper restores nothing twice."""
    host.enabled()
    host.run("--early")
    (host.root / "run/hotpmem/restore.json").unlink()
    host.answer(5)
    host.run()
    assert host.names("run/hotpmem/hold") == [] and host.names("run/hotpmem/restored") == ["cache", "must"]


@pytest.mark.parametrize("why", ["not announced", "cold", "no unit", "no device", "several", "no item", "claimed"])
def test_early_leaves_it_to_the_unit(host, why):
    if why != "no unit":
        host.enabled()
    if why == "not announced":
        (host.root / "var/lib/hotpmem/pending").unlink()
    elif why == "cold":
        (host.root / "var/lib/hotpmem/cold").mkdir()
        (host.root / "var/lib/hotpmem/cold/cache").write_text("it failed\n")
    elif why == "no device":
        shutil.rmtree(host.root / "sys/bus/nd/devices/namespace0.0")
    elif why == "several":
        host.namespace("namespace1.0", "0x100000000", "pmem1")
    elif why == "claimed":
        on_dax(host, "kmem")
    elif why == "no item":
        (host.root / "etc/hotpmem/items.conf").write_text("# none\n")
    before = sorted(os.listdir(host.root / "var/lib/hotpmem"))
    assert host.run("--early").returncode == 0
    assert host.calls == [] and not (host.root / "run/hotpmem/restore.json").exists()
    assert sorted(os.listdir(host.root / "var/lib/hotpmem")) == before
    # And that does what it does without.
    assert "the initrd left the restore to this unit: " in host.run().stdout
    assert (host.root / "run/hotpmem/restore.json").exists() and not (host.root / "run/hotpmem/early").exists()


def begun(host, how="--early"):
    """A restore that hangs in its helper."""
    host.enabled()
    (host.root / "slow").touch()
    child = host.start(how)
    while not host.calls:
        time.sleep(0.05)
    return child


def test_the_unit_waits_for_the_early_restore(host):
    child = begun(host)
    unit = host.start("0")
    time.sleep(0.3)
    assert unit.poll() is None and len(host.calls) == 1
    (host.root / "slow").unlink()
    # What was early is killed as a whole, as by the kernel when memory runs out: the unit restores.
    os.killpg(child.pid, signal.SIGKILL)
    child.wait(10)
    assert unit.wait(10) == 0 and len(host.calls) == 2
    assert host.names("run/hotpmem/restored") == ["cache", "must"] and host.names("var/lib/hotpmem") == ["serving"]


def test_what_a_killed_early_restore_said(host):
    host.enabled()
    (host.root / "run/hotpmem").mkdir(parents=True, exist_ok=True)
    (host.root / "run/hotpmem/early.log").write_text("all of a line\nhalf a li")
    assert host.run().stdout.startswith("all of a line\nhalf a li\n")


def test_at_the_deadline_the_early_restore_is_ended(host):
    """Units are told to start cold only when nothing can put items in place any more."""
    child = begun(host)
    assert host.run("--failed").returncode == 0
    assert child.wait(1) == -signal.SIGKILL
    assert host.result["status"] == "failed" and host.names("run/hotpmem/restored") == []
    assert host.names("run/hotpmem/hold") == ["must"] and not (host.root / "var/lib/hotpmem/pending").exists()


def test_at_the_deadline_the_rest_of_the_early_restore_is_ended(host):
    """The script is gone, and its helper works on."""
    child = begun(host)
    child.kill()
    child.wait(10)
    os.killpg(child.pid, 0)
    assert host.run("--failed").returncode == 0
    deadline = time.monotonic() + 5
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(child.pid, 0)
            time.sleep(0.05)


def test_at_the_deadline_a_stranger_with_the_same_number_lives_on(host):
    """The early restore has been killed, its number was given away, and something else holds the lock."""
    run = host.root / "run/hotpmem"
    run.mkdir(parents=True)
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    holder = holding(run / "restore.lock")
    try:
        for written in (f"{stranger.pid}\n", f"{stranger.pid} 1\n", "\n"):
            (run / "early.pid").write_text(written)
            unit = host.start("--failed")
            time.sleep(0.5)
            assert unit.poll() is None and stranger.poll() is None and holder.poll() is None
            unit.kill()
            unit.wait(10)
    finally:
        for child in (stranger, holder):
            child.kill()
            child.wait(10)


@pytest.mark.parametrize("how", ["10", "--failed"])
def test_a_restore_that_is_over_waits_for_nobody(host, how):
    """A handoff that starts a state unit again starts this unit too, and holds the lock until the state unit runs."""
    run = host.root / "run/hotpmem"
    run.mkdir(parents=True)
    (run / "restore.json").write_text("{}")
    holder = holding(run / "restore.lock")
    try:
        unit = host.start(how)
        assert unit.wait(5) == 0 and holder.poll() is None
    finally:
        holder.kill()
        holder.wait(10)


def test_an_early_restore_that_ended_leaves_no_number(host):
    host.enabled()
    host.run("--early")
    assert (host.root / "run/hotpmem/early.pid").read_text() == ""


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


def test_a_unit_that_failed_after_the_early_restore(host):
    """There is a result: what is left to do is done, and the items are in place."""
    host.enabled()
    host.run("--early")
    assert host.run("--failed").returncode == 0
    assert host.result["items"][0]["status"] == "restored" and host.names("var/lib/hotpmem") == ["serving"]


def test_shut_down_during_the_early_restore(host):
    child = begun(host)
    os.killpg(child.pid, signal.SIGTERM)
    assert child.wait(10) == 0 and not (host.root / "run/hotpmem/restore.json").exists()
    assert host.names("var/lib/hotpmem") == ["pending"]


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
