"""Existing tokenizers: read, stripped of everything that alters texts, and refused if decoding does not restore every text."""

from __future__ import annotations

import json
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from lehr.config.tokenizer import Tokenizer as Config
from lehr.data.ranks import tokenizer_json
from lehr.data.special_tokens import APART, END_OF_TEXT, end_by_name, mark_end, special_ids
from lehr.data.template_file import TEMPLATE
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import refuse_pointer

FILE = "tokenizer.json"
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "config.json")  # may name the end-of-text token, in this order
_LARGEST = 256 << 20  # bytes of a file: bounds the memory that a wrong path can take
# Texts that some tokenizers cannot restore: case, accents, composed and wide forms, white space, control characters, scripts.
_HARD = (
    "Ab Ünïcödé",
    "e\u0301 é \ufb01 \u212b \uff21 ſ İ ß",
    "  two  spaces\n\n\tand \r\n more ",
    " ",
    "",
    "\x00\x7f\x85\u2028\ufeff\u200b",
    "I'm 12345 67.8%, don't , . ?",
    "中文。한국어 हिन्दी العربية \U0001f98a\u200d\U0001f469",
    "a \u2581b ##c </w> \u0120d",
    "if (x != y) { return; }\n",
)


def files_of(path: str) -> list[Path]:
    """The files that define the tokenizer at `path`: its own, those beside it that may name the end-of-text token, and its chat
    template.

    Raises UserError if there is none, for a URL, for a Git LFS pointer, and for a file too large to be a tokenizer.
    """
    if "://" in path:
        raise UserError("a tokenizer is read from a disk", where=path, remedy="fetch it, and give the path of the copy")
    file = Path(path)
    if file.is_dir():
        file /= FILE
    if not file.is_file():
        raise UserError("no tokenizer here", where=file, remedy="give a tokenizer.json, its folder, or a .tiktoken file")
    if file.suffix not in (".json", ".tiktoken"):
        raise UserError("neither .json nor .tiktoken", where=file, remedy="rename it to what it is")
    if file.stat().st_size > _LARGEST:
        raise UserError(f"more than {_LARGEST >> 20} MiB", where=file, remedy="give the file of a tokenizer")
    beside = [file.with_name(name) for name in (*_BESIDE, TEMPLATE)] if file.suffix == ".json" else []
    found = [file, *(other for other in beside if other.is_file())]
    for each in found:
        refuse_pointer(each)
    return found


def read(config: Config) -> Backend:
    """The tokenizer at `config.path`. Its end-of-text token is `config.eos`, otherwise the one named by the files beside it,
    otherwise one with a well-known name. It neither truncates nor pads nor adds tokens, and matches special tokens exactly,
    without the white space around them. Raises UserError for a damaged file, and for a tokenizer without an end-of-text token,
    that cannot restore a text, or that has special tokens which a text can produce.
    """
    file, *others = files_of(config.path)
    beside = [path for path in others if path.suffix == ".json"]
    if file.suffix == ".tiktoken":
        spec = tokenizer_json(file, config.pattern, config.special_tokens)
    else:
        text = _text(file)
        _check_model(_object(text, file), file)
        spec = json.loads(_backend(text, file).to_str())
    spec |= {"truncation": None, "padding": None, "post_processor": None}
    for token in spec["added_tokens"]:
        if token["special"]:
            token |= APART
    _set_end(spec, config, file, beside)
    backend = _backend(json.dumps(spec, ensure_ascii=False), file)
    backend.encode_special_tokens = True
    _check_texts(backend, spec, file)
    return backend


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError("not UTF-8", where=f"{file}:{line}", remedy="fetch the file again") from None


def _object(text: str, file: Path) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for numbers that Python does not read
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError("not JSON", where=f"{file}{line}", remedy="fetch the file again") from None
    if not isinstance(found, dict):
        raise UserError("not a JSON object", where=file, remedy="fetch the file again")
    return found


def _check_model(spec: dict[str, Any], file: Path) -> None:
    """Raises UserError for a BPE that marks the beginning or end of words: it loses spaces, and a damaged one makes the
    tokenizers library abort the process."""
    model = spec.get("model")
    marks = ("continuing_subword_prefix", "end_of_word_suffix")
    if isinstance(model, dict) and "merges" in model and any(model.get(mark) for mark in marks):
        what = "its tokens are marked as parts of words, so it loses something of texts"
        raise UserError(what, where=file, remedy="take a byte-level tokenizer that keeps texts as they are")


def _backend(text: str, file: Path) -> Backend:
    try:
        return Backend.from_str(text)
    except Exception as error:  # noqa: BLE001 (the library raises bare Exceptions on bad files)
        raise UserError(f"not a tokenizer file ({error})", where=file, remedy="fetch the file again") from None


def _set_end(spec: dict[str, Any], config: Config, file: Path, beside: list[Path]) -> None:
    """Make the end-of-text token special, and record its name if the well-known names give another one."""
    added = {token["content"]: token for token in spec["added_tokens"]}
    vocab = _vocabulary(spec) | {name: token["id"] for name, token in added.items()}
    said, where = (config.eos, "tokenizer.eos") if config.eos else _said_beside(vocab, beside)
    name = said or end_by_name({n: t["id"] for n, t in added.items()})
    if name is None:
        raise UserError(f"it has none of {END_OF_TEXT}", where=file, remedy=_remedy(config, vocab))
    if name not in vocab:
        remedy = f"name one that {file} has in tokenizer.eos"
        raise UserError(f"the tokenizer has no token {name!r}", where=where, remedy=remedy)
    if name in added:
        added[name] |= APART
    else:
        spec["added_tokens"].append({"id": vocab[name], "content": name, **APART})
    specials = {token["content"]: token["id"] for token in spec["added_tokens"] if token["special"]}
    if end_by_name(specials) != name:
        spec["post_processor"] = mark_end(name, vocab[name])


def _remedy(config: Config, vocab: dict[str, int]) -> str:
    if config.is_ranks:
        return f'name it: tokenizer.special_tokens: {{"{END_OF_TEXT[0]}": {max(vocab.values()) + 1}}}'
    return "name its end-of-text token in tokenizer.eos"


def _vocabulary(spec: dict[str, Any]) -> dict[str, int]:
    vocab = spec["model"]["vocab"]
    return dict(vocab) if isinstance(vocab, dict) else {row[0]: i for i, row in enumerate(vocab)}  # Unigram has pairs


def _said_beside(vocab: dict[str, int], beside: list[Path]) -> tuple[str | None, str]:
    """The end-of-text token that a file beside the tokenizer names, and that file; (None, "") if none does."""
    names = {i: name for name, i in vocab.items()}
    for path in beside:
        found = _object(_text(path), path)
        token, ids = found.get("eos_token"), found.get("eos_token_id")
        if isinstance(token, dict):  # a token with its flags
            token = token.get("content")
        if path.name == "config.json":
            first = ids[0] if isinstance(ids, list) and ids else ids
            token = names.get(first, f"with id {first}") if isinstance(first, int) else None
        if isinstance(token, str) and token:
            return token, str(path)
    return None, ""


def _check_texts(backend: Backend, spec: dict[str, Any], file: Path) -> None:
    """Raises UserError with the first hard text that decoding does not restore, alone or after another text."""
    specials = special_ids(backend)
    for name, own in specials.items():
        if own in {i for text in (name, f" {name}", f"{name}\n") for i in _ids(backend, text)}:
            what = f"a text can become its special token {name!r}"
            raise UserError(what, where=file, remedy="take a tokenizer whose special tokens stand apart from texts")
    ordinary = [f"a {t['content']}  {t['content']}b" for t in spec["added_tokens"] if not t["special"]]
    composes = spec["normalizer"] == {"type": "NFC"}
    for before, text in pairwise(("", *_HARD, *ordinary)):
        wanted, first = (unicodedata.normalize("NFC", t) if composes else t for t in (text, before))
        back, joined = (backend.decode(ids) for ids in (_ids(backend, text), _ids(backend, before) + _ids(backend, text)))
        if back != wanted or joined != first + wanted:
            what = f"it loses something of texts{_why(spec)}: {text!r} comes back as {back!r}"
            raise UserError(what, where=file, remedy="take a byte-level tokenizer that keeps texts as they are")


def _ids(backend: Backend, text: str) -> list[int]:
    ids: list[int] = backend.encode(text, add_special_tokens=False).ids
    return ids


def _why(spec: dict[str, Any]) -> str:
    kind, normalizer = spec["model"].get("type", "unknown"), spec["normalizer"]
    if kind != "BPE":
        return f" (a {kind} model)"
    return f" (it has a normalizer: {normalizer['type']})" if normalizer else ""
