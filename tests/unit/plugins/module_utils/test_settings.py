# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the agent: defaults, refusals, and that nothing misspelt passes."""

from __future__ import annotations

import json

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle import node_settings as st
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError


def test_what_the_role_writes(tmp_path):
    path = tmp_path / "node.json"
    values = {
        "items": [
            {"name": "cache", "path": "/srv/cache", "unit": "cache.service"},
            {"name": "index", "path": "/srv/index", "unit": "cache.service", "cold_start": False},
            {"name": "plain", "path": "/srv/plain", "unit": None},
        ],
        "reserve": "64M",
        "kernel": None,
        "fast_stop": ["db.service"],
    }
    path.write_text(json.dumps(values))
    settings = st.load(str(path))
    assert settings.units == ["cache.service"]
    assert [kept.cold_start for kept in settings.items] == [True, False, True]
    assert [item.word for item in settings.state_items] == ["cache=/srv/cache", "index=/srv/index", "plain=/srv/plain"]
    assert (settings.reserve, settings.kernel, settings.offline_timeout, settings.fast_stop) == (64 << 20, "", 60, ["db.service"])


@pytest.mark.parametrize(
    "text, said",
    [
        ('{"offline_timout": 3}', "unknown setting offline_timout; the settings are: command_line, copy_timeout"),
        ('{"offline_timeout": 0}', "offline_timeout is not a positive number"),
        ('{"offline_timeout": true}', "offline_timeout is not a positive number"),
        ('{"fast_stop": "db"}', "fast_stop is not a list"),
        ('{"force": "yes"}', "force is neither true nor false"),
        ('{"method": "warp"}', "method is 'warp', but it must be one of systemd, fast"),
        ('{"road": "sea"}', "road is 'sea', but it must be one of raw, dax"),
        ('{"items": [{"name": "a"}]}', "the item a has no path"),
        ('{"items": ["a"]}', "items is not a list of objects"),
        ('{"reserve": "much"}', "'much' is not a size"),
        ("[]", "the file does not contain a JSON object"),
        ("{", "the file is not valid JSON"),
    ],
)
def test_refusals(tmp_path, text, said):
    path = tmp_path / "node.json"
    path.write_text(text)
    with pytest.raises(HotpmemError, match=said.replace("[", r"\[")):
        st.load(str(path))


def test_a_missing_file_is_an_error_unless_defaults_are_given(tmp_path):
    with pytest.raises(HotpmemError, match=r"the file does not exist.*role node_agent"):
        st.load(str(tmp_path / "none"))
    assert st.load(str(tmp_path / "none"), st.Settings()) == st.Settings()
