"""Released recipes against each other: what the facts say of a family holds for all sizes; nothing is on by accident."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lehr.config.sources import ExternalSource
from tests.config.said import RECIPES, numbers, post, recipe, stated

CONFLICTS = yaml.load((Path(__file__).parent / "facts.yaml").read_text(), yaml.CSafeLoader)["conflicts"]
NAMES = sorted(path.stem for path in (RECIPES / "released").glob("*.yaml"))
OLMO1 = ["olmo1-7b", "olmo1-1b", "olmo1-65b"]
OLMO2 = ["olmo2-7b", "olmo2-1b", "olmo2-13b", "olmo2-32b"]
GRANITE = ["granite3-8b", "granite3-2b", "granite3-1b-a400m", "granite3-3b-a800m"]


def held(name: str) -> dict[str, int]:
    sources = recipe(name).data.sources
    return {key: source.reported.get("tokens", 0) for key, source in sources.items() if isinstance(source, ExternalSource)}


def described(name: str, kind: str, *but: str) -> dict[str, Any]:
    """A step's keys and those of its optimiser, schedule and report, by dotted name, without those named."""
    dump: dict[str, Any] = post(name, kind).model_dump()
    flat = {key: value for key, value in dump.items() if not isinstance(value, dict)}
    for part in ("optim", "schedule", "reported"):
        flat |= {f"{part}.{key}": value for key, value in (dump.get(part) or {}).items()}
    assert set(but) <= flat.keys() | {"reported.datasets", "reported.filters", "reported.majority_of"}
    return {key: value for key, value in flat.items() if key not in but}


@pytest.mark.parametrize("family", [OLMO1, OLMO2, GRANITE], ids=lambda names: names[0])
def test_sizes_share_their_data(family: list[str]) -> None:
    first, *others = (recipe(name).data for name in family)
    assert all(data == first for data in others)


def test_sizes_share_their_optimiser() -> None:
    sized = {"lr", "clip_warmup_tokens", "clip_warmup_factor", "guard"}
    for family in (OLMO1, OLMO2, GRANITE):
        first, *others = (recipe(name).stage1.optim.model_dump(exclude=sized) for name in family)
        assert all(optim == first for optim in others), family
    first, *others = (recipe(name).stage1.model_dump(exclude={"tokens"}) for name in GRANITE)
    assert all(stage1 == first for stage1 in others)
    assert all(recipe(name).model.mup_base_width == 256 for name in GRANITE)
    assert recipe("olmo-0424-7b").stage1.optim.eps == recipe("olmo1-7b").stage1.optim.eps


def test_sizes_share_their_post_training() -> None:
    for name in OLMO2:
        its_own = "optim.lr", "samples", "supply", "reported.filters", "reported.majority_of"
        assert described(name, "sft", *its_own) == described("olmo2-7b", "sft", *its_own)
        its_own = "optim.lr", "samples", "reported.datasets", "supply", "reported.filters"
        assert described(name, "dpo", *its_own) == described("olmo2-7b", "dpo", *its_own)
    its_own = "optim.lr", "batch_size", "kl", "episodes", "reported.prompts"
    assert described("olmo2-13b", "ppo", *its_own) == described("olmo2-7b", "ppo", *its_own)
    assert described("olmo2-13b", "reward_model") == described("olmo2-7b", "reward_model")
    first, *others = (_but_warmup(name) for name in GRANITE)
    assert all(steps == first for steps in others) and len(first) == 10
    one, two = (post("granite3-8b", "sft", number) for number in (0, 1))
    shared = "schedule", "final_ratio", "warmup_ratio", "weight_decay", "packing"
    assert [stated(one, key) for key in shared] == [stated(two, key) for key in shared]
    assert len({str(stated(post("granite3-8b", kind), "domains")) for kind in ("best_of_n", "ppo", "brain")}) == 1
    assert stated(post("granite3-8b", "ppo"), "kl_horizon") in numbers(CONFLICTS["granite_kl"]["other"])


def _but_warmup(name: str) -> list[dict[str, Any]]:
    return [step.model_dump(exclude={"schedule": {"warmup_ratio"}}) for step in recipe(name).posttraining]


def test_what_begins_with_what() -> None:
    """Each with the model before it, but reward models and what follows them."""

    def parents(name: str) -> dict[str, str]:
        return {step.name: step.parent for step in recipe(name).posttraining if step.parent}

    runs = {"reward-model": "sft", "ppo": "dpo"}
    assert parents("olmo2-7b") == runs and parents("olmo2-13b") == runs | {"ppo-2": "ppo", "ppo-3": "ppo-2"}
    assert parents("olmo2-1b") == {"grpo-2": "grpo"} and parents("olmo2-32b") == {}
    assert parents("granite3-8b") == {"best-of-n": "merge-sft"}
    for step in recipe("olmo2-13b").posttraining[3:]:
        assert step.total_steps == 3226, step.name  # type: ignore[union-attr]  # 200,000 episodes x 4 passes / 248


def test_what_is_reported_adds_up() -> None:
    """The data sets of a step sum to its samples; epochs are of sources that the mix draws from, and within its limit."""
    summed, mixed = [], []
    for name in NAMES:
        for step in recipe(name).posttraining:
            if datasets := step.reported.get("datasets"):
                assert sum(datasets.values()) == stated(step, "samples"), (name, step.name)
                summed.append(f"{name} {step.name}")
        for key, mix in recipe(name).data.mixes.items():
            if epochs := mix.reported.get("epochs"):
                assert epochs.keys() == mix.weights.keys() and max(epochs.values()) <= mix.max_epochs, (name, key)
                mixed.append(key)
    assert summed == ["olmo2-13b dpo", "olmo2-7b dpo", "stablelm2-1.6b sft", "stablelm2-1.6b dpo"]
    assert set(mixed) == {"dolmino_50B", "dolmino_100B", "dolmino_300B", "table1"}


def test_only_those_adapt_whose_report_does() -> None:
    assert {name for name in NAMES if not recipe(name).posttraining} == {"olmo1-1b", "olmo1-65b", "olmo-0424-7b"}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_on_that_the_report_does_not_have(name: str) -> None:
    r = recipe(name)
    m, optim = r.model, r.stage1.optim
    if name not in GRANITE:
        multipliers = m.embedding_multiplier, m.residual_multiplier, m.logits_scaling
        assert multipliers == (1.0, 1.0, 1.0) and m.attention_multiplier is None and not m.mup_base_width
    assert bool(m.n_experts) == ("-a" in name)
    assert optim.guard.enabled == (name == "olmo2-32b")  # skip-step
    assert (optim.clip_warmup_factor > 1) == bool(optim.clip_warmup_tokens) == (name in ("olmo1-7b", "olmo-0424-7b"))
    assert optim.decay_embeddings == (name not in OLMO2)  # conflict olmo1_embed_decay
    assert r.stage1.mask_repeats == (name in OLMO2)  # OLMo 2 section 3.1
    assert r.stage1.document_mask == (name == "stablelm2-1.6b")
    assert bool(r.stage1.batch_ramp) == (name == "olmo1-65b")
    assert bool(r.anneals) == (name not in ("stablelm2-1.6b", "olmo1-1b", "olmo1-65b", "olmo-0424-7b"))
    assert (r.base_stage == "soup") == (name in ("olmo2-7b", "olmo2-13b", "olmo2-32b"))
    assert r.ramp is None and r.base is None
    assert r.data.chunk_characters == 0  # OLMo 1 section 3.3: documents are joined whole; no report cuts them before
    assert not any(getattr(step, data, None) for step in r.posttraining for data in ("examples", "pairs", "families"))


def test_mixes_agree_with_their_own_tables() -> None:
    """Shares follow from tokens, and from epochs where the report prints both: Stable LM 2 Table 1, OLMo 2 Tables 4 and 13
    (its 50B; conflict dolmino_math says why not the others), OLMo 1 Table 2."""
    tokens = held("stablelm2-1.6b")
    for key, weight in recipe("stablelm2-1.6b").data.mixes["table1"].weights.items():
        assert weight == pytest.approx(tokens[key] / sum(tokens.values()), abs=1e-4), key
    for name, mix in (("olmo1-7b", "dolma"), ("olmo2-7b", "olmo_mix_1124")):
        for key, weight in recipe(name).data.mixes[mix].weights.items():
            assert weight == pytest.approx(held(name)[key] / 1e9), key
    dolmino = recipe("olmo2-7b").data.mixes["dolmino_50B"]
    read = {key: held("olmo2-7b")[key] * epochs for key, epochs in dolmino.reported["epochs"].items()}
    for key, weight in dolmino.weights.items():
        assert weight == pytest.approx(100 * read[key] / sum(read.values()), rel=0.015), key  # wiki is printed as 3.7B
    assert set(held("granite3-8b").values()) == {0}  # not disclosed


def test_the_one_billion_has_one_anneal_of_its_seed() -> None:
    anneals = recipe("olmo2-1b").anneals
    assert anneals is not None and anneals.seeds == [42] and not anneals.more
