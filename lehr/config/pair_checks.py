"""Conditions on how pairs are made. Raises ValueError: `key: what is wrong; what to do`."""

from __future__ import annotations

from lehr.config.chat import share_of
from lehr.config.names import is_address
from lehr.config.pairs import Pairs
from lehr.config.parts import RecipeParts
from lehr.config.posttraining import DpoStep, RewardModelStep


def pairs(r: RecipeParts) -> None:
    """Each way of making pairs has what it needs, and its models come before the one that answers."""
    before = [r.base_stage]
    for step in r.posttraining:
        if isinstance(step, DpoStep | RewardModelStep) and step.pairs:
            parent = step.parent or before[-1]
            known = before[: before.index(parent)] if parent in before else before
            trains = not (isinstance(step, RewardModelStep) and step.loss == "contrastive")
            _check(step.pairs, f"posttraining.{step.name}.pairs", known, trains=trains)
            _check_sources(r, step.pairs, f"posttraining.{step.name}.pairs.examples")
        if not isinstance(step, RewardModelStep):
            before.append(step.name)


def _check(p: Pairs, key: str, known: list[str], *, trains: bool) -> None:
    if not p.families and not p.examples:
        raise ValueError(f"{key}.families: no prompts; give families, or examples, prompts of your own")
    if p.families and not ((p.prompts or not trains) and p.held_out_prompts):
        raise ValueError(f"{key}.prompts: of how many prompts; give it prompts and held_out_prompts")
    if p.by == "verifier" and not p.pool and p.samples < 2 and not p.reference_answers:
        raise ValueError(f"{key}.samples=1: one answer makes no pair; give 2 or more")
    if p.by == "judge" and not p.pool and p.samples < 2:
        raise ValueError(f"{key}.samples=1: one answer makes no pair; give 2 or more, or a pool")
    if (p.by == "judge") != (p.judge is not None):
        raise ValueError(f"{key}.judge: by={p.by} {'needs one' if p.by == 'judge' else 'asks none'}; see docs/recipes.md")
    if (p.by == "model-gap") != bool(p.weaker):
        raise ValueError(
            f"{key}.weaker: by={p.by} {'needs the weaker model' if p.by == 'model-gap' else 'compares no models'}; "
            "by=model-gap takes the parent's answers as chosen, and those of `weaker` as rejected"
        )
    if p.pool and p.by not in ("verifier", "judge"):
        raise ValueError(f"{key}.pool: by={p.by} asks no pool; leave it out")
    for own, name in (("weaker", p.weaker), *(("pool", name) for name in p.pool)):
        if name and name not in known and not is_address(name):
            raise ValueError(
                f"{key}.{own}: {name!r} is no model before the one that answers; those are: {', '.join(known) or 'none'}. "
                "Name one, or an artifact's address"
            )


def _check_sources(r: RecipeParts, p: Pairs, key: str) -> None:
    for name, amount in p.examples.items():
        source = r.chat.sources.get(name)
        usable = [n for n, s in r.chat.sources.items() if s.kind in ("prompts", "conversations")]
        if source is None or source.kind not in ("prompts", "conversations"):
            raise ValueError(f"{key}: {name!r} is no source of prompts or conversations; known: {', '.join(usable) or 'none'}")
        if share_of(amount) is not None:
            raise ValueError(f"{key}.{name}: {amount} of what; give a number of rows, or all")
        if source.kind == "conversations" and p.by == "verifier":
            raise ValueError(f"{key}.{name}: conversations have no verifiers; set by to judge or model-gap")
        if source.kind == "prompts" and p.by == "perturbation":
            raise ValueError(f"{key}.{name}: prompts have no answers of their own to perturb; give conversations")
