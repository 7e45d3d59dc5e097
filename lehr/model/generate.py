"""Batched generation with a KV cache, and scoring of given continuations, for evaluation, roll-outs and chat.
Shapes: B sequences still running, T columns of this call, V vocabulary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lehr.data.tokenizer import Tokenizer
from lehr.model.decode import Decoder
from lehr.model.packed import packed
from lehr.model.transformer import Transformer
from lehr.runtime.errors import diverged

_SCORE_TOKENS = 8192  # padded tokens in a scoring batch
_GENERATE_ROWS = 128  # prompts decoded at once


@dataclass
class LanguageModel:
    """A model with its tokenizer: implements `lehr.evals.task.ScoringModel` and `lehr.runtime.ports.Sampler`."""

    model: Transformer
    tokenizer: Tokenizer
    chat: bool = False

    @property
    def max_length(self) -> int:
        return self.model.config.max_seq_len

    @torch.no_grad()
    def logprobs(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, int, bool]]:
        """For each (context ids, continuation ids): the summed log-probability of the continuation in nats, its number of
        tokens, and whether greedy decoding would have produced it. Contexts are cut on the left to fit the model; an empty
        context is replaced by the end-of-text token, which precedes every document in training. Raises UserError if the model's
        probabilities are not finite."""
        order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]) - len(pairs[i][1]))
        out: list[tuple[float, int, bool]] = [(0.0, 0, True)] * len(pairs)
        for group in _batches(order, [len(c) + len(x) for c, x in pairs]):
            for i, result in zip(group, self._score([pairs[i] for i in group]), strict=True):
                out[i] = result
        return out

    def _score(self, pairs: list[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, int, bool]]:
        rows, wanted = [], []
        for context, continuation in pairs:
            ids = [*(context or [self.tokenizer.eos_id]), *continuation][-(self.max_length + 1) :]
            rows.append(ids)
            wanted.append(min(len(continuation), len(ids) - 1))
        width = max(map(len, rows)) - 1
        tokens_BT = torch.full((len(rows), width), self.tokenizer.pad_id)
        for b, ids in enumerate(rows):
            tokens_BT[b, : len(ids) - 1] = torch.tensor(ids[:-1])
        hidden_BTD = self.model.hidden(tokens_BT.to(self.device))
        results = []
        for b, (ids, n) in enumerate(zip(rows, wanted, strict=True)):
            logits_NV = self.model.logits(hidden_BTD[b, len(ids) - 1 - n : len(ids) - 1]).float()
            target_N = torch.tensor(ids[len(ids) - n :], device=self.device)
            picked = torch.log_softmax(logits_NV, dim=-1).gather(1, target_N[:, None])
            greedy = bool((logits_NV.argmax(dim=-1) == target_N).all())
            total = float(picked.sum())
            if math.isnan(total):
                raise diverged("the model's probabilities are not finite")
            results.append((total, n, greedy))
        return results

    def follow(self, step: int) -> None:
        """Nothing to do: it samples from the model in training itself. See lehr.runtime.ports.Sampler."""

    @property
    def device(self) -> torch.device:
        return self.model.cos.device

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        stop_ids: Sequence[int] = (),
        temperature: float = 0.0,
        seed: int = 0,
        *,
        rows: int = _GENERATE_ROWS,
        limits: Sequence[int] | None = None,
    ) -> list[list[int]]:
        """New token ids for each prompt, up to and including a stop id (end-of-text if none is given).

        Temperature 0 is greedy. Samples are a function of `seed` and the prompts. Prompts longer than the model's length less
        `max_new_tokens` keep their end. At most `rows` prompts are decoded at once; `limits` gives each prompt a limit of its
        own, at most `max_new_tokens`.
        """
        if not prompts:
            return []
        stops = list(stop_ids) or [self.tokenizer.eos_id]
        room = max(1, self.max_length - max_new_tokens)
        kept = [list(p or [self.tokenizer.eos_id])[-room:] for p in prompts]
        allowed = [max(1, min(max_new_tokens, self.max_length - 1, n)) for n in (limits or [max_new_tokens] * len(kept))]
        order = sorted(range(len(kept)), key=lambda i: len(kept[i]))
        generator = torch.Generator(device=self.device).manual_seed(seed)
        model = packed(self.model, min(rows, len(kept)), max(allowed))
        decoder = Decoder(model, kept, allowed, stops, self.tokenizer.pad_id)
        return decoder.run(order, rows, lambda logits_BV: _pick(logits_BV, temperature, generator))


def _pick(logits_BV: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Greedy at temperature 0, otherwise one sample for each row: shape (B,). Raises UserError for probabilities that are not
    finite."""
    if temperature == 0.0:
        return logits_BV.argmax(dim=-1)
    # By the inverse of the distribution function, in fp64: multinomial takes ten times as long on a CPU, a fifth of decoding.
    sums_BV = torch.softmax(logits_BV / temperature, dim=-1).cumsum(dim=-1, dtype=torch.float64)
    total_B1 = sums_BV[:, -1:]
    if not bool(total_B1.isfinite().all()):
        raise diverged("the model's probabilities are not finite")
    drawn_B1 = torch.rand(total_B1.shape, generator=generator, dtype=torch.float64, device=logits_BV.device) * total_B1
    found_B1 = torch.searchsorted(sums_BV, drawn_B1, right=True)  # right: a token of probability 0 is never found
    return found_B1[:, 0].clamp(max=logits_BV.shape[1] - 1)  # a product that was rounded up to the total


def _batches(order: list[int], lengths: list[int]) -> list[list[int]]:
    """Divide `order` (longest first) into batches of at most _SCORE_TOKENS padded tokens."""
    groups: list[list[int]] = []
    for i in order:
        if groups and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= _SCORE_TOKENS:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups
