"""Which documents a training step held, and at which steps a document was seen. Order is a function, so both are computed
from a finished stage's record and its shards; nothing was logged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lehr.artifact import LOGS, STABILITY, Artifact
from lehr.config.mix import Mix
from lehr.config.optim import Optim
from lehr.config.schedule import BatchRamp, ConstantSchedule
from lehr.data.loader import Loader
from lehr.errors import UserError
from lehr.train.checkpoint import TRAINING
from lehr.train.next_token import Stretch, make_loader


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
        self.stretch = _stretch({**_inherited(checkpoint), **config})
        self.loader: Loader = make_loader(shards[0].folder, tokenizers[0].folder, self.stretch)
        steadiness = checkpoint.path(f"{LOGS}/{STABILITY}")
        self.left_out: list[list[int]] = (
            json.loads(steadiness.read_text(encoding="utf-8"))["left_out"] if steadiness.is_file() else []
        )

    def was_left_out(self, step: int) -> bool:
        """Whether a rewind left the batch of `step` out: nothing was learned from it."""
        return any(first <= step <= last for first, last in self.left_out)

    def step(self, step: int) -> list[Row]:
        """The rows of the global batch of `step`, counted from 0. Raises UserError beyond the last one."""
        if not 0 <= step < self.stretch.steps:
            raise UserError(f"step {step} is not between 0 and {self.stretch.steps - 1}", remedy="name a step of the stage")
        return [Row(*row) for row in self.loader.documents(*self.stretch.batches.at(step))]

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
        steps = {self.stretch.batches.step_of(i) for i in instances if i < self.stretch.batches.all_instances}
        return sorted(step for step in steps if not self.was_left_out(step))


def _inherited(checkpoint: Artifact) -> dict[str, Any]:
    """What a stage that went on from a parent took over from it; its own record says it."""
    path = checkpoint.path(TRAINING)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {key: found[key] for key in ("batch_size", "sequence_length", "optim") if key in found}


def _stretch(config: dict[str, Any]) -> Stretch:
    """What the order depends on: the configuration's mix, tokens and seed, and the batch that it began with or inherited."""
    ramp = config.get("batch_ramp")
    return Stretch(
        Mix.model_validate(config["mix"]),
        config["tokens"],
        config["batch_size"],
        config["sequence_length"],
        Optim.model_validate(config["optim"]),
        ConstantSchedule(kind="constant"),  # rates have no part in it
        checkpoint_steps=1,
        data_seed=config["data_seed"],
        batch_ramp=BatchRamp.model_validate(ramp) if ramp else None,
    )
