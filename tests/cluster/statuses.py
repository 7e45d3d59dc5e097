"""Container states as a kubelet writes them."""

from __future__ import annotations

from datetime import UTC, datetime

from lehr.infra.kube.api import Object

IMAGE_ID = "registry.test/lehr@sha256:" + "a" * 64


def stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def base(name: str) -> Object:
    return {"name": name, "image": "lehr", "imageID": IMAGE_ID, "ready": False, "restartCount": 0}


def running(name: str) -> Object:
    return {**base(name), "ready": True, "started": True, "state": {"running": {"startedAt": stamp()}}}


def waiting(name: str) -> Object:
    return {**base(name), "state": {"waiting": {"reason": "PodInitializing"}}}


def ended(name: str, message: str, code: int = 0) -> Object:
    state = {"exitCode": code, "startedAt": stamp(), "finishedAt": stamp(), "message": message, "reason": "Completed"}
    return {**base(name), "state": {"terminated": state}}
