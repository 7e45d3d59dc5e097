"""Scores of merged weights on dev, by the same call as an evaluation; a search goes on where a killed one stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from lehr.artifacts.artifact import write_atomic
from lehr.config.merging import MergeSearch
from lehr.config.parallel import Parallel
from lehr.distributed.device import own_device
from lehr.distributed.ranks import Ranks
from lehr.distributed.shared_model import SharedModel
from lehr.evals.score import score
from lehr.evals.suites import examples
from lehr.evals.task import Example
from lehr.model.generate import LanguageModel
from lehr.pipeline.attempt import Attempt
from lehr.post.merge import chats, check_parents
from lehr.post.merge_methods import linear
from lehr.post.merge_search import Weights, best, search
from lehr.post.merge_work import Merge
from lehr.post.weight_files import merge_files
from lehr.runtime.errors import UserError
from lehr.runtime.metrics import metric
from lehr.train.checkpointing.checkpoint import WEIGHTS, Loaded, load_checkpoint, load_weights

_TRACE, _CANDIDATE = "search.json", "candidate.safetensors"


class Settings(Protocol):
    """Those of a search."""

    search: MergeSearch
    max_new_tokens: int
    window_tokens: int
    seed: int
    parallel: Parallel


@dataclass(frozen=True)
class Scoring:
    """How points are scored; `documents` is the folder of held-back texts, if the task reads them."""

    config: Settings
    documents: Path | None


@dataclass(frozen=True)
class Found:
    """The best weights, and what is kept of the search: every point with its score."""

    weights: Weights
    said: dict[str, Any]


def searched(work: Merge, how: Scoring, attempt: Attempt) -> Found:
    """The weights of the best point. Raises UserError if the parents do not belong together, or the task has no such metric."""
    c, asked = how.config, how.config.search
    check_parents(work.parents, work.places.manifest)
    scored = _Scored(work, how, attempt)
    lower = metric(asked.metric).better == "lower"
    trace = search(len(work.parents), asked.points, scored, lower)
    top = best(trace, lower)
    points = [{"weights": list(point.weights), "score": point.score} for point in trace]
    said = {"task": asked.task, "metric": asked.metric, "split": "dev", "limit": asked.limit, "seed": c.seed}
    return Found(top.weights, {**said, "points": points, "best": {"weights": list(top.weights), "score": top.score}})


class _Scored:
    """The score of a set of weights. Points that an earlier attempt scored are read from its folder."""

    def __init__(self, work: Merge, how: Scoring, attempt: Attempt) -> None:
        c = how.config
        self._work, self._how, self._attempt = work, how, attempt
        torch.set_num_threads(c.parallel.processes * c.parallel.threads)
        self._examples: list[Example] = examples(c.search.task, "dev", c.search.limit, c.seed, how.documents)
        self._loaded: Loaded | None = None
        self._trace = attempt.scratch / _TRACE
        text = self._trace.read_text(encoding="utf-8") if self._trace.is_file() else "[]"
        self._known: dict[Weights, float] = {tuple(weights): value for weights, value in json.loads(text)}
        self._count = 0

    def __call__(self, weights: Weights) -> float:
        if weights not in self._known:
            self._known[weights] = self._scored(weights)
            write_atomic(self._trace, json.dumps([[list(point), value] for point, value in self._known.items()]))
        self._count += 1
        asked, value = self._how.config.search, self._known[weights]
        self._attempt.tracker.progress(self._attempt.name, self._count, asked.points, {asked.metric: value})
        return value

    def _scored(self, weights: Weights) -> float:
        c, parents = self._how.config, self._work.parents
        candidate = self._attempt.scratch / _CANDIDATE
        merge_files([a.path(WEIGHTS) for a in parents], None, candidate, linear(weights, self._work.how.normalise))
        if self._loaded is None:
            self._loaded = load_checkpoint(parents[0])
            self._loaded.model.to(own_device(Ranks()))
        load_weights(self._loaded.model, candidate)
        candidate.unlink()
        own = LanguageModel(self._loaded.model, self._loaded.tokenizer, chats(parents))
        model = SharedModel(own, Ranks(), self._attempt.serve(own))
        records = score(
            model, self._attempt.name, c.search.task, "dev", self._examples, c.seed, max_new_tokens=c.max_new_tokens,
            window_tokens=c.window_tokens,
        )  # fmt: skip
        values = {record.metric: record.value for record in records}
        if c.search.metric not in values:
            what = f"{c.search.task} has no metric {c.search.metric!r}"
            raise UserError(what, where=self._attempt.name, remedy=f"search by one of {', '.join(values)}")
        return values[c.search.metric]
