# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firing alerts of Prometheus or Alertmanager, and which of them block a reboot.

Two lists decide, and no switch turns their meaning round: an alert blocks when a pattern of block_alerts matches its whole name and no
pattern of ignore_alerts does. https://prometheus.io/docs/prometheus/latest/querying/api/#alerts and
https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml describe the answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from . import web

PATHS = {"prometheus": "/api/v1/alerts", "alertmanager": "/api/v2/alerts?active=true&silenced=false&inhibited=false"}


class BadAnswer(Exception):
    """The server did not tell its alerts."""


@dataclass(frozen=True)
class Alert:
    """One firing alert."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        where = self.labels.get("instance") or self.labels.get("host") or ""
        return f"{self.name} ({where})" if where else self.name


def path_of(kind: str, query: str = "") -> str:
    """What to ask: the alerts, or the result of a PromQL query."""
    return f"/api/v1/query?{urlencode({'query': query})}" if query else PATHS[kind]


def _answer(reply: web.Reply) -> Any:
    if not reply.good:
        raise BadAnswer(web.said(reply))
    try:
        return reply.json()
    except ValueError:
        raise BadAnswer(f"the answer is not JSON: {web.excerpt(reply.body)!r}") from None


def _labels(found: Any) -> dict[str, str]:
    if not isinstance(found, Mapping):
        raise BadAnswer("an alert has no labels")
    return {str(key): str(value) for key, value in found.items()}


def _data(answer: Any, key: str) -> list[Any]:
    """A list in the data of an answer of Prometheus."""
    if not isinstance(answer, Mapping) or answer.get("status") != "success":
        raise BadAnswer("the answer does not say success")
    data = answer.get("data")
    found = data.get(key) if isinstance(data, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise BadAnswer(f"the answer has no list data.{key}")
    return found


def firing(kind: str, reply: web.Reply) -> list[Alert]:
    """The firing alerts in an answer. Those of Alertmanager are neither silenced nor inhibited."""
    answer = _answer(reply)
    if kind == "prometheus":
        found = [one for one in _data(answer, "alerts") if one.get("state") == "firing"]
    elif isinstance(answer, list) and all(isinstance(one, Mapping) for one in answer):
        # An old server may not know the filters of the query.
        found = [one for one in answer if not isinstance(one.get("status"), Mapping) or one["status"].get("state", "active") == "active"]
    else:
        raise BadAnswer("the answer is not a list of alerts")
    labels = [_labels(one.get("labels")) for one in found]
    return [Alert(one.get("alertname", "(no name)"), one) for one in labels]


def queried(reply: web.Reply) -> list[Alert]:
    """The samples in the answer to a PromQL query, named by their metric."""
    answer = _answer(reply)
    found = _data(answer, "result")
    labels = [_labels(one.get("metric")) for one in found]
    return [Alert(one.get("alertname") or one.get("__name__") or str(one), one) for one in labels]


def matches(patterns: Sequence[str], text: str) -> bool:
    """Whether one of the patterns matches the whole text."""
    return any(re.fullmatch(pattern, text) for pattern in patterns)


def blocking(found: Sequence[Alert], block_alerts: Sequence[str], ignore_alerts: Sequence[str], labels: Mapping[str, str]) -> list[Alert]:
    """The alerts that block: named in block_alerts, not named in ignore_alerts, and with a matching value for every one of the labels."""
    return [
        alert
        for alert in found
        if matches(block_alerts, alert.name)
        and not matches(ignore_alerts, alert.name)
        and all(re.fullmatch(pattern, alert.labels.get(label, "")) for label, pattern in labels.items())
    ]
