"""Models of filters in the graph and as stages: what they write, what names them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.folder_store import LocalStore
from lehr.config.data import Data
from lehr.data.filter_models import classifier, ngram_model, with_models
from lehr.pipeline.attempt import StageContext
from lehr.pipeline.registry import stage
from lehr.pipeline.run import run_stage
from lehr.pipeline.text_models import text_models

GOOD, BAD = "the whale swims in the deep sea and the captain looks on", "buy cheap pills now click here best price offer"


def source(folder: Path, name: str, text: str, count: int = 60) -> dict[str, Any]:
    path = folder / f"{name}.jsonl"
    rows = [json.dumps({"id": f"{name}-{n}", "text": f"{text} {n}"}) for n in range(count)]
    path.write_text("\n".join(rows), encoding="utf-8")
    return {"kind": "jsonl", "path": str(path), "license": "CC0-1.0"}


def data(folder: Path, **changes: Any) -> Data:
    models = {
        "quality": {"kind": "classifier", "positive": ["good"], "negative": ["bad"], "buckets": 4096, "iterations": 30},
        "fluent": {"kind": "ngrams", "train": ["good"], "order": 3, "prune": [0]},
        "unused": {"kind": "ngrams", "train": ["bad"]},
    }
    filters = {
        "quality": {"kind": "classifier", "model": "quality", "min_probability": 0.03311014},
        "perplexity": {"model": "fluent", "max_perplexity": 100.0},
    }
    sources = {"good": source(folder, "good", GOOD), "bad": source(folder, "bad", BAD)}
    given = {"sources": sources, "models": models, "filters": filters, "mixes": {"all": {"weights": {"good": 1.0}}}}
    return Data.model_validate(given | changes)


def test_the_models_that_filters_name_are_trained_before_the_documents(tmp_path: Path) -> None:
    config = data(tmp_path)
    nodes = {node.name: node for node in text_models(config, 1)}
    assert list(nodes) == ["model-quality", "model-fluent"]  # nobody uses the third
    context, found = StageContext(LocalStore(tmp_path / "store")), dict[str, Artifact]()
    for name, node in nodes.items():
        spec = stage(node.kind)
        ref = run_stage(spec, name, node.config, spec.inputs({}), context)
        found[name.removeprefix("model-")] = Artifact.open(context.fetch(ref.uri), uri=ref.uri)
    folders = {name: artifact.folder for name, artifact in found.items()}
    quality, fluent = (found[name].manifest.meta for name in ("quality", "fluent"))
    assert quality["held_out"]["accuracy"] == pytest.approx(1) and quality["held_out"]["auc"] == pytest.approx(1)
    assert quality["texts"]["train"] + quality["texts"]["held_out"] == 120 and quality["texts"]["held_out"] > 3
    assert fluent["perplexity"] < 30 and len(fluent["ngrams"]) == 3
    assert [artifact.manifest.stage for artifact in found.values()] == list(nodes)
    probability, model = classifier(str(folders["quality"]), ""), ngram_model(str(folders["fluent"]), "none")
    assert probability(GOOD) > 0.9 > 0.1 > probability(BAD)
    assert model.perplexity(GOOD) < model.perplexity(BAD) / 10
    told = with_models(config.filters, folders)
    assert told["quality"].model_dump()["model"] == str(folders["quality"])


def test_a_sources_content_counts_and_its_place_does_not(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first, second = (text_models(data(folder), 1)[0].config for folder in (tmp_path, tmp_path / "b"))
    assert first.described() == second.described()
    source(tmp_path / "b", "bad", "other words")
    assert first.described() != second.described()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"filters": {"classifier": {"model": "gone", "min_probability": 0.5}}}, "no model 'gone'; data.models are: fluent"),
        ({"filters": {"classifier": {"model": "fluent", "min_probability": 0.5}}}, "of kind ngrams"),
        ({"models": {"m": {"kind": "ngrams", "train": ["gone"]}}, "filters": {}}, "no source 'gone'"),
        ({"models": {"m": {"kind": "classifier", "positive": ["bad"], "negative": ["bad"]}}, "filters": {}}, "positive and"),
        ({"models": {"m": {"kind": "ngrams", "train": ["good"], "prune": [1]}}, "filters": {}}, "begin with 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        data(tmp_path, **changes)
