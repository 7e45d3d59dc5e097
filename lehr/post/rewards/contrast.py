"""What the contrast of two models is worth on held-out pairs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lehr.artifacts.artifact import write_atomic
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Ranks
from lehr.post.rewards.data import held_out_pairs
from lehr.post.rewards.scorers import Source, load_scorer
from lehr.post.rewards.training import REWARD, said_of, sides_of
from lehr.train.fit import RankContext


@dataclass(frozen=True)
class Contrast:
    """What every rank is given. `pairs` is a folder, None without any."""

    context: RankContext
    source: Source
    pairs: Path | None


def judge_contrast(ranks: Ranks, work: Contrast, of: list[str]) -> dict[str, Any]:
    """Write `reward.json`; returns its content. `of` are the digests of the two checkpoints."""
    found: dict[str, Any] = {"loss": "contrastive", "of": of, "per_token": work.source.per_token}
    held_out = held_out_pairs(work.pairs, Tokenizer.load(work.source.folders[0])) if work.pairs else None
    if held_out is not None:
        mine = load_scorer(work.source, ranks).scores(ranks.split(sides_of(held_out.pairs)))
        whole = torch.tensor(ranks.join([part.tolist() for part in ranks.gather(mine)]))
        found |= said_of(held_out, whole.numpy())
    if ranks.first:
        write_atomic(work.context.out / REWARD, json.dumps(found, indent=1, sort_keys=True))
    return found
