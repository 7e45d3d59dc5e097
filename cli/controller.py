"""`lehr controller`: the part of Lehr that watches a cluster's nodes and cordons the bad ones."""

from __future__ import annotations

from pathlib import Path

import click

from lehr.cli.places import LOCAL


@click.group("controller")
def controller() -> None:
    """Watch a cluster's nodes; cordon, test and release them."""


@controller.command("run")
@click.option("--settings", type=LOCAL, help="YAML file with the controller's settings and policy.")
@click.option("--namespace", "-n", "namespaces", multiple=True, help="Where training pods run; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Decide and log, but write nothing to the cluster.")
@click.option("--kubeconfig", type=LOCAL, help="Instead of KUBECONFIG or the one in your home.")
@click.option("--context", help="Of the kubeconfig; without it the current one.")
@click.pass_context
def run(
    click_context: click.Context,
    settings: Path | None,
    namespaces: tuple[str, ...],
    dry_run: bool,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    """Run the controller in the foreground until it is stopped.

    Decisions go to standard output, one JSON line each (`lehr simulate replay` reads them); what it does, to standard
    error. Two may run: a Lease says which one acts.

    \b
    Examples:
      lehr controller run --dry-run -n training            what would it do?
      lehr controller run --settings controller.yaml
    """
    from lehr.infra.controller.run import run as run_controller
    from lehr.infra.controller.settings import Settings

    chosen = Settings.load(settings) if settings is not None else Settings()
    changes = {**({"namespaces": namespaces} if namespaces else {}), **({"dry_run": True} if dry_run else {})}
    click_context.exit(run_controller(chosen.model_copy(update=changes), kubeconfig, context))
