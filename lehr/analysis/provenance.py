"""Which documents a training step held, and at which steps a document was seen. Order is a function, so both are computed
from a finished stage's record and its shards; nothing was logged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from lehr.artifacts.artifact import LOGS, STABILITY, Artifact
from lehr.config.base import Positive
from lehr.config.mix import Mix
from lehr.config.optim import Optim
from lehr.config.schedule import BatchRamp, ConstantSchedule
from lehr.data.loader import Loader
from lehr.runtime.errors import UserError, validators_words
from lehr.runtime.json_files import read_object
from lehr.train.checkpointing.checkpoint import TRAINING
from lehr.train.next_token import TrainingPhase, make_loader

_WHOLE = "use a whole checkpoint"
_RANGES = TypeAdapter(list[tuple[int, int]])


@dataclass(frozen=True)
class Row:
    """One row of a global batch: its source, its first token in the source's shard, and the documents in it."""

    source: str
    first_token: int
    documents: list[str]


class Lookup:
    """The order of one finished pretraining stage. Raises UserError for an artifact that is no such stage, or whose shards
    are gone."""

    def __init__(self, checkpoint: Artifact) -> None:
        config = checkpoint.expect("checkpoint").manifest.config
        if "data_seed" not in config:
            raise UserError(
                f"{checkpoint.manifest.stage} read no shards by mix", where=checkpoint.folder, remedy="name a pretraining stage"
            )
        shards = [p for p in checkpoint.parents() if p.manifest.kind == "shards"]
        tokenizers = [p for p in checkpoint.parents() if p.manifest.kind == "tokenizer"]
        if not shards or not tokenizers:
            raise UserError("its shards are not here", where=checkpoint.folder, remedy="look it up in the run's own folder")
        self.phase = _phase({**_inherited(checkpoint), **config}, checkpoint.folder)
        self.loader: Loader = make_loader(shards[0].folder, tokenizers[0].folder, self.phase)
        steadiness = checkpoint.path(f"{LOGS}/{STABILITY}")
        self.left_out = _left_out(steadiness) if steadiness.is_file() else []

    def was_left_out(self, step: int) -> bool:
        """Whether a rollback left the batch of `step` out: nothing was learned from it."""
        return any(first <= step <= last for first, last in self.left_out)

    def step(self, step: int) -> list[Row]:
        """The rows of the global batch of `step`, counted from 0. Raises UserError beyond the last one."""
        if not 0 <= step < self.phase.steps:
            raise UserError(f"step {step} is not between 0 and {self.phase.steps - 1}", remedy="name a step of the stage")
        return [Row(*row) for row in self.loader.documents(*self.phase.batches.at(step))]

    def document(self, source: str, document: str) -> list[int]:
        """The steps that learned from a token of a document of that id, or of its chunks, each once, in order. Raises UserError
        if the mix has none such."""
        sources = [part.shards.source for part in self.loader.plan.parts]
        if source not in sources:
            raise UserError(f"the mix has no source {source!r}", remedy=f"name one of: {', '.join(sources)}")
        try:
            instances = self.loader.instances_of(source, document)
        except KeyError:
            raise UserError(
                f"source {source!r} has no training document {document!r}",
                remedy="take an id from `lehr lookup --step`, or see `lehr dropped`",
            ) from None
        steps = {self.phase.batches.step_of(i) for i in instances if i < self.phase.batches.all_instances}
        return sorted(step for step in steps if not self.was_left_out(step))


def _left_out(path: Path) -> list[tuple[int, int]]:
    """First and last step of each range that a rollback left out. Raises UserError."""
    listed = read_object(path, _WHOLE).get("left_out")
    try:
        return _RANGES.validate_python(listed, strict=False)
    except ValidationError:
        raise UserError("'left_out' is missing or damaged", where=path, remedy=_WHOLE) from None


def _inherited(checkpoint: Artifact) -> dict[str, Any]:
    """What a stage that went on from a parent took over from it; its own record says it."""
    path = checkpoint.path(TRAINING)
    found = read_object(path, _WHOLE) if path.is_file() else {}
    return {key: found[key] for key in ("batch_size", "sequence_length", "optim") if key in found}


class _Order(BaseModel):
    """What the order of a stage depends on, in its manifest's configuration and in what it inherited."""

    mix: Mix
    tokens: Positive
    batch_size: Positive
    sequence_length: Positive
    optim: Optim
    data_seed: int
    batch_ramp: BatchRamp | None = None


def _phase(config: dict[str, Any], where: Path) -> TrainingPhase:
    """The configuration's mix, tokens and seed, and the batch that it began with or inherited. Raises UserError."""
    try:
        order = _Order.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"its configuration is damaged ({'.'.join(map(str, first['loc']))}: {validators_words(first['msg'])})"
        raise UserError(what, where=where, remedy=_WHOLE) from None
    return TrainingPhase(
        order.mix,
        order.tokens,
        order.batch_size,
        order.sequence_length,
        order.optim,
        ConstantSchedule(kind="constant"),  # rates have no part in it
        checkpoint_steps=1,
        data_seed=order.data_seed,
        batch_ramp=order.batch_ramp,
    )
