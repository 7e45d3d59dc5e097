"""A tokenizer's own chat template: the file in a checkpoint, and where Hugging Face's folders have it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lehr.runtime.errors import UserError

TEMPLATE = "chat_template.jinja"
MOST_CHARACTERS = 1 << 20  # of a template: bounds what a wrong file can take
_CONFIG = "tokenizer_config.json"
# Tokens that a Hugging Face template may name and that our exports leave out, as nothing of ours adds them to a text.
_TOKENS = ("bos_token", "unk_token", "sep_token", "cls_token", "mask_token")


def read_template(path: Path) -> str:
    """The template in the file `path`. Raises UserError if it is absent, not UTF-8, or too long to be one."""
    try:
        if path.stat().st_size > 4 * MOST_CHARACTERS:
            raise UserError(f"more than {MOST_CHARACTERS:,} characters", where=path, remedy="give a chat template")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or NUL in the path
        what = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "there is no such file"
        raise UserError(what, where=path, remedy="give the path of a Jinja chat template") from None


def template_in(folder: Path) -> str:
    """The template of the checkpoint or tokenizer in `folder`; empty: none of its own. Raises UserError as `read_template`."""
    path = folder / TEMPLATE
    return read_template(path) if path.is_file() else ""


def template_beside(tokenizer_json: Path) -> str:
    """The chat template that a Hugging Face folder has beside its `tokenizer.json`: `chat_template.jinja`, otherwise the key of
    tokenizer_config.json, of several the one named default. Empty if there is none.

    Tokens such as `bos_token` that it names are bound in its first line to those of the folder, so that it means the same
    wherever it is read. Raises UserError for damaged files.
    """
    folder = tokenizer_json.parent
    config = _config(folder / _CONFIG)
    found = template_in(folder) or config.get("chat_template")
    if isinstance(found, list):
        named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        found = named.get("default")
    if not isinstance(found, str) or not found:
        return ""
    tokens = {name: _token(config, name) for name in _TOKENS if name in found}
    bound = "".join(f"{{% set {name} = {quoted(token)} %}}" for name, token in tokens.items() if token)
    # One line end: `trim_blocks` takes the first one after a block away, and no other.
    return f"{bound}\n{found}" if bound else found


def quoted(text: str) -> str:
    """`text` as a string literal of Jinja, which has Python's escapes."""
    return "'" + text.encode("unicode_escape").decode().replace("'", "\\'") + "'"


def _token(config: dict[str, Any], name: str) -> str:
    token = config.get(name)
    if isinstance(token, dict):  # a token with its flags
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise UserError("not JSON", where=path, remedy="fetch the file again") from None
    return found if isinstance(found, dict) else {}
