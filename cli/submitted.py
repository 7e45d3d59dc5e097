"""`lehr status`, `lehr logs`, `lehr cancel`, `lehr open`: runs that `lehr submit` started."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lehr.cli.cluster import cluster_options, namespace_option, refusals
from lehr.cli.flyte import FLYTE, backend_option, flyte, flyte_options, refuse_namespace
from lehr.cli.say import say

if TYPE_CHECKING:
    from lehr.infra.kube.api import Api
    from lehr.infra.pod.stage_state import StageState
    from lehr.tasks.flyte_remote import Flyte

run_argument = click.argument("run", metavar="RUN")


def where_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What says where a run is: the backend, and how to reach it."""
    for options in (cluster_options, namespace_option, flyte_options, backend_option):
        command = options(command)
    return command


@dataclass(frozen=True)
class Where:
    """Where a submitted run is, as the options say. Raises UserError for one of the other backend."""

    backend: str
    project: str
    domain: str
    flyte_config: str
    namespace: str | None
    kubeconfig: Path | None
    context_name: str | None

    def __post_init__(self) -> None:
        refuse_namespace(self.backend, self.namespace)

    @property
    def on_flyte(self) -> bool:
        return self.backend == FLYTE

    def flyte(self) -> Flyte:
        return flyte(self.flyte_config, self.project, self.domain)

    def kubernetes(self) -> tuple[Api, str]:
        """The API server, and the namespace of the run's pods."""
        from lehr.infra.kube.api import Api
        from lehr.infra.kube.transport import connect, namespace_of

        own = f"{self.project}-{self.domain}" if self.on_flyte else self.namespace
        where = (self.kubeconfig, self.context_name)
        return Api(connect(*where)), own or namespace_of(*where)


@click.command("status")
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@where_options
def status(run: str, as_json: bool, **where: Any) -> None:
    """Show the stages of RUN, as `lehr submit` named it: which run, wait, are finished or failed, where, and why.

    The first row is Flyte's execution, or the driver, the pod that starts the others: what it says of a failed run is the
    reason.

    \b
    Examples:
      lehr status tiny-ol-1a2b3c4d-1
      lehr status tiny-olmo2-1a2b3c4d --backend kubernetes -n train
    """
    found = _states(Where(**where), run)
    if as_json:
        say(json.dumps([asdict(state) for state in found], indent=1))
        return
    from lehr.cli.tables import page, plain_table, text

    table = plain_table("", ("stage", "state", "pods", "pod", "node", "message"), right=("pods",))
    table.title = None
    for state in found:
        table.add_row(*map(text, (state.stage, state.state, str(state.pods), state.pod, state.node, state.said)))
    page(table)


def _states(where: Where, run: str) -> list[StageState]:
    if where.on_flyte:
        from lehr.tasks.flyte_states import states as of_execution

        return of_execution(where.flyte(), run)
    from lehr.infra.jobs.submitted import states

    api, place = where.kubernetes()
    with refusals(place):
        return states(api, place, run)


@click.command("logs")
@run_argument
@click.argument("stage", default="")
@click.option("--container", default="primary", show_default=True, help="`preflight` and `preflight-gate` come before it.")
@click.option("--index", type=click.IntRange(0), default=0, show_default=True, help="Of several nodes, without Flyte: which.")
@where_options
def logs(run: str, stage: str, container: str, index: int, **where: Any) -> None:
    """Print the log of STAGE of RUN, of its newest pod, on several nodes of rank 0's; without STAGE that of the driver, which
    says what was started.

    On Flyte a STAGE must be given, and its pod is read through your kubeconfig. A pod that failed is gone in seconds there:
    where Flyte was set up with log links, these are printed instead.

    \b
    Examples:
      lehr logs tiny-ol-1a2b3c4d-1 stage1
      lehr logs tiny-olmo2-1a2b3c4d stage1 --backend kubernetes
    """
    place = Where(**where)
    read = _log_on_flyte if place.on_flyte else _log
    for number, part in enumerate(read(place, run, stage, container, index)):
        if number:  # control characters but line ends are shown, not sent
            for line in part.splitlines():
                say(line)
        else:
            say(part, err=True)


def _log(where: Where, run: str, stage: str, container: str, index: int) -> list[str]:
    from lehr.infra.jobs.submission import DRIVER, selector
    from lehr.infra.jobs.submitted import LogOf, check_known, log

    api, place = where.kubernetes()
    stage = stage or DRIVER
    with refusals(place):
        check_known(api, place, run)
        return list(log(api, place, LogOf(run, stage, selector(run, stage), container, index)))


def _log_on_flyte(where: Where, run: str, stage: str, container: str, index: int) -> list[str]:
    from lehr.infra.jobs.submitted import LogOf, log
    from lehr.infra.pod.pod_request import execution_selector
    from lehr.runtime.errors import UserError
    from lehr.tasks.flyte_states import links

    there = where.flyte()
    if not stage:
        raise UserError("no stage is named", where=f"lehr logs {run}", remedy=f"`lehr status {run}` shows its stages")
    there.execution(run)
    api, place = where.kubernetes()
    try:
        with refusals(place):
            return list(log(api, place, LogOf(run, stage, execution_selector(run, stage), container, index)))
    except UserError as error:
        if found := links(there, run, stage):
            return [str(error), "\n".join(f"{title}: {address}" for title, address in found)]
        raise


@click.command("cancel")
@run_argument
@where_options
def cancel(run: str, **where: Any) -> None:
    """Stop RUN: its pods save what they have and end. The store keeps everything.

    \b
    Examples:
      lehr cancel tiny-ol-1a2b3c4d-1
      lehr cancel tiny-olmo2-1a2b3c4d --backend kubernetes
    """
    place = Where(**where)
    if place.on_flyte:
        done = place.flyte().cancel(run)
        say(f"cancelled: {run}{_GOES_ON}" if done else f"{run} had ended")
        return
    from lehr.infra.jobs.submitted import cancel as stop

    api, namespace = place.kubernetes()
    with refusals(namespace):
        jobs = stop(api, namespace, run)
    say(f"cancelled: {run}, {jobs} Jobs{_GOES_ON}")


_GOES_ON = "; `lehr submit` with the same recipe and --out goes on from what the store has"


@click.command("open")
@run_argument
@click.option("--print", "only_print", is_flag=True, help="Print the address and open nothing.")
@backend_option
@flyte_options
def open_(run: str, only_print: bool, backend: str, project: str, domain: str, flyte_config: str) -> None:
    """Open RUN in Flyte's console, with its graph, logs, report and errors.

    \b
    Example:
      lehr open tiny-ol-1a2b3c4d-1
    """
    if backend != FLYTE:
        from lehr.runtime.errors import UserError

        raise UserError(
            "without Flyte there is no console", where=f"--backend {backend}", remedy=f"`lehr status {run}` shows its stages"
        )
    there = flyte(flyte_config, project, domain)
    address = there.remote.generate_console_url(there.execution(run))
    say(address)
    if not only_print:
        webbrowser.open(address)
