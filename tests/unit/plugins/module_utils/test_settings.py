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
            {"name": "index", "path": "/srv/index", "unit": "cache.service", "cold_start": False, "on_dirty_stop": "cold"},
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
    assert [kept.on_dirty_stop for kept in settings.items] == ["refuse", "cold", "refuse"]
    assert [item.word for item in settings.state_items] == ["cache=/srv/cache", "index=/srv/index", "plain=/srv/plain"]
    assert (settings.reserve, settings.kernel, settings.offline_timeout, settings.fast_stop) == (64 << 20, "", 60, ["db.service"])


@pytest.mark.parametrize(
    "text, said",
    [
        ('{"offline_timout": 3}', "the setting offline_timout does not exist. The known settings are: command_line, copy_timeout"),
        ('{"offline_timeout": 0}', "offline_timeout must be a positive number"),
        ('{"prepare_seconds": -1}', "prepare_seconds must be a positive number"),
        ('{"prepare_seconds": 86401}', "prepare_seconds must be a positive number of seconds, at most 86400"),
        ('{"copy_timeout": NaN}', "copy_timeout must be a positive number"),
        ('{"offline_timeout": true}', "offline_timeout must be a positive number"),
        ('{"fast_stop": "db"}', "fast_stop must be a list of strings"),
        ('{"force": "yes"}', "force must be true or false"),
        ('{"method": "warp"}', "method is 'warp'. It must be one of: systemd, fast"),
        ('{"road": "sea"}', "road is 'sea'. It must be one of: raw, dax"),
        ('{"items": [{"name": "a"}]}', "the item a has no path"),
        ('{"items": [{"name": "a", "path": "/a", "on_dirty_stop": "save"}]}', "on_dirty_stop of the item a is 'save'. It must be one of"),
        ('{"items": ["a"]}', "is not a list of objects"),
        ('{"reserve": "much"}', "'much' is not a size"),
        ("[]", "does not contain a JSON object"),
        ("{", "it is not valid JSON"),
    ],
)
def test_refusals(tmp_path, text, said):
    path = tmp_path / "node.json"
    path.write_text(text)
    with pytest.raises(HotpmemError, match=said.replace("[", r"\[")):
        st.load(str(path))


def test_zero_seconds_switch_the_preparation_off():
    assert st.from_dict({"prepare_seconds": 0}).prepare_seconds == 0


def test_a_missing_file_is_an_error_unless_defaults_are_given(tmp_path):
    with pytest.raises(HotpmemError, match=r"does not exist.*role node_agent"):
        st.load(str(tmp_path / "none"))
    assert st.load(str(tmp_path / "none"), st.Settings()) == st.Settings()
