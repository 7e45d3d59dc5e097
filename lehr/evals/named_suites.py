"""Suites of the reports by name: which tasks they have, by which metric each is judged, and what of them is missing here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lehr.evals import mmlu
from lehr.runtime.errors import UserError

# A task of lehr.evals.packaged, or `mmlu:KIND`, all subjects of MMLU, each of which counts equally; and the metric that counts.
Judged = tuple[str, str]


@dataclass(frozen=True)
class Suite:
    """`benchmarks`: the formulations of each, the best of which counts (OLMES: cloze, multiple choice). `source`: where that
    is written. `missing`: what the suite has beside them, and why it is not here."""

    benchmarks: Mapping[str, Sequence[Judged]]
    source: str
    missing: str

    @property
    def tasks(self) -> list[str]:
        return [task for several in self.benchmarks.values() for judged, _ in several for task in members(judged)]


def members(task: str) -> list[str]:
    """The tasks whose plain mean a formulation's score is."""
    name, _, kind = task.partition(":")
    return [f"{mmlu.PREFIX}{subject}:{kind}" for subject in _SUBJECTS] if name == "mmlu" else [task]


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


# fmt: off
_SUBJECTS = (
    "abstract_algebra", "anatomy", "astronomy", "business_ethics", "clinical_knowledge", "college_biology", "college_chemistry",
    "college_computer_science", "college_mathematics", "college_medicine", "college_physics", "computer_security",
    "conceptual_physics", "econometrics", "electrical_engineering", "elementary_mathematics", "formal_logic", "global_facts",
    "high_school_biology", "high_school_chemistry", "high_school_computer_science", "high_school_european_history",
    "high_school_geography", "high_school_government_and_politics", "high_school_macroeconomics", "high_school_mathematics",
    "high_school_microeconomics", "high_school_physics", "high_school_psychology", "high_school_statistics",
    "high_school_us_history", "high_school_world_history", "human_aging", "human_sexuality", "international_law",
    "jurisprudence", "logical_fallacies", "machine_learning", "management", "marketing", "medical_genetics", "miscellaneous",
    "moral_disputes", "moral_scenarios", "nutrition", "philosophy", "prehistory", "professional_accounting", "professional_law",
    "professional_medicine", "professional_psychology", "public_relations", "security_studies", "sociology",
    "us_foreign_policy", "virology", "world_religions",
)
# fmt: on
_MMLU = _olmes("mmlu", "acc_per_char", "test_")
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
            "MMLU": _MMLU,
        },
        "OLMES (Gu et al. 2024): five shots, the better of both formulations",
        "",
    ),
    "mmlu": Suite(
        {"MMLU": _MMLU},
        "MMLU (Hendrycks et al. 2021) as OLMES asks it: the mean over 57 subjects, the better of both formulations",
        "",
    ),
    "olmo2": Suite(
        {
            "ARC-Challenge": _olmes("arc_challenge", "acc_pmi", "test_"),
            "BoolQ": _olmes("boolq", "acc"),
            "HellaSwag": _olmes("hellaswag", "acc_per_char"),
            "WinoGrande": _olmes("winogrande", "acc"),
            "MMLU": (("mmlu:test_mc_5shot", "acc"),),
        },
        "OLMo 2, Table 20, multiple choice",
        "DROP and Natural Questions, whose answers are generated; the held-out tasks, whose prompts no package has",
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
        there = {(task, by): _mean([scores[member, by] for member in members(task)]) for task, by in several}
        best = max(there, key=lambda judged: there[judged][0])
        values = {task: value for (task, _), (value, _, _) in there.items()}
        value, error, n = there[best]
        found.append(Benchmark(name, *best, value, error, n, values))
    value, error, _ = _mean([{"value": one.value, "stderr": one.stderr, "n": one.n} for one in found])
    return Summary(found, value, error)


def _mean(records: Sequence[Mapping[str, Any]]) -> tuple[float, float | None, int]:
    """The plain mean, its standard error, and the number of examples."""
    errors = [record["stderr"] for record in records if record["stderr"] is not None]
    error = math.hypot(*errors) / len(records) if len(errors) == len(records) else None
    return math.fsum(record["value"] for record in records) / len(records), error, sum(record["n"] for record in records)
