# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules and the dashboard: valid, and about metrics that the agent writes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml
from ansible_collections.hotpmem.fleet.plugins.module_utils._cycle.metrics import METRICS

CHECKOUT = Path(__file__).resolve().parents[3]
RULES = CHECKOUT / "docs/monitoring/hotpmem-alerts.yml"
DASHBOARD = json.loads((CHECKOUT / "docs/monitoring/hotpmem-dashboard.json").read_text(encoding="utf-8"))
WRITTEN = {f"hotpmem_{name}" for name, _kind, _words in METRICS}
OURS = re.compile(r"\bhotpmem_\w+")
GRAFANA = {"$__range": "30d", "$instance": ".*"}  # what Grafana replaces before it asks Prometheus
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: package prometheus)")


def queries(node: Any) -> Iterator[str]:
    """Every query of the dashboard, also those of its variables."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("expr", "definition", "query") and isinstance(value, str):
                yield value
            yield from queries(value)
    elif isinstance(node, list):
        for value in node:
            yield from queries(value)


def promtool(*words: str) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


@needs_promtool
def test_the_rules_are_valid() -> None:
    promtool("check", "rules", str(RULES))


@needs_promtool
def test_when_the_alerts_fire() -> None:
    promtool("test", "rules", str(Path(__file__).with_name("alerts_test.yml")))


def test_each_alert_is_tested_and_described() -> None:
    tests = yaml.safe_load(Path(__file__).with_name("alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    fires = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    page = (CHECKOUT / "docs/monitoring.md").read_text(encoding="utf-8")
    names = {rule["alert"] for rule in alerts()}
    assert fires == names == set(re.findall(r"^\| `(Hotpmem\w+)` \|", page, re.MULTILINE))


def test_the_queries_name_metrics_that_exist() -> None:
    asked = {name for text in [*queries(DASHBOARD), *(rule["expr"] for rule in alerts())] for name in OURS.findall(text)}
    assert asked <= WRITTEN, sorted(asked - WRITTEN)
    # What nobody looks at need not be written.
    assert asked == WRITTEN, sorted(WRITTEN - asked)


@needs_promtool
def test_prometheus_can_read_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    rules = []
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            text = target["expr"]
            for name, value in GRAFANA.items():
                text = text.replace(name, value)
            rules.append({"record": f"panel{panel['id']}:{target['refId'].lower()}", "expr": text})
    assert len(rules) > 10 and not any("$" in rule["expr"] for rule in rules)
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    promtool("check", "rules", str(file))


def test_the_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], int] = {}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert taken.setdefault((x, y), panel["id"]) == panel["id"], f"{panel['title']} lies on panel {taken[x, y]}"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_dashboard_asks_the_data_source_that_the_viewer_chose() -> None:
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {"${datasource}"}
