"""Does this store keep the promises that the fence rests on? Some answer every put with success."""

from __future__ import annotations

import uuid

from lehr.errors import UserError
from lehr.ports import Conflict, Objects


def require_conditions(objects: Objects) -> None:
    """Put a small object of our own twice under either condition. Raises UserError where a second put is taken though its
    condition does not hold: two attempts would overwrite each other there."""
    key = f"probe/{uuid.uuid4().hex}"
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
