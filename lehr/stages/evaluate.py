"""Scores: every task of the plan on one frozen checkpoint."""

from __future__ import annotations

import math
import time

from lehr.artifacts.artifact import REPEAT, Artifact
from lehr.evals import own
from lehr.evals.scores import SCORES, TRAINED_ON, EvaluateConfig
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.runtime.json_files import read_objects
from lehr.runtime.ports import Tracker

_LATELY_SECONDS = 60.0
_answered: dict[tuple[str, str], float] = {}  # of a task's path and content: when its judges last answered


def run(config: EvaluateConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Score the tasks. `held_out` examples are opened for this checkpoint's digest, which the artifact records: by whom and
    when is in its logs. Raises UserError, before any of it, for a judge or a classifier that does not answer."""
    from lehr.distributed.ranks import run_ranks
    from lehr.evals.flags import TrainingSet
    from lehr.evals.held_out import command, user
    from lehr.evals.run import Scoring, score_on_rank
    from lehr.train.fit import RankContext

    ready(config)  # on a cluster it was not asked before, and elsewhere it may have gone since
    context, checkpoint = RankContext.of(attempt, config.parallel), inputs["checkpoint"]
    documents, pairs = inputs.get("documents"), inputs.get("pairs")
    trained_on = tuple(TrainingSet.of(artifact) for role in TRAINED_ON for artifact in inputs.many(role))
    folders = (documents.folder if documents else None, pairs.folder if pairs else None)
    work = Scoring(context, config, checkpoint.folder, *folders, trained_on, user(), command())
    count = run_ranks(config.parallel.processes, config.parallel.threads, score_on_rank, work)
    return Outcome({"records": count, "frozen": checkpoint.manifest.digest}, processes=config.parallel.processes)


def ready(config: EvaluateConfig) -> None:
    """Raises UserError for a judge or a classifier that does not answer a word. Those of a task that did within the last minute
    are not asked again: a graph asks before its first stage, and each of its evaluations as it begins."""
    from lehr.evals.judges import probe

    now = time.monotonic()
    tasks = {(plan.task, own.identity(plan.task)): plan.task for plan in config.tasks if own.is_own(plan.task)}
    silent = [key for key in tasks if now - _answered.get(key, -math.inf) > _LATELY_SECONDS]
    probe(tasks[key] for key in silent)
    _answered.update(dict.fromkeys(silent, time.monotonic()))


def announce(config: EvaluateConfig, artifact: Artifact, tracker: Tracker) -> None:
    """Report the scores to the trackers, but not those of single sources and domains, of which there may be hundreds."""
    rows = read_objects(artifact.path(SCORES), REPEAT)
    tracker.scored(config.model, [{key: value for key, value in row.items() if key != "parts"} for row in rows])


SPEC = StageSpec(
    "evaluate",
    EvaluateConfig,
    {
        "checkpoint": Role("checkpoint"),
        "documents": Role("documents", optional=True),
        "pairs": Role("preferences", optional=True),
        **{role: Role(kind, many=True, optional=True) for role, kind in TRAINED_ON.items()},
    },
    "scores",
    "ranked",
    "evaluation",
    run,
    total_steps=lambda config, inputs: len(config.tasks),
    announce=announce,
    ready=ready,
)
