"""YAML written by people, read with bounded work: every file that is not accepted ends as one UserError.

The keys of a mapping are always texts: `no`, `2020-01-01` and `1` stay as written. Values are text, integers of 64 bits,
numbers (`3e-3` too), true and false (also yes, no, on, off), and null; a date is a text. Tags are refused.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from lehr.runtime.errors import UserError, from_os_error

MOST_BYTES = 1 << 20  # of a file
MOST_DEPTH = 50  # of nesting
MOST_VALUES = 100_000  # with every alias expanded: a few nested aliases could otherwise make billions
_BOOL, _INT, _FLOAT, _NULL, _MERGE, _STR, _SEQ, _MAP = (
    f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null", "merge", "str", "seq", "map")
)


class _Loader(yaml.SafeLoader):
    """A SafeLoader without dates, base-60 times and tags, which refuses duplicate keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self._depth > MOST_DEPTH:
            raise _fault(event, f"nested more than {MOST_DEPTH} deep")
        if (tag := getattr(event, "tag", None)) is not None:
            raise _fault(event, f"tags such as {str(tag)[:60]!r} are not read")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


for _tag, _pattern, _first in (
    (_BOOL, r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    (_INT, r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)", "-+0123456789"),
    (
        _FLOAT,
        r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    (_NULL, r"~|null|Null|NULL", "~nN"),
    (_NULL, r"", ""),
    (_MERGE, r"<<", "<"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list(_first) or [""])


def _fault(node: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    """A text. Raises YAMLError for characters that no path and no UTF-8 text can hold."""
    value: str = loader.construct_scalar(node)
    if "\0" in value:
        raise _fault(node, "a text contains the character NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _fault(node, "a text contains half a surrogate pair, which is not valid Unicode") from None
    return value


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    digits = text.replace("_", "").lower()
    sign, body = (-1 if digits[:1] == "-" else 1), digits.lstrip("+-")
    base = 2 if body.startswith("0b") else 16 if body.startswith("0x") else 8 if body[:1] == "0" and len(body) > 1 else 10
    try:
        value = sign * int(body, base) if len(body) <= 80 else 1 << 64
    except ValueError:
        raise _fault(node, f"{text[:40]!r} is not a number") from None
    if not -(1 << 63) <= value < 1 << 63:
        raise _fault(node, "a whole number has more than 64 bits")
    return value


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan")
    try:
        return float(text)
    except ValueError:
        raise _fault(node, f"{text[:40]!r} is not a number") from None


def _key(loader: _Loader, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _fault(node, "a key must be a text")
    return _text(loader, node)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        name = _key(loader, key)
        if name in seen and key.tag != _MERGE:
            raise _fault(key, f"key {name!r} stands twice")
        seen.add(name)
    loader.flatten_mapping(node)  # `<<`
    return {_key(loader, key): loader.construct_object(value, deep=True) for key, value in node.value}


_Loader.add_constructor(_STR, _text)
_Loader.add_constructor(_INT, _whole)
_Loader.add_constructor(_FLOAT, _number)
_Loader.add_constructor(_BOOL, lambda loader, node: node.value.lower() in ("yes", "true", "on"))
_Loader.add_constructor(_NULL, lambda loader, node: None)
_Loader.add_constructor(_SEQ, lambda loader, node: [loader.construct_object(item, deep=True) for item in node.value])
_Loader.add_constructor(_MAP, _mapping)


def _check_size(root: yaml.Node) -> None:
    """Raises YAMLError if there are too many values under `root`, with aliases expanded, or if one contains itself."""
    sizes: dict[int, int] = {}
    above: set[int] = set()

    def size(node: yaml.Node, depth: int) -> int:
        if id(node) in above:
            raise _fault(node, "an alias refers to a value that contains it")
        if depth > MOST_DEPTH:
            raise _fault(node, f"nested more than {MOST_DEPTH} deep")
        if id(node) not in sizes:
            above.add(id(node))
            inner = [n for pair in node.value for n in pair] if isinstance(node, yaml.MappingNode) else node.value
            inside = inner if isinstance(node, yaml.CollectionNode) else []
            sizes[id(node)] = 1 + sum(size(n, depth + 1) for n in inside)
            above.discard(id(node))
        if sizes[id(node)] > MOST_VALUES:
            raise _fault(node, f"aliases expand it to more than {MOST_VALUES:,} values")
        return sizes[id(node)]

    size(root, 0)


def parse(text: str, where: str) -> Any:
    """The value of a YAML text. Raises UserError with `where`, the line and the problem there."""
    try:
        loader = _Loader(text)  # raises for control characters
        loader.name = where
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or getattr(error, "reason", error)).split())
        problem = problem if len(problem) <= 200 else f"{problem[:200]}..."
        remedy = "keep one of the two" if problem.endswith("stands twice") else "mend the syntax"
        raise UserError(f"not YAML: {problem}", where=f"{where}{line}", remedy=remedy) from None


def text_of(path: Path, what: str, remedy: str) -> str:
    """The text of the file `path`, which is a `what`. Raises UserError if it is missing, not text, or too long."""
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no such {what} file", where=path, remedy=remedy) from None
    except PermissionError:
        raise UserError("not readable", where=path, remedy="change the file's permissions") from None
    except IsADirectoryError:
        raise UserError("not a text file", where=path, remedy=f"give a {what} in YAML, UTF-8") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise UserError(str(error.strerror), where=path, remedy=remedy) from None
        raise from_os_error(error, path) from None
    except ValueError as error:  # UnicodeDecodeError, or NUL in the path
        if not isinstance(error, UnicodeDecodeError):
            raise UserError("this is not a path", where=repr(str(path)[:80]), remedy=remedy) from None
        raise UserError("not a text file", where=path, remedy=f"give a {what} in YAML, UTF-8") from None
    if len(raw) > MOST_BYTES:
        raise UserError(f"more than {MOST_BYTES >> 20} MiB: not a {what}", where=path, remedy=remedy)
    return text


def read_mapping(path: Path, what: str, remedy: str, *, empty: bool = False) -> dict[str, Any]:
    """The mapping in a YAML file, which is a `what`; with `empty` the file may be empty. Raises UserError."""
    value = parse(text_of(path, what, remedy), str(path))
    if value is None and empty:
        return {}
    if not isinstance(value, dict):
        found = "nothing" if value is None else "a list" if isinstance(value, list) else "one value"
        raise UserError(f"a {what} is a mapping of keys, and this file holds {found}", where=path, remedy=remedy)
    return value
