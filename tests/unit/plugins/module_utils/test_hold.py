# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A handoff that holds the host while a controller does the first steps with modules, and what becomes of it without the controller."""

from __future__ import annotations

import contextlib
import json

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.handoff import HandoffFailed, Interrupted
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.records import GO, HANDOFF

RUN = "20261127T072300Z-abcdef"
LEASE = 60.0


class Controller:
    """Does something each time that the handoff looks whether it may go on."""

    def __init__(self, handoff, *steps):
        self.handoff = handoff
        self.steps = list(steps)
        self.done = 0
        handoff.run_id = RUN
        handoff.jump.pause, self.pause = self.next, handoff.jump.pause

    def next(self, seconds):
        """Sleeping lets the controller do its next step, and time pass."""
        if self.handoff.stage == "hold" and self.steps:
            self.steps.pop(0)()
            self.done += 1
        self.pause(seconds)

    def go(self):
        """The controller starts the jump."""
        self.handoff.records.write(GO, RUN)


def as_before(one, engine):
    assert one.active == {"cache.service", "must.service", "db.service"}
    assert [block.what_it_is for block in engine.dax.blocks.present(range(8, 12))] == ["online_movable"] * 4
    assert one.fake.get("/sys/kernel/kexec_loaded") == "0"
    return True


def remove(engine, handoff):
    """As the module pmem_hotplug."""
    engine.hotplug.hot_remove(handoff.namespace, 10)


def load(engine, handoff):
    """As the module kexec_load."""
    engine.kexec.load(handoff.target())


def test_the_steps_of_the_controller_are_not_done_again(machine):
    one, engine, build = machine
    handoff = build()
    controller = Controller(handoff, lambda: load(engine, handoff), lambda: remove(engine, handoff))
    controller.steps.append(controller.go)
    handoff.hold(lambda: controller.done, LEASE)
    before = len(one.acts)
    handoff.run()
    assert [act.split()[0] for act in one.acts[before:]] == [
        "sync",
        "/usr/local/sbin/pmem-state",
        "systemctl",
        "/usr/local/sbin/pmem-state",
        "systemctl",
    ]
    assert one.state == "stopping" and json.loads(one.fake.get(HANDOFF))["run"] == RUN


def test_without_the_steps_the_handoff_does_them(machine):
    one, _engine, build = machine
    handoff = build()
    controller = Controller(handoff)
    controller.steps.append(controller.go)
    handoff.hold(lambda: controller.done, LEASE)
    handoff.run()
    assert any(act.startswith("kexec -s -l") for act in one.acts) and one.state == "stopping"


@pytest.mark.parametrize("steps", [[], [load], [load, remove]], ids=["nothing", "kernel loaded", "memory removed"])
@pytest.mark.parametrize("end", ["gone", "given up"])
def test_a_controller_that_is_gone_leaves_the_host_as_before(machine, steps, end):
    one, engine, build = machine
    handoff = build()

    def give_up():
        raise Interrupted("signal SIGTERM")

    controller = Controller(handoff, *[lambda step=step: step(engine, handoff) for step in steps])
    if end == "given up":
        controller.steps.append(give_up)
    inside = []

    @contextlib.contextmanager
    def alone():
        # A signal now, while it waits for a step of the run, must not end it before everything is back.
        assert shielded
        inside.append(True)
        yield

    shielded = []
    handoff.shield = lambda: shielded.append(True)
    handoff.alone = alone
    began = one.fake.clock()
    with pytest.raises(HandoffFailed, match=r"as before") as caught:
        handoff.hold(lambda: controller.done, LEASE)
    assert as_before(one, engine) and inside and caught.value.stuck == []
    assert caught.value.todo.endswith("Then run the play again")
    if end == "gone":
        assert "the controller did nothing for 60 s" in caught.value.said and "hotpmem_lease" in caught.value.todo
        assert one.fake.clock() - began >= LEASE
    assert not any(act.startswith("systemctl stop") for act in one.acts)


def test_each_step_renews_the_lease(machine):
    one, _engine, build = machine
    handoff = build()

    def slow():
        one.fake.now += LEASE - 1

    controller = Controller(handoff, slow, slow, slow)
    controller.steps.append(controller.go)
    handoff.hold(lambda: controller.done, LEASE)
    assert one.fake.clock() > 2 * LEASE


def test_the_go_of_another_run_does_not_count(machine):
    one, engine, build = machine
    handoff = build()
    controller = Controller(handoff, lambda: handoff.records.write(GO, "another"))
    with pytest.raises(HandoffFailed):
        handoff.hold(lambda: controller.done, LEASE)
    assert as_before(one, engine)


def test_an_old_go_does_not_count(machine):
    one, engine, build = machine
    handoff = build()
    controller = Controller(handoff)
    controller.go()
    with pytest.raises(HandoffFailed):
        handoff.hold(lambda: controller.done, LEASE)
    assert as_before(one, engine)


def test_killed_while_it_holds(machine):
    """ExecStopPost= of the unit runs put-back in another process, which knows only the record."""

    def killed():
        raise KeyboardInterrupt

    one, engine, build = machine
    handoff = build()
    controller = Controller(handoff, lambda: load(engine, handoff), lambda: remove(engine, handoff))
    controller.steps.append(killed)
    with pytest.raises(KeyboardInterrupt):
        handoff.hold(lambda: controller.done, LEASE)
    other = build()
    assert other.take_up() and other.held and other.run_id == RUN
    error = other.put_back(HotpmemError("killed", "it", "look"))
    assert error.stuck == [] and as_before(one, engine)


def test_memory_that_was_not_ram_before_is_left_alone(machine):
    one, engine, build = machine
    handoff = build()
    remove(engine, handoff)
    writes = len(one.acts)
    with pytest.raises(HandoffFailed):
        Controller(handoff)
        handoff.hold(lambda: 0, LEASE)
    assert not any("create-namespace" in act for act in one.acts[writes:])


def test_a_host_that_is_not_ready_is_not_held(machine):
    one, _engine, build = machine
    handoff = build(kernel="/boot/none")
    with pytest.raises(HotpmemError) as caught:
        handoff.hold(lambda: 0, LEASE)
    assert not isinstance(caught.value, HandoffFailed) and one.acts == []


def test_put_back_names_the_method_of_the_handoff(machine):
    """Not the one of the settings, which the person who started it may have overridden."""
    one, _engine, build = machine
    handoff = build(method="fast", fast_stop=["db.service"])
    one.fake.set("/proc/mounts", "")
    handoff.records.write_json(HANDOFF, {})
    handoff.stage = "stop"
    handoff._write_record()
    other = build()
    assert other.take_up()
    assert other.put_back(HotpmemError("killed", "it", "look")).todo.endswith("Then: hotpmem-node handoff --method fast")
