"""The first and the last task of a run: open it, publish it."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import NamedTuple, Optional

from flytekit import Deck, task

from lehr.artifact import ArtifactRef, canonical, sha256_text, write_atomic
from lehr.config import Recipe, load_recipe, recipe_yaml
from lehr.config.runnable import check_runnable
from lehr.errors import from_os_error
from lehr.report import render_fragment
from tasks.lock import hold
from tasks.refs import RunRef, opened
from tasks.session import session
from tasks.settings import SMALL, owned


class Opened(NamedTuple):
    """A run, and the numbers of its anneals, over which they are mapped."""

    run: RunRef
    anneals: list[int]


def run_key(recipe: Recipe, root: Path) -> str:
    """Names a run in MLflow across restarts: the same recipe in the same folder goes on."""
    return sha256_text(canonical([str(root), recipe.model_dump(mode="json")]))[:16]


@task(**SMALL)
@owned
def open_run(recipe: str, out: str, overrides: list[str]) -> Opened:
    """Resolve the recipe at path `recipe` and pin it in the run's folder `out` (default runs/NAME)."""
    loaded = load_recipe(recipe, overrides).pinned()
    check_runnable(loaded)
    root = (Path(out) if out else Path("runs") / loaded.name).absolute()
    hold(root)
    try:
        write_atomic(root / "recipe.yaml", recipe_yaml(loaded))
    except OSError as error:
        raise from_os_error(error, root) from error
    command = os.environ.get("LEHR_COMMAND", "") or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    run = RunRef(recipe=loaded, root=str(root), key=run_key(loaded, root), command=command)
    session(run)
    return Opened(run=run, anneals=list(range(len(loaded.anneals.runs) if loaded.anneals else 0)))


@task(enable_deck=True, **SMALL)
@owned
def publish(
    run: RunRef,
    data: list[ArtifactRef],
    trained: list[ArtifactRef],
    annealed: list[ArtifactRef],
    base: list[ArtifactRef],
    pairs: Optional[ArtifactRef],  # noqa: UP045 (flytekit)
    tuned: list[ArtifactRef],
    scores: list[ArtifactRef],
    annealed_scores: list[ArtifactRef],
    tuned_scores: list[ArtifactRef],
) -> str:
    """Write scores.json, lineage.json, report.html and model/; the report is this task's Deck too. Returns its path.

    The lists stand in the order of the pipeline; Flyte cannot join a map's outputs to other promises in one list.
    """
    from lehr.stages import publish as stages

    s, root = session(run), Path(run.root)
    models = [*data, *trained, *annealed, *base, *([pairs] if pairs else []), *tuned]
    every = [*models, *scores, *annealed_scores, *tuned_scores]
    artifacts = list({ref.uri: ref for ref in every}.values())  # a stage that a recipe leaves out hands its parent on
    seconds = time.monotonic() - s.began
    report = stages.publish(
        run.recipe, root, [opened(ref) for ref in artifacts], run.command, frozenset(s.reuse.stages), seconds
    )
    Deck("Lehr", render_fragment(report))
    if s.mlflow is not None:
        s.mlflow.log_artifacts([root / name for name in ("report.html", "scores.json", "lineage.json", "recipe.yaml")])
    s.done = True
    s.tracker.note(f"report: {root / 'report.html'}")
    return str(root / "report.html")
