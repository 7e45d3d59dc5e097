"""A linear classifier of texts, trained on positive and negative sources before the documents are filtered."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from lehr.config.text_models import ClassifierModel
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, StageSpec
from lehr.stages.training_texts import TextModelConfig, documents, held_out

_LONGEST_SENTENCE = 1000  # as a toxicity filter cuts them
_SHARES = (0.07, 0.2, 0.5, 0.656, 0.9)  # OLMo 2 names 7 % and 65.6 %: section 4.3


class ClassifierConfig(TextModelConfig):
    model: ClassifierModel


def run(config: ClassifierConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write the classifier and `report.json`: its figures on held-out texts, and which threshold keeps which share of the
    negatives. Raises UserError for damaged sources, and if a class has no text to train on."""
    from lehr.data.linear import LinearClassifier
    from lehr.data.linear_training import Texts, fit, kept_at, measured

    c = config.model
    empty = LinearClassifier(np.zeros(c.buckets, np.float32), 0.0, c.ngrams, c.normalise == "plain")
    parts: dict[bool, list[tuple[np.ndarray, bool]]] = {True: [], False: []}  # held out -> n-grams and label
    for text, label, back in _texts(config):
        parts[back].append((empty.features(text).astype(np.int32), label))
    trained, held = Texts.of(parts[False]), Texts.of(parts[True])
    attempt.log(f"{len(trained):,} texts to train on, {len(held):,} held out")
    classifier = fit(trained, c)
    attempt.out.mkdir(parents=True, exist_ok=True)
    classifier.save(attempt.out)
    both = (("train", trained), ("held_out", held))
    figures = {split: measured(classifier, texts) for split, texts in both if 0 < texts.labels_N.sum() < len(texts)}
    negatives = held.labels_N == 0
    kept = {}
    if negatives.any():
        logits = held.logits(classifier.weights.astype(np.float64), classifier.bias)[negatives]
        kept = kept_at(1 / (1 + np.exp(-logits)), _SHARES)
    report = {"texts": {"train": len(trained), "held_out": len(held)}, **figures, "keeps_of_negatives": kept}
    (attempt.out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    attempt.log(", ".join(f"{name} {value:.4f}" for name, value in figures.get("held_out", {}).items()) or "nothing held out")
    return Outcome(report)


def _texts(config: ClassifierConfig) -> Iterator[tuple[str, bool, bool]]:
    """Each text with its label and whether it is held out."""
    from lehr.data.sentence_cuts import sentences

    c = config.model
    for label, names in ((True, c.positive), (False, c.negative)):
        for document in documents(names, config.sources, config.seed, c.training_characters):
            out = held_out(document, c.held_out)
            units = sentences(document.text, _LONGEST_SENTENCE) if c.unit == "sentence" else [document.text]
            for text in units:
                yield text, label, out


SPEC = StageSpec("quality_classifier", ClassifierConfig, {}, "text_model", "cpu", "data", run)
