"""Next-token training on a mix: what is read, how many tokens, the learning rate, and the loss. Shapes: B rows of a
micro-batch, T positions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lehr.config.mix import Mix
from lehr.config.optim import Optim
from lehr.config.schedule import BatchRamp, Schedule
from lehr.data.loader import Batch, Loader
from lehr.data.reading import open_loader
from lehr.data.repeats import repeats
from lehr.distributed.ranks import Ranks
from lehr.model.moe import Routing
from lehr.optim.schedule import by_tokens
from lehr.train.batches import Batches
from lehr.train.loop import Sums
from lehr.train.losses import IGNORE, CrossEntropy, cross_entropy, router_loss
from lehr.train.prefetch import Fetched, fetcher
from lehr.train.state import TrainState
from lehr.train.step_times import DATA, backpropagate, part

REPEAT_PERIOD, REPEAT_TIMES = 13, 32  # OLMo 2 section 3.1


@dataclass(frozen=True)
class TrainingPhase:
    """One phase of next-token training: what to read, how many tokens, the learning rate."""

    mix: Mix
    tokens: int
    batch_size: int
    sequence_length: int
    optim: Optim
    schedule: Schedule
    checkpoint_steps: int
    data_seed: int
    batch_ramp: BatchRamp | None = None
    document_mask: bool = False
    mask_repeats: bool = True

    @cached_property
    def batches(self) -> Batches:
        return Batches.of(self.tokens, self.batch_size, self.sequence_length, self.batch_ramp)

    @property
    def steps(self) -> int:
        return self.batches.total

    def rate(self, step: int, tokens: int) -> float:
        """Learning rate after `step` steps; a function of `tokens`, which skipped updates count too."""
        return by_tokens(self.schedule, self.optim.lr, tokens, self.batches.all_instances * self.sequence_length)

    def clip_norm(self, step: int, tokens: int) -> float:
        """The limit of the gradient norm after `tokens`."""
        warming = tokens < self.optim.clip_warmup_tokens
        return self.optim.clip_norm * (self.optim.clip_warmup_factor if warming else 1.0)

    def describe(self) -> dict[str, Any]:
        """For fingerprint and lineage: only what the result depends on, so not how often it is saved or evaluated."""
        said = {
            "mix": self.mix.model_dump(),
            "tokens": self.tokens,
            "batch_size": self.batch_size,
            "sequence_length": self.sequence_length,
            "optim": self.optim.model_dump(),
            "schedule": self.schedule.model_dump(),
            "data_seed": self.data_seed,
            "document_mask": self.document_mask,
            "mask_repeats": self.mask_repeats,
            "batch_ramp": self.batch_ramp.model_dump() if self.batch_ramp else None,
        }
        if self.optim.guard.rollback:  # the interval then changes the result: it decides which step a rollback returns to
            said["checkpoint_steps"] = self.checkpoint_steps
        return said


class Rows(Protocol):
    """A source of batches: see Loader.rows."""

    def rows(self, first: int, count: int, rank: int, world: int) -> Batch: ...


class NextToken:
    """Cross entropy plus z-loss, and the routers' losses, over the mix's windows; `weight` counts labelled tokens.

    Sums over micro-batches are sums over the batch: the micro-batch size only changes the order of additions.
    """

    def __init__(
        self,
        state: TrainState,
        loader: Rows,
        phase: TrainingPhase,
        micro_batch: int = 0,
        end_of_text: int = 0,
        loss: Callable[..., CrossEntropy] = cross_entropy,
    ) -> None:
        self.model, self.engine, self.loader, self.phase = state.model, state.optimizer, loader, phase
        self.micro_batch, self.end_of_text, self.loss = micro_batch, end_of_text, loss
        self.extras: tuple[str, ...] = ("cross_entropy", "masked_instances")
        self.extras += ("least_load",) if self.model.config.n_experts else ()
        self._ahead: Callable[[int], Fetched] | None = None

    def backward(self, step: int, ranks: Ranks) -> Sums:
        if self._ahead is None:
            self._ahead = fetcher(lambda step: self._fetch(step, ranks), self.phase.steps, self.model.cos.device)
        began = time.perf_counter()
        with part(DATA):
            batch = self._ahead(step).use()
        waited = time.perf_counter() - began
        total = Sums(0.0, 0.0, 0, {"cross_entropy": (0.0, 0.0), "masked_instances": (float(batch.masked), 1.0)})
        rows = len(batch.tokens_BT)
        size = self.micro_batch or rows
        for start in range(0, rows, size):
            rows_B = slice(start, start + size)
            total = self._micro(batch.tokens_BT[rows_B], batch.labels_BT[rows_B], batch.whole, total)
            self.engine.collect()
        return replace(total, data_seconds=waited)

    def _fetch(self, step: int, ranks: Ranks) -> Fetched:
        batch, masked = self.batch(step, ranks)
        # Computed on the host, where the labels are: asking the device would synchronise.
        whole = bool((batch.labels_BT != IGNORE).all())
        return Fetched(torch.from_numpy(batch.tokens_BT), torch.from_numpy(batch.labels_BT), masked, whole)

    def batch(self, step: int, ranks: Ranks) -> tuple[Batch, int]:
        """This rank's rows of global step `step`, and how many of them have no loss because they repeat themselves."""
        batch = self.loader.rows(*self.phase.batches.at(step), ranks.rank, ranks.world)
        return batch, _mask_repeats(batch) if self.phase.mask_repeats else 0

    def begins(self, tokens_BT: Tensor) -> Tensor | None:
        """Mask of the positions at which a document begins, or None if documents in one row may attend to each other."""
        if not self.phase.document_mask:
            return None
        ends_BT = tokens_BT == self.end_of_text
        return torch.cat([torch.ones_like(ends_BT[:, :1]), ends_BT[:, :-1]], dim=1)

    def _micro(self, tokens_BT: Tensor, labels_BT: Tensor, whole: bool, so_far: Sums) -> Sums:
        z_weight, begins_BT = self.phase.optim.z_loss, self.begins(tokens_BT)
        ce = self.loss(self.model, tokens_BT, labels_BT, with_z=z_weight > 0, begins_BT=begins_BT, whole=whole)
        loss = ce.nats + z_weight * ce.z + router_loss(ce, self.model.config)
        backpropagate(loss)
        nats, count = so_far.extra["cross_entropy"]
        # float64: fp32 sums over many micro-batches and ranks would round the reported loss.
        extra = {**so_far.extra, "cross_entropy": (nats + ce.nats.detach().double(), count + ce.tokens)}
        if ce.routing:
            least = least_load(ce.routing)
            # A minimum over micro-batches, not a sum: the least loaded expert of any of them.
            before = torch.as_tensor(extra["least_load"][0]) if "least_load" in extra else least
            extra["least_load"] = (torch.minimum(least, before), 1.0)
        return Sums(so_far.loss + loss.detach().double(), so_far.weight + ce.tokens, so_far.tokens + tokens_BT.numel(), extra)


def _mask_repeats(batch: Batch) -> int:
    """Mask the loss of instances that repeat themselves (OLMo 2 section 3.1: they cause gradient spikes); returns how many."""
    rows = [b for b, row in enumerate(batch.tokens_BT) if repeats(row, REPEAT_PERIOD, REPEAT_TIMES)]
    batch.labels_BT[rows] = IGNORE
    return len(rows)


def least_load(routing: list[Routing]) -> Tensor:
    """The smallest load of any expert in any layer, relative to an even load: 1 is balanced, 0 means an expert got no token."""
    return torch.stack([r.load_X.min().double() * len(r.load_X) / r.load_X.sum().double() for r in routing]).min()


def make_loader(shards: Path, tokenizer: Path, phase: TrainingPhase) -> Loader:
    """The phase's batches, as a pure function of step and rank."""
    return open_loader(shards, tokenizer, phase.mix, phase.batches.all_instances, phase.sequence_length, phase.data_seed)
