"""Scores: every task of the plan on one frozen checkpoint."""

from __future__ import annotations

import json

from lehr.artifact import Artifact
from lehr.config.base import NonNegative, Positive
from lehr.config.evaluation import TaskPlan
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.ports import Tracker
from lehr.stages.common import RankedConfig

SCORES, SAMPLES = "scores.json", "samples.json"


class EvaluateConfig(RankedConfig):
    """`model` is the name that the scores go by. `window_tokens` bounds the windows of running text: positions beyond it were
    never trained; 0 is the model's length. `sample_families`: chat families of whose questions some are answered to be read."""

    model: str
    tasks: list[TaskPlan]
    max_new_tokens: Positive
    window_tokens: NonNegative
    sample_families: list[str]
    seed: NonNegative


def run(config: EvaluateConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """`held_out` opens for the checkpoint's digest, which the artifact records."""
    from lehr.evals.run import Scoring, score_on_rank
    from lehr.train.fit import RankContext
    from lehr.train.parallel import run_ranks

    context, checkpoint = RankContext.of(attempt, config.parallel), inputs["checkpoint"]
    documents, pairs = inputs.get("documents"), inputs.get("pairs")
    work = Scoring(
        context, config, checkpoint.folder, documents.folder if documents else None, pairs.folder if pairs else None
    )
    count = run_ranks(config.parallel.processes, config.parallel.threads, score_on_rank, work)
    return Outcome({"records": count, "frozen": checkpoint.manifest.digest}, processes=config.parallel.processes)


def announce(config: EvaluateConfig, artifact: Artifact, tracker: Tracker) -> None:
    """The scores, to whoever follows the run."""
    tracker.scored(config.model, json.loads(artifact.path(SCORES).read_text(encoding="utf-8")))


SPEC = StageSpec(
    "evaluate",
    EvaluateConfig,
    {
        "checkpoint": Role("checkpoint"),
        "documents": Role("documents", optional=True),
        "pairs": Role("preferences", optional=True),
    },
    "scores",
    "ranked",
    "evaluation",
    run,
    total_steps=lambda config, inputs: len(config.tasks),
    announce=announce,
)
