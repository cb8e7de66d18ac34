# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connects the engine to AnsibleModule: results go to exit_json(), and the engine's errors to fail_json()."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any, Callable, ContextManager, Dict, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ._host.errors import HotpmemError, from_os_error
from ._host.host_lock import HostLock
from ._host.sysfs import Sysfs

# The option of every module that acts on a host. The doc fragment is hotpmem.fleet.host_lock.
RUN = {"run": {"type": "str"}}
_WAIT = 60.0  # seconds that a module waits for another step


def run(module: AnsibleModule, act: Callable[[AnsibleModule], Dict[str, Any]], holds: bool = True) -> None:
    """Run act and exit with its result. When act raises HotpmemError, fail with its message and details.

    Such a failure also has ``what``, ``said`` and ``todo``, the parts of the message. A failure without them is a fault of the module.

    A module with the option ``run`` holds the host meanwhile, unless it is in check mode or ``holds`` is False. The diff is made from
    ``before`` and ``after``, if the result has both.
    """
    held: ContextManager[None] = contextlib.nullcontext()
    if holds and "run" in module.params and not module.check_mode:
        held = HostLock(Sysfs()).acting(f"the module {module._name}", run=module.params["run"] or "", wait=_WAIT)
    try:
        with held:
            result = act(module)
    except HotpmemError as error:
        _fail(module, error)
    except OSError as error:
        _fail(module, from_os_error(f"Cannot finish the module {module._name}", error))
    result.setdefault("changed", False)
    if "before" in result and "after" in result:
        result["diff"] = {"before": result["before"], "after": result["after"]}
    module.exit_json(**result)


def write_file(module: AnsibleModule, path: str, content: str) -> None:
    """Replace a file as a whole. An existing one keeps its owner, mode and SELinux context, which is why Ansible moves it."""
    handle, name = tempfile.mkstemp(prefix=".hotpmem-", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode())
            file.flush()
            os.fsync(file.fileno())
        module.atomic_move(name, path)
    finally:
        if os.path.exists(name):
            os.unlink(name)


def _fail(module: AnsibleModule, error: HotpmemError) -> NoReturn:
    parts = {"what": error.what, "said": error.said, "todo": error.todo}
    module.fail_json(msg=str(error), **{**parts, **error.details})
