"""Generated prompts with verifiers, and the GRPO objective on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lehr.data.synthetic.conversations import ChatExample, in_turn
from lehr.data.tokenizer import Tokenizer
from lehr.model.generate import LanguageModel
from lehr.post.asked import prompt_ids, refuse_long
from lehr.post.grpo import GrpoObjective, GrpoSettings, Prompt
from lehr.post.tuning import Setup
from lehr.post.verifiers import verify
from lehr.train.checkpoint import copy_parameters


def grpo_objective(setup: Setup) -> GrpoObjective:
    """From the parent, which is the reference too, on training problems whose answers can be verified."""
    c, model, tokenizer = setup.config, setup.loaded.model, setup.loaded.tokenizer
    policy, rollouts = LanguageModel(model, tokenizer, chat=True), -(-c.steps // (c.rollout_epochs * c.mini_batches))
    prompts = generated_prompts(c.families, rollouts * c.batch_size, tokenizer, c.seed, c.bonus)
    refuse_long(setup.context.name, (p.ids for p in prompts), policy.max_length, c.max_new_tokens)
    setup.state.frozen["reference"] = copy_parameters(model)
    return GrpoObjective(setup.state, policy, prompts, settings(c), c.seed, setup.context.serve(policy))


def settings(c: Any) -> GrpoSettings:
    return GrpoSettings(
        c.batch_size, c.samples_per_prompt, c.temperature, c.max_new_tokens, c.clip_low, c.clip_high, c.kl,
        c.rollout_epochs, c.mini_batches, c.advantage_epsilon,
    )  # fmt: skip


def generated_prompts(
    families: Sequence[str], count: int, tokenizer: Tokenizer, seed: int, bonus: Mapping[str, float]
) -> list[Prompt]:
    """`count` training prompts with their rewards, families in turn: enough for every step to see new ones."""
    return [_prompt(example, tokenizer, bonus) for example in in_turn(families, "train", count, seed)]


def _prompt(example: ChatExample, tokenizer: Tokenizer, bonus: Mapping[str, float]) -> Prompt:
    def reward(answer: list[int], finished: bool) -> float:
        text = tokenizer.decode(answer)
        right = verify(example.verifier, example.verifier_args, text, finished)
        return right + sum(weight * verify(name, {}, text, finished) for name, weight in bonus.items())

    return Prompt(prompt_ids(example, tokenizer), reward)
