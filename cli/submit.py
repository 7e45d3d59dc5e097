"""`lehr submit`: start a run on a cluster, on Flyte or without it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lehr.cli.cluster import cluster_options, gpu_resource_option, namespace_option
from lehr.cli.flyte import FLYTE, backend_option, flyte_options, refuse_namespace
from lehr.cli.run import recipe_argument, set_option

if TYPE_CHECKING:
    from lehr.cli.backends import Backend
    from lehr.config import Recipe
    from lehr.infra.pod.pod_request import PodRequest


@click.command("submit")
@recipe_argument
@click.option("--out", required=True, help="s3://BUCKET/PREFIX of the run.")
@click.option("--image", default="", envvar="LEHR_IMAGE", help="Of Lehr, as the cluster pulls it; or LEHR_IMAGE.")
@backend_option
@flyte_options
@namespace_option
@click.option("--secret", default="", help="Name of a Secret there whose entries are the store's variables.")
@click.option("--service-account", default="", help="Of the stages' pods, for workload identity.")
@click.option("--parallel", type=click.IntRange(1, 1000), default=8, show_default=True, help="Stages that run at a time.")
@click.option("--in-image", multiple=True, metavar="FOLDER", help="Files below it are in the image too. May be repeated.")
@gpu_resource_option
@set_option
@cluster_options
def submit(
    recipe: Path, out: str, image: str, backend: str, project: str, domain: str, flyte_config: str, namespace: str | None,
    secret: str, service_account: str, parallel: int, in_image: tuple[str, ...], gpu_resource: str,
    overrides: tuple[str, ...], kubeconfig: Path | None, context_name: str | None,
) -> None:  # fmt: skip
    """Run RECIPE on a cluster: each stage in a pod of its own. Nothing on this machine has to keep running.

    The recipe is resolved, checked and pinned here, and data files that it names, up to 8 MiB, go into the store with it. What
    Flyte lacks of Lehr's tasks is registered. The credentials that are used here are not sent: pods get theirs from --secret or
    from their service account. The same command again continues a run that failed or was cancelled.

    Which Flyte: FLYTECTL_CONFIG, ~/.flyte/config.yaml or FLYTE_PLATFORM_URL says, as for flytectl. Without Flyte, with
    --backend kubernetes, a small pod there starts the others.

    \b
    Examples:
      export LEHR_IMAGE=example.org/lehr:1
      lehr submit tiny/olmo2 --out s3://b/tiny --secret store
      lehr submit mine/recipe.yaml --out s3://b/mine --domain production
      lehr submit tiny/olmo1 --out s3://b/1 --backend kubernetes -n training
    """
    from lehr.cli.backends import FlyteBackend, Given, KubernetesBackend
    from lehr.tasks.opening import open_run, resolved
    from lehr.tasks.travel import packed, send

    _refuse_out(out)
    refuse_namespace(backend, namespace)
    loaded, files = packed(resolved(recipe, list(overrides)), in_image)
    asked = _asked(loaded)
    given = Given(out, image, secret, service_account, parallel, kubeconfig, context_name, gpu_resource)
    on_flyte = backend == FLYTE
    chosen: Backend = FlyteBackend(given, flyte_config, project, domain) if on_flyte else KubernetesBackend(given, namespace)
    chosen.check(asked)
    run = open_run(loaded, out, recipe, _command()).run
    send(files, run.root)
    chosen.start(loaded, run)


def _command() -> str:
    """This command, for the report."""
    from lehr.runtime.redaction import masked

    return masked(shlex.join(["lehr", *sys.argv[1:]]))


def _refuse_out(out: str) -> None:
    """Raises UserError for a folder: no pod would have it."""
    from lehr.runtime.errors import UserError
    from lehr.runtime.paths import store_address

    if store_address(out) is None:
        raise UserError("a folder of this machine is in no pod", where=f"--out {out}", remedy="give s3://BUCKET/PREFIX")


def _asked(recipe: Recipe) -> dict[str, PodRequest]:
    """What the pods of each stage ask for. Raises UserError for what no cluster could give."""
    from lehr.pipeline.graph import graph
    from lehr.tasks.requests import requests

    return requests(recipe, graph(recipe))
