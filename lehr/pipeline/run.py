"""The life of one stage: found again by its fingerprint, resumed after a kill, complete or absent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from lehr.artifacts import incidents
from lehr.artifacts.artifact import Artifact, ArtifactRef, Cost, canonical, sha256_text
from lehr.artifacts.fingerprint import code_version
from lehr.pipeline.attempt import Attempt, StageContext
from lehr.pipeline.spec import Inputs, Outcome, StageConfig, StageSpec
from lehr.runtime.counters import declare
from lehr.runtime.errors import Bug, LehrError, Preempted, UserError, from_os_error, whose
from lehr.runtime.preemption import listening

ATTEMPTS = declare("attempts", ("stage", "ended"))


def fingerprint(name: str, config: dict[str, Any], inputs: Mapping[str, list[str]], code: str) -> str:
    """A hash of all that a stage's result depends on: configuration, content of the inputs by role, code. Never a path, a time
    or a host."""
    said = {"stage": name, "inputs": dict(inputs), "code": code}
    # Not sorted: sources are drawn in the order in which a table of shares names them.
    return sha256_text(canonical(said) + canonical(config, sort_keys=False))


@dataclass(frozen=True)
class Identity:
    """The names of one stage with its inputs: `artifact` is that of its result, `work` that of its unfinished work, which is
    the same under every layout, so that work can be resumed under another."""

    config: dict[str, Any]
    code: str
    print: str
    artifact: str
    work: str

    @classmethod
    def of(cls, spec: StageSpec, name: str, config: StageConfig, inputs: Inputs) -> Identity:
        """Raises UserError if the configuration names files that are missing, Bug for a kind that cannot be run."""
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
    SIGTERM, or if a newer attempt has begun.
    """
    try:
        identity = Identity.of(spec, name, config, inputs)
        if (uri := context.store.find(identity.artifact)) is not None:
            return found_again(spec, name, config, uri, context)
        fencing = context.store.begin(identity.work)
        if (uri := context.store.find(identity.artifact)) is not None:  # an earlier attempt finished between the two lines
            return found_again(spec, name, config, uri, context)
        attempt = Attempt(name, context.store.scratch(identity.work, fencing), context, fencing)
        # In this order: what a signal raises passes through `_own_folder`, which waits for the last save.
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
    """Raises UserError if an input file changed during the stage. The fingerprint was computed before the files were read: a
    corpus still being written would be recorded under the fingerprint of a shorter one."""
    changed = [key for key, value in config.described().items() if value != identity.config[key]]
    if changed:
        raise UserError(
            f"a file of `{changed[0]}` changed while it was read", where=name, remedy="run again when nothing writes to it"
        )


def found_again(spec: StageSpec, name: str, config: StageConfig, uri: str, context: StageContext) -> ArtifactRef:
    """Report a stage that was made before to the trackers. Raises UserError if its artifact is damaged."""
    artifact = Artifact.open(context.store.fetch(uri), uri=uri)
    context.tracker.stage_finished(name, uri=uri, reused=True, seconds=artifact.manifest.cost.seconds)
    if spec.announce is not None:
        spec.announce(config, artifact, context.tracker)
    return artifact.ref


@contextmanager
def _own_folder(attempt: Attempt) -> Iterator[None]:
    """A fresh `attempt.out`. Deletes those of older attempts, and this one too if a newer attempt has begun."""
    for half in attempt.scratch.glob("out*"):  # saves, from which this attempt resumes, are beside them
        shutil.rmtree(half, ignore_errors=True)
    attempt.out.mkdir(parents=True)
    attempt.fencing.enter(attempt.scratch, partial(_of_older, attempt))
    attempt.ledger.resume()
    exit_reason = ""
    try:
        yield
        ATTEMPTS.add(1, stage=attempt.name, ended="finished")
    except BaseException as error:
        ATTEMPTS.add(1, stage=attempt.name, ended=whose(error))
        if isinstance(error, Preempted | OSError):
            _unless_overtaken(attempt, error)
        exit_reason = incidents.exit_reason(error)
        _flush_saves(attempt, error)
        raise
    finally:
        attempt.ledger.end()
        attempt.fencing.leave(exit_reason)


def _of_older(attempt: Attempt, line: str) -> None:
    """Note how an older attempt ended, and count one that could not count itself."""
    if incidents.NO_END in line:
        ATTEMPTS.add(1, stage=attempt.name, ended="killed")
    attempt.log(line)


def _flush_saves(attempt: Attempt, error: BaseException) -> None:
    """Wait for the last save to reach where the next attempt looks. Raises the error of that upload if the stage ends as
    Preempted, because that claims that the state is saved."""
    try:
        attempt.fencing.flush()
    except LehrError as lost:
        if isinstance(error, Preempted):
            raise
        error.add_note(f"the last save was not uploaded either: {lost}")


def _unless_overtaken(attempt: Attempt, error: BaseException) -> None:
    """Raises Preempted if there is a newer attempt: `error` may then only be that it deleted a file of this one."""
    try:
        attempt.fencing.check()
    except Preempted as overtaken:
        shutil.rmtree(attempt.out, ignore_errors=True)
        with suppress(OSError):  # not empty: the newer attempt is using it
            attempt.scratch.rmdir()
        raise overtaken from error


def _seal(spec: StageSpec, attempt: Attempt, outcome: Outcome, identity: Identity, inputs: Inputs) -> Artifact:
    spent = attempt.spent()
    attempt.ledger.end()  # before the scratch goes
    cost = Cost(
        seconds=spent.seconds,
        tokens=outcome.tokens,
        flops=outcome.flops,
        energy_joules=spent.joules,
        energy_source=spent.source,
        energy=dict(spent.energy),
        energy_gaps=list(spent.gaps),
        processes=outcome.processes,
        machines=spent.machines,
        attempts=spent.attempts,
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
        # Sealed a moment ago: not hashed again.
        spec.announce(config, Artifact.open(context.store.fetch(uri), verify=False, uri=uri), context.tracker)
    return ArtifactRef(uri=uri, digest=manifest.digest, kind=spec.output, stage=attempt.name)
