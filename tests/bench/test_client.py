# SPDX-License-Identifier: GPL-3.0-or-later
"""The client against a small server that comes and goes, as memcached does."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable

import client as bench_client
import pytest
from client import Answer, Client, longest_gap


class Memcached(socketserver.ThreadingTCPServer):
    """Answers gets while it is `up`; `refusing`, it ends connections as a kernel without a listener does; else it is silent."""

    daemon_threads = True
    request_queue_size = 100
    state = "up"


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Memcached)
        if self.rfile.readline() != b"get probe\r\n" or self.server.state == "refusing":
            return
        if self.server.state == "up":
            self.wfile.write(b"VALUE probe 0 2\r\n")
            self.wfile.write(b"ok\r\nEND\r\n")
        else:
            self.rfile.read()


@pytest.fixture
def server():
    with Memcached(("127.0.0.1", 0), Handler) as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_gap_is_from_the_last_answer_to_the_first_one_after_it(server, monkeypatch) -> None:
    monkeypatch.setattr(bench_client, "SILENCE", 0.2)
    with Client(server.server_address[1]) as one:
        until(lambda: len(one.answers) > 5)
        server.state = "silent"
        time.sleep(0.5)
        server.state = "refusing"
        time.sleep(0.3)
        server.state = "up"
        begin = time.monotonic()
        until(lambda: one.answered_since(begin))
    gap = longest_gap(one.answers)
    assert 0.7 < gap.seconds < 1.5
    assert gap.hit
    # Refusals had brought the pace back before the first answer.
    assert gap.coarse < bench_client.SILENT_PACE


def test_silence_slows_the_questions_down(server, monkeypatch) -> None:
    monkeypatch.setattr(bench_client, "SILENCE", 0.1)
    asked = []
    monkeypatch.setattr(Client, "_ask", lambda self, ask=Client._ask: (asked.append(time.monotonic()), ask(self)))
    server.state = "silent"
    with Client(server.server_address[1]) as one:
        time.sleep(1.2)
    assert not one.answers
    assert 5 < len([at for at in asked if at > asked[0] + 0.2]) < 15


def test_nobody_listens() -> None:
    with Client(1) as one:
        time.sleep(0.1)
    assert not one.answers
    assert not one.answered_since(0)


def test_the_longest_gap_of_several() -> None:
    answers = [Answer(at, at < 3, 0.01) for at in (1.0, 1.01, 1.2, 1.21, 5.21, 5.22)]
    gap = longest_gap(answers)
    assert (round(gap.seconds, 6), gap.coarse, gap.hit) == (4.0, 0.01, False)


def test_a_key_that_is_not_stored_is_an_error(server) -> None:
    with pytest.raises(OSError, match="did not store"):
        bench_client.store(server.server_address[1])
