"""Preference pairs as files have them, and the DPO objective on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lehr.artifacts.artifact import write_beside
from lehr.artifacts.tensors import read_tensors, save_tensors
from lehr.data.synthetic.conversations import Message
from lehr.data.tokenizer import Tokenizer
from lehr.post.chat import render
from lehr.post.preference import DpoObjective, DpoSettings, RenderedPair, reference_logprobs
from lehr.post.rendered import Rendered
from lehr.post.tuning import Setup
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import object_in

PAIRS, REFERENCE = "pairs.jsonl", "reference.safetensors"
_AGAIN = "delete the artifact and run the same command again"


def dpo_objective(setup: Setup) -> DpoObjective:
    """DPO on the step's pairs; the parent is the reference model too, whose log-probabilities are computed once and kept beside
    the saves."""
    c, model, tokenizer = setup.config, setup.loaded.model, setup.loaded.tokenizer
    pairs = read_pairs(setup.folder("pairs"), "train", tokenizer)
    settings = DpoSettings(c.batch_size, c.beta, c.chosen_nll, c.normalised)
    # The model is still the parent's: a save is restored after this.
    return DpoObjective(model, pairs, _reference(setup, pairs), settings, c.seed)


def _reference(setup: Setup, pairs: Sequence[RenderedPair]) -> Tensor:
    ranks, path = setup.ranks, setup.context.scratch / REFERENCE
    kept = read_tensors(path)["reference"] if path.is_file() else None
    if all(ranks.gather(kept is not None and len(kept) == len(pairs))) and kept is not None:
        return kept
    found = reference_logprobs(setup.loaded.model, pairs, ranks)
    if ranks.first:
        write_beside(path, lambda beside: save_tensors({"reference": found}, beside))
    return found


def dpo_steps(c: Any, folder: Path) -> int:
    """The optimiser steps of a step: as given, or of so many epochs of the training pairs in `folder`."""
    if c.steps:
        steps: int = c.steps
        return steps
    path = folder / PAIRS
    lines = path.read_text(encoding="utf-8").splitlines()
    size = len([line for line in lines if object_in(line, str(path), _AGAIN)["split"] == "train"])
    epochs, batch_size = float(c.epochs), int(c.batch_size)
    return math.ceil(size * epochs / batch_size)


def read_pairs(folder: Path, split: str, tokenizer: Tokenizer) -> list[RenderedPair]:
    """The pairs of one split, rendered. Raises UserError if there are none or the file is damaged."""
    out = []
    path = folder / PAIRS
    for line in path.read_text(encoding="utf-8").splitlines():
        row = object_in(line, str(path), _AGAIN)
        if row["split"] == split:
            prompt = [Message.of(m) for m in row["prompt"]]
            sides = [
                Rendered(*render([*prompt, Message("assistant", row[side])], tokenizer, False))
                for side in ("chosen", "rejected")
            ]
            out.append(RenderedPair(*sides))
    if not out:
        raise UserError(f"no {split} pairs", where=path, remedy="raise pairs.prompts")
    return out
