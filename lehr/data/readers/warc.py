"""Web archives: WARC files, of whose pages the main text is taken, and WET files, which hold texts.

Fields follow the WARC format 1.1 (ISO 28500:2017) and Common Crawl's use of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.parse.encoding import bytes_to_str, detect_encoding, detect_mime

from lehr.config.sources import Format
from lehr.data.compressed import content
from lehr.data.damage import Damaged
from lehr.data.document import Document
from lehr.data.lines import LONGEST
from lehr.data.readers.html import LARGEST_PAGE, main_text
from lehr.data.readers.languages import language_of
from lehr.data.readers.reading import Reading, panics, too_long

_RECORDS = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
_HTML = ("text/html", "application/xhtml+xml")
_AGAIN = "fetch the file again, or set damaged: skip"


def documents(reading: Reading, found: Format) -> Iterator[Document]:
    """A document of each page or text that was fetched with status 200. Other records are skipped. Raises Damaged for a file
    that cannot be read on."""
    shown = reading.input.where
    number = 0
    with content(reading.path, shown) as file:
        try:
            for record in _records(file, shown):
                number += 1
                where = f"{shown}: record {number}"
                try:
                    with panics(where, "damaged record"):
                        made = _document(reading, record, number, where)
                except Damaged as error:
                    if error.reason == "damaged file":
                        raise
                    reading.damage.met(error)
                    continue
                if made:
                    yield made
        except OSError as error:
            if error.errno is not None:  # of the disk
                raise
            what = f"damaged WARC file ({error})"
            raise Damaged("damaged file", what, where=f"{shown}: after record {number}", remedy=_AGAIN) from None


class _Stream:
    """What fastwarc may call: it would seek in anything that has a `seek`."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read


def _records(file: BinaryIO, shown: str) -> Iterator[Any]:
    archive: Any = ArchiveIterator(_Stream(file), record_types=_RECORDS, parse_http=False, stream_detect=False)  # type: ignore[arg-type]
    while True:
        with panics(shown, "damaged file"):
            record = next(archive, None)
        if record is None:
            return
        yield record


def _document(reading: Reading, record: Any, number: int, where: str) -> Document | None:
    """None for a record that holds no text. Raises Damaged."""
    length = record.headers.get("Content-Length")
    if length is None or not length.isdecimal():
        raise Damaged("damaged record", "this record does not say its length", where=where, remedy=_AGAIN)
    if record.content_length > LONGEST:
        raise too_long(where)
    expected = record.content_length
    record.freeze()  # in memory: what is decoded of it is bounded on its own
    if record.content_length < expected:
        raise Damaged("damaged file", "truncated WARC file", where=where, remedy=_AGAIN)
    body, kind, charset = _body(reading, record, where)
    if kind in _HTML:
        text, language = main_text(_decoded(body, charset), where)
    elif kind == "text/plain":
        text, language = _decoded(body, charset), ""
    else:
        if kind:
            reading.damage.skip("no text")
        return None
    said = record.headers.get("WARC-Identified-Content-Language", "").split(",")[0]  # in WET files, the likeliest first
    metadata = {"date": record.headers.get("WARC-Date"), "truncated": record.headers.get("WARC-Truncated")}
    id_ = (record.record_id or "").strip("<> \t") or reading.id(number)
    url = record.headers.get("WARC-Target-URI", "").strip("<>")
    known = {"url": _plain(url), "language": language_of(said) or language}
    return reading.document(_plain(id_), text, where, metadata={k: v for k, v in metadata.items() if v}, **known)


def _body(reading: Reading, record: Any, where: str) -> tuple[bytes, str, str]:
    """Content, media type and character set of a record; no type for one that was not found at its address."""
    try:
        if record.is_http:
            record.parse_http(auto_decode="all")
            if record.http_headers is None or record.http_headers.status_code != 200:
                reading.damage.skip("HTTP status")
                return b"", "", ""
            kind, charset = record.http_content_type or "", record.http_charset or ""
        else:
            kind, _, rest = record.headers.get("Content-Type", "").lower().partition(";")
            charset = rest.partition("charset=")[2].strip(' "')
        body = record.reader.read(LARGEST_PAGE + 1)
    except OSError as error:
        raise Damaged("damaged record", f"this page cannot be decoded ({error})", where=where, remedy=_AGAIN) from None
    if len(body) > LARGEST_PAGE:
        what = f"a page of more than {LARGEST_PAGE >> 20} MiB"
        raise Damaged("too long", what, where=where, remedy=_AGAIN)
    return body, kind.strip().lower() or detect_mime(body), charset


def _decoded(body: bytes, charset: str) -> str:
    """The text of a page: UTF-8 if it is that, else by the character set of its headers, or what it says itself and looks
    like."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return _plain(bytes_to_str(body, charset or detect_encoding(body, from_html_meta=True) or "utf-8"))


def _plain(text: str) -> str:
    """Without lone surrogates."""
    return text.encode("utf-8", "ignore").decode()
