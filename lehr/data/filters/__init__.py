"""Filters of documents: a module of each kind. `filters(config)` makes those of a recipe, in its order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module

from lehr.config.filters import FilterConfig
from lehr.data.document import Document
from lehr.data.verdict import Drop, Filter, Keep


def filters(configs: Mapping[str, FilterConfig]) -> Filter:
    """All of `configs` (name -> configuration) one after another: the first that drops a document ends it. Scores are named
    after their filter's kind; those of a filter of another name after that, so that two of one kind keep theirs. Raises
    UserError for one that cannot be made, such as one whose package is not installed."""
    made = [(config.text_types, config.sources, _named(name, config.kind, _made(config))) for name, config in configs.items()]

    def judge(document: Document) -> Keep | Drop:
        scores: dict[str, float] = {}
        for text_types, sources, each in made:
            if (text_types and document.text_type not in text_types) or (sources and document.source not in sources):
                continue
            verdict = each(document)
            scores |= verdict.scores
            if isinstance(verdict, Drop):
                return Drop(verdict.reason, scores)
            document = verdict.changed or document
        return Keep(scores, document)

    return judge


def _named(name: str, kind: str, judge: Filter) -> Filter:
    if name == kind:
        return judge

    def named(document: Document) -> Keep | Drop:
        verdict = judge(document)
        scores = {name + score.removeprefix(kind): value for score, value in verdict.scores.items()}
        return replace(verdict, scores=scores)

    return named


def _made(config: FilterConfig) -> Filter:
    made: Filter = import_module(f"lehr.data.filters.{config.kind}").make(config)
    return made
