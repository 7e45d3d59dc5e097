"""What the own account may do, as the API server answers it."""

from __future__ import annotations

from collections.abc import Mapping

from lehr.infra.kube.api import Api

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def allowed(api: Api, asked: Mapping[str, str]) -> bool:
    """Whether it may do what is `asked`: verb, group, resource, namespace and so on; empty ones are left out. Raises ApiError
    and InfraError."""
    spec = {"resourceAttributes": {key: value for key, value in asked.items() if value}}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
    return bool(api.create(REVIEWS, review)["status"].get("allowed"))
