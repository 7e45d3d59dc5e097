"""A reward model's data on disk: pairs as DPO has them, and answers with ratings by aspect."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lehr.data.synthetic.conversations import Message
from lehr.data.tokenizer import Tokenizer
from lehr.post.chat import render
from lehr.post.pairs import PAIRS, read_pairs
from lehr.post.preference import RenderedPair
from lehr.post.rendered import Rendered
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import object_in

RATINGS = "ratings.jsonl"
_AGAIN = "delete the artifact and run the same command again"


@dataclass(frozen=True)
class HeldOutPairs:
    """Pairs to judge by, with the domain and the prompt of each."""

    pairs: Sequence[RenderedPair]
    domains: Sequence[str]
    prompts: Sequence[Hashable]


@dataclass(frozen=True)
class RatedAnswers:
    """Answers, and their ratings by aspect, (R, K)."""

    answers: Sequence[Rendered]
    ratings_RK: Tensor


def held_out_pairs(folder: Path, tokenizer: Tokenizer) -> HeldOutPairs | None:
    """The pairs of the split held_out; None if there are none."""
    rows = [row for row in _rows(folder / PAIRS) if row["split"] == "held_out"]
    if not rows:
        return None
    prompts = [json.dumps(row["prompt"], sort_keys=True) for row in rows]
    return HeldOutPairs(read_pairs(folder, "held_out", tokenizer), [row["family"] for row in rows], prompts)


def read_ratings(folder: Path, split: str, aspects: Sequence[str], tokenizer: Tokenizer) -> RatedAnswers:
    """The rated answers of one split, rendered."""
    rows = [row for row in _rows(folder / RATINGS) if row["split"] == split]
    answers = []
    for row in rows:
        prompt = [Message.of(m) for m in row["prompt"]]
        answers.append(Rendered(*render([*prompt, Message("assistant", row["answer"])], tokenizer, False)))
    ratings = [[float(row["ratings"][name]) for name in aspects] for row in rows]
    return RatedAnswers(answers, torch.tensor(ratings).view(len(rows), len(aspects)))


def reward_steps(c: Any, folder: Path) -> int:
    """The optimiser steps of a step: as given, or of so many epochs of the training examples in `folder`."""
    if c.steps:
        return int(c.steps)
    path = folder / (RATINGS if c.loss == "multi-aspect" else PAIRS)
    size: int = sum(row["split"] == "train" for row in _rows(path))
    epochs, batch_size = float(c.epochs), int(c.batch_size)
    return math.ceil(size * epochs / batch_size)


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError("no such file", where=path, remedy=_AGAIN) from None
    return [object_in(line, str(path), _AGAIN) for line in lines]
