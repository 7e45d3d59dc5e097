"""Every number of the gathered facts against the recipes of released models: compared, or listed here with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cli.main import lehr
from lehr.config import Recipe, load_recipe
from lehr.errors import UserError
from lehr.model.size import active_parameter_count, parameter_count
from lehr.optim.schedule import by_tokens, hybrid_constants

ROOT = Path(__file__).resolve().parents[2]
RELEASED = sorted((ROOT / "recipes/released").glob("*.yaml"))
FACTS = yaml.load((Path(__file__).parent / "facts.yaml").read_text(), yaml.CSafeLoader)


@cache
def recipe(name: str) -> Recipe:
    return load_recipe(ROOT / f"recipes/released/{name}.yaml")


def of_model(key: str) -> Recipe:
    """The recipe of a fact's model key, such as olmo0424_7b or stablelm2_1_6b."""
    special = {"olmo0424_7b": "olmo-0424-7b", "stablelm2_1_6b": "stablelm2-1.6b", "stablelm2": "stablelm2-1.6b"}
    return recipe(special.get(key, key.replace("_", "-") if key != "granite3" else "granite3-2b"))


def plan(name: str, kind: str, number: int = 0) -> Any:
    return [stage for stage in recipe(name).posttraining if stage.kind == kind][number]


def step_tokens(r: Recipe) -> int:
    return r.stage1.batch_size * r.stage1.sequence_length


def anneal_steps(r: Recipe) -> list[float]:
    assert r.anneals is not None
    return [run.tokens for run in r.anneals.runs]


MODEL: dict[str, Callable[[Recipe], Any]] = {
    **{
        k: lambda r, k=k: getattr(r.model, k)
        for k in ("n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "mlp_hidden")
    },
    **{k: lambda r, k=k: getattr(r.model, k) for k in ("norm_eps", "rope_theta", "rope_fraction", "max_seq_len", "clip_qkv")},
    **{k: lambda r, k=k: getattr(r.model, k) for k in ("tied_embeddings", "init_std", "n_experts", "top_k", "logits_scaling")},
    **{f"{k}_multiplier": lambda r, k=k: getattr(r.model, f"{k}_multiplier") for k in ("embedding", "residual", "attention")},
    "vocab_size": lambda r: r.tokenizer.vocab_size,
    "vocab_size_base": lambda r: r.model.vocab_size,
    "padded_vocab_size": lambda r: r.model.vocab_size,
    "final_norm": lambda r: True,  # every model of ours has one
    "parallel_residual": lambda r: False,  # and none of ours is parallel
    "n_params": lambda r: parameter_count(r.model),
    "n_params_active": lambda r: active_parameter_count(r.model),
    "n_params_active_no_embedding": lambda r: active_parameter_count(r.model, embedding=False),
    "train_tokens": lambda r: r.stage1.tokens + sum(anneal_steps(r)),
    "pad_multiple": lambda r: 64 if r.model.vocab_size % 64 == 0 else 0,
}
STAGE1: dict[str, Callable[[Recipe], Any]] = {
    "beta1": lambda r: r.stage1.optim.betas[0],
    "beta2": lambda r: r.stage1.optim.betas[1],
    "weight_decay": lambda r: r.stage1.optim.weight_decay,
    "eps": lambda r: r.stage1.optim.eps,
    "peak_lr": lambda r: r.stage1.optim.lr,
    "eta_max": lambda r: r.stage1.optim.lr,
    "clip_grad_norm": lambda r: r.stage1.optim.clip_norm,
    "z_loss": lambda r: r.stage1.optim.z_loss,
    "decay_embeddings": lambda r: r.stage1.optim.decay_embeddings,
    "decay_norms_and_biases": lambda r: r.stage1.optim.decay_norms,
    "batch_instances": lambda r: r.stage1.batch_size,
    "batch_sequences": lambda r: r.stage1.batch_size,
    "batch_tokens": step_tokens,
    "seq_len": lambda r: r.stage1.sequence_length,
    "document_mask": lambda r: r.stage1.document_mask,
    "position_reset": lambda r: r.stage1.document_mask,  # one switch does both
    "warmup_steps": lambda r: (
        r.stage1.schedule.warmup_tokens / (r.stage1.batch_ramp.start * 2048 if r.stage1.batch_ramp else step_tokens(r))
    ),
    "warmup_iterations": lambda r: r.stage1.schedule.warmup_tokens / step_tokens(r),
    "warmup_tokens": lambda r: r.stage1.schedule.warmup_tokens,
    "warmup_start_ratio": lambda r: r.stage1.schedule.warmup_start_ratio,
    "warmup_start_lr": lambda r: r.stage1.schedule.warmup_start_ratio,
    "final_lr_ratio": lambda r: r.stage1.schedule.final_ratio,  # type: ignore[union-attr]
    "t_max_tokens": lambda r: r.stage1.schedule.horizon_tokens or r.stage1.tokens,  # type: ignore[union-attr]
    "stage1_tokens": lambda r: r.stage1.tokens,
    "tokens": lambda r: r.stage1.tokens,
    "tokens_seen": lambda r: r.stage1.tokens,
    "stage1_steps": lambda r: r.stage1.steps,
    "total_tokens": lambda r: r.stage1.tokens + sum(anneal_steps(r)),
    "anneal_tokens": anneal_steps,
    "anneal_steps": lambda r: anneal_steps(r)[0] / step_tokens(r),
    "anneal_seeds": lambda r: [run.seed for run in r.anneals.runs],  # type: ignore[union-attr]
    "clip_warmup_steps": lambda r: r.stage1.optim.clip_warmup_tokens / step_tokens(r),
    "clip_warmup_tokens": lambda r: r.stage1.optim.clip_warmup_tokens,
    "clip_warmup_factor": lambda r: r.stage1.optim.clip_warmup_factor,
    "eval_interval_steps": lambda r: r.evaluation.in_loop_steps,
    "seed": lambda r: r.seed,
    "data_seed": lambda r: r.seed,
    "a": lambda r: r.stage1.schedule.amplitude,  # type: ignore[union-attr]
    "b": lambda r: r.stage1.schedule.exponent,  # type: ignore[union-attr]
    "mup_base_width": lambda r: r.model.mup_base_width,
    "cooldown_steps": lambda r: r.stage1.schedule.cooldown_tokens / step_tokens(r),  # type: ignore[union-attr]
    "N_code": lambda r: r.stage1.schedule.period_tokens / step_tokens(r),  # type: ignore[union-attr]
    "min_lr_code": lambda r: r.stage1.optim.lr * r.stage1.schedule.minimum_ratio,  # type: ignore[union-attr]
    "alpha": lambda r: hybrid_constants(540_000, 1e-3, 1e-4)[0],
    "beta": lambda r: hybrid_constants(540_000, 1e-3, 1e-4)[1],
    "anneal_start_lr_code": lambda r: by_tokens(r.stage1.schedule, r.stage1.optim.lr, r.stage1.tokens, r.stage1.tokens),
    "batch_warmup.start_instances": lambda r: r.stage1.batch_ramp.start,  # type: ignore[union-attr]
    "batch_warmup.double_every_tokens": lambda r: r.stage1.batch_ramp.double_every_tokens,  # type: ignore[union-attr]
    "batch_warmup.max_instances": lambda r: r.stage1.batch_size,
    "tokens.dense": lambda r: [r.stage1.tokens, *anneal_steps(r)],
    "tokens.moe": lambda r: [recipe("granite3-1b-a400m").stage1.tokens, *anneal_steps(recipe("granite3-1b-a400m"))],
}
SIZES = r"(1b|7b|13b|32b)"


def olmo2(size: str) -> str:
    return f"olmo2-{size}"


def weights(mix: str, source: str) -> float:
    return recipe("olmo2-7b").data.mixes[mix].weights[source]


def held(name: str, source: str) -> float:
    tokens: int = recipe(name).data.sources[source].tokens  # type: ignore[union-attr]
    return tokens / 1e9


ALIAS = {"dclm_baseline": "dclm", "wikipedia_wikibooks": "wiki"}
TUNING = {"max_seq_len": "max_length", "max_len": "max_length", "max_prompt": "max_length", "response_len": "response_length"}
TUNING |= {
    "batch": "batch_size",
    "prompts": "samples",
    "clip_grad_norm": "clip_norm",
    "kl_beta": "kl",
    "value_coef": "value_coefficient",
}
TUNING |= {
    "no_eos_penalty": "no_eos_reward",
    "no_eos_value": "no_eos_reward",
    "lr_magnitude": "lr",
    "kl_init": "kl",
    "updates": "steps",
}
TUNING |= {"batch_sequences": "batch_size", "pack_len": "max_length", "rollouts": "roll_outs", "pairs": "samples"}


def tuned(name: str, kind: str, key: str, number: int = 0) -> Any:
    value = getattr(plan(name, kind, number), TUNING.get(key, key))
    return value[0] if isinstance(value, list) and len(value) == 1 and key != "prompts" else value


def slug(name: str) -> str:
    return re.sub(r"[().]", "", name.lower().replace(" ", "_").replace("-", "_"))


# Dotted path of a fact (a regular expression) -> what the recipes say of it.
RULES: list[tuple[str, Callable[..., Any]]] = [
    (rf"models\.(\w+)\.({'|'.join(MODEL)})", lambda m, k: MODEL[k](of_model(m))),
    (r"pretraining\.(\w+?)\.(.+)", lambda m, k: STAGE1[k](of_model(m)) if k in STAGE1 else NotImplemented),
    (r"data\.olmo2_mix_1124\.tokens_B\.(\w+)", lambda s: weights("olmo_mix_1124", ALIAS.get(s, s))),
    (r"data\.dolmino_mix_percent\.(\w+)\.(\w+)", lambda m, s: weights(f"dolmino_{m}", {"dclm": "dclm_hq"}.get(s, s))),
    (
        r"data\.dolmino_sources_B\.(dclm|flan|pes2o|wiki|stackexchange|math)",
        lambda s: held("olmo2-7b", {"dclm": "dclm_hq"}.get(s, s)),
    ),
    (r"data\.dolma_1_5\.tokens_B\.(\w+)", lambda s: held("olmo1-7b", s)),
    (r"data\.stablelm2_mix\.(.+)\.weight", lambda s: recipe("stablelm2-1.6b").data.mixes["table1"].weights[slug(s)]),
    (r"data\.stablelm2_mix\.(.+)\.tokens", lambda s: held("stablelm2-1.6b", slug(s)) * 1e9),
    (rf"posttraining\.olmo2_(sft|dpo)\.(\w+)\.{SIZES}", lambda kind, key, size: tuned(olmo2(size), kind, key)),
    (r"posttraining\.olmo2_(sft|dpo)\.(\w+)", lambda kind, key: tuned("olmo2-7b", kind, key)),
    (r"posttraining\.olmo2_rm\.(lr|clip_grad_norm|batch|max_len|epochs)", lambda key: tuned("olmo2-7b", "reward_model", key)),
    (rf"posttraining\.olmo2_ppo_rlvr\.(\w+)\.{SIZES}", lambda key, size: tuned(olmo2(size), "ppo", key)),
    (r"posttraining\.olmo2_ppo_rlvr\.(?!tokens_masked)(\w+)", lambda key: tuned("olmo2-13b", "ppo", key)),
    (rf"posttraining\.olmo2_grpo\.{SIZES}\.(\w+)", lambda size, key: tuned(olmo2(size), "grpo", key)),
    (r"posttraining\.olmo1_adaptation\.(sft|dpo)\.(\w+)", lambda kind, key: tuned("olmo1-7b", kind, key)),
    (r"posttraining\.granite_sft\.stage([12])\.(\w+)", lambda n, key: tuned("granite3-8b", "sft", key, int(n) - 1)),
    (r"posttraining\.granite_sft\.warmup_ratio\.8b", lambda: tuned("granite3-8b", "sft", "warmup_ratio")),
    (r"posttraining\.granite_sft\.weight_decay", lambda: tuned("granite3-8b", "sft", "weight_decay")),
    (r"posttraining\.granite_alignment\.bon\.(n|iterations)", lambda key: tuned("granite3-8b", "best_of_n", key)),
    (r"posttraining\.granite_alignment\.bon\.rms", lambda: tuned("granite3-8b", "best_of_n", "reward_models")),
    (r"posttraining\.granite_alignment\.ppo\.(?!rms)(\w+)", lambda key: tuned("granite3-8b", "ppo", key)),
    (r"posttraining\.granite_alignment\.brain\.refresh_proposal_every", lambda: tuned("granite3-8b", "brain", "refresh_steps")),
    (r"posttraining\.granite_alignment\.rms\.multi_aspect\.epochs", lambda: tuned("granite3-8b", "reward_model", "epochs", 0)),
    (r"posttraining\.granite_alignment\.rms\.bradley_terry\.(\w+)", lambda key: tuned("granite3-8b", "reward_model", key, 1)),
    (r"posttraining\.stablelm2\.(sft|self_knowledge)\.(?!packed)(\w+)", lambda kind, key: tuned("stablelm2-1.6b", kind, key)),
    (r"posttraining\.stablelm2\.dpo\.(beta|lr)", lambda key: tuned("stablelm2-1.6b", "dpo", key)),
    (
        r"posttraining\.stablelm2\.dpo\.zephyr_base_since_2024_01_10\.(epochs|warmup_ratio|max_length)",
        lambda key: tuned("stablelm2-1.6b", "dpo", key),
    ),
    (r"moe\.ibm_engine_example_aux_coef", lambda: recipe("granite3-1b-a400m").model.balance_loss),
    (
        r"moe\.ibm_engine_z_relative_weight",
        lambda: recipe("granite3-1b-a400m").model.router_z_loss / recipe("granite3-1b-a400m").model.balance_loss,
    ),
]
# Facts without a counterpart in a recipe, with the reason.
REASONS: dict[str, str] = {
    r"models\.\w+\.(eos|pad)_token_id": "of the tokenizer, which must be supplied",
    r"models\.\w+\.vocab_size_instruct": "of the instruct models: said in a comment",
    r"models\.\w+\.reported_n_params": "conflict slm_params: the class's count is the one compared",
    r"models\.\w+\.init_std|models\.\w+\.clip_qkv": "null where the family has none",
    r"pretraining\.olmo1_1b\.warmup_steps_code": "the code's value, in a comment (conflict olmo1_1b_recipe)",
    r"pretraining\.granite3\.eps_disclosed": "not disclosed: said in a comment",
    r"pretraining\.olmo1_7b\.compile": "belongs to the engine, not to the recipe",
    r"pretraining\.stablelm2\.(dp|micro_batch|grad_accum|zero_stage|activation_checkpointing)": "see hardware",
    r"pretraining\.olmo2_(13b|32b)\.anneal_seeds": "compared for the 7B and 13B; the 32B has none",
    r"data\.olmo2_mix_1124\.(total_B|percent\..+|starcoder_filters\..+)": "sums, and in `supply`",
    r"data\.dolmino_sources_B\.math_parts\..+": "in words in `supply`",
    r"data\.dolma_1_5\.(utf8_GB|docs_M)\..+|data\.dolma_1_5\.(total_tokens_B|printed_total_GB|true_sum_GB)": "no tokens",
    r"posttraining\.olmo2_sft\.prompts\.\w+": "compared as samples",
    r"posttraining\.olmo2_rm\.seeds": "one run",
    r"posttraining\.olmo2_ppo_rlvr\.tokens_masked_whitened_advantages": "of the method, not a number",
    r"posttraining\.granite_sft\.(total_steps_approx|domains\..+|warmup_ratio\.3b)": "in comments and `supply`",
    r"posttraining\.granite_alignment\.(ppo\.rms|rms\.multi_aspect\.range|prompt_mix\..+)": "in comments and `supply`",
    r"posttraining\.stablelm2\.dpo\.(datasets|zephyr_base_before|zephyr_base_since_2024_01_10)\..+": "what it departs from",
    r"posttraining\.stablelm2\.self_knowledge\.packed": "packing none is the default",
    r"moe\.(aux_loss_coef_disclosed|ibm_engine_default_aux_coef|hf_value_is_topk_times_larger)": "no choice of a recipe",
}
# Values that differ by a stated rounding: whole steps instead of round tokens, rates printed with few digits.
LOOSE = {r".*tokens.*": 2e-3, r".*anneal_start_lr_code": 3e-3, r".*\.(alpha|beta)": 1e-6, r".*seq_len.*": 0.0}


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif node is not None:
        yield path, node


def said(path: str) -> Any:
    for pattern, rule in RULES:
        found = re.fullmatch(pattern, path)
        if found and (value := rule(*found.groups())) is not NotImplemented:
            return value
    return NotImplemented


@pytest.mark.parametrize("group", ["models", "pretraining", "data", "posttraining", "moe"])
def test_every_number_of_the_facts_is_in_a_recipe(group: str) -> None:
    compared, wrong = 0, []
    for path, fact in leaves(FACTS[group], group):
        value = said(path)
        if value is NotImplemented:
            assert any(re.fullmatch(pattern, path) for pattern in REASONS), f"{path} = {fact} is neither compared nor explained"
            continue
        tolerance = next((t for pattern, t in LOOSE.items() if re.fullmatch(pattern, path)), 1e-9)
        if value != pytest.approx(fact, rel=tolerance):
            wrong.append(f"{path}: recipe {value}, fact {fact}")
        compared += 1
    assert not wrong, "\n".join(wrong)
    assert compared > {"models": 200, "pretraining": 100, "data": 90, "posttraining": 80, "moe": 1}[group]


@pytest.mark.parametrize("path", RELEASED, ids=lambda p: p.stem)
def test_a_released_recipe_validates_and_says_what_must_be_supplied(path: Path, tmp_path: Path) -> None:
    assert CliRunner().invoke(lehr, ["validate", str(path)]).exit_code == 0
    result = CliRunner().invoke(lehr, ["run", str(path), "--out", str(tmp_path / "run")])
    assert isinstance(result.exception, UserError) and "must be supplied" in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_there_are_thirteen_and_their_weights_say_so() -> None:
    assert len(RELEASED) == 13 == len(FACTS["models"])
    total = sum(recipe("stablelm2-1.6b").data.mixes["table1"].weights.values())
    assert total == pytest.approx(1.0001, abs=1e-6)  # as printed
