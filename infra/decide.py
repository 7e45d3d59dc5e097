"""The quarantine decision: one pure function, used unchanged by the controller, the simulator and the log replay.

Contract for whoever carries it out:
* Call `decide` for a node whenever it, its pods, Jobs, reports or conditions changed, and for every node now and then
  (once a minute is plenty: time alone also moves states). It reads no clock, no randomness, no I/O.
* Carry the actions out in the order returned. At most one of them patches the Node (infra/actions.py says how: one patch,
  with resourceVersion, dropped on 409). If it fails, carry out none of the later ones; decide again from a fresh view.
* The order cordon -> read back -> delete comes by itself: DeletePod is only returned for a view that already shows the
  node unschedulable. Never merge our own unconfirmed writes into the view.
* Between two `decide` calls of one round pass the fleet through `infra.summary.fleet_after`, or rebuild it with
  `infra.summary.fleet_view`: breakers must see the cordons of the same round.
* A fixed point: applying the actions and deciding again at the same time gives no further writing action (tested).
* An empty list is the normal answer; a healthy node without news costs microseconds and no request.
"""

from __future__ import annotations

from infra.actions import Action
from infra.policy import Policy
from infra.views import FleetView, NodeView


def decide(node: NodeView, fleet: FleetView, policy: Policy, now: float) -> list[Action]:
    """The actions that `node` needs at `now` (Unix seconds). Raises nothing for any well-typed view."""
    raise NotImplementedError(node, fleet, policy, now)
