"""Requests that are wrong, too many, too large, from the wrong place, or that nobody waits for any more."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lehr.interop.hf_export import export_hf
from lehr.model.generate import LanguageModel
from lehr.serving import http, listening
from tests.serving.served import NAME, TOKENIZER, Server, serving, tiny, wait_until

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
LONG = {"prompt": [9], "max_tokens": 4000, "ignore_eos": True}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(tiny(length=8192), rows=2, waiting=4) as running:
        yield running


WRONG = {
    "no JSON": (COMPLETIONS, b"{", 400, "not JSON"),
    "deep": (COMPLETIONS, b"[" * 100_000, 400, "not JSON"),
    "a list": (COMPLETIONS, [1], 400, "not a JSON object"),
    "no prompt": (COMPLETIONS, {}, 400, "prompt"),
    "empty prompts": (COMPLETIONS, {"prompt": []}, 400, "prompt"),
    "mixed": (COMPLETIONS, {"prompt": [1, "x"]}, 400, "prompt"),
    "no such id": (COMPLETIONS, {"prompt": [10**6]}, 400, "token ids 0 to"),
    "hot": (COMPLETIONS, {"prompt": "x", "temperature": -1}, 400, "temperature"),
    "NaN": (COMPLETIONS, b'{"prompt": "x", "temperature": NaN}', 400, ""),
    "text for a number": (COMPLETIONS, {"prompt": "x", "max_tokens": "5"}, 400, "max_tokens"),
    "no tokens": (COMPLETIONS, {"prompt": "x", "max_tokens": 0}, 400, "max_tokens"),
    "many answers": (COMPLETIONS, {"prompt": ["x"] * 100, "n": 100}, 400, "answers"),
    "a penalty": (COMPLETIONS, {"prompt": "x", "presence_penalty": 1.5}, 400, "presence_penalty"),
    "a foreign key": (COMPLETIONS, {"prompt": "x", "guided_json": {}}, 400, "guided_json"),
    "a role": (CHAT, {"messages": [{"role": "god", "content": "x"}]}, 400, "messages.0.role"),
    "no turn": (CHAT, {"messages": []}, 400, "messages"),
    "a picture": (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages.0"),
    "nowhere": ("/v2", {}, 404, "there is no"),
    "to be read": ("/v1/models", {}, 405, "GET"),
    "no weights": ("/v1/load", {"path": "x"}, 403, "--weights"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_refused_in_openais_form(server: Server, name: str) -> None:
    path, body, status, words = WRONG[name]
    found, answer = server.ask("POST", path, body)
    assert found == status and set(answer["error"]) == {"message", "type", "param", "code"}
    assert words in answer["error"]["message"] and "Traceback" not in json.dumps(answer)
    assert server.ask("GET", "/health") == (200, {"status": "ok"})


def test_who_may_ask(server: Server) -> None:
    body = {"prompt": "x"}
    assert server.ask("POST", COMPLETIONS, body, Host="evil.example")[0] == 403  # DNS rebinding
    assert server.ask("POST", COMPLETIONS, body, Content_Type="text/plain")[0] == 415  # another page's form
    assert server.ask("POST", COMPLETIONS, body, Host="localhost:1")[0] == 200
    assert server.ask("OPTIONS", COMPLETIONS)[0] == 405
    assert server.ask("GET", COMPLETIONS)[0] == 405


def test_with_a_token_only_who_knows_it() -> None:
    token = "0123456789abcdef-secret"
    with serving(tiny(), token=token) as server:
        for wrong in ({}, {"Authorization": "Bearer 0123456789abcdef"}, {"Authorization": token}):
            status, answer = server.ask("POST", COMPLETIONS, {"prompt": "x"}, **wrong)
            assert status == 401 and token not in json.dumps(answer)
            assert server.ask("GET", "/metrics", **wrong)[0] == 401
        right = {"Authorization": f"Bearer {token}"}
        assert server.ask("POST", COMPLETIONS, {"prompt": "x"}, Host="a.example", **right)[0] == 200
        assert server.ask("GET", "/health")[0] == 200


NO_REQUESTS = [b"what\r\n\r\n", b"GET / HTTP/9.9.9\r\n\r\n", b"GET /" + b"x" * 70_000, b"G\0T / HTTP/1.1\r\n\r\n"]


@pytest.mark.parametrize("raw", NO_REQUESTS)
def test_what_is_no_request_is_told_so_in_the_same_form(server: Server, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        got = b""
        while piece := connection.recv(4096):
            got += piece
    body = got.partition(b"\r\n\r\n")[2] or got
    assert json.loads(body)["error"]["type"] == "invalid_request_error" and 400 <= json.loads(body)["error"]["code"] < 506


def test_too_large_is_refused_and_not_kept(server: Server) -> None:
    assert server.ask("POST", COMPLETIONS, b" " * (http.MAX_BYTES + 1))[0] == 413
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {10**30}\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        assert b" 413 " in connection.recv(200)


def test_a_body_is_never_taken_for_a_request(server: Server) -> None:
    """One that was refused unread: what follows it on the connection is not what it holds."""
    inner = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: {len(inner)}\r\n\r\n"
        connection.sendall(head.encode() + inner)
        got = b""
        while piece := connection.recv(4096):
            got += piece
    assert got.count(b"HTTP/1.1 ") == 1 and b" 403 " in got and b"tiny" not in got


def test_a_slow_client_is_cut_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it spreads its bytes: the whole request has one limit."""
    monkeypatch.setattr(listening, "READ_SECONDS", 0.4)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.settimeout(0.05)
        with pytest.raises((ConnectionError, AssertionError)):
            while time.monotonic() - began < 5:
                connection.sendall(b"G")
                try:
                    assert connection.recv(1), "closed"
                except TimeoutError:
                    continue
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_frees_the_row(server: Server, stream: bool) -> None:
    raw = json.dumps({**LONG, "stream": stream}).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
        wait_until(lambda: server.engine.running == 1)
    wait_until(lambda: server.engine.running == 0, 3.0)  # 4,000 tokens take longer


def test_more_than_the_queue_holds_is_refused_and_the_rest_answered(server: Server) -> None:
    """Two rows and four that wait."""
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(server.ask("POST", COMPLETIONS, {**LONG, "n": 3, "max_tokens": 150})[0])

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
        wait_until(lambda: server.engine.running == 2)
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 200, 429]
    assert server.ask("POST", COMPLETIONS, {**LONG, "n": 9})[0] == 429


def _exported(model: LanguageModel, folder: Path) -> Path:
    weights = {name: p.detach() for name, p in model.model.named_parameters()}
    TOKENIZER.save(folder.parent)
    return export_hf(weights, model.model.config, folder.parent / "tokenizer.json", None, folder)


def test_weights_are_taken_over_between_answers(tmp_path: Path) -> None:
    """An answer that was begun is the old weights' to its end, and one that was asked for later is all the new ones'."""
    root = tmp_path / "weights"
    root.mkdir()
    old, new = tiny(1, length=1024), tiny(2, length=1024)
    _exported(new, root / "step-1")
    expected = [model.generate([[9]], 150, [TOKENIZER.vocab_size - 1])[0] for model in (old, new)]
    asked = {"prompt": [9], "max_tokens": 150, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    asked |= {"stop_token_ids": [TOKENIZER.vocab_size - 1]}
    got: list[list[int]] = []
    with serving(tiny(1, length=1024), weights=root) as server:
        first = threading.Thread(
            target=lambda: got.append(server.ask("POST", COMPLETIONS, asked)[1]["choices"][0]["token_ids"])
        )
        first.start()
        wait_until(lambda: server.engine.running == 1 or bool(got))
        assert server.ask("POST", "/v1/load", {"path": "step-1"}) == (200, {"object": "weights", "path": "step-1"})
        first.join()
        got.append(server.ask("POST", COMPLETIONS, asked)[1]["choices"][0]["token_ids"])
        assert server.ask("GET", "/v1/models")[1]["data"][0]["weights"] == "step-1"
    assert got == expected and expected[0] != expected[1]


def test_weights_come_from_below_the_folder_alone_and_fit(tmp_path: Path) -> None:
    root = tmp_path / "weights"
    root.mkdir()
    _exported(tiny(2), tmp_path / "outside")
    _exported(tiny(2, length=128), root / "longer")
    broken = tiny(2)
    with torch.no_grad():
        broken.model.embed.weight[3, 3] = float("nan")
    _exported(broken, root / "broken")
    (root / "link").symlink_to(tmp_path / "outside")
    with serving(tiny(1), weights=root) as server:
        before = server.ask("POST", COMPLETIONS, {"prompt": "x", "temperature": 0})[1]["choices"]
        outside = str(tmp_path / "outside")
        wanted = {
            "../outside": 403,
            outside: 403,
            "link": 403,
            ".": 403,
            "none": 404,
            "a\0b": 400,
            "longer": 400,
            "broken": 400,
        }
        assert {path: server.ask("POST", "/v1/load", {"path": path})[0] for path in wanted} == wanted
        assert server.ask("POST", COMPLETIONS, {"prompt": "x", "temperature": 0})[1]["choices"] == before


def test_a_base_model_is_asked_for_text_alone() -> None:
    with serving(tiny(chat=False)) as server:
        status, answer = server.ask("POST", CHAT, {"messages": [{"role": "user", "content": "x"}]})
        assert status == 400 and "base model" in answer["error"]["message"]
        assert server.ask("POST", COMPLETIONS, {"prompt": "x", "model": NAME})[0] == 200


def test_both_loopbacks_are_served(server: Server) -> None:
    if not socket.has_ipv6:
        pytest.skip("a machine without IPv6")
    try:
        with socket.create_connection(("::1", server.port), timeout=5) as connection:
            connection.sendall(b"GET /health HTTP/1.0\r\nHost: [::1]\r\n\r\n")
            assert b"200" in connection.recv(100)
    except OSError as error:
        assert f"{1:032x}" not in Path("/proc/net/if_inet6").read_text(encoding="utf-8"), error


def test_a_failure_while_decoding_is_told_and_survived(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("out of memory at /secret/place")

    with monkeypatch.context() as patch:
        patch.setattr(type(server.engine._decoder), "join", fails)
        status, answer = server.ask("POST", COMPLETIONS, {"prompt": "x"})
    assert status == 500 and "secret" not in json.dumps(answer)
    assert server.ask("POST", COMPLETIONS, {"prompt": "x"})[0] == 200
