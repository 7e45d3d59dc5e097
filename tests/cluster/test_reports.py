"""A person's report of a node, as the real API server takes and refuses it."""

from __future__ import annotations

import pytest

from lehr.infra.fleet.policy import NAMES
from lehr.infra.kube.api import Api, ApiError, Object
from tests.cluster.conftest import TRAINING, World, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def test_nobody_reports_in_anothers_name(world: World) -> None:
    reports = f"/apis/{NAMES.prefix}/v1/namespaces/{TRAINING}/nodereports"
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "lehr-reporter"}
    binding = {"metadata": {"name": "alice"}, "roleRef": role, "subjects": [{"kind": "User", "name": "alice"}]}
    world.admin.create(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{TRAINING}/rolebindings", binding)
    alice = Api(world.transport(world.plane.kubeconfig("alice", "alice-token")))

    def report(by: str) -> Object:
        body = {"apiVersion": "lehr.dev/v1", "kind": "NodeReport", "metadata": {"generateName": "r-"}}
        return alice.create(reports, {**body, "spec": {"node": "n", "reason": "slow", "by": by}})

    made: list[Object] = []
    eventually(lambda: made.append(report("alice")) or made, "alice may report")
    with pytest.raises(ApiError, match="your own name"):
        report("bob")
    with pytest.raises(ApiError) as error:
        alice.merge(f"{reports}/{made[0]['metadata']['name']}", {"spec": {"by": "bob"}})
    assert error.value.status == 403
    world.admin.delete(f"{reports}/{made[0]['metadata']['name']}", made[0]["metadata"]["uid"])
