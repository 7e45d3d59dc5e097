"""Pods for tasks: preflight and gate before the task, no token, no root, nothing writable but what must be.

A default PodTemplate object of the cluster does not do: Flyte drops its init containers. So each task gets a fresh template
from here (flytekit changes a template that it is given). Checked against the engine in tests/infra/test_pods.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.policy import NAMES

if TYPE_CHECKING:
    from flytekit import PodTemplate
    from kubernetes.client import V1Container, V1EnvVar, V1PodSpec, V1SecurityContext, V1Volume, V1VolumeMount

PRIMARY = "primary"
USER = 1000
SHARED, SCRATCH = "/lehr", "/tmp"
GPU_RESOURCE = "nvidia.com/gpu"


def pod_template(image: str, gpus: int = 0, *, python: str = "python", grace_seconds: int = 120) -> PodTemplate:
    """A fresh template for one task. `image` holds Lehr; give the task the same. `grace_seconds`: to save a checkpoint."""
    from flytekit import PodTemplate

    spec = pod_spec(image, gpus, python=python, grace_seconds=grace_seconds)
    return PodTemplate(pod_spec=spec, primary_container_name=PRIMARY, labels={NAMES.preflight_label: "true"})


def pod_spec(image: str, gpus: int = 0, *, python: str = "python", grace_seconds: int = 120) -> V1PodSpec:
    """Image, command, resources and environment of the primary container are the task's: flytekit fills them in."""
    from kubernetes.client import V1Container, V1PodSecurityContext, V1PodSpec, V1SeccompProfile, V1Toleration

    primary = V1Container(
        name=PRIMARY,
        security_context=_locked(),
        termination_message_policy="FallbackToLogsOnError",
        volume_mounts=[_mount("tmp", SCRATCH)],
    )
    return V1PodSpec(
        init_containers=[_preflight(image, gpus, python), _gate(image, python)],
        containers=[primary],
        volumes=_volumes(),
        restart_policy="Never",
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=grace_seconds,
        tolerations=[V1Toleration(key=GPU_RESOURCE, operator="Exists", effect="NoSchedule")] if gpus else None,
        security_context=V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=USER,
            run_as_group=USER,
            fs_group=USER,
            seccomp_profile=V1SeccompProfile(type="RuntimeDefault"),
        ),
    )


def _preflight(image: str, gpus: int, python: str) -> V1Container:
    from kubernetes.client import V1Container, V1ResourceRequirements

    # The kubelet hands the same devices to the main container: it reuses those of init containers first.
    # Each GPU has a rank of its own in the all-reduce, which loads torch and opens the device.
    wanted = {"cpu": str(2 + gpus), "memory": f"{4 + 3 * gpus}Gi"} | ({GPU_RESOURCE: str(gpus)} if gpus else {})
    return V1Container(
        name=NAMES.preflight_container,
        image=image,
        command=[python, "-m", "infra.probes"],
        env=[_env("LEHR_EXPECTED_GPUS", str(gpus)), *_environment()],
        resources=V1ResourceRequirements(requests=dict(wanted), limits=dict(wanted)),
        security_context=_locked(),
        termination_message_policy="FallbackToLogsOnError",  # the verdict is in the file; the log only if it was killed
        volume_mounts=[_mount("lehr", SHARED), _mount("tmp", SCRATCH), _mount("preflight-shm", "/dev/shm")],
    )


def _gate(image: str, python: str) -> V1Container:
    from kubernetes.client import V1Container, V1ResourceRequirements

    wanted = {"cpu": "50m", "memory": "256Mi"}
    return V1Container(
        name=NAMES.gate_container,
        image=image,
        command=[python, "-m", "infra.gate"],
        env=_environment(),
        resources=V1ResourceRequirements(requests=dict(wanted), limits=dict(wanted)),
        security_context=_locked(),
        termination_message_policy="FallbackToLogsOnError",
        volume_mounts=[_mount("lehr", SHARED, read_only=True)],
    )


def _environment() -> list[V1EnvVar]:
    values = {"LEHR_VERDICT": f"{SHARED}/verdict.json", "TMPDIR": SCRATCH, "HOME": SCRATCH, "PYTHONDONTWRITEBYTECODE": "1"}
    return [_env(name, value) for name, value in values.items()]


def _env(name: str, value: str) -> V1EnvVar:
    from kubernetes.client import V1EnvVar

    return V1EnvVar(name=name, value=value)


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


def _volumes() -> list[V1Volume]:
    from kubernetes.client import V1EmptyDirVolumeSource, V1Volume

    return [
        V1Volume(name="lehr", empty_dir=V1EmptyDirVolumeSource(size_limit="16Mi")),
        V1Volume(name="tmp", empty_dir=V1EmptyDirVolumeSource()),
        # NCCL's ranks on one node meet in shared memory; the runtime's default of 64 MiB is too little for eight.
        V1Volume(name="preflight-shm", empty_dir=V1EmptyDirVolumeSource(medium="Memory", size_limit="2Gi")),
    ]
