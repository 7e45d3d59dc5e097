"""Workflows whose tasks fail; flytekit wants them in a module of their own (no lazy annotations)."""

import errno

from flytekit import task, workflow

from lehr.errors import UserError


@task
def refuse(key: str) -> int:
    raise UserError(f"{key}: no such mix", where="r.yaml", remedy="name another")
    return 0


@task
def fill_disk() -> int:
    raise OSError(errno.ENOSPC, "No space left on device", "/full/weights")
    return 0


@workflow
def breaks(key: str) -> int:
    return refuse(key=key)


@workflow
def runs_out_of_disk() -> int:
    return fill_disk()
