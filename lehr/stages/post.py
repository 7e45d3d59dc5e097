"""SFT, preference pairs, DPO and RLVR as stages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr import seeds
from lehr.artifact import Artifact, ArtifactRef
from lehr.config.recipe import Recipe
from lehr.config.stages import Dpo, Finetune, Rlvr, Sft
from lehr.data.loader import Loader
from lehr.data.mix import plan as plan_mix
from lehr.data.shards import ShardSet
from lehr.data.synthetic.conversations import ChatExample, Message, conversation
from lehr.data.synthetic.splits import Split
from lehr.data.synthetic.wording import PREFIXES
from lehr.data.tokenizer import Tokenizer
from lehr.errors import Bug, UserError
from lehr.model.generate import LanguageModel
from lehr.model.size import flops_per_token
from lehr.optim.schedule import by_steps
from lehr.post.chat import render
from lehr.post.grpo import GrpoObjective, GrpoSettings, Prompt
from lehr.post.preference import DpoObjective, RenderedPair
from lehr.post.sft import Rendered, Replay, SftObjective
from lehr.post.verifiers import verify
from lehr.stage import Job, Outcome, Surroundings, run_stage
from lehr.stages.common import Desk, conduct
from lehr.train.checkpoint import Loaded, copy_parameters, load_checkpoint, save_checkpoint
from lehr.train.device import own_device
from lehr.train.loop import Objective, Plan
from lehr.train.parallel import Ranks, run_ranks
from lehr.train.shared_model import SharedModel
from lehr.train.state import TrainState

PAIRS = "pairs.jsonl"


@dataclass(frozen=True)
class _Work:
    desk: Desk
    recipe: Recipe
    parent: Path
    data: Path | None = None  # shards to replay for SFT, pairs for DPO


def sft(recipe: Recipe, parent: Artifact, shards: Artifact, around: Surroundings) -> ArtifactRef:
    """Teach `parent` to chat: generated training conversations, loss on the assistant's tokens, and a few windows of
    `shards` in each batch so that it does not forget what it read. Without SFT in the recipe, `parent` itself."""
    if recipe.sft is None:
        return parent.ref
    return _finetune("sft", recipe, recipe.sft, [parent, shards.expect("shards")], around)


def dpo(recipe: Recipe, parent: Artifact, pairs: Artifact | None, around: Surroundings) -> ArtifactRef:
    """Prefer what the verifiers prefer: DPO from `parent`, which is its reference too, on `pairs`. Without DPO in the
    recipe, `parent` itself."""
    if recipe.dpo is None or pairs is None:
        return parent.ref
    return _finetune("dpo", recipe, recipe.dpo, [parent, pairs.expect("preferences")], around)


def rlvr(recipe: Recipe, parent: Artifact, around: Surroundings) -> ArtifactRef:
    """GRPO from `parent` on training problems whose answers can be verified. Without it in the recipe, `parent` itself."""
    if recipe.rlvr is None:
        return parent.ref
    return _finetune("rlvr", recipe, recipe.rlvr, [parent], around)


def _finetune(stage: str, recipe: Recipe, section: Finetune, parents: list[Artifact], around: Surroundings) -> ArtifactRef:
    def work(job: Job) -> Outcome:
        data = parents[1].folder if len(parents) > 1 else None
        args = _Work(Desk.of(job, recipe.parallel, recipe.watch), recipe, parents[0].folder, data)
        tokens = run_ranks(recipe.parallel.processes, recipe.parallel.threads, _train_on_rank, args)
        flops = flops_per_token(recipe.model, recipe.sft.max_length if recipe.sft else recipe.model.max_seq_len) * tokens
        return Outcome("checkpoint", {"tokens": tokens}, tokens, flops, recipe.parallel.processes)

    how_often = set() if section.optim.guard.rewind else {"checkpoint_steps"}  # a rewind depends on it
    config = {**section.model_dump(exclude=how_often), "seed": recipe.seed, "parallel": recipe.parallel.model_dump()}
    if isinstance(section, Sft) and section.replay_rows:
        config["replay"] = [recipe.data.mixes[section.replay_mix].model_dump(), recipe.stage1.sequence_length]
    return run_stage(stage, work, module=__name__, config=config, parents=parents, around=around, total_steps=section.steps)


def _train_on_rank(ranks: Ranks, work: _Work) -> int:
    parent = Artifact.open(work.parent, verify=False)
    loaded = load_checkpoint(parent)
    loaded.model.to(own_device(ranks))
    stage = work.desk.stage
    section: Finetune = getattr(work.recipe, stage)
    # In fp32 always: preferences and roll-outs compare log-probabilities, which bf16 logits are too coarse for, and rows of
    # odd lengths gain nothing from bf16 on a CPU.
    state = TrainState.fresh(loaded.model, section.optim)
    objective = _objective(work, section, loaded, state, seeds.derive(work.recipe.seed, stage))
    plan = Plan(
        section.steps,
        lambda step, _tokens: by_steps(section.schedule, section.optim.lr, step, section.steps),
        lambda _step, _tokens: section.optim.clip_norm,
        section.checkpoint_steps,
    )
    conduct(work.desk, ranks, state, objective, plan)
    if ranks.first:
        save_checkpoint(work.desk.out, loaded.architecture, state.weights(), parent.folder, chat=True)
    return state.tokens


def _objective(work: _Work, section: Finetune, loaded: Loaded, state: TrainState, seed: int) -> Objective:
    model, tokenizer = loaded.model, loaded.tokenizer
    if isinstance(section, Sft):
        pool = sft_pool(section, tokenizer, seed)
        return SftObjective(model, pool, section.batch_size, seed, tokenizer.pad_id, _replay(work, section, tokenizer, seed))
    reference = copy_parameters(model)
    if isinstance(section, Dpo):
        pairs = read_pairs(_data(work), "train", tokenizer)
        return DpoObjective(
            model, reference, pairs, section.batch_size, section.beta, section.chosen_nll, seed, tokenizer.pad_id
        )
    if isinstance(section, Rlvr):
        state.frozen["reference"] = reference
        policy = LanguageModel(model, tokenizer, chat=True)
        prompts = rlvr_prompts(section, tokenizer, seed)
        return GrpoObjective(state, policy, prompts, _settings(section), seed, work.desk.serve(policy))
    raise Bug(f"no objective for {type(section).__name__}")


def _replay(work: _Work, section: Sft, tokenizer: Tokenizer, seed: int) -> Replay | None:
    if not section.replay_rows:
        return None
    mix = work.recipe.data.mixes[section.replay_mix]
    sets = {name: ShardSet.open(_data(work) / f"{name}.tokens", tokenizer.hash) for name in mix.weights}
    plan = plan_mix(mix, sets, section.steps * section.replay_rows, work.recipe.stage1.sequence_length)
    return Replay(Loader(plan, seeds.derive(seed, "replay")), section.replay_rows)


def _data(work: _Work) -> Path:
    if work.data is None:
        raise Bug(f"{work.desk.stage} was given no data")
    return work.data


def _settings(section: Rlvr) -> GrpoSettings:
    return GrpoSettings(
        section.batch_size,
        section.samples,
        section.temperature,
        section.max_new_tokens,
        section.clip_low,
        section.clip_high,
        section.kl,
    )


def sft_pool(section: Sft, tokenizer: Tokenizer, seed: int) -> list[Rendered]:
    """The training conversations, rendered; those longer than max_length are left out."""
    pool = []
    for family, count in section.examples.items():
        for index in range(count):
            ids, mask = render(conversation(family, "train", index, seed).messages, tokenizer, False)
            if len(ids) <= section.max_length:
                pool.append(Rendered(ids, mask))
    if not pool:
        raise UserError("no SFT example fits sft.max_length", where=f"sft.max_length={section.max_length}", remedy="raise it")
    return pool


def rlvr_prompts(section: Rlvr, tokenizer: Tokenizer, seed: int) -> list[Prompt]:
    """Training prompts with their verifiers, families in turn: enough for every step to see new ones."""
    count = section.steps * section.batch_size
    return [
        _prompt(conversation(section.families[i % len(section.families)], "train", i // len(section.families), seed), tokenizer)
        for i in range(count)
    ]


def _prompt(example: ChatExample, tokenizer: Tokenizer) -> Prompt:
    def reward(answer: list[int], finished: bool) -> float:
        return verify(example.verifier, example.verifier_args, tokenizer.decode(answer), finished)

    return Prompt(render(example.prompt, tokenizer, True)[0], reward)


def pairs(recipe: Recipe, parent: Artifact, around: Surroundings) -> ArtifactRef | None:
    """Sample `parent` on training and held-out prompts; a verified answer against a failed one makes a pair.

    Pairs from held-out prompts are for scoring only. They are on-policy for `parent`: the same file judges SFT, DPO and
    RLVR models. None without DPO in the recipe.
    """
    if recipe.dpo is None:
        return None

    def work(job: Job) -> Outcome:
        args = _Work(Desk.of(job, recipe.parallel), recipe, parent.folder)
        kept = run_ranks(recipe.parallel.processes, recipe.parallel.threads, _sample_pairs, args)
        return Outcome("preferences", {"pairs": kept}, processes=recipe.parallel.processes)

    config = {**recipe.dpo.model_dump(include=_SAMPLING), "seed": recipe.seed, "parallel": recipe.parallel.model_dump()}
    return run_stage("pairs", work, module=__name__, config=config, parents=[parent], around=around)


_SAMPLING = {"families", "reference_answers", "prompts", "held_out_prompts", "samples", "temperature", "max_new_tokens"}


def _sample_pairs(ranks: Ranks, work: _Work) -> dict[str, int]:
    loaded = load_checkpoint(Artifact.open(work.parent, verify=False))
    loaded.model.to(own_device(ranks))
    own = LanguageModel(loaded.model, loaded.tokenizer, chat=True)
    model = SharedModel(own, ranks, work.desk.serve(own))
    d = work.recipe.dpo
    if d is None:
        raise Bug("pairs for a recipe without DPO")
    counts: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    splits: list[tuple[Split, int]] = [("train", d.prompts), ("held_out", d.held_out_prompts)]
    for split, count in splits:
        seed = seeds.derive(work.recipe.seed, "pairs", split)
        examples = [conversation(d.families[i % len(d.families)], split, i // len(d.families), seed) for i in range(count)]
        found = list(_judge(examples, model, d, seed))
        counts[split] = len(found)
        rows += [{"split": split, **row} for row in found]
    if ranks.first:
        (work.desk.out / PAIRS).write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows), encoding="utf-8")
        if not counts["train"] or not counts["held_out"]:
            raise UserError(
                f"no pairs: the model's answers to a prompt are all right or all wrong ({counts})",
                where="dpo.samples",
                remedy="raise dpo.samples or dpo.prompts, or train SFT longer",
            )
    return counts


def _judge(examples: list[ChatExample], model: SharedModel, d: Dpo, seed: int) -> Iterable[dict[str, Any]]:
    """For each prompt whose samples disagree: the first verified and the first failed answer, both finished."""
    tokenizer = model.tokenizer
    prompts = [render(e.prompt, tokenizer, True)[0] for e in examples for _ in range(d.samples)]
    answers = model.generate(prompts, d.max_new_tokens, [tokenizer.eos_id], d.temperature, seed)
    for i, example in enumerate(examples):
        right: list[str] = []
        wrong: list[str] = []
        for ids in answers[i * d.samples : (i + 1) * d.samples]:
            if ids and ids[-1] == tokenizer.eos_id:  # an answer that was cut off is no answer to prefer or to reject
                text = tokenizer.decode(ids)
                (right if verify(example.verifier, example.verifier_args, text, True) else wrong).append(text)
        if wrong and not right and d.reference_answers:
            right.append(reference_answer(example))
        if right and wrong:
            messages = [m.row() for m in example.prompt]
            yield {"family": example.family, "prompt": messages, "chosen": right[0], "rejected": wrong[0]}


def reference_answer(example: ChatExample) -> str:
    """The data's own answer, without the chatter that half of them open with."""
    answer = example.messages[-1].content
    return next((answer.removeprefix(p) for p in sorted(PREFIXES, key=len, reverse=True) if answer.startswith(p)), answer)


def read_pairs(folder: Path, split: str, tokenizer: Tokenizer) -> list[RenderedPair]:
    """The pairs of one split, rendered. Raises UserError if there are none."""
    out = []
    for line in (folder / PAIRS).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["split"] == split:
            prompt = [Message(**m) for m in row["prompt"]]
            sides = [
                Rendered(*render([*prompt, Message("assistant", row[side])], tokenizer, False))
                for side in ("chosen", "rejected")
            ]
            out.append(RenderedPair(*sides))
    if not out:
        raise UserError(f"no {split} pairs", where=folder / PAIRS, remedy="raise dpo.prompts")
    return out
