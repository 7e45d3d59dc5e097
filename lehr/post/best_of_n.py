"""Best-of-N: several answers to each prompt, of which the best is learned (Granite 3.0 section 5.3.2; Stiennon et al. 2020).

Prompts are answered and judged a block at a time; a finished block is kept beside the saves, so that a run that was stopped
goes on with the next one. Shapes: M rewards, P prompts, S answers to each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lehr.artifacts.artifact import Artifact, write_atomic
from lehr.distributed.device import own_device
from lehr.distributed.ranks import Ranks
from lehr.distributed.shared_model import SharedModel
from lehr.model.generate import LanguageModel
from lehr.post.asked import refuse_long
from lehr.post.best_rows import Answered, write_best
from lehr.post.chat import render, turn_end_id
from lehr.post.rendered import Rendered
from lehr.post.rewards.scorers import Scorer, Source, load_scorer
from lehr.post.sets.asked_prompts import Asked
from lehr.post.verifiers import verify
from lehr.runtime import seeds
from lehr.runtime.json_files import read_object
from lehr.train.checkpointing.checkpoint import load_checkpoint
from lehr.train.fit import RankContext

_BLOCK = 2048  # answers sampled and judged at once
_AGAIN = "delete the attempt's folder and run the same command again"


@dataclass(frozen=True)
class Choosing:
    """What every rank is given: `config` is a lehr.stages.best_of_n.BestOfNConfig. Without `rewards` the prompts' verifiers
    choose."""

    config: Any
    context: RankContext
    policy: Path
    rewards: tuple[Source, ...]
    asked: tuple[Asked, ...]


def best_of_n(ranks: Ranks, work: Choosing) -> dict[str, Any]:
    """Write the best answer to each prompt as rows of SFT, with all scores. Returns counts by family and the curve of what more
    answers bring (see lehr.post.best_rows). Raises UserError for prompts that do not fit, and if no prompt is left."""
    loaded, c = load_checkpoint(Artifact.open(work.policy, verify=False)), work.config
    loaded.model.to(own_device(ranks))
    own = LanguageModel(loaded.model, loaded.tokenizer, chat=True)
    model = SharedModel(own, ranks, work.context.serve(own))
    prompts = [render(list(a.prompt), loaded.tokenizer, True, list(a.tools) or None)[0] for a in work.asked]
    scorers = [load_scorer(source, ranks) for source in work.rewards]
    room = min([own.max_length, *(scorer.most_tokens for scorer in scorers)])
    refuse_long(work.context.name, prompts, room, c.max_new_tokens)
    size = max(1, _BLOCK // c.n)
    starts = range(0, len(prompts), size)
    for number, start in enumerate(starts):
        path = _path(work, number)
        if not ranks.gather(path.is_file() if ranks.first else False)[0]:
            here = slice(start, start + size)
            block = _block(model, scorers, work, (work.asked[here], prompts[here]), seeds.derive(c.seed, "block", number))
            if ranks.first:
                write_atomic(path, json.dumps(block))
        work.context.tracker.value.progress(work.context.name, number + 1, len(starts), {})
    if not ranks.first:
        return {}
    blocks = [read_object(_path(work, number), _AGAIN) for number in range(len(starts))]
    return write_best(work.context, c, loaded.tokenizer, _answered(work, prompts, blocks))


def _path(work: Choosing, number: int) -> Path:
    return work.context.scratch / f"answers-{number}.json"


def _block(
    model: SharedModel, scorers: Sequence[Scorer], work: Choosing, of: tuple[Sequence[Asked], list[list[int]]], seed: int
) -> dict[str, Any]:
    """Answers to some prompts, prompt by prompt, with their scores: None for an answer without an end, which takes no part."""
    (asked, prompts), c, ranks = of, work.config, model.ranks
    end = turn_end_id(model.tokenizer)
    repeated = [ids for ids in prompts for _ in range(c.n)]
    answers = model.generate(repeated, c.max_new_tokens, [end], c.temperature, seed)
    ended = [i for i, answer in enumerate(answers) if answer and answer[-1] == end]
    rows = [Rendered(p + a, [False] * len(p) + [True] * len(a)) for p, a in zip(repeated, answers, strict=True)]
    scores = {}
    for source, scorer in zip(work.rewards, scorers, strict=True):
        mine = scorer.scores([rows[i] for i in ranks.split(ended)]).tolist()
        scores[source.name] = _placed(len(rows), ended, ranks.join(ranks.gather(mine)))
    told = [(i, asked[i // c.n]) for i in ended if asked[i // c.n].verifier]
    judged = [verify(a.verifier, a.arguments, model.tokenizer.decode(answers[i]), True) for i, a in ranks.split(told)]
    verified = _placed(len(rows), [i for i, _ in told], ranks.join(ranks.gather(judged)))
    return {"answers": answers, "scores": scores, "verified": verified, "ended": ended}


def _placed(size: int, places: Sequence[int], values: Sequence[float]) -> list[float | None]:
    found: list[float | None] = [None] * size
    for place, value in zip(places, values, strict=True):
        found[place] = float(value)
    return found


def _answered(work: Choosing, prompts: Sequence[Sequence[int]], blocks: Sequence[dict[str, Any]]) -> Answered:
    n = work.config.n
    answers = [answer for block in blocks for answer in block["answers"]]
    ended = np.zeros(len(answers), dtype=bool)
    before = 0
    for block in blocks:
        ended[[before + i for i in block["ended"]]] = True
        before += len(block["answers"])

    def table(key: str, inner: str = "") -> np.ndarray:
        flat = [value for block in blocks for value in (block[key][inner] if inner else block[key])]
        return np.array([np.nan if value is None else value for value in flat], dtype=np.float64).reshape(-1, n)

    scores = np.stack([table("scores", source.name) for source in work.rewards]) if work.rewards else None
    names, weights = [source.name for source in work.rewards], [source.weight for source in work.rewards]
    return Answered(work.asked, prompts, answers, ended.reshape(-1, n), names, weights, scores, table("verified"))
