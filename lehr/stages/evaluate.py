"""Scores as a stage: every task of the plan on one frozen checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr.artifact import Artifact, ArtifactRef
from lehr.config.evaluation import TaskPlan
from lehr.config.recipe import Recipe
from lehr.data.synthetic.conversations import conversation
from lehr.evals.score import score
from lehr.evals.suites import NEEDS_PAIRS, examples
from lehr.model.generate import LanguageModel
from lehr.post.chat import render
from lehr.stage import Job, Outcome, Surroundings, run_stage
from lehr.stages.common import Desk
from lehr.stages.post import PAIRS, reference_answer
from lehr.train.checkpoint import load_checkpoint
from lehr.train.device import own_device
from lehr.train.parallel import Ranks, run_ranks
from lehr.train.shared_model import SharedModel

SCORES, SAMPLES = "scores.json", "samples.json"
CHAT_STAGES = ("sft", "dpo", "rlvr")
_SAMPLES_PER_FAMILY = 2


@dataclass(frozen=True)
class _Work:
    desk: Desk
    recipe: Recipe
    checkpoint: Path
    documents: Path
    pairs: Path | None
    plans: list[TaskPlan]


def applies(plan: TaskPlan, stage: str, base: str, pairs: bool) -> bool:
    """Whether a task is scored at a stage: chat tasks from `base` on, the checkpoint that chat training is compared with,
    preference pairs once there are any."""
    if plan.task in NEEDS_PAIRS:
        return pairs
    if plan.stages == "chat":
        return stage == base or stage in CHAT_STAGES
    return plan.stages == "all" or stage not in CHAT_STAGES


def evaluate(
    recipe: Recipe, checkpoint: Artifact, documents: Artifact, pairs: Artifact | None, around: Surroundings
) -> ArtifactRef:
    """Score a frozen checkpoint on every task that applies to its stage; `held_out` opens for its digest, which the
    score artifact records."""
    stage = checkpoint.expect("checkpoint").manifest.stage
    plans = [p for p in recipe.evaluation.tasks if applies(p, stage, recipe.base_stage, pairs is not None)]

    def work(job: Job) -> Outcome:
        args = _Work(
            Desk.of(job, recipe.parallel), recipe, checkpoint.folder, documents.folder, pairs.folder if pairs else None, plans
        )
        count = run_ranks(recipe.parallel.processes, recipe.parallel.threads, _score_on_rank, args)
        return Outcome("scores", {"records": count, "frozen": checkpoint.manifest.digest}, processes=recipe.parallel.processes)

    config: dict[str, Any] = {
        "plans": [p.model_dump() for p in plans],
        "seed": recipe.seed,
        "max_new_tokens": recipe.evaluation.max_new_tokens,
    }
    config["window_tokens"] = recipe.stage1.sequence_length  # positions beyond it were never trained
    config["parallel"] = recipe.parallel.model_dump()
    parents = [checkpoint, documents, *([pairs] if pairs else [])]
    ref = run_stage(
        f"scores-{stage}", work, module=__name__, config=config, parents=parents, around=around, total_steps=len(plans)
    )
    records = json.loads((around.store.fetch(ref.uri) / SCORES).read_text())
    around.tracker.scored(stage, records)  # whether made now or found again
    return ref


def _score_on_rank(ranks: Ranks, work: _Work) -> int:
    artifact = Artifact.open(work.checkpoint, verify=False)
    loaded = load_checkpoint(artifact)
    loaded.model.to(own_device(ranks))
    own = LanguageModel(loaded.model, loaded.tokenizer, loaded.chat)
    model = SharedModel(own, ranks, work.desk.serve(own))
    stage, seed = artifact.manifest.stage, work.recipe.seed
    pairs = work.pairs / PAIRS if work.pairs else None
    records: list[dict[str, Any]] = []
    for number, plan in enumerate(work.plans, start=1):
        for split in plan.splits:
            found = examples(plan.task, split, plan.limit, seed, work.documents, pairs)
            scored = score(
                model,
                stage,
                plan.task,
                split,
                found,
                seed,
                frozen=artifact.ref,
                max_new_tokens=work.recipe.evaluation.max_new_tokens,
                window_tokens=work.recipe.stage1.sequence_length,
            )
            records += [r.model_dump() for r in scored]
        work.desk.tracker.value.progress(work.desk.stage, number, len(work.plans), {})
    answers = sample_answers(model, work.recipe) if stage in (work.recipe.base_stage, *CHAT_STAGES) else []
    if ranks.first:
        (work.desk.out / SCORES).write_text(json.dumps(records, indent=1), encoding="utf-8")
        (work.desk.out / SAMPLES).write_text(json.dumps(answers, indent=1), encoding="utf-8")
    return len(records)


def sample_answers(model: SharedModel, recipe: Recipe) -> list[dict[str, str]]:
    """Greedy answers to a few development questions of each family, for people to read."""
    families = recipe.sft.examples if recipe.sft else {}
    asked = [conversation(f, "dev", i, recipe.seed) for f in families for i in range(_SAMPLES_PER_FAMILY)]
    prompts = [render(e.prompt, model.tokenizer, True)[0] for e in asked]
    ids = model.generate(prompts, recipe.evaluation.max_new_tokens, [model.tokenizer.eos_id], 0.0, recipe.seed)
    return [
        {
            "family": e.family,
            "prompt": e.prompt[-1].content,
            "expected": reference_answer(e),
            "answer": model.tokenizer.decode(answer),
        }
        for e, answer in zip(asked, ids, strict=True)
    ]
