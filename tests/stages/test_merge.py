"""A merge as a stage of a recipe, and as a command: its place in the graph, its ancestry, its search, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from lehr.artifacts.artifact import Artifact, Cost
from lehr.artifacts.folder_store import LocalStore
from lehr.cli.main import main
from lehr.config import load_recipe
from lehr.config.merging import MergeMethod, MergeSearch
from lehr.config.parallel import Parallel
from lehr.data.tokenizer import Tokenizer
from lehr.evals.score import score
from lehr.evals.suites import examples
from lehr.interop import convert
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer
from lehr.pipeline.attempt import StageContext
from lehr.pipeline.explain import parts_of
from lehr.pipeline.graph import graph
from lehr.pipeline.merge_templates import check_templates
from lehr.pipeline.node import Node
from lehr.pipeline.requirements import wanted
from lehr.pipeline.run import run_stage
from lehr.post import merge_scores
from lehr.post.template_tokens import with_template
from lehr.report.card import model_card
from lehr.report.data import ReportData, StageReport
from lehr.report.page import render
from lehr.runtime.errors import UserError
from lehr.stages.merge import SEARCHED, SPEC, MergeConfig, SearchedMergeConfig
from lehr.train.checkpointing.checkpoint import load_checkpoint, save_checkpoint
from tests.post.training import MODEL, TOKENIZER

E2E = Path(__file__).resolve().parents[1] / "e2e" / "recipe.yaml"
LONGER = MODEL.model_copy(update={"max_seq_len": 128})


class Zoo:
    """Checkpoints in a run's folder, made by hand: children are their parent with other weights."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "artifacts"
        self.tokenizer = root / "tokenizer"
        self.tokenizer.mkdir(parents=True)
        TOKENIZER.save(self.tokenizer)

    def make(self, name: str, parents: list[Artifact], seed: int, **said: Any) -> Artifact:
        folder, files = self.folder / name, said.pop("files", {})
        model = Transformer(said.pop("model", LONGER)).initialise(1)
        generator = torch.Generator().manual_seed(seed)
        weights = {k: p.detach() + 0.05 * torch.randn(p.shape, generator=generator) for k, p in model.named_parameters()}
        save_checkpoint(folder, model.config, weights, self.tokenizer, **{"chat": True, **said})
        for file, text in files.items():
            (folder / file).write_text(text)
        return Artifact.seal(
            folder, kind="checkpoint", stage=name, fingerprint=name, parents=[p.ref for p in parents], config={}, code="c",
            meta={}, cost=Cost(seconds=1.0, energy_joules=5.0, energy_source="rapl"), stage_kind="sft",
        )  # fmt: skip


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "first")


def family(zoo: Zoo, **said: Any) -> tuple[Artifact, Artifact, Artifact]:
    """An ancestor two steps up, and two models that come from it."""
    root = zoo.make("root", [], 0)
    middle = zoo.make("middle", [root], 1)
    return root, zoo.make("code", [middle], 2, **said), zoo.make("math", [root], 3)


def run(root: Path, parents: list[Artifact], base: Artifact | None = None, **how: Any) -> Artifact:
    config = MergeConfig(how=MergeMethod.model_validate(how), seed=7)
    inputs = SPEC.inputs({"parents": parents, "base": [base] if base else []})
    return Artifact.open(run_stage(SPEC, "merge", config, inputs, StageContext(LocalStore(root))).uri)


def tensors(artifact: Artifact) -> dict[str, torch.Tensor]:
    return load_file(artifact.path("model.safetensors"))


# -- in a recipe


def steps(*merges: str, more: str = "") -> list[str]:
    sft = "optim: {lr: 1e-3}, steps: 3, batch_size: 4, examples: {list: 10}"
    made = f"{{kind: sft}}, {{kind: sft, name: code, parent: soup, {sft}}}, {{kind: dpo, parent: sft}}"
    return [f"posttraining=[{made}, {', '.join(f'{{kind: merge, {m}}}' for m in merges)}{more}]"]


def nodes(*merges: str, more: str = "") -> dict[str, Node]:
    return {node.name: node for node in graph(load_recipe(E2E, steps(*merges, more=more)))}


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


# -- the stage


def test_lineage_is_of_all_parents_and_each_ancestor_counts_once(zoo: Zoo, tmp_path: Path) -> None:
    root, code, math = family(zoo, files={"chat_template.jinja": "{{ messages }}"})
    taught = zoo.make("taught", [root], 5, files={"chat_template.jinja": "{{ messages }}"})
    merged = run(tmp_path / "second", [code, taught])
    assert [p.digest for p in merged.manifest.parents] == [code.manifest.digest, taught.manifest.digest]
    assert [a.manifest.stage for a in merged.lineage()] == ["root", "middle", "code", "taught", "merge"]
    assert merged.path("chat_template.jinja").read_text() == "{{ messages }}"
    assert load_checkpoint(merged).chat and not merged.path("train.json").exists()
    mean = {k: (t + tensors(taught)[k]) / 2 for k, t in tensors(code).items()}
    assert all(torch.equal(t, mean[k]) for k, t in tensors(merged).items())
    with pytest.raises(UserError, match=r"chat_template\.jinja is not the same in all parents"):
        run(tmp_path / "second", [code, math])


def test_differences_are_to_the_nearest_ancestor_or_the_one_that_is_named(zoo: Zoo, tmp_path: Path) -> None:
    root, code, math = family(zoo)
    found = run(tmp_path / "second", [code, math], method="ties", density=0.3)
    named = run(tmp_path / "third", [code, math], root, method="ties", density=0.3)
    assert found.manifest.meta == named.manifest.meta and found.manifest.meta["ancestor"]["stage"] == "root"
    assert all(torch.equal(t, tensors(named)[k]) for k, t in tensors(found).items())
    assert [p.stage for p in named.manifest.parents] == ["code", "math", "root"]
    dare = [run(tmp_path / name, pair, method="dare_linear") for name, pair in (("a", [code, math]), ("b", [math, code]))]
    assert all(torch.allclose(t, tensors(dare[1])[k], atol=1e-5) for k, t in tensors(dare[0]).items())
    with pytest.raises(UserError, match="does not come from"):
        run(tmp_path / "second", [code, math], zoo.make("aside", [root], 9), method="ties")
    with pytest.raises(UserError, match="root is a parent and the parents' nearest common ancestor"):
        run(tmp_path / "second", [code, root], method="ties")


def _foreign(zoo: Zoo) -> Artifact:
    return zoo.make("foreign", [zoo.make("elsewhere", [], 8)], 4)


def _wide(zoo: Zoo) -> Artifact:
    return zoo.make("wide", [Artifact.open(zoo.folder / "root")], 4, model=LONGER.model_copy(update={"mlp_hidden": 32}))


def _spoken(zoo: Zoo) -> Artifact:
    return zoo.make("spoken", [Artifact.open(zoo.folder / "root")], 4, files={"chat_template.jinja": "{{ messages }}"})


def _retold(zoo: Zoo) -> Artifact:
    text = (zoo.tokenizer / "tokenizer.json").read_text()
    Tokenizer.train(["pack my box with five dozen jugs " * 30], 300).save(zoo.tokenizer)
    made = zoo.make("retold", [Artifact.open(zoo.folder / "root")], 4)
    (zoo.tokenizer / "tokenizer.json").write_text(text)
    return made


def _judge(zoo: Zoo) -> Artifact:
    return zoo.make("judge", [Artifact.open(zoo.folder / "root")], 4, head="scalar")


def _broken(zoo: Zoo) -> Artifact:
    made = zoo.make("broken", [Artifact.open(zoo.folder / "root")], 4)
    weights = tensors(made)
    weights = {k: t.clone() for k, t in weights.items()}
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, made.path("model.safetensors"))
    return made


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (_foreign, "it has no ancestor in common with"),
        (_wide, "architecture differs from"),
        (_retold, "tokenizer differs from"),
        (_spoken, r"chat_template.jinja is not the same in all parents"),
        (_judge, "this checkpoint is a value or reward model"),
        (_broken, "its weights hold NaN or infinity"),
    ],
)
def test_models_that_do_not_belong_together_are_refused(
    other: Callable[[Zoo], Artifact], says: str, zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, code, _ = family(zoo)
    bad = other(zoo)
    with pytest.raises(UserError, match=says) as caught:
        run(tmp_path / "second", [code, bad])
    assert str(bad.folder) in caught.value.where
    if other is not _broken:  # whose file is not what was sealed, which the command says first
        assert main(["merge", str(code.folder), str(bad.folder), "--out", str(tmp_path / "out")]) == 2
        assert says in capsys.readouterr().err
    assert not list(tmp_path.glob("second/artifacts/*")) and not (tmp_path / "out").exists()


# -- the search


def searching(points: int) -> SearchedMergeConfig:
    search = MergeSearch(task="arithmetic_cf", metric="acc_per_char", points=points, limit=12)
    parallel = Parallel(processes=1, threads=1)
    return SearchedMergeConfig(how=MergeMethod(), search=search, max_new_tokens=8, window_tokens=0, seed=3, parallel=parallel)


def test_weights_are_searched_on_dev_as_an_evaluation_scores_and_resumed(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held-out examples are never asked for; a killed search scores no point again."""
    _, code, math = family(zoo)
    asked: list[str] = []
    scored: list[str] = []

    def found(task: str, split: Any, *rest: Any) -> Any:
        asked.append(split)
        return examples(task, split, *rest)

    def counted(*given: Any, **options: Any) -> Any:
        if len(scored) == stop:
            raise KeyboardInterrupt
        scored.append(given[3])
        return score(*given, **options)

    stop = -1
    monkeypatch.setattr(merge_scores, "examples", found)
    monkeypatch.setattr(merge_scores, "score", counted)
    inputs = SEARCHED.inputs({"parents": [code, math]})

    def searched(place: str, points: int = 5) -> Artifact:
        context = StageContext(LocalStore(tmp_path / place))
        return Artifact.open(run_stage(SEARCHED, "merge", searching(points), inputs, context).uri)

    whole = searched("whole")
    said = whole.manifest.meta["search"]
    assert asked == ["dev"] and scored == ["dev"] * 5 and said["split"] == "dev"
    assert [p["weights"] for p in said["points"]][:3] == [[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]]
    best = max(p["score"] for p in said["points"])
    assert said["best"]["score"] == best and whole.manifest.meta["settings"]["weights"] == said["best"]["weights"]
    loaded = load_checkpoint(whole)
    model = LanguageModel(loaded.model, loaded.tokenizer)
    records = score(model, "m", "arithmetic_cf", "dev", examples("arithmetic_cf", "dev", 12, 3), 3)
    assert {r.metric: r.value for r in records}["acc_per_char"] == best

    stop = 8
    with pytest.raises(KeyboardInterrupt):
        searched("killed")
    stop = -1
    assert searched("killed").manifest.digest == whole.manifest.digest and len(scored) == 10


def test_files_that_differ_are_found_before_a_search_scores(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, code, _ = family(zoo)

    def never(*given: Any, **options: Any) -> Any:
        raise AssertionError("scored")

    monkeypatch.setattr(merge_scores, "score", never)
    with pytest.raises(UserError, match="chat_template"):
        run_stage(
            SEARCHED,
            "merge",
            searching(5),
            SEARCHED.inputs({"parents": [code, _spoken(zoo)]}),
            StageContext(LocalStore(tmp_path)),
        )


# -- before a run


def test_steps_and_given_models_must_share_what_the_run_begins_with(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a step is trained: it will come from the base alone."""
    root, code, math = family(zoo)
    foreign = _foreign(zoo)
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

    said = refused(root, parents=["sft", str(foreign.folder)])
    assert "the parents of merge have no ancestor in common: sft" in said and str(foreign.folder) in said
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


# -- a run, its report, and the command


@pytest.mark.long
def test_a_run_merges_models_of_another_run_and_shows_them(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "find_spec", lambda name: None)  # the export's proof is not the subject, and takes seconds
    root, code, math = family(zoo)
    alike = Zoo(tmp_path / "third").make("code", [root], 6)  # of another run, under the same name
    merges = [
        {"kind": "merge", "name": "both", "parents": [str(code.folder), str(alike.folder)], "method": "dare_ties"},
        {"kind": "merge", "name": "found", "parents": ["both", str(math.folder), "base"],
         "search": {"task": "arithmetic_cf", "metric": "acc", "points": 2, "limit": 4}},
    ]  # fmt: skip
    tasks = [{"task": "arithmetic_cf", "limit": 4}]
    said = {
        "name": "merging", "base": {"checkpoint": str(root.folder)}, "posttraining": merges, "parallel": {"threads": 1},
        "evaluation": {"tasks": tasks, "max_new_tokens": 8, "in_loop_steps": 0},
    }  # fmt: skip
    path, out = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(said))
    assert main(["run", str(path), "--out", str(out), "--no-mlflow"]) == 0
    rows = {row["stage"]: row for row in json.loads((out / "lineage.json").read_text())}
    assert set(rows) >= {"base", "code", "math", "code-2", "code/middle", "both", "found"} and "code/root" not in rows
    of_both = {p["digest"] for p in rows["both"]["parents"]}
    assert of_both == {code.manifest.digest, alike.manifest.digest}
    found = Artifact.open(next((out / "artifacts").glob("found-*")))
    assert {p.stage for p in found.manifest.parents} == {"both", "math", "root"}
    report, card = (out / "report.html").read_text(), (out / "model" / "README.md").read_text()
    assert "found, merged of 3 models" in report and "Search of the weights: 2 points" in report
    assert (
        "DARE with TIES&#39; signs: code 1, code-2 1, drop 0.9, scale 1. Ancestor in common: base." in report
        and "Held-out examples were not read" in report
        and "searched-merge" in card
    )
    capsys.readouterr()
    assert main(["show", str(found.folder)]) == 0
    assert "linear: both 0.3333, math 0.3333, root 0.3333" in capsys.readouterr().out
    assert main(["run", str(path), "--out", str(out), "--no-mlflow"]) == 0
    assert "found again: all" in capsys.readouterr().out
    foreign = _foreign(zoo)
    said["posttraining"] = [{"kind": "merge", "parents": [str(code.folder), str(foreign.folder)]}]
    path.write_text(yaml.safe_dump(said))
    assert main(["run", str(path), "--out", str(tmp_path / "none"), "--no-mlflow"]) == 2
    assert "it has no ancestor in common with" in capsys.readouterr().err
    assert not list(tmp_path.glob("none/artifacts/*"))


def test_the_command_makes_what_a_recipe_makes(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, code, math = family(zoo)
    monkeypatch.chdir(zoo.folder)
    places = ["code", "math"]  # the lineage names them from everywhere
    assert main(["merge", *places, "--method", "ties", "--density", "0.3", "--out", str(tmp_path / "out")]) == 0
    assert "TIES: code 1, math 1, density 0.3, scale 1; ancestor in common root" in capsys.readouterr().out
    made, stage = Artifact.open(tmp_path / "out"), run(tmp_path / "second", [code, math], method="ties", density=0.3)
    assert made.manifest.meta == stage.manifest.meta and [p.uri for p in made.manifest.parents] == [code.uri, math.uri]
    assert made.path("model.safetensors").read_bytes() == stage.path("model.safetensors").read_bytes()
    for arguments, says in (
        ([*places], "exists already"),
        (places[:1], "needs two parents"),
        ([*places, "--weight", "1"], "1 for 2 parents"),
        ([*places, "--density", "0.3"], "density: a setting of ties"),
        ([*places, "--method", "slerp", "--at", "2"], "--at: expected less than or equal to 1"),
        ([*places, places[0]], "this parent stands twice"),
        ([*places, "--base", str(root.folder)], "--base: linear needs no ancestor"),
        ([*places, "--method", "ties", "--base", places[0]], "does not come from"),
        ([*places, "--method", "ties", "--base", str(zoo.make("aside", [], 9).folder)], "does not come from"),
    ):
        place = tmp_path / ("out" if says == "exists already" else "none")
        assert main(["merge", *arguments, "--out", str(place)]) == 2
        assert says in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_parents_of_one_name_are_told_apart(zoo: Zoo, tmp_path: Path) -> None:
    root, code, _ = family(zoo)
    alike = Zoo(tmp_path / "third").make("code", [root], 6)
    found = parts_of(run(tmp_path / "second", [code, alike]).manifest)
    assert found["input code"] == code.manifest.digest and found["input code 2"] == alike.manifest.digest


def test_a_report_names_what_was_merged_and_how() -> None:
    """An ancestor is a parent of the artifact, but none of the merged models."""
    said = {
        "merged": ["c", "m"], "ingredients": ["code", "math"], "method": "ties", "ancestor": {"stage": "root", "digest": "r"},
        "settings": {"weights": [1.0, 2.0], "normalise": True, "density": 0.2, "scale": 1.0},
    }  # fmt: skip
    stage: dict[str, Any] = {"kind": "checkpoint", "phase": "post-training", "energy_joules": 2.0, "energy_source": "rapl"}
    stages = [
        StageReport(name="root", digest="r", stage_kind="soup", **stage),
        StageReport(name="code", digest="c", stage_kind="sft", parents=["r"], **stage),
        StageReport(name="math", digest="m", stage_kind="sft", parents=["r"], **stage),
        StageReport(name="both", digest="b", stage_kind="merge", parents=["c", "m", "r"], merge=said, **stage),
    ]
    values = {"root": 0.1, "code": 0.4, "math": 0.6, "both": 0.55}
    scores = [
        {"stage": name, "task": "chat_math", "split": "held_out", "metric": "exact_match", "value": value, "n": 9}
        for name, value in values.items()
    ]
    data = ReportData.model_validate({"run": "r", "stages": [s.model_dump() for s in stages], "scores": scores})
    page = render(data)
    assert "TIES: code 1, math 2, density 0.2, scale 1. Ancestor in common: root." in page
    assert "no worse than the mean of its parents in 1 of 1 held-out scores" in page and "both against its parents" in page
    assert data.it_energy == 8.0 and all(f"`{name}`" in model_card(data) for name in values)
