"""Decoding of requests that come and go: one joins the rows that are decoded at any step, and leaves when its answer ends.

Shapes: R rows, T columns of a call, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import torch
from torch import Tensor

from lehr.model.layers import KVCache
from lehr.model.transformer import Transformer
from lehr.runtime.errors import diverged

_LEAST_COLUMNS = 64


@dataclass(frozen=True)
class Sampling:
    """How a row's tokens are chosen: greedily at temperature 0, else from the smallest set of tokens with probability `top_p`.
    Samples are a function of `seed` and the model's probabilities. `top`: so many likeliest tokens are reported with each."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    top: int = 0


@dataclass(frozen=True)
class Picked:
    """A token and its log-probability in nats, of the model's logits over the temperature (over 1 at temperature 0) in fp32,
    and those of the likeliest tokens, as asked."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(eq=False)
class Row:
    """One answer in the making. `newest` is its last token, which the cache does not hold yet."""

    prompt: Sequence[int]
    sampling: Sampling
    newest: int = -1
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.sampling.seed)


class OnlineDecoder:
    """The rows that are decoded now, and their keys and values.

    All rows append at the same column, like those of `lehr.model.decode.Decoder`. A joining prompt is prefilled alone and
    copied to the columns just before that one; a row that leaves gives its place to the last row. The buffers grow with what
    they must hold: to at most twice the model's length in columns.
    """

    def __init__(self, model: Transformer, pad: int) -> None:
        self.model, self.pad = model, pad
        self.device, self.dtype = model.embed.weight.device, model.embed.weight.dtype
        self.rows: list[Row] = []
        self._buffers = self._allocated(1, _LEAST_COLUMNS)

    @property
    def cache_bytes(self) -> int:
        """Memory of the keys and values, of places that no row has too."""
        return self._buffers.keys.nbytes + self._buffers.values.nbytes

    @torch.no_grad()
    def join(self, rows: Sequence[Row]) -> list[Picked]:
        """Prefill these rows' prompts in one batch and return their first tokens. A prompt has at least one token, and with its
        answer at most the model's length. Raises UserError if the model's probabilities are not finite."""
        width = max(len(row.prompt) for row in rows)
        self._make_room(len(self.rows) + len(rows), width)
        fresh, logits_RV = self._prefill(rows, width)
        picked = pick(logits_RV, rows)
        held, n = self._buffers, len(self.rows)
        mine, at = slice(n, n + len(rows)), slice(held.used - width, held.used)
        held.keys[:, mine, :, at], held.values[:, mine, :, at] = fresh.keys, fresh.values
        held.start_B[mine] = held.used - width + fresh.start_B
        self.rows += rows
        held.first = int(held.start_B[: len(self.rows)].min())
        return _kept(rows, picked)

    @torch.no_grad()
    def step(self) -> list[Picked]:
        """The next token of every row, in the order of `rows`. Raises UserError as `join` does."""
        self._make_room(len(self.rows), 0)
        ids_R1 = torch.tensor([[row.newest] for row in self.rows], device=self.device)
        cache = copy.copy(self._buffers)
        n = len(self.rows)
        cache.keys, cache.values, cache.start_B = cache.keys[:, :n], cache.values[:, :n], cache.start_B[:n]
        logits_RV = self.model.logits(self.model.newest(ids_R1, cache)).float()
        self._buffers.used = cache.used
        return _kept(self.rows, pick(logits_RV, self.rows))

    def leave(self, row: Row) -> None:
        """Free a row's place."""
        held, at, last = self._buffers, self.rows.index(row), len(self.rows) - 1
        if at != last:
            written = slice(held.first, held.used)
            for buffer in (held.keys, held.values):
                buffer[:, at, :, written] = buffer[:, last, :, written]
            held.start_B[at] = held.start_B[last]
            self.rows[at] = self.rows[last]
        self.rows.pop()
        held.first = int(held.start_B[: len(self.rows)].min()) if self.rows else held.used

    def _prefill(self, rows: Sequence[Row], width: int) -> tuple[KVCache, Tensor]:
        tokens_BT = torch.full((len(rows), width), self.pad)
        for b, row in enumerate(rows):
            tokens_BT[b, width - len(row.prompt) :] = torch.tensor(row.prompt)
        start_B = torch.tensor([width - len(row.prompt) for row in rows], device=self.device)
        cache = KVCache(self.model.config, len(rows), width, start_B, self.dtype)
        return cache, self.model.logits(self.model.newest(tokens_BT.to(self.device), cache)).float()

    def _make_room(self, rows: int, width: int) -> None:
        """Room for so many rows, for a prompt of `width` tokens before the next column, and for that column: the columns in use
        are moved, to larger buffers where these are too small."""
        held = self._buffers
        if not self.rows:
            held.first = held.used = width
        places, length = held.keys.shape[1], held.keys.shape[3]
        if rows <= places and width <= held.used < length:
            return
        first, end = held.first, max(width, held.used - held.first)
        new = self._allocated(places if rows <= places else max(rows, 2 * places), max(length, 2 * end))
        n, kept = len(self.rows), held.used - first
        source, target = slice(first, held.used), slice(end - kept, end)
        new.keys[:, :n, :, target], new.values[:, :n, :, target] = held.keys[:, :n, :, source], held.values[:, :n, :, source]
        new.start_B[:n] = held.start_B[:n] + (end - held.used)
        new.first, new.used = end - kept, end
        self._buffers = new

    def _allocated(self, rows: int, length: int) -> KVCache:
        """Zeros: a row looks at columns that are not its own with a weight of zero, which NaN would survive."""
        cache = KVCache(self.model.config, rows, length, torch.zeros(rows, dtype=torch.int64, device=self.device), self.dtype)
        cache.keys.zero_()
        cache.values.zero_()
        return cache


def _kept(rows: Sequence[Row], picked: list[Picked]) -> list[Picked]:
    for row, one in zip(rows, picked, strict=True):
        row.newest = one.token
    return picked


def pick(logits_RV: Tensor, rows: Sequence[Row]) -> list[Picked]:
    """One token for each row. Raises UserError if a row's logits are not finite."""
    wanted = [row.sampling for row in rows]
    over_R1 = torch.tensor([[s.temperature or 1.0] for s in wanted], device=logits_RV.device)
    logp_RV = torch.log_softmax(logits_RV / over_R1, dim=-1)
    if bool(logp_RV.isnan().any()):
        raise diverged("the model's probabilities are not finite")
    ids_R = logits_RV.argmax(dim=-1)
    drawn = [r for r, s in enumerate(wanted) if s.temperature > 0.0]
    if drawn:
        at = torch.tensor(drawn, device=ids_R.device)
        uniform_R = torch.tensor([rows[r].random.random() for r in drawn], dtype=torch.float64, device=ids_R.device)
        ids_R[at] = _drawn(logp_RV[at].double().exp(), [wanted[r].top_p for r in drawn], uniform_R)
    logprobs = logp_RV.gather(1, ids_R[:, None])[:, 0].tolist()
    most = min(max(s.top for s in wanted), logits_RV.shape[1])
    values, indices = (t.tolist() for t in logp_RV.topk(most, dim=-1)) if most else ([[]] * len(rows), [[]] * len(rows))
    return [
        Picked(token, logprob, tuple(zip(indices[r][: s.top], values[r][: s.top], strict=True)))
        for r, (token, logprob, s) in enumerate(zip(ids_R.tolist(), logprobs, wanted, strict=True))
    ]


def _drawn(p_RV: Tensor, top_p: Sequence[float], uniform_R: Tensor) -> Tensor:
    """Inverse transform sampling: for each row the first token at which the sum of probabilities exceeds its number in [0, 1).
    Unlike a sampler that uses the generator otherwise on each device, it changes with a probability's last bits only where the
    number lies within them."""
    if min(top_p) < 1.0:
        sorted_RV, order_RV = p_RV.sort(dim=-1, descending=True)
        limit_R1 = torch.tensor([[p] for p in top_p], dtype=p_RV.dtype, device=p_RV.device)
        outside_RV = (sorted_RV.cumsum(dim=-1) - sorted_RV >= limit_R1) & (limit_R1 < 1.0)
        outside_RV[:, 0] = False
        p_RV = torch.zeros_like(p_RV).scatter(1, order_RV, sorted_RV.masked_fill(outside_RV, 0.0))
    sums_RV = p_RV.cumsum(dim=-1)
    found_R = torch.searchsorted(sums_RV, (uniform_R * sums_RV[:, -1])[:, None], right=True)[:, 0]
    return found_R.clamp(max=p_RV.shape[1] - 1)
