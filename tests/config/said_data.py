"""What the recipes say about data and post-training, and what they do not say, with the reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tests.config.said import ARCHITECTURE, Rule, first_word, line_of, numbers, post, recipe, slug, stated

Reader = Callable[[Any], Any]
SIZES = "(1b|7b|13b|32b)"
_OURS = {"dclm_baseline": "dclm", "wikipedia_wikibooks": "wiki"}
_DOLMINO = {"dclm": "dclm_hq"}


def source(name: str, key: str) -> Any:
    return recipe(name).data.sources[key]


def mix(name: str, key: str) -> Any:
    return recipe(name).data.mixes[key]


def share(key: str) -> float:
    """Percent of the OLMo 2 1124 mix, as printed."""
    weights = mix("olmo2-7b", "olmo_mix_1124").weights
    return round(100 * weights[key] / sum(weights.values()), 2)


def only_in(*stages: str) -> set[str]:
    """The Granite sources that are in exactly these of its two mixes."""
    mixes = {name: set(mix("granite3-8b", name).weights) for name in ("stage1", "stage2")}
    return {key for key in recipe("granite3-8b").data.sources if {m for m, keys in mixes.items() if key in keys} == set(stages)}


def slugs(listed: list[str]) -> set[str]:
    return {"instruction_sets" if name.startswith("instruction sets") else slug(name) for name in listed}


def spoken(pattern: str, text: Callable[..., str]) -> Rule:
    """Facts that a recipe says in words: the text is asked for the number."""
    return Rule(pattern, lambda *groups: frozenset(numbers(text(*groups))), float)


MATH_WORDS = {
    "tulumath": "TuluMath",
    "dolmino_synthmath": "SynthMath",
    "tinygsm_mind": "TinyGSM-MIND",
    "mathcoder2_synthbooks": "MathCoder2 synthetic books",
    "metamath": "MetaMath",
    "codesearchnet": "CodeSearchNet",
    "gsm8k_train": "GSM8K training split",
}


def math_part(key: str) -> str:
    """What follows a part's name in the words of the math source, up to the next comma."""
    return str(source("olmo2-7b", "math").supply).split(MATH_WORDS[key] + " ", 1)[1].split(", ")[0]


def rule(name: str, kind: str) -> Any:
    """A filter of a recipe."""
    return recipe(name).data.filters[kind]


def _data_characters() -> list[int]:
    found = rule("granite3-8b", "granite_code")
    return [found.min_data_characters, found.max_data_characters]


_GOPHER = {
    "max_bullet_ratio": "max_bullet_lines", "max_ellipsis_line_ratio": "max_ellipsis_lines",
    "max_symbol_word_ratio": "max_symbols",
}  # fmt: skip
_GRANITE_CODE = {
    "min_alpha": "min_letters", "xml_header_within": "xml_within", "html_visible_min_share": "min_html_text",
    "html_visible_min_chars": "min_html_text_characters",
}  # fmt: skip

DATA = [
    Rule(r"data\.olmo2_mix_1124\.tokens_B\.(\w+)", lambda s: mix("olmo2-7b", "olmo_mix_1124").weights[_OURS.get(s, s)]),
    Rule(r"data\.olmo2_mix_1124\.total_B", lambda: round(sum(mix("olmo2-7b", "olmo_mix_1124").weights.values()), -1)),
    Rule(r"data\.olmo2_mix_1124\.percent\.(\w+)", lambda s: share(_OURS.get(s, s))),
    Rule(r"data\.olmo2_mix_1124\.starcoder_filters\.min_repo_stars", lambda: rule("olmo2-7b", "starcoder").min_stars),
    Rule(r"data\.olmo2_mix_1124\.starcoder_filters\.max_top1_word_share", lambda: rule("olmo2-7b", "starcoder").max_top_word),
    Rule(
        r"data\.olmo2_mix_1124\.starcoder_filters\.max_top2_word_share", lambda: rule("olmo2-7b", "starcoder").max_top_two_words
    ),
    Rule(r"data\.dolmino_mix_percent\.(\w+)\.(\w+)", lambda m, s: mix("olmo2-7b", f"dolmino_{m}").weights[_DOLMINO.get(s, s)]),
    Rule(
        r"data\.dolmino_source_percent\.(\w+)\.(\w+)",
        lambda m, s: 100 * mix("olmo2-7b", f"dolmino_{m}").reported["epochs"][_DOLMINO.get(s, s)],
    ),
    spoken(r"data\.dolmino_sources_B\.math_parts\.(\w+)", math_part),
    Rule(r"data\.dolmino_sources_B\.(\w+)", lambda s: source("olmo2-7b", _DOLMINO.get(s, s)).reported["tokens"] / 1e9),
    Rule(r"data\.dolma_1_5\.tokens_B\.(\w+)", lambda s: source("olmo1-7b", s).reported["tokens"] / 1e9),
    spoken(r"data\.dolma_1_5\.(?:utf8_GB|docs_M)\.(\w+)", lambda s: line_of("dolma-1.5.yaml", f"{s}: ")),
    spoken(r"data\.dolma_1_5\.(?:total_tokens_B|true_sum_GB)", lambda: line_of("dolma-1.5.yaml", "dolma: ")),
    Rule(r"data\.stablelm2_mix\.(.+)\.weight", lambda s: mix("stablelm2-1.6b", "table1").weights[slug(s)]),
    Rule(r"data\.stablelm2_mix\.(.+)\.epochs", lambda s: mix("stablelm2-1.6b", "table1").reported["epochs"][slug(s)]),
    Rule(r"data\.stablelm2_mix\.(.+)\.tokens", lambda s: source("stablelm2-1.6b", slug(s)).reported["tokens"]),
    Rule(r"data\.stablelm2_mix\.(.+)\.category", lambda s: source("stablelm2-1.6b", slug(s)).reported["category"]),
    Rule(
        r"data\.granite_data\.stage_mix_percentages_disclosed",
        lambda: len({w for m in ("stage1", "stage2") for w in mix("granite3-8b", m).weights.values()}) > 1,
    ),
    Rule(r"data\.granite_data\.stage1_and_2", lambda: only_in("stage1", "stage2"), slugs),
    Rule(r"data\.granite_data\.stage1_only", lambda: only_in("stage1"), slugs),
    Rule(r"data\.granite_data\.stage2_only", lambda: only_in("stage2"), slugs),
    Rule(r"data\.granite_data\.languages", lambda: rule("granite3-8b", "language").keep),
    spoken(r"data\.granite_data\.programming_languages", lambda: source("granite3-8b", "code_pile").supply),
    spoken(r"data\.quality_filters\.(?:fasttext_threshold|fineweb_edu_min)", lambda: source("olmo2-7b", "dclm_hq").supply),
    spoken(
        r"data\.quality_filters\.(?:fasttext_keep_percent|fineweb_edu_keep_percent\.2)",
        lambda: line_of("olmo2-base.yaml", "dclm_hq:"),
    ),
    spoken(r"data\.quality_filters\.flan_decontamination_max_ngram_overlap", lambda: source("olmo2-7b", "flan").supply),
    Rule(
        r"data\.quality_filters\.stackexchange\.(min_question_votes|min_answer_votes|accepted_answer)",
        lambda key: getattr(rule("olmo2-7b", "stackexchange"), key),
    ),
    Rule(
        r"data\.granite_data\.filters\.gopher\.(\w+)", lambda key: getattr(rule("granite3-8b", "gopher_quality"), _GOPHER[key])
    ),
    Rule(r"data\.granite_data\.filters\.code\.json_yaml_chars", _data_characters),
    Rule(
        r"data\.granite_data\.filters\.code\.(\w+)",
        lambda key: getattr(rule("granite3-8b", "granite_code"), _GRANITE_CODE[key]),
    ),
    Rule(r"data\.repeated_ngram_filter\.max_period", lambda: rule("olmo2-7b", "repeated_ngram").max_period),
    Rule(r"data\.repeated_ngram_filter\.max_count", lambda: rule("olmo2-7b", "repeated_ngram").max_repeats + 1),
    spoken(r"moe\.ibm_engine_default_aux_coef", lambda: line_of("released/granite3-1b-a400m.yaml", "balance_loss:")),
    Rule(r"moe\.ibm_engine_example_aux_coef", lambda: recipe("granite3-1b-a400m").model.balance_loss),
    Rule(
        r"moe\.ibm_engine_z_relative_weight",
        lambda: recipe("granite3-3b-a800m").model.router_z_loss / recipe("granite3-3b-a800m").model.balance_loss,
    ),
]
_KEYS = {"batch": "batch_size", "max_seq_len": "max_length", "max_len": "max_length", "pack_len": "max_length"}
_KEYS |= {"prompts": "samples", "clip_grad_norm": "clip_norm", "clip": "clip_norm", "kl_beta": "kl", "kl_init": "kl"}
_KEYS |= {"value_coef": "value_coefficient", "max_prompt": "prompt_length", "max_prompt_length": "prompt_length"}
_KEYS |= {"response_len": "max_new_tokens", "value_init": "value"}
_KEYS |= {"no_eos_penalty": "no_eos_reward", "no_eos_value": "no_eos_reward"}
_KEYS |= {"lr_magnitude": "lr", "updates": "steps", "batch_sequences": "batch_size", "rollouts": "roll_outs"}
_KEYS |= {"pairs": "samples", "stages_13b": "prompts", "stages": "prompts", "rms": "reward_models", "range": "aspect_range"}
_KEYS |= {"eos_reinit": "end_token_from_mean", "math_majority_vote": "majority_of", "judge_aspects": "judged"}
_KEYS |= {"tokens_masked_whitened_advantages": "whitened_advantages", "new_special_tokens": "special_tokens", "data": "supply"}
_KEYS |= {"prompts_per_rollout": "batch_size"}


def tuned(name: str, kind: str, key: str, number: int = 0) -> Any:
    """What a step says of a fact's key; a list of one is its value, and a limit that nothing reaches is none."""
    key = "clip" if (kind, key) == ("ppo", "clip") else _KEYS.get(key, key)
    value = stated(post(name, kind, number), key)
    if key == "clip_norm" and value == math.inf:
        return None
    return value[0] if isinstance(value, list) and len(value) == 1 and key == "kl" else value


def runs(name: str, kind: str, key: str) -> list[Any]:
    """What each step of a kind says of a fact's key, in their order."""
    return [tuned(name, kind, key, number) for number in range(sum(step.kind == kind for step in recipe(name).posttraining))]


def every_run(name: str, kind: str, key: str) -> Any:
    """What all steps of a kind say alike of a fact's key, else all that they say."""
    said = runs(name, kind, key)
    return said[0] if all(one == said[0] for one in said) else said


def plan_rules(pattern: str, name: Callable[..., str], kind: str, number: int = 0, words: Reader = lambda f: f) -> Rule:
    """A rule whose last group is the key; groups before it choose the recipe."""
    return Rule(pattern, lambda *g: tuned(name(*g[:-1]), kind, g[-1], number), words)


def _ours(text: Any) -> Any:
    """A fact's words as a recipe puts them: the first one, or our name for it."""
    names = {"kl1": "k1", "kl3": "k3", "Bradley-Terry": "bradley-terry", "dpo_norm": True, "from": "reward-model"}
    return names.get(first_word(text), first_word(text)) if isinstance(text, str) else text


def falls(step: Any) -> str:
    return f"{stated(step, 'schedule')} to {stated(step, 'final_ratio'):g}"


def always(name: str) -> Callable[[], str]:
    return lambda: name


LM2 = "stablelm2-1.6b"
TUNING = [
    Rule(rf"posttraining\.olmo2_(sft|dpo)\.(lr|prompts)\.{SIZES}", lambda kind, key, size: tuned(f"olmo2-{size}", kind, key)),
    Rule(
        rf"posttraining\.olmo2_sft\.math_majority_vote\.{SIZES}",
        lambda size: {float(votes)} if (votes := post(f"olmo2-{size}", "sft").reported.get("majority_of")) else set(),
        lambda text: numbers(text or ""),
    ),
    Rule(
        rf"posttraining\.olmo2_(sft|dpo)\.date_cutoff_filter\.{SIZES}",
        lambda kind, size: any("date cutoff" in rule for rule in post(f"olmo2-{size}", kind).reported.get("filters", [])),
    ),
    Rule(r"posttraining\.olmo2_dpo\.loss", lambda: tuned("olmo2-7b", "dpo", "normalised"), _ours),
    Rule(r"posttraining\.olmo2_dpo\.(chosen|rejected|judge_aspects)", lambda key: tuned("olmo2-13b", "dpo", key)),
    Rule(r"posttraining\.olmo2_(sft|dpo)\.(\w+)", lambda kind, key: tuned("olmo2-7b", kind, key), _ours),
    plan_rules(r"posttraining\.olmo2_rm\.(\w+)", always("olmo2-13b"), "reward_model", words=_ours),
    Rule(r"posttraining\.olmo2_ppo_rlvr\.kl_beta\.13b", lambda: runs("olmo2-13b", "ppo", "kl")),
    Rule(r"posttraining\.olmo2_ppo_rlvr\.stages_13b", lambda: [own for (own,) in runs("olmo2-13b", "ppo", "stages_13b")]),
    Rule(
        r"posttraining\.olmo2_ppo_rlvr\.reward_model_weight",
        lambda: tuned("olmo2-13b", "ppo", "reward_models")["reward-model"],
    ),
    Rule(rf"posttraining\.olmo2_ppo_rlvr\.(\w+)\.{SIZES}", lambda key, size: every_run(f"olmo2-{size}", "ppo", key)),
    Rule(r"posttraining\.olmo2_ppo_rlvr\.(\w+)", lambda key: every_run("olmo2-13b", "ppo", key), _ours),
    Rule(r"posttraining\.olmo2_grpo\.1b\.stages", lambda: [own for (own,) in runs("olmo2-1b", "grpo", "stages")]),
    Rule(rf"posttraining\.olmo2_grpo\.{SIZES}\.(\w+)", lambda size, key: every_run(f"olmo2-{size}", "grpo", key), _ours),
    Rule(r"posttraining\.olmo1_adaptation\.(sft|dpo)\.schedule", lambda kind: falls(post("olmo1-7b", kind))),
    Rule(r"posttraining\.olmo1_adaptation\.(sft|dpo)\.(\w+)", lambda kind, key: tuned("olmo1-7b", kind, key), _ours),
    Rule(r"posttraining\.granite_sft\.stage([12])\.(\w+)", lambda n, key: tuned("granite3-8b", "sft", key, int(n) - 1)),
    Rule(r"posttraining\.granite_sft\.warmup_ratio\.8b", lambda: tuned("granite3-8b", "sft", "warmup_ratio")),
    Rule(r"posttraining\.granite_sft\.warmup_ratio\.3b", lambda: tuned("granite3-3b-a800m", "sft", "warmup_ratio")),
    Rule(r"posttraining\.granite_sft\.schedule", lambda: f"{falls(post('granite3-8b', 'sft'))} of peak"),
    Rule(
        r"posttraining\.granite_sft\.eos_reinit",
        lambda: tuned("granite3-8b", "sft", "eos_reinit"),
        lambda t: "mean of all" in t,
    ),
    Rule(r"posttraining\.granite_sft\.domains\.(\w+)", lambda key: tuned("granite3-8b", "sft", "domains")[key]),
    spoken(
        r"posttraining\.granite_sft\.total_steps_approx",
        lambda: line_of("granite3-base.yaml", "samples: 20_000_000").split("#")[1],
    ),
    plan_rules(
        r"posttraining\.granite_sft\.(weight_decay|packing|new_special_tokens|roles|turn)",
        always("granite3-8b"),
        "sft",
        words=lambda f: f.split(" by tokens")[0] if isinstance(f, str) else f,
    ),
    Rule(
        r"posttraining\.granite_alignment\.order",
        lambda: [s.kind for s in recipe("granite3-8b").posttraining if s.kind in ("best_of_n", "ppo", "brain")],
    ),
    Rule(
        r"posttraining\.granite_alignment\.bon\.ensemble",
        lambda: f"arithmetic or geometric; {tuned('granite3-8b', 'best_of_n', 'ensemble')} preferred",
    ),
    Rule(r"posttraining\.granite_alignment\.bon\.rms", lambda: len(tuned("granite3-8b", "best_of_n", "rms"))),
    plan_rules(r"posttraining\.granite_alignment\.bon\.(\w+)", always("granite3-8b"), "best_of_n"),
    Rule(
        r"posttraining\.granite_alignment\.ppo\.library",
        lambda: tuned("granite3-8b", "ppo", "lora") is not None,
        lambda t: t.endswith("LoRA"),
    ),
    Rule(r"posttraining\.granite_alignment\.ppo\.lora_(\w+)", lambda key: getattr(tuned("granite3-8b", "ppo", "lora"), key)),
    Rule(r"posttraining\.granite_alignment\.ppo\.rollouts", lambda: tuned("granite3-8b", "ppo", "batch_size")),
    Rule(
        r"posttraining\.granite_alignment\.ppo\.batch",
        lambda: tuned("granite3-8b", "ppo", "batch_size") // tuned("granite3-8b", "ppo", "mini_batches"),
    ),
    plan_rules(r"posttraining\.granite_alignment\.ppo\.(\w+)", always("granite3-8b"), "ppo"),
    Rule(
        r"posttraining\.granite_alignment\.brain\.refresh_proposal_every",
        lambda: tuned("granite3-8b", "brain", "refresh_steps"),
    ),
    Rule(r"posttraining\.granite_alignment\.prompt_mix\.(\w+)", lambda key: tuned("granite3-8b", "brain", "domains")[key]),
    Rule(
        r"posttraining\.granite_alignment\.rms\.multi_aspect\.aspects",
        lambda: list(tuned("granite3-8b", "reward_model", "aspects")),
    ),
    plan_rules(r"posttraining\.granite_alignment\.rms\.multi_aspect\.(\w+)", always("granite3-8b"), "reward_model", 0),
    plan_rules(r"posttraining\.granite_alignment\.rms\.bradley_terry\.(\w+)", always("granite3-8b"), "reward_model", 1),
    Rule(
        r"posttraining\.granite_alignment\.rms\.contrastive",
        lambda: tuned("granite3-8b", "reward_model", "base", 2),
        lambda t: "8B SFT against 2B SFT" if t.startswith("log p(8B SFT) - log p(2B SFT)") else t,
    ),
    Rule(
        r"posttraining\.granite_alignment\.merging",
        lambda: [s.kind for s in recipe("granite3-8b").posttraining].count("merge"),
        lambda t: 2 if "between stages" in t else 0,
    ),
    Rule(r"posttraining\.stablelm2\.self_knowledge\.schedule", lambda: falls(post(LM2, "self_knowledge"))),
    Rule(r"posttraining\.stablelm2\.(sft|self_knowledge)\.(?!packed|negative)(\w+)", lambda k, key: tuned(LM2, k, key), _ours),
    Rule(r"posttraining\.stablelm2\.self_knowledge\.packed", lambda: tuned(LM2, "self_knowledge", "packing") != "none"),
    Rule(
        r"posttraining\.stablelm2\.self_knowledge\.negative",
        lambda: tuned(LM2, "self_knowledge", "negative"),
        lambda t: "negative token" if "replaced by a negative token" in t else t,
    ),
    Rule(r"posttraining\.stablelm2\.dpo\.(beta|lr|filters)", lambda key: tuned(LM2, "dpo", key)),
    Rule(r"posttraining\.stablelm2\.dpo\.datasets\.(\w+)", lambda key: tuned(LM2, "dpo", "datasets")[key]),
    Rule(
        r"posttraining\.stablelm2\.dpo\.zephyr_base_since_2024_01_10\.(epochs|warmup_ratio|schedule|max_length|max_prompt_length|beta)",
        lambda key: tuned(LM2, "dpo", key),
    ),
]

RULES = [*ARCHITECTURE, *DATA, *TUNING]
_METHOD = "of the method, which its code and tests hold; no choice of a recipe"
REASONS: dict[str, str] = {
    r"models\.\w+\.(eos|pad)_token_id": "of the tokenizer, which must be supplied",
    r"models\.\w+\.(activation|final_norm|block|parallel_residual|rope_layout|init_detail)": "no switch: all have it so",
    r"models\.\w+\.vocab_size_instruct": "of the instruct models: said in a comment",
    r"models\.\w+\.(reported|reported_n_params)": "as printed, rounded or off (conflict slm_params): n_params is compared",
    r"moe\.(router|lb_loss|[fP]_definition|router_z_loss|ibm_engine_formula|hf_value_is_topk_times_larger)": _METHOD,
    r"moe\.aux_loss_coef_disclosed": "not disclosed: said in a comment",
    r"pretraining\.\w+\.optimizer": "there is no other than AdamW",
    r"pretraining\.olmo1_1b\.warmup_steps_code": "the code's value, in a comment (conflict olmo1_1b_recipe)",
    r"pretraining\.granite3\.eps_disclosed": "not disclosed: said in a comment",
    r"pretraining\.granite3\.(n_unit|mup_lr)": _METHOD,
    r"pretraining\.granite3\.parallelism\.\w+": "of the machines; held by tests/plan",
    r"pretraining\.granite3\.(mixture_search\.\w+|hp_search)": "how the authors found their numbers",
    r"pretraining\.olmo1_7b\.(compile|doc_packing)": "of the engine; document_mask is compared",
    r"pretraining\.\w+\.loss_denominator": _METHOD,
    r"pretraining\.stablelm2\.(dp|micro_batch|grad_accum|zero_stage|activation_checkpointing)": "of the machines; tests/plan",
    r"data\.dolma_1_5\.printed_total_GB": "a wrong sum (conflict dolma_total)",
    r"data\.dolmino_official_config_B\..+": "sums of the files, the other side of conflict dolmino_math",
    r"data\.stablelm2_ablation_mixes\..+": "mixes that were tried, of no released model",
    r"data\.granite_data\.filters\.(exact|fuzzy)_dedup": _METHOD,
    r"data\.quality_filters\.fineweb_edu_keep_percent\.3": "of a threshold that was not taken",
    r"data\.repeated_ngram_filter\.(min_period|rule|cases)": _METHOD,
    r"data\.microanneal\..+": "how the authors chose sources",
    r"posttraining\.olmo2_grpo\.(advantage|loss)": _METHOD,
    r"posttraining\.verifiers\..+": _METHOD,
    r"posttraining\.granite_sft\.loss_mask": _METHOD,
    r"posttraining\.granite_alignment\.brain\.loss": _METHOD,
    r"posttraining\.stablelm2\.dpo\.zephyr_base_before\..+": "the recipe before 2024-01-10 (conflict slm_dpo_lr)",
    r"posttraining\.stablelm2\.dpo\.zephyr_base_since_2024_01_10\.(lr|optim|per_device_batch|grad_accum)": "it departs",
}
