"""Does this store keep the promises that the fence rests on? Some answer every put with success."""

from __future__ import annotations

import uuid

from lehr.runtime.errors import UserError
from lehr.runtime.ports import Conflict, Objects


def require_conditions(objects: Objects) -> None:
    """Ask for a small object of our own, and put it twice under either condition. Raises UserError where the second put is
    taken although its condition does not hold: two attempts would overwrite each other there."""
    key = f"probe/{uuid.uuid4().hex}"
    objects.get(key)  # a bucket that is missing: some stores make it when they are written to, none when they are read
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
