"""SFT's rows without padding, against conversations padded to the longest of their batch: ours, and Hugging Face's."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks import models
from benchmarks.common import LEHR, Record, compared, in_turns, main
from lehr.model.transformer import Transformer
from lehr.post.packing import packed
from lehr.post.rendered import Rendered
from lehr.post.sft import pad
from lehr.train.losses import IGNORE, cross_entropy

CONVERSATIONS, BATCH, TRAINED = 32, 8, 0.6
PADDED = f"padded batches of {BATCH}"
_CPU = torch.device("cpu")


def conversations(longest: int) -> list[Rendered]:
    """Lengths of a log-normal distribution, a quarter of the longest on average; 60 % of the tokens are trained."""
    draw = np.random.default_rng(5)
    lengths = np.exp(draw.normal(0, 0.9, CONVERSATIONS))
    lengths = np.clip(lengths * (longest / 4) / lengths.mean(), 8, longest).astype(int)
    vocabulary = models.config("4M").vocab_size
    return [Rendered(draw.integers(0, vocabulary, n).tolist(), (draw.random(n) < TRAINED).tolist()) for n in lengths]


def ours_packed(model: Transformer, rows: Sequence[Rendered], longest: int) -> float:
    """The summed loss of all rows, its gradient added up."""
    model.zero_grad()
    total = 0.0
    for row in packed(rows, _CPU, longest):
        nats = cross_entropy(model, row.tokens_1N, row.labels_1N, with_z=False, documents=row.documents).nats
        nats.backward()
        total += float(nats.detach())
    return total


def ours_padded(model: Transformer, rows: Sequence[Rendered]) -> float:
    """The same, each batch padded to its longest."""
    model.zero_grad()
    total = 0.0
    for first in range(0, len(rows), BATCH):
        nats = cross_entropy(model, *pad(rows[first : first + BATCH], 1), with_z=False).nats
        nats.backward()
        total += float(nats.detach())
    return total


def theirs_padded(model: torch.nn.Module, rows: Sequence[Rendered]) -> float:
    """Hugging Face's Olmo2 on the same padded batches."""
    model.zero_grad()
    total = 0.0
    for first in range(0, len(rows), BATCH):
        batch = rows[first : first + BATCH]
        tokens_BT, labels_BT = pad(batch, 1)
        mask_BT = torch.arange(tokens_BT.shape[1]) < torch.tensor([[len(row.ids) - 1] for row in batch])
        logits = model(tokens_BT, attention_mask=mask_BT.long()).logits.flatten(0, 1)
        nats = torch.nn.functional.cross_entropy(logits, labels_BT.flatten(), ignore_index=IGNORE, reduction="sum")
        nats.backward()
        total += float(nats.detach())
    return total


def run() -> Sequence[Record]:
    """Trained tokens per processor second, forward and backward of 32 conversations at 4M parameters, fp32."""
    records = []
    for longest in (256, 1024):
        rows, model = conversations(longest), models.ours("4M", longest)
        theirs = models.hugging_face(model)
        trained = sum(sum(row.mask[1:]) for row in rows)
        share = sum(len(row.ids) for row in rows) / CONVERSATIONS / longest
        calls: dict[str, Callable[[], float]] = {
            LEHR: lambda r=rows, m=model, w=longest: ours_packed(m, r, w),  # type: ignore[misc]
            PADDED: lambda r=rows, m=model: ours_padded(m, r),  # type: ignore[misc]
            f"Hugging Face, {PADDED}": lambda r=rows, m=theirs: theirs_padded(m, r),  # type: ignore[misc]
        }
        losses = {name: call() for name, call in calls.items()}
        apart = max(abs(loss / losses[LEHR] - 1) for loss in losses.values())
        if apart > 1e-5:
            raise SystemExit(f"the losses differ by {apart:.1e}: {losses}")
        seconds = in_turns(calls, turns=3, warm=1, clock=time.process_time)
        rates = {name: trained / value for name, value in seconds.items()}
        case = f"rows of at most {longest} tokens, {share:.0%} of that on average"
        note = f"losses differ by {apart:.0e}"
        records += [
            compared("packing", case, rates[LEHR], rate, name, "trained tokens/s", note=note, target=1.8)
            for name, rate in rates.items()
            if name != LEHR
        ]
    return records


if __name__ == "__main__":
    sys.exit(main("packing", run))
