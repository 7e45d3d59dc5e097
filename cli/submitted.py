"""`lehr status`, `lehr logs`, `lehr cancel`: runs that `lehr submit` started."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lehr.cli.cluster import cluster_options, namespace_option, refusals
from lehr.cli.say import say

if TYPE_CHECKING:
    from lehr.infra.kube.api import Api

run_argument = click.argument("run", metavar="RUN")


def _reach(kubeconfig: Path | None, context: str | None, namespace: str | None) -> tuple[Api, str]:
    from lehr.infra.kube.api import Api
    from lehr.infra.kube.transport import connect, namespace_of

    return Api(connect(kubeconfig, context)), namespace or namespace_of(kubeconfig, context)


@click.command("status")
@run_argument
@namespace_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@cluster_options
def status(run: str, namespace: str | None, as_json: bool, kubeconfig: Path | None, context_name: str | None) -> None:
    """Show the stages of RUN, as `lehr submit` named it: which run, wait, are finished or failed, where, and why.

    The first row is the driver, the pod that starts the others: what it says of a failed run is the reason.

    \b
    Example:
      lehr status tiny-olmo2-1a2b3c4d -n training
    """
    from lehr.infra.jobs.submitted import states

    api, place = _reach(kubeconfig, context_name, namespace)
    with refusals(place):
        found = states(api, place, run)
    if as_json:
        say(json.dumps([asdict(state) for state in found], indent=1))
        return
    from lehr.cli.tables import page, plain_table, text

    table = plain_table("", ("stage", "state", "pods", "pod", "node", "message"), right=("pods",))
    table.title = None
    for state in found:
        table.add_row(*map(text, (state.stage, state.state, str(state.pods), state.pod, state.node, state.said)))
    page(table)


@click.command("logs")
@run_argument
@click.argument("stage", default="driver")
@namespace_option
@click.option("--container", default="primary", show_default=True, help="`preflight` and `preflight-gate` come before it.")
@cluster_options
def logs(
    run: str, stage: str, namespace: str | None, container: str, kubeconfig: Path | None, context_name: str | None
) -> None:
    """Print the log of STAGE of RUN, of its newest pod; without STAGE that of the driver, which says what was started.

    \b
    Examples:
      lehr logs tiny-olmo2-1a2b3c4d
      lehr logs tiny-olmo2-1a2b3c4d stage1 --container preflight
    """
    from lehr.infra.jobs.submitted import log

    api, place = _reach(kubeconfig, context_name, namespace)
    with refusals(place):
        for number, part in enumerate(log(api, place, run, stage, container)):
            if number:  # control characters but line ends are shown, not sent
                for line in part.splitlines():
                    say(line)
            else:
                say(part, err=True)


@click.command("cancel")
@run_argument
@namespace_option
@cluster_options
def cancel(run: str, namespace: str | None, kubeconfig: Path | None, context_name: str | None) -> None:
    """Stop RUN: its pods save what they have and end, and nothing of it stays in the cluster. The store keeps everything.

    \b
    Example:
      lehr cancel tiny-olmo2-1a2b3c4d
    """
    from lehr.infra.jobs.submitted import cancel as stop

    api, place = _reach(kubeconfig, context_name, namespace)
    with refusals(place):
        jobs = stop(api, place, run)
    say(f"cancelled: {run}, {jobs} Jobs; `lehr submit` with the same recipe and --out goes on from what the store has")
