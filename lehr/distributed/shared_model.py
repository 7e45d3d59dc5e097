"""A language model whose scoring and sampling are divided among the ranks: the same results in less time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Ranks
from lehr.model.generate import LanguageModel
from lehr.runtime import seeds
from lehr.runtime.ports import Sampler


@dataclass
class SharedModel:
    """Every rank calls the same methods with the same arguments and gets the same results. `sampler`, if given, generates
    instead of `inner`."""

    inner: LanguageModel
    ranks: Ranks
    sampler: Sampler | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        return self.inner.tokenizer

    @property
    def max_length(self) -> int:
        return self.inner.max_length

    def logprobs(self, batch: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, int, bool]]:
        """See LanguageModel.logprobs. Requests that begin alike are one rank's, as far as the ranks' work is still even."""
        shares = self.inner.shares(batch, self.ranks.world)
        mine = self.inner.logprobs([batch[i] for i in shares[self.ranks.rank]])
        found: list[tuple[float, int, bool]] = [(0.0, 0, True)] * len(batch)  # of those without a token to score
        for share, scored in zip(shares, self.ranks.gather(mine), strict=True):
            for i, one in zip(share, scored, strict=True):
                found[i] = one
        return found

    def generate(
        self, prompts: Sequence[list[int]], max_new_tokens: int, stop_ids: Sequence[int], temperature: float, seed: int
    ) -> list[list[int]]:
        """See LanguageModel.generate. Each rank derives a seed of its own: with one seed their samples would be correlated."""
        own, answering = seeds.derive(seed, "rank", self.ranks.rank), self.sampler or self.inner
        mine = answering.generate(self.ranks.split(list(prompts)), max_new_tokens, stop_ids, temperature, own)
        return self.ranks.join(self.ranks.gather(mine))
