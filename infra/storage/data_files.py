"""Users' data files in S3 buckets: lehr.data.remote_files.RemoteFiles."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

from lehr.infra.storage.s3 import S3Objects
from lehr.runtime.errors import UserError

_SCHEME = "s3://"


class S3Files:
    """See lehr.data.remote_files.RemoteFiles. Copies are kept in `folder` by address and version, and may be deleted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def versions(self, beginning: str) -> dict[str, str]:
        bucket, key = _parts(beginning)
        return {f"{_SCHEME}{bucket}/{found}": version for found, version in _bucket(bucket).versions(key).items()}

    def fetch(self, address: str, version: str) -> Path:
        bucket, key = _parts(address)
        copy = self.folder / hashlib.sha256(f"{address} {version}".encode()).hexdigest()[:32]
        if copy.is_file():
            return copy
        copy.parent.mkdir(parents=True, exist_ok=True)
        part = copy.with_name(f"{copy.name}.{os.getpid()}")  # two processes may fetch it at once
        _bucket(bucket).download({key: part})
        if _bucket(bucket).versions(key).get(key) != version:
            part.unlink(missing_ok=True)
            raise UserError("this file was replaced while it was read", where=address, remedy="run the same command again")
        os.replace(part, copy)
        return copy


def _parts(address: str) -> tuple[str, str]:
    """Bucket and key."""
    bucket, _, key = address.removeprefix(_SCHEME).partition("/")
    return bucket, key


@cache
def _bucket(name: str) -> S3Objects:
    return S3Objects(f"{_SCHEME}{name}")
