"""Merges of a recipe: their place in the graph, their ancestors, and what is refused before a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lehr.artifacts.artifact import Artifact
from lehr.cli.main import main
from lehr.config import load_recipe
from lehr.pipeline.graph import graph
from lehr.pipeline.merge_templates import check_templates
from lehr.pipeline.requirements import wanted
from lehr.post.template_tokens import with_template
from lehr.runtime.errors import UserError
from lehr.stages.merge import SearchedMergeConfig
from tests.post.training import TOKENIZER
from tests.stages.merges import E2E, Zoo, family, foreign, nodes, steps


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "first")


def test_a_merge_begins_with_all_its_parents_and_what_follows_with_it() -> None:
    made = nodes(
        "name: both, parents: [code, dpo], method: ties",
        "name: chain, parents: [both, code], method: linear",
        "name: late, parents: [both, chain], method: dare_linear, base: soup",
        "name: found, parents: [sft, code], search: {task: prose, metric: bits_per_byte, points: 4}",
        more=", {kind: grpo, name: rlvr, parent: both}",
    )
    assert made["both"].inputs == {"parents": ("code", "dpo"), "base": ("soup",)}
    assert made["chain"].inputs == {"parents": ("both", "code")} and made["late"].inputs["base"] == ("soup",)
    assert made["found"].inputs == {"parents": ("sft", "code"), "documents": ("documents",)}
    assert (made["both"].kind, made["found"].kind) == ("merge", "searched_merge")
    assert made["rlvr"].inputs == {"parent": ("both",)} and made["export"].inputs["checkpoint"] == ("rlvr",)
    # Judged on the pairs of the nearest ancestor that has some, through a merge too: there is no one parent.
    assert {made[f"scores-{name}"].inputs["pairs"] for name in ("both", "chain", "late", "rlvr")} == {("pairs",)}
    assert "pairs" not in made["scores-found"].inputs
    searched = made["found"].config
    assert isinstance(searched, SearchedMergeConfig) and (searched.max_new_tokens, searched.window_tokens) == (12, 64)


def test_the_ancestor_is_the_nearest_that_the_recipe_knows() -> None:
    two = "optim: {lr: 1e-3}, steps: 3, batch_size: 4, examples: {list: 10}"
    more = f", {{kind: sft, name: a, parent: sft, {two}}}, {{kind: sft, name: b, parent: dpo, {two}}}"
    more += ", {kind: merge, name: m, parents: [a, b], method: ties}, {kind: merge, name: n, parents: [m, code], method: ties}"
    more += f", {{kind: sft, name: c, parent: m, {two}}}, {{kind: sft, name: d, parent: m, {two}}}"
    more += ", {kind: merge, name: o, parents: [c, d], method: ties}, {kind: merge, name: p, parents: [c, /x/y], method: ties}"
    made = nodes("name: first, parents: [sft, code]", more=more)
    assert [made[name].inputs["base"] for name in ("m", "n", "o")] == [("sft",), ("soup",), ("m",)]
    assert "base" not in made["p"].inputs  # of another run's model the stage itself finds it


@pytest.mark.parametrize(
    ("merge", "says"),
    [
        ("parents: [sft]", "parents: one model alone, sft"),
        ("parents: [sft, sft]", "'sft' stands twice"),
        ("parents: [sft, later]", "'later' is not a model before this step"),
        ("parents: [sft, dpo], parent: sft", "a merge has several"),
        ("parents: [sft, dpo, code], method: slerp", "slerp goes from one to another"),
        ("parents: [sft, dpo], weights: [1.0, 2.0, 3.0]", "3 for 2 parents"),
        ("parents: [sft, dpo], weights: [1.0, -1.0]", "they sum to 0"),
        ("parents: [sft, dpo], weights: [.nan, 1.0]", "not all are finite"),
        ("parents: [sft, dpo], base: soup", "linear needs no ancestor"),
        ("parents: [sft, dpo], method: ties", "'sft' is a parent too"),
        ("parents: [dpo, code], method: ties, base: sft", "'sft' is no ancestor of code"),
        ("parents: [dpo, code], method: ties, base: nobody", "'nobody' is not a model before this step"),
        ("parents: [dpo, code], method: ties, density: 0.0", "density: expected greater than 0"),
        ("parents: [dpo, code], search: {task: prose, metric: acc, points: 3}", "prose has no 'acc' to search by"),
        ("parents: [dpo, code], search: {task: preference, metric: accuracy, points: 3}", "preference scores pairs"),
        ("parents: [dpo, code], search: {task: proze, metric: acc, points: 3}", "there is no evaluation task 'proze'"),
        ("parents: [dpo, code], weights: [1.0, 1.0], search: {task: prose, metric: acc, points: 3}", "and weights are given"),
        ("parents: [dpo, code], method: ties, search: {task: prose, metric: acc, points: 3}", "and the method is ties"),
    ],
)
def test_what_cannot_be_merged_is_said_from_the_recipe_alone(merge: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        nodes(f"name: merged, {merge}")
    assert says in str(caught.value) and "posttraining.merged" in str(caught.value) and "\n" not in str(caught.value)


def test_a_reward_model_is_no_parent() -> None:
    with pytest.raises(UserError, match="'judge' is a reward model"):
        load_recipe(
            E2E, ["posttraining=[{kind: sft}, {kind: reward_model, name: judge}, {kind: merge, parents: [sft, judge]}]"]
        )


def test_paths_of_parents_belong_to_the_file_that_names_them(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    merge = {
        "kind": "merge",
        "parents": ["sft", "../other/artifacts/x", "s3://b/artifacts/y"],
        "method": "ties",
        "base": "soup",
    }
    own.write_text(yaml.safe_dump({"inherits": str(E2E), "posttraining": [{"kind": "sft"}, merge]}))
    step: Any = load_recipe(own).posttraining[1]
    assert step.parents == ["sft", str(tmp_path.parent / "other/artifacts/x"), "s3://b/artifacts/y"] and step.base == "soup"


def test_steps_and_given_models_must_share_what_the_run_begins_with(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a step is trained: it will come from the base alone."""
    root, code, math = family(zoo)
    alien = foreign(zoo)
    sft = {"kind": "sft", "examples": {"list": 10}, "optim": {"lr": 1e-3}, "steps": 3, "batch_size": 4, "max_length": 90}
    path = tmp_path / "recipe.yaml"

    def refused(begun: Artifact, **merge: Any) -> str:
        said = {"name": "r", "base": {"checkpoint": str(begun.folder)}, "posttraining": [sft, {"kind": "merge", **merge}]}
        path.write_text(
            yaml.safe_dump({**said, "evaluation": {"tasks": [{"task": "arithmetic_cf", "limit": 4}], "in_loop_steps": 0}})
        )
        assert main(["run", str(path), "--out", str(tmp_path / "none"), "--no-mlflow"]) == 2
        assert not list(tmp_path.glob("none/artifacts/*"))
        return capsys.readouterr().err

    said = refused(root, parents=["sft", str(alien.folder)])
    assert "the parents of merge have no ancestor in common: sft" in said and str(alien.folder) in said
    said = refused(math, parents=["sft", str(code.folder)], method="ties", base=str(code.folder))
    assert "is a parent too" in said
    said = refused(math, parents=["sft", str(code.folder)], method="ties", base=str(zoo.folder / "middle"))
    assert "its parent sft does not come from it" in said and "middle" in said


@pytest.mark.parametrize(
    ("merge", "template", "says"),
    [
        ("parents: [sft, soup]", "zephyr", "posttraining.m.parents: soup does not have the chat template"),
        ("parents: [sft, code], method: ties", "granite", "posttraining.m.base: soup lacks the tokens"),
        ("parents: [sft, code], method: ties", "zephyr", ""),  # it brings no tokens
        ("parents: [sft, code]", "granite", ""),
        ("parents: [dpo, later], method: ties", "granite", ""),  # to the SFT before both
    ],
)
def test_who_learned_a_template_is_not_merged_with_who_did_not(merge: str, template: str, says: str) -> None:
    more = ", {kind: sft, name: later, parent: sft, optim: {lr: 1e-3}, steps: 3, batch_size: 4, examples: {list: 10}}"
    first = steps("name: early, parents: [sft, code]", more=f"{more}, {{kind: merge, name: m, {merge}}}")
    made = graph(load_recipe(E2E, [*first, f"chat.template={template}"]))
    taught = with_template(TOKENIZER, template)
    if not says:
        check_templates(made, TOKENIZER, taught)
        return
    with pytest.raises(UserError) as caught:
        check_templates(made, TOKENIZER, taught)
    assert says in str(caught.value)


def test_a_search_needs_the_documents_that_its_task_reads() -> None:
    """Their dev split is counted as a task's is, though no task may score it."""
    search = "name: found, parents: [sft, code], search: {task: prose, metric: bits_per_byte, points: 4}"
    made = graph(load_recipe(E2E, [*steps(search), "evaluation.in_loop_steps=0", "evaluation.tasks=[{task: arithmetic_cf}]"]))
    assert ("dev", "the search of found") in list(wanted(made))
