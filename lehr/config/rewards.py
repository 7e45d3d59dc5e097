"""Conditions on reward models and on the steps that name them. Raises ValueError: `key: what is wrong; what to do`."""

from __future__ import annotations

from lehr.config.names import is_address
from lehr.config.parts import RecipeParts
from lehr.config.posttraining import BestOfNStep, RewardedStep, RewardModelStep


def rewarded(r: RecipeParts) -> None:
    """Rewards are reward models before the step that names them; a reward model's keys are those of its loss."""
    models, known, contrasts = [r.base_stage], list[str](), list[str]()
    for step in r.posttraining:
        key = f"posttraining.{step.name}"
        if isinstance(step, RewardModelStep):
            _check_model(step, key, models)
            (contrasts if step.loss == "contrastive" else known).append(step.name)
            continue
        if isinstance(step, RewardedStep):
            _check_ppo(step, key, known, contrasts)
        if isinstance(step, BestOfNStep):
            _check_best(step, key, [*known, *contrasts])
            unjudged = [n for n in step.examples if (s := r.chat.sources.get(n)) is not None and s.kind == "conversations"]
            if unjudged and not step.reward_models:
                raise ValueError(f"{key}.examples.{unjudged[0]}: conversations have no verifiers; give the step reward_models")
        models.append(step.name)


def _check_model(step: RewardModelStep, key: str, models: list[str]) -> None:
    if step.against and step.loss != "contrastive":
        raise ValueError(f"{key}.against: {step.loss} contrasts nothing; set loss to contrastive, or leave it out")
    if step.against and step.against not in models and not is_address(step.against):
        raise ValueError(f"{key}.against={step.against!r} is not a model before this step; those are: {', '.join(models)}")
    if step.against and step.against == (step.parent or models[-1]):
        raise ValueError(f"{key}.against={step.against!r} is its parent too: the contrast is 0; name another model")
    if step.aspects and step.loss != "multi-aspect":
        raise ValueError(f"{key}.aspects: {step.loss} has none; set loss to multi-aspect, or leave them out")
    if step.pairs and step.loss == "multi-aspect":
        raise ValueError(f"{key}.pairs: verifiers give no ratings; give rated answers in examples")


def _check_best(step: BestOfNStep, key: str, known: list[str]) -> None:
    for name in step.reward_models:
        if name not in known and not is_address(name):
            raise ValueError(
                f"{key}.reward_models: there is no reward model {name!r} before this step; "
                f"those are: {', '.join(known) or 'none'}"
            )
    if step.families and not step.samples:
        raise ValueError(f"{key}.families: of how many prompts; give the step its samples")


def _check_ppo(step: RewardedStep, key: str, known: list[str], contrasts: list[str]) -> None:
    """Its value model begins as a trained reward model, its rewards come before it; something rewards its answers."""
    named = {f"reward_models.{name}": name for name in step.reward_models} | {"value": getattr(step, "value", "")}
    for own, name in named.items():
        if own == "value" and name in contrasts:
            raise ValueError(f"{key}.{own}: {name!r} is a contrast of two language models; name a trained one")
        if name and name not in (*known, *contrasts) and not is_address(name):
            raise ValueError(
                f"{key}.{own}: {name!r} is no reward model before this step; those are: {', '.join(known) or 'none'}"
            )
    weights = [step.correct_reward - step.wrong_reward, *step.bonus.values(), *step.reward_models.values()]
    if not any(weights) and step.no_eos_reward is None:
        raise ValueError(f"{key}: no answer is rewarded more than another; give it correct_reward, or reward_models")
