"""`lehr nodes`: what the fleet's nodes are like, and a person's word about them, which always wins."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lehr.cli.cluster import gpu_resource_option
from lehr.cli.places import LOCAL
from lehr.cli.say import say

if TYPE_CHECKING:
    from lehr.infra.fleet.views import HumanAct
    from lehr.infra.kube.api import Api

GPU_RESOURCE = "lehr.gpu_resource"  # where click keeps it for the commands of this group
UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0}


@click.group("nodes")
@click.option("--kubeconfig", type=LOCAL, help="Instead of KUBECONFIG or the one in your home.")
@click.option("--context", "context_name", help="Of the kubeconfig; without it the current one.")
@gpu_resource_option
@click.pass_context
def nodes(context: click.Context, kubeconfig: Path | None, context_name: str | None, gpu_resource: str) -> None:
    """See the nodes of a cluster, cordon or release one with a reason, or report one that is bad.

    A person's cordon or uncordon always wins over the controller. Whoever may not touch nodes can report them.
    """
    context.obj = (kubeconfig, context_name)
    context.meta[GPU_RESOURCE] = gpu_resource


def _api(context: click.Context) -> Api:
    from lehr.infra.kube.api import Api
    from lehr.infra.kube.transport import connect

    return Api(connect(*context.obj))


@contextmanager
def _refusals(what: str, where: str, instead: str = "") -> Iterator[None]:
    """Turn the server's refusal into what the person may not do, and what to do instead."""
    from lehr.infra.kube.api import ApiError
    from lehr.runtime.errors import UserError

    try:
        yield
    except ApiError as error:
        if error.status == 403:
            raise UserError(f"you may not {what} ({error.message})", where=where, remedy=instead) from error
        if error.status == 401:
            raise UserError("the cluster does not know you", where=where, remedy="log in again; see your kubeconfig") from error
        if error.status == 404:
            raise UserError(error.message, where=where, remedy="`lehr nodes list` shows what there is") from error
        if error.status in (400, 422):
            raise UserError(error.message, where=where) from error
        raise


reason_option = click.option("--reason", required=True, help="Why; kept with your name.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@nodes.command("list")
@click.option("--selector", "-l", default="", help="Label selector, as kubectl takes it.")
@click.option("--state", "states", multiple=True, help="Only nodes in this state; may be repeated.")
@json_option
@click.pass_context
def list_nodes(context: click.Context, selector: str, states: tuple[str, ...], as_json: bool) -> None:
    """List nodes with their state, and why and by whom they are cordoned.

    \b
    Examples:
      lehr nodes list
      lehr nodes list --state quarantined --state repair
      lehr nodes list -l lehr.dev/pool=h100 --json
    """
    from lehr.cli.nodes_shown import as_data, node_table
    from lehr.cli.tables import console
    from lehr.infra.controller.node_commands import listed

    with _refusals("list nodes", "nodes"):
        found = [
            node for node in listed(_api(context), selector, context.meta[GPU_RESOURCE]) if not states or node.state in states
        ]
    if as_json:
        say(json.dumps([as_data(node) for node in found]))
    else:
        console().print(node_table(found, time.time()))


@nodes.command("show")
@click.argument("node")
@json_option
@click.pass_context
def show_node(context: click.Context, node: str, as_json: bool) -> None:
    """Show all that is known about NODE."""
    from lehr.cli.nodes_shown import as_data, detail_table
    from lehr.cli.tables import console
    from lehr.infra.controller.node_commands import one

    with _refusals("read nodes", node):
        found = one(_api(context), node, context.meta[GPU_RESOURCE])
    if as_json:
        say(json.dumps(as_data(found)))
    else:
        console().print(detail_table(found, time.time()))


@nodes.command("history")
@click.argument("node")
@json_option
@click.pass_context
def history(context: click.Context, node: str, as_json: bool) -> None:
    """Show what happened to NODE, oldest first: quarantines, reports, people's acts, and recent events."""
    from lehr.cli.nodes_shown import history_table
    from lehr.cli.tables import console
    from lehr.infra.controller.node_commands import events_of, one
    from lehr.infra.controller.node_commands import history as history_of
    from lehr.infra.kube.api import ApiError

    api = _api(context)
    with _refusals("read nodes", node):
        found = one(api, node)
    try:
        events = events_of(api, node)
    except ApiError as error:
        say(f"without events: {error.message}", err=True)
        events = []
    lines = history_of(found, events)
    if as_json:
        say(json.dumps([vars(line) for line in lines]))
    else:
        console().print(history_table(lines))


def _act(api: Api, reason: str, hours: float | None = None) -> HumanAct:
    from lehr.infra.controller.node_commands import whoami
    from lehr.infra.fleet.views import HumanAct
    from lehr.runtime.errors import UserError

    if not reason.strip():
        raise UserError("the reason is empty", where="--reason", remedy="say why: others will read it")
    now = time.time()
    return HumanAct(whoami(api), " ".join(reason.split())[:500], now, now + hours if hours is not None else None)


def _do(context: click.Context, node: str, what: str, reason: str, until: str | None, act: Callable[..., Any]) -> HumanAct:
    from lehr.runtime.errors import UserError

    spell = None
    if until is not None:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", until)
        if match is None or float(match[1]) == 0:
            raise UserError(f"{until!r} is not a time", where="--for", remedy="write 30m, 4h or 2d")
        spell = float(match[1]) * UNITS[match[2]]
    api = _api(context)
    instead = f"ask an operator, or run: lehr nodes report {node} --reason '...'"
    with _refusals(what, node, instead):
        person = _act(api, reason, spell)
        act(api, node, person)
    return person


@nodes.command("cordon")
@click.argument("node")
@reason_option
@click.option("--for", "until", metavar="TIME", help="Lift it by itself after 30m, 4h or 2d.")
@click.pass_context
def cordon(context: click.Context, node: str, reason: str, until: str | None) -> None:
    """Keep new work off NODE until you lift it. What runs there goes on.

    \b
    Examples:
      lehr nodes cordon gpu-17 --reason "replacing the NIC"
      lehr nodes cordon gpu-17 --reason "debugging NCCL" --for 4h
    """
    from lehr.infra.controller import node_commands as acts

    person = _do(context, node, "cordon nodes", reason, until, acts.cordon)
    say(f"{node} is cordoned by {person.by}: {person.reason}")


@nodes.command("uncordon")
@click.argument("node")
@reason_option
@click.pass_context
def uncordon(context: click.Context, node: str, reason: str) -> None:
    """Let work onto NODE again, whoever cordoned it. The controller will not cordon it for a day."""
    from lehr.infra.controller import node_commands as acts

    person = _do(context, node, "uncordon nodes", reason, None, acts.uncordon)
    say(f"{node} is open again, says {person.by}: {person.reason}")


@nodes.command("repaired")
@click.argument("node")
@reason_option
@click.pass_context
def repaired(context: click.Context, node: str, reason: str) -> None:
    """Say that NODE was repaired. It is tested again, and returns to service when it passes."""
    from lehr.infra.controller import node_commands as acts

    person = _do(context, node, "change nodes", reason, None, acts.repaired)
    say(f"{node} will be tested again, says {person.by}: {person.reason}")


def _must_exist(api: Api, node: str) -> None:
    """A mistyped name would be a report of nothing; whoever may not read nodes is believed. Raises ApiError."""
    from lehr.infra.controller.node_commands import one
    from lehr.infra.kube.api import ApiError

    try:
        one(api, node)
    except ApiError as error:
        if error.status == 404:
            raise


@nodes.command("report")
@click.argument("node")
@reason_option
@click.option("--namespace", "-n", help="Yours; without it the kubeconfig's.")
@click.pass_context
def report(context: click.Context, node: str, reason: str, namespace: str | None) -> None:
    """Report NODE as bad. Needs no right on nodes; two people's reports, or one's that is usually right, weigh most."""
    from lehr.infra.controller.node_commands import report as send
    from lehr.infra.kube.transport import namespace_of

    api = _api(context)
    place = namespace or namespace_of(*context.obj)
    with _refusals(f"report nodes in namespace {place}", node, "choose your own namespace with -n, or ask for lehr-reporter"):
        _must_exist(api, node)
        person = _act(api, reason)
        name = send(api, place, node, person.reason, person.by)
    say(f"reported {node} as {person.by}: {place}/{name}")


@nodes.command("close-breaker")
@click.argument("breaker")
@reason_option
@click.option("--system-namespace", default="lehr-system", show_default=True, help="Of the controller.")
@click.pass_context
def close_breaker(context: click.Context, breaker: str, reason: str, system_namespace: str) -> None:
    """Close BREAKER by hand (pool/NAME, check/NAME@VERSION, rack/NAME) once you know why it opened."""
    from lehr.infra.controller.node_commands import close_breaker as close
    from lehr.runtime.errors import UserError

    if not re.fullmatch(r"(pool|check|rack)/.+", breaker):
        raise UserError(
            f"{breaker!r} is not a breaker that can be closed", remedy="write pool/NAME, check/NAME@VERSION or rack/NAME"
        )
    api = _api(context)
    with _refusals("change the controller's Lease", breaker, "ask an operator"):
        person = _act(api, reason)
        close(api, system_namespace, "lehr-controller", breaker, person)
    say(f"{breaker} is closed by {person.by}: {person.reason}")
