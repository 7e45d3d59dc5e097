"""Keys of equal documents: by text and by URL."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np

from lehr.data.dedup.shingles import normalised
from lehr.data.joins import U64

# Parameters that say who sent the reader, and nothing of the page: campaigns' (utm_*, Matomo's mtm_* and pk_*, HubSpot's
# hsa_* and _hs*), and the click numbers of advertisers and mailers.
_TRACKING = re.compile(
    r"(utm|mtm|pk|hsa|_hs)(_?\w+)|(fb|g|dcl|ms|yc|ttc|tw|li_fat_|gb|wb)(cl)?(id|raid)|gclsrc|igshid|mc_[ce]id|ref_src|srsltid|_ga|_gl"
)
_PORTS = {"http": 80, "https": 443}


def text_key(text: str) -> bytes:
    """16 bytes, the same for texts that are equal up to case and white space: half of the SHA-256 of the normalised text.
    Two different texts among 1e10 have the same key with a chance of 1.5e-19."""
    return hashlib.sha256(normalised(text).encode("utf-8", "surrogatepass")).digest()[:16]


def url_key(url: str) -> bytes:
    """16 bytes of the normalised URL; zeros for none, which equals no other."""
    found = normalised_url(url)
    return hashlib.sha256(found.encode("utf-8", "surrogatepass")).digest()[:16] if found else bytes(16)


def normalised_url(url: str) -> str:
    """What of an address tells pages apart: without scheme, `www.`, a port that is the scheme's own, name and password,
    the slash at the end, the fragment (but for `#!`, which addresses pages of their own), and parameters that only follow
    the reader; host in lower case, parameters by name. "" for what is no address of a page."""
    url = url.strip()
    if not url:
        return ""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        host, port = (parts.hostname or "").removeprefix("www.").rstrip("."), parts.port
    except ValueError:  # a broken port or IPv6 address: compared as it stands
        return url
    if not host:
        return ""
    place = host if port in (None, _PORTS.get(parts.scheme)) else f"{host}:{port}"
    asked = [(n, v) for n, v in parse_qsl(parts.query, keep_blank_values=True) if not _TRACKING.fullmatch(n.lower())]
    query = f"?{urlencode(sorted(asked))}" if asked else ""
    fragment = f"#{parts.fragment}" if parts.fragment.startswith("!") else ""
    return f"{place}{parts.path.rstrip('/')}{query}{fragment}"


def as_words(keys: Sequence[bytes]) -> U64:
    """Keys of 16 bytes as two words each, [N, 2]."""
    return np.frombuffer(b"".join(keys), "<u8").astype(np.uint64).reshape(-1, 2)


class Deduplicator:
    """Remembers the texts it has seen; the first of several equal documents is kept."""

    def __init__(self) -> None:
        self._seen: dict[bytes, str] = {}

    def twin(self, id_: str, text: str) -> str | None:
        """The id of an earlier document with the same text up to case and white space, or None. Remembers the text."""
        key = text_key(text)
        first = self._seen.get(key)
        if first is None:  # ids are not compared: a row that occurs twice in a file has the same id both times
            self._seen[key] = id_
        return first
