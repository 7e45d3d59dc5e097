"""Replayed conversations with the model's own last answers in place of the given ones.

What preference tuning and rewards taught is in no conversation of SFT: replaying those after them unlearns it again
(docs/decisions.md). The model's own answers hold what it can do at that point. They are greedy, of the step's parent; rows are
edited as tokens, so every template will do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lehr.artifacts.artifact import Artifact
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.device import own_device
from lehr.distributed.ranks import Ranks
from lehr.distributed.shared_model import SharedModel
from lehr.model.generate import LanguageModel
from lehr.post.chat import turn_end_id
from lehr.post.rendered import Rendered
from lehr.post.sets.audit import SETS, Audit, SetCounts
from lehr.post.sets.files import Row
from lehr.post.sets.pool import DRAWN, Pool, PoolWriter
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_object
from lehr.train.checkpointing.checkpoint import load_checkpoint
from lehr.train.fit import RankContext

UNFINISHED, NO_ROOM = "its own answer has no end", "no room for an answer of its own"
_AGAIN = "delete the artifact and run the same command again"


@dataclass(frozen=True)
class Answering:
    """What every rank is given: the `rows` of which those of `sets` are answered anew."""

    context: RankContext
    parent: Path
    rows: Path
    sets: Sequence[str]
    max_new_tokens: int
    seed: int


def answer_on_rank(ranks: Ranks, work: Answering) -> dict[str, Any]:
    """Write the rows anew; returns the counts of each set. Raises UserError for a set of which no row is left."""
    loaded = load_checkpoint(Artifact.open(work.parent, verify=False))
    loaded.model.to(own_device(ranks))
    own = LanguageModel(loaded.model, loaded.tokenizer, chat=True)
    model = SharedModel(own, ranks, work.context.serve(own))
    rows = [*Pool(work.rows).kept()]
    places = [*_places(read_object(work.rows / SETS, _AGAIN), work.sets)]
    answered = _answered([rows[i] for i in places], model, work)
    new: list[Rendered | str] = [*rows]
    for place, row in zip(places, answered, strict=True):
        new[place] = row
    return _write(new, work.rows, work.context.out, model.tokenizer) if ranks.first else {}


def _places(counts: dict[str, Any], sets: Sequence[str]) -> Iterator[int]:
    """The number of each row of the `sets`: rows lie set after set."""
    first = 0
    for name, said in counts.items():
        if name in sets:
            yield from range(first, first + said["kept"])
        first += said["kept"]


def _answered(rows: Sequence[Rendered], model: SharedModel, work: Answering) -> list[Rendered | str]:
    """Each row with an answer of its own, of which alone it learns, or why it has none."""
    end, prompts = turn_end_id(model.tokenizer), [row.ids[: _last_answer(row)] for row in rows]
    fits = [len(prompt) + work.max_new_tokens <= model.max_length for prompt in prompts]
    asked = [prompt for prompt, room in zip(prompts, fits, strict=True) if room]
    answers = iter(model.generate(asked, work.max_new_tokens, [end], 0.0, work.seed))
    found: list[Rendered | str] = []
    for prompt, room in zip(prompts, fits, strict=True):
        answer = next(answers) if room else []
        if answer and answer[-1] == end:
            found.append(Rendered([*prompt, *answer], [False] * len(prompt) + [True] * len(answer)))
        else:
            found.append(UNFINISHED if room else NO_ROOM)
    return found


def _last_answer(row: Rendered) -> int:
    """Where the last trained span begins: what stands before it is the prompt of that answer."""
    start = max(i for i, mine in enumerate(row.mask) if mine)
    while start and row.mask[start - 1]:
        start -= 1
    return start


def _write(rows: Sequence[Rendered | str], before: Path, out: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    old, drawn, first = [*Pool(before).kept()], [int(i) for i in np.fromfile(before / DRAWN, "<i8")], 0
    numbers: dict[int, int] = {}  # of the rows that are left, by their old ones
    with Audit(out) as audit, PoolWriter(out) as writer:
        for name, said in read_object(before / SETS, _AGAIN).items():
            counts = audit.sets[name] = SetCounts(**{**said, "dropped": Counter(said["dropped"])})
            own = range(first, first := first + counts.kept)
            for i in own:
                if isinstance(row := rows[i], Rendered):
                    numbers[i] = len(writer)
                    writer.add(row)
                else:
                    text = tokenizer.decode(old[i].ids, skip_special=False)
                    audit.drop(name, Row(f"{name} {i - own.start}", i, {"text": text}), row)
            chosen = [row for i in drawn if i in own and isinstance(row := rows[i], Rendered)]
            if not chosen:
                raise UserError(f"no answer of its own to {name!r} has an end", remedy="raise the step's max_new_tokens")
            counts.kept, counts.drawn = sum(i in numbers for i in own), len(chosen)
            counts.tokens, counts.trained_tokens = sum(len(r.ids) for r in chosen), sum(sum(r.mask) for r in chosen)
        writer.finish([numbers[i] for i in drawn if i in numbers])
        audit.close()
        return {name: counts.row() for name, counts in audit.sets.items()}
