# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an answer of a command, of a web server or of a TCP port means for a gate or a blocker."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from . import fields, web

KINDS = ("command", "http", "tcp")
HTTP: dict[str, fields.Check] = {
    **web.WEB_CHECKS,
    "method": fields.is_choice("GET", "HEAD", "POST"),
    "status": fields.is_one_or_list(fields.is_number(100, 599, whole=True)),
    "body": fields.is_pattern,
}


def is_http(path: str, value: Any) -> list[str]:
    """A check for the key http: a URL, or a dictionary with one."""
    if isinstance(value, str):
        return fields.is_url(path, value)
    return fields.check_keys(path, value, HTTP, ("url",))


CHECKS: dict[str, fields.Check] = {
    "command": fields.is_argv,
    "http": is_http,
    "tcp": fields.is_address,
    "where": fields.is_choice("controller", "host"),
    "timeout": fields.is_number(0.1, 86400),
    "no_log": fields.is_boolean,
}


def check_where(path: str, value: Mapping[str, Any]) -> list[str]:
    """http and tcp are asked from the controller."""
    if value.get("where") == "host" and ("http" in value or "tcp" in value):
        return [
            f"{path}.where cannot be host with http or tcp, which are asked from the controller. Use a command such as curl on the host."
        ]
    return []


def http_definition(value: Any) -> dict[str, Any]:
    """The key http as a dictionary."""
    return {"url": value} if isinstance(value, str) else dict(value)


def http_problem(definition: Mapping[str, Any], reply: web.Reply) -> str:
    """Empty when the answer is as wanted, otherwise what came instead."""
    url = web.safe_url(str(definition["url"]))
    if reply.error:
        return f"{url}: {reply.error}"
    wanted = definition.get("status", 200)
    statuses = [int(one) for one in (wanted if isinstance(wanted, (list, tuple)) else [wanted])]
    if reply.status not in statuses:
        return f"{url}: {web.said(reply)}, and not the status {' or '.join(map(str, statuses))}"
    pattern = definition.get("body")
    if pattern is not None and not re.search(str(pattern), reply.body):
        return f"{url}: the pattern {pattern!r} does not match the answer {web.excerpt(reply.body)!r}"
    return ""


def command_problem(argv: list[str], where: str, rc: int, stdout: str, stderr: str, error: str = "", hidden: bool = False) -> str:  # noqa: PLR0917
    """Empty when the command ended with 0, otherwise how it ended and its last line."""
    what = f"the command {shlex.join(map(str, argv)) if not hidden else argv[0]} on the {where}"
    if error:
        return f"{what}: {error}"
    if rc == 0:
        return ""
    text = stderr.strip() or stdout.strip()
    last = web.excerpt(text.splitlines()[-1]) if text else ""
    words = "" if hidden else f": {last}" if last else " and printed nothing"
    return f"{what} ended with {rc}{words}"
