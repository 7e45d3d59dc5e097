"""Supervised fine-tuning: loss on the assistant's tokens only. Shapes: B rows of this rank, T columns."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lehr.data.loader import Loader
from lehr.distributed.ranks import Ranks
from lehr.model.transformer import Transformer
from lehr.post.batches import Batches
from lehr.post.packing import packed
from lehr.post.rendered import Rendered as Rendered
from lehr.train.loop import Sums
from lehr.train.losses import IGNORE, cross_entropy
from lehr.train.step_times import DATA, backpropagate, part

Reduction = Literal["mean", "sum"]
_HOST = torch.device("cpu")


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


@dataclass(frozen=True)
class Replay:
    """`rows` windows of pretraining text in each step, against forgetting."""

    loader: Loader
    rows: int


class SftObjective:
    """Cross entropy over a pool of rendered conversations, and over replayed pretraining windows if there are any.

    The loss is a mean over trained and replayed tokens alike. With `reduction` "sum" it is each conversation's sum of nats, as
    a mean over the batch's conversations: every token of every batch counts alike, however many tokens a batch has (OLMo 2
    Table 17: `sum`). A replayed window then counts as one conversation. A conversation's `weight` multiplies its nats, and its
    tokens or itself in what they are divided by (C-RLFT, lehr.post.conditioning).
    """

    extras: tuple[str, ...] = ("chat_loss",)

    def __init__(
        self,
        model: Transformer,
        pool: Sequence[Rendered],
        batches: Batches,
        replay: Replay | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        self.model, self.pool, self.batches, self.replay, self.reduction = model, pool, batches, replay, reduction

    def backward(self, step: int, ranks: Ranks) -> Sums:
        began = time.perf_counter()
        with part(DATA):
            mine = [self.pool[i] for i in ranks.split(self.batches.rows(step).tolist())]
            device, weights = self.model.cos.device, dict.fromkeys(row.weight for row in mine)
            rows = [(w, row) for w in weights for row in packed([each for each in mine if each.weight == w], device)]
        waited = time.perf_counter() - began
        loss, weight, nats, tokens, seen = 0.0, 0.0, 0.0, 0, 0
        for w, row in rows:
            ce = cross_entropy(self.model, row.tokens_1N, row.labels_1N, with_z=False, documents=row.documents)
            backpropagate(w * ce.nats)
            own = float(ce.nats.detach())
            loss, weight, nats, tokens = loss + w * own, weight + w * ce.tokens, nats + own, tokens + ce.tokens
            seen += row.tokens_1N.numel()
        weight = weight if self.reduction == "mean" else math.fsum(row.weight for row in mine)
        sums = Sums(loss, weight, seen, {"chat_loss": (nats, tokens)}, data_seconds=waited)
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
        counted = ce.tokens if self.reduction == "mean" else len(tokens_BT)
        loss, weight, seen = chat.loss + float(ce.nats.detach()), chat.weight + counted, chat.tokens + tokens_BT.numel()
        return Sums(loss, weight, seen, chat.extra, data_seconds=waited)
