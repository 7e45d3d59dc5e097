"""The steps of a run around its stages: open it with a pinned recipe and its graph, run one stage, publish the report."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from lehr.artifacts.artifact import Artifact, ArtifactRef, canonical, sha256_text, write_atomic
from lehr.artifacts.ledger import spent_on
from lehr.config import Recipe, load_recipe, recipe_yaml
from lehr.config.names import is_address
from lehr.config.runnable import check_runnable
from lehr.infra.pod.pod_request import run_name, stage_labels
from lehr.infra.pod.pod_template import SCRATCH
from lehr.monitoring.mlflow_tracker import MlflowTracker
from lehr.pipeline.attempt import StageContext
from lehr.pipeline.graph import graph
from lehr.pipeline.local import addresses, locate, run_node
from lehr.pipeline.node import Node
from lehr.pipeline.registry import stage
from lehr.pipeline.requirements import CHECKED, check_made, check_rewards
from lehr.pipeline.run import found_again
from lehr.report.data import ReportData
from lehr.report.publish import Made, RunRecord
from lehr.report.publish import publish as write_public
from lehr.report.totals import run_totals
from lehr.runtime.errors import Bug, InfraError, Preempted, UserError, from_os_error
from lehr.runtime.ports import Store
from lehr.tasks.lock import hold
from lehr.tasks.refs import RunRef
from lehr.tasks.run_location import RunLocation, local
from lehr.tasks.session import Session, session
from lehr.tasks.termination import in_pod
from lehr.tasks.travel import fetch, portable

PUBLIC = ("report.html", "scores.json", "lineage.json", "footprint.json", "recipe.yaml")
_PINNED = "recipes"
FLYTE_EXECUTION = "FLYTE_INTERNAL_EXECUTION_ID"  # which Flyte's pods have, and its local executor has not
Refs = dict[str, ArtifactRef]


@dataclass(frozen=True)
class Opened:
    """A run with its graph."""

    run: RunRef
    recipe: Recipe
    nodes: list[Node]

    def node(self, name: str) -> Node:
        """Raises Bug for a stage that the graph has not."""
        found = next((node for node in self.nodes if node.name == name), None)
        if found is None:
            raise Bug(f"the run's graph has no stage {name!r}")
        return found

    def context(self) -> StageContext:
        """What its stages use, with the trackers of this process."""
        return _session(self).context(self.run)


def run_key(recipe: Recipe, root: str | Path) -> str:
    """The run's name in MLflow across restarts: the same recipe in the same place continues the same run."""
    return sha256_text(canonical([str(root), recipe.model_dump(mode="json")]))[:16]


def resolved(recipe: str | Path, overrides: list[str]) -> Recipe:
    """Load the recipe at a path with all that it inherits and refers to. Raises UserError if it cannot be run here."""
    loaded = load_recipe(recipe, overrides, fetch=local).pinned()
    check_runnable(loaded)
    return loaded


def open_run(recipe: Recipe, out: str, source: str | Path = "", command: str = "") -> Opened:
    """Pin `recipe`, which the user named `source`, in `out`, a folder or s3://BUCKET/PREFIX (default runs/NAME), and lock the
    folder for this process. `command` repeats the run; by default it is this process's own.

    Raises UserError for an invalid graph, for a place that cannot be written, and if another run is using it.
    """
    nodes = graph(recipe)
    place = RunLocation(out or Path("runs") / recipe.name)
    _check_outlives_pod(place, out)
    place.check()
    hold(place.folder, place.root)
    text = recipe_yaml(recipe)
    pinned = sha256_text(text)
    try:
        # The copy under its hash is what tasks read: recipe.yaml may be replaced by the next run while they are at work.
        write_atomic(place.folder / "recipe.yaml", text)
        write_atomic(place.folder / _pinned(pinned), text)
    except OSError as error:
        raise from_os_error(error, place.folder) from error
    place.share(["recipe.yaml", _pinned(pinned)])
    command = os.environ.get("LEHR_COMMAND", "") or command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    key = run_key(recipe, place.root)
    return Opened(RunRef(root=place.root, recipe=pinned, key=key, command=command, source=str(source)), recipe, nodes)


def in_flyte() -> bool:
    """Whether Flyte's engine started this process."""
    return FLYTE_EXECUTION in os.environ


def _check_outlives_pod(place: RunLocation, out: str) -> None:
    """Raises UserError, before anything is made, for a folder of one pod of Flyte alone: no other stage would find it."""
    alone = not Path(out or ".").is_absolute() or Path(SCRATCH) in place.folder.parents
    if in_pod() and in_flyte() and not place.remote and alone:
        raise UserError(
            f"{place.root} is a folder of this pod alone",
            where=f"out={out!r}",
            remedy="give out an object store's address, s3://BUCKET/PREFIX, or a volume that every pod mounts",
        )


def labels(this: Opened, stage: str) -> dict[str, str]:
    """Labels of the pods of a run's stage."""
    return stage_labels(run_name(this.recipe.name, this.run.key), stage, this.recipe.name)


def _pinned(sha256: str) -> str:
    return f"{_PINNED}/{sha256[:16]}.yaml"


def opened(run: RunRef) -> Opened:
    """Open a run that another process opened first, with the files that came with it. Raises UserError if its pinned recipe is
    missing or was altered."""
    path = RunLocation(run.root).brought(_pinned(run.recipe))
    if sha256_text(path.read_text(encoding="utf-8")) != run.recipe:
        raise UserError("the run's pinned recipe was altered", where=path, remedy="start the run again")
    recipe = load_recipe(path)
    fetch(run.root, recipe)
    return Opened(run, recipe, graph(recipe))


def run_stage_of(run: RunRef, name: str, inputs: Mapping[str, ArtifactRef], store: Store | None = None) -> ArtifactRef:
    """Make the stage `name`, or find its artifact if it was made before; `store` in place of the run's own. Raises what the
    stage raises."""
    this = opened(run)
    node, s = this.node(name), _session(this)
    context = replace(s.context(run), store=store) if store else s.context(run)
    try:
        made = run_node(node, inputs, context)
        check_enough(this, context, node, made)
    except (InfraError, Preempted):
        raise
    except Exception:
        s.over = True  # no retry mends it
        raise
    return made


def check_enough(this: Opened, context: StageContext, node: Node, made: ArtifactRef) -> None:
    """Raise UserError if what `node` made is not enough for the stages after it."""
    if node.kind == "tokenizer":
        check_rewards(context.fetch(made.uri), this.nodes, context.fetch)
    if node.kind in CHECKED:
        check_made(node, context.fetch(made.uri), this.nodes, this.recipe.model.max_seq_len, context.tracker.note)


def _session(this: Opened) -> Session:
    return session(this.run, this.recipe, [node.name for node in this.nodes])


def start(this: Opened) -> Refs:
    """The artifacts that exist already: of stages made before, and of other runs on which this one builds. Artifacts in a
    folder are verified here; those in an object store are verified by the stage that reads them."""
    context = _session(this).context(this.run)
    known = addresses(this.nodes, context)
    found = locate(this.nodes, known, context)
    for node in this.nodes:
        if node.name in found and not RunLocation(this.run.root).remote:
            found_again(stage(node.kind), node.name, node.config, found[node.name].uri, context)
    return {**known, **found}


def publish(run: RunRef, refs: Mapping[str, ArtifactRef]) -> ReportData:
    """Write scores.json, lineage.json, footprint.json, report.html and model/ to the run's folder or address."""
    this = opened(run)
    s, place = _session(this), RunLocation(run.root)
    base = this.recipe.base.checkpoint if this.recipe.base else ""
    made = [*_ancestors(refs, base), *(Made(node.name, node.kind, _open(refs[node.name])) for node in this.nodes)]
    unfinished = {name: spent_on(entries) for name, entries in place.store().unfinished().items()}
    ours = portable(this.recipe, place.folder)
    peak = s.memory.bytes() if s.memory is not None else None
    record = RunRecord(ours, made, run.command, s.reused, time.monotonic() - s.began, unfinished, peak)
    report = write_public(record, place.folder)
    place.share([*PUBLIC, "model"])
    if s.mlflow is not None:
        s.mlflow.log_artifacts([place.folder / name for name in PUBLIC])
        s.mlflow.totals(*run_totals(report))
        _register(this, refs, s.mlflow, place.folder / "model")
    s.done = True
    s.tracker.note(f"report: {place.shown('report.html')}")
    return report


def _register(this: Opened, refs: Mapping[str, ArtifactRef], mlflow: MlflowTracker, folder: Path) -> None:
    """Register the public model in `folder` as a version of the registered model that the recipe names."""
    name = this.recipe.tracking.registered_model
    exported = next((refs[node.name] for node in this.nodes if node.kind == "export"), None)
    if name and exported:
        mlflow.register(name, exported.stage, exported.uri, folder, this.recipe.tracking.registered_alias or "")


def _ancestors(refs: Mapping[str, ArtifactRef], base: str) -> list[Made]:
    """Artifacts of other runs on which this run builds, with their lineage: the recipe's `base` under that name, others under
    their artifact's, and NAME/STAGE for the ancestors of each."""
    found: dict[str, Made] = {}
    # The base first: it may be an ancestor of others.
    for name, ref in sorted(refs.items(), key=lambda item: item[0] != base):
        if is_address(name):
            given = _open(ref)
            known = _free("base" if name == base else given.folder.name, found)
            for above in given.lineage():
                own = above.manifest.digest == given.manifest.digest
                label = known if own else _free(f"{known}/{above.manifest.stage}", found)
                found.setdefault(above.manifest.digest, Made(label, above.manifest.stage_kind, above))
    return list(found.values())


def _free(label: str, found: Mapping[str, Made]) -> str:
    """`label`, with a number where another artifact has it."""
    taken = {made.name for made in found.values()}
    return next(name for n in count(1) if (name := label if n == 1 else f"{label}-{n}") not in taken)


def _open(ref: ArtifactRef) -> Artifact:
    """Not verified: the files were verified when the stage ended or its artifact was found."""
    return Artifact.open(local(ref.uri), verify=False, uri=ref.uri)
