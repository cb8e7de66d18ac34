# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends an HTTP request from the controller. Every failure becomes a Reply that says what happened."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError

from ansible.module_utils.urls import open_url
from ansible_collections.hotpmem.fleet.plugins.plugin_utils._rollout.web import LONGEST, Reply, Request

from .programs import unreached


def _read(answer: Any, until: float) -> str:
    """The body, up to a length and a point in time: a server may send one byte now and then, for ever."""
    parts: list[bytes] = []
    size = 0
    while size <= LONGEST:
        part = answer.read1(65536) if hasattr(answer, "read1") else answer.read(65536)
        if not part:
            return b"".join(parts).decode("utf-8", "replace")
        if time.monotonic() > until:
            raise TimeoutError
        parts.append(part)
        size += len(part)
    raise ValueError(f"the answer is longer than {LONGEST} bytes")


def _why(error: BaseException, timeout: float) -> str:
    """The reason in words, without the URL."""
    reason = error.reason if isinstance(error, URLError) and isinstance(error.reason, BaseException) else error
    # Some layers pass a timeout on as text only.
    found = unreached(TimeoutError() if "timed out" in str(reason) else reason, timeout)
    if found:
        return found
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"the certificate of the server is not trusted ({reason.verify_message})"
    if isinstance(reason, HTTPException):
        return f"the answer is not valid HTTP ({type(reason).__name__})"
    if isinstance(reason, OSError) and reason.strerror:
        return f"the connection failed ({reason.strerror})"
    return f"the request failed ({type(reason).__name__}: {reason})"


def _send(request: Request) -> Reply:
    until = time.monotonic() + request.timeout
    try:
        # No redirection: it would carry a lock, or a token in a header, to another server.
        with contextlib.closing(
            open_url(
                request.url,
                data=request.body,
                headers=dict(request.headers),
                method=request.method,
                timeout=request.timeout,
                validate_certs=request.validate_certs,
                ca_path=request.ca_path,
                force_basic_auth=True,
                follow_redirects="none",
                http_agent="hotpmem.fleet",
                use_netrc=False,
            )
        ) as answer:
            return Reply(status=answer.getcode(), body=_read(answer, until))
    except HTTPError as error:
        with contextlib.suppress(Exception), contextlib.closing(error):
            return Reply(status=error.code, body=_read(error, until))
        return Reply(status=error.code)
    # open_url raises many kinds of exceptions. For the caller they all mean that no answer came.
    except Exception as error:  # pylint: disable=broad-except
        return Reply(error=_why(error, request.timeout))


def ask(request: Request) -> Reply:
    """Send a request and return the answer, at the latest a moment after its timeout: a server may also send its headers slowly."""
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(_send(request)), daemon=True)
    thread.start()
    thread.join(request.timeout + 1.0)
    return replies[0] if replies else Reply(error=f"no complete answer within {request.timeout:g} s")
