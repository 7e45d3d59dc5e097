"""A merge as a stage: its lineage, its ancestor, what it refuses, and the search of its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.folder_store import LocalStore
from lehr.cli.main import main
from lehr.config.merging import MergeMethod, MergeSearch
from lehr.config.parallel import Parallel
from lehr.evals.score import score
from lehr.evals.suites import examples
from lehr.model.generate import LanguageModel
from lehr.pipeline.attempt import StageContext
from lehr.pipeline.run import run_stage
from lehr.post import merge_scores
from lehr.runtime.errors import UserError
from lehr.stages.merge import SEARCHED, SearchedMergeConfig
from lehr.train.checkpointing.checkpoint import load_checkpoint
from tests.stages.merges import Zoo, broken, family, foreign, judge, retold, run, spoken, tensors, wide


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "first")


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


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (foreign, "it has no ancestor in common with"),
        (wide, "architecture differs from"),
        (retold, "tokenizer differs from"),
        (spoken, r"chat_template.jinja is not the same in all parents"),
        (judge, "this checkpoint is a value or reward model"),
        (broken, "its weights hold NaN or infinity"),
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
    if other is not broken:  # whose file is not what was sealed, which the command says first
        assert main(["merge", str(code.folder), str(bad.folder), "--out", str(tmp_path / "out")]) == 2
        assert says in capsys.readouterr().err
    assert not list(tmp_path.glob("second/artifacts/*")) and not (tmp_path / "out").exists()


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
            SEARCHED.inputs({"parents": [code, spoken(zoo)]}),
            StageContext(LocalStore(tmp_path)),
        )
