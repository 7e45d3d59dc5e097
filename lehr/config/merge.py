"""Inheritance of recipes: the keys of a child, laid over those of its ancestors."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lehr.config.chat import FILE_END
from lehr.config.own_task import TASK_ENDS
from lehr.config.posttraining import with_names
from lehr.config.text_models import names_file
from lehr.runtime.errors import UserError

Origin = dict[str, str]  # dotted key -> the file (or `--set`) that wrote it
_PATHS = re.compile(
    r"(data|chat)\.sources\..+\.path|data\.filters\..+\.(file|tokenizer)|data\.deduplication\.against|tokenizer\.path|base\.(checkpoint|huggingface)"
)  # keys that name a file
# Keys that name models: by step, or by a path with a slash. In the table `reward_models` its own keys do.
_MODELS = re.compile(r"posttraining\.[^.]+\.(parents|base|value|against|reward_models|pairs\.pool|pairs\.weaker)")
_TASKS = re.compile(r"data\.decontamination\.tasks|chat\.decontaminate_tasks")  # names, or files of one's own
_FILTERS_MODELS = re.compile(r"data\.filters\.[^.]+\.model")
_TABLES = ("weights", "examples", "reward_models")  # of shares: a child that names them means exactly those, not a union


def merge(into: dict[str, Any], new: Mapping[str, Any], source: str, origin: Origin, base: Path, prefix: str = "") -> None:
    """Merge `new`, which comes from `source` and whose paths are relative to `base`, into `into`: a key that is a section in
    both is merged, any other is replaced."""
    for key, value in new.items():
        dotted = f"{prefix}{key}"
        # A section of another `kind` has other keys: it is replaced too.
        old = into.get(key)
        whole = key in _TABLES or (isinstance(old, dict) and _other_kind(old, value))
        if key == "reward_models" and isinstance(value, dict):
            value = {_placed(name, base, dotted): weight for name, weight in value.items()}
        if isinstance(value, dict) and isinstance(old, dict) and not whole:
            merge(into[key], value, source, origin, base, f"{dotted}.")
            continue
        if isinstance(value, dict):
            into[key] = {}
            merge(into[key], value, source, origin, base, f"{dotted}.")
        elif dotted == "posttraining" and value is not None:
            into[key] = _merge_steps(old, value, source, origin, base)
        else:
            if dotted == "tokenizer.path" and bool(value) != bool(old):
                _begin_anew(into, source, origin)
            into[key] = _placed(value, base, dotted)
        origin[dotted] = source


def _merge_steps(old: Any, new: Any, source: str, origin: Origin, base: Path) -> Any:
    """Merge steps by name. A child's list decides which steps there are, and their order; a step that an ancestor has under the
    same name and kind inherits its keys."""
    if not isinstance(new, list):
        return new
    known, out = (old if isinstance(old, dict) else {}), dict[str, Any]()
    for number, step in enumerate(with_names(new)):
        if not isinstance(step, dict) or "name" not in step:
            raise UserError(f"posttraining.{number}: a step is a section with a kind", where=source, remedy="write {kind: sft}")
        name = step["name"]
        if not isinstance(name, str):
            raise UserError(f"posttraining.{number}.name: {name!r} is not text", where=source, remedy="write name: rlvr")
        if name in out:
            raise UserError(f"posttraining: the name {name!r} stands twice", where=source, remedy="give each step its own")
        before = known.get(name, {})
        out[name] = {} if _other_kind(before, step) else copy.deepcopy(before)
        merge(out[name], step, source, origin, base, f"posttraining.{name}.")
    return out


def _placed(value: Any, base: Path, dotted: str) -> Any:
    """The value of the key `dotted`, with the paths in it made absolute."""
    if isinstance(value, list) and dotted == "evaluation.tasks":
        return [_task_placed(part, base) for part in value]
    if isinstance(value, list) and (_MODELS.fullmatch(dotted) or _PATHS.fullmatch(dotted) or _TASKS.fullmatch(dotted)):
        return [_placed(part, base, dotted) for part in value]
    return _absolute(value, base) if isinstance(value, str) and _is_path(dotted, value) else value


def _task_placed(plan: Any, base: Path) -> Any:
    """An entry of evaluation.tasks, with the path of a task of one's own made absolute."""
    task = plan.get("task") if isinstance(plan, dict) else None
    return {**plan, "task": _absolute(task, base)} if isinstance(task, str) and task.endswith(TASK_ENDS) else plan


def _is_path(dotted: str, value: str) -> bool:
    """Whether the key names a file; `chat.template` does where its value is no built-in name, a merge's model with a slash."""
    if _MODELS.fullmatch(dotted):
        return "/" in value
    if _TASKS.fullmatch(dotted):
        return value.endswith(TASK_ENDS)
    if _FILTERS_MODELS.fullmatch(dotted):
        return names_file(value)
    return bool(_PATHS.fullmatch(dotted)) or (dotted == "chat.template" and value.endswith(FILE_END))


def _absolute(path: str, base: Path) -> str:
    """`path` relative to `base`, the folder of the file in which it is written. URLs and empty texts are left as they are."""
    if not path or "://" in path:
        return path
    try:
        return str((base / path).resolve())
    except (OSError, RuntimeError):  # circular links: reading the file reports them
        return str((base / path).absolute())


def _begin_anew(tokenizer: dict[str, Any], source: str, origin: Origin) -> None:
    """Drop the ancestors' keys of a tokenizer: keys for training one do not apply to an existing one, nor the reverse."""
    for key in [k for k in tokenizer if origin.get(f"tokenizer.{k}") != source]:
        del tokenizer[key]


def _other_kind(old: dict[str, Any], new: Any) -> bool:
    return isinstance(new, dict) and "kind" in new and "kind" in old and new["kind"] != old["kind"]
