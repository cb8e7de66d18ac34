# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Drain a server of an nginx upstream, or put it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_nginx
short_description: Drain a server of an nginx upstream before a reboot, and put it back afterwards
version_added: 0.1.0
description:
  - Runs on the load balancer. It adds C(down) to the line C(server) in a configuration file, tests the configuration and reloads nginx.
  - The line gets a mark. Only a line with the mark is put back, so a server that somebody else set to C(down) stays down.
  - If the test or the reload fails, the file is put back as it was.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
options:
  state:
    description:
      - V(drained) lets nginx send no new requests to the server, and waits until the workers that knew it as up have ended.
      - V(ready) ends the drain.
    type: str
    choices: [drained, ready]
    required: true
  server:
    description: The address of the server, as it stands in the configuration.
    type: str
    required: true
  file:
    description: The file with the block C(upstream), or with a part of it.
    type: path
    required: true
  test:
    description: The command that tests the configuration.
    type: list
    elements: str
    default: [nginx, -t]
  reload:
    description: The command that reloads nginx.
    type: list
    elements: str
    default: [nginx, -s, reload]
  pid_file:
    description: The file with the process id of nginx.
    type: path
    default: /run/nginx.pid
  timeout:
    description: Seconds to wait for the workers to end.
    type: float
    default: 300
  on_timeout:
    description: What happens when workers are left after O(timeout). V(fail) fails, and V(continue) goes on without waiting for them.
    type: str
    choices: [fail, continue]
    default: fail
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.rollout_haproxy
  - module: hotpmem.fleet.rollout_hook
"""

EXAMPLES = r"""
- name: Drain the host
  hotpmem.fleet.rollout_nginx:
    state: drained
    server: "{{ ansible_host }}:8080"
    file: /etc/nginx/conf.d/app.conf
  delegate_to: lb1
"""

RETURN = r"""
warnings_text:
  description: What the operator should know, for example that the server was already down.
  type: list
  elements: str
  returned: success
"""

import contextlib
import os
import time
from typing import Any, Dict, Set

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host.errors import HotpmemError
from ..module_utils._host.programs import Runner
from ..module_utils._module import run, write_file
from ..module_utils._rollout.nginx_upstream import edit, servers

INTERVAL = 0.2
_TIMEOUT = 60.0  # seconds for a command of nginx
_PUT_BACK = "The file was put back as it was. Check nginx on the load balancer, and the keys test and reload of the hook"


def workers(pid_file: str) -> Set[int]:
    """The processes that the master of nginx has started."""
    try:
        with open(pid_file, encoding="ascii") as file:
            master = int(file.read())
        os.kill(master, 0)
    except (OSError, ValueError) as error:
        raise HotpmemError("Cannot find the running nginx", f"{pid_file}: {error}", "Set the key pid_file of the hook") from None
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, IndexError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
            # The name of the program is in brackets, and may hold spaces. The parent is the second word behind it.
            if int(file.read().rpartition(")")[2].split()[1]) == master:
                found.add(int(name))
    return found


def wait(pid_file: str, old: Set[int], seconds: float) -> Set[int]:
    """The workers of before that are left after a time."""
    until = time.monotonic() + seconds
    while True:
        found = old & workers(pid_file)
        if not found or time.monotonic() >= until:
            return found
        time.sleep(INTERVAL)


def act(module: AnsibleModule) -> Dict[str, Any]:
    """Plan; unless in check mode, change the file, reload and wait."""
    params = module.params
    path, server, drained = os.path.realpath(params["file"]), params["server"], params["state"] == "drained"
    with open(path, encoding="utf-8", newline="") as file:
        before = file.read()
    edited = edit(before, server, drained)
    if not edited.found:
        known = ", ".join(servers(before)[:10]) or "none"
        raise HotpmemError(
            f"Cannot find the server {server} in {path}",
            f"known servers: {known}",
            "Set the key server of the hook to an address of the file",
        )
    notes = [f"{server} was already down in {path}, and was left so"] if edited.down else []
    changed = edited.text != before
    runner = Runner()
    if changed and not module.check_mode:
        old = workers(params["pid_file"])
        write_file(module, path, edited.text)
        try:
            runner.check(params["test"], "Cannot test the configuration of nginx", _PUT_BACK, timeout=_TIMEOUT)
            runner.check(params["reload"], "Cannot reload nginx", _PUT_BACK, timeout=_TIMEOUT)
        except BaseException:
            write_file(module, path, before)
            raise
        # The reload is a signal, so the old workers still run when the command ends.
        left = wait(params["pid_file"], old, params["timeout"]) if drained else set()
        if left and params["on_timeout"] == "fail":
            raise HotpmemError(
                f"Waited {params['timeout']:g} s for the workers of nginx without success",
                f"{len(left)} workers still have connections",
                "The server is still drained. Raise timeout, or set on_timeout: continue",
                changed=True,
            )
        notes += [f"{len(left)} workers of nginx still had connections after {params['timeout']:g} s"] if left else []
    return {"changed": changed, "warnings_text": notes, "before": before, "after": edited.text}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["drained", "ready"], "required": True},
            "server": {"type": "str", "required": True},
            "file": {"type": "path", "required": True},
            "test": {"type": "list", "elements": "str", "default": ["nginx", "-t"]},
            "reload": {"type": "list", "elements": "str", "default": ["nginx", "-s", "reload"]},
            "pid_file": {"type": "path", "default": "/run/nginx.pid"},
            "timeout": {"type": "float", "default": 300},
            "on_timeout": {"type": "str", "choices": ["fail", "continue"], "default": "fail"},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
