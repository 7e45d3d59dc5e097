"""The BRAIn objective of a step: its prompts, reference and reward models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lehr.model.generate import LanguageModel
from lehr.post.brain import BrainObjective, BrainSettings
from lehr.post.prompts import reference_of, sampler_of, step_prompts
from lehr.post.reward_setup import rewards_of
from lehr.post.tuning import Setup


def brain_objective(setup: Setup) -> BrainObjective:
    """BRAIn that starts from the parent, which is the reference model too. Raises UserError as `step_prompts` and
    `rewards_of` do."""
    policy, prompts = LanguageModel(setup.loaded.model, setup.loaded.tokenizer, chat=True), step_prompts(setup)
    setup.state.frozen["reference"] = reference_of(policy.model)
    c, rewarded = setup.config, replace(settings(setup.config), rewards=rewards_of(setup))
    return BrainObjective(setup.state, policy, prompts, rewarded, c.seed, sampler_of(setup, policy))


def settings(c: Any) -> BrainSettings:
    """Of a lehr.stages.brain.BrainConfig."""
    return BrainSettings(
        c.batch_size, c.samples_per_prompt, c.temperature, c.max_new_tokens, c.beta, c.refresh_steps, c.baseline,
    )  # fmt: skip
