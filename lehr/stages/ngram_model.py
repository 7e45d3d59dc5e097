"""An n-gram language model, trained on sources before the documents are filtered by their perplexity."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from lehr.config.text_models import NgramModel
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, StageSpec
from lehr.stages.training_texts import TextModelConfig, documents, held_out

_MOST_HELD_OUT = 2_000_000  # characters that are measured


class NgramConfig(TextModelConfig):
    model: NgramModel


def run(config: NgramConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write the model and `report.json`: its n-grams, its perplexity on held-out documents and their unknown words. Raises
    UserError for damaged sources, and if there is nothing to train on."""
    from lehr.data.ngram_model import BEGIN, END, UNKNOWN, numbers, words_in_lines
    from lehr.data.ngram_training import train

    c, held = config.model, list[str]()

    def lines() -> Iterator[list[str]]:
        room = _MOST_HELD_OUT
        for document in documents(c.train, config.sources, config.seed, c.training_characters):
            if not held_out(document, c.held_out):
                yield from words_in_lines(document.text, c.normalise)
            elif room > 0:
                held.append(document.text)
                room -= len(document.text)

    model = train(lines(), c.order, c.prune, c.normalise)
    attempt.out.mkdir(parents=True, exist_ok=True)
    model.save(attempt.out)
    report: dict[str, object] = {"ngrams": [len(order.logs) for order in model.orders]}
    if text := "\n".join(held):
        ids = numbers(list(words_in_lines(text, c.normalise)), model.words)
        said = ids[(ids != BEGIN) & (ids != END)]
        report |= {"perplexity": model.perplexity(text), "unknown": float(np.mean(said == UNKNOWN)), "words": len(said)}
    (attempt.out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    attempt.log(f"{sum(len(order.logs) for order in model.orders):,} n-grams, held-out perplexity {report.get('perplexity')}")
    return Outcome(report)


SPEC = StageSpec("ngram_model", NgramConfig, {}, "text_model", "cpu", "data", run)
