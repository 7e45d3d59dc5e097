"""What the library asks of an object store, as a Protocol."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol


class Conflict(Exception):
    """A conditional put found another version than the one that it should replace."""


class Objects(Protocol):
    """An object store below some root, as `lehr.artifacts.object_store` needs it. Keys are relative to the root, with slashes.

    Raises UserError if the bucket or the permission for it is missing, InfraError if the store fails or cannot be reached.
    """

    @property
    def root(self) -> str:
        """The root as users write it: `s3://bucket/prefix`."""
        ...

    def get(self, key: str) -> tuple[str, str] | None:
        """See Store.get."""
        ...

    def put(self, key: str, value: str, version: str | None) -> str:
        """See Store.put."""
        ...

    def upload(self, files: Mapping[str, Path]) -> None:
        """Put each file under its key, several at once, large ones in parts. An object appears whole or not at all."""
        ...

    def download(self, files: Mapping[str, Path]) -> None:
        """Download the objects under these keys into files, several at once. Raises UserError if one is missing."""
        ...

    def read(self, key: str, start: int, size: int) -> bytes:
        """`size` bytes of an object from `start` on, or as many as it has. Raises UserError if it is missing."""
        ...

    def copy(self, keys: Mapping[str, str]) -> None:
        """Copy objects to other keys, inside the store. Raises UserError if one is missing."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`."""
        ...

    def delete(self, keys: Collection[str]) -> None:
        """Delete objects. Missing ones are no error."""
        ...

    def abort_uploads(self, prefix: str) -> None:
        """Delete the parts that unfinished multipart uploads left under `prefix`."""
        ...
