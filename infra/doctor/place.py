"""Where in a cluster the checks look, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lehr.infra.fleet.policy import GPU_RESOURCE, NAMES
from lehr.infra.kube.api import ABSENT, FORBIDDEN, Api, ApiError, Object
from lehr.runtime.errors import LehrError, UserError
from lehr.runtime.findings import Finding, fail, of_error, ok, unseen

UNKNOWN = 401
OURS = {"labelSelector": "app.kubernetes.io/part-of=lehr"}


@dataclass(frozen=True)
class Place:
    """`namespace` is that of the training pods, `system` the controller's, `flyte` Flyte's own. `version` is this Lehr's;
    `stage_nodes` how many nodes one stage is to take."""

    api: Api
    namespace: str
    version: str
    system: str = NAMES.namespace
    flyte: str = "flyte"
    gpu_resource: str = GPU_RESOURCE
    stage_nodes: int = 1

    def there(self, path: str) -> Object | None:
        """The object at `path`, None if there is none. Raises ApiError, also where it may not be read."""
        try:
            return self.api.get(path)
        except ApiError as error:
            if error.status == ABSENT:
                return None
            raise


def guarded(check: str, look: Callable[[], Finding]) -> Finding:
    """What `look` finds, or what its error says."""
    try:
        return look()
    except LehrError as error:
        return refusal(check, error)


def refusal(check: str, error: LehrError) -> Finding:
    """What may not be read was not looked at; a cluster that fails, or does not know who asks, is a failed check."""
    if isinstance(error, ApiError) and error.status == FORBIDDEN:
        return unseen(check, f"you may not: {error.message}")
    if isinstance(error, ApiError) and error.status == UNKNOWN:
        return fail(check, "the cluster does not know you", "log in again; see your kubeconfig")
    return of_error(check, error)


def asked(check: str, ask: Callable[[], str], good: str) -> Finding:
    """The finding of a check of `lehr submit`: it raises UserError, or says why it could not look."""
    try:
        note = ask()
    except UserError as error:  # without its option, which is not one of this command
        return fail(check, error.what, error.remedy)
    return unseen(check, note.removeprefix("not looked at: ")) if note else ok(check, good)


def labels(item: Object) -> dict[str, str]:
    found: dict[str, str] = item.get("metadata", {}).get("labels") or {}
    return found
