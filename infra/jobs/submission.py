"""What a run on a cluster was submitted with, and how its objects are named and labelled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lehr.infra.fleet.policy import GPU_RESOURCE, NAMES
from lehr.infra.pod.pod_request import LONGEST, slug, stage_labels
from lehr.runtime.environment import digits
from lehr.runtime.errors import UserError

VARIABLE = "LEHR_SUBMISSION"  # environment of the driver's and the stages' pods: a Submission as JSON, without any key
DRIVER = "driver"
DRIVER_ACCOUNT = "lehr-driver"  # the chart's training.driver.name
RUN, STAGE = NAMES.run_label, NAMES.stage_label
ATTEMPT = NAMES.attempt_label  # on Jobs of stages on several nodes, and their pods
INDEX = "batch.kubernetes.io/job-completion-index"  # Kubernetes' own label of an Indexed Job's pods
PART_OF = {"app.kubernetes.io/part-of": "lehr"}


@dataclass(frozen=True)
class Submission:
    """`name` is the run's on the cluster, `run` lehr.tasks.refs.RunRef as plain values. The secret and the accounts are named,
    never read; `account` is the stages' pods', "" for the namespace's own. At most `parallel` stages run at a time.
    `gpu_resource` is the device plugin's name for a GPU."""

    name: str
    namespace: str
    image: str
    run: Mapping[str, str]
    recipe: str
    secret: str = ""
    account: str = ""
    driver_account: str = DRIVER_ACCOUNT
    parallel: int = 8
    gpu_resource: str = GPU_RESOURCE

    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def parse(text: str) -> Submission:
    """What `Submission.text` wrote. Raises UserError for anything else."""
    try:
        found: dict[str, Any] = json.loads(text)
        return Submission(**{field.name: found[field.name] for field in fields(Submission)})
    except (ValueError, TypeError, KeyError) as error:
        raise UserError("this is no submission of Lehr's", where=VARIABLE, remedy="it is set by `lehr submit`") from error


def job_name(run: str, stage: str, owner_uid: str = "", more: str = "", longest: int = LONGEST) -> str:
    """Of a stage's Job, a label of its pods, or of the driver's, which has no owner. Another submission's Jobs have other
    names, so that none waits for the objects of one that is going. `more` comes last."""
    tail = (f"-{owner_uid[:5]}" if owner_uid else "") + (f"-{more}" if more else "")
    name = f"{run}-{slug(stage)}"
    if len(name) + len(tail) > longest:
        digest = hashlib.sha256(stage.encode()).hexdigest()[:6]
        name = f"{name[: longest - len(tail) - 7].rstrip('-')}-{digest}"
    return name + tail


def attempt_name(run: str, stage: str, owner_uid: str, attempt: int, nodes: int) -> str:
    """Of the Job of an attempt on several nodes: with a pod's index behind it, it must be a host's name."""
    return job_name(run, stage, owner_uid, str(attempt), LONGEST - len(f"-{nodes - 1}"))


def attempt_of(job: Mapping[str, Any]) -> int:
    """1 where a Job says none: Kubernetes itself starts a stage on one node again."""
    return digits(str(job["metadata"].get("labels", {}).get(ATTEMPT, ""))) or 1


def labels(submission: Submission, stage: str) -> dict[str, str]:
    """Of a Job and its pods."""
    return {**PART_OF, **stage_labels(submission.name, stage, submission.recipe)}


def selector(run: str, stage: str = "") -> str:
    """Selects the Jobs and pods of a run, or those of one stage."""
    return f"{RUN}={run}" + (f",{STAGE}={slug(stage)}" if stage else "")


def owner_uid(item: Mapping[str, Any]) -> str:
    """Of the object that an object belongs to, "" for none: of a pod its Job's."""
    owners: list[dict[str, Any]] = item["metadata"].get("ownerReferences") or [{}]
    return str(owners[0].get("uid", ""))


def jobs_path(namespace: str, name: str = "") -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs" + (f"/{name}" if name else "")


def pods_path(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/pods" + (f"/{name}" if name else "")
