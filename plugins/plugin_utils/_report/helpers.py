# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which build of pmem-state each host has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_SHA256 = re.compile(r"[0-9a-f]{64}")


def helper_digests(hosts: Sequence[str], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``rows``, the hosts of each SHA-256 with the most frequent first, and ``words``, which says whether there is only one.

    facts: the result of rollout_facts for each host. A host that does not tell its digest is in the row without one, which comes last.
    """
    found: dict[str, list[str]] = {}
    for host in map(str, hosts):
        told = facts.get(host)
        digest = told.get("helper_sha256") if isinstance(told, Mapping) else None
        found.setdefault(digest if isinstance(digest, str) and _SHA256.fullmatch(digest) else "", []).append(host)
    unknown = found.pop("", [])
    rows = [{"sha256": digest, "hosts": found[digest]} for digest in sorted(found, key=lambda one: (-len(found[one]), one))]
    known = sum(map(len, found.values()))
    if not rows:
        words = "It is not known which pmem-state the hosts have."
    elif len(rows) > 1:
        words = f"The hosts have {len(rows)} different builds of pmem-state. Only hosts of different architectures should differ."
    elif known == 1:
        words = f"{rows[0]['hosts'][0]} has this pmem-state."
    else:
        words = f"{'These' if unknown else 'All'} {known} hosts have the same pmem-state."
    return {"words": words, "rows": rows + ([{"sha256": "", "hosts": unknown}] if unknown else [])}
