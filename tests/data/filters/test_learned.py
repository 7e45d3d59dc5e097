"""Filters that hold learned scores against thresholds: verdicts, scores, and bad input in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from lehr.config.filters import Filter, FilterConfig
from lehr.data.document import Document
from lehr.data.filter_models import content, with_models
from lehr.data.filters import filters
from lehr.data.linear import LinearClassifier
from lehr.data.ngram_training import train
from lehr.data.phrases import Phrases
from lehr.data.sentence_cuts import sentences
from lehr.data.verdict import Drop, Keep
from lehr.runtime.errors import UserError


def configured(**keys: Any) -> FilterConfig:
    found: FilterConfig = TypeAdapter(Filter).validate_python(keys)
    return found


def judged(text: str, metadata: dict[str, Any] | None = None, **keys: Any) -> Keep | Drop:
    return filters({keys["kind"]: configured(**keys)})(Document("d", "s", text, metadata=metadata or {}))


@pytest.fixture
def swears(tmp_path: Path) -> str:
    """P = 0.88 for a text of `damn` alone, 0.12 without it."""
    model = LinearClassifier(np.zeros(1 << 12, np.float32), -2.0, 1, True)
    model.weights[model.features("damn")] = 4.0
    model.save(tmp_path)
    return str(tmp_path)


def test_a_classifiers_probability_is_held_against_the_threshold(swears: str) -> None:
    kept = judged("Damn", kind="classifier", model=swears, min_probability=0.88)
    assert isinstance(kept, Keep) and kept.scores == {"classifier.probability": pytest.approx(1 / (1 + np.exp(-2)))}
    assert isinstance(judged("damn it", kind="classifier", model=swears, min_probability=0.6), Drop)
    assert set(content(swears)) == {"classifier.json", "classifier.safetensors"}


def test_toxic_sentences_are_counted(swears: str) -> None:
    text = "All is well. Damn! Damn! Never mind\nthe rest"  # 5 sentences, 2 of them toxic
    keys: dict[str, Any] = {"kind": "toxicity", "model": swears}
    kept = judged(text, **keys, max_share=0.4)
    assert isinstance(kept, Keep)
    assert kept.scores["toxicity.share"] == 0.4 and kept.scores["toxicity.sentences"] == 2
    assert kept.scores["toxicity.highest"] == 0.5  # damn 4, ! 0, bias -2
    dropped = judged(text, **keys, max_share=0.39)
    assert isinstance(dropped, Drop) and dropped.reason == "toxic"
    assert isinstance(judged(text, **keys, max_sentences=1), Drop)
    assert isinstance(judged(text, **keys, max_sentences=1, sentence_probability=0.9), Keep)
    assert isinstance(judged("", **keys, max_share=0.0), Keep)


def test_words_of_a_list_are_counted_as_granite_does_in_code(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# a comment\nDarn\nson of a gun\nson\n", encoding="utf-8")
    keys: dict[str, Any] = {"kind": "toxicity", "file": str(file)}
    found = judged("x = darn  # Son of a GUN, darned\nson_of = 1", **keys, max_words=1)
    assert isinstance(found, Drop) and found.scores["toxicity.words"] == 2
    file.write_text("#\n", encoding="utf-8")
    with pytest.raises(UserError, match="no words"):
        judged("", **keys, max_words=1)
    assert Phrases(["a b", "a"]).count("a b a a c") == 3


def test_sentences_end_at_marks_and_lines_and_are_cut() -> None:
    assert list(sentences("One. Two?  3.14 is!\nfour 五。六", 1000)) == ["One.", "Two?", "3.14 is!", "four 五。", "六"]
    assert list(sentences("abcde", 2)) == ["ab", "cd", "e"]
    assert len(list(sentences(". " * 500_000, 1000))) == 500_000 and not list(sentences(" " * 1_000_000, 1000))


def test_perplexity_has_two_sides(tmp_path: Path) -> None:
    train([["the", "sea"], ["the", "ship"]], 2, [0], "none").save(tmp_path)
    model = str(tmp_path)
    low = judged("the sea", kind="perplexity", model=model, max_perplexity=5.0)
    high = judged("gibberish of other words", kind="perplexity", model=model, max_perplexity=5.0)
    assert isinstance(low, Keep) and isinstance(high, Drop) and high.reason == "high perplexity"
    limit = low.scores["perplexity.perplexity"]
    assert limit < 5 < high.scores["perplexity.perplexity"]
    assert isinstance(judged("the sea", kind="perplexity", model=model, min_perplexity=limit + 1), Drop)
    assert judged("\n", kind="perplexity", model=model, max_perplexity=5.0) == Drop("no words")


def lengths(texts: Sequence[str]) -> list[float]:
    return [float(len(text)) for text in texts]


def two(texts: Sequence[str]) -> list[float]:
    return [1.0, 2.0]


def test_scores_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    field: dict[str, Any] = {"kind": "score", "field": "edu.score", "min_score": 2.0}
    assert judged("", {"edu": {"score": 2}}, **field) == Keep(
        {"score.score": 2.0}, Document("d", "s", "", metadata={"edu": {"score": 2}})
    )
    assert judged("", {"edu": {"score": 1.9}}, **field) == Drop("low score", {"score.score": 1.9})
    for missing in ({}, {"edu": 3}, {"edu": {"score": "high"}}, {"edu": {"score": True}}, {"edu": {"score": float("nan")}}):
        assert judged("", missing, **field) == Drop("no score")
    assert isinstance(judged("", {}, **field, missing="keep"), Keep)
    function = f"{__name__}:lengths"
    assert isinstance(judged("abc", kind="score", function=function, max_score=3.0), Keep)
    assert judged("abcd", kind="score", function=function, max_score=3.0) == Drop("high score", {"score.score": 4.0})
    with pytest.raises(UserError, match="2 scores for 1 texts"):
        judged("a", kind="score", function=f"{__name__}:two", max_score=3.0)
    with pytest.raises(UserError, match="missing_module"):
        judged("a", kind="score", function="missing_module:f", max_score=3.0)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"kind": "classifier", "model": "q", "min_probability": 1.5}, "less than or equal to 1"),
        ({"kind": "perplexity", "model": "q"}, "no threshold"),
        ({"kind": "perplexity", "model": "q", "min_perplexity": 9.0, "max_perplexity": 3.0}, "nothing passes"),
        ({"kind": "perplexity", "model": "q", "max_perplexity": 0.0}, "greater than 0"),
        ({"kind": "score", "min_score": 2.0}, "name one of them"),
        ({"kind": "score", "function": "f", "min_score": 2.0}, "not module:function"),
        ({"kind": "toxicity", "max_share": 0.1}, "nothing finds"),
        ({"kind": "toxicity", "model": "q"}, "no threshold"),
        ({"kind": "toxicity", "model": "q", "max_words": 1}, "no `file`"),
        ({"kind": "pii", "max_found": -1}, "greater than or equal to 0"),
    ],
)
def test_a_threshold_out_of_range_is_refused(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        configured(**keys)


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path, swears: str) -> None:
    for kind, keys in (("classifier", {"min_probability": 0.5}), ("perplexity", {"max_perplexity": 9.0})):
        with pytest.raises(UserError, match="no such model") as error:
            judged("a", kind=kind, model=str(tmp_path / "gone"), **keys)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="only fastText"):
        judged("a", kind="classifier", model=swears, label="hq", min_probability=0.5)
    with pytest.raises(UserError, match="no such file"):
        judged("a", kind="perplexity", model=swears, max_perplexity=9.0)
    named = {"it": configured(kind="classifier", model="quality", min_probability=0.5)}
    assert with_models(named, {"quality": Path(swears)})["it"].model_dump()["model"] == swears
    with pytest.raises(UserError, match="models are: other"):
        with_models(named, {"other": Path(swears)})
