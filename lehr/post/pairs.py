"""Preference pairs sampled from a model itself and judged by verifiers, and the DPO objective on them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lehr.artifacts.artifact import Artifact, write_beside
from lehr.artifacts.tensors import read_tensors, save_tensors
from lehr.config.posttraining import Pairs
from lehr.data.synthetic.conversations import ChatExample, Message, reference_answer
from lehr.data.tokenizer import Tokenizer
from lehr.distributed.device import own_device
from lehr.distributed.ranks import Ranks
from lehr.distributed.shared_model import SharedModel
from lehr.model.generate import LanguageModel
from lehr.post.asked import SPLITS, pair_prompts, pairs_seed, prompt_ids, refuse_long
from lehr.post.chat import render, turn_end_id
from lehr.post.preference import DpoObjective, DpoSettings, RenderedPair, reference_logprobs
from lehr.post.rendered import Rendered
from lehr.post.tuning import Setup
from lehr.post.verifiers import verify
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import object_in
from lehr.train.checkpointing.checkpoint import load_checkpoint
from lehr.train.fit import RankContext

PAIRS, REFERENCE = "pairs.jsonl", "reference.safetensors"
_AGAIN = "delete the artifact and run the same command again"


@dataclass(frozen=True)
class Sampling:
    """What every rank is given. Prompts are drawn from `seed` and the name `stream`."""

    context: RankContext
    pairs: Pairs
    parent: Path
    seed: int
    stream: str


def sample_pairs(ranks: Ranks, work: Sampling) -> dict[str, int]:
    """Sample the parent on training and held-out prompts; a verified and a failed answer to one prompt make a pair. Returns the
    number of pairs by split. Held-out pairs are used for scoring only. Pairs are on-policy for the parent, and score every
    model trained from it. Raises UserError if there are none.
    """
    loaded, d = load_checkpoint(Artifact.open(work.parent, verify=False)), work.pairs
    loaded.model.to(own_device(ranks))
    own = LanguageModel(loaded.model, loaded.tokenizer, chat=True)
    model = SharedModel(own, ranks, work.context.serve(own))
    counts: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    for split in SPLITS:
        seed = pairs_seed(work.seed, work.stream, split)
        examples = list(pair_prompts(d, split, seed))
        found = list(_judge(examples, model, d, seed))
        counts[split] = len(found)
        rows += [{"split": split, **row} for row in found]
    if ranks.first:
        (work.context.out / PAIRS).write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows), encoding="utf-8")
        if not counts["train"] or not counts["held_out"]:
            raise UserError(
                f"no pairs: for every prompt the model's answers are all right or all wrong ({counts})",
                where=f"{work.context.name}: samples={d.samples}",
                remedy="raise pairs.samples or pairs.prompts, or train SFT longer",
            )
    return counts


def _judge(examples: list[ChatExample], model: SharedModel, d: Pairs, seed: int) -> Iterable[dict[str, Any]]:
    """For each prompt whose samples differ in correctness: the first verified and the first failed answer, both finished."""
    tokenizer, end = model.tokenizer, turn_end_id(model.tokenizer)
    rendered = [prompt_ids(e, tokenizer) for e in examples]
    refuse_long("the pairs", rendered, model.max_length, d.max_new_tokens)
    prompts = [ids for ids in rendered for _ in range(d.samples)]
    answers = model.generate(prompts, d.max_new_tokens, [end], d.temperature, seed)
    for i, example in enumerate(examples):
        right: list[str] = []
        wrong: list[str] = []
        for ids in answers[i * d.samples : (i + 1) * d.samples]:
            if ids and ids[-1] == end:  # a truncated answer is neither preferred nor rejected
                text = tokenizer.decode(ids)
                (right if verify(example.verifier, example.verifier_args, text, True) == 1.0 else wrong).append(text)
        if wrong and not right and d.reference_answers:
            right.append(reference_answer(example))
        if right and wrong:
            messages = [m.row() for m in example.prompt]
            yield {"family": example.family, "prompt": messages, "chosen": right[0], "rejected": wrong[0]}


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
