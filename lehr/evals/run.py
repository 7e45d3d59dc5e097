"""Scores of one checkpoint on ranks: every task of the plan, and a few answers for people to read."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import LOGS, Artifact
from lehr.data.synthetic.conversations import Message, conversation, reference_answer
from lehr.data.synthetic.self_knowledge import TOPICS, question
from lehr.distributed.device import own_device
from lehr.distributed.ranks import Ranks
from lehr.distributed.shared_model import SharedModel
from lehr.evals.flags import Flags, TrainingSet, rows_of
from lehr.evals.hard_requests import check_choices, check_windows
from lehr.evals.held_out import OPENINGS, Ledger, digest_of, opened
from lehr.evals.judges import Judges
from lehr.evals.kept import KeptScores
from lehr.evals.own import identity, name_of
from lehr.evals.pace import Pace
from lehr.evals.score import score
from lehr.evals.scores import FLAGS, ITEMS, SAMPLES, SCORES, SELF, EvaluateConfig
from lehr.evals.suites import NEEDS_ABOUT, examples
from lehr.evals.task import Record
from lehr.model.generate import LanguageModel
from lehr.post.chat import render, turn_end_id
from lehr.train.checkpointing.checkpoint import load_checkpoint
from lehr.train.fit import RankContext

_PAIRS = "pairs.jsonl"
_SAMPLES_PER_FAMILY = 2
_ALWAYS = ("values", "weights", "clusters")  # of items; the others belong to texts that have sources


@dataclass(frozen=True)
class Scoring:
    """What every rank is given. `documents` and `pairs` are folders, or None if no task needs them; `trained_on` is what the
    model and its ancestors were trained on; `who` and `command` go with held-out examples that are opened."""

    context: RankContext
    config: EvaluateConfig
    checkpoint: Path
    documents: Path | None
    pairs: Path | None
    trained_on: tuple[TrainingSet, ...] = ()
    who: str = ""
    command: str = ""


def score_on_rank(ranks: Ranks, work: Scoring) -> int:
    """Write `scores.json`, `items.jsonl`, `contaminated.jsonl`, `samples.json` and, where models judged, `judged.jsonl`;
    returns the number of records."""
    # Not verified here: every rank would hash all weights again.
    artifact, c = Artifact.open(work.checkpoint, verify=False), work.config
    loaded = load_checkpoint(artifact)
    loaded.model.to(own_device(ranks))
    own = LanguageModel(loaded.model, loaded.tokenizer, loaded.chat)
    model = SharedModel(own, ranks, work.context.serve(own))
    pairs = work.pairs / _PAIRS if work.pairs else None
    pace = Pace(work.context.tracker.value.note)
    own.watch = pace if ranks.first else None
    kept = KeptScores(work.context.scratch, ranks, c, artifact.manifest.digest)
    flags = Flags(work.trained_on if ranks.first else (), c.not_compared, c.seed)
    ledger = Ledger(work.context.scratch / OPENINGS if ranks.first else None, work.who, work.command)
    judges = Judges(ranks, work.context.scratch, work.context.tracker.value.note)
    records: list[dict[str, Any]] = []
    flagged: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []
    for number, plan in enumerate(c.tasks, start=1):
        name, known = name_of(plan.task), identity(plan.task)
        given = c.about if plan.task in NEEDS_ABOUT else pairs
        for split in plan.splits:
            there = examples(plan.task, split, plan.limit, c.seed, work.documents, given)
            found = opened(there, artifact.ref, c.model, ledger)
            check_choices(name, found)
            check_windows(name, found, own.max_length)
            digest = digest_of(found)
            scored = kept.found(known, split, digest)
            if scored is None:
                pace.begin(f"{name}, {split}")
                judges.begin(name, split)
                scored = score(
                    model, c.model, name, split, found, c.seed, frozen=artifact.ref, max_new_tokens=c.max_new_tokens,
                    window_tokens=c.window_tokens, judges=judges,
                )  # fmt: skip
                kept.keep(known, split, digest, scored)
            elif ranks.first:
                work.context.tracker.value.note(f"{name}, {split}: scored before this attempt, and kept")
            held = [flags.held(known, split, example) for example in found]
            records += [flags.flagged(r, held, known).model_dump() for r in scored]
            flagged += rows_of(name, split, held, found)
            items += [_items(r, digest) for r in scored if not (r.items and r.items.over)]
        work.context.tracker.value.progress(work.context.name, number, len(c.tasks), {})
    answers = _sample_answers(model, c)
    if ranks.first:
        (work.context.out / SCORES).write_text(json.dumps(records, indent=1), encoding="utf-8")
        (work.context.out / FLAGS).write_text("".join(json.dumps(row) + "\n" for row in flagged), encoding="utf-8")
        (work.context.out / ITEMS).write_text("\n".join(map(json.dumps, items)) + "\n", encoding="utf-8")
        (work.context.out / SAMPLES).write_text(json.dumps(answers, indent=1), encoding="utf-8")
        judges.write(work.context.out)
        if ledger.file and ledger.file.is_file():
            (work.context.out / LOGS).mkdir(exist_ok=True)
            shutil.copyfile(ledger.file, work.context.out / LOGS / OPENINGS)
    return len(records)


def _items(record: Record, of: str) -> dict[str, Any]:
    """What each example of a score gave. Scores of models that have the same `examples` are of the same questions in the same
    order, and their difference is known better than two scores of their own. Means over sources and domains are made of the
    same items (lehr.evals.parts.variants)."""
    said = {name: getattr(record, name) for name in ("stage", "task", "split", "metric")}
    gave = {} if record.items is None else asdict(record.items)
    return {**said, "examples": of, **{name: value for name, value in gave.items() if value or name in _ALWAYS}}


def _sample_answers(model: SharedModel, c: EvaluateConfig) -> list[dict[str, str]]:
    """Greedy answers to a few development questions of each family, and about itself, for people to read."""
    asked = [conversation(family, "dev", i, c.seed) for family in c.sample_families for i in range(_SAMPLES_PER_FAMILY)]
    rows = [{"family": e.family, "prompt": e.prompt[-1].content, "expected": reference_answer(e)} for e in asked]
    if c.about:
        own = (question(c.about, "dev", i, c.seed) for i in range(len(TOPICS)))
        rows += [{"family": SELF, "prompt": q.question, "expected": q.right} for q in own]
    prompts = [render([Message("user", row["prompt"])], model.tokenizer, True)[0] for row in rows]
    ids = model.generate(prompts, c.max_new_tokens, [turn_end_id(model.tokenizer)], 0.0, c.seed)
    return [{**row, "answer": model.tokenizer.decode(answer)} for row, answer in zip(rows, ids, strict=True)]
