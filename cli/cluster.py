"""What commands that talk to a cluster share: how it is found, and what its refusals mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from lehr.cli.places import LOCAL

namespace_option = click.option("--namespace", "-n", help="Of the pods; without it the kubeconfig's.")

gpu_resource_option = click.option(
    "--gpu-resource", default="nvidia.com/gpu", show_default=True, envvar="LEHR_GPU_RESOURCE", metavar="NAME",
    help="Of a GPU, as the chart's nodes.gpuResource; or LEHR_GPU_RESOURCE.",
)  # fmt: skip


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--kubeconfig and --context."""
    named = click.option("--context", "context_name", help="Of the kubeconfig; without it the current one.")
    return click.option("--kubeconfig", type=LOCAL, help="Instead of KUBECONFIG or the one in your home.")(named(command))


@contextmanager
def refusals(namespace: str) -> Iterator[None]:
    """Turn the server's refusal into a UserError with what to do about it."""
    from lehr.infra.jobs.checks import grant
    from lehr.infra.kube.api import ApiError
    from lehr.runtime.errors import UserError

    try:
        yield
    except ApiError as error:
        if error.status == 403:
            raise UserError(f"you may not do this ({error.message})", where=namespace, remedy=grant(namespace)) from error
        if error.status == 401:
            raise UserError(
                "the cluster does not know you", where=namespace, remedy="log in again; see your kubeconfig"
            ) from error
        if error.status in (400, 404, 422):
            raise UserError(error.message, where=namespace) from error
        raise
