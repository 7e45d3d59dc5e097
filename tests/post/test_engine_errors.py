"""An engine elsewhere that fails or answers nonsense: whoever is to blame is blamed."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from lehr.config.posttraining import GrpoStep
from lehr.config.sampler import SamplerElsewhere
from lehr.post import engine_client
from lehr.post.engine_client import EngineClient
from lehr.runtime.errors import InfraError, UserError
from lehr.stages.grpo import GrpoConfig
from tests.serving.served import sampler_of, serving, tiny

PROMPTS = [[9, 10], [11, 12, 13, 14], [15]]


@contextmanager
def _answering(*answers: tuple[int, Any]) -> Iterator[tuple[str, list[str]]]:
    """An engine that gives these answers one after the other, the last again and again; and the requests that it got."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answers[min(len(asked), len(answers) - 1)]
            asked.append(self.path)
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_what_may_pass_is_asked_again_and_then_the_machines_fault() -> None:
    waits: list[float] = []
    with _answering((503, b""), (429, {"error": {"message": "full"}}), (200, {"ok": 1})) as (url, asked):
        assert EngineClient(url, 5, waits.append).ask("POST", "/x", {}) == {"ok": 1}
        assert len(asked) == 3 and waits == [0.5, 1.0]
    waits.clear()
    with pytest.raises(InfraError, match="did not answer 6 requests") as caught:  # nothing listens there any more
        EngineClient(url, 5, waits.append).ask("POST", "/x", {})
    assert caught.value.exit_code == 75 and len(waits) == 5


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, {"error": {"message": "no \x1b[31mkey"}}), r"status 401: no .*key.*LEHR_SAMPLER_TOKEN"),
        ((404, b"<html>"), "status 404: <html>"),
        ((200, b"<html>"), "something else than JSON"),
        ((200, {"choices": [{"text": "x"}]}), "no token ids"),
        ((200, {"choices": [{"token_ids": [10**9]}]}), "not among the model's"),
        ((200, []), "no token ids"),
    ],
)
def test_what_cannot_pass_is_the_users(answer: tuple[int, Any], words: str, tmp_path: Path) -> None:
    with _answering(answer) as (url, asked), pytest.raises(UserError) as caught:
        sampler_of(tiny(), url, tmp_path, model="m").generate([[9]], 3)
    assert re.search(words, str(caught.value)) and "\x1b" not in str(caught.value) and len(asked) == 1


def test_an_engine_without_log_probabilities_is_taken_and_none_are_made_up(tmp_path: Path) -> None:
    with _answering((200, {"choices": [{"token_ids": [9, 10, 11]}]})) as (url, _):
        sampler = sampler_of(tiny(), url, tmp_path, model="m")
        assert sampler.generate([[9]], 3, [10]) == [[9, 10]] and sampler.sampled_logprobs() is None
    odd = {"token_ids": [9, 10, 11], "logprobs": {"token_logprobs": [-1.0, -2.0, math.nan]}}
    with _answering((200, {"choices": [odd]})) as (url, _):
        sampler = sampler_of(tiny(), url, tmp_path, model="m")
        assert sampler.generate([[9]], 3, [10]) == [[9, 10]] and sampler.sampled_logprobs() == [[-1.0, -2.0]]
        assert sampler.generate([[9]], 3) == [[9, 10, 11]] and sampler.sampled_logprobs() is None


def test_vllm_is_told_to_read_its_folder_again(tmp_path: Path) -> None:
    """Which calls it gets; that vLLM itself takes them is not tried here (docs/limits.md)."""
    policy = tiny()
    with _answering((200, b"")) as (url, asked):
        sampler = sampler_of(policy, url, tmp_path, engine="vllm")
        sampler.follow(0)
        sampler.follow(1)
    assert asked == ["/collective_rpc", "/reset_prefix_cache"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["policy"] and (tmp_path / "policy" / "model.safetensors").is_file()


def test_the_token_is_sent_and_never_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = "0123456789abcdef-secret"
    with serving(tiny(1), token=token) as server:
        with pytest.raises(UserError, match="bearer token") as caught:
            sampler_of(tiny(1), server.url, tmp_path).generate(PROMPTS, 3)
        monkeypatch.setenv(engine_client.TOKEN, token)
        assert len(sampler_of(tiny(1), server.url, tmp_path).generate(PROMPTS, 3)) == 3
    assert token not in str(caught.value)


def test_the_recipes_key_reaches_the_stage_and_a_place_is_no_part_of_its_result() -> None:
    said = {"kind": "grpo", "name": "g", "optim": {"lr": 1e-3}, "steps": 1, "batch_size": 1}
    plain = GrpoStep.model_validate(said)
    assert plain.sampler is None
    steps = [
        GrpoStep.model_validate({**said, "sampler": {"url": url, "weights": folder, "engine": engine}})
        for url, folder, engine in (("http://a:1/", "x", "lehr"), ("https://b:2", "y", "lehr"), ("http://a:1", "x", "vllm"))
    ]
    described = [GrpoConfig.model_construct(sampler=step.sampler).described()["sampler"] for step in (plain, *steps)]
    assert described == ["", "lehr", "lehr", "vllm"] and steps[0].sampler.url == "http://a:1"
    for wrong in ("ftp://x", "http://user:pw@x", "http://x/v1", "x"):
        with pytest.raises(ValueError, match="url"):
            SamplerElsewhere(url=wrong, weights="x")
