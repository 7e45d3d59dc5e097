"""Rows of JSON lines that somebody wrote."""

from __future__ import annotations

import json
from typing import Any

from lehr.data.damage import Damaged

_AS_UTF8 = "re-encode the file as UTF-8"


def parsed(raw: bytes, where: str) -> dict[str, Any]:
    """The object of a line, which stands at `where`. Raises Damaged for anything else."""
    try:
        row = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Damaged("not UTF-8", f"invalid UTF-8 at byte {error.start} of this line", where=where, remedy=_AS_UTF8) from None
    except (ValueError, RecursionError) as error:  # ValueError also for numbers that Python does not read
        why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        remedy = 'write one JSON object a line, such as {"text": "..."}'
        raise Damaged("not JSON", f"this line is not JSON ({why})", where=where, remedy=remedy) from None
    if not isinstance(row, dict):
        raise no_text("text", where)
    return row


def no_text(key: str, where: str) -> Damaged:
    """The error for a row without a text."""
    remedy = 'write objects like {"id": "...", "text": "..."}, or name the key of the text in the source\'s fields.text'
    return Damaged("no text", f"no `{key}` in this line", where=where, remedy=remedy)


def unicode(text: str, key: str, where: str) -> str:
    """`text` itself. Raises Damaged if it has lone surrogates, which can't be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Damaged("not Unicode", f"lone surrogates in `{key}`: no valid Unicode", where=where, remedy=_AS_UTF8) from None
    return text
