"""What `lehr run` refuses before anything starts, all of it in one line, and what no result depends on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lehr.config import Recipe, load_recipe
from lehr.config.runnable import check_runnable
from lehr.pipeline.graph import graph
from lehr.runtime.errors import UserError

TINY = sorted((Path(__file__).resolve().parents[2] / "recipes/tiny").glob("*.yaml"))
OLMO2 = next(path for path in TINY if path.stem == "olmo2")


GRPO = "posttraining=[{kind: sft}, {kind: grpo, name: rlvr, families: [math], optim: {lr: 1e-4}, batch_size: 16}]"


def changed(*overrides: str) -> Recipe:
    return load_recipe(OLMO2, overrides)


@pytest.mark.parametrize("path", TINY, ids=lambda p: p.stem)
def test_tiny_recipes_run(path: Path) -> None:
    check_runnable(load_recipe(path))


def test_a_model_that_the_run_trains_is_no_file() -> None:
    model = "data.models={good: {kind: classifier, positive: [factbook], negative: [code]}}"
    check_runnable(changed(model, "data.filters.quality={kind: classifier, model: good, min_probability: 0.5}"))


@pytest.mark.parametrize("path", TINY, ids=lambda p: p.stem)
def test_tiny_recipes_give_one_set_of_results_and_advertise_what_they_train(path: Path) -> None:
    """`auto` would compute in bf16 or fp32 as the processor has it, with other scores; positions that no stage trained on would
    be exported as the model's context."""
    recipe = load_recipe(path)
    stages = [recipe.stage1, recipe.ramp, recipe.anneals, *recipe.posttraining]
    lengths = {getattr(stage, key, 0) for stage in stages for key in ("sequence_length", "max_length")}
    assert recipe.precision == "fp32" and recipe.model.max_seq_len == max(lengths)


@pytest.mark.parametrize(
    ("override", "what", "remedy"),
    [
        ("posttraining.sft.examples={}", "posttraining.sft: its data must be supplied", "give sft its examples"),
        ("posttraining.dpo.pairs=null", "posttraining.dpo: its data must be supplied", "give dpo its pairs or its examples"),
        ("posttraining.ppo.families=[]", "posttraining.ppo: its data must be supplied", "give ppo its families"),
        ("posttraining.dpo.batch_tokens=4096", "posttraining.dpo: batch_tokens is run for kind sft alone", "batch_size"),
        ("posttraining.dpo.batch_size=0", "posttraining.dpo: its batch_size is not given", "give a step its batch_size"),
        ("posttraining.dpo.steps=0", "posttraining.dpo: its length is not given", "give a step its steps, or its epochs"),
        ("data.filters.url_blocklist={file: nowhere.txt}", "data.filters.url_blocklist.file=", "correct the path"),
        ("data.filters.quality={kind: classifier, model: no/such.bin, min_probability: 0.5}", "quality.model=", "correct"),
        ("tokenizer.origin=cl100k", "the tokenizer must be supplied: cl100k", "tokenizer.path"),
        (
            "posttraining=[{kind: sft}, {kind: merge}]",
            "posttraining.merge: its parents must be supplied",
            "name them in parents",
        ),
    ],
)
def test_what_a_run_lacks_is_one_line(override: str, what: str, remedy: str) -> None:
    with pytest.raises(UserError, match=re.escape(what)) as raised:
        check_runnable(changed(override))
    assert remedy in raised.value.remedy and "\n" not in str(raised.value)


def test_everything_that_is_lacking_is_named_at_once() -> None:
    source = "data.sources.novel={kind: external, uri: 's3://bucket/novel', license: CC0-1.0, supply: a novel}"
    with pytest.raises(UserError) as raised:
        check_runnable(
            changed(source, "posttraining.sft.examples={}", "posttraining.sft.supply=chats", "posttraining.dpo.steps=0")
        )
    lines = [raised.value, *raised.value.more]
    assert [line.what for line in lines] == [
        "1 source must be supplied: novel",
        "posttraining.sft: its data must be supplied: chats",
        "posttraining.dpo: its length is not given",
    ]
    assert "novel is at s3://bucket/novel, its licence CC0-1.0" in lines[0].remedy
    assert ["lehr plan" in line.remedy for line in lines] == [False, False, True]  # said once, at the end


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["posttraining.sft.steps=0", "posttraining.sft.samples=100"], {"sft": 4}),  # 100 of 32: the last one is short
        (["posttraining.sft.steps=0", "posttraining.sft.samples=100", "posttraining.sft.epochs=2.5"], {"sft": 8}),
        ([GRPO, "posttraining.rlvr.episodes=1300"], {"rlvr": 11}),  # roll-outs of 16 prompts x 8
        ([GRPO, "posttraining.rlvr.episodes=1300", "posttraining.rlvr.mini_batches=2"], {"rlvr": 22}),
        ([GRPO, "posttraining.rlvr.samples=64", "posttraining.rlvr.rollout_epochs=3"], {"rlvr": 12}),
        (["posttraining.ppo.steps=0", "posttraining.ppo.episodes=640"], {"ppo": 20}),  # roll-outs of 16 x 4, two passes each
    ],
)
def test_a_length_follows_from_what_a_report_counts(overrides: list[str], steps: dict[str, int]) -> None:
    recipe = changed(*overrides)
    check_runnable(recipe)
    found = {step.name: step.total_steps for step in recipe.posttraining}  # type: ignore[union-attr]
    assert found | steps == found and all(count for name, count in found.items() if name != "reward-model")  # by its pairs


def test_no_fingerprint_depends_on_what_is_reported() -> None:
    def described(*overrides: str) -> list[dict[str, object]]:
        return [node.config.described() for node in graph(changed(*overrides))]

    facts = ["data.mixes.web.reported={epochs: {bible: 2.0}}", "posttraining.sft.reported={packing: none}"]
    assert described(*facts) == described()
    assert described("data.mixes.web.max_epochs=9.0") != described()


def test_a_data_file_that_is_not_there_is_named_before_anything_is_made() -> None:
    recipe = load_recipe(Path("recipes/tiny/olmo2.yaml"), ["data.sources.novel.path=/nowhere/novel.jsonl"])
    with pytest.raises(UserError, match=r"data\.sources\.novel\.path=/nowhere/novel\.jsonl: no such file"):
        check_runnable(recipe)
