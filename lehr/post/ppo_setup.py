"""The PPO objective of a step: its prompts, reference, value model and reward models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lehr.model.generate import LanguageModel
from lehr.model.lora import adapt
from lehr.model.scalar import ScalarModel
from lehr.post.ppo import Controller, PpoSettings
from lehr.post.ppo_objective import VALUE, PpoObjective
from lehr.post.prompts import reference_of, sampler_of, step_prompts
from lehr.post.reward_setup import rewards_of, scalar_model
from lehr.post.tuning import Setup
from lehr.runtime import seeds
from lehr.train.state import Trained


def ppo_objective(setup: Setup) -> PpoObjective:
    """PPO that starts from the parent, which is the reference model too. Raises UserError for a reward model with another
    tokenizer or template or a shorter context than the policy's, and as `step_prompts` does."""
    c, policy = setup.config, LanguageModel(setup.loaded.model, setup.loaded.tokenizer, chat=True)
    prompts = step_prompts(setup)
    value = scalar_model(setup, setup.data["value"]) if "value" in setup.data else ScalarModel.on(policy.model)
    if c.lora:
        adapt(value, c.lora, seeds.derive(c.seed, "adapters", VALUE))
    optim = c.optim.model_copy(update={"lr": c.value_lr or c.optim.lr})
    setup.state.models[VALUE] = Trained.fresh(value, optim)
    setup.state.frozen["reference"] = reference_of(policy.model)
    rewarded = replace(settings(c), rewards=rewards_of(setup))
    return PpoObjective(setup.state, policy, prompts, rewarded, c.seed, sampler_of(setup, policy))


def settings(c: Any) -> PpoSettings:
    """Of a lehr.stages.ppo.PpoConfig."""
    return PpoSettings(
        c.batch_size, c.samples_per_prompt, c.temperature, c.max_new_tokens,
        Controller(c.kl, c.kl_target, float(c.kl_horizon)), c.kl_estimator, c.gamma, c.gae_lambda, c.clip, c.value_clip,
        c.value_coefficient, c.whitened_advantages, c.rollout_epochs, c.mini_batches,
    )  # fmt: skip
