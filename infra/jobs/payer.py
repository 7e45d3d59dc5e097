"""Who pays for a pod that ended: the user, whose mistake or budget it was, or the system.

| end of a pod | who pays | who decides |
|---|---|---|
| exit 2 | the user: the run ends at once, with the pod's message | Kubernetes (`FailJob`) |
| deleted, evicted, preempted, its node lost or shut down | the system | Kubernetes (`DisruptionTarget`), else the driver |
| exit 170, 171, 172, 173 of task and gate; 143 and 247, told to end | the system | Kubernetes (`Ignore`) |
| exit 137, killed by somebody, or with a lost node | the system | Kubernetes (`Ignore`) |
| exit 137, out of memory | the user: one of three retries | the driver: the code alone does not tell |
| anything else | the user: one of three retries | Kubernetes (`backoffLimit`) |

The system's budget of a stage is bounded too. Kubernetes has no such bound, so the driver counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lehr.infra.fleet.policy import NAMES
from lehr.infra.pod.pod_template import PRIMARY

Object = dict[str, Any]
FATAL = 2  # UserError: the same input fails the same way
KILLED, TERMINATED = 137, 143
OURS = (NAMES.exit_restart, NAMES.exit_refused, NAMES.exit_suspect, NAMES.exit_hang, NAMES.exit_stopped)
SYSTEM_CODES = (KILLED, TERMINATED, *OURS)
# Of a stage on several nodes: ends of a pod after which the others go on in place, and another pod takes its place.
REPLACED = (KILLED, TERMINATED, NAMES.exit_refused, NAMES.exit_suspect, NAMES.exit_stopped)
RETRIES = 3  # of the user's budget, a stage
SYSTEM_RETRIES = 16  # of the system's, a stage and a life of the driver
MESSAGE_CHARACTERS = 500


class Payer(StrEnum):
    """Who pays for a pod's end. `MISTAKE` ends the run, `USER` and `SYSTEM` are budgets."""

    MISTAKE = "mistake"
    USER = "user"
    MEMORY = "memory"  # the user's budget too, but Kubernetes does not count it
    SYSTEM = "system"


@dataclass(frozen=True)
class End:
    """How a pod ended. `code` is its container's, None where none ended badly."""

    pod: str
    payer: Payer
    why: str
    code: int | None = None


def end_of(pod: Object) -> End | None:
    """How `pod` ended; None if it has not, or ended well."""
    status = pod.get("status", {})
    if status.get("phase") != "Failed":
        return None
    name = str(pod["metadata"]["name"])
    ended = _ended(status)
    disrupted = disruption(status)
    if ended is None:
        said = disrupted or " ".join(str(status.get(key) or "") for key in ("reason", "message")).strip()
        return End(name, Payer.SYSTEM, said or "it failed before its containers did")
    container, state = ended
    code, reason = int(state.get("exitCode", -1)), str(state.get("reason") or "")
    said = "" if code == KILLED else message_of(state)  # who is killed has no last word: that is the last line of its log
    why = said or disrupted or f"exit code {code}" + (f" ({reason})" if reason not in ("", "Error") else "")
    if container == PRIMARY and code == FATAL:
        return End(name, Payer.MISTAKE, why, code)
    if reason == "OOMKilled":
        why = "out of memory: its container was killed; ask for more with `compute` in the recipe"
        return End(name, Payer.MEMORY, why, code)
    return End(name, Payer.SYSTEM if disrupted or code in SYSTEM_CODES else Payer.USER, why, code)


def _ended(status: Object) -> tuple[str, Object] | None:
    """The container that ended badly, and its state."""
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind) or []:
            state = container.get("state", {}).get("terminated")
            if state is not None and state.get("exitCode", 0) != 0:
                return str(container["name"]), state
    return None


def disruption(status: Object) -> str:
    """Why Kubernetes took the pod away, "" if it did not."""
    for condition in status.get("conditions") or []:
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return str(condition.get("message") or condition.get("reason") or "taken away")
    return ""


def message_of(state: Object) -> str:
    """The termination message's last line, or, of the JSON that tasks write for the controller, its reason."""
    text = str(state.get("message") or "").strip()
    try:
        words = json.loads(text)
    except ValueError:
        lines = text.splitlines()
        return lines[-1].strip()[:MESSAGE_CHARACTERS] if lines else ""
    return str(words.get("why", ""))[:MESSAGE_CHARACTERS] if isinstance(words, dict) else text[:MESSAGE_CHARACTERS]


@dataclass
class Ledger:
    """What the pods of one stage have cost. A pod that was seen and is gone was taken away."""

    ends: dict[str, End] = field(default_factory=dict)  # by uid
    alive: dict[str, str] = field(default_factory=dict)  # uid -> name

    def see(self, pods: Mapping[str, Object]) -> list[End]:
        """Take in the stage's pods by uid; returns the ends that are new."""
        ended_well = {uid for uid, pod in pods.items() if pod.get("status", {}).get("phase") == "Succeeded"}
        return self._take({uid: (str(pod["metadata"]["name"]), end_of(pod)) for uid, pod in pods.items()}, ended_well)

    def _take(self, there: Mapping[str, tuple[str, End | None]], ended_well: Set[str]) -> list[End]:
        """`there` is by uid: a name, and its end if it has one."""
        new = {uid: end for uid, (_, end) in there.items() if uid not in self.ends and end is not None}
        for uid, name in self.alive.items():
            if uid not in there and uid not in self.ends:
                new[uid] = End(name, Payer.SYSTEM, "deleted")
        self.ends |= new
        self.alive = {uid: name for uid, (name, _) in there.items() if uid not in self.ends.keys() | ended_well}
        return list(new.values())

    def spent(self, *payers: Payer) -> int:
        return sum(end.payer in payers for end in self.ends.values())

    def system_retries(self) -> int:
        """Those that count against the system's budget."""
        return self.spent(Payer.SYSTEM)

    def overdrawn(self) -> str:
        """Why this stage may not be tried again; "" while it may."""
        mistake = next((end for end in self.ends.values() if end.payer is Payer.MISTAKE), None)
        if mistake is not None:
            return f"pod {mistake.pod}: {mistake.why}"
        if not self.ends:
            return ""
        last = list(self.ends.values())[-1]
        if self.spent(Payer.USER, Payer.MEMORY) > RETRIES:
            return f"failed {RETRIES + 1} times, the last time in pod {last.pod}: {last.why}"
        if self.system_retries() > SYSTEM_RETRIES:
            return f"the cluster failed it {SYSTEM_RETRIES + 1} times, the last time in pod {last.pod}: {last.why}"
        return ""
