"""Tasks that end as Lehr's do, and do nothing else: registered beside the recipe's workflow for the table of failures.

A first attempt ends as its `kind` says; later ones end well. Everything around them is what a stage has: pod template,
preflight and gate, supervisor, watchdog, `owned`.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

from flytekit import map_task, task, workflow
from flytekit.exceptions.user import FlyteRecoverableException

from lehr.infra.pod.pod_request import PodRequest
from lehr.runtime import heartbeat
from lehr.runtime.errors import InfraError, NodeFault, UserError
from lehr.tasks.owned import owned
from lehr.tasks.requests import default
from lehr.tasks.stages import settings

AT_ONCE = 64  # pods of a wide fan-out
KINDS = ("mistake", "bug", "store", "device", "hang", "silent", "waits", "well")


def _end(kind: str) -> None:
    print("at work", flush=True)
    if kind == "mistake":
        raise UserError("a key is wrong", where="recipe.yaml", remedy="mend it")
    if kind == "bug":
        raise ZeroDivisionError("a mistake of Lehr's own")
    if kind == "store":
        raise InfraError("the store does not answer")
    if kind == "device":
        raise NodeFault("CUDA error: uncorrectable ECC error encountered")
    if kind == "hang":
        for step in range(5):
            heartbeat.stepping(step)
        time.sleep(600)
    if kind == "silent":
        os._exit(0)
    if kind == "waits":
        time.sleep(600)


def first() -> bool:
    """Whether this is the first pod of its node: the engine counts retries of both kinds in it."""
    return os.environ.get("FLYTE_ATTEMPT_NUMBER", "0") == "0"


REQUEST = default("accelerator")


def _settings(asked: PodRequest) -> dict[str, Any]:
    return {**settings(asked), "environment": {"LEHR_WATCHDOG_SECONDS": "1"}}


@task(**_settings(REQUEST))
@owned(FlyteRecoverableException)
def act(kind: str) -> str:
    if first():
        _end(kind)
    return kind


@task(**_settings(replace(REQUEST, pool="apart")))  # whose machines a test may take away
@owned(FlyteRecoverableException)
def act_apart(kind: str) -> str:
    if first():
        _end(kind)
    return kind


@workflow
def one(kind: str) -> str:
    return act(kind=kind)


@workflow
def apart(kind: str) -> str:
    return act_apart(kind=kind)


@workflow
def many(kinds: list[str]) -> list[str]:
    return map_task(act)(kind=kinds)


@workflow
def shards(kinds: list[str]) -> list[str]:
    return map_task(act, concurrency=AT_ONCE)(kind=kinds)
