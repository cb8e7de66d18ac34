# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ndctl: what is run, and what is made of its answers."""

from __future__ import annotations

import pytest
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.errors import HotpmemError
from ansible_collections.hotpmem.fleet.plugins.module_utils._host.programs import Completed
from ansible_collections.hotpmem.fleet.plugins.module_utils._memory import ndctl as nd


@pytest.mark.parametrize(
    "text, expected", [("", []), ("\n", []), ('{"dev":"a"}', [{"dev": "a"}]), ('[{"dev":"a"},{"dev":"b"}]', [{"dev": "a"}, {"dev": "b"}])]
)
def test_parse_json(text, expected):
    assert nd.parse_json(text) == expected


@pytest.mark.parametrize(
    "name, mode, device", [("6.1-e820-raw", "fsdax", "pmem0"), ("6.1-e820-devdax", "devdax", "dax0.0"), ("6.1-nfit-raw", "raw", "pmem0")]
)
def test_parse_what_ndctl_printed(printed, name, mode, device):
    entry = nd.parse_json(printed(name, "ndctl-list-N")["stdout"])[0]
    assert (entry["dev"], entry["mode"], entry.get("blockdev") or entry.get("chardev")) == ("namespace0.0", mode, device)


@pytest.mark.parametrize(
    "arguments, argv",
    [
        (
            {"mode": "devdax", "namespace": "namespace0.0"},
            "ndctl create-namespace --mode devdax --no-autolabel --map mem --reconfig namespace0.0 --force",
        ),
        (
            {"mode": "raw", "namespace": "namespace0.0", "mapping": "dev", "align": 4096},
            "ndctl create-namespace --mode raw --no-autolabel --reconfig namespace0.0 --force",
        ),
        (
            {"mode": "fsdax", "namespace": "namespace1.0", "mapping": "dev", "align": 0x200000},
            "ndctl create-namespace --mode fsdax --no-autolabel --map dev --align 2097152 --reconfig namespace1.0 --force",
        ),
        ({"mode": "sector", "region": "region1"}, "ndctl create-namespace --mode sector --no-autolabel --region region1"),
        (
            {"mode": "devdax", "region": "region1", "size": 553648128, "label": "state"},
            "ndctl create-namespace --mode devdax --no-autolabel --map mem --region region1 --size 553648128 --name state",
        ),
    ],
)
def test_create_argv(arguments, argv):
    assert " ".join(nd.create_argv(**arguments)) == argv


@pytest.mark.parametrize(
    "rc, stderr, words",
    [
        (
            234,
            "region0: align setting is 0x1000000 size 0x20200000 is misaligned\n",
            "region0: align setting is 0x1000000 size 0x20200000 is misaligned (EINVAL: Invalid argument)",
        ),
        (
            240,
            "failed to reconfigure namespace: Device or resource busy\n",
            "failed to reconfigure namespace: Device or resource busy (EBUSY: Device or resource busy)",
        ),
        (1, "oops", "oops (exit code 1)"),
        (234, "", "ndctl exited with code 234 and printed no message (EINVAL: Invalid argument)"),
        (1, "", "ndctl exited with code 1 and printed no message"),
    ],
)
def test_explain(rc, stderr, words):
    assert nd.explain(Completed(("ndctl",), rc, "", stderr)) == words


def test_create_believes_the_json_not_the_exit_code(recorder):
    runner = recorder({"ndctl": (0, '{"dev":"namespace0.0","mode":"devdax","state":"disabled"}', "")})
    with pytest.raises(HotpmemError, match=r"namespace0\.0 is disabled"):
        nd.Ndctl(runner).create("Cannot do it", ["ndctl", "create-namespace"])


@pytest.mark.parametrize("answer, said", [((234, "", "misaligned"), "misaligned"), ((0, "nonsense", ""), "not valid JSON")])
def test_create_fails(recorder, answer, said):
    with pytest.raises(HotpmemError, match=said):
        nd.Ndctl(recorder({"ndctl": answer})).create("Cannot do it", ["ndctl", "create-namespace"])


def test_create_returns_the_name(recorder):
    assert nd.Ndctl(recorder({"ndctl": (0, '{"dev":"namespace0.1"}', "")})).create("x", ["ndctl"]) == "namespace0.1"
