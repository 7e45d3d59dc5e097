"""A recipe's graph: what is in it, in which order, from what, and within which bounds of an engine that runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from lehr.artifacts.artifact import Artifact
from lehr.config import Recipe, load_recipe
from lehr.config.mix import CurriculumPhase, Mix
from lehr.evals.scores import EvaluateConfig
from lehr.pipeline.graph import graph
from lehr.pipeline.node import Node, needed, pieces, visits
from lehr.pipeline.registry import STAGES, stage
from lehr.pipeline.run import Identity
from lehr.pipeline.spec import Inputs, StageConfig
from lehr.runtime.errors import UserError
from lehr.stages.baselines import BaselinesConfig

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SHIPPED = sorted([*(RECIPES / "tiny").glob("*.yaml"), *(RECIPES / "released").glob("*.yaml")])
E2E = RECIPES.parent / "tests" / "e2e" / "recipe.yaml"
NODE = re.compile(r"[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?")  # what Flyte's engine takes


def names(recipe: Recipe) -> list[str]:
    return [node.name for node in graph(recipe)]


def test_the_whole_pipeline_in_order() -> None:
    made = names(load_recipe(E2E))
    assert made == [
        "documents", "tokenizer", "shards", "sft-rows", "stage1", "scores-stage1", "ramp", "scores-ramp", "anneal-1",
        "anneal-2", "scores-anneal-1", "scores-anneal-2", "soup", "scores-soup", "baselines", "sft", "pairs", "scores-sft",
        "dpo", "scores-dpo", "rlvr", "scores-rlvr", "export",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "without"),
    [
        (["ramp=null"], {"ramp", "scores-ramp"}),
        (["anneals.soup=false"], {"soup", "scores-soup"}),
        (["anneals=null", "ramp=null"], {"ramp", "anneal-1", "soup"}),
        (["posttraining=[{kind: sft}]"], {"dpo", "pairs", "rlvr", "scores-rlvr"}),
        (["posttraining=[]"], {"sft", "pairs", "dpo", "rlvr"}),
    ],
)
def test_what_a_recipe_leaves_out_is_not_there_and_the_rest_follows_on(overrides: list[str], without: set[str]) -> None:
    nodes = graph(load_recipe(E2E, overrides))
    made = {node.name for node in nodes}
    assert not made & without
    assert all(name in made for node in nodes for name in node.sources)
    scored = [node.name for node in nodes if node.name.startswith("scores-")]
    assert nodes[-1].name == "export" and nodes[-1].inputs["checkpoint"] == (scored[-1].removeprefix("scores-"),)


def test_baselines_read_what_the_models_read() -> None:
    nodes = {node.name: node for node in graph(load_recipe(E2E))}
    assert list(nodes).index("scores-soup") + 1 == list(nodes).index("baselines") < list(nodes).index("sft")
    assert nodes["baselines"].inputs == {role: (role,) for role in ("shards", "tokenizer", "documents")}
    config = nodes["baselines"].config
    assert isinstance(config, BaselinesConfig)
    stage1, soup = config.readers
    assert (stage1.model, soup.model) == ("stage1", "soup") and (config.window_tokens, stage1.in_loop) == (64, True)
    assert [plan.task for plan in soup.tasks] == ["prose"] and soup.tasks[0].splits == ["dev", "held_out"]
    trained = [nodes[name].config for name in ("stage1", "ramp", "anneal-1", "anneal-2")]
    assert [phase.data_seed for phase in soup.read] == [getattr(c, "data_seed", None) for c in trained]
    sizes = [(phase.tokens, phase.batch_size, phase.sequence_length) for phase in soup.read]
    assert sizes == [(n, 16, 64) for n in (32_768, 16_384, 12_288, 12_288)] and soup.read[:1] == stage1.read
    for override in ("evaluation.tasks=[{task: arithmetic}]", "evaluation.baselines=null"):
        assert "baselines" not in names(load_recipe(E2E, [override]))
    alone = graph(load_recipe(E2E, ["ramp=null", "anneals=null", "evaluation.in_loop_steps=0"]))
    one = next(node.config for node in alone if node.name == "baselines")
    assert isinstance(one, BaselinesConfig) and [(r.model, r.in_loop) for r in one.readers] == [("stage1", False)]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_recipe_fits_flytes_engine(path: Path) -> None:
    """It walks every path of a graph in each round, and takes names of 63 characters of [a-z0-9-]."""
    nodes = graph(load_recipe(path))
    assert visits(nodes) < 5000
    assert len({node.name for node in nodes}) == len(nodes)
    before: set[str] = set()
    for node in nodes:
        assert NODE.fullmatch(node.name), node.name
        assert set(node.sources) <= before
        before.add(node.name)
        stage(node.kind)


def test_paths_are_counted_and_what_nobody_needs_is_left_out() -> None:
    def node(name: str, *sources: str) -> Node:
        return Node(name, "soup", StageConfig(), {"of": sources})

    layered = [node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c"), node("e", "d"), node("f", "d", "e")]
    assert visits(layered) == 1 + 1 + 1 + 2 + 2 + 4
    assert [n.name for n in needed(layered, ["d"])] == ["a", "b", "c", "d"]
    cut = pieces(layered, 4, 100)
    assert [[n.name for n in piece] for piece in cut] == [["a", "b", "c"], ["d", "e", "f"]]
    assert all(visits(piece) <= 4 for piece in cut) and pieces(layered, 100, 6) == [layered]
    assert [len(piece) for piece in pieces(layered, 100, 4)] == [4, 2]
    many = graph(load_recipe(E2E, [f"anneals.seeds={list(range(100))}"]))
    assert visits(many) > 5000 and all(visits(piece) <= 5000 for piece in pieces(many, 5000, 9999))


def test_a_branch_begins_where_its_parent_says_and_is_judged_on_its_own_pairs() -> None:
    steps = (
        "posttraining=[{kind: sft}, {kind: dpo}, {kind: dpo, name: dpo-hot, parent: sft, beta: 9.0, optim: {lr: 1e-4},"
        " steps: 6, batch_size: 4, pairs: {families: [repeat], prompts: 4, held_out_prompts: 4}},"
        " {kind: grpo, name: rlvr, parent: dpo}]"
    )
    nodes = {node.name: node for node in graph(load_recipe(E2E, [steps]))}
    assert {"dpo-pairs", "dpo-hot-pairs"} <= nodes.keys()
    assert nodes["dpo-hot"].inputs == {"parent": ("sft",), "pairs": ("dpo-hot-pairs",)}
    assert nodes["rlvr"].inputs["parent"] == ("dpo",) and nodes["scores-rlvr"].inputs["pairs"] == ("dpo-pairs",)
    assert nodes["scores-dpo-hot"].inputs["pairs"] == ("dpo-hot-pairs",)
    assert nodes["export"].inputs["checkpoint"] == ("rlvr",)


def test_inputs_are_only_what_the_tasks_need() -> None:
    only = "evaluation.tasks=[{task: arithmetic, limit: 3}, {task: chat_math, limit: 3, stages: chat}]"
    nodes = {node.name: node for node in graph(load_recipe(E2E, [only]))}
    scored = {name: set(node.inputs) for name, node in nodes.items() if name.startswith("scores-")}
    learnt = {"trained_documents", "trained_conversations", "trained_preferences", "trained_prompts"}  # flags are read of these
    assert all(inputs - learnt == {"checkpoint"} for inputs in scored.values())
    assert scored["scores-stage1"] & learnt == {"trained_documents"}
    assert nodes["scores-rlvr"].inputs["trained_conversations"] == ("sft-rows",)
    told = nodes["scores-rlvr"].config
    assert isinstance(told, EvaluateConfig) and told.not_compared == ["the generated prompts of rlvr"]
    config = nodes["scores-stage1"].config
    assert isinstance(config, EvaluateConfig) and [plan.task for plan in config.tasks] == ["arithmetic"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("evaluation.tasks=[{task: arithmetics}]", "there is no evaluation task 'arithmetics'"),
        ("posttraining.sft.examples={maths: 3}", "posttraining.sft.examples: there is no chat family 'maths'"),
        ("posttraining.dpo.pairs.families=[lists]", "posttraining.dpo.pairs.families: there is no chat family 'lists'"),
        ("posttraining.rlvr.families=[word, maths]", "posttraining.rlvr.families: there is no chat family 'maths'"),
        ("posttraining.rlvr.bonus={polite: 0.1}", "there is no verifier 'polite'"),
        ("posttraining=[{kind: 'lehr.runtime.seeds:NOTHING'}]", "'lehr.runtime.seeds:NOTHING'"),
        ("posttraining=[{kind: 'lehr.runtime.seeds:derive'}]", "is a function"),
        ("posttraining=[{kind: 'nowhere.at_all:SPEC'}]", "nowhere"),
        ("data.decontamination.tasks=[arithmetics]", "there is no evaluation task 'arithmetics'"),
        ("data.filters.own={function: 'nowhere.at_all:f'}", "filter 'nowhere.at_all:f'"),
        ("data.filters.own={function: ':f'}", "filter ':f'"),
        ("data.filters.own={function: '..up:f'}", "filter '..up:f'"),
        ("posttraining.rlvr.bonus={':f': 0.1}", "verifier ':f'"),
    ],
)
def test_names_that_mean_nothing_are_found_before_anything_runs(override: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        graph(load_recipe(E2E, [override]))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def _prints(recipe: Recipe) -> dict[str, str]:
    """Fingerprints of a graph whose inputs all have the same content."""
    found = {}
    for node in graph(recipe):
        spec = STAGES[node.kind]
        found[node.name] = Identity.of(spec, node.name, node.config, Inputs({})).print
    return found


def _differ(*overrides: str) -> set[str]:
    before, after = _prints(load_recipe(E2E)), _prints(load_recipe(E2E, list(overrides)))
    return {name for name in before if before[name] != after.get(name)}


def test_a_key_counts_where_it_is_used_and_nowhere_else() -> None:
    models = {name for name in _prints(load_recipe(E2E)) if not name.startswith(("scores-", "baselines"))}
    assert _differ("description=other", "name=other") == set()
    assert _differ("watch.norm_steps=3", "evaluation.in_loop_steps=3", "compute.ranked={cpu: '8'}") == set()
    assert _differ("evaluation.tasks=[{task: arithmetic, limit: 9}]") & models == set()
    assert _differ("evaluation.max_new_tokens=9") & models == set()
    assert _differ("stage1.optim.lr=1e-3") == {"stage1"}  # the ramp reads its rate from the parent's record
    assert _differ("stage1.checkpoint_steps=4", "posttraining.sft.checkpoint_steps=4") == set()
    assert _differ("posttraining.sft.steps=13") == {"sft"}
    assert _differ("posttraining.dpo.pairs.temperature=0.5") == {"pairs"}
    asked = _differ("posttraining.sft.examples={math: 100}")
    assert asked & models == {"sft-rows"} and "scores-rlvr" in asked  # whose samples are of these families
    assert _differ("data.filters.words.at_least=31") == {"documents"}
    assert _differ("anneals.decay=exponential") == {"anneal-1", "anneal-2"}
    assert _differ("model.init_std=0.03") == {"stage1"}
    assert "stage1" in _differ("data.mixes.web.weights={arithmetic: 1.0}")
    assert _differ("data.processes=7") == set() and _differ("data.shards.tokens=9999") == {"shards"}


@pytest.mark.parametrize(
    "mix",
    [
        Mix(weights={"bible": 0.1, "arithmetic": 0.8, "word_problems": 0.1}),
        Mix(weights={"bible": 1, "arithmetic": 1}, epochs={"word_problems": 2.0}, max_epochs=3.0),
        Mix(sized=["word_problems", "bible", "arithmetic"], temperature=2.0, caps={"bible": 5000}, short="share"),
        Mix(curriculum=[
            CurriculumPhase(share=1, weights={"arithmetic": 1}),
            CurriculumPhase(share=2, weights={"bible": 1, "word_problems": 2}),
        ]),
    ],
)  # fmt: skip
def test_remixing_never_tokenizes_again(mix: Mix) -> None:
    recipe = load_recipe(E2E)
    before = _prints(recipe)
    assert recipe.data is not None
    recipe.data.mixes["better"] = mix
    assert {name for name, print_ in _prints(recipe).items() if print_ != before[name]} == {
        "ramp",
        "anneal-1",
        "anneal-2",
        "baselines",
    }


@pytest.mark.parametrize(
    ("one", "two", "change", "stay"),
    [
        (
            "data.mixes.better.weights={bible: 0.4, arithmetic: 0.4, word_problems: 0.2}",
            "data.mixes.better.weights={arithmetic: 0.4, bible: 0.4, word_problems: 0.2}",
            {"ramp", "anneal-1", "anneal-2"},
            {"stage1", "documents"},
        ),
        (
            "posttraining.sft.examples={math: 100, word: 50, repeat: 100, list: 50, json: 50, identity: 50}",
            "posttraining.sft.examples={word: 50, math: 100, repeat: 100, list: 50, json: 50, identity: 50}",
            {"sft-rows"},
            {"documents", "stage1", "soup", "dpo", "rlvr"},
        ),
    ],
)
def test_order_counts_where_things_are_drawn_in_order(one: str, two: str, change: set[str], stay: set[str]) -> None:
    """Two tables with the same entries in another order give other results, so they have other names."""
    first, second = (load_recipe(E2E, [each]) for each in (one, two))
    assert first == second  # as tables they are equal
    before, after = _prints(first), _prints(second)
    assert {name for name in before if before[name] != after[name]} >= change
    assert all(before[name] == after[name] for name in stay)


def test_the_order_of_sources_counts() -> None:
    """Of two twins the source that is read first keeps its own."""
    first, second = load_recipe(E2E), load_recipe(E2E)
    second.data.sources = dict(reversed(second.data.sources.items()))
    assert first == second
    before, after = _prints(first), _prints(second)
    assert before["documents"] != after["documents"] and before["stage1"] == after["stage1"]


def _fields(config: BaseModel) -> set[str]:
    return set(type(config).model_fields)


def test_everything_that_a_stage_can_see_is_in_its_fingerprint_or_said_to_change_nothing() -> None:
    """Each key of each stage's configuration either stands in what is hashed, or is declared to be without effect."""
    for node in graph(load_recipe(E2E)):
        config = node.config
        hashed = set(config.described()) | set(config.layout())
        unhashed = _fields(config) - hashed
        assert unhashed <= set(config.UNHASHED), node.name
        assert set(config.UNHASHED) <= {"watch", "checkpoint_steps", "in_loop_steps", "evaluation_seed", "processes"}, node.name


def test_a_file_counts_by_its_content_and_never_by_its_place(tmp_path: Path) -> None:
    text = (RECIPES / "data" / "bible.jsonl.gz").read_bytes()
    (tmp_path / "same.jsonl.gz").write_bytes(text)
    assert _differ(f"data.sources.bible.path={tmp_path / 'same.jsonl.gz'}") == set()
    (tmp_path / "other.jsonl").write_text('{"text": "another"}\n')
    assert _differ(f"data.sources.bible.path={tmp_path / 'other.jsonl'}") == {"documents"}
    with pytest.raises(UserError, match="no such data file"):
        _prints(load_recipe(E2E, [f"data.sources.bible.path={tmp_path / 'none.jsonl'}"]))


def test_a_stage_is_refused_inputs_that_it_does_not_take() -> None:
    with pytest.raises(Exception, match="has no input 'parents'"):
        STAGES["soup"].inputs({"parents": []})
    with pytest.raises(Exception, match="was given 0 artifacts as 'ingredients'"):
        STAGES["soup"].inputs(dict[str, list[Artifact]]())
