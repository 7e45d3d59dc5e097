"""Every value of the chart changes what is rendered, wrong ones are refused with their path, and none holds a secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.chart import CHART, MONITORING, RELEASE, run, template
from tests.helm.values import Path_, Values, another, get, leaves, merged, planted, put, read, schema, shown

pytestmark = pytest.mark.cluster
EVERYTHING = read(CHART / "ci/everything-values.yaml")
DEFAULTS = read(CHART / "values.yaml")
OWN_DATABASE = {"mlflow": {"database": {"existingSecret": "db"}}}
# Where a value counts only beside others than those of ci/everything-values.yaml.
BESIDE: dict[str, Values] = {
    "image.tag": {"image": {"digest": ""}},
    "controller.affinity": {"controller": {"affinity": {}}},
    "mlflow.externalUrl": {"mlflow": {"enabled": False}},
    "mlflow.image.tag": {"mlflow": {"image": {"digest": ""}}},
    "mlflow.replicas": OWN_DATABASE,
    "mlflow.database.key": OWN_DATABASE,
    "training.namespaces": {"tests": {"enabled": True}},
}
# What is seen in NOTES only.
IN_NOTES = ("flyte.check", "flyte.namespace")
LEAVES = dict(leaves())


def test_every_key_of_values_yaml_is_walked() -> None:
    """Guards the guard: whatever stands in values.yaml is a leaf, or leads to one."""
    missing = [shown(path) for path in _paths(DEFAULTS) if not any(path[: len(leaf)] == leaf for leaf in LEAVES)]
    assert not missing and len(LEAVES) > 120, missing


def _paths(values: Any, at: Path_ = ()) -> list[Path_]:
    if isinstance(values, dict) and values:
        return [path for name, value in values.items() for path in _paths(value, (*at, name))]
    if isinstance(values, list) and values and isinstance(values[0], dict):
        return _paths(values[0], (*at, 0))
    return [at]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Values], str]:
    """What is rendered of values, with a dashboard in its place; once of the same ones."""
    chart, known = planted(tmp_path_factory.mktemp("chart")), dict[str, str]()

    def call(values: Values) -> str:
        if repr(values) not in known:
            known[repr(values)] = template(values, MONITORING, chart=chart)
        return known[repr(values)]

    return call


@pytest.mark.parametrize("path", [path for path in LEAVES if shown(path) not in IN_NOTES], ids=shown)
def test_every_value_changes_the_rendering(path: Path_, rendered: Callable[[Values], str]) -> None:
    base = merged(EVERYTHING, BESIDE.get(shown(path), {}))
    if "priorityClasses" in path:  # what the tests change of a list must be there
        base = merged(base, {"training": {"priorityClasses": DEFAULTS["training"]["priorityClasses"]}})
    current = get(merged(DEFAULTS, base), path)
    if current is None:  # a key of a list's entry that is left out: as in values.yaml
        current = get(DEFAULTS, path)
    changed = put(base, path, another(LEAVES[path], current))
    same = rendered(changed) == rendered(base)
    assert not same, f"{shown(path)} changes nothing"


@pytest.mark.parametrize("path", IN_NOTES)
def test_what_only_notes_say_changes_them(path: str) -> None:
    def notes(*sets: str) -> str:
        done = run("install", RELEASE, str(CHART), "-n", "lehr-system", "--dry-run=client", *sets)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    assert notes() != notes("--set", f"{path}={'false' if path.endswith('check') else 'elsewhere'}")


WRONG = {
    "controller.replica": 3,
    "controller.replicas": "two",
    "image.tag": "latest",
    "mlflow.image.tag": "latest",
    "image.digest": "sha256:abc",
    "controller.resources.requests.memory": "lots",
    "monitoring.podMonitor.interval": "fast",
    "nodes.policy.max_cordoned": 1,
    "nodes.policy.max_cordoned_fraction": 2,
    "nodes.checksOff": ["gpu"],
    "nodes.allowedImages": ["lehr:1"],
    "training.namespaces": [{"name": "Training"}],
    "training.priorityClasses": [{"name": "x"}],
    "training.networkPolicy.storeCidrs": ["store.example.org"],
    "controller.metrics.port": 80,
    "controller.metrics.address": "127.0.0.1",
    "monitor": {},
    "image.pullSecret": {"password": "x"},
    "tasks.environment.API_TOKEN": "x",
    "tasks.environment.DATABASE": "postgresql://lehr:hunter2@db/lehr",
    "tasks.environment.ID": "AKIAIOSFODNN7EXAMPLE",
    "store.accessKeyIdKey": "AKIAIOSFODNN7EXAMPLE",
    "store.accessKey": "x",
    "store.endpointUrl": "https://user:hunter2@store.example.org",
    "mlflow.externalUrl": "https://user:hunter2@mlflow.example.org",
    "mlflow.database.uri": "postgresql://lehr:hunter2@db/mlflow",
    "mlflow.artifacts.destination": "s3://key:hunter2@bucket",
    "controller.webhook.url": "https://hooks.example.org/T0/B0/x",
}


@pytest.mark.parametrize("name", ["helm", "helm-3"])
@pytest.mark.parametrize("path", WRONG)
def test_a_wrong_value_is_refused_with_its_path(path: str, name: str) -> None:
    steps = path.split(".")
    done = run("template", RELEASE, str(CHART), values=put({}, tuple(steps), WRONG[path]), name=name)
    assert done.returncode != 0, f"{path} was taken"
    said = done.stderr.replace("/", ".")
    assert all(step in said for step in steps[:-1]) and steps[-1] in said, done.stderr
    assert len(done.stderr.strip().splitlines()) <= 6, done.stderr


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mlflow": {"enabled": True}}, "mlflow.image.repository"),
        ({"mlflow": {"enabled": True, "image": {"repository": "m"}, "externalUrl": "http://m"}}, "mlflow.externalUrl"),
        ({"mlflow": {"enabled": True, "image": {"repository": "m"}, "replicas": 2}}, "mlflow.replicas"),
        ({"controller": {"renewSeconds": 6}}, "controller.renewSeconds"),
        (
            {"training": {"namespaces": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}},
            "training.namespaces: a stands there twice",
        ),
        ({"training": {"namespaces": [{"name": "lehr-system"}]}}, "training.namespaces: the release's own"),
    ],
)
def test_values_that_contradict_each_other_are_refused(values: Values, said: str) -> None:
    done = run("template", RELEASE, str(CHART), "-n", "lehr-system", values=values)
    assert done.returncode != 0 and said in done.stderr, done.stderr


def test_no_value_is_a_secret() -> None:
    """Whatever sounds like one names a Secret that exists, or one of its keys."""
    sounds = re.compile(r"secret|password|token|credential|accesskey|uri$|key$", re.IGNORECASE)
    names = {"existingSecret", "pullSecret", "accessKeyIdKey", "secretAccessKeyKey", "key"}
    wrong = [shown(path) for path in LEAVES if sounds.search(str(path[-1])) and path[-1] not in names]
    assert not wrong
    for path, of in LEAVES.items():
        if path[-1] in names:
            assert of["maxLength"] == 63 and "/" not in of["pattern"], f"{shown(path)} has room for a secret"


def test_no_secret_is_made() -> None:
    for values in ("everything", "flyte", "small"):
        assert "kind: Secret\n" not in template(read(CHART / f"ci/{values}-values.yaml"), MONITORING)


def test_the_schema_is_strict_everywhere() -> None:
    """A mapping either has the keys that it names and no other, or says what its values are."""
    open_ones = {"nodeAffinity", "podAffinity", "podAntiAffinity", "global", "from", "to", "ports"}

    def loose(of: Any, at: str) -> list[str]:
        if isinstance(of, list):
            return [wrong for item in of for wrong in loose(item, at)]
        if not isinstance(of, dict):
            return []
        found = [wrong for name, value in of.items() if name != "examples" for wrong in loose(value, f"{at}.{name}")]
        is_open = of.get("type") == "object" and of.get("additionalProperties", True) is True
        return found + ([at] if is_open and not open_ones & set(at.split(".")) else [])

    assert not loose(schema(), "")
