# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An inventory and a host that disagree: each difference is named."""

from __future__ import annotations

import json

import pytest
from ansible_collections.hotpmem.fleet.plugins.filter.settings_difference import settings_difference

CACHE = {"name": "cache", "path": "/srv/cache", "unit": "cache.service"}
WANTED = {"items": [CACHE], "road": "raw", "offline_timeout": 60.0, "force": False}


def test_the_same():
    assert settings_difference(WANTED, json.dumps(WANTED, indent=4, sort_keys=True)) == []
    assert settings_difference(dict(WANTED, offline_timeout=60), json.dumps(WANTED)) == []


@pytest.mark.parametrize(
    "on_host, said",
    [
        (dict(WANTED, items=[]), ["the item cache is not on the host"]),
        (dict(WANTED, items=[CACHE, {"name": "old", "path": "/x"}]), ["the item old is on the host, and not in the inventory"]),
        (
            dict(WANTED, items=[dict(CACHE, path="/srv/other")]),
            ["path of the item cache is '/srv/other' on the host and '/srv/cache' in the inventory"],
        ),
        (
            dict(WANTED, items=[{"name": "cache", "path": "/srv/cache"}]),
            ["unit of the item cache is not set on the host and 'cache.service' in the inventory"],
        ),
        (
            dict(WANTED, road="dax", force=True),
            ["force is True on the host and False in the inventory", "road is 'dax' on the host and 'raw' in the inventory"],
        ),
        ({key: value for key, value in WANTED.items() if key != "road"}, ["road is not set on the host and 'raw' in the inventory"]),
    ],
)
def test_differences(on_host, said):
    assert settings_difference(WANTED, json.dumps(on_host)) == said


def test_a_host_without_settings_or_with_something_else():
    assert settings_difference(WANTED, "") == ["the host has no settings, so the agent is not installed on it"]
    assert "not valid JSON" in settings_difference(WANTED, "{")[0]
    for other in ("[1]", "5", "null"):
        assert settings_difference(WANTED, other) == ["the file of the host holds no settings, although it is valid JSON"]


def test_settings_that_may_differ():
    on_host = json.dumps({**WANTED, "kernel": "/boot/old", "initrd": "/boot/i", "road": "dax"})
    assert settings_difference({**WANTED, "kernel": "newest"}, on_host, ["kernel", "initrd"]) == settings_difference(
        WANTED, json.dumps({**WANTED, "road": "dax"})
    )
