"""Which alerts keep others quiet, for Alertmanager: what breaks for everybody pages once."""

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
)
