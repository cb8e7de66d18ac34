# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pmem_state_copy. A shell script takes the place of the helper."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.modules import pmem_state_copy
from ansible_collections.hotpmem.fleet.plugins.modules.pmem_state_copy import Copy, act

ELSEWHERE = {"state": "valid", "boot_id": "11111111-2222-3333-4444-555555555555", "items": ["old"]}


@pytest.fixture
def copy(tmp_path):
    """Make a Copy on a device that holds an image."""

    def make(image, **how):
        result = json.dumps({"event": "result", "image": image})
        refuse = 'case "$*" in "save "*--force*) ;; "save "*) exit 5 ;; esac'
        helper = tmp_path / "pmem-state"
        helper.write_text(f"#!/bin/sh\necho \"$@\" >>{tmp_path}/argv\necho '{result}'\n{refuse}\n")
        helper.chmod(0o755)
        params = {"state": "saved", "device": "/dev/pmem0", "namespace": None, "items": [{"name": "a", "path": "/srv/a"}]}
        params.update(threads=0, force=how.get("force", False), helper=str(helper), timeout=0)
        return Copy(SimpleNamespace(params=params, check_mode=how.get("check_mode", False)))

    make.calls = lambda: [line.split()[0] for line in (tmp_path / "argv").read_text().splitlines()]
    return make


def test_check_mode_predicts_that_a_waiting_image_is_kept(copy):
    for check_mode in (True, False):
        with pytest.raises(HotpmemError) as caught:
            copy(ELSEWHERE, check_mode=check_mode).saved()
        assert caught.value.details["exit"] == 5
    assert copy.calls() == ["info", "info", "save"]


def test_force_gives_up_a_waiting_image(copy):
    for check_mode in (True, False):
        changed, _result, _after = copy(ELSEWHERE, check_mode=check_mode, force=True).saved()
        assert changed
    assert copy.calls() == ["info", "plan", "info", "save"]


def test_other_images_are_replaced_in_check_mode(copy):
    assert copy({"state": "consumed", "boot_id": ELSEWHERE["boot_id"], "items": []}, check_mode=True).saved()[0]


@pytest.mark.parametrize("code", [0, 6])
def test_the_items_of_the_helper_are_returned_as_outcomes(copy, monkeypatch, code):
    answer = {"exit": code, "items": [{"name": "a"}], "image": {"state": "consumed"}}

    def verified(_self):
        if code:
            raise HotpmemError("Cannot verify", "it is damaged", "Restore nothing", **answer)
        return False, answer, {}

    monkeypatch.setattr(Copy, "verified", verified)
    monkeypatch.setattr(pmem_state_copy, "Copy", lambda _module: copy(ELSEWHERE))
    try:
        result = act(SimpleNamespace(params={"state": "verified"}, check_mode=False))
    except HotpmemError as error:
        result = error.details
    assert result["outcomes"] == [{"name": "a"}] and "items" not in result
