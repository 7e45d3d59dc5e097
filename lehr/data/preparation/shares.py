"""The passes over the parts of a corpus, and shares of them for processes that see one scratch folder.

Share i of n of a pass has the parts i, i + n, i + 2n ... Whoever has it needs the recipe, the scratch folder, and what was
compared before the pass, which lies there. Nothing depends on n, nor on which share a part was in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lehr.config.data import Data
from lehr.config.deduplication import WHERE
from lehr.config.sources import ExternalSource, FilesSource, SyntheticSource
from lehr.data.damage import Damage
from lehr.data.preparation.compared import Passes, Watch
from lehr.data.preparation.filtering import FilterPart
from lehr.data.preparation.overlap import FindOverlap
from lehr.data.preparation.pace import FILTER, OVERLAP, OfPart
from lehr.data.preparation.parts import Part
from lehr.data.preparation.writing import WritePart
from lehr.data.readers import inputs
from lehr.runtime.errors import Bug, UserError
from lehr.runtime.paths import beside

INDEX = "index"


def folder_of(config: Data, scratch: Path) -> Path:
    """The corpus' folder in a scratch folder: files of another recipe in it are not those of this one."""
    where: Any = {"processes": True, "pods": True, "mixes": True, "shards": True, "deduplication": set(WHERE)}
    return scratch / f"corpus-{hashlib.sha256(config.model_dump_json(exclude=where).encode()).hexdigest()[:16]}"


def parts_of(config: Data, folder: Path) -> tuple[list[Part], dict[str, Damage]]:
    """The parts of all sources, and what was damaged in listing each source's files."""
    found, damage = list[Part](), dict[str, Damage]()
    for name, source in config.sources.items():
        if isinstance(source, ExternalSource):
            what = f"source {name!r} must be supplied: {source.supply}"
            raise UserError(what, where=source.uri, remedy="give its path")
        if isinstance(source, FilesSource):
            damage[name] = Damage(stops=source.damaged == "stop")
            found += [Part(len(found) + i, name, source, each, folder) for i, each in enumerate(inputs(source, damage[name]))]
        else:
            found.append(Part(len(found), name, source, None, folder))
    return found, damage


def save_needs(folder: Path, step: str, **facts: object) -> None:
    """What a pass needs to know beside each part's own files: from now on it may begin."""
    path = folder / f"{step}.json"
    partial = beside(path)
    partial.write_text(json.dumps(facts), encoding="utf-8")
    partial.replace(path)


def tasks_of(step: str, config: Data, parts: Sequence[Part], folder: Path) -> Sequence[OfPart]:
    """The work of a pass on these parts. Raises Bug before `save_needs`."""
    if step == FILTER:  # generators are not among them: they know what the stage gives them
        return [FilterPart(part, config) for part in parts if not isinstance(part.source, SyntheticSource)]
    path = folder / f"{step}.json"
    if not path.is_file():
        raise Bug(f"the pass {step} over the parts was begun before what it needs was there: {path}")
    facts = json.loads(path.read_text(encoding="utf-8"))
    if step == OVERLAP:
        return [FindOverlap(part, folder / INDEX, facts["rows"], config.decontamination.paragraphs) for part in parts]
    return [WritePart(part, tuple(facts["reasons"]), facts["rows"]) for part in parts]


def run_share(step: str, number: int, of: int, config: Data, scratch: Path, watch: Watch) -> int:
    """Do the share `number` (from 0) of `of` of a pass; returns the number of its parts. Raises what work on a part raises."""
    folder = folder_of(config, scratch)
    folder.mkdir(parents=True, exist_ok=True)
    parts, _ = parts_of(config, folder)
    tasks = tasks_of(step, config, parts[number::of], folder)
    Passes(config, parts, watch, len(tasks)).run(step, tasks)
    return len(tasks)
