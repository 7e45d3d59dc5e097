"""What commands that talk to Flyte share: which one, and where it applies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lehr.tasks.flyte_remote import Flyte

FLYTE, KUBERNETES = "flyte", "kubernetes"
PROJECT, DOMAIN = "lehr", "development"
backend_option = click.option(
    "--backend",
    type=click.Choice([FLYTE, KUBERNETES]),
    default=FLYTE,
    show_default=True,
    envvar="LEHR_BACKEND",
    help="What runs the stages: Flyte, or plain Jobs; or LEHR_BACKEND.",
)


def flyte_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--project, --domain and --flyte-config."""
    for option in (
        click.option("--flyte-config", default="", help="Instead of FLYTECTL_CONFIG or ~/.flyte/config.yaml."),
        click.option("--domain", default=DOMAIN, show_default=True, envvar="LEHR_FLYTE_DOMAIN", help="On Flyte."),
        click.option("--project", default=PROJECT, show_default=True, envvar="LEHR_FLYTE_PROJECT", help="On Flyte."),
    ):
        command = option(command)
    return command


def flyte(config_file: str, project: str, domain: str) -> Flyte:
    """Raises UserError if flytekit is not installed, or no Flyte is named."""
    from importlib.util import find_spec

    from lehr.runtime.errors import UserError

    if find_spec("flytekit") is None:
        remedy = "pip install 'lehr[flyte]' with Python 3.11 or 3.12, or give --backend kubernetes"
        raise UserError("flytekit is not installed", remedy=remedy)
    from lehr.tasks.flyte_remote import Flyte

    return Flyte(config_file, project, domain)


def refuse_namespace(backend: str, namespace: str | None) -> None:
    """Raises UserError for an option of the other backend: it would be passed over."""
    from lehr.runtime.errors import UserError

    if backend == FLYTE and namespace:
        remedy = "give --project and --domain, or --backend kubernetes"
        raise UserError("Flyte's pods run in the namespace PROJECT-DOMAIN", where=f"--namespace {namespace}", remedy=remedy)
