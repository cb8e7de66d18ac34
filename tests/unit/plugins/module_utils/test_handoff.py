# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The handoff: its order, and that from every stage at which it may fail the machine comes back as it was, services first."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.handoff import HandoffFailed, Interrupted
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.save_at_shutdown import ShutdownSave
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Completed, TimedOut, ToolMissing
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.records import (
    ANNOUNCED,
    HANDOFF,
    PENDING,
    PLACE,
    SAVED,
    SAVED_HERE,
    SHUTDOWN,
)
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.sysfs import Sysfs
from ansible_collections.hotpmem.fleet.plugins.module_utils._kernel.kexec_jump import writable

BOOT = "11111111-2222-3333-4444-555555555555"


def online(engine):
    return [block.what_it_is for block in engine.dax.blocks.present(range(8, 12))]


def test_order(machine):
    one, engine, build = machine
    handoff = build()
    handoff.run()
    acts = one.acts
    order = ["sync", "kexec -s -l", "ndctl create-namespace --mode raw", "/usr/local/sbin/pmem-state cycles"]
    order += ["systemctl stop cache.service must.service", "/usr/local/sbin/pmem-state save", "systemctl kexec"]
    assert [next(act for act in acts if act.startswith(start)) for start in order] == acts
    assert online(engine) == []
    assert one.fake.get(PLACE) == "0x3fe00000 raw"
    assert one.fake.exists(PENDING) and json.loads(one.fake.get(SAVED))["boot_id_before"] == BOOT
    assert one.fake.exists(SAVED_HERE)
    save = next(act for act in acts if "pmem-state save" in act)
    assert "--cycles-per-second 2000000000 --mark preflight=" in save and "--mark units_stopped=" in save


def test_plan_changes_nothing(machine):
    one, _engine, build = machine
    steps = build().plan()
    assert one.acts == [] and one.fake.writes == []
    assert steps == [
        "load /boot/vmlinuz with /boot/initrd",
        "take the memory blocks 8, 9, 10, 11 offline",
        "unbind dax0.0 from kmem",
        "make namespace0.0 raw",
        "stop cache.service, must.service",
        "save cache, must",
        "run systemctl kexec",
    ]


FAILURES = {
    "kexec_load": ("kexec -s -l", (1, "", "no signature")),
    "hot_remove": ("ndctl create-namespace --mode raw", (1, "", "no such luck")),
    "stop": ("systemctl stop cache.service", (1, "", "will not stop")),
    "save": ("/usr/local/sbin/pmem-state save", (6, json.dumps({"event": "result", "exit": 6, "items": [], "error": None}), "")),
    "jump": ("systemctl kexec", (1, "", "no way")),
}


HELPER = "/usr/local/sbin/pmem-state"
# What a step may meet beside an answer that it does not like.
RAISED = {
    "signal": lambda: Interrupted("signal SIGTERM"),
    "time-out": lambda: TimedOut("Cannot finish it", "it was still running after 60 s and was ended", "Raise the timeout"),
    "not installed": lambda: ToolMissing("Cannot run it", "it is not installed", "Install it"),
    "ENOMEM": lambda: OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    "ENOSPC": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/run/hotpmem/kexec.json"),
}


def fails_and_is_as_before(one, engine, handoff):
    """Run a handoff that fails, and look at all that it had to put back. Returns the error."""
    shielded = []
    handoff.shield = lambda: shielded.append(True)
    with pytest.raises(HandoffFailed) as caught:
        handoff.run()
    error = caught.value
    assert f"Handoff failed at {handoff.stage.replace('_', ' ')}" in str(error)
    assert "as before" in str(error) and error.todo.endswith("Then: hotpmem-node handoff --method systemd")
    assert one.active == {"cache.service", "must.service", "db.service"}
    assert online(engine) == ["online_movable"] * 4 and engine.dax.read("dax0.0").driver == "kmem"
    assert one.fake.get("/sys/kernel/kexec_loaded") == "0" and not one.fake.exists(PENDING)
    assert not one.fake.exists(ANNOUNCED)
    assert not one.fake.exists(SAVED_HERE)
    assert shielded and error.stuck == []
    return error


@pytest.mark.parametrize("stage", list(FAILURES))
@pytest.mark.parametrize("kind", ["answer", *RAISED])
def test_put_back(machine, stage, kind):
    one, engine, build = machine
    start, answer = FAILURES[stage]
    one.fails[start] = answer if kind == "answer" else RAISED[kind]()
    handoff = build()
    error = fails_and_is_as_before(one, engine, handoff)
    assert handoff.stage == stage
    assert kind not in ("ENOMEM", "ENOSPC") or os.strerror(getattr(errno, kind)) in error.said
    if stage in ("save", "jump"):
        acts = one.acts
        assert acts.index("systemctl start cache.service must.service") < next(
            index for index, act in enumerate(acts) if act.startswith("ndctl create-namespace --mode devdax")
        )


# The commands between those of FAILURES; what they answer is not looked at, or can't be wrong.
BETWEEN = [
    ("sync", "preflight"),
    ("systemctl show --property=Id", "hot_remove"),
    ("systemctl show --property=ActiveState --property=ActiveExit", "stop"),
]


@pytest.mark.parametrize("start, stage", BETWEEN)
@pytest.mark.parametrize("kind", [kind for kind in RAISED if kind != "signal"])
def test_put_back_from_between_two_steps(machine, start, stage, kind):
    one, engine, build = machine
    handoff = build()
    # The preflight asks some of them as well.
    handoff.say = lambda line: one.fails.update({start: RAISED[kind]()} if line == stage.replace("_", " ") else {})
    fails_and_is_as_before(one, engine, handoff)
    assert handoff.stage == stage


@pytest.mark.parametrize("kind", ["time-out", "not installed"])
def test_without_a_reading_of_the_counter_it_goes_on(machine, kind):
    """Marks of the phases are a courtesy."""
    one, _engine, build = machine
    one.fails[f"{HELPER} cycles"] = RAISED[kind]()
    build().run()
    assert one.acts[-1] == "systemctl kexec" and not any("--mark" in act for act in one.acts)


@pytest.mark.parametrize("kind", [kind for kind in RAISED if kind != "signal"])
def test_what_fails_while_it_is_put_back_keeps_nothing_else_from_it(machine, kind):
    """Services are up again although nothing after them works, and each thing that is left to do is said with its command."""
    one, engine, build = machine
    one.fails["systemctl kexec"] = (1, "", "no way")
    one.fails["kexec -a -u"] = one.fails["ndctl create-namespace --mode devdax"] = RAISED[kind]()
    with pytest.raises(HandoffFailed, match="NOT put back: ") as caught:
        build().run()
    assert one.active == {"cache.service", "must.service", "db.service"}
    assert [command for _sentence, command in caught.value.stuck] == ["kexec -a -u", "hotpmem-node hot-add --force"]
    assert not one.fake.exists(PENDING) and not one.fake.exists(SAVED_HERE) and online(engine) == []


@pytest.mark.parametrize("kind", [kind for kind in RAISED if kind != "signal"])
def test_a_question_that_systemd_does_not_answer_takes_no_jump_back(machine, kind):
    """systemctl kexec was accepted: services that are started now, and memory that is RAM again, would cost the state that was saved."""
    one, _engine, build = machine
    one.fails["systemctl is-system-running"] = RAISED[kind]()
    build().run()
    assert one.acts[-1] == "systemctl kexec" and one.active == {"db.service"}
    assert one.fake.exists(PENDING) and one.image["state"] == "valid" and one.fake.get("/sys/kernel/kexec_loaded") == "1"


@pytest.mark.parametrize("kind", [kind for kind in RAISED if kind != "signal"])
def test_interrupted_while_systemd_does_not_answer(machine, kind):
    """Before the jump everything is put back; once systemd was asked to jump, nothing is: the signal may be the end that it brings."""
    one, engine, build = machine
    one.fails["systemctl is-system-running"] = RAISED[kind]()
    one.fails[f"{HELPER} save"] = Interrupted("signal SIGTERM")
    fails_and_is_as_before(one, engine, build())
    del one.fails[f"{HELPER} save"]
    one.fails["systemctl kexec"] = Interrupted("signal SIGTERM")
    build().run()
    assert one.active == {"db.service"} and one.fake.exists(PENDING) and one.image["state"] == "valid"


@pytest.mark.parametrize("kind", [kind for kind in RAISED if kind != "signal"])
def test_put_back_while_systemd_does_not_answer(machine, kind):
    """ExecStopPost= runs during each jump by systemd. Putting back then would discard the image that was just saved."""
    one, _engine, build = machine
    build().run()
    one.fails["systemctl is-system-running"] = RAISED[kind]()
    assert build().take_up() is False
    # A handoff that was killed before it asked for the jump has nobody else who puts it back.
    record = json.loads(one.fake.get(HANDOFF))
    for stage, method in (("save", "systemd"), ("jump", "fast")):
        one.fake.set(HANDOFF, json.dumps({**record, "stage": stage, "method": method}))
        assert build().take_up() is True


@pytest.fixture
def forks_fail(monkeypatch):
    """Let the next so many forks of write_until fail as they do without memory; after them the captured machine answers again."""

    def begin(fake, times):
        def fork():
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

        def write_until(name, value, seconds):
            failures.append(name)
            if len(failures) > times:
                type(fake).write_until(fake, name, value, seconds)
            else:
                with monkeypatch.context() as patch:
                    patch.setattr(os, "fork", fork)
                    Sysfs.write_until(fake, name, value, seconds)

        failures = []
        fake.write_until = write_until
        return failures

    return begin


def test_a_fork_that_fails_while_memory_is_removed_is_tried_again(machine, forks_fail):
    one, engine, build = machine
    tries = forks_fail(one.fake, 3)
    build().run()
    assert len(tries) == 7 and online(engine) == [] and one.state == "stopping"


def test_without_memory_to_fork_everything_is_as_before(machine, forks_fail):
    one, engine, build = machine
    forks_fail(one.fake, 1000)
    handoff = build()
    error = fails_and_is_as_before(one, engine, handoff)
    assert handoff.stage == "hot_remove" and "ENOMEM" in error.said


def test_a_shutdown_that_can_not_save_says_why_in_the_next_boot(machine):
    one, engine, build = machine
    one.jobs, one.active = JOBS.format(target="reboot.target"), set()
    one.fails[f"{HELPER} save"] = RAISED["ENOMEM"]()
    handoff = build()
    with pytest.raises(HotpmemError, match=os.strerror(errno.ENOMEM)):
        ShutdownSave(engine, handoff.settings, handoff.services, one.fake.clock).run(100)
    said = json.loads(one.fake.get(SHUTDOWN))
    assert said["saved"] is False and os.strerror(errno.ENOMEM) in said["said"]


def test_what_was_down_stays_down(machine):
    one, _engine, build = machine
    one.active = {"cache.service"}
    one.fails["systemctl kexec"] = (1, "", "no way")
    with pytest.raises(HandoffFailed):
        build().run()
    assert one.active == {"cache.service"}


def test_what_can_not_be_put_back_is_said_with_its_command(machine):
    one, _engine, build = machine
    one.fails["systemctl kexec"] = (1, "", "no way")
    one.fails["systemctl start"] = (1, "", "it crashed")
    one.fails["ndctl create-namespace --mode devdax"] = (1, "", "busy")
    with pytest.raises(HandoffFailed, match=r"NOT put back: cache\.service, must\.service did not start") as caught:
        build().run()
    assert [command for _sentence, command in caught.value.stuck] == [
        "systemctl start cache.service must.service",
        "hotpmem-node hot-add --force",
    ]


def test_preflight_refuses_before_anything(machine):
    one, _engine, build = machine
    shutil.rmtree(one.fake.path("/srv/must"))
    with pytest.raises(HotpmemError, match="the item must is missing") as caught:
        build().run()
    assert not isinstance(caught.value, HandoffFailed)
    assert one.acts == [] and json.loads(one.fake.get(HANDOFF))["stage"] == "preflight"


def test_an_image_that_waits_is_not_overwritten(machine):
    one, engine, build = machine
    engine.hotplug.hot_remove(engine.namespaces.find(), 10)
    one.image = {"state": "valid", "sequence": 7, "items": ["must"], "boot_id": "older"}
    with pytest.raises(HotpmemError, match=r"sequence 7, items must\) that was not restored"):
        build().run()
    build(force=True).preflight()


def test_fast(machine):
    one, engine, build = machine
    mounts = one.fake.path("/proc/mounts")
    with open(mounts, "w", encoding="utf-8") as file:
        file.write("/dev/vda / ext4 rw,relatime 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/vdb /ro ext4 ro 0 0\n")
    with pytest.raises(HandoffFailed, match="kexec -e returned instead of starting the loaded kernel"):
        build(method="fast", fast_stop=["db.service"]).run()
    acts = one.acts
    stop = acts.index("systemctl stop db.service")
    assert stop < acts.index("systemctl stop cache.service must.service") < acts.index("kexec -e")
    assert [write for write in one.fake.writes if "sysrq" in write] == ["s > proc/sysrq-trigger", "u > proc/sysrq-trigger"]
    assert (
        acts.index("kexec -e") < acts.index("mount -o remount,rw /") < acts.index("systemctl start cache.service must.service db.service")
    )
    assert online(engine) == ["online_movable"] * 4


def test_a_reboot_through_firmware_loads_no_kernel(machine):
    one, _engine, build = machine
    handoff = build(method="firmware")
    assert handoff.plan()[-1] == "run systemctl reboot" and not any("load" in step for step in handoff.plan())
    handoff.run()
    assert one.acts[-1] == "systemctl reboot" and one.state == "stopping"
    assert not any("kexec" in act for act in one.acts)
    assert json.loads(one.fake.get(SAVED))["method"] == "firmware"


def test_a_reboot_through_firmware_that_fails_is_undone(machine):
    one, engine, build = machine
    one.fails["systemctl reboot"] = (1, "", "no way")
    with pytest.raises(HandoffFailed, match=r"as before") as caught:
        build(method="firmware").run()
    assert caught.value.todo.endswith("--method firmware") and online(engine) == ["online_movable"] * 4


def test_writable():
    assert writable("/dev/vda / ext4 rw,a 0 0\n/dev/vdb /b ext4 ro,rw_x 0 0\nproc /proc proc rw 0 0\nshort\n") == ["/"]


def test_a_kexec_that_systemd_only_promised(machine):
    one, _engine, build = machine
    one.fails["systemctl kexec"] = (0, "", "")
    with pytest.raises(HandoffFailed, match="30 s after systemctl kexec, systemd does not shut the system down"):
        build().run()
    assert one.active == {"cache.service", "must.service", "db.service"}


def test_interrupted_by_a_shutdown_nothing_is_started(machine):
    one, _engine, build = machine
    one.fails["/usr/local/sbin/pmem-state save"] = Interrupted("signal SIGTERM")
    one.state = "stopping"
    with pytest.raises(HandoffFailed, match=r"hotpmem-save\.service saves the state"):
        build().run()
    assert not any(act.startswith("systemctl start") for act in one.acts)


JOBS = "12 {target} start waiting\n13 cache.service stop running\n"


@pytest.mark.parametrize(
    "target, image, saved, said",
    [
        ("reboot.target", {"state": "none"}, True, "saved 2 items"),
        ("kexec.target", {"state": "none"}, True, "saved 2 items"),
        ("poweroff.target", {"state": "none"}, False, "nothing was saved, because memory does not survive a poweroff"),
        ("basic.target", {"state": "none"}, False, "not shutting down"),
    ],
)
def test_save_at_shutdown(machine, target, image, saved, said):
    one, engine, build = machine
    one.jobs = JOBS.format(target=target)
    one.active = set()
    one.image = image
    handoff = build()
    answer = ShutdownSave(engine, handoff.settings, handoff.services, one.fake.clock).run(100)
    assert answer["saved"] is saved and said in answer["said"]
    assert one.fake.exists(PENDING) is saved
    assert any("pmem-state save" in act for act in one.acts) is saved


def test_shutdown_after_a_handoff_finds_the_work_done(machine):
    one, engine, build = machine
    handoff = build()
    handoff.run()
    one.jobs = JOBS.format(target="kexec.target")
    calls = len(one.acts)
    answer = ShutdownSave(engine, handoff.settings, handoff.services, one.fake.clock).run(100)
    assert answer["saved"] and "the handoff saved it" in answer["said"] and len(one.acts) == calls


def test_shutdown_keeps_an_image_that_waits_and_does_not_save_under_a_running_unit(machine):
    one, engine, build = machine
    one.jobs = JOBS.format(target="reboot.target")
    handoff = build()
    save = ShutdownSave(engine, handoff.settings, handoff.services, one.fake.clock)
    with pytest.raises(HotpmemError, match=r"cache\.service, must\.service still runs"):
        save.run(100)
    one.active = set()
    engine.hotplug.hot_remove(engine.namespaces.find(), 10)
    one.image = {"state": "valid", "boot_id": "another"}
    with pytest.raises(HotpmemError, match=r"was not restored\. That image is kept"):
        save.run(100)
    assert not any("pmem-state save" in act for act in one.acts)
    assert json.loads(one.fake.get("/var/lib/hotpmem/shutdown.json"))["saved"] is False


@pytest.mark.parametrize("stopped_us, mark", [(0, 5_000_000_000), (4_999_999, 5_000_000_000), (5_020_000, 5_020_000_000)])
def test_the_stop_is_marked_when_systemd_began_it(machine, stopped_us, mark):
    """Not when systemctl was started; a unit that had ended long before tells nothing."""
    one, _engine, build = machine
    one.stopped_us = stopped_us
    handoff = build()
    handoff.now = lambda: 5_000_000_000
    handoff.run()
    assert handoff.marks["stopping"] == mark


def test_an_image_without_its_record_is_stale_and_replaced(machine):
    """A put-back that could not clear the image leaves it behind: older than what the services have done since."""
    one, engine, build = machine
    handoff = build()
    handoff.run()
    handoff.records.remove(PENDING)
    one.jobs = JOBS.format(target="reboot.target")
    calls = len(one.acts)
    answer = ShutdownSave(engine, handoff.settings, handoff.services, one.fake.clock).run(100)
    assert answer["saved"] and answer["said"] == "saved 2 items to /dev/pmem0"
    assert any("pmem-state save" in act for act in one.acts[calls:]) and one.fake.exists(PENDING)


def times_out(argv):
    error = TimedOut(f"Cannot finish {argv}", "it was still running after 20 s", "Raise the timeout")
    error.completed = Completed(tuple(argv.split()), -15, "", "")
    return error


def test_a_slow_systemctl_on_the_way_down_is_not_a_failed_jump(machine):
    one, _engine, build = machine
    handoff = build()
    one.fails["systemctl kexec"] = times_out("systemctl kexec")
    one.fails["systemctl is-system-running"] = times_out("systemctl is-system-running")
    pauses = []

    def pause(seconds):
        one.fake.now += 40
        pauses.append(seconds)
        if len(pauses) == 3:
            one.fails["systemctl is-system-running"] = (1, "stopping", "")

    handoff.jump.pause = pause
    handoff.run()
    assert len(pauses) == 3 and not any(act.startswith("systemctl start") for act in one.acts)


def test_a_failure_on_the_way_down_starts_nothing(machine):
    one, _engine, build = machine
    one.fails["/usr/local/sbin/pmem-state save"] = (9, "", "killed")
    one.state = "stopping"
    with pytest.raises(HandoffFailed, match=r"hotpmem-save\.service saves the state") as caught:
        build().run()
    assert caught.value.stuck == [] and not any(act.startswith("systemctl start") for act in one.acts)


MOUNTS = "/dev/vda / ext4 rw 0 0\n/dev/vdb /srv/a\\040b ext4 rw 0 0\n/dev/vdc /data xfs rw 0 0\n"


def test_every_file_system_is_made_writable_again(machine):
    one, _engine, build = machine
    one.fake.set("/proc/mounts", MOUNTS)
    one.fails["mount -o remount,rw /srv/a b"] = (32, "", "device is write-protected")
    with pytest.raises(HandoffFailed, match=r"NOT put back: file systems are still read-only \(/srv/a b: .*write-protected") as caught:
        build(method="fast").run()
    assert [act for act in one.acts if act.startswith("mount")] == [f"mount -o remount,rw {name}" for name in ("/", "/srv/a b", "/data")]
    assert caught.value.stuck[0][1] == "mount -o remount,rw '/srv/a b'" and "cache.service" in one.active


def test_what_a_killed_fast_jump_left_read_only_is_on_record(machine):
    class Killed(BaseException):
        pass

    one, _engine, build = machine
    one.fake.set("/proc/mounts", MOUNTS)
    one.fails["kexec -e"] = Killed()
    with pytest.raises(Killed):
        build(method="fast").run()
    again = build(method="fast")
    assert again.take_up() and again.jump.remounted == ["/", "/srv/a b", "/data"]
    again.put_back(HotpmemError("The handoff was killed", "it ended without a word", ""))
    assert [act for act in one.acts if act.startswith("mount")] == [f"mount -o remount,rw {name}" for name in ("/", "/srv/a b", "/data")]
