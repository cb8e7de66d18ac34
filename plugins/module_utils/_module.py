# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connects the engine to AnsibleModule: results go to exit_json(), and the engine's errors to fail_json()."""

from __future__ import annotations

from typing import Any, Callable, Dict

from ansible.module_utils.basic import AnsibleModule

from ._host.errors import HotpmemError, from_os_error


def run(module: AnsibleModule, act: Callable[[AnsibleModule], Dict[str, Any]]) -> None:
    """Run act and exit with its result. When act raises HotpmemError, fail with its message and details.

    The diff is made from ``before`` and ``after``, if the result has both.
    """
    try:
        result = act(module)
    except HotpmemError as error:
        module.fail_json(msg=str(error), **error.details)
    except OSError as error:
        module.fail_json(msg=str(from_os_error("Cannot go on", error)))
    result.setdefault("changed", False)
    if "before" in result and "after" in result:
        result["diff"] = {"before": result["before"], "after": result["after"]}
    module.exit_json(**result)
