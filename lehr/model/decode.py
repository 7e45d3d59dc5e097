"""Decoding with refill: when a row's answer has ended, the row takes the next prompt at once.

Shapes: B rows, T columns of a call, S columns of the cache, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lehr.model.layers import KVCache
from lehr.model.transformer import Transformer

_DROP = 8  # ended rows are dropped once they are one in so many of the batch
Pick = Callable[[Tensor], Tensor]  # logits (B, V) -> ids (B,)


class Decoder:
    """One pass over many prompts with at most `rows` of them in the batch.

    All rows append at the same column of the cache. A prompt that takes over a row is prefilled separately, and its keys and
    values are copied to the columns just before that one. When no prompt waits, ended rows are dropped. Columns that no row
    needs any more are removed before the buffer is full, so memory does not grow with the number of prompts.
    """

    def __init__(
        self, model: Transformer, prompts: Sequence[list[int]], limits: Sequence[int], stops: Sequence[int], pad: int
    ) -> None:
        self.model, self.prompts, self.limits, self.stops, self.pad = model, prompts, limits, set(stops), pad
        self.out: list[list[int]] = [[] for _ in prompts]
        self.device = model.embed.weight.device
        self.width = max(map(len, prompts))
        self.longest = self.width + max(limits)

    @torch.no_grad()
    def run(self, order: Sequence[int], rows: int, pick: Pick) -> list[list[int]]:
        """Answer the prompts numbered in `order`, up to and including a stop id; the answers are in the order of the
        prompts."""
        waiting = deque(order)
        # Only refilled rows go beyond the columns of the first answers; twice the length makes compactions rare.
        self.length = self.longest if len(waiting) <= rows else 2 * self.longest
        self.owner = [waiting.popleft() for _ in range(min(rows, len(waiting)))]
        self.cache, ids_B = self._prefill(self.owner, self.width, self.length, pick)
        while True:
            self._append(ids_B)
            ended = [row for row, prompt in enumerate(self.owner) if self._ended(prompt)]
            if ended and waiting:
                ids_B = self._refill(ended, waiting, ids_B, pick)
                continue  # the tokens picked by the prefill are appended like any others
            # Only when many have ended, since each drop copies the cache.
            if len(ended) == len(self.owner) or len(ended) * _DROP >= len(self.owner):
                running = torch.tensor([r for r in range(len(self.owner)) if r not in set(ended)], device=self.device)
                if not len(running):
                    return self.out
                self.cache.keep_rows(running)
                self.owner, ids_B = [self.owner[r] for r in running.tolist()], ids_B[running]
            self._make_room()
            logits_BV = self.model.logits(self.model.newest(ids_B[:, None], self.cache)).float()
            ids_B = pick(logits_BV)

    def _append(self, ids_B: Tensor) -> None:
        for prompt, token in zip(self.owner, ids_B.tolist(), strict=True):
            if not self._ended(prompt):  # an ended row keeps decoding, in vain, until it is refilled or dropped
                self.out[prompt].append(token)

    def _ended(self, prompt: int) -> bool:
        answer = self.out[prompt]
        return bool(answer) and (answer[-1] in self.stops or len(answer) >= self.limits[prompt])

    def _prefill(self, numbers: Sequence[int], end: int, length: int, pick: Pick) -> tuple[KVCache, Tensor]:
        """A cache of `length` columns with the prompts, left-padded so that they end at column `end`, and their first
        tokens."""
        width = max(len(self.prompts[n]) for n in numbers)
        tokens_BT = torch.full((len(numbers), width), self.pad)
        for row, number in enumerate(numbers):
            ids = self.prompts[number]
            tokens_BT[row, width - len(ids) :] = torch.tensor(ids)
        start_B = torch.tensor([end - len(self.prompts[n]) for n in numbers], device=self.device)
        cache = KVCache(self.model.config, len(numbers), length, start_B, self.model.embed.weight.dtype)
        cache.begin_at(end - width)
        return cache, pick(self.model.logits(self.model.newest(tokens_BT.to(self.device), cache)).float())

    def _refill(self, ended: list[int], waiting: deque[int], ids_B: Tensor, pick: Pick) -> Tensor:
        """Give ended rows to waiting prompts. The other rows decode one token first, since all rows append at one column."""
        self._make_room()
        logits_BV = self.model.logits(self.model.newest(ids_B[:, None], self.cache)).float()
        ids_B = pick(logits_BV)
        taken = ended[: len(waiting)]
        numbers = [waiting.popleft() for _ in taken]
        width = max(len(self.prompts[n]) for n in numbers)
        fresh, first_B = self._prefill(numbers, width, width, pick)
        rows = torch.tensor(taken, device=self.device)
        at = slice(self.cache.used - width, self.cache.used)
        self.cache.keys[:, rows, :, at] = fresh.keys
        self.cache.values[:, rows, :, at] = fresh.values
        self.cache.start_B[rows] = self.cache.used - width + fresh.start_B
        self.cache.first = int(self.cache.start_B.min())
        ids_B[rows] = first_B
        for row, number in zip(taken, numbers, strict=True):
            self.owner[row] = number
        return ids_B

    def _make_room(self) -> None:
        """When the buffer is full, remove the columns before every row's first one."""
        cache = self.cache
        if cache.used < self.length:
            return
        first = min(cache.first, cache.used - self.width)  # a refill needs as many columns as the longest prompt
        # clone(): source and target overlap.
        kept = cache.used - first
        cache.keys[:, :, :, :kept] = cache.keys[:, :, :, first : cache.used].clone()
        cache.values[:, :, :, :kept] = cache.values[:, :, :, first : cache.used].clone()
        cache.start_B -= first
        cache.first, cache.used = cache.first - first, kept
