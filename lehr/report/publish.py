"""The run's public files: scores, lineage, report, model folder. Always written anew."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import LOGS, REPEAT, STABILITY, Artifact, write_atomic
from lehr.artifacts.incidents import read_incidents
from lehr.artifacts.ledger import Spent
from lehr.config import Recipe, recipe_yaml
from lehr.evals.held_out import OPENINGS, in_order, openings_of_run, read_openings
from lehr.evals.items import read_items
from lehr.evals.scores import ITEMS, SAMPLES, SCORES
from lehr.interop.hf_config import CLASSES
from lehr.model.size import parameter_count
from lehr.pipeline.registry import stage
from lehr.planning.plan import plan_run
from lehr.post.sets.audit import SETS
from lehr.report import (
    PlannedStage,
    ReportData,
    Sample,
    SetReport,
    Site,
    SourceFunnel,
    StageReport,
    Totals,
    Unfinished,
    model_card,
    render,
)
from lehr.report.footprint import JOULES_PER_KWH
from lehr.report.judgements import judged
from lehr.report.machine import environment
from lehr.report.scores import read_records
from lehr.report.totals import footprint
from lehr.runtime.json_files import read_object, read_objects, read_rows


@dataclass(frozen=True)
class Made:
    """A stage's artifact under the name that the run has for it. `kind` is the stage's."""

    name: str
    kind: str
    artifact: Artifact


@dataclass(frozen=True)
class RunRecord:
    """What a run publishes itself from: its artifacts in the order of the graph, after the ancestors that another run made."""

    recipe: Recipe
    made: Sequence[Made]
    command: str
    reused: frozenset[str]
    seconds: float | None
    unfinished: Mapping[str, Spent] = field(default_factory=dict)  # work in the run's place that led to no artifact
    peak_memory: int | None = None  # bytes that the command held at once

    @property
    def artifacts(self) -> list[Artifact]:
        return [m.artifact for m in self.made]


def publish(run: RunRecord, root: Path) -> ReportData:
    """Write scores.json, lineage.json, footprint.json, report.html, recipe.yaml and model/ into `root`."""
    data = collect(run)
    data.openings = in_order([*data.openings, *openings_of_run(root)])
    final = next((a for a in run.artifacts if a.manifest.kind == "export"), None)
    records = [r.model_dump() for r in data.scores]
    write_atomic(root / "scores.json", json.dumps(records, indent=1))
    write_atomic(root / "lineage.json", json.dumps(lineage(run.made), indent=1))
    write_atomic(root / "footprint.json", json.dumps(footprint(data), indent=1))
    write_atomic(root / "recipe.yaml", recipe_yaml(run.recipe))
    write_atomic(root / "report.html", render(data))
    if final is not None:
        _replace_folder(final.folder, root / "model", model_card(data, architecture=CLASSES[run.recipe.model.family]))
    return data


def _replace_folder(source: Path, target: Path, card: str) -> None:
    """Copy `source` and the model card beside `target`, then swap."""
    beside = target.with_name(f".{target.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(source, beside, ignore=shutil.ignore_patterns("artifact.json", LOGS))
    write_atomic(beside / "README.md", card)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(beside, target)
    shutil.rmtree(old, ignore_errors=True)


def lineage(made: Sequence[Made]) -> list[dict[str, Any]]:
    """Every artifact with its parents, digests, code version and cost, ancestors first."""
    out = []
    for one in made:
        artifact, m = one.artifact, one.artifact.manifest
        parents = [{"stage": p.stage, "digest": p.digest} for p in m.parents]
        row = {
            "stage": one.name,
            "kind": m.kind,
            "digest": m.digest,
            "fingerprint": m.fingerprint,
            "code": m.code,
            "parents": parents,
            **({"stability": steadiness} if (steadiness := _stability(artifact)) else {}),
        }
        out.append({**row, "folder": artifact.folder.name, "meta": m.meta, "config": m.config, "cost": m.cost.model_dump()})
    return out


def _stability(artifact: Artifact) -> dict[str, Any]:
    """What a training stage recorded of its steadiness; empty for others."""
    path = artifact.path(f"{LOGS}/{STABILITY}")
    return read_object(path, REPEAT) if path.is_file() else {}


def collect(run: RunRecord) -> ReportData:
    """All that the report says, from the artifacts."""
    recipe, artifacts = run.recipe, run.artifacts
    scores = [a for a in artifacts if a.manifest.kind == "scores"]
    site = recipe.site
    return ReportData(
        run=recipe.name,
        description=recipe.description,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        recipe=recipe_yaml(recipe),
        seed=recipe.seed,
        headline=recipe.evaluation.headline,
        funnel=_funnel(artifacts),
        sets=_sets(run.made),
        **judged({m.name: m.artifact.manifest.meta for m in run.made}),
        mixes={m.name: text for m in run.made if (text := _mix(m.artifact))},
        stages=[_stage(m, m.name in run.reused) for m in run.made],
        unfinished=[_unfinished(name, spent) for name, spent in run.unfinished.items()],
        scores=[record for a in scores for record in read_records(a.path(SCORES))],
        items=[items for a in scores for items in read_items(a.path(ITEMS))],
        openings=in_order(o for a in scores for o in read_openings(a.path(f"{LOGS}/{OPENINGS}"))),
        samples=_samples([m for m in run.made if m.artifact.manifest.kind == "scores"]),
        environment=environment(run.command, artifacts),
        site=Site(
            pue=site.pue, carbon_kg_per_kwh=site.carbon_kg_per_kwh, water_liters_per_kwh=site.water_liters_per_kwh,
            citation=site.citation,
        ),
        plan=_plan(recipe),
        plan_basis=_plan_basis(recipe),
        peak_flops=h.count * h.peak_tflops * 1e12 if (h := recipe.hardware) else 0.0,
        totals=Totals(
            wall_seconds=run.seconds, peak_memory_bytes=run.peak_memory, parameters=parameter_count(recipe.model)
        ),
    )  # fmt: skip


def _plan(recipe: Recipe) -> list[PlannedStage]:
    """The plan for the recipe's own machines; nothing where it does not describe them."""
    stages = plan_run(recipe).stages if recipe.hardware else []
    return [
        PlannedStage(
            name=s.work.name, tokens=s.work.tokens, steps=s.work.steps, seconds=s.seconds, flops=s.work.flops,
            energy_joules=s.it_kwh * JOULES_PER_KWH,
        )
        for s in stages
    ]  # fmt: skip


def _plan_basis(recipe: Recipe) -> str:
    h = recipe.hardware
    return f"{h.count:,} x {h.accelerator} at {h.peak_tflops:g} TFLOP/s and {h.mfu:.0%} utilisation, {h.watts:g} W" if h else ""


def _mix(artifact: Artifact) -> str:
    path = artifact.path("mix.txt")
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _stage(made: Made, reused: bool) -> StageReport:
    artifact, m = made.artifact, made.artifact.manifest
    curves = artifact.path(f"{LOGS}/curves.jsonl")
    return StageReport(
        name=made.name,
        kind=m.kind,
        stage_kind=made.kind,
        phase=stage(made.kind).phase if made.kind else "",
        uri=artifact.folder.name,
        digest=m.digest,
        parents=[p.digest for p in m.parents],
        seconds=m.cost.seconds,
        tokens=m.cost.tokens if m.kind == "checkpoint" else 0,
        flops=m.cost.flops,
        energy_joules=m.cost.energy_joules,
        energy_source=m.cost.energy_source,
        energy=m.cost.energy,
        energy_gaps=m.cost.energy_gaps,
        machines=m.cost.machines,
        attempts=m.cost.attempts,
        reused=reused,
        curves=list(read_rows(curves, REPEAT)) if curves.is_file() else [],
        params=m.config,
        incidents=read_incidents(artifact),
        stability=_stability(artifact),
        merge=m.meta if "merged" in m.meta else {},
    )


def _unfinished(name: str, spent: Spent) -> Unfinished:
    gaps, attempts = list(spent.gaps), spent.attempts
    return Unfinished(name=name, seconds=spent.seconds, energy=dict(spent.energy), energy_gaps=gaps, attempts=attempts)


def _funnel(artifacts: Sequence[Artifact]) -> dict[str, SourceFunnel]:
    tokens: dict[str, int] = {}
    for a in artifacts:
        if a.manifest.kind == "shards":
            tokens = a.manifest.meta["tokens"]
    out = {}
    for a in artifacts:
        if a.manifest.kind == "documents":
            for name, row in read_object(a.path("funnel.json"), REPEAT).items():
                out[name] = SourceFunnel(
                    read=row["read"], kept=row["kept"], characters=row["characters_kept"], tokens=tokens.get(name),
                    dropped=row["dropped"], damaged=row.get("passed_over", {}).get("damaged", {}),
                    license=row["license"], origin=row["origin"], review=row.get("review"),
                )  # fmt: skip
    return out


def _sets(made: Sequence[Made]) -> dict[str, dict[str, SetReport]]:
    """What each stage of conversations, preferences or prompts counted."""
    out = {}
    for each in made:
        path = each.artifact.path(SETS)
        if each.artifact.manifest.kind in ("conversations", "preferences", "prompts") and path.is_file():
            known = SetReport.model_fields
            rows = read_object(path, REPEAT).items()
            out[each.name] = {name: SetReport(**{k: v for k, v in row.items() if k in known}) for name, row in rows}
    return out


def _samples(scores: Sequence[Made]) -> list[Sample]:
    """Answers to one prompt side by side, in the order of the stages."""
    found: dict[str, Sample] = {}
    for made in scores:
        for row in read_objects(made.artifact.path(SAMPLES), REPEAT):
            sample = Sample(prompt=row["prompt"], answers={}, expected=row["expected"], family=row["family"])
            found.setdefault(row["prompt"], sample).answers[made.name.removeprefix("scores-")] = row["answer"]
    return list(found.values())
