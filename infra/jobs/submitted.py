"""A run that was submitted, as a person sees it: its state, its log, its end. And how it is started."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from lehr.infra.jobs.attempts import is_replaced
from lehr.infra.jobs.payer import Payer, end_of
from lehr.infra.jobs.refused import refusal
from lehr.infra.jobs.submission import DRIVER, INDEX, RUN, STAGE, attempt_of, jobs_path, owner_uid, pods_path, selector
from lehr.infra.kube.api import Api, ApiError
from lehr.infra.pod.pod_template import PRIMARY
from lehr.infra.pod.stage_state import StageState
from lehr.runtime.environment import digits
from lehr.runtime.errors import UserError

Object = dict[str, Any]
GONE_SECONDS = 60.0


def submit(api: Api, job: Object) -> bool:
    """Create the driver's Job. One that has ended makes room for it; False if one is at work. Raises ApiError."""
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    end = time.monotonic() + GONE_SECONDS
    while True:
        try:
            api.create(jobs_path(namespace), job)
            return True
        except ApiError as error:
            if error.reason != "AlreadyExists" or time.monotonic() > end:
                raise
        found = _job(api, namespace, name)
        if found is not None and not found["metadata"].get("deletionTimestamp"):
            if _state(found) not in ("finished", "failed"):
                return False
            api.delete(jobs_path(namespace, name), found["metadata"]["uid"])
        time.sleep(0.2)


def _job(api: Api, namespace: str, name: str) -> Object | None:
    try:
        return api.get(jobs_path(namespace, name))
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def _state(job: Object) -> str:
    status = job.get("status", {})
    held = {c["type"] for c in status.get("conditions") or [] if c["status"] == "True"}
    if "Complete" in held:
        return "finished"
    if "Failed" in held:
        return "failed"
    return "running" if status.get("ready") or status.get("active") else "waiting"


def states(api: Api, namespace: str, run: str) -> list[StageState]:
    """The driver, then the stages in the order in which they were started. Raises UserError for a run that is not there."""
    jobs = [job for job in _jobs(api, namespace, run) if not job["metadata"].get("deletionTimestamp")]
    pods: dict[str, list[Object]] = {}
    for pod in api.items(pods_path(namespace), {"labelSelector": selector(run)}):
        pods.setdefault(owner_uid(pod), []).append(pod)
    jobs.sort(key=lambda job: (_stage(job) != DRIVER, job["metadata"]["creationTimestamp"], job["metadata"]["name"]))
    stages: dict[str, list[Object]] = {}
    for job in jobs:
        stages.setdefault(_stage(job), []).append(job)
    driven = any(_stage(job) == DRIVER and _state(job) in ("waiting", "running") for job in jobs)
    found = []
    for its in stages.values():
        its.sort(key=attempt_of)
        state, living = _of_stage(its, pods, driven), [p for p in pods.get(its[-1]["metadata"]["uid"], []) if _lives(p)]
        lacks = state.state == "waiting" and len(living) < (its[-1]["spec"].get("parallelism") or 1)
        found.append(replace(state, said=refusal(api, namespace, its[-1]) or state.said) if lacks else state)
    return found


def _lives(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") not in ("Failed", "Succeeded")


def _of_stage(jobs: list[Object], pods: dict[str, list[Object]], driven: bool) -> StageState:
    """Of a stage's Jobs, which on several nodes are its attempts, the newest last."""
    job = jobs[-1]
    its = pods.get(job["metadata"]["uid"], [])
    if job["spec"].get("completionMode") != "Indexed":
        return _stage_state(job, its)
    state, shown = _state(job), min(its, key=_most_to_say, default=None)
    found = _stage_state(job, [shown] if shown is not None else [])
    waits = state == "running" and any(pod.get("status", {}).get("phase") == "Pending" for pod in its)
    if waits or (state == "failed" and driven and not _mistaken(its)):  # the driver makes the next attempt
        state = "waiting"
    return replace(found, state=state, pods=sum(_had(each, pods.get(each["metadata"]["uid"], [])) for each in jobs))


def _had(job: Object, pods: list[Object]) -> int:
    """How many pods it has had. When one fails a Job, Kubernetes deletes the others and only counts them; those that were
    replaced before that are there, and not counted."""
    status = job.get("status", {})
    if not any(c["type"] in ("FailureTarget", "Failed") and c["status"] == "True" for c in status.get("conditions") or []):
        return len(pods)
    leaving = (status.get("uncountedTerminatedPods") or {}).get("failed") or []
    counted = sum(int(status.get(key) or 0) for key in ("active", "terminating", "failed", "succeeded")) + len(leaving)
    replaced = sum((end := end_of(pod)) is not None and is_replaced(pod, end) for pod in pods)
    return max(len(pods), counted + replaced)


def _mistaken(pods: list[Object]) -> bool:
    return any(end is not None and end.payer is Payer.MISTAKE for end in map(end_of, pods))


def _most_to_say(pod: Object) -> tuple[bool, bool, int]:
    """Sorts one that failed before one that waits for something, and that before rank 0's."""
    return end_of(pod) is None, not _waits(pod), _index(pod)


def _index(pod: Object) -> int:
    """A pod's number among those of its stage."""
    return digits(str(pod["metadata"].get("labels", {}).get(INDEX, ""))) or 0


def _jobs(api: Api, namespace: str, run: str) -> list[Object]:
    found = api.items(jobs_path(namespace), {"labelSelector": selector(run)})
    if not found:
        known = sorted({job["metadata"]["labels"][RUN] for job in api.items(jobs_path(namespace), {"labelSelector": RUN})})
        there = f"there are: {', '.join(known)}" if known else "there is none"
        raise UserError(f"no run {run} in the namespace {namespace}", remedy=f"{there}; `lehr submit` prints a run's name")
    return found


def _stage(item: Object) -> str:
    return str(item["metadata"]["labels"].get(STAGE, ""))


def _newest(pods: list[Object]) -> Object | None:
    return max(pods, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]), default=None)


def _stage_state(job: Object, pods: list[Object]) -> StageState:
    state, last = _state(job), _newest(pods)
    if last is None:
        return StageState(_stage(job), state, "", "", 0, _of_job(job) if state == "failed" else "")
    ended = end_of(last)
    said = ended.why if ended is not None else "" if state == "finished" else _waits(last)
    if state == "running" and last.get("status", {}).get("phase") != "Running":
        state = "waiting"
    return StageState(_stage(job), state, last["metadata"]["name"], last["spec"].get("nodeName", ""), len(pods), said)


def _of_job(job: Object) -> str:
    return next((str(c.get("message", "")) for c in job["status"]["conditions"] if c["type"] == "Failed"), "")


def _waits(pod: Object) -> str:
    """Why it does not run: the scheduler's words, or a container's."""
    status = pod.get("status", {})
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind) or []:
            waiting = container.get("state", {}).get("waiting") or {}
            if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
                return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message", ""))
    return ""


def check_known(api: Api, namespace: str, run: str) -> None:
    """Raises UserError for a run that is not there."""
    _jobs(api, namespace, run)


@dataclass(frozen=True)
class LogOf:
    """Which log is wanted: of the newest pod that the label selector `selected` selects, on several nodes of those with the
    number `index`."""

    run: str
    stage: str
    selected: str
    container: str = PRIMARY
    index: int = 0


def log(api: Api, namespace: str, of: LogOf) -> Iterator[str]:
    """A header, then the text. Raises UserError where there is no such pod, or no log of it."""
    pods = api.items(pods_path(namespace), {"labelSelector": of.selected})
    pod = _newest([pod for pod in pods if _index(pod) == of.index])
    if pod is None:
        which = f"pod {of.index}" if of.index else "pod"
        raise UserError(f"{of.run} has no {which} of {of.stage}", remedy=f"`lehr status {of.run}` shows its stages")
    name = pod["metadata"]["name"]
    try:
        text = api.text(f"{pods_path(namespace, name)}/log", {"container": of.container})
    except ApiError as error:
        if error.status != 400:
            raise
        raise UserError(f"{name} has no log yet", remedy=f"`lehr status {of.run}` says what it waits for") from error
    yield f"{name}:"
    yield text


def cancel(api: Api, namespace: str, run: str) -> int:
    """Delete the Jobs of a run, and with them its pods, which are told to end and save what they have. The store keeps all.
    Returns how many Jobs there were. The driver's goes first: it starts no other one."""
    found = sorted(_jobs(api, namespace, run), key=lambda job: _stage(job) != DRIVER)
    for job in found:
        try:
            api.delete(jobs_path(namespace, job["metadata"]["name"]), job["metadata"]["uid"])
        except ApiError as error:
            if error.status not in (404, 409):
                raise
    return len(found)
