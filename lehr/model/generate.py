"""Batched generation with a KV cache, and scoring of given continuations, for evaluation, roll-outs and chat.
Shapes: B sequences still running, T columns of this call, V vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lehr.data.tokenizer import Tokenizer
from lehr.model.decode import Decoder
from lehr.model.packed import packed
from lehr.model.score import Scored, Watch, scored_paths, unit_width
from lehr.model.score_batches import scored_in_batches
from lehr.model.score_plan import Pair, Path, path_of, shares
from lehr.model.transformer import Transformer
from lehr.runtime.errors import diverged

_GENERATE_ROWS = 128  # prompts decoded at once


@dataclass
class LanguageModel:
    """A model with its tokenizer: implements `lehr.evals.task.ScoringModel` and `lehr.runtime.ports.Sampler`. `watch` is told
    how many requests of a list are scored, while they are."""

    model: Transformer
    tokenizer: Tokenizer
    chat: bool = False
    watch: Watch | None = None

    @property
    def max_length(self) -> int:
        return self.model.config.max_seq_len

    def logprobs(self, pairs: Sequence[Pair]) -> list[Scored]:
        """For each (context ids, continuation ids): the summed log-probability of the continuation in nats, its number of
        tokens, and whether greedy decoding would have produced it; (0.0, 0, True) for an empty continuation. Contexts are cut
        on the left to fit the model, and a continuation that is longer than the model's length keeps its end alone; an empty
        context is replaced by the end-of-text token, which precedes every document in training. No bit of an answer depends on
        the other requests (`lehr.model.score`), unless the model is divided among ranks. Raises UserError if the model's
        probabilities are not finite."""
        paths = self._paths(pairs)
        if not self.model.keeps_cache:
            return scored_in_batches(self.model, paths, self.tokenizer.pad_id)
        return scored_paths(self.model, paths, self.watch)

    def shares(self, pairs: Sequence[Pair], parts: int) -> list[list[int]]:
        """The numbers of the requests that have something to compute, in `parts` shares of about equal cost: those that begin
        alike are together."""
        return shares(self._paths(pairs), parts)

    def _paths(self, pairs: Sequence[Pair]) -> list[Path]:
        width = unit_width(self.device)
        return [path_of(pair, self.tokenizer.eos_id, self.max_length, width) for pair in pairs]

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
