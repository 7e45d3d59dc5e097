"""The prompts of roll-outs with their verifiers, and the GRPO objective on them."""

from __future__ import annotations

from typing import Any

from lehr.data.synthetic.conversations import ChatExample
from lehr.data.tokenizer import Tokenizer
from lehr.model.generate import LanguageModel
from lehr.model.lora import adapted, base_of
from lehr.model.transformer import Transformer
from lehr.post.answers import Prompt
from lehr.post.asked import prompt_ids, refuse_long, roll_out_prompts
from lehr.post.grpo import GrpoObjective, GrpoSettings
from lehr.post.http_sampler import HttpSampler
from lehr.post.sets.prompts import read_prompts
from lehr.post.tuning import Setup
from lehr.post.verifiers import check_args, verify
from lehr.runtime.ports import Sampler
from lehr.train.checkpointing.checkpoint import copy_parameters


def grpo_objective(setup: Setup) -> GrpoObjective:
    """GRPO on training problems whose answers can be verified, starting from the parent, which is the reference model too."""
    policy = LanguageModel(setup.loaded.model, setup.loaded.tokenizer, chat=True)
    prompts = step_prompts(setup)
    setup.state.frozen["reference"] = reference_of(setup.loaded.model)
    c = setup.config
    return GrpoObjective(setup.state, policy, prompts, settings(c), c.seed, sampler_of(setup, policy))


def reference_of(model: Transformer) -> Transformer:
    """A model that stays as `model` is: the base of an adapted one, else a copy, as the state's model is trained in place."""
    return base_of(model) if adapted(model) else copy_parameters(model)


def sampler_of(setup: Setup, policy: LanguageModel) -> Sampler:
    """Who answers the prompts: the step's engine, or the stage's own."""
    c = setup.config
    return HttpSampler(policy, c.sampler, setup.ranks) if c.sampler else setup.context.serve(policy)


def step_prompts(setup: Setup) -> list[Prompt]:
    """The prompts of a step's roll-outs. Raises UserError if one leaves no room for an answer, or if the machine refuses what a
    verifier needs."""
    c, tokenizer = setup.config, setup.loaded.tokenizer
    examples = read_prompts(setup.folder("prompts")) if "prompts" in setup.data else list(roll_out_prompts(c))
    for example in {example.verifier: example for example in examples if example.verifier}.values():
        check_args(example.verifier, example.verifier_args)  # this machine may refuse what the one that prepared allowed
    prompts = [_prompt(example, tokenizer, c) for example in examples]
    refuse_long(setup.context.name, (p.ids for p in prompts), setup.loaded.model.config.max_seq_len, c.max_new_tokens)
    return prompts


def settings(c: Any) -> GrpoSettings:
    return GrpoSettings(
        c.batch_size, c.samples_per_prompt, c.temperature, c.max_new_tokens, c.clip_low, c.clip_high, c.kl,
        c.rollout_epochs, c.mini_batches, c.advantage_epsilon,
    )  # fmt: skip


def _prompt(example: ChatExample, tokenizer: Tokenizer, c: Any) -> Prompt:
    wrong, right = getattr(c, "wrong_reward", 0.0), getattr(c, "correct_reward", 1.0)

    def reward(answer: list[int], finished: bool) -> float:
        text = tokenizer.decode(answer)
        bonus = sum(weight * verify(name, {}, text, finished) for name, weight in c.bonus.items())
        if not example.verifier:
            return float(bonus)  # reward models alone say what the answer is worth
        verified = verify(example.verifier, example.verifier_args, text, finished)
        return float(wrong + (right - wrong) * verified + bonus)

    return Prompt(prompt_ids(example, tokenizer), reward)
