"""What the recipes of released models say about each fact of facts.yaml: a rule for each, or a reason why there is none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from lehr.config import Recipe, load_recipe
from lehr.interop.hf_config import CLASSES
from lehr.model.size import active_parameter_count, parameter_count
from lehr.optim.schedule import by_tokens, hybrid_constants

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
Reader = Callable[[Any], Any]


class Rule(NamedTuple):
    """Facts whose dotted path matches `pattern`; `said(*groups)` is what a recipe says, `read(fact)` the fact in its words."""

    pattern: str
    said: Callable[..., Any]
    read: Reader = lambda fact: fact


@cache
def recipe(name: str) -> Recipe:
    return load_recipe(RECIPES / f"released/{name}.yaml")


def of(key: str) -> Recipe:
    """The recipe of a fact's key: olmo0424_7b, granite3_1b_a400m; granite3 and stablelm2 stand for one of theirs."""
    names = {"olmo0424_7b": "olmo-0424-7b", "stablelm2_1_6b": "stablelm2-1.6b", "stablelm2": "stablelm2-1.6b"}
    return recipe((names | {"granite3": "granite3-2b"}).get(key) or key.replace("_", "-"))


def post(name: str, kind: str, number: int = 0) -> Any:
    return [step for step in recipe(name).posttraining if step.kind == kind][number]


def stated(step: Any, key: str) -> Any:
    """What a step of a recipe says of a key: itself, its optimiser, its schedule, or what it reports. A default says nothing.

    Raises KeyError where it says nothing."""
    optim, schedule = getattr(step, "optim", None), getattr(step, "schedule", None)
    parts = [schedule] if key == "schedule" else [step, optim, schedule]
    key = {"schedule": "kind"}.get(key, key)
    for part in parts:
        if part is not None and key in part.model_fields_set:
            return getattr(part, key)
    return step.reported[key]


def slug(name: str) -> str:
    return re.sub(r"[().]", "", name.lower().replace(" ", "_").replace("-", "_"))


def numbers(text: str) -> set[float]:
    return {float(found.replace(",", "")) for found in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text)}


def line_of(file: str, start: str) -> str:
    """The first line of a recipe file that begins so."""
    return next(line for line in (RECIPES / file).read_text().splitlines() if line.strip().startswith(start))


def first_word(text: str) -> str:
    return text.split()[0]


def get(path: str) -> Callable[[Any], Any]:
    """A getter of a dotted path; a number indexes."""

    def getter(node: Any) -> Any:
        for part in path.split("."):
            node = node[int(part)] if part.isdigit() else getattr(node, part)
        return node

    return getter


def step(r: Recipe) -> int:
    return r.stage1.batch_size * r.stage1.sequence_length


def first_step(r: Recipe) -> int:
    """Tokens of the first step, where the batch may be smaller."""
    return (r.stage1.batch_ramp.start if r.stage1.batch_ramp else r.stage1.batch_size) * r.stage1.sequence_length


def anneals(r: Recipe) -> list[float]:
    return [run.tokens for run in r.anneals.runs] if r.anneals else []


def hybrid(r: Recipe) -> tuple[float, float]:
    s, peak = r.stage1.schedule, r.stage1.optim.lr
    return hybrid_constants(s.period_tokens / step(r), peak, peak * s.minimum_ratio)  # type: ignore[union-attr]


_PLAIN = ["n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "mlp_hidden", "norm_eps", "rope_theta", "rope_fraction"]
_PLAIN += ["max_seq_len", "clip_qkv", "tied_embeddings", "init_std", "n_experts", "top_k", "logits_scaling", "norm_placement"]
_PLAIN += ["embedding_multiplier", "residual_multiplier", "attention_multiplier", "qk_norm", "norm", "init"]
MODEL: dict[str, Callable[[Recipe], Any]] = {
    **{key: get(f"model.{key}") for key in _PLAIN},
    "hf_class": lambda r: CLASSES[r.model.family],
    "biases": get("model.qkv_bias"),
    "vocab_size": get("tokenizer.vocab_size"),
    "vocab_size_base": get("model.vocab_size"),
    "padded_vocab_size": get("model.vocab_size"),
    "pad_multiple": lambda r: 64 if r.model.vocab_size % 64 == 0 and r.model.vocab_size - r.tokenizer.vocab_size < 64 else 0,
    "tokenizer": lambda r: r.tokenizer.origin.startswith("StarCoder") and "BPE" in r.tokenizer.origin,
    "n_params": lambda r: parameter_count(r.model),
    "n_params_active": lambda r: active_parameter_count(r.model),
    "n_params_active_no_embedding": lambda r: active_parameter_count(r.model, embedding=False),
    "train_tokens": lambda r: r.stage1.tokens + sum(anneals(r)),
}
_NORMS = {"layernorm_nonparametric": "nonparametric", "rmsnorm": "rmsnorm", "layernorm with weight and bias": "layernorm"}
MODEL_WORDS: dict[str, Reader] = {
    "norm": _NORMS.__getitem__,
    "norm_placement": first_word,
    "qk_norm": bool,
    "biases": lambda text: text != "none",
    "init": lambda text: {"muP:": "mup"}.get(first_word(text)) or ("scaled" if "scaled" in text else text),
    "tokenizer": lambda text: text == "StarCoder BPE",
}
STAGE1: dict[str, Callable[[Recipe], Any]] = {
    "beta1": get("stage1.optim.betas.0"),
    "beta2": get("stage1.optim.betas.1"),
    "weight_decay": get("stage1.optim.weight_decay"),
    "eps": get("stage1.optim.eps"),
    "peak_lr": get("stage1.optim.lr"),
    "eta_max": get("stage1.optim.lr"),
    "clip_grad_norm": get("stage1.optim.clip_norm"),
    "z_loss": get("stage1.optim.z_loss"),
    "decay_embeddings": get("stage1.optim.decay_embeddings"),
    "decay_norms_and_biases": get("stage1.optim.decay_norms"),
    "no_weight_decay": lambda r: (not r.stage1.optim.decay_norms, r.stage1.optim.decay_embeddings),
    "optimizer_code": lambda r: r.stage1.optim.guard.enabled and (r.stage1.optim.guard.sigmas, r.stage1.optim.guard.window),
    "clip_warmup_steps": lambda r: r.stage1.optim.clip_warmup_tokens / step(r),
    "clip_warmup_tokens": get("stage1.optim.clip_warmup_tokens"),
    "clip_warmup_factor": get("stage1.optim.clip_warmup_factor"),
    "batch_instances": get("stage1.batch_size"),
    "batch_sequences": get("stage1.batch_size"),
    "batch_tokens": step,
    "batch_warmup.start_instances": get("stage1.batch_ramp.start"),
    "batch_warmup.double_every_tokens": get("stage1.batch_ramp.double_every_tokens"),
    "batch_warmup.max_instances": get("stage1.batch_size"),
    "seq_len": get("stage1.sequence_length"),
    "document_mask": get("stage1.document_mask"),
    "position_reset": get("stage1.document_mask"),  # one switch does both
    "schedule": get("stage1.schedule.kind"),
    "warmup_steps": lambda r: r.stage1.schedule.warmup_tokens / first_step(r),
    "warmup_iterations": lambda r: r.stage1.schedule.warmup_tokens / step(r),
    "warmup_tokens": get("stage1.schedule.warmup_tokens"),
    "warmup_start_ratio": get("stage1.schedule.warmup_start_ratio"),
    "warmup_start_lr": lambda r: r.stage1.schedule.warmup_start_ratio * r.stage1.optim.lr,
    "final_lr_ratio": get("stage1.schedule.final_ratio"),
    "t_max_tokens": lambda r: r.stage1.schedule.horizon_tokens or r.stage1.tokens,  # type: ignore[union-attr]
    "a": get("stage1.schedule.amplitude"),
    "b": get("stage1.schedule.exponent"),
    "beta_unit": lambda r: {r.stage1.batch_size: "sequences", step(r): "tokens"}[r.stage1.schedule.beta],  # type: ignore[union-attr]
    "mup_base_width": get("model.mup_base_width"),
    "cooldown_steps": lambda r: r.stage1.schedule.cooldown_tokens / step(r),  # type: ignore[union-attr]
    "N_code": lambda r: r.stage1.schedule.period_tokens / step(r),  # type: ignore[union-attr]
    "min_lr_code": lambda r: r.stage1.optim.lr * r.stage1.schedule.minimum_ratio,  # type: ignore[union-attr]
    "alpha": lambda r: hybrid(r)[0],
    "beta": lambda r: hybrid(r)[1],
    "stage1_tokens": get("stage1.tokens"),
    "tokens": get("stage1.tokens"),
    "tokens_seen": get("stage1.tokens"),
    "stage1_steps": get("stage1.steps"),
    "total_tokens": lambda r: r.stage1.tokens + sum(anneals(r)),
    "tokens.dense": lambda r: [r.stage1.tokens, *anneals(r)],
    "tokens.moe": lambda r: STAGE1["tokens.dense"](recipe("granite3-1b-a400m")),
    "anneal_tokens": anneals,
    "anneal_steps": lambda r: anneals(r)[0] / step(r),
    "anneal_seeds": lambda r: [run.seed for run in r.anneals.runs] if r.anneals else [],
    "anneal_start_lr_code": lambda r: by_tokens(r.stage1.schedule, r.stage1.optim.lr, r.stage1.tokens, r.stage1.tokens),
    "anneal": lambda r: (get("anneals.decay")(r), r.stage1.mix == get("anneals.mix")(r)),
    "anneal_schedule": get("anneals.decay"),
    "decay": get("anneals.decay"),
    "soup": lambda r: len(anneals(r)) if get("anneals.soup")(r) else 0,
    "eval_interval_steps": get("evaluation.in_loop_steps"),
    "seed": get("seed"),
    "data_seed": get("seed"),
    "precision": lambda r: r.precision,
}
STAGE1_WORDS: dict[str, Reader] = {
    "schedule": lambda text: first_word(text).split("/")[0].rstrip(","),
    "precision": lambda text: text[:4],
    "tokens": lambda fact: 2e12 if str(fact).startswith("2T (S2)") else fact,
    "anneal": lambda text: ("linear" if text.startswith("linear to 0") else "", "on the same data" in text),
    "anneal_schedule": lambda text: "linear" if text.startswith("linear to 0") else "",
    "decay": lambda text: text.split(",")[0],
    "soup": lambda text: {"none": 0, "mean of the 3": 3, "mean of the 4": 4}.get(
        text.split(" (")[0], 4 * ("1x300B (S1)" in text)
    ),
    "no_weight_decay": lambda text: ("norm weights" in text, "embeddings decayed" in text),
    "optimizer_code": lambda text: (text.startswith("SkipStep") and 6.0, 128 if "last 128" in text else 0),
}


def rules(prefix: str, table: dict[str, Callable[[Recipe], Any]], words: dict[str, Reader]) -> Iterator[Rule]:
    for key, said in table.items():
        pattern = rf"{prefix}\.(\w+?)\.{re.escape(key)}"
        yield Rule(pattern, lambda name, said=said: said(of(name)), words.get(key, lambda fact: fact))


INIT = Rule(  # also its standard deviation
    r"models\.stablelm2_1_6b\.init",
    lambda: (recipe("stablelm2-1.6b").model.init, recipe("stablelm2-1.6b").model.init_std),
    lambda text: ("scaled" if "output layers scaled" in text else text, min(numbers(text))),
)
ARCHITECTURE = [INIT, *rules("models", MODEL, MODEL_WORDS), *rules("pretraining", STAGE1, STAGE1_WORDS)]
