"""`lehr serve`: a model over HTTP, for OpenAI's clients."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lehr.cli.model import artifact_argument
from lehr.cli.places import LOCAL, Where
from lehr.cli.say import say

if TYPE_CHECKING:
    from lehr.model.generate import LanguageModel

TOKEN = "LEHR_SERVE_TOKEN"
_LEAST_TOKEN = 16  # characters
_LABEL = re.compile(r"[^A-Za-z0-9._-]+")


@click.command("serve")
@artifact_argument
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="0 takes a free one, and says which."
)
@click.option("--host", default="", metavar="ADDRESS", help="Listen there, and not on loopback; needs a token.")
@click.option("--name", default="", help="The model's name for clients; by default the artifact's, or the folder's.")
@click.option("--rows", type=click.IntRange(1, 1024), default=32, show_default=True, help="Answers decoded at once.")
@click.option("--waiting", type=click.IntRange(1), default=1024, show_default=True, help="Answers that may wait for a row.")
@click.option("--weights", type=LOCAL, metavar="FOLDER", help="Let clients load other weights from below FOLDER.")
def serve(artifact: Where, port: int, host: str, name: str, rows: int, waiting: int, weights: Path | None) -> None:
    """Answer requests with ARTIFACT's model, in the words of OpenAI's API.

    ARTIFACT is a checkpoint's folder, a run's (then it is the run's last model), or a Hugging Face folder with `config.json`,
    safetensors and `tokenizer.json`.

    \b
    POST /v1/chat/completions   for models that were taught to chat
    POST /v1/completions        text or token ids, one prompt or several
    GET  /v1/models, /health, /metrics (Prometheus)

    Both take n, max_tokens, temperature (1 unless given), top_p, stop, seed, logprobs and stream, completions echo too, and
    vLLM's stop_token_ids, ignore_eos, return_token_ids and prompt_logprobs. What it does not know (tools, images, penalties)
    is refused with status 400, and never ignored. Log-probabilities are in nats, in fp32, of the logits over the request's
    temperature (over 1 at temperature 0), whatever top_p leaves out.

    Requests that come while others are answered join them at the next token. A `seed` gives the same answer again, up to
    rounding: the sums of a product are added in another order when another number of answers is decoded with it.

    It listens on this machine's loopback, for whoever has an account on it. With --host it listens where that says, and then
    every request but /health must bring the bearer token that LEHR_SERVE_TOKEN holds (OpenAI's clients call it the API key);
    there is no TLS. A request has at most 8 MiB. Where too many answers wait, or more than 128 connections are open, the status
    is 429; /health and /metrics are answered even then.

    With --weights, `POST /v1/load {"path": "step-12"}` takes over the weights of the Hugging Face folder FOLDER/step-12, once
    the answers that were begun are complete. Training uses it: the key `sampler` of a grpo step (docs/recipes.md).

    Ctrl-C ends it with exit code 130, SIGTERM with 143; whatever is not answered by then gets an error.

    \b
    Examples:
      lehr serve runs/tiny-olmo2
      lehr serve runs/tiny-olmo2 --port 0 --rows 64
      curl -s http://127.0.0.1:8000/v1/chat/completions --json \\
        '{"messages": [{"role": "user", "content": "What is 7 + 8?"}]}'
    """
    token = _token(host)
    model, label = _loaded(artifact)
    _serve(model, name or label, (host, port, token), (rows, waiting), weights)


def _token(host: str) -> str:
    """The token that clients need: LEHR_SERVE_TOKEN. Raises UserError where there must be one and is none."""
    from lehr.runtime.errors import UserError
    from lehr.serving.listening import LOOPBACK

    token = os.environ.get(TOKEN, "")
    if not token and host and host not in LOOPBACK:
        raise UserError(
            f"other machines reach {host}, and {TOKEN} is not set",
            remedy=f"set {TOKEN} to a secret that clients send as their API key, or leave --host out",
        )
    if token and (len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise UserError(
            f"{TOKEN} is no token: it has fewer than {_LEAST_TOKEN} characters, or others than ASCII's printable ones",
            remedy="make one with `openssl rand -hex 32`",
        )
    return token


def _loaded(where: Where) -> tuple[LanguageModel, str]:
    """The model to serve, and what it is called. Raises UserError if there is none, or if its files are damaged."""
    from lehr.artifacts.artifact import MANIFEST
    from lehr.cli.locate import find, whole
    from lehr.distributed.device import own_device
    from lehr.distributed.ranks import Ranks
    from lehr.model.generate import LanguageModel

    if isinstance(where, Path) and (where / "config.json").is_file() and not (where / MANIFEST).is_file():
        from lehr.serving.folder import served_folder

        model, label = served_folder(where), where.absolute().name
    else:
        from lehr.train.checkpointing.checkpoint import load_checkpoint

        artifact = whole(find(where).expect("checkpoint"))
        artifact.verify()
        loaded = load_checkpoint(artifact)
        model, label = LanguageModel(loaded.model, loaded.tokenizer, chat=loaded.chat), artifact.manifest.stage
    model.model.eval().to(own_device(Ranks()))
    return model, _LABEL.sub("-", label).strip("-") or "model"


def _serve(model: LanguageModel, name: str, place: tuple[str, int, str], limits: tuple[int, int], weights: Path | None) -> None:
    """Serve until a signal comes. Raises Interrupted or Preempted then, UserError where nothing can listen there."""
    from lehr.monitoring.serving.inference import serving_exposition
    from lehr.runtime.errors import UserError
    from lehr.runtime.preemption import listening
    from lehr.serving.engine import Engine
    from lehr.serving.http import Service, handler
    from lehr.serving.listening import Connections, listen
    from lehr.serving.weights import Weights

    if weights is not None and not weights.is_dir():
        raise UserError("there is no such folder", where=weights, remedy="make it, or leave --weights out")
    host, port, token = place
    engine, connections = Engine(model, *limits), Connections()
    exposition = serving_exposition(engine, connections)
    service = Service(engine, name, Weights(engine, weights), exposition.render, token, int(time.time()))
    try:
        listeners, address = listen(host, port, handler(service), connections)
    except UserError:
        engine.close()
        raise
    chats = "" if model.chat else "a base model, without chat; "
    say(f"{name}: {address}/v1  ({chats}context {model.max_length} tokens, {limits[0]} answers at once; Ctrl-C ends it)")
    try:
        with listening():
            threading.Event().wait()
    finally:
        for listener in listeners:
            listener.shutdown()
            listener.server_close()
        engine.close()
