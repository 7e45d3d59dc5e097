"""`lehr run` and `lehr validate`: recipes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import click

from lehr.cli.failure import INTERRUPTED, owned_error
from lehr.cli.places import LOCAL
from lehr.cli.say import say
from lehr.runtime.errors import LehrError

SET_HELP = "Change one key of the recipe, such as stage1.tokens=200000. May be given several times."
recipe_argument = click.argument("recipe", type=LOCAL)
set_option = click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help=SET_HELP)


@dataclass(frozen=True)
class Asked:
    """The options of `lehr run`; `out` is None for runs/NAME."""

    out: str | None
    overrides: list[str]
    metrics_port: int
    mlflow: bool
    dry_run: bool = False


def run(recipe: Path, asked: Asked) -> int:
    """Check the recipe, then train it. Returns the exit code.

    A launcher's further ranks only follow: they say nothing, and end with the code of the first.
    """
    from lehr.distributed.rank_launcher import lead_or_follow
    from lehr.runtime.rank_environment import follows, yield_to_leader

    try:
        return lead_or_follow(lambda: _lead(recipe, asked))
    except (LehrError, KeyboardInterrupt) as error:
        if not follows():
            raise
        yield_to_leader()
        return error.exit_code if isinstance(error, LehrError) else INTERRUPTED


def _lead(recipe: Path, asked: Asked) -> int:
    from lehr.runtime.rank_environment import check_world
    from lehr.tasks.opening import resolved

    loaded = resolved(recipe, asked.overrides)  # before torch is loaded: a bad recipe fails at once
    for processes in sorted(loaded.world_sizes):
        check_world(processes)
    out = asked.out or str(Path("runs") / loaded.name)
    if asked.dry_run:
        from lehr.cli.dry_run import show

        return show(loaded, out)
    from lehr.cli.local import run_recipe

    try:
        return run_recipe(loaded, out, asked.metrics_port, asked.mlflow, recipe)
    except Exception as error:
        raise owned_error(error) or error from error


@click.command("run")
@recipe_argument
@click.option("--out", type=click.Path(), help="Folder of the run, or s3://BUCKET/PREFIX. [default: runs/NAME of the recipe]")
@set_option
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65_535),
    default=0,
    show_default=True,
    help="Serve Prometheus metrics on 127.0.0.1 at this port while training; 0 picks a free one.",
)
@click.option("--no-mlflow", is_flag=True, help="Do not track the run in MLflow.")
@click.option("--dry-run", is_flag=True, help="Make nothing: say which stages exist, which would be made, and what they take.")
@click.option("--debug-sync", is_flag=True, help="Slower: say after each training stage where the host waited for the device.")
def run_command(
    recipe: Path,
    out: str | None,
    overrides: tuple[str, ...],
    metrics_port: int,
    no_mlflow: bool,
    dry_run: bool,
    debug_sync: bool,
) -> int:
    """Train RECIPE: documents, pretraining, anneals, soup, post-training, scores, report.

    Everything goes into one folder: scores.json, lineage.json, footprint.json, report.html, the Hugging Face export in
    model/, and the artifacts of all stages. Finished stages are found again and not repeated, so the same command continues an
    interrupted run, and a changed recipe repeats only what the change touches.

    \b
    Examples:
      lehr run tiny/olmo2
      lehr run tiny/olmo2 --out second --set seed=8 --set 'anneals.seeds=[1, 2]'
      lehr run tiny/olmo2 --set anneals.tokens=300000 --dry-run
      lehr run tiny/olmo2 --metrics-port 9400   # curl 127.0.0.1:9400/metrics
    """
    if debug_sync:
        os.environ["LEHR_DEBUG_SYNC"] = "1"  # read on every rank
    return run(recipe, Asked(out, list(overrides), metrics_port, not no_mlflow, dry_run))


@click.command("validate")
@recipe_argument
@set_option
def validate(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Check RECIPE and print it with everything it inherits, as a run would pin it.

    A mistake is one line that names the file, the key, the value and the remedy; the exit code is 2. The files that the recipe
    names must be there; whether their rows are good is found by the run, before it trains. The verdict goes to stderr.

    \b
    Examples:
      lehr validate tiny/olmo2
      lehr validate tiny/olmo2 --set stage1.optim.lr=1e-3 > pinned.yaml
    """
    from lehr.config import load_recipe, recipe_yaml
    from lehr.config.runnable import check_files, still_to_supply
    from lehr.pipeline.graph import graph
    from lehr.tasks.run_location import local

    loaded = load_recipe(recipe, list(overrides), fetch=local)
    stages = len(graph(loaded))  # names that mean nothing are found here, too
    check_files(loaded)
    say(recipe_yaml(loaded), nl=False)
    absent = still_to_supply(loaded)
    for line in absent:
        say(f"to run it: {line}", err=True)
    said = f"it can be run once {'this is' if len(absent) == 1 else 'these are'} given" if absent else "it can be run"
    say(f"{loaded.name}: {stages} stages, no mistake; {said}", err=True)
