"""The declaration of a kind of stage: configuration, inputs, output, resources, its plan, its display, and its work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from lehr.artifacts.artifact import Artifact, Kind
from lehr.config.base import Config, without_reported
from lehr.runtime.errors import Bug

Phase = Literal["data", "pretraining", "soup", "post-training", "evaluation", "export"]
ResourceClass = Literal["cpu", "accelerator", "ranked"]


class StageConfig(Config):
    """The base of every stage's configuration: everything that its result depends on, besides its inputs and its code."""

    LAYOUT: ClassVar[frozenset[str]] = frozenset()  # keys that change only the last bits of a result
    UNHASHED: ClassVar[frozenset[str]] = frozenset()  # keys that do not change a result

    def described(self) -> dict[str, Any]:
        """What the result depends on, without the layout. The order of keys counts: sources are drawn in a table's own
        order."""
        said: dict[str, Any] = without_reported(self.model_dump(mode="json", exclude={*self.LAYOUT, *self.UNHASHED}))
        return said

    def uses(self) -> list[Callable[..., Any]]:
        """The user's own functions that the configuration names and the work calls: their code is part of the fingerprint."""
        return []

    def layout(self) -> dict[str, Any]:
        """The rest of what names the result: unfinished work under one layout can be resumed under another."""
        return self.model_dump(mode="json", include=set(self.LAYOUT))


@dataclass(frozen=True)
class Role:
    """One input of a stage: the kind of its artifact; whether there may be `many`, or none (`optional`)."""

    kind: Kind
    many: bool = False
    optional: bool = False


class Inputs:
    """The artifacts given to a stage, by role."""

    def __init__(self, by_role: Mapping[str, list[Artifact]]) -> None:
        self._by_role = by_role

    def __getitem__(self, role: str) -> Artifact:
        """The one artifact of that role. Raises Bug if there are none or several."""
        found = self.many(role)
        if len(found) != 1:
            raise Bug(f"{len(found)} artifacts for the role {role!r}, where one is needed")
        return found[0]

    def get(self, role: str) -> Artifact | None:
        """The artifact of an optional role, or None."""
        found = self.many(role)
        return found[0] if found else None

    def many(self, role: str) -> list[Artifact]:
        """All artifacts of that role, in the graph's order."""
        return list(self._by_role.get(role, []))

    def __iter__(self) -> Iterator[Artifact]:
        """Every input, in the order of the roles."""
        return (artifact for artifacts in self._by_role.values() for artifact in artifacts)

    def roles(self) -> Iterator[tuple[str, Artifact]]:
        """Each role that has one artifact, with it."""
        return ((role, artifacts[0]) for role, artifacts in self._by_role.items() if len(artifacts) == 1)

    def digests(self) -> dict[str, list[str]]:
        """Content digests by role."""
        return {role: [a.manifest.digest for a in artifacts] for role, artifacts in self._by_role.items() if artifacts}


@dataclass
class Outcome:
    """What a stage records about its artifact: `meta` is content (part of the digest), the rest is cost: `tokens` processed by
    `processes` in `flops` floating point operations."""

    meta: dict[str, Any] = field(default_factory=dict)
    tokens: int = 0
    flops: float = 0.0
    processes: int = 1


@dataclass(frozen=True)
class StageSpec:
    """A kind of stage. `run` is None for kinds that can be planned but not yet run.

    `run(config, inputs, attempt)` writes the artifact's files into `attempt.out`. `total_steps(config, inputs)` is for the
    progress display, 0 if nothing is counted. `expand(step, place)` makes the nodes of a post-training step of this kind (see
    lehr.pipeline.graph). `plan(node, place)` is its amount of work (see lehr.planning.work). `announce(config, artifact,
    tracker)` reports a finished stage to the trackers, whether it was made now or found again. `ready(config)` raises UserError
    where what the stage needs beside its inputs is missing, such as a server; it is asked before the first stage of a graph.
    """

    kind: str
    config: type[StageConfig]
    roles: Mapping[str, Role]
    output: Kind
    resources: ResourceClass
    phase: Phase
    run: Callable[[Any, Inputs, Any], Outcome] | None
    total_steps: Callable[[Any, Inputs], int] = lambda config, inputs: 0
    expand: Callable[[Any, Any], list[Any]] | None = None
    plan: Callable[[Any, Any], Any] | None = None
    announce: Callable[[Any, Artifact, Any], None] | None = None
    ready: Callable[[Any], None] = lambda config: None

    def inputs(self, found: Mapping[str, list[Artifact]]) -> Inputs:
        """Artifacts by role, checked. Raises Bug for an unknown or missing role, and UserError for an artifact of the wrong
        kind, which a user may have named."""
        for role in found:
            if role not in self.roles:
                raise Bug(f"a {self.kind} stage has no input {role!r}")
        by_role = {}
        for role, wanted in self.roles.items():
            artifacts = [artifact.expect(wanted.kind) for artifact in found.get(role, [])]
            if (not artifacts and not wanted.optional) or (len(artifacts) > 1 and not wanted.many):
                raise Bug(f"a {self.kind} stage was given {len(artifacts)} artifacts as {role!r}")
            by_role[role] = artifacts
        return Inputs(by_role)
