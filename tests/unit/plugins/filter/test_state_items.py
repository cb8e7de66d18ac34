# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of items as the roles use it."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hotpmem.fleet.plugins.filter.state_items import state_items


def item(**more):
    return {"name": "cache", "path": "/srv/cache", **more}


def kept(**more):
    return state_items([item(**more)])[0]


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, ""),
        ({"unit": None}, ""),
        ({"unit": ""}, ""),
        ({"unit": "memcached.service"}, "memcached.service"),
        ({"unit": "memcached"}, "memcached.service"),
        # systemctl reads this as a service as well, because .2-fpm is not a type of unit.
        ({"unit": "php8.2-fpm"}, "php8.2-fpm.service"),
        ({"unit": "redis@a"}, "redis@a.service"),
        ({"unit": r"redis@a\x2db.service"}, r"redis@a\x2db.service"),
        ({"unit": "srv-cache.mount"}, "srv-cache.mount"),
        ({"unit": "a:b_c-d.socket"}, "a:b_c-d.socket"),
    ],
)
def test_the_unit(given, expected):
    assert kept(**given)["unit"] == expected


@pytest.mark.parametrize(
    "unit, said",
    [
        ("foo@.service", "the unit of the item cache, foo@.service, is a template"),
        ("foo@", "foo@.service, is a template"),
        ("my cache.service", "'my cache.service', the unit of the item cache, is not a valid unit name"),
        ("../cache.service", "not a valid unit name"),
        ("50%.service", "not a valid unit name"),
        ("a.service\n", "not a valid unit name"),
        ("@a.service", "not a valid unit name"),
        (".service", "not a valid unit name"),
        ("a" * 250 + ".service", "not a valid unit name"),
        ("café", "not a valid unit name"),
        (["a.service"], "not a valid unit name"),
    ],
)
def test_a_unit_that_systemd_refuses(unit, said):
    with pytest.raises(AnsibleFilterError, match="item cache") as caught:
        kept(unit=unit)
    assert said in str(caught.value)


@pytest.mark.parametrize("key, default", [("cold_start", True), ("early_start", False)])
def test_text_counts_as_what_it_says(key, default):
    assert kept()[key] is default and kept(**{key: None})[key] is default
    assert [kept(**{key: text})[key] for text in ("false", "no", "0", "off", "False", 0, False)] == [False] * 7
    assert [kept(**{key: text})[key] for text in ("true", "yes", "1", "on", "True", 1, True)] == [True] * 7
    for text in ("perhaps", "", "2", []):
        with pytest.raises(AnsibleFilterError, match=f"{key} of the item cache is .*, which is neither true nor false"):
            kept(**{key: text})


def test_on_dirty_stop():
    assert [kept(on_dirty_stop=value)["on_dirty_stop"] for value in (None, "", "refuse", "cold")] == ["refuse", "refuse", "refuse", "cold"]
    with pytest.raises(AnsibleFilterError, match=r"on_dirty_stop of the item cache is 'save'.*refuse, cold"):
        kept(on_dirty_stop="save")


@pytest.mark.parametrize(
    "entries, said",
    [
        ([{"name": "my cache", "path": "/a"}], "'my cache' is not a valid item name.*at most 64 letters"),
        ([{"name": "a", "path": "/a"}, {"name": "a", "path": "/b"}], "two items have the name a"),
        ([{"name": "a", "path": "srv"}], "the path of the item a is not absolute: srv"),
        ([{"name": "a"}], "the item a has no path"),
        ({"name": "a"}, "is not a list of items"),
        ("a", "is not a list of items"),
        (["a"], "is not a list of items"),
    ],
)
def test_the_engine_checks_names_and_paths(entries, said):
    with pytest.raises(AnsibleFilterError, match=said):
        state_items(entries)


def test_all_keys_are_set_and_others_are_kept():
    assert state_items([]) == []
    assert kept(note="x") == {
        "name": "cache", "path": "/srv/cache", "unit": "", "cold_start": True, "early_start": False, "on_dirty_stop": "refuse",
        "note": "x",
    }  # fmt: skip
    given = item(unit="a", cold_start="no")
    once = state_items([given])
    assert state_items(once) == once and given == item(unit="a", cold_start="no")
