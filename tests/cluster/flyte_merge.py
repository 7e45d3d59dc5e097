"""How Flyte's engine 1.16 lays a task's pod over a PodTemplate: mappings by key, lists appended, the task's values on top.

A double, written after flyteplugins' `mergePodSpecs`: only the containers `default` and `primary` of a template count; they add
no container to a pod; `default-init` and `primary-init` do the same for init containers.
"""

from __future__ import annotations

import copy
from typing import Any

from lehr.infra.kube.api import Object

PRIMARY = "primary"


def merged_pod(template: Object, task: Object) -> Object:
    """The pod's specification, of a PodTemplate's and of a task's."""
    made = _over(template, task)
    for field, suffix in (("containers", ""), ("initContainers", "-init")):
        bases = {c["name"]: c for c in template.get(field, [])}
        found = []
        for container in task.get(field, []):
            base = bases.get(f"default{suffix}", {})
            if container["name"] == PRIMARY:
                base = _over(base, bases.get(f"primary{suffix}", {}))
            found.append(_over(base, container))
        made[field] = found
    return made


def _over(base: Any, above: Any) -> Any:
    if isinstance(base, dict) and isinstance(above, dict):
        both = {key: _over(base[key], above[key]) for key in base.keys() & above.keys()}
        return copy.deepcopy({**base, **above, **both})
    if isinstance(base, list) and isinstance(above, list):
        return copy.deepcopy([*base, *above])
    return copy.deepcopy(above)
