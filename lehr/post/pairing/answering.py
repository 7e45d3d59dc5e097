"""Answers of several models to the questions of pairs, one model after the other in memory. A finished model's answers are kept
beside the saves, so that a run that was stopped goes on with the next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lehr.artifacts.artifact import Artifact, write_atomic
from lehr.config.pairs import Pairs
from lehr.distributed.device import own_device
from lehr.distributed.ranks import Ranks
from lehr.distributed.shared_model import SharedModel
from lehr.model.generate import LanguageModel
from lehr.post.asked import refuse_long
from lehr.post.chat import turn_end_id
from lehr.post.pairing.questions import Question
from lehr.runtime.json_files import read_object
from lehr.train.checkpointing.checkpoint import load_checkpoint
from lehr.train.fit import RankContext

Answers = list[list[str | None]]  # of each question, one for each sample; None for one that did not end by itself
_AGAIN = "delete the attempt's folder and run the same command again"


@dataclass(frozen=True)
class Answering:
    """A model that answers, from its checkpoint's folder; `name` is its number among those that do."""

    name: str
    folder: Path
    served: bool = False  # by the stage's own sampler, if there is one


def answers_of(
    who: Answering, batches: Sequence[tuple[Sequence[Question], int]], pairs: Pairs, context: RankContext, ranks: Ranks
) -> list[Answers]:
    """A model's answers to each batch of questions, sampled from the batch's seed. A collective. Raises UserError for prompts
    that leave no room for an answer."""
    kept = context.scratch / f"answers-{who.name}.json"
    if ranks.gather(kept.is_file() if ranks.first else False)[0]:
        told: list[list[Answers]] = ranks.gather(read_object(kept, _AGAIN)["answers"] if ranks.first else [])
        return told[0]
    loaded = load_checkpoint(Artifact.open(who.folder, verify=False))
    loaded.model.to(own_device(ranks))
    own = LanguageModel(loaded.model, loaded.tokenizer, chat=True)
    model = SharedModel(own, ranks, context.serve(own) if who.served else None)
    out = [_answers(questions, model, pairs, seed) for questions, seed in batches]
    if ranks.first:
        write_atomic(kept, json.dumps({"answers": out}))
    return out


def _answers(questions: Sequence[Question], model: SharedModel, pairs: Pairs, seed: int) -> Answers:
    tokenizer, end, n = model.tokenizer, turn_end_id(model.tokenizer), pairs.samples
    rendered = [question.ids(tokenizer) for question in questions]
    refuse_long("the pairs", rendered, model.max_length, pairs.max_new_tokens)
    found = model.generate([ids for ids in rendered for _ in range(n)], pairs.max_new_tokens, [end], pairs.temperature, seed)
    # A truncated answer is neither preferred nor rejected.
    texts = [tokenizer.decode(ids) if ids and ids[-1] == end else None for ids in found]
    return [texts[i : i + n] for i in range(0, len(texts), n)]
