"""Why Kubernetes makes no pod of a Job: a quota, a LimitRange, a policy. The Job itself does not say so, its events do; and
whether a quota could ever have room for a stage."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from lehr.infra.kube.api import FORBIDDEN, Api, ApiError
from lehr.infra.pod.pod_request import PodRequest
from lehr.infra.pod.stage_state import with_remedy
from lehr.runtime.errors import UserError

Object = dict[str, Any]
MESSAGE_CHARACTERS = 500
_SAID = "Error creating: "  # how the Job controller begins


def refusal(api: Api, namespace: str, job: Object) -> str:
    """The newest refusal of a pod of `job`, in Kubernetes' words and with a remedy; "" if there was none. Raises ApiError."""
    meta = job["metadata"]
    chosen = {"fieldSelector": f"involvedObject.uid={meta['uid']},reason=FailedCreate"}
    try:
        found = api.items(f"/api/v1/namespaces/{namespace}/events", chosen)
    except ApiError as error:
        if error.status != FORBIDDEN:
            raise
        return f"it has no pod, and you may not see its events: kubectl describe job -n {namespace} {meta['name']}"
    newest = max(found, key=lambda event: str(event.get("lastTimestamp") or ""), default={})
    return with_remedy(str(newest.get("message") or "").removeprefix(_SAID)[:MESSAGE_CHARACTERS])


def check_quotas(api: Api, namespace: str, asked: Mapping[str, PodRequest], beside: PodRequest | None = None) -> str:
    """Raises UserError for a stage that no quota of the namespace has room for, however empty it is; returns why they were not
    looked at, "" if they were. `beside` runs as long as the stages do. Quotas for some pods only are passed over."""
    try:
        quotas = api.items(f"/api/v1/namespaces/{namespace}/resourcequotas")
    except ApiError as error:
        if error.status == FORBIDDEN:
            return f"not looked at: the quotas of {namespace} ({error.message})"
        raise
    for quota in quotas:
        spec = quota.get("spec") or {}
        if not spec.get("scopes") and not spec.get("scopeSelector"):
            for stage, one in asked.items():
                _fits(str(quota["metadata"]["name"]), spec.get("hard") or {}, stage, _amounts(one, beside))
    return ""


def _fits(quota: str, hard: Mapping[str, str], stage: str, amounts: Mapping[str, Decimal]) -> None:
    for key, most in hard.items():
        amount = amounts.get(key.removeprefix("requests.").removeprefix("limits."))
        if amount is not None and amount > _number(most):
            what = f"{stage} needs {_shown(amount)} of {key} at once, and the quota {quota} gives {most} in all"
            raise UserError(what, where="compute", remedy="ask for less with `compute` in the recipe, or have the quota raised")


def _amounts(one: PodRequest, beside: PodRequest | None) -> dict[str, Decimal]:
    """What the pods of a stage and the one beside them ask for together. Requests are limits too."""
    found: dict[str, Decimal] = {}
    for pod, times in ((one, one.nodes), *([(beside, 1)] if beside is not None else [])):
        amounts = {"pods": "1", "cpu": pod.cpu, "memory": pod.memory, "ephemeral-storage": pod.disk}
        amounts |= {pod.gpu_resource: str(pod.gpus)}
        for name, amount in amounts.items():
            if amount:
                found[name] = found.get(name, Decimal(0)) + times * _number(amount)
    return found


def _number(text: str) -> Decimal:
    from kubernetes.utils.quantity import parse_quantity

    try:
        return Decimal(parse_quantity(text))
    except ValueError:  # the API server is stricter than we are
        return Decimal("Infinity")


def _shown(amount: Decimal) -> str:
    gib = amount / 2**30
    return f"{gib.normalize():f}Gi" if gib >= 1 and gib == gib.to_integral_value() else f"{amount.normalize():f}"
