"""Checks that a store refuses conditional puts, on which fencing rests. Some stores ignore the conditions and accept all."""

from __future__ import annotations

import uuid

from lehr.runtime.errors import UserError
from lehr.runtime.ports import Conflict, Objects


def require_conditions(objects: Objects) -> None:
    """Write a small object of our own and put it again under each condition, which must be refused. Raises UserError if a put
    is accepted against its condition: two attempts would overwrite each other in such a store."""
    key = f"probe/{uuid.uuid4().hex}"
    objects.get(key)  # fails if the bucket is missing; a put would create the bucket in some stores
    try:
        first = objects.put(key, "1", None)
        objects.put(key, "2", first)
        for condition, version in (("If-None-Match", None), ("If-Match", first)):
            if not _refused(objects, key, version):
                raise UserError(
                    f"this store writes although {condition} forbids it, so overlapping attempts would overwrite each other",
                    where=objects.root,
                    remedy="use one with conditional writes, such as AWS S3 or SeaweedFS",
                )
    finally:
        objects.delete([key])


def _refused(objects: Objects, key: str, version: str | None) -> bool:
    try:
        objects.put(key, "3", version)
    except Conflict:
        return True
    return False
