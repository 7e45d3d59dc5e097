"""Every threshold of the fleet's policy, and every name that it writes to the cluster, in one place.

A policy is a small YAML file with any of the fields of `Policy`; omitted fields have the defaults given here. Units are in the
names. `Names` holds labels, taints, annotations, conditions and exit codes: the controller, the gate, `lehr nodes`, the chart
and the admission policy read them from here, so that one prefix bounds everything that we may write.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lehr.runtime.errors import UserError, validators_words
from lehr.runtime.yaml_file import read_mapping

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True)
class Names:
    """Names under one domain prefix. Annotations hold JSON of the class in infra/fleet/views.py given in brackets."""

    prefix: str = "lehr.dev"
    namespace: str = "lehr-system"  # controller, Lease, revalidation Jobs
    condition: str = "GPUUnhealthy"  # node condition; True means a problem, as in node-problem-detector
    preflight_container: str = "preflight"  # init container whose termination message is the verdict
    gate_container: str = "preflight-gate"
    exit_restart: int = 170  # the program asks for a restart
    exit_refused: int = 171  # of the gate: the pod was not deleted from the bad node in time
    exit_suspect: int = 172  # the trainer suspects its own node
    exit_hang: int = 173  # hang detected
    # The pod was told to end (SIGTERM). Flyte's engine takes 247 (-9) for SIGKILL; of a pod that the kubelet evicted every
    # other exit code costs the user.
    exit_stopped: int = 247
    exit_stop: int = 93  # do not restart

    def _under(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    @property
    def managed_label(self) -> str:  # "true" on nodes, and on namespaces whose pods may be deleted
        return self._under("managed")

    @property
    def state_label(self) -> str:  # NodeState
        return self._under("state")

    @property
    def preflight_label(self) -> str:  # "true" on pods that carry preflight and gate
        return self._under("preflight")

    @property
    def run_label(self) -> str:  # on Jobs and pods of a run without Flyte: the run's name
        return self._under("run")

    @property
    def stage_label(self) -> str:  # there, of a stage; `driver` and `report` are none
        return self._under("stage")

    @property
    def attempt_label(self) -> str:  # there, of a stage on several nodes: which of its Jobs, from 1
        return self._under("attempt")

    @property
    def recipe_label(self) -> str:
        return self._under("recipe")

    @property
    def pool_label(self) -> str:
        return self._under("pool")

    @property
    def rack_label(self) -> str:
        return self._under("rack")

    @property
    def record_annotation(self) -> str:  # [NodeRecord] all of the node's state, cordon included
        return self._under("record")

    @property
    def cordon_annotation(self) -> str:  # [CordonRecord] present exactly as long as the cordon is ours
        return self._under("cordon")

    @property
    def hold_annotation(self) -> str:  # [HumanAct] a person's cordon
        return self._under("hold")

    @property
    def override_annotation(self) -> str:  # [HumanAct] a person's uncordon
        return self._under("override")

    @property
    def repaired_annotation(self) -> str:  # [HumanAct] a person declares that the node was repaired
        return self._under("repaired")

    @property
    def repair_annotation(self) -> str:  # reason why the node waits for a repair
        return self._under("repair")

    @property
    def reset_annotation(self) -> str:  # [{breaker key: HumanAct}] on the controller's Lease: breakers closed by hand
        return self._under("breaker-reset")

    @property
    def suspect_taint(self) -> str:  # effect PreferNoSchedule
        return self._under("suspect")

    @property
    def quarantine_taint(self) -> str:  # effect NoSchedule; only if Policy.taint_quarantined (Kueue)
        return self._under("quarantined")


NAMES = Names()
GPU_RESOURCE = "nvidia.com/gpu"  # of the device plugin; the chart's nodes.gpuResource and --gpu-resource name another

PAIR_NODES_MAX = 16


class Policy(BaseModel):
    """Thresholds of `decide`. Immutable; unknown keys and numbers that are not finite are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # Evidence
    startup_grace_seconds: float = Field(default=5 * MINUTE, ge=0)  # after Ready or a driver restart, checks fail at random
    signal_window_seconds: float = Field(default=24 * HOUR, gt=0)  # older evidence no longer counts
    unconfirmed_hardware_signals: int = Field(default=2, ge=1)  # from distinct pods; of confirmed failures one is enough
    performance_signals: int = Field(default=3, ge=1)
    condition_seconds: float = Field(default=2 * MINUTE, ge=0)  # a condition must persist this long
    hardware_conditions: tuple[str, ...] = ("GpuUncorrectableEcc", "GpuFellOffBus", "GpuRowRemapFailure", "NvlinkDown")
    performance_conditions: tuple[str, ...] = ("GpuThrottled", "PcieDowntrained")
    observe_only_checks: tuple[str, ...] = ()  # kill switch: failures of these checks are recorded, without consequences

    # Reports of users; a reporter's weight is (confirmed + 1) / (confirmed + refuted + 2)
    report_suspect_weight: float = Field(default=0.4, gt=0)
    report_quarantine_weight: float = Field(default=1.2, gt=0)
    report_quarantine_reporters: int = Field(default=2, ge=1)

    # Pair tests: when work on several nodes hung, and no device reports why
    pair_nodes_max: int = Field(default=PAIR_NODES_MAX, ge=2)  # a hang of more nodes accuses none of them
    pair_timeout_seconds: float = Field(default=15 * MINUTE, gt=0)  # a test that takes longer has no result

    # Hysteresis
    suspect_seconds: float = Field(default=24 * HOUR, gt=0)  # without new evidence, then healthy again
    override_seconds: float = Field(default=24 * HOUR, ge=0)  # after a person's uncordon: no automatic cordon

    # Blast radius
    breaker_window_seconds: float = Field(default=HOUR, gt=0)
    breaker_false_open: float = Field(default=1e-6, gt=0, lt=1)  # probability per window that real failures open it
    breaker_headroom: float = Field(default=3.0, gt=0)  # times the expected failures
    breaker_minimum: int = Field(default=2, ge=1)
    breaker_half_open_seconds: float = Field(default=30 * MINUTE, gt=0)  # while nodes wait: at most one cordon in this time
    failures_per_node_hour: float = Field(default=8 * 1.97e-5, gt=0)  # Llama 3: 419 in 54 days on 16,384 GPUs
    check_share: float = Field(default=0.5, gt=0, le=1)  # share of all failures that one check may find
    max_cordoned_fraction: float = Field(default=0.05, gt=0, le=1)  # of a pool at any time, but at least breaker_minimum

    # Return to service
    revalidation_passes: int = Field(default=2, ge=1)
    revalidation_gap_seconds: float = Field(default=15 * MINUTE, ge=0)  # between the ends of two passes
    revalidation_clean_seconds: float = Field(default=0.0, ge=0)  # a soak: from the first pass on, without any failure; 0: none
    revalidation_backoff_seconds: float = Field(default=15 * MINUTE, gt=0)  # doubles with each failure
    revalidation_backoff_max_seconds: float = Field(default=4 * HOUR, gt=0)
    revalidation_timeout_seconds: float = Field(default=30 * MINUTE, gt=0)  # a Job that takes longer is inconclusive
    repair_after_failures: int = Field(default=2, ge=1)
    inconclusive_before_repair: int = Field(default=5, ge=1)
    lemon_quarantines: int = Field(default=2, ge=2)  # from this many in the window on, a person must look at the node
    lemon_window_seconds: float = Field(default=14 * DAY, gt=0)
    burn_in_created_after: float | None = None  # Unix time; nodes created later burn in. None: no burn-in

    # Consequences
    delete_running_pods_on_conditions: bool = True  # hardware conditions also delete pods past their gate
    taint_quarantined: bool = False  # for Kueue, whose topology-aware scheduling respects taints but not cordons
    gate_seconds: float = Field(default=120.0, gt=0)  # how long the gate holds a pod with a bad verdict

    @classmethod
    def load(cls, path: Path) -> Policy:
        """Read a policy file. Raises UserError with file, key and remedy."""
        try:
            return cls.model_validate(read_mapping(path, "policy", "give a file of `name: value` lines", empty=True))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            remedy = f"known keys: {', '.join(sorted(cls.model_fields))}" if first["type"] == "extra_forbidden" else ""
            raise UserError(validators_words(first["msg"]), where=f"{path}: {key}", remedy=remedy) from error
