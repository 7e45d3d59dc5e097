"""A pod spec whose init containers follow its primary container: the same image, and the same GPUs for the preflight.

flytekit knows a task's image and resources only when it serialises the task, and fills in the primary container only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubernetes.client import V1Container, V1EnvVar, V1PodSpec, V1ResourceRequirements, V1Toleration

from lehr.infra.fleet.policy import GPU_RESOURCE, NAMES

PRIMARY = "primary"
FLYTES_NAME = "gpu"  # Flyte's engine translates it into the device plugin's
EXPECTED = "LEHR_EXPECTED_GPUS"
SPOT_TAINTS = ("cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority")  # of Google's and Azure's spot nodes


class TaskPodSpec(V1PodSpec):  # type: ignore[misc] # kubernetes is not typed
    """flytekit assigns `containers` as its last step; this class then completes the init containers from the primary one.

    `entry` is prepended to the task's own command. `devices` are extended resources that flytekit does not know, such as
    RDMA network cards; the preflight gets none, as it tests one node. `interruptible`: nodes that a provider takes back suit.
    `gpu_resource` is the device plugin's name for a GPU.
    """

    _entry: list[str] = []
    _devices: dict[str, str] = {}
    _tolerated: tuple[str, ...] = ()
    _gpu_resource: str = GPU_RESOURCE

    def __init__(
        self,
        entry: tuple[str, ...] = (),
        devices: Mapping[str, int] | None = None,
        *,
        interruptible: bool = False,
        gpu_resource: str = GPU_RESOURCE,
        **values: Any,
    ) -> None:
        super().__init__(**values)
        self._entry, self._devices = list(entry), {name: str(number) for name, number in (devices or {}).items()}
        self._tolerated, self._gpu_resource = SPOT_TAINTS if interruptible else (), gpu_resource

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "containers":
            self._follow(next(c for c in value if c.name == PRIMARY))

    def _follow(self, primary: V1Container) -> None:
        gpus = _gpus(primary, self._gpu_resource)
        if primary.args and primary.args[: len(self._entry)] != self._entry:
            primary.args = [*self._entry, *primary.args]
        for container in self.init_containers or []:
            container.image = container.image or primary.image
            if container.name == NAMES.preflight_container:
                require(container, gpus, self._gpu_resource)
        if self._devices and primary.resources is not None:
            for amounts in (primary.resources.requests, primary.resources.limits):
                if amounts is not None:
                    amounts.update(self._devices)
        keys = [*((self._gpu_resource,) if gpus else ()), *self._tolerated]
        tolerated = [V1Toleration(key=key, operator="Exists", effect="NoSchedule") for key in keys]
        super().__setattr__("tolerations", tolerated or None)


def require(preflight: V1Container, gpus: int, gpu_resource: str = GPU_RESOURCE) -> None:
    """Request as many GPUs as the main container: the kubelet gives it the devices of the init containers, so the tested
    ones."""
    # Each GPU has a rank of its own in the all-reduce, which loads torch and opens the device: memory and CPU grow with them.
    wanted = {"cpu": str(2 + gpus), "memory": f"{4 + 3 * gpus}Gi"} | ({gpu_resource: str(gpus)} if gpus else {})
    preflight.resources = V1ResourceRequirements(requests=dict(wanted), limits=dict(wanted))
    others = [variable for variable in preflight.env or [] if variable.name != EXPECTED]
    preflight.env = [V1EnvVar(name=EXPECTED, value=str(gpus)), *others]


def _gpus(container: V1Container, gpu_resource: str) -> int:
    asked = container.resources
    amounts: dict[str, Any] = {**(asked.requests or {}), **(asked.limits or {})} if asked is not None else {}
    return max((int(str(amounts[name])) for name in (gpu_resource, FLYTES_NAME) if name in amounts), default=0)
