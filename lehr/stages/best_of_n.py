"""The best of several answers to each prompt becomes data of SFT."""

from __future__ import annotations

from typing import Any

from lehr.config.base import Positive, PositiveFloat
from lehr.config.chat import Amount, ConversationsSource, PromptsSource
from lehr.config.parallel import Parallel
from lehr.config.posttraining import BestOfNStep
from lehr.data.synthetic.conversations import check_families
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.node import Node
from lehr.pipeline.spec import Inputs, Outcome, Role, StageSpec
from lehr.pipeline.step_context import StepContext
from lehr.runtime import seeds
from lehr.stages.conversations import CleanedConfig, described, index_of
from lehr.stages.rewards import RewardConfig, rewards_for
from lehr.stages.sft import SftConfig


class BestOfNConfig(CleanedConfig):
    """`samples` prompts of `families`, and `amounts` of the `sources`; `n` answers to each, sampled from the policy under its
    own chat template. Without `rewards` the prompts' verifiers choose. The number of ranks affects the result: each samples
    with a seed of its own."""

    families: list[str]
    amounts: dict[str, Amount]
    sources: dict[str, PromptsSource | ConversationsSource]
    rewards: list[RewardConfig]
    ensemble: str
    n: Positive
    temperature: PositiveFloat
    max_new_tokens: Positive
    parallel: Parallel

    def described(self) -> dict[str, Any]:
        """A source's files count by their content and not by their path."""
        return {**super().described(), "sources": {name: described(source) for name, source in self.sources.items()}}


def run(config: BestOfNConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write the rows. Raises UserError, before anything is sampled, for a reward model with another tokenizer or chat template
    than the policy's."""
    from lehr.data.tokenizer import Tokenizer
    from lehr.distributed.ranks import run_ranks
    from lehr.post.best_of_n import Choosing, best_of_n
    from lehr.post.rewards.scorers import check_agrees, sources_of
    from lehr.post.sets.asked_prompts import asked_prompts
    from lehr.post.sets.audit import Audit
    from lehr.train.fit import RankContext

    policy, rewards = inputs["policy"], sources_of(config.rewards, [model.folder for model in inputs.many("rewards")])
    ours = Tokenizer.load(policy.folder)
    for reward in rewards:
        check_agrees(reward, ours, attempt.name)
    with Audit(attempt.out) as audit:
        asked = asked_prompts(wish(config), index_of(config, inputs), audit)
        context = RankContext.of(attempt, config.parallel)
        work = Choosing(config, context, policy.folder, tuple(rewards), tuple(asked))
        found = run_ranks(config.parallel.processes, config.parallel.threads, best_of_n, work)
        for name, of in found["sets"].items():
            counts = audit.sets[name]
            counts.drawn, counts.tokens, counts.trained_tokens = of["rows"], of["tokens"], of["trained_tokens"]
            counts.dropped.update(of["dropped"])
        audit.close()
    sampled = {"n": config.n, "curve": found["curve"]}
    meta = {"sets": found["sets"], "rows": sum(of["rows"] for of in found["sets"].values()), "best_of_n": sampled}
    return Outcome(meta, processes=config.parallel.processes)


def wish(config: BestOfNConfig) -> Any:
    """Its prompts: a lehr.post.sets.asked_prompts.Wish."""
    from lehr.post.sets.asked_prompts import Wish

    return Wish(config.families, config.amounts, config.sources, config.samples, config.seed, not config.rewards)


def expand(step: BestOfNStep, place: StepContext) -> list[Node]:
    """For each iteration the node of the best answers, and that of the model tuned on them, which the next one samples. Raises
    UserError for an unknown chat family."""
    check_families(step.families, f"posttraining.{step.name}.families")
    nodes, policy = list[Node](), place.parent
    for number in range(1, step.iterations + 1):
        name = step.name if number == step.iterations else f"{step.name}-i{number}"
        seed = seeds.derive(place.seed(step.name), "iteration", number)
        rows = _rows(step, place, policy, name, seed)
        nodes += [rows, Node(name, "sft", _tuning(step, place, seed), {"parent": (policy,), "rows": (rows.name,)})]
        policy = name
    return nodes


def _rows(step: BestOfNStep, place: StepContext, policy: str, name: str, seed: int) -> Node:
    sources: dict[str, PromptsSource | ConversationsSource] = {
        **place.sources(step.examples, PromptsSource), **place.sources(step.examples, ConversationsSource),
    }  # fmt: skip
    rewards, checkpoints = rewards_for(step.reward_models, place)
    config = BestOfNConfig(
        families=step.families, amounts=step.examples, sources=sources, samples=step.samples,
        rewards=rewards, ensemble=step.ensemble, n=step.n, temperature=step.temperature, max_new_tokens=step.max_new_tokens,
        max_length=step.max_length or place.context_tokens, seed=seed, template="", parallel=place.parallel,
        **place.cleaning(),
    )  # fmt: skip
    inputs = {"policy": (policy,), "rewards": checkpoints}
    cleaned = {role: names for role, names in place.cleaned_with().items() if role != "tokenizer"}
    return Node(f"{name}-rows", "best_of_n", config, {**inputs, **cleaned})


def _tuning(step: BestOfNStep, place: StepContext, seed: int) -> SftConfig:
    assert step.optim is not None
    return SftConfig(
        optim=step.optim, schedule=step.schedule, steps=step.steps, epochs=step.epochs or 1.0, batch_size=step.batch_size,
        batch_tokens=0, max_length=step.max_length, loss=step.loss, replay=None, seed=seed, lora=step.lora,
        checkpoint_steps=step.checkpoint_steps, parallel=place.parallel, watch=place.watch,
    )  # fmt: skip


SPEC = StageSpec(
    "best_of_n",
    BestOfNConfig,
    {
        "policy": Role("checkpoint"),
        "rewards": Role("checkpoint", many=True, optional=True),
        "documents": Role("documents", optional=True),
    },
    "conversations",
    "ranked",
    "post-training",
    run,
    expand=expand,
)
