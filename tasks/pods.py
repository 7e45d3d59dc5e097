"""Pod templates for tasks, from infra/pod/pod_template.py. A new one for each task, as flytekit modifies its template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flytekit import PodTemplate

from lehr.infra.pod.pod_request import PodRequest, checked_labels
from lehr.infra.pod.pod_template import DEFAULT, METRICS_ANNOTATIONS, PRIMARY, pod_spec

if TYPE_CHECKING:
    from kubernetes.client import V1PodSpec


class TaskPod(PodTemplate):
    """Builds its pod spec anew whenever a task is serialised, so that importing tasks does not load the Kubernetes client."""

    def __init__(self, build: Callable[[], V1PodSpec], labels: dict[str, str]) -> None:
        self._build, self.primary_container_name = build, PRIMARY
        self.labels, self.annotations = labels, dict(METRICS_ANNOTATIONS)

    @property
    def pod_spec(self) -> V1PodSpec:
        return self._build()

    def __deepcopy__(self, memo: dict[int, Any]) -> PodTemplate:
        """flytekit copies a template before it modifies it: give it a plain one."""
        return PodTemplate(
            pod_spec=self._build(),
            primary_container_name=PRIMARY,
            labels=dict(self.labels),
            annotations=dict(METRICS_ANNOTATIONS),
        )


def pod_template(
    request: PodRequest = DEFAULT, labels: Mapping[str, str] | None = None, *, image: str = "", python: str = "python"
) -> PodTemplate:
    """A template for one task, with the parameters of `pod_spec`. CPU, memory and GPUs are requested by the task, not here."""
    own = dict(labels or {})
    return TaskPod(lambda: pod_spec(request, own, image=image, python=python), {**own, **checked_labels(request.checked)})
