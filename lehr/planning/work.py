"""The training stages of a recipe as amounts of work: tokens, steps, FLOPs, and the learning rate along the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from lehr.config.posttraining import Finetune
from lehr.config.recipe import Recipe
from lehr.config.schedule import ConstantSchedule, Schedule, StepSchedule
from lehr.model.size import flops_per_token
from lehr.optim.schedule import anneal_schedule, by_steps, by_tokens
from lehr.planning.chat import tokens_per_step
from lehr.train.batches import Batches

Rate = Callable[[float], float]


@dataclass(frozen=True)
class Work:
    """One training stage.

    `start` is where it begins on an axis of tokens that all stages share (anneals begin together, at their parent's end);
    `rate(tokens)` the learning rate after `tokens` of this stage; `pieces` the batch size in sequences from a token of the
    stage on. `how` says what the token count is: "exact", "estimated", or "at most".
    """

    name: str
    kind: str
    tokens: int
    steps: int
    sequence_length: int
    flops: float
    start: int
    rate: Rate
    pieces: tuple[tuple[int, int], ...]
    how: str = "exact"

    @property
    def batch_size(self) -> int:
        """Sequences of a full batch."""
        return self.pieces[-1][1]


def works(recipe: Recipe) -> tuple[list[Work], list[str]]:
    """Every stage that trains, in the order in which they run, and a note on each part that cannot be counted.

    Documents, tokenizer, scores, soup, sampled pairs and export train nothing and are left out.
    """
    found = _pretraining(recipe)
    found += _chat(recipe, found)
    planned, notes = _described(recipe, found)
    return found + planned, notes


def _stretch(recipe: Recipe, name: str, tokens: int, start: int, peak: float, schedule: Schedule) -> Work:
    s = recipe.stage1
    batches = Batches.of(tokens, s.batch_size, s.sequence_length, s.batch_ramp if name == "stage1" else None)
    whole = batches.all_instances * s.sequence_length  # what whole steps read, which is what will be trained on

    def rate(at: float) -> float:
        return by_tokens(schedule, peak, int(at), whole)

    flops = flops_per_token(recipe.model, s.sequence_length) * whole
    pieces = tuple((first * s.sequence_length, size) for first, size in zip(batches.instances, batches.sizes, strict=True))
    return Work(name, "pretraining", whole, batches.total, s.sequence_length, flops, start, rate, pieces)


def _pretraining(recipe: Recipe) -> list[Work]:
    s = recipe.stage1
    found = [_stretch(recipe, "stage1", s.tokens, 0, s.optim.lr, s.schedule)]
    if recipe.ramp:
        constant = ConstantSchedule(kind="constant")
        found.append(_stretch(recipe, "ramp", recipe.ramp.tokens, found[0].tokens, _end(found[0]), constant))
    parent = found[-1]
    if recipe.anneals:
        for name, run in zip(recipe.anneals.names, recipe.anneals.runs, strict=True):
            schedule = anneal_schedule(recipe.anneals.decay, run.tokens)
            found.append(_stretch(recipe, name, run.tokens, parent.start + parent.tokens, _end(parent), schedule))
    return found


def _end(work: Work) -> float:
    """The rate that a child inherits."""
    return work.rate(work.tokens)


def _after(found: list[Work]) -> int:
    return max(w.start + w.tokens for w in found)


def _chat(recipe: Recipe, before: list[Work]) -> list[Work]:
    """SFT, DPO and RLVR as Lehr runs them, on conversations that it generates."""
    found: list[Work] = []
    if recipe.sft is None:
        return found
    flops = flops_per_token(recipe.model, recipe.sft.max_length)  # as the stages themselves record it
    sections: dict[str, Finetune | None] = {"sft": recipe.sft, "dpo": recipe.dpo, "rlvr": recipe.rlvr}
    for name, section in sections.items():
        if section is not None:
            tokens = tokens_per_step(recipe, name) * section.steps
            start = _after([*before, *found])
            found.append(
                _tuning(
                    name,
                    name,
                    tokens,
                    section.steps,
                    recipe.sft.max_length,
                    flops,
                    start,
                    section.optim.lr,
                    section.schedule,
                    section.batch_size,
                    "estimated",
                )
            )
    return found


def _tuning(
    name: str,
    kind: str,
    tokens: int,
    steps: int,
    length: int,
    flops: float,
    start: int,
    peak: float,
    schedule: StepSchedule,
    batch: int,
    how: str,
) -> Work:
    def rate(at: float) -> float:
        return by_steps(schedule, peak, min(int(at * steps / tokens), steps), steps)

    return Work(name, kind, tokens, steps, length, flops * tokens, start, rate, ((0, batch),), how)


def _described(recipe: Recipe, before: list[Work]) -> tuple[list[Work], list[str]]:
    """The post-training that a report describes: an upper bound of its tokens, where its lengths are known."""
    found: list[Work] = []
    unknown: list[str] = []
    for i, stage in enumerate(recipe.posttraining):
        name = getattr(stage, "name", "") or stage.kind
        name = name if name not in {w.name for w in [*before, *found]} else f"{name}-{i + 1}"
        sides = 2 if stage.kind in ("dpo", "reward_model") else 1  # a pair is two sequences
        length, batch = getattr(stage, "max_length", 0) or 0, getattr(stage, "batch_size", 0) or 0
        examples = _examples(stage)
        batch_tokens = getattr(stage, "batch_tokens", 0)
        steps = getattr(stage, "steps", 0) or (math.ceil(examples / batch) if batch else 0)
        step_tokens = batch_tokens or batch * sides * length
        if not steps or not step_tokens:
            unknown.append(name)
            continue
        schedule = StepSchedule(
            kind=stage.schedule or "linear",  # type: ignore[union-attr]
            warmup_steps=stage.warmup_steps or int(stage.warmup_ratio * steps),  # type: ignore[union-attr]
            final_ratio=stage.final_ratio,  # type: ignore[union-attr]
        )
        length = length or recipe.stage1.sequence_length
        flops, start = flops_per_token(recipe.model, length), _after([*before, *found])
        peak, batch = stage.lr or 0.0, batch or max(1, batch_tokens // length)  # type: ignore[union-attr]
        found.append(
            _tuning(name, stage.kind, step_tokens * steps, steps, length, flops, start, peak, schedule, batch, "at most")
        )
    rolled = [w.name for w in found if w.kind in ("ppo", "grpo")]
    notes = [f"{', '.join(rolled)}: only the updates are counted, not sampling, reference and value passes"] if rolled else []
    notes += [f"not planned, since steps, batch or length are not given: {', '.join(unknown)}"] if unknown else []
    return found, notes


def _examples(stage: object) -> float:
    """Examples that pass through training, over all epochs; of PPO over the epochs on each batch of episodes too."""
    episodes: int = getattr(stage, "episodes", 0)
    samples: int = getattr(stage, "samples", 0)
    epochs: float = getattr(stage, "epochs", 0.0)
    return episodes * (getattr(stage, "ppo_epochs", 0) or 1) or samples * (epochs or 1.0)
