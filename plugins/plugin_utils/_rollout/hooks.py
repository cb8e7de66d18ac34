# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks: which ones run at a point, in which order, and what is wrong with their variable.

A ready-made hook acts at the first point of a pair and is undone at the second one by itself, so that nobody can forget it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import fields, fleetlock, web

POINTS = ("before_run", "after_run", "before_host", "after_host", "drain", "undrain")
# At the second point of a pair, what was done at the first one is undone.
UNDOES = {"after_run": "before_run", "after_host": "before_host", "undrain": "drain"}
READY_MADE = ("haproxy", "nginx", "alertmanager_silence", "fleetlock")
# These act on a load balancer for a host, so a run has no use for them.
OF_A_HOST = ("haproxy", "nginx", "alertmanager_silence")

COMMON: dict[str, fields.Check] = {"name": fields.is_name, "blocking": fields.is_boolean, "use": fields.is_choice(*READY_MADE)}
OWN: dict[str, fields.Check] = {
    **COMMON,
    "command": fields.is_argv,
    "where": fields.is_choice("controller", "host"),
    "timeout": fields.is_number(0.1, 86400),
    "retries": fields.is_number(0, 10000, whole=True),
    "delay": fields.is_number(0, 86400),
    "no_log": fields.is_boolean,
    "needs_undrain": fields.is_boolean,
}
BALANCER: dict[str, fields.Check] = {
    **COMMON,
    "hosts": fields.is_one_or_list(fields.is_name),
    "server": fields.is_text,
    "timeout": fields.is_number(1, 86400),
    "on_timeout": fields.is_choice("fail", "continue"),
}
USES: dict[str, tuple[dict[str, fields.Check], tuple[str, ...]]] = {
    "haproxy": ({**BALANCER, "socket": fields.is_text, "backend": fields.is_text, "up_timeout": fields.is_number(0, 86400)}, ("hosts",)),
    "nginx": (
        {**BALANCER, "file": fields.is_text, "test": fields.is_argv, "reload": fields.is_argv, "pid_file": fields.is_text},
        ("hosts", "file"),
    ),
    "alertmanager_silence": (
        {**COMMON, **web.WEB_CHECKS, "matchers": fields.is_mapping(fields.is_text), "duration": fields.is_number(60, 604800)},
        ("url", "matchers"),
    ),
    "fleetlock": (
        {
            **COMMON,
            **web.WEB_CHECKS,
            "group": fleetlock.check_group,
            "id": fields.is_text,
            "wait": fields.is_number(0, 604800),
            "interval": fields.is_number(0.1, 3600),
        },
        ("url",),
    ),
}


def name_of(hook: Mapping[str, Any]) -> str:
    """The name of a hook. Without one, a ready-made hook has the name of its kind."""
    return str(hook.get("name") or hook.get("use") or "")


def entries(hooks: Any, point: str) -> list[Mapping[str, Any]]:
    """The hooks that the operator wrote for a point."""
    found = hooks.get(point) if isinstance(hooks, Mapping) else None
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, (list, tuple)) else []


def undone(hooks: Any, point: str) -> list[Mapping[str, Any]]:
    """The ready-made hooks of the first point of a pair that its second point undoes by itself, the last one first."""
    own = {name_of(one) for one in entries(hooks, point)}
    return [one for one in reversed(entries(hooks, UNDOES.get(point, ""))) if "use" in one and name_of(one) not in own]


def at(hooks: Any, point: str, begun: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """The hooks to run at a point, in order.

    begun: at the second point of a pair, the hooks of the first point that were begun. A hook that was not begun is not undone. None means
    that nobody knows, and then all of them are undone: each one can be undone twice.
    """
    first = {name_of(one) for one in entries(hooks, UNDOES.get(point, ""))}
    found = [*entries(hooks, point), *undone(hooks, point)]
    if begun is not None:
        wanted = set(begun)
        found = [one for one in found if name_of(one) not in first or name_of(one) in wanted]
    return [prepared(one, point) for one in found]


def prepared(hook: Mapping[str, Any], point: str) -> dict[str, Any]:
    """A hook with its kind and its defaults, as the tasks of the role read it."""
    kind = str(hook.get("use") or ("tasks" if "tasks" in hook else "command"))
    return {
        **hook,
        "name": name_of(hook),
        "kind": kind,
        "undo": point in UNDOES,
        "blocking": fields.boolean(hook.get("blocking", True), True),
        "where": str(hook.get("where") or "controller"),
        "retries": int(fields.number(hook.get("retries"), 0)),
        "delay": fields.number(hook.get("delay"), 5),
        "timeout": fields.number(
            hook.get("timeout"), {"haproxy": 300, "nginx": 300, "alertmanager_silence": 10, "fleetlock": 10}.get(kind, 60)
        ),
        "no_log": fields.boolean(hook.get("no_log", False)),
    }


def _check_hook(path: str, hook: Any, point: str, bases: Sequence[str]) -> list[str]:
    if not isinstance(hook, Mapping):
        return [f"{path} must be a dictionary."]
    errors = fields.exactly_one(path, hook, ("command", "tasks", "use"))
    if errors:
        return errors
    if "use" not in hook:
        errors = fields.check_keys(path, hook, {**OWN, "tasks": fields.is_file(bases)}, ("name",))
        if point in ("before_run", "after_run") and hook.get("where") == "host":
            errors.append(f"{path}.where cannot be host, because {point} belongs to no host. Use controller.")
        return errors
    kind = hook["use"]
    errors = fields.is_choice(*READY_MADE)(f"{path}.use", kind)
    if errors:
        return errors
    checks, required = USES[kind]
    errors = fields.check_keys(path, hook, checks, required)
    if kind in OF_A_HOST and point in ("before_run", "after_run"):
        errors.append(f"{path}.use cannot be {kind}, because {point} belongs to no host. Use it with drain, or with before_host.")
    if kind == "haproxy" and "socket" in hook and isinstance(hook["socket"], str) and not hook["socket"].startswith("/"):
        errors += fields.is_address(f"{path}.socket", hook["socket"])
    return errors


def _check_pairs(hooks: Mapping[str, Any]) -> list[str]:
    """An own drain hook without an undrain hook of its name would leave the host drained."""
    undrains = {name_of(one) for one in entries(hooks, "undrain")}
    return [
        f"hotpmem_hooks.drain[{place}] ({name_of(one)}) has no hook of the same name in hotpmem_hooks.undrain, so the host would stay "
        "drained. Add one, or set needs_undrain: false for a hook that changes nothing."
        for place, one in enumerate(entries(hooks, "drain"))
        if "use" not in one and name_of(one) not in undrains and fields.boolean(one.get("needs_undrain", True), True)
    ]


def check(hooks: Any, bases: Sequence[str] = ()) -> list[str]:
    """What is wrong with hotpmem_hooks. bases: the directories where a task file without an absolute path is looked for."""
    if hooks in (None, {}):
        return []

    def check_point(point: str) -> fields.Check:
        return fields.is_list(lambda path, one: _check_hook(path, one, point, bases))

    errors = fields.check_keys("hotpmem_hooks", hooks, {point: check_point(point) for point in POINTS})
    if not isinstance(hooks, Mapping):
        return errors
    for point in POINTS:
        errors += fields.repeated(f"hotpmem_hooks.{point}", entries(hooks, point), name_of)
    return errors + _check_pairs(hooks)
