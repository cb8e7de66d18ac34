# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.hotpmem.fleet.plugins.filter.item_outcomes import outcomes as item_outcomes
from ansible_collections.hotpmem.fleet.plugins.filter.outcome_words import outcome_words
from ansible_collections.hotpmem.fleet.plugins.filter.text_table import text_table

CACHE = {"name": "cache", "path": "/srv/cache", "unit": "cache.service"}
MUST = {"name": "must", "path": "/srv/must", "unit": "must.service", "cold_start": False}


@pytest.mark.parametrize(
    ("items", "result", "running", "expected"),
    [
        pytest.param(
            [CACHE, MUST],
            {
                "outcomes": [
                    {"name": "cache", "status": "restored", "bytes": 7},
                    {"name": "must", "status": "damaged", "error": "chunk 3: bad sum"},
                ]
            },
            [],
            [("cache", "restored", "", 7), ("must", "down", "chunk 3: bad sum", 0)],
            id="one-restored-one-damaged",
        ),
        pytest.param(
            [CACHE],
            {"msg": "Cannot restore: no image.", "outcomes": []},
            [],
            [("cache", "cold", "Cannot restore: no image.", 0)],
            id="no-image",
        ),
        pytest.param([CACHE], {"outcomes": []}, [], [("cache", "cold", "the image does not contain this item", 0)], id="not-in-the-image"),
        pytest.param(
            [CACHE], None, ["cache"], [("cache", "running", "its unit was already running, so its state was not replaced", 0)], id="running"
        ),
        pytest.param([], None, [], [], id="nothing-to-keep"),
    ],
)
def test_item_outcomes(items, result, running, expected):
    outcomes = item_outcomes(items, result, running)
    assert [(one["name"], one["status"], one["reason"], one["bytes"]) for one in outcomes] == expected
    assert [one["unit"] for one in outcomes] == [one["unit"] for one in items]


@pytest.mark.parametrize(
    ("saved", "result", "reason"),
    [
        (
            True,
            {"exit": 3, "image": {"state": "none", "content": "zeros"}, "msg": "none"},
            "firmware cleared the region: the save had completed",
        ),
        (
            False,
            {"exit": 3, "image": {"state": "none", "content": "zeros"}, "msg": "none"},
            "had not started, or firmware cleared the region",
        ),
        # No more is known than that: there was no device, the helper is an older one, it was damage.
        (True, {"exit": 3, "image": {"state": "none"}, "msg": "there was no device"}, "there was no device"),
        (True, {"exit": 4, "image": {"state": "damaged"}, "msg": "damaged"}, "damaged"),
    ],
)
def test_where_the_image_went(saved, result, reason):
    (outcome,) = item_outcomes([CACHE], result, saved=saved)
    assert outcome["status"] == "cold" and reason in outcome["reason"]


@pytest.mark.parametrize("text, status", [("false", "down"), ("no", "down"), ("true", "cold")])
def test_cold_start_as_text(text, status):
    (outcome,) = item_outcomes([{**CACHE, "cold_start": text, "unit": None}], None)
    assert (outcome["status"], outcome["unit"]) == (status, "")


def test_outcome_words():
    assert outcome_words({"name": "cache", "status": "restored", "reason": ""}) == "cache restored"
    assert outcome_words({"name": "cache", "status": "cold", "reason": "no image"}) == "cache cold: no image"


def test_text_table_aligns_numbers_to_the_right():
    assert text_table([["node1", "2 GiB"], ["n2", "10 GiB"]], ["host", "RAM"]) == "\n".join(
        ["host      RAM", "node1   2 GiB", "n2     10 GiB"]
    )


@pytest.mark.parametrize(
    "cells, right",
    [
        (["2 GiB", "10 GiB"], True),
        (["2 GiB", "-", "10 GiB", ""], True),
        # Cells that are not filled do not decide.
        (["-", "-"], False),
        ([""], False),
        ([None, "-"], False),
        (["2 GiB", "none"], False),
        (["none", "-"], False),
        (["0.25 s", 3, 1.5], True),
        (["50%", "100 %"], True),
        (["1.5 GiB / 2.0 GiB", "512.0 MiB / 1.0 GiB"], True),
        # These start with a digit and are not numbers.
        (["10.0.0.1"], False),
        (["3node", "4node"], False),
        (["0x4000"], False),
    ],
)
def test_which_columns_text_table_aligns_to_the_right(cells, right):
    wide = "a header that is wider"
    lines = text_table([["n", cell, "end"] for cell in cells], ["host", wide, "x"]).splitlines()
    assert lines[0] == f"host  {wide}  x"
    for line, cell in zip(lines[1:], cells):
        text = "" if cell is None else str(cell)
        assert line == f"n     {text.rjust(len(wide)) if right else text.ljust(len(wide))}  end"


def test_text_table_refuses_a_crooked_row():
    with pytest.raises(ValueError, match="a row has 1 cells, and there are 2 headers"):
        text_table([["x"]], ["a", "b"])
