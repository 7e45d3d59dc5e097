"""The run that made an artifact, as far as it is there: its machines' price, its stages, and its work that led to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lehr.artifacts.artifact import Artifact
from lehr.artifacts.folder_store import LocalStore
from lehr.artifacts.ledger import spent_on
from lehr.config import load_recipe
from lehr.config.hardware import Hardware
from lehr.pipeline.graph import graph
from lehr.runtime.errors import LehrError
from lehr.runtime.json_files import read_object
from lehr.runtime.yaml_file import read_mapping


@dataclass(frozen=True)
class Lost:
    """Work on a stage that led to no artifact. `energy` holds joules by source."""

    stage: str
    seconds: float
    energy: tuple[tuple[str, float], ...]
    gaps: bool = False


@dataclass(frozen=True, eq=False)
class Origin:
    """`hardware` is None where the recipe describes none, or is gone; `stages` are the names of those that the run has."""

    folder: Path
    hardware: Hardware | None
    stages: frozenset[str]
    lost: tuple[Lost, ...]


class Origins:
    """Each run is read once."""

    def __init__(self) -> None:
        self._known: dict[Path, Origin] = {}

    def of(self, artifact: Artifact) -> Origin | None:
        """None of an artifact that is in no run's folder."""
        above = artifact.folder.absolute().parent
        if above.name != "artifacts":
            return None
        folder = above.parent
        if folder not in self._known:
            self._known[folder] = Origin(folder, _hardware(folder), frozenset(_stages(folder)), _lost(folder))
        return self._known[folder]


def _hardware(folder: Path) -> Hardware | None:
    """As the recipe that the run pinned has it, whichever version of this program wrote the rest of it."""
    try:
        return Hardware.model_validate(read_mapping(folder / "recipe.yaml", "recipe", "")["hardware"])
    except (LehrError, OSError, KeyError, ValidationError):
        return None


def _stages(folder: Path) -> set[str]:
    """Those of the recipe, and those that the run has made."""
    made = {path.name.rpartition("-")[0] for path in (folder / "artifacts").glob("*")}
    try:
        return made | {node.name for node in graph(load_recipe(folder / "recipe.yaml"))}
    except (LehrError, OSError):
        return made


def _lost(folder: Path) -> tuple[Lost, ...]:
    """As the run's footprint.json has it; of a run that has published nothing what its ledgers hold now."""
    published = folder / "footprint.json"
    try:
        if published.is_file():
            rows = read_object(published, "").get("unfinished", {})
            return tuple(_published(name, row) for name, row in rows.items())
        if (folder / "lineage.json").is_file():
            return ()  # of a version that counted none
        spent = {name: spent_on(entries) for name, entries in LocalStore(folder).unfinished().items()}
    except (LehrError, OSError, AttributeError, TypeError, ValueError):
        return ()  # damaged
    return tuple(Lost(_stage(name), s.seconds, tuple(s.energy.items()), bool(s.gaps)) for name, s in spent.items())


def _published(name: str, row: Mapping[str, Any]) -> Lost:
    joules = float(row["it_joules"])
    sources = row.get("it_joules_by_source")  # which earlier versions do not say
    energy = {str(k): float(v) for k, v in sources.items()} if sources is not None else {"an unnamed meter": joules}
    return Lost(_stage(name), float(row["seconds"]), tuple(energy.items()))


def _stage(name: str) -> str:
    """Of a name of work: the stage's, without the fingerprint."""
    return name.rpartition("-")[0]
