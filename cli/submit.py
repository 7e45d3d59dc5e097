"""`lehr submit`: start a run on a Kubernetes cluster, without Flyte."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lehr.cli.cluster import cluster_options, namespace_option, refusals
from lehr.cli.run import recipe_argument, set_option
from lehr.cli.say import say, this_command

if TYPE_CHECKING:
    from lehr.config import Recipe
    from lehr.infra.jobs.submission import Submission
    from lehr.infra.kube.api import Api


@click.command("submit")
@recipe_argument
@click.option("--backend", type=click.Choice(["kubernetes"]), required=True, help="What runs the stages: a Job for each.")
@click.option("--out", required=True, help="s3://BUCKET/PREFIX of the run.")
@click.option("--image", default="", envvar="LEHR_IMAGE", help="Of Lehr, as the cluster pulls it; or LEHR_IMAGE.")
@namespace_option
@click.option("--secret", default="", help="Name of a Secret there whose entries are the store's variables.")
@click.option("--service-account", default="", help="Of the stages' pods, for workload identity.")
@click.option("--parallel", type=click.IntRange(1, 1000), default=8, show_default=True, help="Stages that run at a time.")
@click.option("--in-image", multiple=True, metavar="FOLDER", help="Files below it are in the image too. May be repeated.")
@set_option
@cluster_options
def submit(
    recipe: Path, backend: str, out: str, image: str, namespace: str | None, secret: str, service_account: str,
    parallel: int, in_image: tuple[str, ...], overrides: tuple[str, ...], kubeconfig: Path | None, context_name: str | None,
) -> None:  # fmt: skip
    """Run RECIPE on a cluster: each stage in a pod of its own. A small pod there starts them: nothing on this machine has to
    keep running.

    The recipe is resolved, checked and pinned here, and data files that it names, up to 8 MiB, go into the store with it. The
    credentials that are used here are not sent: pods get theirs from --secret or from their service account. The same command
    again continues a run that failed or was cancelled.

    \b
    Examples:
      export LEHR_IMAGE=example.org/lehr:1
      lehr submit tiny/olmo2 --backend kubernetes --out s3://b/tiny --secret store
      lehr submit tiny/olmo1 --backend kubernetes --out s3://b/olmo1 -n training
    """
    from lehr.infra.kube.api import Api
    from lehr.infra.kube.transport import connect, namespace_of
    from lehr.tasks.opening import resolved
    from lehr.tasks.travel import packed

    _refuse_out(out)
    loaded, files = packed(resolved(recipe, list(overrides)), in_image)
    gpus = _asked_gpus(loaded)
    api = Api(connect(kubeconfig, context_name))
    place = namespace or namespace_of(kubeconfig, context_name)
    wanted = {"namespace": place, "image": image, "secret": secret, "account": service_account, "parallel": parallel}
    with refusals(place):
        _check(api, wanted, gpus)
        submission = _open(loaded, files, out, recipe, wanted)
        _start(api, submission, out)


def _refuse_out(out: str) -> None:
    """Raises UserError for a folder: no pod would have it."""
    from lehr.runtime.errors import UserError
    from lehr.runtime.paths import store_address

    if store_address(out) is None:
        raise UserError("a folder of this machine is in no pod", where=f"--out {out}", remedy="give s3://BUCKET/PREFIX")


def _asked_gpus(recipe: Recipe) -> dict[str, int]:
    """GPUs by stage. Raises UserError for a graph that Jobs cannot run."""
    from lehr.infra.jobs.submission import DRIVER
    from lehr.pipeline.graph import graph
    from lehr.runtime.errors import UserError
    from lehr.tasks.requests import requests

    nodes = graph(recipe)
    if DRIVER in {node.name for node in nodes}:
        raise UserError(f"a step may not be named {DRIVER!r} here", where="posttraining", remedy="give it another name")
    asked = requests(recipe, nodes)
    if several := next((name for name, one in asked.items() if one.nodes > 1), ""):
        what = "a stage on several nodes is not run by --backend kubernetes"
        raise UserError(what, where=f"compute, for {several}", remedy="ask for one node, or use Flyte")
    return {name: one.gpus for name, one in asked.items()}


def _check(api: Api, wanted: dict[str, Any], gpus: dict[str, int]) -> None:
    """Raises UserError for what cannot work on this cluster."""
    from lehr.infra.jobs.checks import check
    from lehr.infra.jobs.submission import Submission

    for note in check(api, Submission("checked", run={}, recipe="", **wanted), gpus):
        say(note, err=True)


def _open(recipe: Recipe, files: dict[str, Path], out: str, source: Path, wanted: dict[str, Any]) -> Submission:
    """Pin the recipe and put its files into the store."""
    from lehr.infra.jobs.submission import Submission
    from lehr.infra.pod.pod_request import run_name
    from lehr.runtime.redaction import masked
    from lehr.tasks.opening import open_run
    from lehr.tasks.travel import send

    os.environ["LEHR_COMMAND"] = masked(shlex.join(["lehr", *sys.argv[1:]]))
    run = open_run(recipe, out, source).run
    send(files, run.root)
    return Submission(run_name(recipe.name, run.key), run=run.model_dump(mode="json"), recipe=recipe.name, **wanted)


def _start(api: Api, submission: Submission, out: str) -> None:
    from lehr.infra.jobs.specs import driver_job
    from lehr.infra.jobs.submitted import submit as start

    name, lehr = submission.name, this_command()
    job = driver_job(submission, ["python", "-m", "lehr.cli.driver"])
    begun = start(api, job)
    say(f"{'started' if begun else 'at work already'}: {name} in the namespace {submission.namespace}")
    where = f" -n {shlex.quote(submission.namespace)}"
    for word, what in (("status", f"{name}{where}"), ("logs", f"{name}{where}"), ("cancel", f"{name}{where}")):
        say(f"{word + ':':9}{lehr} {word} {what}")
    say(f"report:  {out.rstrip('/')}/report.html, at the end")
