"""Baselines: scores of simple models that read the same tokens, on the texts whose bits per byte are scored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lehr.artifacts.artifact import REPEAT, Artifact
from lehr.config.base import Config, NonNegative, Positive
from lehr.config.evaluation import Baselines, TaskPlan
from lehr.config.mix import Mix
from lehr.config.schedule import BatchRamp
from lehr.evals.scores import SAMPLES, SCORES
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageConfig, StageSpec
from lehr.runtime.json_files import read_objects
from lehr.runtime.metrics import DEV
from lehr.runtime.ports import Tracker

if TYPE_CHECKING:
    from pathlib import Path

    from lehr.data.loader import Loader


class TrainingPhase(Config):
    """The windows read by one stage of pretraining, in its order."""

    mix: Mix
    tokens: Positive
    batch_size: Positive
    sequence_length: Positive
    batch_ramp: BatchRamp | None
    data_seed: NonNegative

    def loader(self, shards: Path, tokenizer: Path) -> Loader:
        """The loader of the stage itself."""
        from lehr.data.reading import open_loader
        from lehr.train.batches import Batches

        batches = Batches.of(self.tokens, self.batch_size, self.sequence_length, self.batch_ramp)
        return open_loader(shards, tokenizer, self.mix, batches.all_instances, self.sequence_length, self.data_seed)


class Reader(Config):
    """A model, the phases that it and its ancestors read, oldest first, and its tasks on running text. `in_loop`: also the
    texts measured during its training."""

    model: str
    read: list[TrainingPhase]
    tasks: list[TaskPlan]
    in_loop: bool


class BaselinesConfig(StageConfig):
    """`window_tokens` is the longest context, as in the models' own scores."""

    readers: list[Reader]
    kinds: Baselines
    window_tokens: Positive
    seed: NonNegative


def run(config: BaselinesConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Compute scores under the names of the models that read the same tokens; the models themselves are not read."""
    from lehr.evals.baselines import Compared, baselines

    shards, tokenizer, documents = (inputs[role].folder for role in ("shards", "tokenizer", "documents"))
    records, counted = [], {}
    for number, reader in enumerate(config.readers, start=1):
        loaders = [phase.loader(shards, tokenizer) for phase in reader.read]
        compared = Compared(reader.model, reader.tasks, reader.in_loop, config.window_tokens, config.seed)
        found = baselines(loaders, compared, config.kinds, tokenizer, documents)
        records += found.records
        counted[reader.model] = found.counted
        attempt.tracker.progress(attempt.name, number, len(config.readers), {})
    (attempt.out / SCORES).write_text(json.dumps([r.model_dump() for r in records], indent=1), encoding="utf-8")
    (attempt.out / SAMPLES).write_text("[]", encoding="utf-8")  # the report reads it of every artifact of scores
    return Outcome({"records": len(records), "counted": counted})


def announce(config: BaselinesConfig, artifact: Artifact, tracker: Tracker) -> None:
    """Report the scores beside those of the models, without those measured during training."""
    found = read_objects(artifact.path(SCORES), REPEAT)
    rows = [row for row in found if not row["metric"].startswith(DEV)]
    for reader in config.readers:
        tracker.scored(reader.model, [row for row in rows if row["stage"] == reader.model])


SPEC = StageSpec(
    "baselines",
    BaselinesConfig,
    {"shards": Role("shards"), "tokenizer": Role("tokenizer"), "documents": Role("documents")},
    "scores",
    "cpu",
    "evaluation",
    run,
    total_steps=lambda config, inputs: len(config.readers),
    announce=announce,
)
