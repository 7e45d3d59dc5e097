"""Next-token training on a mesh: which rank reads which rows, and the 1F1B schedule of a pipeline. Shapes: M rows of a
micro-batch, T positions, D model width."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

from lehr.distributed.ranks import Ranks
from lehr.distributed.sharding.losses import head_loss
from lehr.distributed.sharding.mesh import MeshCoordinates
from lehr.distributed.sharding.model_shard import ModelShard
from lehr.train.loop import Objective, Sums
from lehr.train.next_token import NextToken
from lehr.train.step_times import DATA, part


class OnMesh:
    """An objective whose batch is divided among the data-parallel ranks of a mesh: ranks of one replica of the model read the
    same rows, and one of them reports the sums."""

    def __init__(self, inner: Objective, place: MeshCoordinates) -> None:
        self.inner, self.place, self.extras = inner, place, inner.extras

    def backward(self, step: int, ranks: Ranks) -> Sums:
        """See Objective.backward."""
        sums = self.inner.backward(step, self.place.data)
        return sums if self.place.counts else sums.unsaid()


class PipelineNextToken:
    """NextToken with torch.distributed.pipelining: one forward, one backward in steady state (Narayanan et al. 2019), so that a
    stage holds only as many micro-batches as there are stages after it. Only the last stage has sums to report."""

    def __init__(self, inner: NextToken, part: ModelShard) -> None:
        self.inner, self.part, self.extras = inner, part, inner.extras
        self._schedules: dict[int, Schedule1F1B] = {}  # by the number of micro-batches, which grows with a batch ramp
        self._seen: list[tuple[Tensor, Tensor, int]] = []

    def backward(self, step: int, ranks: Ranks) -> Sums:
        """See Objective.backward."""
        began = time.perf_counter()
        with part(DATA):
            batch, masked = self.inner.batch(step, ranks)
        waited = time.perf_counter() - began
        device = self.part.place.device
        tokens_BT, labels_BT = torch.from_numpy(batch.tokens_BT).to(device), torch.from_numpy(batch.labels_BT).to(device)
        begins_BT = self.inner.begins(tokens_BT)
        named: dict[str, Any] = {} if begins_BT is None else {"begins_BT": begins_BT}
        schedule = self._schedule(len(tokens_BT), tokens_BT.shape[1])
        self._seen = []
        if self.part.first:
            schedule.step(tokens_BT, **named)
        elif self.part.last:
            schedule.step(target=labels_BT, return_outputs=False, **named)
        else:
            schedule.step(**named)
        loss, nats = (math.fsum(float(entry[i]) for entry in self._seen) for i in (0, 1))
        tokens = sum(entry[2] for entry in self._seen)
        extra = {"cross_entropy": (nats, float(tokens)), "masked_instances": (float(masked), 1.0)}
        return Sums(loss, tokens, tokens_BT.numel(), extra, data_seconds=waited)

    def _schedule(self, rows: int, T: int) -> Schedule1F1B:
        micro = self.inner.micro_batch or 1
        count = rows // micro
        if count not in self._schedules:
            place, config = self.part.place, self.part.config
            hidden = torch.empty(micro, T, config.d_model, dtype=place.activations, device="meta", requires_grad=True)
            first = torch.empty(micro, T, dtype=torch.int64, device="meta") if self.part.first else hidden
            stage = PipelineStage(
                self.part, place.stage, place.parallel.pipeline, place.device, first, hidden, group=place.group("pipeline")
            )
            loss: Any = self._loss if self.part.last else _never
            # scale_grads would divide by the number of micro-batches; the loop divides once by the global weight instead.
            self._schedules[count] = Schedule1F1B(stage, count, loss_fn=loss, scale_grads=False)
        return self._schedules[count]

    def _loss(self, hidden_MTD: Tensor, labels_MT: Tensor) -> Tensor:
        z_weight = self.inner.phase.optim.z_loss
        ce = head_loss(self.part, hidden_MTD, labels_MT, z_weight > 0, [])
        loss = ce.nats + z_weight * ce.z
        self._seen.append((loss.detach(), ce.nats.detach(), ce.tokens))
        return loss


def _never(*_arguments: Any) -> Tensor:
    raise RuntimeError("the schedule asked a stage without a head for a loss")
