"""The one reader of YAML files that people write for the fleet: policy, controller's settings, failure table.

A threshold that is read otherwise than it was meant cordons nodes or lets bad ones run. So whatever YAML itself lets pass
is refused here: a key that stands twice (the last would win in silence), aliases (a small file may unfold into gigabytes).
Numbers that are not finite the models refuse, whose configuration is `STRICT`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict

from lehr.errors import UserError, from_os_error

STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
MAX_BYTES, MAX_DEPTH = 1 << 18, 16


def _refused(why: str, at: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, why, at.start_mark)


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused("aliases are not read here", event)
        if self.depth == MAX_DEPTH:
            raise _refused("nested too deeply", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        name = str(key.value)
        if name in seen:
            raise _refused(f"the key {name[:100]!r} stands twice", key)
        seen.add(name)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_mapping(path: Path, what: str) -> dict[Any, Any]:
    """The mapping in the file, empty for an empty one. `what` it is, in words ("policy"). Raises UserError with the line."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise UserError(f"there is no such {what} file", where=path, remedy="check the path") from error
    except IsADirectoryError as error:
        raise UserError(f"a folder is no {what} file", where=path, remedy="check the path") from error
    except OSError as error:
        raise from_os_error(error, path) from error
    except ValueError as error:  # a NUL in the path
        raise UserError(f"there is no such {what} file", where=repr(str(path)), remedy="check the path") from error
    if len(text) > MAX_BYTES:
        raise UserError(f"a {what} file has at most {MAX_BYTES >> 10} KiB", where=path, remedy="check the path")
    data = _parsed(text, path)
    if data is not None and not isinstance(data, dict):
        raise UserError(f"a {what} file is a mapping of names to values", where=path, remedy="write `name: value` lines")
    return data or {}


def _parsed(text: bytes, path: Path) -> Any:
    try:
        return yaml.load(text.decode("utf-8-sig"), _Loader)
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark, " ".join(str(error.problem).split())[:200]
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        ours = isinstance(error, yaml.constructor.ConstructorError)
        raise UserError(problem if ours else f"not a YAML file: {problem}", where=where, remedy="mend that line") from error
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError) as error:  # 2020-13-45, 5,000 digits, an odd byte
        raise UserError("not a YAML file", where=path, remedy=" ".join(str(error).split())[:200]) from error
