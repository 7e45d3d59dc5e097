"""The Sampler port over HTTP: an inference engine elsewhere that is given the weights in training before each roll-out.

Token ids go in and come out by vLLM's words for it: a list of ids as `prompt`, `return_token_ids`, `stop_token_ids`.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lehr.config.sampler import SamplerElsewhere
from lehr.data.tokenizer import FILE
from lehr.distributed.ranks import Ranks
from lehr.interop.hf_export import export_hf
from lehr.model.generate import LanguageModel
from lehr.model.lora import plain_weights
from lehr.post.engine_client import EngineClient
from lehr.runtime.errors import LehrError, UserError, from_os_error, from_words, in_words
from lehr.runtime.seeds import derive

_NEUTRAL = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}  # else a server's own defaults would count
_IN_PLACE = "policy"  # below `weights`: the folder that vLLM serves


class HttpSampler:
    """Answers with the engine that `settings` name. `policy` is the model in training, whose weights the engine gets from rank
    0 at each `follow`. See lehr.runtime.ports.Sampler and lehr.runtime.reporting_sampler."""

    def __init__(self, policy: LanguageModel, settings: SamplerElsewhere, ranks: Ranks) -> None:
        self._policy, self._settings, self._ranks = policy, settings, ranks
        self._client = EngineClient(settings.url, settings.timeout_seconds)
        self._model = settings.model
        self._logprobs: list[list[float]] | None = None
        self._written: Path | None = None

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        stop_ids: Sequence[int] = (),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[list[int]]:
        """See Sampler. Each prompt is a request with a seed of its own. Raises InfraError where the engine does not answer,
        UserError where it refuses a request or returns no token ids."""
        self._logprobs = None
        if not prompts:
            return []
        limit = max(1, min(max_new_tokens, self._policy.max_length - 1))
        room = max(1, self._policy.max_length - limit)
        eos = self._policy.tokenizer.eos_id
        common = {
            "model": self._name(), "max_tokens": limit, "temperature": temperature, "stop_token_ids": list(stop_ids) or [eos],
            "ignore_eos": True, "logprobs": 0, "return_token_ids": True, **_NEUTRAL,
        }  # fmt: skip
        bodies = [
            {**common, "prompt": list(prompt or [eos])[-room:], "seed": derive(seed, "prompt", i)}
            for i, prompt in enumerate(prompts)
        ]
        with ThreadPoolExecutor(min(self._settings.concurrency, len(bodies)), "engine") as pool:
            found = list(pool.map(self._answer, bodies))
        if all(logprobs is not None for _, logprobs in found):
            self._logprobs = [logprobs or [] for _, logprobs in found]
        return [ids for ids, _ in found]

    def sampled_logprobs(self) -> list[list[float]] | None:
        """See ReportingSampler."""
        return self._logprobs

    def follow(self, step: int) -> None:
        """Hand the policy's weights over. A collective. Raises UserError where they cannot be written or the engine refuses
        them, InfraError where it does not answer: on every rank."""
        words: dict[str, str] = {}
        if self._ranks.first:
            try:
                self._hand_over(step)
            except LehrError as error:
                words = in_words(error)
        if told := self._ranks.gather(words)[0]:
            raise from_words(told)

    def _answer(self, body: dict[str, Any]) -> tuple[list[int], list[float] | None]:
        answer = self._client.ask("POST", "/v1/completions", body)
        try:
            choice = answer["choices"][0]
            ids = [int(token) for token in choice["token_ids"]]
        except (KeyError, IndexError, TypeError, ValueError):
            raise self._unfit("it returns no token ids (vLLM does from 0.10.2 on)") from None
        rows = self._policy.model.config.vocab_size
        if not ids or min(ids) < 0 or max(ids) >= rows:
            raise self._unfit(f"it answers with token ids that are not among the model's {rows}")
        stops = set(body["stop_token_ids"])
        end = next((n for n, token in enumerate(ids, 1) if token in stops), len(ids))
        return ids[:end], _logprobs(choice, len(ids), end)

    def _unfit(self, what: str) -> UserError:
        return UserError(what, where=self._settings.url, remedy="serve the model that is trained, with `lehr serve` or vLLM")

    def _name(self) -> str:
        """What the engine calls the model."""
        if not self._model:
            found = self._client.first_model()
            if found is None:
                raise self._unfit("it names no model at /v1/models")
            self._model = found
        return self._model

    def _hand_over(self, step: int) -> None:
        root = Path(self._settings.weights)
        name = _IN_PLACE if self._settings.engine == "vllm" else f"step-{step:08d}"
        try:
            self._write(root / name)
        except OSError as error:
            raise from_os_error(error, root) from error
        if self._settings.engine == "vllm":
            # Both are there with VLLM_SERVER_DEV_MODE=1. What is cached of prompts is the old weights'.
            self._client.ask("POST", "/collective_rpc", {"method": "reload_weights"})
            self._client.ask("POST", "/reset_prefix_cache")
            return
        self._client.ask("POST", "/v1/load", {"path": name})
        if self._written is not None and self._written != root / name:
            shutil.rmtree(self._written, ignore_errors=True)
        self._written = root / name

    def _write(self, folder: Path) -> None:
        """The policy as a Hugging Face folder, which appears whole: it takes the place of one that is there."""
        beside, before = (folder.with_name(f".{folder.name}.{kind}-{os.getpid()}") for kind in ("new", "old"))
        for rest in (beside, before):
            shutil.rmtree(rest, ignore_errors=True)
        beside.mkdir(parents=True)
        model, tokenizer = self._policy.model, self._policy.tokenizer
        tokenizer.save(beside)
        weights = plain_weights(model)
        export_hf(weights, model.config, beside / FILE, None, beside)
        if folder.exists():
            os.replace(folder, before)
        os.replace(beside, folder)
        shutil.rmtree(before, ignore_errors=True)


def _logprobs(choice: dict[str, Any], count: int, end: int) -> list[float] | None:
    """The first `end` of `count` log-probabilities; None where the engine returns none, or not one for each token."""
    found = (choice.get("logprobs") or {}).get("token_logprobs")
    if not isinstance(found, list) or len(found) != count:
        return None
    numbers = [value for value in found[:end] if isinstance(value, int | float) and math.isfinite(value)]
    return [float(value) for value in numbers] if len(numbers) == end else None
