"""A pod template for each task, around what `infra/pod/pod_template.py` says. flytekit changes a template that it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flytekit import PodTemplate

from lehr.infra.pod.pod_template import PRIMARY, pod_labels, pod_spec

if TYPE_CHECKING:
    from kubernetes.client import V1PodSpec


class TaskPod(PodTemplate):
    """A template that is made when a task is serialised, anew each time: importing tasks loads no Kubernetes client."""

    def __init__(self, build: Callable[[], V1PodSpec], labels: dict[str, str]) -> None:
        self._build, self.primary_container_name = build, PRIMARY
        self.labels, self.annotations = labels, None

    @property
    def pod_spec(self) -> V1PodSpec:
        return self._build()

    def __deepcopy__(self, memo: dict[int, Any]) -> PodTemplate:
        """What flytekit works on."""
        return PodTemplate(pod_spec=self._build(), primary_container_name=PRIMARY, labels=dict(self.labels))


def pod_template(image: str = "", *, checked: bool = True, python: str = "python", grace_seconds: int = 120) -> PodTemplate:
    """A template for one task; the parameters are those of `pod_spec`. GPUs are the task's."""
    return TaskPod(lambda: pod_spec(image, checked=checked, python=python, grace_seconds=grace_seconds), pod_labels(checked))
