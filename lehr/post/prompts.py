"""Generated prompts with verifiers, and the GRPO objective on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lehr.data.reasoning import PREFIX
from lehr.data.synthetic.conversations import ChatExample
from lehr.data.tokenizer import Tokenizer
from lehr.model.generate import LanguageModel
from lehr.post.asked import prompt_ids, refuse_long, roll_out_prompts
from lehr.post.grpo import GrpoObjective, GrpoSettings, Prompt
from lehr.post.http_sampler import HttpSampler
from lehr.post.tuning import Setup
from lehr.post.verifiers import verify
from lehr.post.verifiers.sandbox import check_machine
from lehr.train.checkpointing.checkpoint import copy_parameters


def grpo_objective(setup: Setup) -> GrpoObjective:
    """GRPO on training problems whose answers can be verified, starting from the parent, which is the reference model too."""
    c, model, tokenizer = setup.config, setup.loaded.model, setup.loaded.tokenizer
    if any(family.startswith(PREFIX) for family in c.families):
        check_machine("reasoning_gym")  # this one may refuse what the one that planned allowed
    policy = LanguageModel(model, tokenizer, chat=True)
    prompts = [_prompt(example, tokenizer, c.bonus) for example in roll_out_prompts(c)]
    refuse_long(setup.context.name, (p.ids for p in prompts), policy.max_length, c.max_new_tokens)
    # A copy: the state's model is trained in place, the reference must not change.
    setup.state.frozen["reference"] = copy_parameters(model)
    sampler = HttpSampler(policy, c.sampler, setup.ranks) if c.sampler else setup.context.serve(policy)
    return GrpoObjective(setup.state, policy, prompts, settings(c), c.seed, sampler)


def settings(c: Any) -> GrpoSettings:
    return GrpoSettings(
        c.batch_size, c.samples_per_prompt, c.temperature, c.max_new_tokens, c.clip_low, c.clip_high, c.kl,
        c.rollout_epochs, c.mini_batches, c.advantage_epsilon,
    )  # fmt: skip


def _prompt(example: ChatExample, tokenizer: Tokenizer, bonus: Mapping[str, float]) -> Prompt:
    def reward(answer: list[int], finished: bool) -> float:
        text = tokenizer.decode(answer)
        right = verify(example.verifier, example.verifier_args, text, finished)
        return right + sum(weight * verify(name, {}, text, finished) for name, weight in bonus.items())

    return Prompt(prompt_ids(example, tokenizer), reward)
