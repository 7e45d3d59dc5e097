"""Everything that the report and the model card say. Whoever runs the pipeline fills it; they only lay it out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lehr.evals.held_out import Opening
from lehr.evals.items import ItemScores
from lehr.report.footprint import FacilityJoules, ItJoules, carbon_kg, facility_energy, water_liters
from lehr.report.inputs import SetReport, SourceFunnel
from lehr.report.judgements import BestOfPoint, RewardReport
from lehr.report.scores import ScoreRecord, ScoreTable, score_matrix
from lehr.report.unfinished import Unfinished
from lehr.runtime.energy import added
from lehr.runtime.metrics import DEV

Point = dict[str, float | None]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StageReport(_Model):
    """One stage. `parents` names stages or digests; `kind` is its artifact's, `stage_kind` its own (pretrain, soup, sft ...).

    `phase` is the part of the pipeline that it belongs to: data, pretraining, soup, post-training, evaluation or export. Where
    and in which colour a stage is shown depends on it and on its place among the stages, never on its name.

    A point of `curves` holds `step`, `tokens` (trained on so far in this stage, or in this step) and any metrics: those of
    `lehr.runtime.metrics` as declared there, others under their own names.
    """

    name: str
    kind: str = "checkpoint"
    stage_kind: str = ""
    phase: str = ""
    uri: str = ""
    digest: str = ""
    parents: list[str] = []
    seconds: float = 0.0
    tokens: int = 0
    flops: float = 0.0
    energy_joules: float | None = None  # IT energy; None: not recorded
    energy_source: str = "none"  # as lehr.runtime.energy.label
    energy: dict[str, float] = {}  # joules by source; empty where all of it is of one
    energy_gaps: list[str] = []  # what is missing from it
    machines: int = 1
    attempts: int = 1
    reused: bool = False
    curves: list[Point] = []
    params: dict[str, Any] = {}
    incidents: list[str] = []  # what happened on the way, a dated line each
    stability: dict[str, Any] = {}  # spike scores in percent, skipped steps, batches left out; empty: nothing recorded
    merge: dict[str, Any] = {}  # of a merge: what the stage's artifact says of it (lehr.post.merge_work)

    @model_validator(mode="after")
    def _by_source(self) -> StageReport:
        if not self.energy and self.it_energy is not None:
            self.energy = {self.energy_source: self.it_energy}
        return self

    @property
    def it_energy(self) -> ItJoules | None:
        """None where no meter ran."""
        return None if self.energy_joules is None or self.energy_source == "none" else ItJoules(self.energy_joules)

    def series(self, *keys: str) -> list[tuple[float, float]]:
        """(place, value) of the first of `keys` that a point has; values that are no finite numbers are left out."""
        places = self.places()
        found = []
        for place, point in zip(places, self.curves, strict=True):
            value = next((point[k] for k in keys if point.get(k) is not None), None)
            if value is not None and math.isfinite(value):
                found.append((place, float(value)))
        return found

    def speeds(self) -> list[tuple[float, float]]:
        """(place, tokens a second) of the steps whose time was recorded."""
        places, found = self.places(), []
        for before, place, point in zip([0.0, *places], places, self.curves, strict=False):
            if (seconds := point.get("seconds")) and seconds > 0 and place > before:
                found.append((place, (place - before) / seconds))
        return found

    @property
    def steps(self) -> int:
        """Those that the log ends with; 0 without a log."""
        return int(max((point.get("step") or 0.0 for point in self.curves), default=0.0))

    def places(self) -> list[float]:
        """Where each point lies on the token axis of its stage; on the step axis if tokens were not recorded."""
        tokens = [point.get("tokens") for point in self.curves]
        steps = [float(point.get("step") or i + 1) for i, point in enumerate(self.curves)]
        known = [float(t) for t in tokens if t is not None]
        if not known or len(known) < len(tokens):
            return [step * self.tokens / steps[-1] for step in steps] if self.tokens and steps else steps
        if known[-1] > known[0] and all(b >= a for a, b in pairwise(known)):
            return known
        strides = [b - a for a, b in zip([0.0, *steps], steps, strict=False)]  # tokens of one step, times steps between points
        total, out = 0.0, []
        for stride, amount in zip(strides, known, strict=True):
            total += max(stride, 0.0) * amount
            out.append(total)
        return out


class PlannedStage(_Model):
    """What `lehr plan` said of a stage before it ran."""

    name: str
    tokens: int
    steps: int
    seconds: float
    flops: float
    energy_joules: float  # IT energy


class Sample(_Model):
    """One prompt and what the model answered to it after each stage."""

    prompt: str
    answers: dict[str, str]
    expected: str = ""
    family: str = ""


class Environment(BaseModel):
    """Where it ran. More keys are welcome and shown as they are."""

    model_config = ConfigDict(extra="allow")

    command: str = ""
    python: str = ""
    torch: str = ""
    cpu: str = ""
    cores: int | None = None
    git_sha: str = ""
    lehr_version: str = ""
    code_fingerprint: str = ""


class Site(_Model):
    """Constants of the place, as in `recipe.site`."""

    pue: float = 1.0
    carbon_kg_per_kwh: float = 0.0
    water_liters_per_kwh: float = 0.0
    citation: str = ""


class Totals(_Model):
    """What no single stage knows."""

    wall_seconds: float | None = None
    peak_memory_bytes: int | None = None
    parameters: int | None = None


def pipeline_order(stages: Sequence[StageReport]) -> list[StageReport]:
    """Every stage after all that it was made from; scores right after the model that they are of."""
    by_key = {key: s for s in stages for key in (s.name, s.digest) if key}
    depth: dict[str, int] = {}

    def visit(stage: StageReport, trail: frozenset[str]) -> int:
        if stage.name not in depth:
            above = [by_key[p] for p in stage.parents if p in by_key and by_key[p].name not in trail]
            depth[stage.name] = max((visit(p, trail | {p.name}) for p in above), default=-1) + 1
        return depth[stage.name]

    for stage in stages:
        visit(stage, frozenset({stage.name}))
    made = sorted((s for s in stages if s.kind != "scores"), key=lambda s: depth[s.name])  # stable: ties as they came
    scores = [s for s in stages if s.kind == "scores"]
    owner = {s.name: next((by_key[p].name for p in s.parents if p in by_key), "") for s in scores}  # the first parent
    placed = [each for m in made for each in (m, *(s for s in scores if owner[s.name] == m.name))]
    return [*placed, *(s for s in scores if owner[s.name] not in {m.name for m in made})]


class ReportData(_Model):
    """One finished run. `stages` may come in any order and are put into the pipeline's."""

    run: str
    description: str = ""
    created: str = ""  # date and time as text
    recipe: str = ""  # the resolved YAML
    seed: int | None = None
    funnel: dict[str, SourceFunnel] = {}
    sets: dict[str, dict[str, SetReport]] = {}  # stage -> set
    rewards: dict[str, RewardReport] = {}  # by stage
    best_of_n: dict[str, list[BestOfPoint]] = {}  # by stage
    mixes: dict[str, str] = {}
    stages: list[StageReport] = []
    unfinished: list[Unfinished] = []
    scores: list[ScoreRecord] = []
    items: list[ItemScores] = []  # what each example of a held-out score gave; runs of earlier versions have none
    openings: list[Opening] = []  # of held-out examples, oldest first
    headline: list[str] = []  # `task/metric` of the scores to be known first; empty: chosen by what they are
    samples: list[Sample] = []
    environment: Environment = Field(default_factory=Environment)
    site: Site | None = None
    totals: Totals = Field(default_factory=Totals)
    plan: list[PlannedStage] = []
    peak_flops: float = 0.0  # a second, of all the machines that the recipe describes; 0: it describes none
    plan_basis: str = ""  # the machines and the utilisation that the plan supposes

    @model_validator(mode="after")
    def _pipeline_order(self) -> ReportData:
        self.stages = pipeline_order(self.stages)
        return self

    def table(self, split: str | None = None) -> ScoreTable:
        """Scores in the order of the stages, those of stages that are not among them last; without what belongs to a curve."""
        chosen = [r for r in self.scores if split in (None, r.split) and not r.metric.startswith(DEV)]
        return score_matrix(chosen, [s.name for s in self.stages])

    def made_by(self, *kinds: str) -> list[StageReport]:
        """The stages of these kinds."""
        return [stage for stage in self.stages if stage.stage_kind in kinds]

    def stage(self, name_or_digest: str) -> StageReport | None:
        return next((s for s in self.stages if name_or_digest and name_or_digest in (s.name, s.digest)), None)

    def parents_of(self, stage: StageReport) -> list[StageReport]:
        return [found for parent in stage.parents if (found := self.stage(parent)) is not None and found is not stage]

    @property
    def from_scratch(self) -> bool:
        """Whether the first weights were drawn in this run, not taken from a model that was there."""
        return bool(self.made_by("pretrain"))

    @property
    def paid(self) -> list[StageReport | Unfinished]:
        """What there was to pay for. An artifact under two names, as an ancestor and as a stage, counts once."""
        once = {(s.digest, s.uri) if s.digest and s.uri else (s.name,): s for s in self.stages}
        return [*once.values(), *self.unfinished]

    @property
    def seconds(self) -> float:
        """Over all stages, made now or found again: what the model cost, not what this command took. With `unfinished` work."""
        return sum(one.seconds for one in self.paid)

    @property
    def tokens(self) -> int:
        return sum(stage.tokens for stage in self.stages)

    @property
    def energy(self) -> dict[str, float]:
        """IT energy by source, in joules: of all stages with a meter, and of the work that led to nothing."""
        return added(one.energy for one in self.paid)

    @property
    def it_energy(self) -> ItJoules | None:
        """The sum of `energy`; None where no meter ran."""
        return ItJoules(sum(self.energy.values())) if self.energy else None

    @property
    def energy_gaps(self) -> list[str]:
        """What is missing from it."""
        return list(dict.fromkeys(gap for one in self.paid for gap in one.energy_gaps))

    @property
    def facility_energy(self) -> FacilityJoules | None:
        return self.at_building(self.it_energy)

    def at_building(self, energy: ItJoules | None) -> FacilityJoules | None:
        """None where the energy or the site is not known."""
        return facility_energy(energy, self.site.pue) if energy is not None and self.site else None

    @property
    def carbon_kg(self) -> float | None:
        energy = self.facility_energy
        return carbon_kg(energy, self.site.carbon_kg_per_kwh) if energy is not None and self.site else None

    @property
    def water_liters(self) -> float | None:
        """None also where the recipe gives no water constant: zero would be a claim."""
        energy = self.facility_energy
        if energy is None or not self.site or not self.site.water_liters_per_kwh:
            return None
        return water_liters(energy, self.site.water_liters_per_kwh)

    @property
    def energy_sources(self) -> list[str]:
        return list(self.energy)
