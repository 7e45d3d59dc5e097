"""A stage is a function from artifacts to an artifact. This runner gives every stage the same life: found again by its
fingerprint, resumed after a kill, complete or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lehr import incidents
from lehr.artifact import Artifact, ArtifactRef, Cost, Kind, canonical, sha256_text, write_atomic
from lehr.code import code_version
from lehr.errors import LehrError, Preempted, from_os_error
from lehr.ports import Claim, Clock, NullPower, NullTracker, Power, Sampler, Store, SystemClock, Tracker, itself
from lehr.stop import listening


@dataclass(frozen=True)
class Surroundings:
    """The world as a stage sees it, through ports."""

    store: Store
    tracker: Tracker = field(default_factory=NullTracker)
    power: Power = field(default_factory=NullPower)
    clock: Clock = field(default_factory=SystemClock)
    serve: Callable[[Any], Sampler] = itself  # who samples from a LanguageModel; goes to every rank, so it can be pickled


@dataclass
class Outcome:
    """What the work says about its artifact: `meta` is content (part of the digest), the rest is cost."""

    kind: Kind
    meta: dict[str, Any] = field(default_factory=dict)
    tokens: int = 0
    flops: float = 0.0
    processes: int = 1


class Job:
    """One attempt at a stage: `out`, this attempt's own, becomes the artifact; `scratch` survives kills until then. `claim` is
    asked before anything is published."""

    def __init__(self, stage: str, scratch: Path, around: Surroundings, claim: Claim) -> None:
        self.stage, self.scratch, self.tracker, self.claim = stage, scratch, around.tracker, claim
        self.serve = around.serve
        self.out = scratch / f"out-{claim.number}"
        self._around, self._ledger = around, scratch / "cost.json"
        self._began_seconds, self._began_joules = around.clock.seconds(), around.power.joules()
        spent = json.loads(self._ledger.read_text()) if self._ledger.is_file() else {}
        self._earlier_seconds, self._earlier_joules = spent.get("seconds", 0.0), spent.get("joules", 0.0)

    def tell(self, text: str) -> None:
        """Say what happened where people look, and keep it for the artifact's logs over all attempts."""
        self.tracker.note(f"{self.stage}: {text}")
        incidents.record(self.scratch, f"{self.stage}: {text}")

    def spent(self) -> tuple[float, float]:
        """Seconds and joules over all attempts so far; a killed attempt counts up to its last checkpoint."""
        seconds = self._earlier_seconds + self._around.clock.seconds() - self._began_seconds
        return seconds, self._earlier_joules + self._around.power.joules() - self._began_joules

    def checkpointed(self) -> None:
        """Keep the cost so far: called whenever the work saves itself."""
        seconds, joules = self.spent()
        write_atomic(self._ledger, json.dumps({"seconds": seconds, "joules": joules}))


def fingerprint(stage: str, config: dict[str, Any], parents: Sequence[Artifact], code: str) -> str:
    """Names a stage's inputs: configuration, parents' content, code. Never a path, a time or a host."""
    return sha256_text(
        canonical({"stage": stage, "config": config, "parents": [p.manifest.digest for p in parents], "code": code})
    )


def run_stage(
    stage: str,
    work: Callable[[Job], Outcome],
    *,
    module: str,
    config: dict[str, Any],
    parents: Sequence[Artifact],
    around: Surroundings,
    total_steps: int = 0,
    layout: dict[str, Any] | None = None,
) -> ArtifactRef:
    """Find the artifact of `stage` or make it. `module` names the code that `work` runs, for the fingerprint. `layout` is the
    part of the configuration with which the result differs in its last bits only: it belongs to the artifact's fingerprint,
    but work under one layout is gone on with under another.

    Raises UserError for bad input and for a damaged artifact that is found, InfraError for a failing machine, Preempted
    after SIGTERM, or if a newer attempt began meanwhile.
    """
    code = code_version(module)
    begun = f"{stage}-{fingerprint(stage, config, parents, code)[:12]}"
    config = {**config, **(layout or {})}
    print_ = fingerprint(stage, config, parents, code)
    name = f"{stage}-{print_[:12]}"
    try:
        if (found := around.store.find(name)) is not None:
            return _reuse(stage, found, around)
        claim = around.store.begin(begun)
        if (found := around.store.find(name)) is not None:  # the attempt before ended well in between
            return _reuse(stage, found, around)
        job = Job(stage, around.store.scratch(begun, claim), around, claim)
        with _own_folder(job), listening():
            around.tracker.stage_started(stage, total_steps=total_steps, params=config)
            outcome = work(job)
            return _publish(job, outcome, name, print_, config, parents, code, around)
    except OSError as error:
        raise from_os_error(error) from error


def _reuse(stage: str, uri: str, around: Surroundings) -> ArtifactRef:
    artifact = Artifact.open(around.store.fetch(uri), uri=uri)
    around.tracker.stage_finished(stage, uri=uri, reused=True, seconds=artifact.manifest.cost.seconds)
    return artifact.ref


@contextmanager
def _own_folder(job: Job) -> Iterator[None]:
    """A fresh `job.out`; those of older attempts go away, and with a newer attempt this one."""
    for half in job.scratch.glob("out*"):  # what the next attempt needs to go on lies beside it
        shutil.rmtree(half, ignore_errors=True)
    job.out.mkdir(parents=True)
    job.claim.enter(job.scratch, job.tell)
    ending = ""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Preempted | OSError):
            _unless_overtaken(job, error)
        ending = incidents.ending(error)
        _settle(job, error)
        raise
    finally:
        job.claim.leave(ending)


def _settle(job: Job, error: BaseException) -> None:
    """What was saved last may still be on its way to where the next attempt looks. Raises what that failed with if the stage
    ends as Preempted, which says that its state is saved."""
    try:
        job.claim.settle()
    except LehrError as lost:
        if isinstance(error, Preempted):
            raise
        error.add_note(f"the last save did not arrive either: {lost}")


def _unless_overtaken(job: Job, error: BaseException) -> None:
    """A file that a newer attempt took away is no fault of the disk's. Raises Preempted if there is a newer attempt."""
    try:
        job.claim.check()
    except Preempted as overtaken:
        shutil.rmtree(job.out, ignore_errors=True)
        with suppress(OSError):  # not empty: the newer attempt is at work in it
            job.scratch.rmdir()
        raise overtaken from error


def _publish(
    job: Job,
    outcome: Outcome,
    name: str,
    print_: str,
    config: dict[str, Any],
    parents: Sequence[Artifact],
    code: str,
    around: Surroundings,
) -> ArtifactRef:
    seconds, joules = job.spent()
    cost = Cost(
        seconds=seconds,
        tokens=outcome.tokens,
        flops=outcome.flops,
        energy_joules=joules,
        energy_source=around.power.source,
        processes=outcome.processes,
    )
    artifact = Artifact.seal(
        job.out,
        kind=outcome.kind,
        stage=job.stage,
        fingerprint=print_,
        parents=[p.ref for p in parents],
        config=config,
        code=code,
        meta=outcome.meta,
        cost=cost,
    )
    uri = around.store.commit(name, job.out, job.claim)
    around.tracker.stage_finished(job.stage, uri=uri, reused=False, seconds=seconds)
    return ArtifactRef(uri=uri, digest=artifact.manifest.digest, kind=outcome.kind, stage=job.stage)
