"""Suites of the reports by name: which tasks they have, by which metric each is judged, and what of them is missing here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lehr.runtime.errors import UserError

Judged = tuple[str, str]  # a task of lehr.evals.packaged, and the metric that counts


@dataclass(frozen=True)
class Suite:
    """`benchmarks`: the formulations of each, the best of which counts (OLMES: cloze, multiple choice). `source`: where that
    is written. `missing`: what the suite has beside them, and why it is not here."""

    benchmarks: Mapping[str, Sequence[Judged]]
    source: str
    missing: str

    @property
    def tasks(self) -> list[str]:
        return [task for several in self.benchmarks.values() for task, _ in several]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's score: the best of its formulations, `formulations` has them all."""

    name: str
    task: str
    metric: str
    value: float
    stderr: float | None
    n: int
    formulations: Mapping[str, float]


@dataclass(frozen=True)
class Summary:
    """A suite's benchmarks, and their plain mean with its standard error: that of a mean of independent scores."""

    benchmarks: Sequence[Benchmark]
    mean: float
    stderr: float | None


def _olmes(name: str, norm: str, split: str = "") -> tuple[Judged, Judged]:
    return (f"{name}:{split}rc_5shot", norm), (f"{name}:{split}mc_5shot", "acc")


_MMLU = "MMLU: the package has its questions and renders them itself, in code that is not run"
SUITES: Mapping[str, Suite] = {
    "olmes": Suite(
        {
            "ARC-Challenge": _olmes("arc_challenge", "acc_pmi", "test_"),
            "ARC-Easy": _olmes("arc_easy", "acc_per_char", "test_"),
            "BoolQ": _olmes("boolq", "acc"),
            "CommonsenseQA": _olmes("csqa", "acc_pmi"),
            "HellaSwag": _olmes("hellaswag", "acc_per_char"),
            "OpenBookQA": _olmes("openbookqa", "acc_pmi", "test_"),
            "PIQA": _olmes("piqa", "acc_per_char"),
            "Social IQa": _olmes("socialiqa", "acc_per_char"),
            "WinoGrande": _olmes("winogrande", "acc"),
        },
        "OLMES (Gu et al. 2024): five shots, the better of both formulations",
        _MMLU,
    ),
    "olmo2": Suite(
        {
            "ARC-Challenge": _olmes("arc_challenge", "acc_pmi", "test_"),
            "BoolQ": _olmes("boolq", "acc"),
            "HellaSwag": _olmes("hellaswag", "acc_per_char"),
            "WinoGrande": _olmes("winogrande", "acc"),
        },
        "OLMo 2, Table 20, multiple choice",
        f"{_MMLU}; DROP and Natural Questions, whose answers are generated; the held-out tasks, whose prompts no package has",
    ),
    "olmo1": Suite(
        {
            "ARC-Challenge": (("arc_challenge:rc_0shot", "acc_pmi"),),
            "ARC-Easy": (("arc_easy:rc_0shot", "acc_pmi"),),
            "BoolQ": (("boolq:rc_0shot", "acc"),),
            "HellaSwag": (("hellaswag:rc_0shot", "acc_per_token"),),
            "OpenBookQA": (("openbookqa:rc_0shot", "acc_pmi"),),
            "PIQA": (("piqa:rc_0shot", "acc_per_token"),),
            "SciQ": (("sciq:rc_0shot", "acc"),),
            "WinoGrande": (("winogrande:rc_0shot", "acc_per_token"),),
        },
        "OLMo 1, section 4.1: eight core tasks without examples, with its normalisations",
        "the report's own prompts (Catwalk's): these are the package's",
    ),
}


def suite(name: str) -> Suite:
    """Raises UserError for a name that is none."""
    if name not in SUITES:
        raise UserError(f"there is no suite {name!r}", where="--suite", remedy=f"suites are: {', '.join(SUITES)}")
    return SUITES[name]


def summary(of: Suite, records: Sequence[Mapping[str, Any]]) -> Summary:
    """Of the records of all its tasks."""
    scores = {(record["task"], record["metric"]): record for record in records}
    found = []
    for name, several in of.benchmarks.items():
        there = {judged: scores[judged] for judged in several}
        best = max(there, key=lambda judged: there[judged]["value"])
        values = {task: record["value"] for (task, _), record in there.items()}
        record = there[best]
        found.append(Benchmark(name, *best, record["value"], record["stderr"], record["n"], values))
    errors = [one.stderr for one in found if one.stderr is not None]
    error = math.hypot(*errors) / len(found) if len(errors) == len(found) else None
    return Summary(found, math.fsum(one.value for one in found) / len(found), error)
