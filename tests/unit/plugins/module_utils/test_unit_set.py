# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stops with a unit. The properties are those that systemd 252 shows for Debian's packages."""

from __future__ import annotations

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.unit_set import Unit, read_units, stops_with

UNITS = {
    "postgresql.service": {"ActiveState": "active", "ConsistsOf": "postgresql@15-main.service", "RequiredBy": "app.target"},
    "postgresql@15-main.service": {"ActiveState": "active", "Result": "success"},
    "app.target": {"ActiveState": "active", "RequiredBy": "app.service"},
    "app.service": {"ActiveState": "active", "TriggeredBy": "app.socket app.timer"},
    "app.socket": {"ActiveState": "active"},
    "app.timer": {"ActiveState": "inactive", "PropagatesStopTo": "app.service"},
}
ALIASES = {"postgresql": "postgresql.service", "pg.service": "postgresql.service"}


def show(names, units):
    """As systemctl show prints: one block for each unit, Id first, an unknown unit as not found."""
    blocks = []
    for unit in units:
        name = ALIASES.get(unit, unit)
        known = UNITS.get(name)
        blocks.append({"Id": name, "LoadState": "loaded" if known else "not-found", "ActiveState": "inactive", **(known or {})})
    return [{key: value for key, value in block.items() if key in names} for block in blocks]


def test_names_become_what_systemd_calls_them():
    assert [unit.name for unit in read_units(show, ["postgresql", "pg.service"])] == ["postgresql.service"] * 2
    assert read_units(show, ["other.service"]) == [Unit("other.service", False, "inactive", "")]
    assert read_units(show, []) == []


@pytest.mark.parametrize("name", ["postgresql", "postgresql.service", "pg.service"])
def test_everything_that_a_stop_reaches(name):
    found = stops_with(show, [name])
    assert [unit.name for unit in found] == [
        "app.socket", "app.timer", "postgresql.service", "postgresql@15-main.service", "app.service",
    ]  # fmt: skip
    assert [unit.name for unit in found if not unit.runs] == ["app.timer"]


def test_a_circle_ends():
    assert {unit.name for unit in stops_with(show, ["app.timer"])} == {"app.timer", "app.service", "app.socket"}


def test_which_units_belong_to_which():
    found = stops_with(show, ["pg.service", "app.timer"])
    assert found.named("pg.service") == "postgresql.service"
    assert found.of("pg.service")[0] == "postgresql.service" and set(found.of("pg.service")) == set(UNITS)
    assert set(found.of("app.timer")) == {"app.timer", "app.service", "app.socket"}
    # app.service only depends on it, so its failures say nothing about the state.
    assert found.parts("pg.service") == ["postgresql.service", "postgresql@15-main.service"]


def test_a_socket_that_is_named_brings_its_service():
    """Stopping the socket alone would leave the service running while its state is saved."""
    units = {"web.socket": {"Triggers": "web.service", "Accept": "yes"}, "web.service": {}}
    found = stops_with(lambda names, asked: [{"Id": unit, **units[unit]} for unit in asked], ["web.socket"])
    assert [(unit.name, unit.accepts) for unit in found] == [("web.socket", True), ("web.service", False)]


def test_names_with_a_backslash():
    """systemd 252 prints "a\\\\x2db.service" with quotes; the paths of drop-ins as well."""
    quoted = {
        "Id": "db.service",
        "ConsistsOf": r'"a\\x2db.service" c.service',
        "DropInPaths": r'"/etc/systemd/system/a\\x2db.service.d/x.conf"',
    }
    found = stops_with(lambda names, units: [quoted if unit == "db.service" else {"Id": unit} for unit in units], ["db.service"])
    assert [unit.name for unit in found] == ["db.service", r"a\x2db.service", "c.service"]
    assert found.found["db.service"].dropins == (r"/etc/systemd/system/a\x2db.service.d/x.conf",)


def test_a_stop_that_would_reach_half_the_machine():
    """A service that sysinit.target requires: a set with only some of the units would stop these, and save while the others run."""

    def of(names, units):
        return [{"Id": unit, "RequiredBy": f"u{int(unit[1:-8]) + 1}.service"} for unit in units]

    with pytest.raises(HotpmemError, match=r"more than 200 units, such as u1\.service, u2\.service, .*stop with u0\.service or start it"):
        stops_with(of, ["u0.service"])
    # Many instances of one dummy are no such thing, and are all known.
    many = " ".join(f"i@{number}.service" for number in range(300))
    found = stops_with(
        lambda names, units: [{"Id": unit, "ConsistsOf": many if unit == "dummy.service" else ""} for unit in units], ["dummy.service"]
    )
    assert len(found.found) == 301
