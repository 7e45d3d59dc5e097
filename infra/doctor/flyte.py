"""An installed Flyte, by the ConfigMaps that its charts make: whether it has the settings that Lehr's tasks need."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lehr.infra.doctor.place import OURS, Place, guarded, refusal
from lehr.infra.kube.api import FORBIDDEN, ApiError
from lehr.runtime.errors import LehrError, UserError
from lehr.runtime.findings import Finding, Verdict, fail, ok, unseen
from lehr.runtime.yaml_file import parse, text_of

NEEDED = Path(__file__).with_name("flyte.yaml")
TEMPLATE, DEFAULT_TEMPLATE = "PODTEMPLATE", "lehr-task"
PLUGINS = "tasks.task-plugins.enabled-plugins"
OPERATOR, JOBS = "kubeflow.org/v1", "pytorchjobs"
_VALUES = "helm/lehr/files/flyte has values for flyte-binary and flyte-core; helm upgrade Flyte with them"
Settings = Sequence[dict[str, Any]]  # files of configuration, which Flyte merges; keys of a Secret are not among them


def needed() -> list[dict[str, Any]]:
    """Each with `path`, `why`, and one of `atLeast`, `equals` and `noneLike`."""
    found: list[dict[str, Any]] = parse(text_of(NEEDED, "list of settings", ""), str(NEEDED))
    return found


def check_flyte(place: Place) -> Iterator[Finding]:
    """A line for each setting, where there is a Flyte and its ConfigMaps may be read."""
    files: list[dict[str, Any]] = []
    strange: list[str] = []
    try:
        files, strange = _files(place)
        templates = _templates(place)
    except LehrError as error:
        yield refusal("Flyte", error)
    else:
        if any("propeller" in file for file in files):
            yield from (_unless(strange, setting(wanted, files, templates)) for wanted in needed())
        else:
            yield ok("Flyte", f"none in the namespace {place.flyte}; --flyte-namespace names another")
            files = []
    yield guarded("training operator", lambda: operator(place, files))


def _files(place: Place) -> tuple[list[dict[str, Any]], list[str]]:
    """The files of configuration in the namespace's ConfigMaps, and the names of those that are none that we can read."""
    found, strange = [], []
    for item in place.api.items(f"/api/v1/namespaces/{place.flyte}/configmaps"):
        for name, text in (item.get("data") or {}).items():
            if name.endswith(".yaml"):
                try:
                    file = parse(str(text), name)
                except UserError:
                    strange.append(f"{item['metadata']['name']}/{name}")
                    continue
                if isinstance(file, dict):
                    found.append(file)
    return found, strange


def _unless(strange: Sequence[str], finding: Finding) -> Finding:
    """What is lacking may stand in a file that could not be read."""
    if not strange or finding.verdict is not Verdict.FAIL:
        return finding
    return unseen(finding.check, f"{finding.found}; {', '.join(strange)} could not be read", finding.remedy)


def _templates(place: Place) -> set[str]:
    """Lehr's PodTemplates in the training namespace; the chart's default name where they may not be listed."""
    try:
        items = place.api.items(f"/api/v1/namespaces/{place.namespace}/podtemplates", OURS)
    except ApiError as error:
        if error.status != FORBIDDEN:
            raise
        return {DEFAULT_TEMPLATE}
    return {str(item["metadata"]["name"]) for item in items}


def at(path: str, file: Any) -> Any:
    """What stands at a dotted path, None where nothing does."""
    for step in path.split("."):
        file = file.get(step) if isinstance(file, dict) else None
    return file


def setting(wanted: dict[str, Any], files: Settings, templates: set[str]) -> Finding:
    """One setting; it is right if one of the files says so."""
    path = str(wanted["path"])
    check, values = f"Flyte: {path.rpartition('.')[2]}", [v for file in files if (v := at(path, file)) is not None]
    if "noneLike" in wanted:
        held = [name for name in _variables(values) if re.search(str(wanted["noneLike"]), name)]
        return fail(check, f"{path} holds {', '.join(held)}: {wanted['why']}", "take it out") if held else ok(check, "no keys")
    if any(_right(value, wanted, templates) for value in values):
        return ok(check, " and ".join(str(value) for value in values))
    said = ", ".join(str(value)[:40] for value in values) or "not set"
    return fail(check, f"{path} ({said}): {wanted['why']}", f"set {_goal(wanted, templates)}; {_VALUES}")


def _right(value: Any, wanted: dict[str, Any], templates: set[str]) -> bool:
    if "atLeast" in wanted:
        return isinstance(value, int | float) and value >= wanted["atLeast"]
    if wanted["equals"] == TEMPLATE:
        return value in templates
    return bool(value == wanted["equals"])


def _goal(wanted: dict[str, Any], templates: set[str]) -> str:
    if "atLeast" in wanted:
        return f"{wanted['atLeast']} or more"
    if wanted["equals"] != TEMPLATE:
        return str(wanted["equals"]).lower()
    return " or ".join(sorted(templates)) or "tasks.podTemplate.create of the chart lehr, then its name here"


def _variables(values: Sequence[Any]) -> list[str]:
    """The names of variables: Flyte writes a list of mappings of one entry. Never their values."""
    each = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [str(name) for one in each if isinstance(one, dict) for name in one]


def operator(place: Place, files: Settings) -> Finding:
    """PyTorchJobs, which a stage on several nodes is under Flyte."""
    check, several = "training operator", place.stage_nodes > 1
    if JOBS not in place.api.types(OPERATOR):
        what = "PyTorchJobs are not known here"
        if several:
            return fail(
                check, f"{what}, and a stage on {place.stage_nodes} nodes is one", "install Kubeflow's training operator, v1"
            )
        return ok(check, f"{what}; a stage on several nodes would need them")
    if several and files and not any("pytorch" in (at(PLUGINS, file) or []) for file in files):
        return fail(check, f"Flyte's plugin `pytorch` is not in {PLUGINS}", "add it there")
    if several and not files:
        return unseen(check, "PyTorchJobs are known; whether Flyte's plugin `pytorch` is on could not be read")
    return ok(check, "PyTorchJobs are known")
