# Copyright: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Drain a server of HAProxy, or put it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_haproxy
short_description: Drain a server of HAProxy before a reboot, and put it back afterwards
version_added: 0.1.0
description:
  - Runs on the load balancer, and talks to the runtime socket of HAProxy.
  - A server that somebody else put into maintenance is left in maintenance, both by the drain and afterwards.
  - HAProxy forgets these states when it is restarted, unless its configuration loads a state file.
extends_documentation_fragment:
  - hotpmem.fleet.attributes.acts
options:
  state:
    description:
      - V(drained) lets HAProxy send no new clients to the server, and waits until its sessions have ended.
      - V(ready) ends the drain, and waits until HAProxy sends requests to the server again.
    type: str
    choices: [drained, ready]
    required: true
  server:
    description: The name of the server in the configuration of HAProxy.
    type: str
    required: true
  backend:
    description: The backend of the server. Without it, the server is drained in every backend.
    type: str
    default: ''
  socket:
    description: The runtime socket, as a path or as C(HOST:PORT). It needs C(level admin).
    type: str
    default: /run/haproxy/admin.sock
  timeout:
    description: Seconds to wait for the sessions to end.
    type: float
    default: 300
  up_timeout:
    description: Seconds to wait until the health checks of HAProxy see the server up. V(0) does not wait.
    type: float
    default: 60
  on_timeout:
    description: What happens when sessions are left after O(timeout). V(fail) fails, and V(continue) goes on without waiting for them.
    type: str
    choices: [fail, continue]
    default: fail
author:
  - The hotpmem.fleet authors (@hotpmem)
seealso:
  - module: hotpmem.fleet.rollout_nginx
  - module: hotpmem.fleet.rollout_hook
"""

EXAMPLES = r"""
- name: Drain the host
  hotpmem.fleet.rollout_haproxy:
    state: drained
    server: "{{ inventory_hostname }}"
  delegate_to: lb1
"""

RETURN = r"""
servers:
  description: The servers, with C(backend), C(name), C(status), C(sessions) and C(drained).
  type: list
  elements: dict
  returned: success
warnings_text:
  description: What the operator should know, for example that sessions were left.
  type: list
  elements: str
  returned: success
"""

import time
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._host.errors import HotpmemError
from ..module_utils._module import run
from ..module_utils._rollout.haproxy import FORCED_DRAIN, Balancer, Server, Talker

INTERVAL = 0.5


def outline(servers: List[Server]) -> List[Dict[str, Any]]:
    """The servers as facts."""
    return [
        {"backend": one.backend, "name": one.name, "status": one.status, "sessions": one.sessions, "drained": one.drained}
        for one in servers
    ]


def left(servers: List[Server], state: str) -> List[str]:
    """What still has to happen."""
    if state == "drained":
        return [f"{one.backend}/{one.name} still has {one.sessions} sessions" for one in servers if one.sessions]
    waiting = [one for one in servers if not one.in_maintenance and not one.serves]
    return [f"{one.backend}/{one.name} has the status {one.status}" for one in waiting]


def wait(balancer: Balancer, state: str, seconds: float) -> List[str]:
    """Wait until nothing is left, or the time is over."""
    until = time.monotonic() + seconds
    while True:
        found = left(balancer.servers(), state)
        if not found or time.monotonic() >= until:
            return found
        time.sleep(INTERVAL)


def act(module: AnsibleModule) -> Dict[str, Any]:
    """Plan; unless in check mode, set the state and wait."""
    params = module.params
    state = params["state"]
    balancer = Balancer(Talker(params["socket"]), params["socket"], params["server"], params["backend"])
    before = balancer.servers()
    notes = [f"{one.backend}/{one.name} is in maintenance, and was left so" for one in before if one.in_maintenance]
    todo = [one for one in before if not one.in_maintenance and one.drained != (state == "drained")]
    after = [
        one._replace(admin=one.admin ^ FORCED_DRAIN, status="DRAIN" if state == "drained" else "UP") if one in todo else one
        for one in before
    ]
    if not module.check_mode:
        for one in todo:
            balancer.set_state(one, "drain" if state == "drained" else "ready")
        seconds = params["timeout"] if state == "drained" else params["up_timeout"]
        found = wait(balancer, state, seconds) if state == "drained" or seconds else []
        if found and state == "drained" and params["on_timeout"] == "continue":
            notes.append(f"after {seconds:g} s {' and '.join(found)}")
        elif found:
            todo_text = (
                "The server is still drained. Raise timeout, or set on_timeout: continue"
                if state == "drained"
                else "The drain has ended. Check the health checks of HAProxy and the service, or raise up_timeout"
            )
            raise HotpmemError(
                f"Waited {seconds:g} s for HAProxy at {params['socket']} without success",
                " and ".join(found),
                todo_text,
                changed=bool(todo),
            )
        after = balancer.servers()
    return {
        "changed": bool(todo),
        "servers": outline(after),
        "warnings_text": notes,
        "before": {"drained": {f"{one.backend}/{one.name}": one.drained for one in before}},
        "after": {"drained": {f"{one.backend}/{one.name}": one.drained for one in after}},
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["drained", "ready"], "required": True},
            "server": {"type": "str", "required": True},
            "backend": {"type": "str", "default": ""},
            "socket": {"type": "str", "default": "/run/haproxy/admin.sock"},
            "timeout": {"type": "float", "default": 300},
            "up_timeout": {"type": "float", "default": 60},
            "on_timeout": {"type": "str", "choices": ["fail", "continue"], "default": "fail"},
        },
        supports_check_mode=True,
    )
    run(module, act)


if __name__ == "__main__":
    main()
