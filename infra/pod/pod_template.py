"""Pods for tasks: preflight and gate before the task, no API token, no root, nothing writable except what must be.

A PodTemplate object of the cluster cannot be used: Flyte drops its init containers. So each task has a template of its own
(tasks/pods.py) with a specification from here. Checked against the engine in tests/tasks/test_pods.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lehr.infra.fleet.policy import NAMES, PAIR_NODES_MAX
from lehr.infra.pod.pod_request import PodRequest
from lehr.infra.pod.supervisor import ADDRESS, MAX_BYTES

if TYPE_CHECKING:
    from kubernetes.client import V1Affinity, V1Container, V1EnvVar, V1PodSpec, V1SecurityContext, V1Volume, V1VolumeMount

DEFAULT = PodRequest()
PRODUCT_LABEL = "nvidia.com/gpu.product"  # of a node, by the GPU operator's feature discovery
HOSTNAME_LABEL = "kubernetes.io/hostname"
PRIMARY = "primary"
USER = 1000
SHARED, SCRATCH, SHM = "/lehr", "/tmp", "/dev/shm"
LAST_WORD = "/dev/termination-log"  # the kubelet's default path of the termination message
MESSAGE_SOCKET, MAX_MESSAGE_BYTES = ADDRESS, MAX_BYTES  # tasks send their messages here; the supervisor forwards the worst one
METRICS_PORT, METRICS_PORT_NAME = 9405, "lehr-metrics"  # which the chart's PodMonitor selects by its name
# For a Prometheus that finds pods by annotations; the operator's does not, so beside the chart's PodMonitor they do nothing.
METRICS_ANNOTATIONS = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(METRICS_PORT),
    "prometheus.io/path": "/metrics",
}
POD_NAME, POD_NAMESPACE, NODE_NAME = "LEHR_POD", "LEHR_POD_NAMESPACE", "LEHR_NODE"
RUN_NAME, STAGE_NAME = "LEHR_RUN", "LEHR_STAGE"
CHECKED_AGAIN = "LEHR_PREFLIGHT_IN_PLACE"  # set where the preflight runs before ranks start again in a pod
COPIES = "LEHR_MEMORY_COPIES"  # a folder in memory that outlives the ranks of a pod (lehr/train/checkpointing/copied_saves.py)
BLAMED_NODES_MAX = PAIR_NODES_MAX  # a hang of more nodes than these accuses none, unless an operator's policy says otherwise
# Exit codes of a task; the controller reads the same names.
EXIT_RESTART, EXIT_SUSPECT, EXIT_HANG = NAMES.exit_restart, NAMES.exit_suspect, NAMES.exit_hang


def pod_spec(
    request: PodRequest = DEFAULT, labels: Mapping[str, str] | None = None, *, image: str = "", python: str = "python"
) -> V1PodSpec:
    """The specification of one task's pod. flytekit fills in the primary container's image, command, CPU, memory and GPUs.

    `labels` distinguish the stage's pods from all others: with several nodes, no two of them share one. `image` contains Lehr;
    without it the init containers use the task's image.
    """
    from kubernetes.client import V1PodSecurityContext, V1SeccompProfile

    from lehr.infra.pod.pod_spec import TaskPodSpec

    return TaskPodSpec(
        (python, "-m", "lehr.infra.pod.supervisor"),
        request.rdma,
        interruptible=request.interruptible,
        gpu_resource=request.gpu_resource,
        init_containers=[_preflight(image, python), _gate(image, python)] if request.checked else None,
        containers=[_primary(request.secret)],
        volumes=_volumes(request.shared_memory),
        node_selector=_selector(request) or None,
        affinity=_apart(labels or {}) if request.nodes > 1 else None,
        priority_class_name=request.priority or None,
        restart_policy="Never",
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=request.grace_seconds,
        security_context=V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=USER,
            run_as_group=USER,
            fs_group=USER,
            seccomp_profile=V1SeccompProfile(type="RuntimeDefault"),
        ),
    )


def _primary(secret: str) -> V1Container:
    from kubernetes.client import V1Container, V1ContainerPort, V1EnvFromSource, V1SecretEnvSource

    return V1Container(
        name=PRIMARY,
        env=[
            _env("LEHR_TERMINATION_LOG", LAST_WORD),
            *_environment(),
            *_own_names(),
        ],
        ports=[V1ContainerPort(name=METRICS_PORT_NAME, container_port=METRICS_PORT)],
        env_from=[V1EnvFromSource(secret_ref=V1SecretEnvSource(name=secret))] if secret else None,
        security_context=_locked(),
        termination_message_policy="FallbackToLogsOnError",
        volume_mounts=[_mount("tmp", SCRATCH), _mount("shm", SHM)],
    )


def _selector(request: PodRequest) -> dict[str, str]:
    found = {NAMES.pool_label: request.pool, PRODUCT_LABEL: request.accelerator}
    return {label: value for label, value in found.items() if value}


def _apart(labels: Mapping[str, str]) -> V1Affinity:
    """The pods of a stage on several nodes: never two on one node, and in one rack if there is room in it."""
    from kubernetes.client import (
        V1Affinity,
        V1LabelSelector,
        V1PodAffinity,
        V1PodAffinityTerm,
        V1PodAntiAffinity,
        V1WeightedPodAffinityTerm,
    )

    def term(topology: str) -> V1PodAffinityTerm:
        return V1PodAffinityTerm(topology_key=topology, label_selector=V1LabelSelector(match_labels=dict(labels)))

    near = V1WeightedPodAffinityTerm(weight=100, pod_affinity_term=term(NAMES.rack_label))
    return V1Affinity(
        pod_affinity=V1PodAffinity(preferred_during_scheduling_ignored_during_execution=[near]),
        pod_anti_affinity=V1PodAntiAffinity(required_during_scheduling_ignored_during_execution=[term(HOSTNAME_LABEL)]),
    )


def _preflight(image: str, python: str) -> V1Container:
    from kubernetes.client import V1Container

    from lehr.infra.pod.pod_spec import require

    container = V1Container(
        name=NAMES.preflight_container,
        image=image or None,
        command=[python, "-m", "lehr.infra.pod.probes"],
        env=[_env("LEHR_VERDICT", f"{SHARED}/verdict.json"), *_environment()],
        security_context=_locked(),
        termination_message_policy="FallbackToLogsOnError",  # the verdict is in the file; the log only matters if it was killed
        volume_mounts=[_mount("lehr", SHARED), _mount("tmp", SCRATCH), _mount("shm", SHM)],
    )
    require(container, 0)
    return container


def _gate(image: str, python: str) -> V1Container:
    from kubernetes.client import V1Container, V1ResourceRequirements

    wanted = {"cpu": "50m", "memory": "256Mi"}
    return V1Container(
        name=NAMES.gate_container,
        image=image or None,
        command=[python, "-m", "lehr.infra.pod.gate"],
        env=[_env("LEHR_VERDICT", f"{SHARED}/verdict.json"), *_environment()],
        resources=V1ResourceRequirements(requests=dict(wanted), limits=dict(wanted)),
        security_context=_locked(),
        termination_message_policy="FallbackToLogsOnError",
        volume_mounts=[_mount("lehr", SHARED, read_only=True)],
    )


def _environment() -> list[V1EnvVar]:
    values = {"TMPDIR": SCRATCH, "HOME": SCRATCH, "PYTHONDONTWRITEBYTECODE": "1"}
    return [_env(name, value) for name, value in values.items()]


def _own_names() -> list[V1EnvVar]:
    """The pod's names, from the downward API: its metrics have them, so that others' figures can be joined with the run's."""
    from kubernetes.client import V1EnvVar, V1EnvVarSource, V1ObjectFieldSelector

    fields = {
        POD_NAME: "metadata.name",
        POD_NAMESPACE: "metadata.namespace",
        NODE_NAME: "spec.nodeName",
        RUN_NAME: f"metadata.labels['{NAMES.run_label}']",
        STAGE_NAME: f"metadata.labels['{NAMES.stage_label}']",
    }
    return [
        V1EnvVar(name=name, value_from=V1EnvVarSource(field_ref=V1ObjectFieldSelector(field_path=path)))
        for name, path in fields.items()
    ]


def _env(name: str, value: str) -> V1EnvVar:
    from kubernetes.client import V1EnvVar

    return V1EnvVar(name=name, value=value)


# The restricted Pod Security Standard: with a read-only root only the mounted volumes can be written.
def _locked() -> V1SecurityContext:
    from kubernetes.client import V1Capabilities, V1SecurityContext

    return V1SecurityContext(
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
        run_as_non_root=True,
        capabilities=V1Capabilities(drop=["ALL"]),
    )


def _mount(name: str, path: str, *, read_only: bool = False) -> V1VolumeMount:
    from kubernetes.client import V1VolumeMount

    return V1VolumeMount(name=name, mount_path=path, read_only=read_only or None)


def _volumes(shared_memory: str) -> list[V1Volume]:
    from kubernetes.client import V1EmptyDirVolumeSource, V1Volume

    return [
        V1Volume(name="lehr", empty_dir=V1EmptyDirVolumeSource(size_limit="16Mi")),
        V1Volume(name="tmp", empty_dir=V1EmptyDirVolumeSource()),
        # Ranks on one node communicate through shared memory; the runtime's default of 64 MiB is too small for eight.
        V1Volume(name="shm", empty_dir=V1EmptyDirVolumeSource(medium="Memory", size_limit=shared_memory or None)),
    ]
