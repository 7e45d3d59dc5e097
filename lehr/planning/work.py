"""A training stage as an amount of work: tokens, steps, FLOPs, and the learning rate along the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lehr.config.initial import BaseTraining
from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.config.schedule import BatchRamp, Schedule, StepSchedule
from lehr.model.size import flops_per_token
from lehr.optim.schedule import by_steps, by_tokens
from lehr.pipeline.node import Node
from lehr.runtime.errors import Bug
from lehr.train.batches import Batches

Rate = Callable[[float], float]


@dataclass(frozen=True)
class Work:
    """One training stage.

    `start` is where it begins on an axis of tokens that all stages share (anneals begin together, at their parent's end);
    `rate(tokens)` the learning rate after `tokens` of this stage; `pieces` the batch size in sequences from a token of the
    stage on. `how` says what the token count is: "exact", "estimated", or "at most".
    """

    name: str
    kind: str
    tokens: int
    steps: int
    sequence_length: int
    flops: float
    start: int
    rate: Rate
    pieces: tuple[tuple[int, int], ...]
    how: str = "exact"

    @property
    def batch_size(self) -> int:
        """Sequences of a full batch."""
        return self.pieces[-1][1]


@dataclass
class PlanPlace:
    """What a stage's plan may look at: the graph, and the stages planned before it."""

    model: Model
    recipe_seed: int
    nodes: Sequence[Node]
    base: BaseTraining | None = None  # what the model that the run begins with says of its training
    done: dict[str, Work] = field(default_factory=dict)

    def node(self, name: str) -> Node:
        """The node of that name. Raises Bug if there is none."""
        found = next((node for node in self.nodes if node.name == name), None)
        if found is None:
            raise Bug(f"the graph has no node {name!r}")
        return found

    def end_of(self, parent: str) -> tuple[int, float, tuple[int, int]]:
        """Where a child of `parent` begins on the axis of tokens, the rate that it inherits, and (batch size, sequence
        length). Raises Bug for a parent that no plan knows."""
        if parent in self.done:
            work = self.done[parent]
            return work.start + work.tokens, work.rate(work.tokens), (work.batch_size, work.sequence_length)
        if self.base is None:
            raise Bug(f"{parent} was not planned")
        return 0, self.base.lr, (self.base.batch_size, self.base.sequence_length)

    @property
    def after(self) -> int:
        """The end of all that was planned so far."""
        return max((w.start + w.tokens for w in self.done.values()), default=0)


def phase_work(
    name: str,
    model: Model,
    tokens: int,
    batch: tuple[int, int, BatchRamp | None],
    start: int,
    peak: float,
    schedule: Schedule,
) -> Work:
    """Next-token training on `tokens`; `batch` is sequences, their length, and how their number grows."""
    size, length, ramp = batch
    batches = Batches.of(tokens, size, length, ramp)
    whole = batches.all_instances * length  # what whole steps read, which is what will be trained on

    def rate(at: float) -> float:
        return by_tokens(schedule, peak, int(at), whole)

    flops = flops_per_token(model, length) * whole
    pieces = tuple((first * length, rows) for first, rows in zip(batches.instances, batches.sizes, strict=True))
    return Work(name, "pretraining", whole, batches.total, length, flops, start, rate, pieces)


class Tuned(Protocol):
    """The part of a tuning stage's configuration that its plan needs."""

    @property
    def optim(self) -> Optim: ...
    @property
    def schedule(self) -> StepSchedule: ...
    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def max_length(self) -> int: ...


def tuning_work(name: str, kind: str, place: PlanPlace, c: Tuned, tokens_per_step: float, how: str = "estimated") -> Work:
    """A step of post-training whose batches hold about so many tokens."""
    length = c.max_length or place.model.max_seq_len
    tokens = round(tokens_per_step) * c.steps
    flops = flops_per_token(place.model, length) * tokens
    rate = steps_rate(c.schedule, c.optim.lr, c.steps, tokens)
    return Work(name, kind, tokens, c.steps, length, flops, place.after, rate, ((0, max(1, c.batch_size)),), how)


def steps_rate(schedule: StepSchedule, peak: float, steps: int, tokens: int) -> Rate:
    """A rate by steps as one by tokens."""

    def rate(at: float) -> float:
        return by_steps(schedule, peak, min(int(at * steps / tokens), steps), steps)

    return rate
