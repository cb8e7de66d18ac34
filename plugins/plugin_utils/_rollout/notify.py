# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notifications: what is sent at which notice, and what is wrong with their variable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import fields, web

NOTICES = ("start", "host_failed", "budget_spent", "done")
MAIL_MODULE = "community.general.mail"
MAIL: dict[str, fields.Check] = {
    "to": fields.is_one_or_list(fields.is_text),
    "sender": fields.is_text,
    "host": fields.is_text,
    "port": fields.is_number(1, 65535, whole=True),
    "username": fields.is_text,
    "password": fields.is_text,
    "secure": fields.is_choice("always", "never", "starttls", "try"),
    "subject": fields.is_text,
}
CHECKS: dict[str, fields.Check] = {
    **{key: check for key, check in web.WEB_CHECKS.items() if key != "url"},
    "name": fields.is_name,
    "webhook": fields.is_url,
    "format": fields.is_choice("json", "slack"),
    "mail": lambda path, value: fields.check_keys(path, value, MAIL, ("to",)),
    "notices": fields.is_one_or_list(fields.is_choice(*NOTICES)),
}


def check(notify: Any, mail_installed: bool) -> list[str]:
    """What is wrong with hotpmem_notify."""

    def check_target(path: str, target: Mapping[str, Any]) -> list[str]:
        errors = fields.exactly_one(path, target, ("webhook", "mail")) or fields.check_keys(path, target, CHECKS)
        if "mail" in target and not mail_installed:
            errors.append(
                f"{path}.mail needs the module {MAIL_MODULE}, which is not installed. Install it with "
                "'ansible-galaxy collection install community.general', or use a webhook."
            )
        if "mail" in target and "format" in target:
            errors.append(f"{path}.format belongs to a webhook, and not to mail.")
        return errors

    return fields.check_entries("hotpmem_notify", notify, check_target)


def targets(notify: Sequence[Mapping[str, Any]], notice: str) -> list[dict[str, Any]]:
    """The targets that want a notice, each with a name for messages."""
    return [
        {**one, "name": str(one.get("name") or f"hotpmem_notify[{place}]")}
        for place, one in enumerate(notify)
        if notice in (fields.names(one.get("notices")) or NOTICES)
    ]


def webhook(target: Mapping[str, Any], facts: Mapping[str, Any]) -> web.Request:
    """The request to a webhook. facts: notice, text, time, and rollout, run and host where they are known."""
    payload = (
        {"text": str(facts["text"])} if target.get("format") == "slack" else {key: value for key, value in facts.items() if value != ""}
    )
    return web.request({**target, "url": target["webhook"]}, "POST", payload=payload)


def mail(target: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The options of community.general.mail."""
    found = target["mail"]
    first = str(facts["text"]).splitlines()[0] if str(facts["text"]).strip() else str(facts["notice"])
    arguments = {
        "to": fields.names(found["to"]),
        "subject": f"{found.get('subject', '[hotpmem]')} {first}"[:200],
        "body": str(facts["text"]),
        "host": str(found.get("host", "localhost")),
        "port": int(fields.number(found.get("port"), 25)),
        "timeout": int(fields.number(target.get("timeout"), 10)) or 1,
    }
    optional = {"sender": "sender", "username": "username", "password": "password", "secure": "secure"}
    return {**arguments, **{option: str(found[key]) for key, option in optional.items() if key in found}}


def problem(target: Mapping[str, Any], reply: web.Reply) -> str:
    """Empty when the webhook took the notice, otherwise what came back. Its path is not shown, because it is often the secret."""
    if reply.good:
        return ""
    # Services repeat a part of the request in the body of an error.
    what = reply.error or f"HTTP status {reply.status}"
    return f"The notification {target['name']} could not be sent to {web.safe_url(str(target['webhook']), whole_path=False)}: {what}."
