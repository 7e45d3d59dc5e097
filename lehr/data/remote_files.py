"""Data files in an object store, for readers of supplied files: what lies below an address, and copies of it on this machine.

Nothing here imports a service: whoever composes a run says who serves a scheme.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from lehr.runtime.errors import UserError


class RemoteFiles(Protocol):
    """Objects by their full addresses (`s3://bucket/chats/a.jsonl`). Raises UserError if the bucket or the permission for it is
    missing, InfraError if the store fails."""

    def versions(self, beginning: str) -> dict[str, str]:
        """The objects whose addresses begin so, each with what tells its content from any other that it had."""
        ...

    def fetch(self, address: str, version: str) -> Path:
        """A copy of that version on this machine. Raises UserError if the object has another by now."""
        ...


_SERVED: dict[str, Callable[[], RemoteFiles]] = {}


def serve(scheme: str, files: Callable[[], RemoteFiles]) -> None:
    """Addresses of `scheme` are those of `files()` from now on, which is called when one is first read."""
    _SERVED[scheme] = files


def scheme_of(path: str) -> str:
    """`s3` of `s3://bucket/key`, and nothing of a path."""
    return path.partition("://")[0] if "://" in path else ""


def remote_files(address: str) -> RemoteFiles:
    """Who serves `address`. Raises UserError for a scheme that nobody serves."""
    scheme = scheme_of(address)
    if scheme not in _SERVED:
        known = " or ".join(["a path", *(f"{name}://..." for name in sorted(_SERVED))])
        raise UserError(f"{scheme}:// addresses of data files are not supported", where=address, remedy=f"give {known}")
    return _SERVED[scheme]()
