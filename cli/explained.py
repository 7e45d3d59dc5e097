"""What `lehr explain` prints, as rich renderables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lehr.artifacts.artifact import Artifact
from lehr.cli.tables import plain_table, text
from lehr.pipeline.explain import CODE, INPUT, changes, parts_of


def _kind(key: str) -> str:
    return "code" if key == CODE else "input" if key.startswith(INPUT) else "setting"


def _name(key: str) -> str:
    return key.removeprefix(INPUT) if key != CODE else "of all that the stage's work reaches"


def _said(artifact: Artifact) -> str:
    return f"{artifact.manifest.stage}  {artifact.folder.name}  fingerprint {artifact.manifest.fingerprint[:12]}"


def fingerprint(artifact: Artifact) -> Table:
    """Every part of one."""
    table = plain_table(_said(artifact), ("part", "key", "value"))
    for key, value in parts_of(artifact.manifest).items():
        table.add_row(_kind(key), text(_name(key)), text(_value(key, value)))
    return table


def differences(here: Artifact, there: Artifact) -> RenderableType:
    """Only what differs, side by side; a line where nothing does."""
    found = changes(parts_of(there.manifest), parts_of(here.manifest))
    if here.manifest.stage != there.manifest.stage:
        what = f"two stages, {here.manifest.stage} and {there.manifest.stage}: their names stand in their fingerprints"
    elif not found:
        return text(f"{here.manifest.stage}: the same settings, code and inputs, fingerprint {here.manifest.fingerprint[:12]}")
    else:
        what = f"{_said(here)}, against {there.folder.name}"
    table = plain_table(what, ("part", "key", "here", "against"))
    for change in found:
        sides = [text("none" if v is None else _value(change.key, v)) for v in (change.now, change.before)]
        table.add_row(_kind(change.key), text(_name(change.key)), *sides)
    return table


def earlier(artifact: Artifact, others: Sequence[Artifact]) -> list[Text]:
    """A line for each other artifact of the stage in the same run: what tells it from this one."""
    lines = []
    for other in others:
        if other.manifest.fingerprint != artifact.manifest.fingerprint:
            found = changes(parts_of(other.manifest), parts_of(artifact.manifest))
            lines.append(text(f"from {other.folder.name} it differs in: {', '.join(map(str, found))}"))
    return [Text("\n").join(lines)] if lines else []


def _value(key: str, value: str) -> str:
    return value[:12] if _kind(key) != "setting" else value
