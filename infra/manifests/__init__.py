"""What the controller needs in a cluster, as plain objects: namespace, report type, rights, admission policies, Deployment.

The YAML files beside this one are for one training namespace, `training`; `objects` makes them for any number. The chart
and the tests against a real API server use the same files.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
FILES = ("namespace", "nodereport", "controller-rbac", "people-rbac", "admission")
PER_NAMESPACE = "training-rbac"
DEPLOYMENT = "deployment"


def objects(namespaces: Sequence[str], *, deployment: bool = False) -> Iterator[dict[str, Any]]:
    """Every object, in an order in which they can be created, with the rights for each training namespace."""
    for name in FILES:
        yield from read(name)
    for namespace in namespaces:
        for item in read(PER_NAMESPACE):
            made = copy.deepcopy(item)
            made["metadata"]["namespace"] = namespace
            yield made
    if deployment:
        yield from read(DEPLOYMENT)


def read(name: str) -> list[dict[str, Any]]:
    """The objects of one file."""
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return [item for item in yaml.safe_load_all(text) if item]
