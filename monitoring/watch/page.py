"""The page: as three files for a server, or as one that can be sent around. Neither may load anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import lehr.report

_HERE = Path(__file__).parent / "page"
SCRIPTS = ("format.js", "chart.js", "panels.js", "watch.js")
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:"
SERVED = f"{_NOTHING}; frame-ancestors 'none'; connect-src 'self'; script-src 'self'; style-src 'self'"


@cache
def style() -> str:
    """The colours and fonts of the report, and what this page adds."""
    drawing = Path(lehr.report.__file__).parent / "drawing.css"
    return drawing.read_text(encoding="utf-8") + (_HERE / "watch.css").read_text(encoding="utf-8")


@cache
def script() -> str:
    """All scripts as one, in order."""
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)


def served() -> str:
    """The page of a server, which has script and style beside it."""
    return _page('<link rel="stylesheet" href="/watch.css">', '<script src="/watch.js" defer></script>', SERVED)


def static(news: dict[str, Any]) -> str:
    """The page as one file, with all that is known now in it."""
    data = json.dumps(news, ensure_ascii=True).replace("<", "\\u003c")
    policy = f"{_NOTHING}; script-src '{_hash(script())}'; style-src '{_hash(style())}'"
    body = f'<script type="application/json" id="news">{data}</script>\n<script>{script()}</script>'
    return _page(f"<style>{style()}</style>", body, policy)


def _page(head: str, tail: str, policy: str) -> str:
    # `frame-ancestors` is for headers alone: in a <meta> a browser would complain about it.
    said = policy.replace("frame-ancestors 'none'; ", "")
    text = (_HERE / "watch.html").read_text(encoding="utf-8")
    return text.replace("{{policy}}", said).replace("{{head}}", head).replace("{{tail}}", tail)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
