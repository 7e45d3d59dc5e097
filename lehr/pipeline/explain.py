"""The parts of a stage's fingerprint, how two fingerprints differ, and which stages of a run a changed recipe repeats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import MANIFEST, Manifest, canonical
from lehr.config.names import is_address
from lehr.pipeline.node import Node
from lehr.pipeline.registry import stage
from lehr.pipeline.run import Identity
from lehr.pipeline.spec import Inputs

Parts = dict[str, str]
CODE, INPUT = "code", "input "
_NAMES, _KEYS, _CHARACTERS = 4, 3, 48  # shown at most: stages of a list, changes of a list, characters of a value


@dataclass(frozen=True)
class Change:
    """A part that differs; None on a side that lacks it."""

    key: str
    before: str | None
    now: str | None

    def __str__(self) -> str:
        if self.key == CODE:
            return "the stage's code"
        if self.key.startswith(INPUT):
            return self.key
        if self.before is None or self.now is None:
            return f"{self.key} {'is new' if self.before is None else 'is gone'}"
        return f"{self.key} {_short(self.before)} -> {_short(self.now)}"


def parts_of(manifest: Manifest) -> Parts:
    """The parts of an artifact's fingerprint: settings by key, the code's hash, each input's digest by the stage that made
    it; of merged models from several runs the further ones of a name by their number too."""
    named: dict[str, str] = {}
    for parent in manifest.parents:
        same = sum(name.split(" ")[0] == parent.stage for name in named)
        named[f"{parent.stage} {same + 1}" if same else parent.stage] = parent.digest
    return parts(manifest.config, manifest.code, named)


def parts(config: Mapping[str, Any], code: str, inputs: Mapping[str, str]) -> Parts:
    """All parts of a fingerprint, besides the stage's name, as text."""
    return {**dict(_flat("", config)), CODE: code, **{f"{INPUT}{name}": digest for name, digest in sorted(inputs.items())}}


def changes(before: Parts, now: Parts) -> list[Change]:
    """The parts that differ, settings first. If only the order of keys differs, which counts too, that is the one change."""
    keys = list(dict.fromkeys([*now, *before]))
    found = [Change(key, before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)]
    if not found and list(before) != list(now):
        return [Change("order of keys", ", ".join(before), ", ".join(now))]
    return found


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """The leaves of a table with their paths. Rows of a list are named by their task or name if these are distinct."""
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        names = [str(row.get("task", row.get("name", ""))) for row in value]
        distinct = all(names) and len(set(names)) == len(names)
        value = {name if distinct else str(number): row for number, (name, row) in enumerate(zip(names, value, strict=True))}
    if isinstance(value, Mapping) and value:
        for inner, part in value.items():
            yield from _flat(f"{key}.{inner}" if key else str(inner), part)
    elif key:
        yield key, canonical(value)


def manifests(root: Path) -> list[Manifest]:
    """The manifests of all artifacts in a run's folder; damaged ones are left out."""
    found = []
    for path in sorted((root / "artifacts").glob(f"*/{MANIFEST}")):
        try:
            found.append(Manifest.model_validate_json(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue
    return found


def outlook(
    nodes: Sequence[Node], found: Mapping[str, str], tried: Mapping[str, Identity], earlier: Sequence[Manifest]
) -> list[str]:
    """Lines that tell which stages are made again although the folder has artifacts of their name, and which key changed.

    `found` has the digests of existing artifacts, by node or address; `tried` the identities of nodes that were looked up.
    Empty if nothing changed: the remaining stages were only not made yet.
    """
    causes: dict[str, list[str]] = {}
    follow, fresh = list[str](), list[str]()
    for node in nodes:
        if node.name in found:
            continue
        before = [m for m in earlier if m.stage == node.name]
        why = _why(node, found, tried.get(node.name), before) if before else []
        if why:
            more = f" and {len(why) - _KEYS} more" if len(why) > _KEYS else ""
            causes.setdefault(", ".join(map(str, why[:_KEYS])) + more, []).append(node.name)
        elif before:
            follow.append(node.name)
        else:
            fresh.append(node.name)
    if not causes:
        return []
    lines = [f"made anew, because of {cause}: {named(names)}" for cause, names in causes.items()]
    lines += [f"made anew, because their inputs are: {named(follow)}"] if follow else []
    return lines + ([f"not made before: {named(fresh)}"] if fresh else [])


def _why(node: Node, found: Mapping[str, str], identity: Identity | None, before: Sequence[Manifest]) -> list[Change]:
    """The differences between a node and its most similar earlier artifact, without inputs that are still to be made."""
    own = identity or Identity.of(stage(node.kind), node.name, node.config, Inputs({}))  # inputs still to be made
    known = {name: found[name] for name in node.sources if name in found and not is_address(name)}
    now = parts(own.config, own.code, known)

    def difference(manifest: Manifest) -> list[Change]:
        then = parts_of(manifest)
        return changes({key: v for key, v in then.items() if not key.startswith(INPUT) or key in now}, now)

    return min((difference(manifest) for manifest in before), key=len)


def named(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def _short(value: str) -> str:
    return value if len(value) <= _CHARACTERS else f"{value[: _CHARACTERS - 3]}..."
