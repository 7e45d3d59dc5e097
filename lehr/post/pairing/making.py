"""Preference pairs made of questions: by verifiers, a judge, the gap between two models, or perturbed gold answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr.config.pairs import Pairs
from lehr.data.synthetic.splits import Split
from lehr.distributed.ranks import Ranks
from lehr.post.asked import SPLITS, pairs_seed
from lehr.post.pairing.answering import Answering, Answers, answers_of
from lehr.post.pairing.choosing import Chosen, gap, rated, verified
from lehr.post.pairing.judge import FILE, JudgeClient, Rated
from lehr.post.pairing.perturbed import perturbed
from lehr.post.pairing.questions import Question
from lehr.post.pairs import PAIRS
from lehr.runtime import seeds
from lehr.runtime.errors import LehrError, UserError, from_words, in_words
from lehr.train.fit import RankContext

_REMEDIES = {
    "verifier": "raise pairs.samples or pairs.prompts, or train SFT longer",
    "judge": "raise pairs.samples or pairs.prompts, or ask more models",
    "model-gap": "raise pairs.max_new_tokens, so that answers end",
    "perturbation": "give questions whose answers have numbers",
}


@dataclass(frozen=True)
class Making:
    """What every rank is given. `parent`, `pool` and `weaker` are checkpoints' folders; answers are sampled from `seed` and the
    name `stream`."""

    context: RankContext
    pairs: Pairs
    parent: Path
    pool: tuple[Path, ...]
    weaker: Path | None
    questions: Mapping[Split, Sequence[Question]]
    seed: int
    stream: str


def make_pairs(ranks: Ranks, work: Making) -> dict[str, Any]:
    """Write the pairs. Returns their number by split, and of all questions. Held-out pairs are used for scoring only.
    Raises UserError if there are none, and as the judge does: on every rank."""
    answers = _answers(ranks, work) if work.pairs.answered else {}
    told: dict[str, Any] = {}
    if ranks.first:
        try:
            told["found"] = _written(work, answers)
        except LehrError as error:  # the other ranks are waiting
            told["words"] = in_words(error)
    told = ranks.gather(told)[0]
    if "words" in told:
        raise from_words(told["words"])
    found: dict[str, Any] = told["found"]
    return found


def _answers(ranks: Ranks, work: Making) -> dict[str, list[Answers]]:
    """By the model that answers: the parent, those of the pool, the weaker one; for each split."""
    who = [Answering("parent", work.parent, served=True)]
    who += [Answering(f"pool-{number}", folder) for number, folder in enumerate(work.pool)]
    who += [Answering("weaker", work.weaker)] if work.weaker else []
    out = {}
    for model in who:
        batches = []
        for split in SPLITS:
            seed = pairs_seed(work.seed, work.stream, split)
            batches.append((work.questions[split], seed if model.served else seeds.derive(seed, model.name)))
        out[model.name] = answers_of(model, batches, work.pairs, work.context, ranks)
    return out


def _written(work: Making, answers: Mapping[str, list[Answers]]) -> dict[str, Any]:
    counts: dict[str, int] = {}
    rows: list[str] = []
    for place, split in enumerate(SPLITS):
        questions = work.questions[split]
        chosen = _chosen(work, questions, {who: of[place] for who, of in answers.items()}, split)
        made = [
            {"split": split, **question.row(), "chosen": pair[0], "rejected": pair[1]}
            for question, pair in zip(questions, chosen, strict=True)
            if pair is not None
        ]
        counts[split] = len(made)
        rows += [json.dumps(row, sort_keys=True) + "\n" for row in made]
    if not counts["held_out"] or not (counts["train"] or work.pairs.only_scored):
        why = {"verifier": ": for every prompt the model's answers are all right or all wrong"}.get(work.pairs.by, "")
        raise UserError(
            f"no pairs{why} ({counts})",
            where=f"{work.context.name}: samples={work.pairs.samples}",
            remedy=_REMEDIES[work.pairs.by],
        )
    (work.context.out / PAIRS).write_text("".join(rows), encoding="utf-8")
    return {"pairs": counts, "questions": {split: len(work.questions[split]) for split in SPLITS}}


def _chosen(work: Making, questions: Sequence[Question], of: Mapping[str, Answers], split: Split) -> list[Chosen | None]:
    """The pair of each question, None where it makes none."""
    p, seed = work.pairs, pairs_seed(work.seed, work.stream, split)
    if p.by == "perturbation":
        changed = [perturbed(q.answer, seeds.derive(seed, "perturbed", number)) for number, q in enumerate(questions)]
        return [None if wrong is None else (q.answer, wrong) for q, wrong in zip(questions, changed, strict=True)]
    if p.by == "model-gap":
        return [gap(strong, weak) for strong, weak in zip(of["parent"], of["weaker"], strict=True)]
    together = [[text for model in answers for text in model] for answers in zip(*of.values(), strict=True)]
    if p.by == "verifier":
        return [verified(q, texts, p.reference_answers) for q, texts in zip(questions, together, strict=True)]
    assert p.judge is not None
    asked = {
        (number, place): Rated(f"{split}-{number}-{place}", questions[number], text)
        for number, texts in enumerate(together)
        for place, text in enumerate(texts)
        if text is not None
    }
    ratings = JudgeClient(p.judge, work.context.scratch / FILE).means(list(asked.values()))
    out = []
    for number, texts in enumerate(together):
        told = [ratings[asked[number, place].key] if text is not None else None for place, text in enumerate(texts)]
        out.append(rated(texts, told, seeds.derive(seed, "rejected", number)))
    return out
