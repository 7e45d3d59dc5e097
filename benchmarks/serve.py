"""`lehr serve` over HTTP: requests that come together, with continuous batching, against one after the other."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any

import torch

from benchmarks import models
from benchmarks.common import LEHR, Record, compared, in_turns, main
from lehr.data.tokenizer import Tokenizer
from lehr.model.generate import LanguageModel
from lehr.monitoring.serving.inference import serving_exposition
from lehr.serving.engine import Engine
from lehr.serving.http import Service, handler
from lehr.serving.listening import Connections, listen
from lehr.serving.weights import Weights

REQUESTS, PROMPT, ROWS = 32, 32, 16
ALONE = "one request at a time"


@contextmanager
def served(model: LanguageModel) -> Iterator[int]:
    """The port of a server of this process."""
    engine, connections = Engine(model, ROWS, 1024), Connections()
    exposition = serving_exposition(engine, connections)
    service = Service(engine, "m", Weights(engine, None), exposition.render)
    listeners, address = listen("", 0, handler(service), connections)
    try:
        yield int(address.rpartition(":")[2])
    finally:
        for listener in listeners:
            listener.shutdown()
            listener.server_close()
        engine.close()


def ask(port: int, body: dict[str, Any]) -> int:
    """The number of tokens of the answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return int(answer["usage"]["completion_tokens"])


def run() -> Sequence[Record]:
    """New tokens per second of 32 requests at 15M parameters, fp32, sampled, answers of 24 to 120 tokens."""
    model = LanguageModel(models.ours("15M", 512), Tokenizer.train(["a word or two"], 300))
    generator = torch.Generator().manual_seed(3)
    prompts = torch.randint(5, 8000, (REQUESTS, PROMPT), generator=generator).tolist()
    lengths = torch.randint(24, 121, (REQUESTS,), generator=generator).tolist()
    bodies = [
        {"prompt": prompt, "max_tokens": length, "ignore_eos": True, "seed": i, "return_token_ids": True}
        for i, (prompt, length) in enumerate(zip(prompts, lengths, strict=True))
    ]
    with served(model) as port:

        def together() -> None:
            with ThreadPoolExecutor(REQUESTS) as pool:
                assert sum(pool.map(lambda body: ask(port, body), bodies)) == sum(lengths)

        def one_by_one() -> None:
            assert sum(ask(port, body) for body in bodies) == sum(lengths)

        found = in_turns({LEHR: together, ALONE: one_by_one}, turns=3, warm=1)
    rates = {name: sum(lengths) / seconds for name, seconds in found.items()}
    note = f"at most {ROWS} answers at once"
    case = f"float32, {REQUESTS} requests over HTTP, answers of 24 to 120 tokens"
    return [compared("serve", case, rates[LEHR], rates[ALONE], ALONE, "tokens/s", note=note, target=2.5)]


if __name__ == "__main__":
    sys.exit(main("serve", run))
