"""Conditions between the parts of a recipe. Each check raises ValueError: `key: what is wrong; what to do`."""

from __future__ import annotations

from collections.abc import Callable

from lehr.config.ancestry import origins
from lehr.config.chat import share_of
from lehr.config.merge_checks import merges
from lehr.config.names import is_address
from lehr.config.pair_checks import pairs
from lehr.config.parts import RecipeParts
from lehr.config.posttraining import (
    BestOfNStep,
    BrainStep,
    DpoStep,
    GrpoStep,
    PpoStep,
    Replaying,
    RewardModelStep,
    RollOutStep,
    SelfKnowledgeStep,
    SftStep,
    Tuning,
)
from lehr.config.rewards import rewarded
from lehr.runtime.metrics import find

_DATA, _SCORES = ("documents", "tokenizer", "shards", "pairs"), ("scores", "baselines")
# Nodes of the graph that no step may be called after, and what the names of others begin with (scores-soup, anneal-42).
_TAKEN = (*_DATA, *_SCORES, "stage1", "base", "ramp", "soup", "export", "anneal", "report")
_LEARNS_FROM = {
    SftStep: ("conversations",), DpoStep: ("preferences",), RewardModelStep: ("preferences",),
    BestOfNStep: ("prompts", "conversations"), GrpoStep: ("prompts",), PpoStep: ("prompts",),
    BrainStep: ("prompts",), SelfKnowledgeStep: ("conversations",),
}  # fmt: skip
LEAST_TEMPERATURE = 1e-6  # below it sampling is in effect greedy, and far below it logits / temperature overflow


def beginning(r: RecipeParts) -> None:
    """Exactly one of stage1 and base, and what each needs."""
    if (r.stage1 is None) == (r.base is None):
        raise ValueError("stage1: give either stage1, to pretrain from scratch, or base, an existing model, and not both")
    if r.base is None and r.tokenizer is None:
        raise ValueError("tokenizer: missing, and without base there is none to use; add vocab_size, or a path")
    # An anneal ends at 0, which is no rate to go on from.
    if r.base and (r.base.training is None or r.base.training.lr <= 0) and (r.ramp or r.anneals):
        raise ValueError(
            "base: its checkpoint does not record a learning rate, from which ramp and anneals start; remove ramp and anneals"
        )
    if r.data is None and (r.stage1 or r.ramp or r.anneals):
        raise ValueError("data: missing, but pretraining needs it; add sources and mixes")


def mixes(r: RecipeParts) -> None:
    """Mixes draw from existing sources, and stages name existing mixes."""
    known_mixes = r.data.mixes if r.data else {}
    for name, mix in known_mixes.items():
        for key, source in mix.named():
            if r.data and source not in r.data.sources:
                known = ", ".join(sorted(r.data.sources))
                raise ValueError(f"data.mixes.{name}.{key}: there is no source {source!r}; sources are: {known}")
    used = {"stage1.mix": r.stage1.mix} if r.stage1 else {}
    if r.ramp:
        used["ramp.mix"] = r.ramp.mix
    if r.anneals:
        used["anneals.mix"] = r.anneals.mix
        used |= {f"anneals.more.{i}.mix": run.mix for i, run in enumerate(r.anneals.more)}
    for step in r.posttraining:
        if isinstance(step, Replaying) and step.replay_rows:
            used[f"posttraining.{step.name}.replay_mix"] = step.replay_mix
    for key, mix_name in used.items():
        if mix_name not in known_mixes:
            raise ValueError(f"{key}: there is no mix {mix_name!r}; mixes are: {', '.join(sorted(known_mixes)) or 'none'}")


def chat_sources(r: RecipeParts) -> None:
    """Steps draw from sources of their kind, and shares have a whole."""
    for step in r.posttraining:
        kinds = next((kinds for of, kinds in _LEARNS_FROM.items() if isinstance(step, of)), ())
        amounts: dict[str, int | str] = getattr(step, "examples", {}) if kinds else {}
        for name, amount in amounts.items():
            key, source = f"posttraining.{step.name}.examples.{name}", r.chat.sources.get(name)
            known, said = [n for n, s in r.chat.sources.items() if s.kind in kinds], " or ".join(kinds)
            if source is not None and source.kind not in kinds:
                raise ValueError(
                    f"{key}: {name!r} is a source of {source.kind}, and {step.kind} learns from {said}; name another"
                )
            if source is None and not isinstance(step, SftStep | SelfKnowledgeStep | RollOutStep):  # of families too
                raise ValueError(f"{key}: there is no source {name!r}; sources of {said} are: {', '.join(known) or 'none'}")
            if share_of(amount) is not None and not (isinstance(step, Tuning) and step.samples):
                raise ValueError(f"{key}: {amount} of what; give the step its samples, a number of rows")
        if isinstance(step, RollOutStep) and step.examples and step.families:
            raise ValueError(f"posttraining.{step.name}: families and examples both give prompts; remove one of them")
        if isinstance(step, SelfKnowledgeStep):
            _negatives(r, step)
        if isinstance(step, DpoStep | RewardModelStep) and step.examples and step.pairs:
            raise ValueError(f"posttraining.{step.name}: pairs and examples both give preferences; remove one of them")


def _negatives(r: RecipeParts, step: SelfKnowledgeStep) -> None:
    known = [name for name, source in r.chat.sources.items() if source.kind == "conversations"]
    for name, amount in step.negatives.items():
        key = f"posttraining.{step.name}.negatives.{name}"
        if name not in known:
            raise ValueError(f"{key}: there is no source {name!r} of conversations; those are: {', '.join(known) or 'none'}")
        if share_of(amount) is not None and not step.samples:
            raise ValueError(f"{key}: {amount} of what; give the step its samples, a number of questions")


def lengths(r: RecipeParts) -> None:
    """Vocabulary, sequence lengths and token budgets fit the model."""
    if r.tokenizer and r.tokenizer.vocab_size > r.model.vocab_size:
        raise ValueError(
            f"tokenizer.vocab_size={r.tokenizer.vocab_size} is more than model.vocab_size={r.model.vocab_size}; "
            "the model needs a row for every token"
        )
    rows = {"stage1.sequence_length": r.stage1.sequence_length} if r.stage1 else {}
    rows |= {f"posttraining.{s.name}.max_length": s.max_length for s in r.posttraining if isinstance(s, Tuning)}
    for key, length in rows.items():
        if length > r.model.max_seq_len:
            raise ValueError(f"{key}={length} is more than model.max_seq_len={r.model.max_seq_len}; lower it")
    begun = r.stage1 or (r.base.training if r.base else None)
    step = begun.batch_size * begun.sequence_length if begun else 0
    budgets = {"ramp.tokens": r.ramp.tokens} if r.ramp else {}
    budgets |= {f"anneals.tokens of seed {run.seed}": run.tokens for run in (r.anneals.runs if r.anneals else [])}
    for key, tokens in budgets.items():
        if tokens < step:
            raise ValueError(f"{key.split()[0]}={tokens} is less than one step of {step} tokens; raise it")


def answers(r: RecipeParts) -> None:
    """Answers leave room for a prompt, and temperatures make samples differ. The prompts' lengths are only known with the
    tokenizer (lehr.pipeline.requirements)."""
    longest = {"evaluation.max_new_tokens": r.evaluation.max_new_tokens}
    temperatures = dict[str, float]()
    for step in r.posttraining:
        key = f"posttraining.{step.name}"
        if isinstance(step, SelfKnowledgeStep) and step.examples and step.replay_answers == "own":
            longest[f"{key}.max_new_tokens"] = step.max_new_tokens
        if isinstance(step, RollOutStep | BestOfNStep):
            longest[f"{key}.max_new_tokens"] = step.max_new_tokens
            temperatures[f"{key}.temperature"] = step.temperature
        if isinstance(step, DpoStep | RewardModelStep) and step.pairs:
            longest[f"{key}.pairs.max_new_tokens"] = step.pairs.max_new_tokens
            temperatures[f"{key}.pairs.temperature"] = step.pairs.temperature
    for key, tokens in longest.items():
        if tokens >= r.model.max_seq_len:
            raise ValueError(f"{key}={tokens} leaves no room for a prompt in model.max_seq_len={r.model.max_seq_len}; lower it")
    for key, temperature in temperatures.items():
        if temperature < LEAST_TEMPERATURE:
            raise ValueError(f"{key}={temperature:g} always takes the likeliest token: all samples are equal; raise it")


def layout(r: RecipeParts) -> None:
    """Model and batches can be divided among the ranks."""
    if r.compile == "on" and r.model.n_experts:
        raise ValueError("compile=on with model.n_experts: only dense models are compiled; set compile to auto or off")
    if r.compile == "on" and not r.parallel.compiles:
        where = f"parallel.activation_checkpointing=full and parallel.tensor={r.parallel.tensor}"
        raise ValueError(f"compile=on with {where}: set recompute to selective, or compile to auto or off")
    r.parallel.check_model(r.model)
    if r.stage1:
        r.parallel.check_batch("stage1.batch_size", r.stage1.batch_size)
        if ramp := r.stage1.batch_ramp:
            if not r.parallel.whole:
                r.parallel.check_batch("stage1.batch_ramp.start", ramp.start)
            elif ramp.start < r.parallel.processes:
                ranks = f"parallel.processes={r.parallel.processes}"
                raise ValueError(f"stage1.batch_ramp.start={ramp.start} leaves some of {ranks} without a sequence; raise it")
    for step in r.posttraining:
        world = r.parallel.by(step.processes).processes
        rows = {"batch_size": step.batch_size} if isinstance(step, Tuning) else {}
        rows |= {"replay_rows": step.replay_rows} if isinstance(step, Replaying) else {}
        for key, count in rows.items():
            if count % world:
                ranks = f"posttraining.{step.name}.processes" if step.processes else "parallel.processes"
                raise ValueError(f"posttraining.{step.name}.{key}={count} is not a multiple of {ranks}={world}; change one")


def rollouts(r: RecipeParts) -> None:
    """Mini-batches divide a roll-out's prompts equally, and every rank has a part of each."""
    for step in r.posttraining:
        world = r.parallel.by(step.processes).processes
        if isinstance(step, GrpoStep | PpoStep) and step.batch_size % (step.mini_batches * world):
            ranks = f"posttraining.{step.name}.processes" if step.processes else "parallel.processes"
            raise ValueError(
                f"posttraining.{step.name}.mini_batches={step.mini_batches} do not divide batch_size={step.batch_size} "
                f"over {ranks}={world}; change one of them"
            )
        if isinstance(step, BrainStep) and step.total_steps % step.refresh_steps:
            raise ValueError(
                f"posttraining.{step.name}.refresh_steps={step.refresh_steps} do not divide its {step.total_steps} steps: the "
                "last proposal's answers would be left over; change one of them"
            )


def steps(r: RecipeParts) -> None:
    """Names are free and distinct, parents come first, and preference and reward steps start from a chat model. Reward models
    are nobody's parents."""
    chats = {"base"} if r.base else set()
    before, rewards = [r.base_stage], list[str]()
    for step in r.posttraining:
        key = f"posttraining.{step.name}"
        if step.name.split("-")[0] in _TAKEN or step.name.endswith(("-pairs", "-rows", "-answers")):
            raise ValueError(f"{key}: the name {step.name!r} is taken by another stage; choose another")
        if step.name in (*before, *rewards):
            raise ValueError(f"{key}: the name {step.name!r} stands twice; give each step its own")
        if step.parent in rewards:
            raise ValueError(f"{key}.parent={step.parent!r} is a reward model, which cannot answer; name a language model")
        if step.parent and step.parent not in before:
            raise ValueError(f"{key}.parent={step.parent!r} is not a model before this step; those are: {', '.join(before)}")
        made_from = origins(step, before[-1])
        chat = any(parent in chats or is_address(parent) for parent in made_from)  # of another run: it may be one
        needs_chat = (isinstance(step, DpoStep | RewardModelStep) and (step.pairs or step.examples)) or (
            isinstance(step, RollOutStep | BestOfNStep) and (step.families or step.examples)
        )
        knows = isinstance(step, SelfKnowledgeStep) and step.about is not None
        if (needs_chat or knows) and not chat:
            raise ValueError(f"{key}: its parent {made_from[0]} is not a chat model; put a step of kind sft before it")
        if isinstance(step, SftStep) or chat:
            chats.add(step.name)
        (rewards if isinstance(step, RewardModelStep) else before).append(step.name)


def adapters(r: RecipeParts) -> None:
    """What gets adapters is there: a model with experts has no linear layers in their place."""
    for step in r.posttraining:
        wanted = step.lora.targets if isinstance(step, Tuning) and step.lora and r.model.n_experts else []
        if missing := [target for target in wanted if target in ("gate_up", "down")]:
            raise ValueError(
                f"posttraining.{step.name}.lora.targets: experts have no adapters; leave {' and '.join(missing)} out"
            )


def template(r: RecipeParts) -> None:
    """A chat template is given to models by SFT."""
    if r.chat.template and not any(isinstance(step, SftStep) for step in r.posttraining):
        raise ValueError(
            f"chat.template={r.chat.template}: a step of kind sft teaches it, and there is none; add one, or leave it out"
        )


def headline(r: RecipeParts) -> None:
    """The names of the report's headline scores are well-formed. They may name tasks that this recipe does not score, since
    they can be inherited (lehr.pipeline.graph checks that such a task exists)."""
    for name in r.evaluation.headline:
        _, slash, metric = name.partition("/")
        if not slash or find(metric) is None:
            raise ValueError(f"evaluation.headline: {name!r} is not task/metric, such as prose/bits_per_byte; correct it")


def reported(r: RecipeParts) -> None:
    """Stages with reported hours or energy are stages of this recipe."""
    if r.hardware and r.hardware.reported:
        trained = ["stage1"] if r.stage1 else []
        trained += [*(["ramp"] if r.ramp else []), *(r.anneals.names if r.anneals else []), *(s.name for s in r.posttraining)]
        for name in r.hardware.reported.stages:
            if name not in trained:
                raise ValueError(f"hardware.reported.stages: there is no stage {name!r}; stages are: {', '.join(trained)}")


_STEPS = (rollouts, steps, pairs, merges, rewarded, adapters, template, reported)
ALL: tuple[Callable[[RecipeParts], None], ...] = (beginning, mixes, chat_sources, lengths, answers, layout, *_STEPS, headline)
