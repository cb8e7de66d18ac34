# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where the engine meets AnsibleModule: results out, the engine's errors as fail_json()."""

from __future__ import annotations

from typing import Any, Callable, Dict

from ansible.module_utils.basic import AnsibleModule

from ._errors import HotpmemError, from_os_error


def run(module: AnsibleModule, act: Callable[[AnsibleModule], Dict[str, Any]]) -> None:
    """Exit with act's result, or fail with its HotpmemError. ``before`` and ``after`` in the result make the diff."""
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
