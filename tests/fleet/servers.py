# SPDX-FileCopyrightText: The hotpmem.fleet authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small servers on loopback: a FleetLock server, a web server that says what a test wants, and servers that misbehave."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Method, path, headers and body of a request; status and body of the answer.
Answer = Callable[[str, str, dict[str, str], bytes], tuple[int, Any]]


@contextlib.contextmanager
def web(answer: Answer) -> Iterator[str]:
    """A web server; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = answer(self.command, self.path, dict(self.headers), body)
            data = said if isinstance(said, bytes) else said.encode() if isinstance(said, str) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = do_HEAD = _handle

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class FleetLock:
    """The server side of the protocol, with a number of slots for each group.

    Written from https://coreos.github.io/zincati/development/fleetlock/protocol/.
    """

    def __init__(self, slots: int = 1) -> None:
        self.slots = slots
        self.held: dict[str, list[str]] = {}
        self.log: list[tuple[str, str, str]] = []
        self.lock = threading.Lock()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        found = {name.lower(): value for name, value in headers.items()}
        if method != "POST" or found.get("fleet-lock-protocol") != "true":
            return 400, {"kind": "bad_request", "value": "the header fleet-lock-protocol is missing"}
        try:
            client = json.loads(body)["client_params"]
            group, name = client["group"], client["id"]
        except (ValueError, KeyError, TypeError):
            return 400, {"kind": "bad_request", "value": "the body is not valid"}
        if not re.fullmatch("[a-zA-Z0-9.-]+", group) or not name:
            return 400, {"kind": "bad_request", "value": "the group or the id is not valid"}
        with self.lock:
            holders = self.held.setdefault(group, [])
            self.log.append((path, group, name))
            if path == "/base/v1/pre-reboot":
                if name not in holders and len(holders) >= self.slots:
                    return 409, {"kind": "failed_lock_semaphore_full", "value": "semaphore currently full, all slots are locked already"}
                self.held[group] = [*(one for one in holders if one != name), name]
                return 200, ""
            if path == "/base/v1/steady-state":
                self.held[group] = [one for one in holders if one != name]
                return 200, ""
        return 404, "not found"


@contextlib.contextmanager
def mute(drip: bytes = b"") -> Iterator[int]:
    """A port that takes connections and answers nothing, or one byte of drip now and then."""
    done = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            for letter in drip:
                if done.wait(0.2):
                    return
                connection.sendall(bytes([letter]))
            done.wait()

    def accept() -> None:
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        done.set()
        thread.join()
        server.close()
