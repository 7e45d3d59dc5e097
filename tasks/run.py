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
from tasks import ranks
from tasks.lock import hold
from tasks.place import Place
from tasks.refs import RunRef, opened
from tasks.session import session
from tasks.settings import SMALL, owned

PUBLIC = ("report.html", "scores.json", "lineage.json", "recipe.yaml")


class Opened(NamedTuple):
    """A run, and the numbers of its anneals, over which they are mapped."""

    run: RunRef
    anneals: list[int]


def run_key(recipe: Recipe, root: str | Path) -> str:
    """Names a run in MLflow across restarts: the same recipe in the same place goes on."""
    return sha256_text(canonical([str(root), recipe.model_dump(mode="json")]))[:16]


@task(**SMALL)
@owned
def open_run(recipe: str, out: str, overrides: list[str]) -> Opened:
    """Resolve the recipe at path `recipe` and pin it in `out`, a folder or s3://BUCKET/PREFIX (default runs/NAME)."""
    loaded = load_recipe(recipe, overrides).pinned()
    check_runnable(loaded)
    ranks.check(loaded.parallel.processes)
    place = Place(out or Path("runs") / loaded.name)
    place.check()
    hold(place.folder, place.root)
    try:
        write_atomic(place.folder / "recipe.yaml", recipe_yaml(loaded))
    except OSError as error:
        raise from_os_error(error, place.folder) from error
    place.share(["recipe.yaml"])
    command = os.environ.get("LEHR_COMMAND", "") or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    run = RunRef(recipe=loaded, root=place.root, key=run_key(loaded, place.root), command=command)
    session(run)
    return Opened(run=run, anneals=list(range(len(loaded.anneals.runs) if loaded.anneals else 0)))


# Without flytekit's own fields: one of them is `pip freeze`, seconds at the end of every run.
@task(enable_deck=True, deck_fields=(), **SMALL)
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

    s, place = session(run), Place(run.root)
    models = [*data, *trained, *annealed, *base, *([pairs] if pairs else []), *tuned]
    every = [*models, *scores, *annealed_scores, *tuned_scores]
    artifacts = list({ref.uri: ref for ref in every}.values())  # a stage that a recipe leaves out hands its parent on
    seconds = time.monotonic() - s.began
    report = stages.publish(
        run.recipe, place.folder, [opened(ref) for ref in artifacts], run.command, frozenset(s.reuse.stages), seconds
    )
    Deck("Lehr", render_fragment(report))
    place.share([*PUBLIC, "model"])
    if s.mlflow is not None:
        s.mlflow.log_artifacts([place.folder / name for name in PUBLIC])
    s.done = True
    s.tracker.note(f"report: {place.shown('report.html')}")
    return place.shown("report.html")
