# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options that say for which host and run an action of a rollout asks."""

from __future__ import annotations


class ModuleDocFragment:
    """host, rollout and run_id."""

    DOCUMENTATION = r"""
options:
  host:
    description: The host that the task acts for. Commands get it as E(HOTPMEM_HOST).
    type: str
    default: ''
  rollout:
    description: The name of the rollout. Commands get it as E(HOTPMEM_ROLLOUT).
    type: str
    default: ''
  run_id:
    description: The id of the run. Commands get it as E(HOTPMEM_RUN).
    type: str
    default: ''
"""
