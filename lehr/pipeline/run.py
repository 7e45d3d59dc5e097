"""The life of one stage: found again by its fingerprint, gone on with after a kill, complete or absent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from lehr.artifacts import incidents
from lehr.artifacts.artifact import Artifact, ArtifactRef, Cost, canonical, sha256_text
from lehr.artifacts.fingerprint import code_version
from lehr.pipeline.attempt import Attempt, StageContext
from lehr.pipeline.spec import Inputs, Outcome, StageConfig, StageSpec
from lehr.runtime.errors import Bug, LehrError, Preempted, UserError, from_os_error
from lehr.runtime.preemption import listening


def fingerprint(name: str, config: dict[str, Any], inputs: Mapping[str, list[str]], code: str) -> str:
    """Names what a stage's result follows from: configuration, content of the inputs by role, code. Never a path, a time or a
    host."""
    said = {"stage": name, "inputs": dict(inputs), "code": code}
    return sha256_text(canonical(said) + canonical(config, sort_keys=False))


@dataclass(frozen=True)
class Identity:
    """Of one stage with its inputs: `artifact` is the name of its result, `work` that of the work in progress, which is the
    same under every layout."""

    config: dict[str, Any]
    code: str
    print: str
    artifact: str
    work: str

    @classmethod
    def of(cls, spec: StageSpec, name: str, config: StageConfig, inputs: Inputs) -> Identity:
        """Raises UserError where the configuration names files that are not there."""
        if spec.run is None:
            raise Bug(f"a stage of kind {spec.kind} cannot be run by this version")
        own = sorted(code_version(function) for function in config.uses())
        code = code_version(spec.run) if not own else sha256_text(canonical([code_version(spec.run), *own]))
        digests, described = inputs.digests(), config.described()
        begun = fingerprint(name, described, digests, code)
        whole = {**described, **config.layout()}
        full = fingerprint(name, whole, digests, code)
        return cls(whole, code, full, f"{name}-{full[:12]}", f"{name}-{begun[:12]}")


def run_stage(spec: StageSpec, name: str, config: StageConfig, inputs: Inputs, context: StageContext) -> ArtifactRef:
    """Find the stage's artifact or make it.

    Raises UserError for bad input and for a damaged artifact that is found, InfraError for a failing machine, Preempted after
    SIGTERM, or if a newer attempt began meanwhile.
    """
    try:
        identity = Identity.of(spec, name, config, inputs)
        if (uri := context.store.find(identity.artifact)) is not None:
            return found_again(spec, name, config, uri, context)
        fencing = context.store.begin(identity.work)
        if (uri := context.store.find(identity.artifact)) is not None:  # the attempt before ended well in between
            return found_again(spec, name, config, uri, context)
        attempt = Attempt(name, context.store.scratch(identity.work, fencing), context, fencing)
        with _own_folder(attempt), listening():
            steps = spec.total_steps(config, inputs)
            context.tracker.stage_started(name, total_steps=steps, params=identity.config)
            assert spec.run is not None
            outcome = spec.run(config, inputs, attempt)
            _refuse_change(name, identity, config)
            return _publish(spec, config, attempt, _seal(spec, attempt, outcome, identity, inputs), identity.artifact)
    except OSError as error:
        raise from_os_error(error) from error


def _refuse_change(name: str, identity: Identity, config: StageConfig) -> None:
    """The fingerprint names what the files held before they were read: a corpus that somebody still writes would bear the name
    of less than it holds. Raises UserError."""
    changed = [key for key, value in config.described().items() if value != identity.config[key]]
    if changed:
        raise UserError(
            f"a file of `{changed[0]}` changed while it was read", where=name, remedy="run again when nobody writes to it"
        )


def found_again(spec: StageSpec, name: str, config: StageConfig, uri: str, context: StageContext) -> ArtifactRef:
    """Tell the trackers of a stage that was made before. Raises UserError if it is damaged."""
    artifact = Artifact.open(context.store.fetch(uri), uri=uri)
    context.tracker.stage_finished(name, uri=uri, reused=True, seconds=artifact.manifest.cost.seconds)
    if spec.announce is not None:
        spec.announce(config, artifact, context.tracker)
    return artifact.ref


@contextmanager
def _own_folder(attempt: Attempt) -> Iterator[None]:
    """A fresh `attempt.out`; those of older attempts go away, and with a newer attempt this one."""
    for half in attempt.scratch.glob("out*"):  # what the next attempt needs to go on lies beside it
        shutil.rmtree(half, ignore_errors=True)
    attempt.out.mkdir(parents=True)
    attempt.fencing.enter(attempt.scratch, attempt.log)
    exit_reason = ""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Preempted | OSError):
            _unless_overtaken(attempt, error)
        exit_reason = incidents.exit_reason(error)
        _flush_saves(attempt, error)
        raise
    finally:
        attempt.fencing.leave(exit_reason)


def _flush_saves(attempt: Attempt, error: BaseException) -> None:
    """What was saved last may still be on its way to where the next attempt looks. Raises what that failed with if the stage
    ends as Preempted, which says that its state is saved."""
    try:
        attempt.fencing.flush()
    except LehrError as lost:
        if isinstance(error, Preempted):
            raise
        error.add_note(f"the last save did not arrive either: {lost}")


def _unless_overtaken(attempt: Attempt, error: BaseException) -> None:
    """A file that a newer attempt took away is no fault of the disk's. Raises Preempted if there is a newer attempt."""
    try:
        attempt.fencing.check()
    except Preempted as overtaken:
        shutil.rmtree(attempt.out, ignore_errors=True)
        with suppress(OSError):  # not empty: the newer attempt is at work in it
            attempt.scratch.rmdir()
        raise overtaken from error


def _seal(spec: StageSpec, attempt: Attempt, outcome: Outcome, identity: Identity, inputs: Inputs) -> Artifact:
    seconds, joules = attempt.spent()
    cost = Cost(
        seconds=seconds,
        tokens=outcome.tokens,
        flops=outcome.flops,
        energy_joules=joules,
        energy_source=attempt.context.power.source,
        processes=outcome.processes,
    )
    return Artifact.seal(
        attempt.out,
        kind=spec.output,
        stage=attempt.name,
        fingerprint=identity.print,
        parents=list({p.manifest.digest: p.ref for p in inputs}.values()),
        config=identity.config,
        code=identity.code,
        meta=outcome.meta,
        cost=cost,
        stage_kind=spec.kind,
    )


def _publish(spec: StageSpec, config: StageConfig, attempt: Attempt, sealed: Artifact, name: str) -> ArtifactRef:
    context, manifest = attempt.context, sealed.manifest
    uri = context.store.commit(name, attempt.out, attempt.fencing)
    context.tracker.stage_finished(attempt.name, uri=uri, reused=False, seconds=manifest.cost.seconds)
    if spec.announce is not None:
        spec.announce(config, Artifact.open(context.store.fetch(uri), verify=False, uri=uri), context.tracker)
    return ArtifactRef(uri=uri, digest=manifest.digest, kind=spec.output, stage=attempt.name)
