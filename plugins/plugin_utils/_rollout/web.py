# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP request, its answer, and words about both that show no secret."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from . import fields

LONGEST = 1024 * 1024  # bytes of an answer that are read
SHOWN = 200  # characters of an answer that a message shows


@dataclass(frozen=True)
class Request:
    """What to ask. Its repr shows no secret."""

    method: str
    url: str = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 10.0
    validate_certs: bool = True
    ca_path: str | None = None


@dataclass(frozen=True)
class Reply:
    """The answer: a status and a body, or the reason why no answer came."""

    status: int = 0
    body: str = ""
    error: str = ""

    @property
    def good(self) -> bool:
        return not self.error and 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON; ValueError when it is something else."""
        return json.loads(self.body)


Ask = Callable[[Request], Reply]

# Keys that every variable with a URL has.
WEB_CHECKS: dict[str, fields.Check] = {
    "url": fields.is_url,
    "headers": fields.is_mapping(fields.is_header),
    "validate_certs": fields.is_boolean,
    "ca_path": fields.is_text,
    "timeout": fields.is_number(0.1, 3600),
}


def request(
    definition: Mapping[str, Any],
    method: str,
    path: str = "",
    *,
    payload: Any = None,
    timeout: float = 10.0,
    headers: Mapping[str, str] | None = None,
) -> Request:
    """A request with the URL, headers and certificate settings of a definition."""
    sent = {str(key): str(value) for key, value in (definition.get("headers") or {}).items()}
    sent.update(headers or {})
    body = None
    if payload is not None:
        body = json.dumps(payload).encode()
        sent.setdefault("Content-Type", "application/json")
    url = str(definition["url"])
    if path:
        parts = urlsplit(url)
        added, _mark, query = path.partition("?")
        url = urlunsplit(parts._replace(path=parts.path.rstrip("/") + added, query="&".join(filter(None, (parts.query, query)))))
    return Request(
        method=method,
        url=url,
        body=body,
        headers=sent,
        timeout=fields.number(definition.get("timeout"), timeout),
        validate_certs=fields.boolean(definition.get("validate_certs", True), True),
        ca_path=str(definition["ca_path"]) if definition.get("ca_path") else None,
    )


def safe_url(url: str, whole_path: bool = True) -> str:
    """The URL without user, password, query and fragment. A webhook holds its secret in the path, which is then left out as well."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "the URL"
    host = f"[{host}]" if ":" in host else host
    path = parts.path if whole_path else "/..." if parts.path.strip("/") else ""
    return f"{parts.scheme}://{host}{port}{path}{'?...' if parts.query else ''}"


def secrets_of(definition: Any) -> list[str]:
    """Every text in a definition that must not be shown: values of headers, passwords, user and password in a URL, and the URL itself."""
    found: list[str] = []
    if isinstance(definition, Mapping):
        for key, value in definition.items():
            if key == "headers" and isinstance(value, Mapping):
                found += [word for one in value.values() for word in [str(one), *str(one).split()[1:]]]
            elif key in ("password", "token", "username") and value:
                found.append(str(value))
            else:
                found += secrets_of(value)
    elif isinstance(definition, (list, tuple)):
        found += [secret for one in definition for secret in secrets_of(one)]
    elif isinstance(definition, str) and re.match(r"https?://", definition):
        try:
            parts = urlsplit(definition)
        except ValueError:
            return [definition]
        if parts.password or parts.query:
            found.append(definition)
        found += [word for part in (parts.password, parts.query) if part for word in (part, unquote(part))]
    return sorted({secret for secret in found if len(secret) > 3}, key=len, reverse=True)


def scrub(text: str, secrets: list[str]) -> str:
    """The text with every secret replaced."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def excerpt(text: str) -> str:
    """The beginning of an answer, in one line."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return (line[:SHOWN] + "...") if len(line) > SHOWN else line


def said(reply: Reply) -> str:
    """What came back, for a message."""
    if reply.error:
        return reply.error
    body = excerpt(reply.body)
    return f"HTTP status {reply.status}" + (f" with the answer {body!r}" if body else " with an empty answer")
