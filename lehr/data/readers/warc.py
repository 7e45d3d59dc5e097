"""Web archives: WARC files, of whose pages the main text is taken, and WET files, which hold texts.

Fields follow the WARC format 1.1 (ISO 28500:2017) and Common Crawl's use of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType
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
_READ = 1 << 16
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
    """What fastwarc calls of a file. It asks for the place and steps over bytes by `seek`, which unpacked streams do not
    have, or only by beginning anew."""

    def __init__(self, file: Any) -> None:
        self._file, self._at = file, 0

    def read(self, size: int = -1) -> bytes:
        found: bytes = self._file.read1(size)  # not `read`, which loses what stands before damage
        self._at += len(found)
        return found

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Raises OSError for a place that is past, or counted from the end."""
        target = offset if whence == 0 else self._at + offset if whence == 1 else -1
        if target < self._at:
            raise OSError("no way back in this stream")
        while self._at < target and self.read(min(target - self._at, _READ)):
            pass
        return self._at


def _records(file: BinaryIO, shown: str) -> Iterator[Any]:
    stream: Any = _Stream(file)
    with panics(shown, "damaged file"):
        archive: Any = ArchiveIterator(stream, record_types=_RECORDS, parse_http=False, stream_detect=False)
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
    block = record.reader.read(expected)
    if len(block) < expected:
        raise Damaged("damaged file", "truncated WARC file", where=where, remedy=_AGAIN)
    body, kind, charset = _body(reading, record, block, where)
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
    return reading.document(_plain(id_), text, where, metadata={k: _plain(v) for k, v in metadata.items() if v}, **known)


def _body(reading: Reading, record: Any, block: bytes, where: str) -> tuple[bytes, str, str]:
    """Content, media type and character set of a record; no type for one that was not found at its address."""
    try:
        if record.is_http:
            answer: Any = WarcRecord()  # of its own: after an error in decoding, no more can be read of the archive's
            answer.init_headers(WarcRecordType.response)
            answer.set_bytes_content(block)
            answer.is_http = True
            answer.parse_http(auto_decode="all")
            if answer.http_headers is None or answer.http_headers.status_code != 200:
                reading.damage.skip("HTTP status")
                return b"", "", ""
            kind, charset = answer.http_content_type or "", answer.http_charset or ""
            body = answer.reader.read(LARGEST_PAGE + 1)
        else:
            body = block
            kind, _, rest = record.headers.get("Content-Type", "").lower().partition(";")
            charset = rest.partition("charset=")[2].strip(' "')
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
