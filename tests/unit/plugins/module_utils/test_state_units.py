# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A handoff stops everything that may change the state, and saves only what was left in order."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.handoff import PATIENCE, HandoffFailed
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.node_settings import from_dict
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.removed_at_stop import removed_by
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.save_at_shutdown import ShutdownSave
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.state_units import DROPIN, ENABLED, GUARD_TIMER
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.records import COLD, HANDOFF, HOLD, PENDING, SAVED_HERE, SHUTDOWN
from ansible_collections.hotpmem.fleet.plugins.modules import state_units

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "roles" / "node_agent" / "files"))
from hotpmem_node import cli

TOGETHER = {"cache.service": {"ConsistsOf": "cache@1.service", "TriggeredBy": "cache.socket"}}
MORE = ("cache@1.service", "cache.socket", "alias.service")
BOOT = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def with_more(machine, monkeypatch):
    """A machine on which cache.service is a dummy with an instance, and a socket starts it."""
    one, engine, build = machine
    monkeypatch.setattr(type(one), "UNITS", (*one.UNITS, *MORE))
    one.active |= set(MORE[:2])
    one.shown.update(TOGETHER)
    return one, engine, build


def test_what_a_stop_reaches_is_stopped_and_started_with_it(with_more):
    one, _engine, build = with_more
    one.fails["systemctl kexec"] = (1, "", "no way")
    with pytest.raises(HandoffFailed, match="as before"):
        build().run()
    # The socket first: a client could start the service again, and systemd refuses to start a socket after its service.
    stop = "systemctl stop cache.socket cache.service must.service cache@1.service"
    assert [act for act in one.acts if act.startswith("systemctl s")] == [stop, stop.replace("stop", "start")]
    assert one.active == {"cache.service", "must.service", "db.service", *MORE[:2]}


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


COLD_ITEMS = [
    {"name": "cache", "path": "/srv/cache", "unit": "cache.service", "on_dirty_stop": "cold"},
    {"name": "must", "path": "/srv/must", "unit": "must.service", "cold_start": False},
]


def saves(one):
    return [act for act in one.acts if "pmem-state save" in act]


@pytest.mark.parametrize("unit", ["cache.service", "cache@1.service"])
def test_an_item_that_may_start_cold_is_left_out(with_more, unit):
    one, _engine, build = with_more
    one.shown[unit] = {**one.shown.get(unit, {}), "Result": "timeout"}
    # What is left out may still be open.
    process(one.fake, 814, "cache.service", os.path.realpath(one.fake.path("/srv/cache")) + "/index")
    build(items=COLD_ITEMS).run()
    (save,) = saves(one)
    assert "must=/srv/must" in save and "cache=/srv/cache" not in save
    assert one.fake.get(f"{COLD}/cache").startswith(f"{unit} ended with the result timeout, so the files of cache may be half written")
    assert not one.fake.exists(f"{COLD}/must") and one.fake.exists(SAVED_HERE)


def test_one_item_that_must_not_be_lost_refuses_for_all(machine):
    one, _engine, build = machine
    one.shown = {"cache.service": {"Result": "timeout"}, "must.service": {"Result": "signal"}}
    with pytest.raises(HandoffFailed, match=r"must\.service ended with the result signal"):
        build(items=COLD_ITEMS).run()
    assert saves(one) == [] and not one.fake.exists(f"{COLD}/cache")


def test_nothing_is_saved_when_everything_is_left_out(machine):
    one, _engine, build = machine
    one.shown["cache.service"] = {"Result": "core-dump"}
    build(items=COLD_ITEMS[:1]).run()
    assert one.acts[-1] == "systemctl kexec" and saves(one) == []
    # The shutdown that follows must not save it either.
    assert one.fake.exists(SAVED_HERE) and one.fake.exists(f"{COLD}/cache")


@pytest.mark.parametrize("killed", [False, True])
def test_putting_back_takes_the_note_back(machine, killed):
    one, _engine, build = machine
    one.shown["cache.service"] = {"Result": "timeout"}
    one.fails["systemctl kexec"] = KeyboardInterrupt() if killed else (1, "", "no way")
    with pytest.raises(KeyboardInterrupt if killed else HandoffFailed):
        build(items=COLD_ITEMS).run()
    if killed:
        assert one.fake.exists(f"{COLD}/cache")
        again = build(items=COLD_ITEMS)
        assert again.take_up()
        again.put_back(HotpmemError("The handoff was killed", "it ended", "Look"))
    assert not one.fake.exists(f"{COLD}/cache") and one.active >= {"cache.service", "must.service"}


def test_a_failed_part_keeps_the_note_of_its_item(with_more):
    """The note of a crash loop (crashed.sh) holds while the unit, or its instance, is failed."""
    one, _engine, build = with_more
    handoff = build()
    for name in ("cache", "must"):
        handoff.records.write(f"{COLD}/{name}", "it failed 3 times\n")
    one.shown["cache@1.service"] = {"ActiveState": "failed"}
    handoff.run()
    assert one.fake.exists(f"{COLD}/cache") and not one.fake.exists(f"{COLD}/must")


# -- what can't be kept is refused before anything


def started_late(one, unit, **shown):
    """A client of the socket starts the unit after the handoff has looked which units run."""

    def clock():
        one.active.add(unit)
        one.shown[unit] = {**one.shown.get(unit, {}), **shown}
        return 0, json.dumps({"event": "result"}), ""

    one.fails["/usr/local/sbin/pmem-state cycles"] = clock


def test_a_service_that_a_client_starts_late_is_stopped_too(with_more):
    one, _engine, build = with_more
    one.active.remove("cache.service")
    started_late(one, "cache.service")
    build().run()
    assert "cache.service" not in one.active and len(saves(one)) == 1


def test_it_may_not_end_badly_either(with_more):
    one, _engine, build = with_more
    one.active.remove("cache.service")
    started_late(one, "cache.service", Result="timeout", ActiveExitTimestampMonotonic=10**18)
    with pytest.raises(HandoffFailed, match=r"cache\.service ended with the result timeout"):
        build().run()
    assert saves(one) == []


def test_a_unit_of_a_user_is_refused_with_the_name_to_use(machine):
    one, _engine, build = machine
    one.shown["must.service"] = {"LoadState": "not-found"}
    process(one.fake, 816, "user-7.slice/user@7.service/app.slice/must.service", "/dev/null")
    with pytest.raises(
        HotpmemError, match=r"must\.service of the item must runs inside user@7\.service, .*Name user@7\.service as the unit"
    ):
        build().run()
    assert one.acts == []


def test_a_process_of_a_user_belongs_to_the_manager_of_the_user(with_more, monkeypatch):
    one, _engine, build = with_more
    monkeypatch.setattr(type(one), "UNITS", (*one.UNITS, "user@7.service"))
    index = os.path.realpath(one.fake.path("/srv/cache")) + "/index"
    process(one.fake, 817, "user-7.slice/user@7.service/app.slice/job.service", index)
    items = [dict(COLD_ITEMS[0], unit="user@7.service"), COLD_ITEMS[1]]
    assert build(items=items).units.problems() == []
    (reason,) = build().units.problems()
    assert "process 817 (writer) of job.service of user@7.service has" in reason and "Name user@7.service as the unit of the item" in reason


def test_a_socket_with_a_unit_for_each_connection_is_refused(with_more):
    one, _engine, build = with_more
    one.shown["cache.socket"] = {"Accept": "yes"}
    with pytest.raises(HotpmemError, match=r"the socket cache\.socket, which belongs to the item cache, has Accept=yes"):
        build().run()
    assert one.acts == []


@pytest.mark.parametrize(
    "unit, properties, path, why",
    [
        ("a.service", {"RuntimeDirectory": "b app", "RuntimeDirectoryPreserve": "no"}, "/run/app/state", "RuntimeDirectory=app"),
        ("a.service", {"RuntimeDirectory": "app", "RuntimeDirectoryPreserve": "restart"}, "/run/app", "RuntimeDirectory=app"),
        ("a.service", {"RuntimeDirectory": "app", "RuntimeDirectoryPreserve": "yes"}, "/run/app", ""),
        ("a.service", {"RuntimeDirectory": "app"}, "/run/application", ""),
        ("a.service", {"RemoveIPC": "yes", "User": "app"}, "/dev/shm/app", "RemoveIPC=yes"),
        ("a.service", {"RemoveIPC": "yes", "DynamicUser": "yes"}, "/dev/shm/app", "RemoveIPC=yes"),
        ("a.service", {"RemoveIPC": "yes", "User": ""}, "/dev/shm/app", ""),
        ("a.service", {"RemoveIPC": "no", "User": "app"}, "/dev/shm/app", ""),
        ("user@7.service", {}, "/run/user/7/state", "/run/user/7 ends"),
        ("user@7.service", {}, "/run/user/77/state", ""),
        ("user@7.service", {}, "/dev/shm/state", "systemd-logind removes"),
        ("user@7.service", {}, "/srv/state", ""),
    ],
)
def test_what_removes_an_item(unit, properties, path, why):
    said = removed_by(unit, properties, path)
    assert said == "" if not why else why in said


def test_an_item_that_its_unit_takes_away_is_refused(machine):
    one, _engine, build = machine
    one.shown["cache.service"] = {"RemoveIPC": "yes", "User": "cache"}
    os.makedirs(one.fake.path("/dev/shm/cache"))
    with pytest.raises(HotpmemError, match=r"cache \(/dev/shm/cache\) would be gone before the save: .*cache\.service stops.*RemoveIPC=no"):
        build(items=[dict(COLD_ITEMS[0], path="/dev/shm/cache")]).run()
    assert one.acts == []


@pytest.mark.parametrize(
    "path, directory, link, target",
    [
        ("/var/run/cache/a", "/run/cache/a", "/var/run", "../run"),
        # systemd makes this link for a service with DynamicUser=.
        ("/run/cache/a", "/run/private/cache/a", "/run/cache", "private/cache"),
    ],
)
def test_an_item_behind_a_symbolic_link_is_refused_as_well(machine, path, directory, link, target):
    one, _engine, build = machine
    one.shown["cache.service"] = {"RuntimeDirectory": "cache", "RuntimeDirectoryPreserve": "restart"}
    os.makedirs(one.fake.path(directory))
    os.makedirs(one.fake.path(os.path.dirname(link)), exist_ok=True)
    os.symlink(target, one.fake.path(link))
    with pytest.raises(HotpmemError, match=rf"cache \({path}\) would be gone before the save: .*RuntimeDirectory=cache"):
        build(items=[dict(COLD_ITEMS[0], path=path)]).run()
    assert one.acts == []


@pytest.mark.parametrize("place, gone", [("/srv", ["cache", "must"]), ("/srv/must", ["must"]), ("/srv/mus", []), ("", [])])
def test_an_item_on_a_mount_that_stops_with_a_unit_is_refused(machine, monkeypatch, place, gone):
    """Also that of another unit: the mount takes all items with it."""
    one, _engine, build = machine
    monkeypatch.setattr(type(one), "UNITS", (*one.UNITS, "srv.mount"))
    one.shown["cache.service"] = {"ConsistsOf": "srv.mount"}
    one.shown["srv.mount"] = {"Where": place}
    reasons = build().units.problems()
    assert [reason.split()[2] for reason in reasons] == gone
    assert all("it is removed when srv.mount stops, because it is on " + place in reason for reason in reasons)


# -- at shutdown


def at_shutdown(one, build, **changes):
    one.jobs = "17 reboot.target start waiting\n"
    handoff = build(**changes)
    return ShutdownSave(handoff.engine, handoff.settings, handoff.services, one.fake.clock, one.fake.pause).run(100)


def test_a_shutdown_saves_nothing_while_an_instance_runs(with_more):
    one, _engine, build = with_more
    one.active = {"cache@1.service"}
    with pytest.raises(HotpmemError, match=r"cache@1\.service still runs"):
        at_shutdown(one, build)
    assert saves(one) == [] and json.loads(one.fake.get(SHUTDOWN))["saved"] is False


def test_a_shutdown_saves_nothing_while_a_file_is_open(machine):
    one, _engine, build = machine
    one.active = set()
    process(one.fake, 815, "session-1.scope", os.path.realpath(one.fake.path("/srv/cache")) + "/index")
    with pytest.raises(HotpmemError, match=r"process 815 \(writer\) of session-1\.scope has"):
        at_shutdown(one, build)
    assert saves(one) == []


def test_a_shutdown_leaves_out_what_did_not_end_well(machine):
    one, _engine, build = machine
    one.active = set()
    one.shown["must.service"] = {"Result": "timeout", "ActiveState": "failed", "InactiveEnterTimestampMonotonic": 900}
    one.shown["multi-user.target"] = {"ActiveExitTimestampMonotonic": 800}
    answer = at_shutdown(one, build)
    assert answer["saved"] and "saved 1 items" in answer["said"] and "must.service ended with the result timeout" in answer["said"]
    (save,) = saves(one)
    assert "cache=/srv/cache" in save and "must=/srv/must" not in save and "timeout" in one.fake.get(f"{COLD}/must")


def test_a_shutdown_with_nothing_left_to_save(machine):
    one, _engine, build = machine
    one.active = set()
    one.shown["must.service"] = {"Result": "signal"}
    answer = at_shutdown(one, build, items=COLD_ITEMS[1:])
    assert not answer["saved"] and "nothing was saved: must.service ended" in answer["said"]
    assert saves(one) == [] and not one.fake.exists(PENDING) and one.fake.exists(f"{COLD}/must")


@pytest.mark.parametrize("by_handoff", [False, True])
def test_a_shutdown_trusts_what_failed_long_before(machine, by_handoff):
    """Unless a handoff stopped it and left the save to the shutdown."""
    one, _engine, build = machine
    one.active = set()
    one.shown["must.service"] = {"Result": "exit-code", "ActiveState": "failed", "InactiveEnterTimestampMonotonic": 700}
    one.shown["multi-user.target"] = {"ActiveExitTimestampMonotonic": 800}
    if by_handoff:
        build().records.write_json(HANDOFF, {"boot_id": BOOT, "stage": "stop", "exit": 7})
    at_shutdown(one, build)
    assert ("must=/srv/must" in saves(one)[0]) is not by_handoff


# -- the drop-ins


def dropins(*units):
    return {unit: {"DropInPaths": f"/etc/systemd/system/{unit}.d/{DROPIN}"} for unit in units}


@pytest.fixture
def installed(with_more):
    """As provisioned before the instance existed."""
    one, engine, build = with_more
    os.makedirs(os.path.dirname(one.fake.path(ENABLED)))
    os.symlink("/etc/systemd/system/hotpmem-restore.service", one.fake.path(ENABLED))
    for unit, more in dropins("cache.service", "must.service", "cache.socket").items():
        one.shown[unit] = {**one.shown.get(unit, {}), **more}
    return one, engine, build


def test_a_unit_without_its_drop_in_is_refused(installed):
    one, _engine, build = installed
    said = r"the unit cache@1\.service, .* the item cache, lacks the drop-in 60-hotpmem-node\.conf.*Run the playbook provision"
    with pytest.raises(HotpmemError, match=said) as caught:
        build().run()
    assert len(caught.value.details["reasons"]) == 1 and one.acts == []
    one.shown.update(dropins("cache@1.service"))
    build().run()


def test_the_guard_is_needed_where_its_role_was_run(installed):
    one, _engine, build = installed
    one.shown.update(dropins("cache@1.service"))
    with open(one.fake.path(GUARD_TIMER), "w", encoding="utf-8"):
        pass
    with pytest.raises(HotpmemError, match=r"lacks the drop-in 50-hotpmem-pending\.conf") as caught:
        build().run()
    assert len(caught.value.details["reasons"]) == 2


def test_description(installed):
    one, _engine, build = installed
    units = build(items=[dict(COLD_ITEMS[0], unit="alias.service"), COLD_ITEMS[1]]).units
    one.shown["alias.service"] = dict(one.shown["cache.service"], Id="cache.service")
    units.find()
    found = {row.pop("name"): row for row in units.describe()}
    assert list(found) == ["cache.socket", "cache.service", "must.service", "cache@1.service"]
    assert [[one["name"] for one in row["kept"]] for row in found.values()] == [["cache"], ["cache"], ["must"], ["cache"]]
    assert [row["named"] for row in found.values()] == [[], ["cache"], ["must"], []]
    assert [row["parts"] for row in found.values()] == [[], ["cache"], ["must"], ["cache"]]
    assert [row["guarded"] for row in found.values()] == [True, True, True, False]


def verb(engine, *words):
    args = cli.parser().parse_args(words)
    settings = from_dict({"items": COLD_ITEMS})
    return cli.VERBS[args.verb](engine, settings, args)


def test_the_verb_lists_and_checks(installed):
    one, engine, _build = installed
    answer = verb(engine, "units")
    assert [row["name"] for row in answer.facts["units"]] == ["cache.socket", "cache.service", "must.service", "cache@1.service"]
    assert "cache@1.service  cache  (lacks a drop-in)" in answer.lines
    with pytest.raises(HotpmemError, match=r"for cache@1\.service \(60-hotpmem-node\.conf\)\. Run the playbook") as caught:
        verb(engine, "units", "--check")
    assert caught.value.code == 5
    one.shown.update(dropins("cache@1.service"))
    verb(engine, "units", "--check")


def test_what_a_condition_kept_down_is_started_with_its_unit(installed):
    one, engine, build = installed
    one.active = set()
    skipped = {"ConditionResult": "no", "ConditionTimestampMonotonic": 17}
    one.shown["cache.socket"].update(skipped)
    one.shown["must.service"].update(skipped)
    build().records.write(f"{HOLD}/cache", "not restored")
    assert verb(engine, "cold-start", "cache").facts["started"] == ["cache"]
    assert one.active == {"cache.service", "cache.socket"} and one.acts[-1] == "systemctl start cache.socket cache.service"
    assert verb(engine, "units", "--start").facts["started"] == ["cache.service", "must.service"]


def start(one, monkeypatch, names, check=False):
    """Run the module state_units on the machine, with items of an inventory: more keys than it needs."""
    monkeypatch.setattr(state_units, "Runner", lambda: one)
    params = {"items": [dict(item, cold_start="no") for item in COLD_ITEMS], "start": names, "timeout": 0}
    return state_units.act(SimpleNamespace(params=params, check_mode=check))


def test_the_module_starts_a_socket_before_its_service(with_more, monkeypatch):
    one, _engine, _build = with_more
    one.active = {"must.service"}
    one.shown["cache.socket"] = {"ConditionResult": "no", "ConditionTimestampMonotonic": 17}
    foreseen = start(one, monkeypatch, ["cache"], check=True)
    assert one.acts == [] and foreseen["changed"]
    done = start(one, monkeypatch, ["cache"])
    assert one.acts == ["systemctl start cache.socket cache.service"]
    assert done == foreseen and done["started"] == ["cache.socket", "cache.service"]
    assert not start(one, monkeypatch, ["cache", "must"])["changed"]


def test_the_module_starts_only_what_it_is_asked_for(machine, monkeypatch):
    one, _engine, _build = machine
    one.active = set()
    assert start(one, monkeypatch, [])["started"] == []
    assert start(one, monkeypatch, ["must"])["after"] == {"must.service": "active"}
    assert one.active == {"must.service"}
    with pytest.raises(HotpmemError, match="no item has the name mist"):
        start(one, monkeypatch, ["mist"])


@pytest.mark.parametrize("check", [True, False])
def test_the_module_refuses_a_unit_that_does_not_exist(machine, monkeypatch, check):
    """In check mode as in the run: systemctl could not start it."""
    one, _engine, _build = machine
    one.active = set()
    one.shown["must.service"] = {"LoadState": "not-found"}
    with pytest.raises(HotpmemError, match=r"the unit must\.service of the item must does not exist"):
        start(one, monkeypatch, ["cache", "must"], check=check)
    assert one.acts == []
    assert start(one, monkeypatch, ["cache"], check=check)["started"] == ["cache.service"]


def test_a_unit_that_its_own_condition_keeps_down_changes_nothing(with_more, monkeypatch):
    """The module tries again each time, because it can't tell whose condition it was."""
    one, _engine, _build = with_more
    one.active = {"must.service"}
    one.shown["cache@1.service"] = {"ConditionResult": "no", "ConditionTimestampMonotonic": 17}

    def condition_fails():
        one.active.add("cache.service")
        return 0, "", ""

    one.fails["systemctl start"] = condition_fails
    assert start(one, monkeypatch, ["cache"])["started"] == ["cache.service"]
    again = start(one, monkeypatch, ["cache"])
    assert one.acts[-1] == "systemctl start cache@1.service"
    assert (again["changed"], again["started"], again["after"]) == (False, [], again["before"])
