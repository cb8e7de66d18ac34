# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the boot: what became of each item, whether the memory may be hot-added, and the record of the cycle."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.after_boot import CYCLE, CYCLES, AfterBoot, Held, clear_cold, spans
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.handoff import HandoffFailed, Interrupted
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Runner
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.records import PENDING, RESTORE, SAVED, SERVING, SHUTDOWN
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import boot_id

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "roles" / "node_agent" / "files"))
from hotpmem_node import cli, detach, timeline
from hotpmem_node import handoff as verb_handoff


def online(engine):
    return [block.what_it_is for block in engine.dax.blocks.present(range(8, 12))]


GOOD = {
    "event": "result",
    "exit": 0,
    "seconds": 0.25,
    "image": {"state": "consumed", "marks": {"stopping": 1, "saved": 2}},
    "clock": {"cycles": 20_000_000_000, "boottime_ns": 4_000_000_000, "cycles_per_second": 2_000_000_000},
    "items": [
        {"name": "cache", "path": "/srv/cache", "status": "restored", "bytes": 9, "error": None},
        {"name": "must", "path": "/srv/must", "status": "restored", "bytes": 1, "error": None},
    ],
}


def bad(state="valid"):
    """must was damaged."""
    value = json.loads(json.dumps(GOOD))
    value["image"]["state"] = state
    value["items"][1].update(status="damaged", error="its first chunk is damaged")
    return value


@pytest.fixture
def booted(machine):
    """(machine, engine, Boot) of a machine whose namespace is raw and whose restore said result."""
    one, engine, build = machine
    engine.hotplug.hot_remove(engine.namespaces.find(), 10)
    handoff = build()
    boot = AfterBoot(engine, handoff.settings, handoff.services)

    def build_boot(result, held=(), due=True):
        if result is not None:
            boot.records.write_json(RESTORE, result)
        for name in held:
            boot.records.write(f"/run/hotpmem/hold/{name}", "x")
        if due:
            boot.records.write("/run/hotpmem/due", "")
        return one, engine, boot

    return build_boot


def test_restored_and_hot_added(booted):
    one, engine, boot = booted(GOOD)
    boot.records.write_json(SAVED, {"boot_id_before": "before", "state_bytes": 10, "method": "systemd"})
    move = boot.hot_add()
    assert move.changes and online(engine) == ["online_movable"] * 4 and boot.records.exists(SERVING)
    cycle = json.loads(one.fake.get(CYCLE))
    assert (cycle["state_bytes"], cycle["restore_seconds"], cycle["boot_id_before"]) == (10, 0.25, "before")
    assert [item["status"] for item in cycle["items"]] == ["restored", "restored"]
    assert cycle["timeline"]["phases"][-1]["mark"] == "hot_added"
    # The next end of a boot speaks for itself.
    assert not boot.records.exists(SAVED)
    # A second time there is nothing to do, and no second record.
    assert boot.hot_add().changes == [] and one.fake.list(CYCLES) == ["1.json"]


@pytest.mark.parametrize(
    "saved, content, reason",
    [
        ({"boot_id_before": "before"}, "zeros", "firmware cleared the region: the save had completed"),
        ({"boot_id_before": "before"}, "other", "firmware or another program overwrote the region"),
        ({}, "zeros", "it had not started, or firmware cleared the region"),
        ({}, "other", "no record shows that the save completed"),
    ],
)
def test_where_the_image_went(booted, saved, content, reason):
    """Said the same before and after hot-add, and after this boot has saved."""
    result = {"event": "result", "exit": 3, "msg": "no image", "image": {"state": "none", "content": content}, "items": []}
    one, engine, boot = booted(result)
    if saved:
        boot.records.write_json(SAVED, saved)
    assert [reason in outcome["reason"] for outcome in boot.outcomes()] == [True, True]
    boot.hot_add()
    assert reason in json.loads(one.fake.get(CYCLE))["items"][0]["reason"] and not boot.records.exists(SAVED)
    boot.records.announce("the next save")
    boot.records.write_json(SAVED, {"boot_id_before": boot_id(engine.sysfs)})
    assert reason in boot.outcomes()[0]["reason"]


def test_an_announced_save_has_not_ended(booted):
    _one, _engine, boot = booted(GOOD)
    boot.records.write_json(SAVED, {"boot_id_before": "before"})
    boot.records.announce("a save that is killed")
    assert boot.last_save == {}


def test_how_the_boot_before_ended(booted):
    _one, _engine, boot = booted(GOOD)
    boot.records.write_json(SHUTDOWN, {"said": "the memory could not be removed", "saved": False})
    assert boot.last_end == "the memory could not be removed"
    boot.hot_add()
    assert boot.last_end == "the memory could not be removed" and not boot.records.exists(SHUTDOWN)


def test_what_the_report_shows():
    marks = {"saved": 10, "kernel_start": 16, "units_ready": 26}
    assert spans({"marks": marks, "cycles_per_second": 2}) == {"jump_seconds": 8.0, "boot_seconds": 5.0}
    assert spans({"marks": {"kernel_start": 16}, "cycles_per_second": 2}) == {}


def test_what_must_not_be_lost_stays(booted):
    one, _engine, boot = booted(bad(), held=["must"])
    calls = len(one.acts)
    with pytest.raises(Held, match=r"must was not restored \(its first chunk is damaged\).*hotpmem-node cold-start must"):
        boot.hot_add()
    assert len(one.acts) == calls and not boot.records.exists(SERVING)
    started = []
    assert boot.cold_start([], started.extend) == ["must"] and started == ["must.service"]
    assert [outcome["status"] for outcome in boot.outcomes()] == ["restored", "cold"]
    assert boot.hot_add().changes
    with pytest.raises(HotpmemError, match=r"it is not held down\. The held items are: \(none\)"):
        boot.cold_start(["must"], started.extend)


def test_without_a_restore_an_image_is_kept(booted):
    _one, engine, boot = booted(None, due=False)
    engine.converter.image_of = lambda device: "sequence 7, items cache"
    assert boot.outcomes() == []
    with pytest.raises(HotpmemError, match="the conversion would destroy the state image"):
        boot.hot_add()


def test_nothing_due_is_no_cycle(booted):
    result = {"event": "result", "exit": 3, "msg": "no image", "items": []}
    one, _engine, boot = booted(result, due=False)
    assert boot.outcomes() == [] and boot.hot_add().changes
    assert not one.fake.exists(CYCLE)


def test_a_lost_image_is_said(booted):
    said = "the device does not hold an image"
    _one, _engine, boot = booted({"event": "result", "exit": 3, "error": {"what": "Looking", "said": said}, "items": []})
    assert [(outcome["status"], outcome["reason"]) for outcome in boot.outcomes()] == [("cold", f"Looking: {said}")] * 2


def test_an_item_given_a_cold_start_says_why(booted):
    _one, _engine, boot = booted(GOOD)
    boot.records.write("/run/hotpmem/cold/cache", "its unit failed 3 times\n")
    assert boot.outcomes()[0] == {
        "name": "cache", "unit": "cache.service", "bytes": 0, "reason": "its unit failed 3 times", "status": "cold",
    }  # fmt: skip


def test_the_last_twenty_are_kept(booted):
    one, _engine, boot = booted(GOOD)
    for _time in range(23):
        boot.record({})
    assert one.fake.list(CYCLES) == [f"{number}.json" for number in range(4, 24)]


def test_a_unit_that_is_well_takes_no_cold_start(booted):
    _one, _engine, boot = booted(GOOD)
    for name in ("cache", "must"):
        boot.records.write(f"/var/lib/hotpmem/cold/{name}", "x")
    clear_cold(boot.records, boot.settings, ["must.service"])
    assert os.listdir(boot.engine.sysfs.path("/var/lib/hotpmem/cold")) == ["must"]


# -- the command line, with what is behind it


def agent(machine, tmp_path, monkeypatch, *argv):
    """Run main() on the machine. Returns (code, JSON)."""
    one, engine, build = machine
    path = tmp_path / "node.json"
    settings = {"items": [kept.to_dict() for kept in build().settings.items], "kernel": "/boot/vmlinuz", "initrd": "/boot/initrd"}
    path.write_text(json.dumps(settings))
    monkeypatch.setattr("time.sleep", one.fake.pause)
    printed = []
    monkeypatch.setattr("builtins.print", lambda *words, **more: printed.append(" ".join(map(str, words))))
    code = cli.main([*argv, "--json", "--settings", str(path)], lambda settings: engine)
    return code, json.loads(printed[-1])


def test_handoff_by_command(machine, tmp_path, monkeypatch):
    one = machine[0]
    code, facts = agent(machine, tmp_path, monkeypatch, "handoff", "--check")
    assert code == 0 and facts["steps"][-1] == "run systemctl kexec" and one.acts == []
    one.fails["systemctl kexec"] = (1, "", "no way")
    log = tmp_path / "jump.log"
    code, facts = agent(machine, tmp_path, monkeypatch, "handoff", "--log", str(log))
    assert code == 7 and facts["stage"] == "jump" and facts["not_put_back"] == []
    assert log.read_text().splitlines()[-1] == "ended with 7" and "as before" in log.read_text()
    assert json.loads(one.fake.get("/run/hotpmem/handoff.json"))["exit"] == 7
    del one.fails["systemctl kexec"]
    assert agent(machine, tmp_path, monkeypatch, "handoff")[0] == 0
    assert one.fake.exists(PENDING)


NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/run/hotpmem/x")


def test_a_system_call_that_fails_is_an_answer_and_the_controller_hears_of_it(machine, tmp_path, monkeypatch):
    """It reads the log until that says how the handoff ended; a traceback says nothing, and its exit code 1 means a wrong command line."""
    one, log = machine[0], tmp_path / "jump.log"
    one.fails["/usr/local/sbin/pmem-state plan"] = NO_SPACE
    code, facts = agent(machine, tmp_path, monkeypatch, "handoff", "--log", str(log))
    assert code == 5 and "No space left on device" in facts["msg"] and one.acts == []
    assert log.read_text().splitlines()[-1] == "ended with 5"
    del one.fails["/usr/local/sbin/pmem-state plan"]
    one.fails["kexec -s -l"] = NO_SPACE
    code, facts = agent(machine, tmp_path, monkeypatch, "handoff", "--log", str(log))
    assert code == 7 and "No space left on device" in facts["msg"] and facts["not_put_back"] == []
    assert log.read_text().splitlines()[-1] == "ended with 7"
    del one.fails["kexec -s -l"]
    one.fails["ndctl create-namespace --mode raw"] = NO_SPACE
    code, facts = agent(machine, tmp_path, monkeypatch, "hot-remove")
    assert code == 2 and "No space left on device" in facts["msg"]


def test_signals(machine):
    handoff = machine[2]()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="SIGTERM"), verb_handoff._signals(handoff):
        os.kill(os.getpid(), signal.SIGTERM)
    with verb_handoff._signals(handoff):
        handoff.shield()
        os.kill(os.getpid(), signal.SIGTERM)
    handoff.jump.going = True
    with pytest.raises(SystemExit), verb_handoff._signals(handoff):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_in_the_fast_jump_does_not_end_it(machine, number):
    """kexec returns, or the machine is gone. To exit here would leave the services down and nothing put back."""
    one, _engine, build = machine
    handoff = build(method="fast")

    def comes_back():
        assert handoff.jump.going
        os.kill(os.getpid(), number)
        return 1, "", "nothing happened"

    one.fails["kexec -e"] = comes_back
    with pytest.raises(HandoffFailed, match="nothing happened"), verb_handoff._signals(handoff):
        handoff.run()
    assert one.active == {"cache.service", "must.service", "db.service"} and online(handoff.engine) == ["online_movable"] * 4


def test_a_signal_ends_what_is_running(machine):
    handoff = machine[2]()
    began = time.monotonic()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Interrupted), verb_handoff._signals(handoff):
        Runner().run(["sh", "-c", f"echo $$ >{handoff.engine.sysfs.path('/child')}; exec sleep 30"])
    assert time.monotonic() - began < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int(handoff.engine.sysfs.get("/child")), 0)


def test_detach_by_command(machine, tmp_path, monkeypatch):
    one = machine[0]
    code, facts = agent(machine, tmp_path, monkeypatch, "handoff", "--detach", "--method", "fast")
    assert (code, facts["unit"]) == (0, "hotpmem-handoff.service")
    call = next(call for call in one.calls if call.startswith("systemd-run"))
    assert "--unit=hotpmem-handoff --collect" in call and "After=hotpmem-save.service" in call
    assert " handoff --method fast --settings " in call and call.endswith("--log /run/hotpmem/jump.log")
    one.fails["systemd-run"] = (1, "", "Unit hotpmem-handoff.service was already loaded")
    monkeypatch.setattr(detach, "_START", 0.1)  # nobody claims the host in this test
    assert agent(machine, tmp_path, monkeypatch, "handoff", "--detach")[0] == 9


@pytest.mark.parametrize("stage", ["hot_remove", "stop", "save"])
def test_a_killed_handoff_is_put_back(machine, tmp_path, monkeypatch, stage):
    class Killed(BaseException):
        pass

    one, engine, build = machine
    start = {"hot_remove": "ndctl create-namespace --mode raw", "stop": "systemctl stop", "save": "/usr/local/sbin/pmem-state save"}[stage]
    one.fails[start] = Killed()
    with pytest.raises(Killed):
        build().run()
    one.fails.clear()
    os.makedirs(engine.sysfs.path("/run/hotpmem"), exist_ok=True)
    code, facts = agent(machine, tmp_path, monkeypatch, "put-back")
    assert (code, facts["changed"], facts["stage"]) == (0, True, stage)
    assert one.active == {"cache.service", "must.service", "db.service"} and online(engine) == ["online_movable"] * 4
    assert one.fake.get("/run/hotpmem/jump.log").endswith("ended with 7") and not one.fake.exists(PENDING)
    assert agent(machine, tmp_path, monkeypatch, "put-back")[1]["changed"] is False


def test_nothing_is_put_back_on_the_way_down(machine, tmp_path, monkeypatch):
    one, _engine, build = machine
    build().run()
    calls = len(one.acts)
    assert agent(machine, tmp_path, monkeypatch, "put-back")[1]["changed"] is False and len(one.acts) == calls


def test_other_verbs_by_command(machine, tmp_path, monkeypatch):
    code, facts = agent(machine, tmp_path, monkeypatch, "save-at-shutdown")
    assert (code, facts["saved"]) == (0, False)
    assert agent(machine, tmp_path, monkeypatch, "timeline")[1]["cycles"] == []
    assert agent(machine, tmp_path, monkeypatch, "timeline", "--last", "0")[0] == 1
    assert agent(machine, tmp_path, monkeypatch, "outcome")[1]["outcomes"] == []
    assert agent(machine, tmp_path, monkeypatch, "hot-add", "--at-boot")[0] == 0
    assert agent(machine, tmp_path, monkeypatch, "cold-start", "must")[0] == 2
    assert agent(machine, tmp_path, monkeypatch, "status")[1]["hotpmem"]["selected"]["driver"] == "kmem"


def test_a_unit_that_is_never_ready_is_left_out(booted, machine, tmp_path, monkeypatch):
    """A oneshot that a timer starts: systemd never calls it active, and the others have their down time."""
    one, _engine, boot = booted(GOOD)
    for unit, ready in (("cache.service", 6_000_000), ("must.service", 0), ("db.service", 4_000_000)):
        one.shown[unit] = {"InactiveExitTimestampMonotonic": ready and ready - 1000, "ActiveEnterTimestampMonotonic": ready}
    timeline = boot.timeline(9_000_000_000)
    ready = {entry["unit"]: entry["ready"] for entry in timeline["units"]}
    assert ready == {unit: unit != "must.service" for unit in boot.settings.units}
    assert "must.service" in ready and timeline["down_seconds"] is not None
    down = {entry["unit"]: entry["down_seconds"] for entry in timeline["units"]}
    assert down["cache.service"] == timeline["down_seconds"] and down["must.service"] is None
    boot.record({}, {"timeline": timeline})
    code, facts = agent(machine, tmp_path, monkeypatch, "timeline")
    assert code == 0 and facts["cycles"][0]["timeline"]["units"] == timeline["units"]


def test_timeline_by_command(booted, machine, tmp_path, monkeypatch):
    one, _engine, boot = booted(GOOD)
    boot.record({}, {"timeline": boot.timeline(9_000_000_000)})
    show = "UserspaceTimestampMonotonic=3000000\nFinishTimestampMonotonic=8000000\n"
    one.fails["systemctl show"] = (0, show, "")
    code, facts = agent(machine, tmp_path, monkeypatch, "timeline", "--last", "5")
    assert code == 0 and facts["cycles"][0]["timeline"]["systemd"] == {"kernel": 3.0, "userspace": 5.0}
    assert "budget" not in facts
    assert "stopping" in boot.timeline(9_000_000_000)["marks"]
    # Through firmware the counter began again: what it said before is of another count.
    boot.records.write_json(SAVED, {"method": "shutdown (reboot)"})
    assert "stopping" not in boot.timeline(9_000_000_000)["marks"]


def test_budget_by_command(booted, machine, tmp_path, monkeypatch):
    """What the host tells of itself gets into the budget of this boot's cycle, and of no other boot's."""
    one, engine, boot = booted(GOOD)
    assert agent(machine, tmp_path, monkeypatch, "timeline", "--budget")[1]["budget"] == []
    assert timeline_lines(machine)[-1] == "no budget: no recorded cycle led to this boot"
    one.shown[""] = {"UserspaceTimestampMonotonic": 3_000_000}
    for unit, early in (("cache.service", "yes"), ("must.service", "no")):
        stamps = {"InactiveExitTimestampMonotonic": 50_000_000, "ActiveEnterTimestampMonotonic": 60_000_000}
        one.shown[unit] = {**stamps, "DefaultDependencies": early}
    boot.record({}, {"timeline": boot.timeline(9_000_000_000)})
    for name, text in (
        ("/proc/cmdline", "ro console=ttyS0,115200"),
        ("/sys/class/tty/console/active", "ttyS0"),
        (
            "/proc/self/mountinfo",
            "1 0 254:1 / / rw - ext4 root rw\n2 1 0:40 / /srv/cache rw - tmpfs tmpfs rw,size=1G\n"
            "3 1 0:41 / /srv/must rw - tmpfs tmpfs rw,huge=within_size\n",
        ),
    ):
        os.makedirs(os.path.dirname(engine.sysfs.path(name)), exist_ok=True)
        Path(engine.sysfs.path(name)).write_text(text)
    code, facts = agent(machine, tmp_path, monkeypatch, "timeline", "--budget")
    said = [one["setting"] for row in facts["budget"] for one in row["gains"]]
    assert code == 0
    written = len("[    0.000000] Linux version 6.1\n[    2.900000] Run /init\n")
    assert f"the jump argument quiet: the kernel wrote {written} bytes to ttyS0" in said
    assert "mount the tmpfs of /srv/cache with huge=within_size" in said
    assert "early_start: true for the items of cache.service" in said
    build = machine[2]
    assert timeline.host_of(engine, build().settings, {}).beside_all == ["must.service"]
    assert timeline.host_of(engine, build(state_first=True).settings, {}).beside_all == []
    cycle = sorted(Path(engine.sysfs.path(CYCLES)).iterdir())[-1]
    cycle.write_text(cycle.read_text().replace(boot_id(engine.sysfs), "another"))
    assert agent(machine, tmp_path, monkeypatch, "timeline", "--budget")[1]["budget"] == []
    # The phases of that cycle are shown above.
    assert timeline_lines(machine)[-1] == "no budget: no recorded cycle led to this boot"


def timeline_lines(machine):
    """What the verb prints for people."""
    _one, engine, build = machine
    return cli.VERBS["timeline"](engine, build().settings, cli.parser().parse_args(["timeline", "--budget"])).lines


@pytest.mark.parametrize(
    "command_line, asked",
    [
        ("ro loglevel=6", "dmesg --level=emerg,alert,crit,err,warn,notice"),
        ("ro loglevel=3", ""),
        ("ro quiet", ""),
    ],
)
def test_the_budget_looks_at_this_host(machine, monkeypatch, command_line, asked):
    """What the console gets, that a socket can't start early, and the mount of an item behind a symbolic link."""
    one, engine, build = machine
    monkeypatch.setattr(type(one), "UNITS", (*one.UNITS, "cache.socket"))
    one.shown.update({unit: {"DefaultDependencies": "yes"} for unit in ("cache.socket", "must.service")})
    for name, text in (
        ("/proc/cmdline", command_line),
        ("/proc/self/mountinfo", "1 0 254:1 / / rw - ext4 root rw\n2 1 0:40 / /srv rw - tmpfs tmpfs rw\n"),
    ):
        Path(engine.sysfs.path(name)).write_text(text)
    os.symlink("srv", engine.sysfs.path("/link"))
    items = [
        {"name": "cache", "path": "/link/cache", "unit": "cache.socket"},
        {"name": "must", "path": "/srv/must", "unit": "must.service"},
    ]
    cycle = {"timeline": {"systemd": {"kernel": 3.0}}}
    host = timeline.host_of(engine, build(items=items).settings, cycle)
    assert host.late_units == ["must.service"]
    assert host.small_pages == ["/link/cache", "/srv/must"]
    assert [call for call in one.calls if call.startswith("dmesg")] == ([asked] if asked else [])
    assert bool(host.console_bytes) == bool(asked)
