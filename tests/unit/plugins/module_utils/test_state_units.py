# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A handoff stops everything that may change the state, and saves only what was left in order."""

from __future__ import annotations

import os

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.handoff import PATIENCE, HandoffFailed
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError

TOGETHER = {"cache.service": {"ConsistsOf": "cache@1.service", "TriggeredBy": "cache.socket"}}
MORE = ("cache@1.service", "cache.socket")


@pytest.fixture
def with_more(machine, monkeypatch):
    """A machine on which cache.service is a dummy with an instance, and a socket starts it."""
    one, engine, build = machine
    monkeypatch.setattr(type(one), "UNITS", (*one.UNITS, *MORE))
    one.active |= set(MORE)
    one.shown.update(TOGETHER)
    return one, engine, build


def test_what_a_stop_reaches_is_stopped_and_started_with_it(with_more):
    one, _engine, build = with_more
    one.fails["systemctl kexec"] = (1, "", "no way")
    with pytest.raises(HandoffFailed, match="as before"):
        build().run()
    stop = "systemctl stop cache.service must.service cache@1.service cache.socket"
    assert [act for act in one.acts if act.startswith("systemctl s")] == [stop, stop.replace("stop", "start")]
    assert one.active == {"cache.service", "must.service", "db.service", *MORE}


def test_an_instance_that_was_down_stays_down(with_more):
    one, _engine, build = with_more
    one.active.remove("cache@1.service")
    one.fails["systemctl kexec"] = (1, "", "no way")
    with pytest.raises(HandoffFailed):
        build().run()
    assert "cache@1.service" not in one.active


@pytest.mark.parametrize("result", ["timeout", "signal", "exit-code", "core-dump", "watchdog"])
def test_the_state_of_a_unit_that_did_not_end_well_is_not_saved(machine, result):
    one, _engine, build = machine
    one.shown["must.service"] = {"Result": result}
    with pytest.raises(HandoffFailed, match=f"must.service ended with the result {result}, so its files may be half written") as caught:
        build().run()
    assert caught.value.stuck == [] and not any("pmem-state save" in act for act in one.acts)
    assert one.active == {"cache.service", "must.service", "db.service"}


def test_a_result_from_before_does_not_count(machine):
    """It is of an earlier run: this handoff has not stopped the unit."""
    one, _engine, build = machine
    one.active.remove("must.service")
    one.shown["must.service"] = {"Result": "exit-code"}
    build().run()
    assert any("pmem-state save" in act for act in one.acts)


def test_a_unit_that_does_not_exist_is_refused_before_anything(machine):
    one, _engine, build = machine
    one.shown["must.service"] = {"LoadState": "not-found"}
    with pytest.raises(HotpmemError, match=r"the unit must\.service of the item must does not exist") as caught:
        build().run()
    assert not isinstance(caught.value, HandoffFailed) and one.acts == []


def process(fake, pid, unit, path):
    """A process in the captured tree that has a file open."""
    base = fake.path(f"/proc/{pid}")
    os.makedirs(f"{base}/fd")
    os.symlink(path, f"{base}/fd/3")
    for name, text in (("comm", "writer"), ("cgroup", f"0::/system.slice/{unit}")):
        with open(f"{base}/{name}", "w", encoding="utf-8") as file:
            file.write(text + "\n")


def test_a_process_that_would_not_stop_is_refused_before_anything(machine):
    one, _engine, build = machine
    process(one.fake, 812, "backup.service", os.path.realpath(one.fake.path("/srv/cache")) + "/index")
    with pytest.raises(HotpmemError, match=r"process 812 \(writer\) of backup\.service has .*/srv/cache/index open, and does not stop"):
        build().run()
    assert one.acts == []


def test_a_process_that_outlives_its_unit_is_waited_for_and_named(machine):
    one, _engine, build = machine
    process(one.fake, 813, "cache.service", os.path.realpath(one.fake.path("/srv/cache")) + "/index")
    with pytest.raises(HandoffFailed, match=rf"{PATIENCE:g} s after the units were stopped, process 813 \(writer\) of cache\.service"):
        build().run()
    assert one.active == {"cache.service", "must.service", "db.service"} and not any("pmem-state save" in act for act in one.acts)
