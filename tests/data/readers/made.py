"""Supplied files, as others' programs make them."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
from fastwarc.stream_io import GzipWriter
from fastwarc.warc import WarcRecord, WarcRecordType
from pyarrow import parquet

from lehr.config.sources import FilesSource
from lehr.data.damage import Damage
from lehr.data.document import Document
from lehr.data.readers import documents

MIT = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software, to deal in the Software\n"
    "without restriction, including without limitation the rights to use it. The above copyright notice shall be included.\n"
    'THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND.\n'
)
PAGE = (
    "<html lang='de-AT'><head><title>Hafen</title></head><body><nav><a href='/'>Start</a></nav><main><article>"
    + "<p>Das Schiff lag eine Woche im Hafen, und alle, die darauf arbeiteten, waren den kalten Wind leid.</p>" * 4
    + "</article></main></body></html>"
)


def source(path: Path | str, **more: Any) -> FilesSource:
    return FilesSource(**{"kind": "files", "license": "CC0-1.0", **more, "path": str(path)})


def read(path: Path | str, **more: Any) -> list[Document]:
    """The documents of a source that stops at damage."""
    return list(documents("web", source(path, **more), Damage()))


def skipping(path: Path | str, **more: Any) -> tuple[list[Document], Damage]:
    """What is left of a source that passes over damage, and what was passed over."""
    damage = Damage(stops=False)
    return list(documents("web", source(path, damaged="skip", **more), damage)), damage


def record(
    body: bytes,
    http: str = "Content-Type: text/html; charset=utf-8",
    kind: str = "response",
    url: str = "http://a.example/",
    **more: str,
) -> bytes:
    """A WARC record; `http` are the headers of the answer, and `more` those of the record."""
    made = WarcRecord()
    made.init_headers(getattr(WarcRecordType, kind))
    made.headers["WARC-Target-URI"] = url
    made.headers["WARC-Date"] = "2024-01-02T03:04:05Z"
    for name, value in more.items():
        made.headers[name.replace("_", "-")] = value
    made.headers["Content-Type"] = "application/http; msgtype=response" if kind == "response" else "text/plain"
    status = "" if http.startswith("HTTP/") else "HTTP/1.1 200 OK\r\n"
    made.set_bytes_content(f"{status}{http}\r\n\r\n".encode() + body if kind == "response" else body)
    out = io.BytesIO()
    made.write(out)
    return out.getvalue()


def in_members(records: list[bytes]) -> bytes:
    """A .warc.gz: each record a member, by fastwarc's own writer."""
    out = io.BytesIO()
    for one in records:
        writer = GzipWriter(out)
        writer.write(one)
        writer.finish()
    return out.getvalue()


def tar(files: Mapping[str, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def jsonl(path: Path, rows: list[str]) -> Path:
    raw = "".join(f"{row}\n" for row in rows).encode("utf-8", "surrogatepass")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def in_parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    return out.getvalue()
