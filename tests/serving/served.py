"""A tiny model behind a server of this process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from lehr.config.model import Model
from lehr.config.sampler import SamplerElsewhere
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Ranks
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.monitoring.serving.inference import serving_exposition
from lehr.post.http_sampler import HttpSampler
from lehr.serving.engine import Engine
from lehr.serving.http import Service, handler
from lehr.serving.listening import CONNECTIONS, Connections, listen
from lehr.serving.weights import Weights

TOKENIZER = Tokenizer.train(["the quick brown fox jumps over the lazy dog. größer, naïve, 東京 " * 20], 320)
NAME = "tiny"


def tiny(seed: int = 1, *, chat: bool = True, length: int = 64) -> LanguageModel:
    config = Model(
        vocab_size=TOKENIZER.vocab_size, n_layers=2, d_model=32, n_heads=2, n_kv_heads=2, mlp_hidden=48, max_seq_len=length,
        init_std=0.3,
    )  # fmt: skip
    return LanguageModel(Transformer(config).initialise(seed), TOKENIZER, chat=chat)


def sampler_of(policy: LanguageModel, url: str, folder: Path, **more: Any) -> HttpSampler:
    """The engine at `url` as the sampler of one rank."""
    return HttpSampler(policy, SamplerElsewhere(url=url, weights=str(folder), **more), Ranks())


class Server:
    """A server and a plain client of it."""

    def __init__(self, engine: Engine, port: int, places: Connections) -> None:
        self.engine, self.port, self.places = engine, port, places
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """The status and the body, as JSON where it is."""
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, raw, sent)
            response = connection.getresponse()
            text = response.read().decode()
            return response.status, json.loads(text) if "json" in response.headers.get("Content-Type", "") else text
        finally:
            connection.close()


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "too late"
        time.sleep(0.02)


@contextmanager
def serving(
    model: LanguageModel,
    *,
    rows: int = 8,
    waiting: int = 64,
    weights: Path | None = None,
    token: str = "",
    connections: int = CONNECTIONS,
) -> Iterator[Server]:
    engine, places = Engine(model, rows, waiting), Connections()
    places.limit = connections
    exposition = serving_exposition(engine, places)
    exposition.fresh_seconds = 0.0
    service = Service(engine, NAME, Weights(engine, weights), exposition.render, token)
    listeners, address = listen("", 0, handler(service), places)
    try:
        yield Server(engine, int(address.rpartition(":")[2]), places)
    finally:
        for listener in listeners:
            listener.shutdown()
            listener.server_close()
        engine.close()
