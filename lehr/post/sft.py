"""Supervised fine-tuning: loss on the assistant's tokens only. Shapes: B rows of this rank, T columns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lehr.data.loader import Loader
from lehr.distributed.ranks import Ranks
from lehr.model.transformer import Transformer
from lehr.runtime import seeds
from lehr.train.loop import Sums
from lehr.train.losses import IGNORE, cross_entropy
from lehr.train.step_times import DATA, backpropagate, part


@dataclass(frozen=True)
class Rendered:
    """One rendered conversation: token ids, and the mask of those that have a loss."""

    ids: list[int]
    mask: list[bool]


_HOST = torch.device("cpu")


def rows_of_step(step: int, batch_size: int, size: int, seed: int) -> np.ndarray:
    """The indices, of `size` examples, in the global batch of `step`: a keyed permutation for each epoch, shape
    (batch_size,)."""
    position = np.arange(step * batch_size, (step + 1) * batch_size)
    epoch, within = position // size, position % size
    out = np.empty(batch_size, dtype=np.int64)
    for e in np.unique(epoch):
        chosen = epoch == e
        out[chosen] = seeds.permute(within[chosen], size, seeds.derive(seed, "epoch", int(e)))
    return out


def pad(rows: Sequence[Rendered], pad_id: int, device: torch.device = _HOST) -> tuple[Tensor, Tensor]:
    """Right-padded inputs and shifted labels (-100 outside the mask), both (B, T), made on the host and moved to `device`."""
    width = max((len(row.ids) for row in rows), default=1) - 1
    tokens_BT = torch.full((len(rows), width), pad_id)
    labels_BT = torch.full((len(rows), width), IGNORE)
    for b, row in enumerate(rows):
        ids = torch.tensor(row.ids)
        tokens_BT[b, : len(row.ids) - 1] = ids[:-1]
        labels_BT[b, : len(row.ids) - 1] = torch.where(torch.tensor(row.mask[1:]), ids[1:], IGNORE)
    return tokens_BT.to(device), labels_BT.to(device)


def halves(rows: list[Rendered]) -> list[list[Rendered]]:
    """The shorter and the longer half of `rows`: padded separately they waste less. Fewer than 8 rows stay together."""
    if len(rows) < 8:
        return [rows]
    ordered = sorted(rows, key=lambda row: len(row.ids))
    return [ordered[: len(rows) // 2], ordered[len(rows) // 2 :]]


@dataclass(frozen=True)
class Replay:
    """`rows` windows of pretraining text in each step, against forgetting."""

    loader: Loader
    rows: int


class SftObjective:
    """Cross entropy over a pool of rendered conversations, and over replayed pretraining windows if there are any.

    `weight` counts assistant tokens and replayed tokens alike.
    """

    extras: tuple[str, ...] = ("chat_loss",)

    def __init__(
        self,
        model: Transformer,
        pool: Sequence[Rendered],
        batch_size: int,
        seed: int,
        pad_id: int,
        replay: Replay | None = None,
    ) -> None:
        self.model, self.pool, self.batch_size, self.seed, self.pad_id = model, pool, batch_size, seed, pad_id
        self.replay = replay

    def backward(self, step: int, ranks: Ranks) -> Sums:
        began = time.perf_counter()
        with part(DATA):
            rows = ranks.split(rows_of_step(step, self.batch_size, len(self.pool), self.seed).tolist())
            padded = [pad(half, self.pad_id, self.model.cos.device) for half in halves([self.pool[i] for i in rows])]
        waited = time.perf_counter() - began
        nats, tokens, seen = 0.0, 0, 0
        for tokens_BT, labels_BT in padded:
            ce = cross_entropy(self.model, tokens_BT, labels_BT, with_z=False)
            backpropagate(ce.nats)
            nats, tokens, seen = nats + float(ce.nats.detach()), tokens + ce.tokens, seen + tokens_BT.numel()
        sums = Sums(nats, tokens, seen, {"chat_loss": (nats, tokens)}, data_seconds=waited)
        return sums if self.replay is None else self._replayed(step, ranks, self.replay, sums)

    def _replayed(self, step: int, ranks: Ranks, replay: Replay, chat: Sums) -> Sums:
        began = time.perf_counter()
        device = self.model.cos.device
        with part(DATA):
            batch = replay.loader.batch(step, ranks.rank, ranks.world, replay.rows)
            tokens_BT, labels_BT = torch.from_numpy(batch.tokens_BT).to(device), torch.from_numpy(batch.labels_BT).to(device)
        waited = chat.data_seconds + time.perf_counter() - began
        ce = cross_entropy(self.model, tokens_BT, labels_BT, with_z=False)
        backpropagate(ce.nats)
        loss, weight, seen = chat.loss + float(ce.nats.detach()), chat.weight + ce.tokens, chat.tokens + tokens_BT.numel()
        return Sums(loss, weight, seen, chat.extra, data_seconds=waited)
