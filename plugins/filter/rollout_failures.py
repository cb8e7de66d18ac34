# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which hosts failed in their last rollout, as the journals of this controller say."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout import journal
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.result_table import host_results
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.state import DONE, FAILED

DOCUMENTATION = r"""
name: rollout_failures
short_description: Read which hosts failed in their last rollout
version_added: 0.1.0
description:
  - Reads the journal of the last run of each rollout on this controller, and returns the hosts that failed and have not been rebooted
    successfully since.
  - A host that only another controller has rebooted is not known here.
options:
  _input:
    description: Where journals are kept. Empty means C($XDG_STATE_HOME/hotpmem/rollouts).
    type: str
    required: true
seealso:
  - module: hotpmem.fleet.rollout_step
"""

EXAMPLES = r"""
- name: Say which hosts failed
  ansible.builtin.debug:
    msg: "{{ '' | hotpmem.fleet.rollout_failures }}"
"""

RETURN = r"""
_value:
  description: For each host, C(outcome), C(msg), C(next), C(run) and C(rollout).
  type: dict
"""


def rollout_failures(directory: str) -> dict[str, dict[str, Any]]:
    """Return the failed hosts. Runs are read in the order of their start, so that the last one decides."""
    root = journal.directory(directory, os.environ)
    found: dict[str, dict[str, Any]] = {}
    try:
        names = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        books = [book for name in names if (book := journal.newest(root, name))]
        for book in sorted(books, key=lambda one: one.run):
            for result in host_results(book.read()[0]):
                if result["outcome"] in DONE:
                    found.pop(result["host"], None)
                elif result["outcome"] in FAILED:
                    said = {key: result[key] for key in ("outcome", "msg", "next")}
                    found[result["host"]] = {**said, "run": book.run, "rollout": book.rollout}
    except (OSError, journal.JournalError) as error:
        raise AnsibleFilterError(f"Cannot read which hosts failed: {error}") from error
    return found


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        return {"rollout_failures": rollout_failures}
