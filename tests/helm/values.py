"""The chart's values as tests walk them: every leaf with its schema, and another value for each."""

from __future__ import annotations

import copy
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.chart import CHART

Values = dict[str, Any]
Step = str | int
Path_ = tuple[Step, ...]


def read(path: Path) -> Values:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def schema() -> Values:
    return json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))


def leaves(of: Values | None = None, at: Path_ = ()) -> Iterator[tuple[Path_, Values]]:
    """(path, schema) of every value; of the entries of a list of mappings the first one's."""
    of = of or schema()
    for name, inner in of.get("properties", {}).items():
        if at == () and name == "global":
            continue
        if inner.get("properties") and inner.get("additionalProperties") is False and "examples" not in inner:
            yield from leaves(inner, (*at, name))
            continue
        yield (*at, name), inner
        if inner.get("type") == "array" and inner.get("items", {}).get("properties") and "examples" not in inner:
            yield from leaves(inner["items"], (*at, name, 0))


def planted(folder: Path) -> Path:
    """A copy of the chart with a dashboard and a rule file in their places."""
    chart = Path(shutil.copytree(CHART, folder / "lehr"))
    (chart / "files/dashboards/planted.json").write_text('{"title": "Loss {{ run }}", "panels": []}', encoding="utf-8")
    rule = {"groups": [{"name": "planted", "rules": [{"alert": "Planted", "expr": "up == 0 # {{ $value }}"}]}]}
    (chart / "files/rules/planted.yaml").write_text(json.dumps(rule), encoding="utf-8")
    return chart


def shown(path: Path_) -> str:
    return ".".join(str(step) for step in path)


def get(values: Any, path: Path_) -> Any:
    for step in path:
        if isinstance(values, dict) and step not in values:
            return None
        values = values[step]
    return values


def put(values: Values, path: Path_, value: Any) -> Values:
    """A copy of `values` with `value` at `path`; lists on the way must be there."""
    made = copy.deepcopy(values)
    at: Any = made
    for step, following in itertools.pairwise(path):
        at = at.setdefault(step, [] if isinstance(following, int) else {}) if isinstance(at, dict) else at[step]
    at[path[-1]] = value
    return made


def merged(first: Values, second: Values) -> Values:
    """As Helm merges: mappings key by key, everything else replaced."""
    made = dict(first)
    for name, value in second.items():
        both = isinstance(value, dict) and isinstance(made.get(name), dict)
        made[name] = merged(made[name], value) if both else value
    return made


def another(of: Values, current: Any) -> Any:
    """A valid value that differs from `current`. Raises AssertionError where the schema does not tell one."""
    choices = [*of.get("enum", []), *of.get("examples", [])]
    kind = of.get("type")
    if kind == "boolean":
        choices.append(not current)
    if kind in ("integer", "number") and not choices:
        choices += [current + 1, current - 1]
    if kind == "string":
        choices += [text for text in ("another", "") if re.fullmatch(of.get("pattern", ".*"), text)]
    if kind in ("array", "object"):
        choices.append([] if kind == "array" else {})
    within = [c for c in choices if c != current and _fits(of, c)]
    assert within, f"no other value than {current!r}: give the schema examples"
    return within[0]


def _fits(of: Values, value: Any) -> bool:
    return not isinstance(value, int | float) or (
        value >= of.get("minimum", value)
        and value <= of.get("maximum", value)
        and value > of.get("exclusiveMinimum", value - 1)
    )
