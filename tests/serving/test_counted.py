"""What a server counts of its work, what it holds now, and that it says so when it is full."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest

from lehr.serving import counts, listening
from tests.serving.served import Server, serving, tiny, wait_until

COMPLETIONS = "/v1/completions"
LONG = {"prompt": [9], "max_tokens": 4000, "ignore_eos": True}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(tiny(length=8192), rows=2, waiting=4) as running:
        yield running


def value(server: Server, name: str) -> float:
    """A metric's value; of several series that begin like this, the sum."""
    lines = server.ask("GET", "/metrics")[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_metrics_count_what_was_done(server: Server) -> None:
    names = [
        "lehr_serve_tokens_total",
        "lehr_serve_prompt_tokens_total",
        'lehr_serve_requests_total{code="200",operation="completions"}',
    ]
    names += ["lehr_serve_first_token_seconds_count", 'lehr_serve_request_seconds_count{operation="completions"}']
    names += ["lehr_serve_queue_seconds_count", "lehr_serve_token_seconds_count"]
    before = [value(server, name) for name in names]
    assert server.ask("POST", COMPLETIONS, {**LONG, "prompt": [9, 10, 11], "max_tokens": 7, "n": 2})[0] == 200
    assert [value(server, name) - old for name, old in zip(names, before, strict=True)] == [14, 6, 1, 2, 1, 2, 12]
    gauges = {"rows": 2, "answers_running": 0, "answers_waiting": 0, "answers_waiting_limit": 4, "cached_tokens": 0}
    assert {name: value(server, f"lehr_serve_{name} ") for name in gauges} == gauges


def test_times_of_an_answer_add_up(server: Server) -> None:
    """What waits for a row waits for the others' tokens; first token and gaps are together the request."""
    parts = ["first_token_seconds_sum", "token_seconds_sum", "request_seconds_sum", "queue_seconds_sum"]
    before = [value(server, f"lehr_serve_{name}") for name in parts]
    assert server.ask("POST", COMPLETIONS, {**LONG, "max_tokens": 600})[0] == 200
    first, between, whole, queue = (value(server, f"lehr_serve_{name}") - old for name, old in zip(parts, before, strict=True))
    assert 0 <= queue <= first and 0.5 * whole < first + between <= whole


def test_answers_are_counted_by_their_end(server: Server) -> None:
    def ended() -> dict[str, float]:
        return {end: value(server, f'lehr_serve_answers_total{{reason="{end}"}}') for end in counts.ENDS}

    def after(body: dict[str, Any]) -> dict[str, float]:
        before = ended()
        server.ask("POST", COMPLETIONS, body)
        wait_until(lambda: ended() != before)
        return {end: now - before[end] for end, now in ended().items() if now != before[end]}

    greedy = {**LONG, "temperature": 0, "max_tokens": 40}
    text = server.ask("POST", COMPLETIONS, greedy)[1]["choices"][0]["text"]
    assert after(greedy) == {"length": 1}
    assert after({**greedy, "stop": text[2:4]}) == {"stop": 1}  # a text, which the decoding thread knows nothing of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(server.engine._decoder), "step", lambda self: self.no_such_thing)
        assert after(greedy) == {"error": 1}


def test_what_is_held_is_seen_while_it_is_held(server: Server) -> None:
    thread = threading.Thread(target=server.ask, args=("POST", COMPLETIONS, {**LONG, "prompt": [9] * 50, "max_tokens": 400}))
    thread.start()
    wait_until(lambda: server.engine.running == 1)
    wait_until(lambda: value(server, "lehr_serve_cached_tokens ") > 60)
    wait_until(lambda: value(server, "lehr_serve_connections ") == 2)
    thread.join()
    column = 2 * 4 * 2 * 32  # bytes: keys and values in fp32 of 2 layers, 32 wide
    assert value(server, "lehr_serve_cache_bytes ") >= 450 * column and value(server, "lehr_serve_cached_tokens ") == 0


def test_a_server_without_a_free_connection_says_so_and_is_seen() -> None:
    with serving(tiny(), connections=2) as server, ExitStack() as open_ones:
        before = value(server, "lehr_serve_connections_dropped_total ")
        wait_until(lambda: not len(server.places))  # else one of those below would have a spare place

        def open_one() -> socket.socket:
            return open_ones.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))

        for _ in range(2):
            open_one()
        wait_until(lambda: value(server, "lehr_serve_connections ") == 3)  # and the scrape's own
        assert server.ask("GET", "/health")[0] == 200
        connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request("POST", COMPLETIONS, json.dumps({"prompt": "x"}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Retry-After"], answer.headers["Connection"]) == (429, "1", "close")
        assert "2 connections are open" in json.loads(answer.read())["error"]["message"]
        for _ in range(listening.SPARE):
            open_one()
        late = open_one()
        with contextlib.suppress(ConnectionError):
            assert late.recv(1) == b"", "a connection beyond the spare ones was not closed"
        open_ones.close()
        wait_until(lambda: server.engine.alive and _answers(server))
        assert value(server, "lehr_serve_connections_dropped_total ") >= before + 1
        wait_until(lambda: not len(server.places))  # /health is answered before all places are free again
        assert server.ask("POST", COMPLETIONS, {"prompt": "x"})[0] == 200


def _answers(server: Server) -> bool:
    with contextlib.suppress(OSError, HTTPException):
        return server.ask("GET", "/health")[0] == 200
    return False
