"""The chart as Helm renders it, for tests that need its objects and not an installation."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lehr.infra.fleet.policy import NAMES
from lehr.infra.kube.api import Object
from tests.cluster.provide import find

CHART = Path(__file__).resolve().parents[2] / "helm" / "lehr"
RELEASE = "lehr"
# What a cluster needs before the controller can run in it, in an order in which it can be created.
KINDS = ("Namespace", "CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding",
         "Lease", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")  # fmt: skip
Done = subprocess.CompletedProcess[str]
MONITORING = tuple(f"monitoring.coreos.com/v1/{kind}" for kind in ("PodMonitor", "ServiceMonitor", "PrometheusRule"))


def helm(name: str = "helm") -> str:
    """The path of a Helm. Never skipped: without it these tests fail and say what provides it."""
    found = find(name)
    assert found is not None, f"no {name}: run `make control-plane`, or `python tests/cluster/provide.py --only helm`"
    return str(found)


def run(*arguments: str, values: Object | None = None, name: str = "helm", seconds: float = 120) -> Done:
    """One call of Helm. `values` go in as a file does, after the chart's own."""
    given = ["--values", "-"] if values is not None else []
    text = json.dumps(values) if values is not None else None
    command = [helm(name), *arguments, *given]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=seconds)


def template(values: Object | None = None, apis: Sequence[str] = (), name: str = "helm", chart: Path = CHART) -> str:
    """What `helm template` prints, with `apis` as the types of the cluster besides Kubernetes' own."""
    more = [part for api in apis for part in ("--api-versions", api)]
    done = run("template", RELEASE, str(chart), "-n", NAMES.namespace, *more, values=values or {}, name=name)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documents(text: str) -> list[dict[str, Any]]:
    return [item for item in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if item]


def render(
    values: Object | None = None, apis: Sequence[str] = (), name: str = "helm", chart: Path = CHART
) -> list[dict[str, Any]]:
    """Every object that the chart makes of `values`."""
    return documents(template(values, apis, name, chart))


@cache
def _rendered(names: tuple[str, ...]) -> str:
    """For namespaces that are there: the tests' pods would not pass the level `restricted`, which is tested elsewhere."""
    return template({"training": {"namespaces": [{"name": name, "create": False} for name in names]}})


def objects(namespaces: Sequence[str]) -> Iterator[Object]:
    """The system namespace and what the controller needs in it and in each of `namespaces`, in order of creation."""
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMES.namespace, "labels": level}}
    found = documents(_rendered(tuple(namespaces)))
    for kind in KINDS:
        yield from (item for item in found if item["kind"] == kind)
