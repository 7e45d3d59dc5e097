"""What Alertmanager does with the alerts: who gets them, and which keep others quiet. What breaks for everybody pages once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Inhibition:
    """While one of `causes` fires, none of `effects` is sent, for the same values of the labels `equal`."""

    causes: Sequence[str]
    effects: Sequence[str]
    equal: Sequence[str]

    def rendered(self) -> dict[str, Any]:
        """As Alertmanager reads it."""
        return {
            "source_matchers": [f'alertname =~ "{"|".join(self.causes)}"'],
            "target_matchers": [f'alertname =~ "{"|".join(self.effects)}"'],
            "equal": list(self.equal),
        }


OF_NODES = ("LehrQuarantineLong", "LehrSparesLow", "LehrFalseCordons", "LehrStraggler")
CLUSTER, RUN, STAGE = ("cluster",), ("cluster", "namespace", "run"), ("cluster", "namespace", "run", "stage")
SERVICE, SERVER = ("cluster", "namespace", "job"), ("cluster", "namespace", "job", "instance")
BLIND = ("LehrControllerDown", "LehrNoLeader", "LehrControllerDecidesNothing")
OF_A_RUN = ("LehrStalled", "LehrCheckpointOld", "LehrCrashLoop", "LehrDataStall", "LehrGoodputLow")
INHIBITIONS = (
    # Nobody looks after the nodes, or a check condemns them all: one by one they are no news.
    Inhibition((*BLIND, "LehrBreakerOpen"), OF_NODES, CLUSTER),
    Inhibition(("LehrStoreDown",), ("LehrStoreErrors", *OF_A_RUN), CLUSTER),
    Inhibition(("LehrStoreErrors",), OF_A_RUN, RUN),
    Inhibition(("LehrStalled",), ("LehrCheckpointOld", "LehrDataStall", "LehrStraggler"), STAGE),
    Inhibition(("LehrStalled", "LehrCrashLoop"), ("LehrGoodputLow",), RUN),
    Inhibition(("LehrDiverging",), ("LehrSpikeStorm", "LehrRewardsCollapsed"), STAGE),
    Inhibition(("LehrServeFailing",), ("LehrServeErrors",), SERVICE),
    Inhibition(("LehrServeStuck",), ("LehrServeRefusing", "LehrServeSaturated", "LehrServeSlow"), SERVICE),
    Inhibition(("LehrServeRefusing",), ("LehrServeSaturated", "LehrServeSlow"), SERVICE),
    Inhibition(("LehrServeSaturated",), ("LehrServeSlow",), SERVICE),
    Inhibition(("LehrServeRestarting",), ("LehrServeDown",), SERVER),
)


def configuration() -> dict[str, Any]:
    """An Alertmanager's configuration to start from; its receivers are names without addresses."""
    page = {"matchers": ['severity = "critical"'], "receiver": "pager", "repeat_interval": "4h"}
    return {
        "route": {
            "receiver": "tickets",
            "group_by": ["alertname", "cluster", "namespace", "run", "job"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "24h",
            "routes": [page],
        },
        "inhibit_rules": [inhibition.rendered() for inhibition in INHIBITIONS],
        "receivers": [{"name": "pager"}, {"name": "tickets"}],
    }
