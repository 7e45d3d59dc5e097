"""No key exists that nothing executes: every field of the configuration has a reader in the code, or is marked as reported."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

import lehr.data.filters
from lehr.config.compute import Resources
from lehr.config.filters import Filter
from lehr.infra.pod.pod_request import PodRequest
from lehr.report.inputs import REVIEWED
from tests.config.classes import ANY, Code
from tests.config.readers import readings
from tests.graph.source import ROOMS, in_rooms, module_name, sources

CONFIGURATION = "lehr.config"
# Keys whose reader is in lehr.config itself, where no reading counts.
EXCEPTIONS = {
    "Site.water_onsite_liters_per_kwh": "Site adds the two up into water_liters_per_kwh, which has a reader",
    "Site.water_offsite_liters_per_kwh": "as water_onsite_liters_per_kwh",
    "Step.supply": "what `lehr run` says must be supplied (lehr.config.runnable)",
    "Tokenizer.origin": "as supply",
    "Compute.cpu": "Compute.of takes it by the name of a resource class",
    "Compute.accelerator": "as cpu",
    "Compute.ranked": "as cpu",
    "Policy.reviewed": "a source that it does not allow is refused as the recipe is read",
    "Policy.personal_information": "as reviewed",
    **dict.fromkeys((f"Review.{name}" for name in REVIEWED), "the report and the model card take them by their names"),
    "FilesSource.kind": "its validator makes a format of `jsonl`",
    **dict.fromkeys((f"Resources.{name}" for name in Resources.model_fields), "Compute.of gives them to a PodRequest"),
}


def unread(modules: Mapping[str, ast.Module]) -> set[str]:
    """`Class.field` of each configuration class that no code reads, but for `reported` tables and the `kind` that chooses
    the class itself. A key of the recipe is read where its class is known; one of a stage's own configuration, which such keys
    are copied into, by its name too where an object is only known to be Any."""
    code = Code(modules)
    read = readings(code, CONFIGURATION).closed(code)
    found = set()
    for key, own in code.classes.items():
        if f"{CONFIGURATION}.base.Config" not in code.mro(key):
            continue
        for name, annotation in own.fields.items():
            written = ast.unparse(annotation)
            chooses = name == "kind" and written.startswith("Literal[") and "," not in written
            proofs = {(code.owner(key, name), name)} | (set() if own.module.startswith(CONFIGURATION) else {(ANY, name)})
            if not proofs & read and not chooses and (name, written) != ("reported", "Reported"):
                found.add(f"{key.rpartition('.')[2]}.{name}")
    return found


def test_every_key_has_a_reader() -> None:
    """Also those of the stages' own configurations, which the recipe's keys are copied into."""
    found = unread({module_name(path): sources()[path] for path in in_rooms(*ROOMS)})
    keys, idle = found - EXCEPTIONS.keys() - thresholds(), EXCEPTIONS.keys() - found
    assert not keys, f"give these a reader, or move the facts into `reported`: {', '.join(sorted(keys))}"
    assert not idle, f"these have a reader, or are no keys; take the exceptions out: {', '.join(sorted(idle))}"


def thresholds() -> set[str]:
    """Keys `min_SCORE` and `max_SCORE` of filters, which lehr.data.filters.thresholds reads by the names of the scores that the
    filter's module gives it."""
    found = set()
    for config in get_args(get_args(Filter)[0]):
        kind = get_args(config.model_fields["kind"].annotation)[0]
        text = Path(f"{lehr.data.filters.__path__[0]}/{kind}.py").read_text(encoding="utf-8")
        for name in config.model_fields:
            score = name.removeprefix("min_").removeprefix("max_")
            by_hand = re.sub(r"\d+", "", score).replace("__", "_")
            if score != name and "verdict(" in text and (score in text or by_hand in re.sub(r"\{\w+\}", "", text)):
                found.add(f"{config.__name__}.{name}")
    return found


def test_every_resource_is_asked_for() -> None:
    """tests/workflows/test_flyte.py sees what each makes of a pod."""
    assert {field.name for field in fields(PodRequest)} - {
        "ranks",
        "checked",
        "secret",
        "gpu_resource",
    } == Resources.model_fields.keys()


CONFIG = """
from lehr.config.base import Config, Reported
class Optim(Config):
    lr: float
class Step(Config):
    name: str
    kind: Literal["a"]
    optim: Optim
    reported: Reported = {}
    batch: int
    samples: int
    epochs: int
    @property
    def steps(self) -> int:
        return self.samples // self.batch
    @model_validator
    def _check(self):
        return self.epochs
class Recipe(Config):
    steps: list[Step]
"""


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ("return [s.name for s in r.steps]", {"lr", "optim", "batch", "samples", "epochs"}),
        ("return other.name, other.lr, r.steps", {"name", "lr", "optim", "batch", "samples", "epochs"}),  # of another class
        ("for s in r.steps:\n  print(s.optim.lr, s.steps)", {"name", "epochs"}),  # a property reads for its reader
        ("return getattr(r.steps[0], 'epochs')", {"name", "lr", "optim", "batch", "samples"}),
        ("def inner(o): return o.lr\n return inner(r.steps)", {"name", "lr", "optim", "batch", "samples", "epochs"}),
        ("r.steps[0].name = ''", {"name", "lr", "optim", "batch", "samples", "epochs"}),  # written, not read
        ("return work(Copy(**r.steps[0].model_dump()))", {"name", "lr", "optim", "samples", "epochs"}),
        (  # what is only known to be Any can be a stage's configuration, and no key of a recipe
            "def inner(c: Any): return c.lr, c.samples, c.name\n return [inner(step) for step in r.steps]",
            {"name", "lr", "optim", "batch", "samples", "epochs", "-Copy.name"},
        ),
        (  # by a Protocol that Step fits
            "def inner(p: Batched): return p.batch\n return [inner(step) for step in r.steps]",
            {"name", "lr", "optim", "samples", "epochs"},
        ),
    ],
)
def test_a_key_without_a_reader_is_found(body: str, missing: set[str]) -> None:
    code = f"""
from lehr.config.base import Config
from lehr.config.step import Recipe
from typing import Any, Protocol
class Copy(Config):
    batch: int
    name: str
class Batched(Protocol):
    batch: int
    kind: str
def work(c: Copy): return c.batch
def run(r: Recipe, other: Other):
 {body}
"""
    texts = {"lehr.config.base": "class Config: pass\nReported = dict[str, Any]", "lehr.config.step": CONFIG, "lehr.run": code}
    found = unread({name: ast.parse(text) for name, text in texts.items()})
    whole = {"lr": "Optim.lr"}
    expected = {key if "." in key else whole.get(key, f"Step.{key}") for key in missing - {"-Copy.name"}}
    assert found == expected | ({"Copy.name"} - {key.removeprefix("-") for key in missing})
