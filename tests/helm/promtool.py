"""Cases for alerts as promtool's unit tests, and mutants of the rules that the cases must tell from the rules."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.chart import CHART
from tests.cluster.provide import find

RULES = CHART / "files" / "rules"
Rule = dict[str, Any]
Labels = dict[str, str]
_TOKEN = re.compile(r'\{[^}]*\}|"[^"]*"|\[[^\]]*\]|\d+[smhdw]\b|[A-Za-z_:][\w:]*|\d+(?:\.\d+)?')


@dataclass(frozen=True)
class Case:
    """Series in promtool's notation, one value an `every`, and which labels of the alert fire at which times."""

    alert: str
    title: str
    series: Mapping[str, str]
    fires: Mapping[str, Sequence[Labels]]
    every: str = "1m"
    evaluated: str = "1m"


def series(name: str, run: str = "a", pod: str = "p", **labels: str) -> str:
    """One series of a run as Prometheus has it in Kubernetes."""
    every = {"namespace": "t", "run": run, "stage": "s", "pod": pod, "instance": f"{pod}:9405", **labels}
    return f"{name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in every.items() if value)}}}"


def served(name: str, job: str, pod: str, **labels: str) -> str:
    """One series of a server of a model, or `up` of it."""
    full = name if name == "up" else f"lehr_serve_{name}"
    return series(full, "", pod, stage="", job=job, instance=f"{pod}:8000", **labels)


def rules() -> dict[str, Rule]:
    """Every rule of the chart by its name, in their order."""
    found = {}
    for path in (*RULES.glob("*.yaml"), *RULES.glob("optional/*.yaml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for number, rule in enumerate(group["rules"]):
                found[rule.get("alert") or (rule["record"] if not rule.get("labels") else f"{rule['record']}#{number}")] = rule
    return found


def with_needs(name: str, known: Mapping[str, Rule]) -> list[Rule]:
    """A rule behind those whose series it reads."""
    needed = [other for other in known if ":" in other and other != name and other in known[name]["expr"]]
    return [rule for other in needed for rule in with_needs(other, known)] + [known[name]]


@dataclass
class Sheet:
    """Test files of promtool, written into `folder` and run together."""

    folder: Path
    files: list[Path] = field(default_factory=list)

    def add(self, used: Sequence[Rule], cases: Sequence[Case]) -> Path:
        """A file that tests `used` with `cases`. Annotations are left out: promtool would compare their texts."""
        number = len(self.files)
        bare = [{key: value for key, value in rule.items() if key != "annotations"} for rule in used]
        rule_file = self.folder / f"rules{number}.yaml"
        rule_file.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": bare}]}), encoding="utf-8")
        severity = next((rule["labels"]["severity"] for rule in bare if "alert" in rule), "")
        path = self.folder / f"test{number}.yaml"
        tests = [_test(case, severity) for case in cases]
        content = {"rule_files": [rule_file.name], "evaluation_interval": cases[0].evaluated, "tests": tests}
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        self.files.append(path)
        return path

    def run(self) -> dict[Path, bool]:
        """Of each file whether all its cases hold. Why one does not, `promtool test rules FILE` tells."""
        done = promtool("test", "rules", *map(str, self.files))
        parts = re.split(r"^Unit Testing: +(.*)$", done.stdout, flags=re.MULTILINE)[1:]
        assert len(parts) == 2 * len(self.files), done.stdout + done.stderr
        return {Path(path): "SUCCESS" in said for path, said in zip(parts[::2], parts[1::2], strict=True)}


def _test(case: Case, severity: str) -> dict[str, Any]:
    return {
        "name": case.title,
        "interval": case.every,
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": [
            {
                "eval_time": at,
                "alertname": case.alert,
                "exp_alerts": [{"exp_labels": {"severity": severity, **labels}} for labels in expected],
            }
            for at, expected in case.fires.items()
        ],
    }


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One call. Never skipped: without it the test fails and says what provides it."""
    found = find("promtool")
    assert found is not None, "no promtool: run `make control-plane`, or `python tests/cluster/provide.py --only monitoring`"
    return subprocess.run(
        [str(found), *arguments], capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "GOGC": "800"}
    )


def mutants(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """Each number a little larger and smaller, each selector gone, each `for` gone: what was changed, and the changed rule."""
    expr = rule["expr"]
    for match in _TOKEN.finditer(expr):
        token = match[0]
        if token.startswith("{"):
            yield f"without {token}", _with(rule, expr[: match.start()] + expr[match.end() :])
        elif re.fullmatch(r"\d+(\.\d+)?", token):
            for other in _near(token):
                at = f"{expr[max(0, match.start() - 12) : match.start()]}[{token} -> {other}]"
                yield at, _with(rule, expr[: match.start()] + other + expr[match.end() :])
    if rule.get("for"):
        yield f"without for: {rule['for']}", {**rule, "for": "0s"}


def _near(number: str) -> list[str]:
    value = float(number)
    if value == int(value) and value < 25:
        return [str(int(value) + 1), *([str(int(value) - 1)] if value >= 1 else [])]
    return [f"{value * factor:.6g}" for factor in (1.3, 0.7)]


def _with(rule: Rule, expr: str) -> Rule:
    return {**copy.deepcopy(rule), "expr": expr}
